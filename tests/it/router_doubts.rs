//! What the router must not take for granted: that the settings are true, that a node which lagged serves once it does not, that a
//! waiting caller asks often, and that calls and log-ins without an answer mean a silent node.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU16, Ordering},
    },
    time::Duration,
};

use futures_util::future::{join_all, poll_immediate};
use mainstem::{
    AppendCondition, Consistency, ErrorKind, EventStore, Fallback, Filter, NodeCondition, PrimaryState, Role, Router,
    Session, testing::LocalCluster, with_session,
};
use serde_json::json;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::support::{cluster, database, event, started};

/// Far longer than anything here may take: what it ends would have hung.
const HANG: Duration = Duration::from_secs(30);
const MS: Duration = Duration::from_millis(1);

/// Whoever calls first when it comes back finds it as the settings say: a primary, which takes writes.
#[tokio::test]
async fn a_primary_that_was_replaced_before_anybody_looked_gets_no_write() {
    let cluster = started(LocalCluster::builder().replicas(2)).await;
    let [old, new, follower] = cluster.nodes() else { panic!("three nodes") };
    let setting_up = Router::builder().primary(old.url()).build().unwrap();
    setting_up.client().await.unwrap().batch_execute("CREATE TABLE written ()").await.unwrap();
    drop(setting_up);
    cluster.wait_until_caught_up().await.unwrap();
    new.promote().await.unwrap();
    follower.rejoin().await.unwrap();
    old.stop().await.unwrap();

    let router = Router::builder().primary(old.url()).replica(follower.url()).build().unwrap();
    let _ = router.client_at(Consistency::Eventual).await;
    timeout(HANG, async {
        while router.status().timeline != Some(2) || router.status().is_starting {
            sleep(5 * MS).await;
        }
    })
    .await
    .unwrap_or_else(|_| panic!("{:#?}", router.status()));
    let writing = async {
        let mut written = 0;
        while !matches!(router.status().primary, PrimaryState::Fenced { .. }) {
            if let Ok(client) = router.client().await {
                written += client.execute("INSERT INTO written DEFAULT VALUES", &[]).await.unwrap_or(0);
            }
            sleep(MS).await;
        }
        written
    };
    let (written, back) = tokio::join!(timeout(HANG, writing), old.start());
    back.unwrap();
    assert_eq!(written.unwrap_or_else(|_| panic!("{:#?}", router.status())), 0);
}

/// It has got as far as the call must, and the line for its connections is full.
#[tokio::test]
async fn a_node_that_was_behind_and_cannot_serve_is_not_asked_for_ever() {
    let cluster = started(LocalCluster::builder()).await;
    let builder = Router::builder().primary(cluster.primary().url()).replica(cluster.replica(0).url());
    let builder = builder.probe_interval(50 * MS).max_connections(2).waiting_calls(1).replay_wait(HANG);
    let router =
        builder.acquire_timeout(HANG).connect_timeout(HANG).fallback(Fallback::Unlimited).connect().await.unwrap();
    cluster.wait_until_caught_up().await.unwrap();
    cluster.replica(0).pause_replay().await.unwrap();
    let writer = router.client().await.unwrap();
    writer.batch_execute("CREATE TABLE t ()").await.unwrap();
    let token = writer.token().await.unwrap();
    drop(writer);

    let mut behind = Box::pin(router.client_at(Consistency::AtLeast(token)));
    assert!(timeout(300 * MS, &mut behind).await.is_err(), "it waits for replay");
    // Of its two connections the other one is with those who watch its replay.
    let held = router.client_at(Consistency::Eventual).await.unwrap();
    assert_eq!(held.role(), Role::Replica);
    let mut in_line = Box::pin(router.client_at(Consistency::Eventual));
    assert!(poll_immediate(&mut in_line).await.is_none());
    cluster.replica(0).resume_replay().await.unwrap();
    let client = timeout(HANG, behind).await.expect("an answer").unwrap();
    assert_eq!(client.role(), Role::Primary, "the line of the replica is full");
}

/// Who waits for a replica that is behind waits together with the others, and asks no more than when it has got there.
#[tokio::test]
async fn readers_of_the_log_who_wait_for_replay_do_not_ask_again_and_again() {
    const READERS: usize = 60;
    let server = LocalCluster::builder().setting("log_statement", "all");
    let cluster = started(server).await;
    let builder = Router::builder().primary(cluster.primary().url()).replica(cluster.replica(0).url());
    let builder = builder.probe_interval(100 * MS).replay_wait(HANG).fallback(Fallback::Unlimited);
    let router = builder.connect().await.unwrap();
    let store = mainstem::PostgresEventStore::new(&router);
    store.migrate().await.unwrap();
    store.append([event("A", json!({}))], AppendCondition::none()).await.unwrap();
    cluster.wait_until_caught_up().await.unwrap();
    // Prepared, so that what is counted is executed once for each look.
    store.query(&Filter::any_event()).consistency(Consistency::Eventual).await.unwrap();
    cluster.replica(0).pause_replay().await.unwrap();
    let asked = || {
        let log = cluster.replica(0).log().unwrap();
        log.lines().filter(|line| line.contains("LOG:  execute")).count()
    };
    let before = asked();
    let session = Session::new();
    let append = async { store.append([event("B", json!({}))], AppendCondition::none()).await };
    with_session(&session, append).await.unwrap();
    let reads = (0..READERS).map(|number| {
        let filter = Filter::matching().any_type_of(["B".to_owned(), number.to_string()]).finish().unwrap();
        let store = &store;
        let read = async move { store.query(&filter).consistency(Consistency::Eventual).await.unwrap() };
        with_session(&session, read)
    });
    let resuming = async {
        sleep(1000 * MS).await;
        cluster.replica(0).resume_replay().await.unwrap();
    };
    let (answers, ()) = tokio::join!(join_all(reads), resuming);
    assert!(answers.iter().all(|answer| answer.len() == 1 && answer.role() == Role::Replica), "{}", answers.len());
    let asked = asked() - before;
    // For each the proof that fails, the proof that does not, the read, and where the node is behind it; and some for those who watch.
    assert!((3 * READERS..=20 * READERS).contains(&asked), "{asked} statements for {READERS} reads");
}

/// Behind one address a server that lags takes the place of one that does not. What opens a transaction there is executed, since it is
/// sent together with its proof, and the snapshot stays.
#[tokio::test]
async fn a_transaction_begun_after_a_failed_proof_shows_nothing() {
    let cluster = started(LocalCluster::builder().replicas(2)).await;
    let [primary, ahead, lagging] = cluster.nodes() else { panic!("three nodes") };
    let door = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let through = format!(":{}/", door.local_addr().unwrap().port());
    let through = ahead.url().replacen(&format!(":{}/", ahead.port()), &through, 1);
    let leads_to = Arc::new(AtomicU16::new(ahead.port()));
    let relaying = {
        let leads_to = Arc::clone(&leads_to);
        tokio::spawn(async move {
            let mut relays = JoinSet::new();
            while let Ok((mut client, _)) = door.accept().await {
                let mut server = TcpStream::connect(("127.0.0.1", leads_to.load(Ordering::SeqCst))).await.unwrap();
                relays.spawn(async move { copy_bidirectional(&mut client, &mut server).await });
            }
        })
    };
    let builder = Router::builder().primary(primary.url()).replica(&*through).probe_interval(50 * MS);
    let router = builder.replay_wait(HANG).connect().await.unwrap();
    let writer = router.client().await.unwrap();
    writer.batch_execute("CREATE TABLE jobs (n int)").await.unwrap();
    cluster.wait_until_caught_up().await.unwrap();
    lagging.pause_replay().await.unwrap();
    writer.batch_execute("INSERT INTO jobs VALUES (1)").await.unwrap();
    let level = Consistency::AtLeast(writer.token().await.unwrap());

    // Until the address is known to be far enough, and beyond its connections that lead there.
    let known = router.client_at(level.clone()).await.unwrap();
    assert_eq!(known.role(), Role::Replica);
    known.query("SELECT n FROM jobs", &[]).await.unwrap();
    leads_to.store(lagging.port(), Ordering::SeqCst);
    let mut held = vec![known];
    let opening = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT n FROM jobs";
    let client = loop {
        let client = router.client_at(level.clone()).await.unwrap();
        assert!(held.len() < 10, "none leads to the server that lags");
        match client.batch_execute(opening).await {
            Ok(()) => held.push(client),
            Err(error) => {
                assert_eq!((client.role(), error.kind()), (Role::Replica, ErrorKind::Unavailable), "{error}");
                break client;
            }
        }
    };
    lagging.resume_replay().await.unwrap();
    cluster.wait_until_caught_up().await.unwrap();
    let shown = client.query("SELECT n FROM jobs", &[]).await.map(|rows| rows.len());
    assert_eq!(shown.map_err(|error| error.kind()), Err(ErrorKind::Unavailable));
    drop(client);
    let client = router.client_at(level).await.unwrap();
    // Both are sent before either is answered, and the proof of the first is that of the second.
    let (begun, read) = tokio::join!(client.batch_execute("BEGIN"), client.query("SELECT n FROM jobs", &[]));
    begun.unwrap();
    assert_eq!(read.unwrap().len(), 1, "{}", client.node());
    relaying.abort();
}

/// Their limits end in the same moment, and the node has answered all others.
#[tokio::test]
async fn several_long_calls_are_no_silent_node() {
    let database = database().await;
    let router = Router::builder().primary(database.primary_url()).connect().await.unwrap();
    let until = Instant::now() + 1000 * MS;
    let clients = join_all((0..8).map(|_| router.client())).await;
    let clients: Vec<_> = clients.into_iter().map(|client| client.unwrap().timeout(300 * MS)).collect();
    let long = join_all(clients.iter().map(|client| client.query("SELECT pg_sleep(30)", &[])));
    let others = async {
        let client = router.client().await.unwrap();
        let mut worst = NodeCondition::Serving;
        while Instant::now() < until {
            client.query("SELECT 1", &[]).await.unwrap();
            let now = router.status().nodes[0].condition.clone();
            if now != NodeCondition::Serving {
                worst = now;
            }
        }
        worst
    };
    let (_, worst) = tokio::join!(long, others);
    assert_eq!(worst, NodeCondition::Serving);
}

/// As behind a balancer one of whose servers is gone: its calls are served, and one connect gets no answer.
#[tokio::test]
async fn a_connect_without_an_answer_beside_calls_that_have_one_is_no_silent_node() {
    let database = database().await;
    let door = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = cluster().await.primary().port();
    let through = format!(":{}/", door.local_addr().unwrap().port());
    let through = database.primary_url().replacen(&format!(":{port}/"), &through, 1);
    let lets_in = Arc::new(AtomicBool::new(true));
    let relaying = {
        let lets_in = Arc::clone(&lets_in);
        async move {
            let mut kept = Vec::new();
            let mut relays = JoinSet::new();
            while let Ok((mut client, _)) = door.accept().await {
                if lets_in.load(Ordering::SeqCst) {
                    let mut server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                    relays.spawn(async move { copy_bidirectional(&mut client, &mut server).await });
                } else {
                    kept.push(client);
                }
            }
        }
    };
    let relaying = tokio::spawn(relaying);
    let builder = Router::builder().primary(&*through).probe_interval(None).connect_timeout(300 * MS);
    let router = builder.connect().await.unwrap();
    let client = router.client().await.unwrap();
    let mut answered = 0;
    let mut second = async |is_answered: bool| {
        lets_in.store(false, Ordering::SeqCst);
        let mut refused = Box::pin(router.client());
        loop {
            match poll_immediate(&mut refused).await {
                Some(outcome) => break outcome.map(drop).unwrap_err(),
                None if is_answered => {
                    client.query("SELECT 1", &[]).await.unwrap();
                    answered += 1;
                }
                None => sleep(MS).await,
            }
        }
    };
    timeout(HANG, second(true)).await.expect("no hang");
    assert_eq!(router.status().nodes[0].condition, NodeCondition::Serving);
    // Without such calls it is.
    timeout(HANG, second(false)).await.expect("no hang");
    assert!(matches!(router.status().nodes[0].condition, NodeCondition::Ejected { .. }));
    assert!(answered > 0);
    relaying.abort();
}
