//! What streams do besides being right: they wait for their consumer, survive the loss of their replica, and leave
//! nothing behind.

use std::time::Duration;

use mainstem::{
    AppendCondition, Consistency, ErrorKind, Event, EventStore, Filter, PostgresEventStore, QueryStream, Role, Router,
    Selection, testing::LocalCluster, with_eventual_consistency,
};
use serde_json::json;
use tokio::time::{sleep, timeout};

use crate::support::{
    cluster, cluster_with_log, commits_wait_for_both, database, event, router, sessions, started, store,
};

/// Far longer than anything here may take: what it ends would have hung.
const HANG: Duration = Duration::from_secs(60);

/// More than the buffers between a server and its client hold.
const EVENTS: u64 = 24_000;

async fn fill(router: &Router) {
    let sql = format!(
        "INSERT INTO mainstem.events
             (position, following, id, type, tags, payload, metadata, occurred_at, recorded_at)
         SELECT n, 0, gen_random_uuid(), 'Filled', ARRAY['t'], jsonb_build_object('n', n, 'text', repeat(md5(n::text), 30)),
                '{{}}', now(), now()
         FROM generate_series(1, {EVENTS}) n"
    );
    router.client().await.unwrap().execute(&sql, &[]).await.unwrap();
}

/// One is read in pieces, the other by one statement.
fn filters() -> [Filter; 2] {
    [Filter::any_event(), Filter::matching().all_tags_of(["t"]).finish().unwrap()]
}

async fn read<S: Selection>(stream: &mut QueryStream<S>, amount: usize) -> Vec<Event> {
    let mut events = Vec::new();
    while events.len() < amount
        && let Some(event) = timeout(HANG, stream.next()).await.expect("no hang")
    {
        events.push(event.unwrap());
    }
    events
}

fn assert_filled(events: &[Event]) {
    let positions: Vec<u64> = events.iter().map(Event::position).collect();
    assert!(positions == (1..=EVENTS).collect::<Vec<_>>(), "{} of {EVENTS} events", positions.len());
}

const STREAMING: &str = "state = 'active' AND pid <> pg_backend_pid() AND query LIKE '%\"events\"%'";

#[tokio::test]
async fn a_stream_that_is_dropped_in_the_middle_leaves_nothing_running() {
    let (database, router, store) = store().await;
    fill(&router).await;
    let admin = Router::builder().primary(database.primary_url()).connect().await.unwrap();
    for filter in filters() {
        let mut stream = store.query_stream(&filter);
        assert_eq!(read(&mut stream, 10).await.len(), 10);
        sessions(&database, STREAMING, 1).await;
        let sql = format!("SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND {STREAMING}");
        let pid: i32 = admin.client().await.unwrap().query_one(&sql, &[]).await.unwrap().get(0);
        drop(stream);
        // Closed: whatever it had still to say is for nobody.
        sessions(&database, &format!("pid = {pid}"), 0).await;
        // Nor does anybody get the rest of the answer.
        assert_eq!(*store.count(&filter).await.unwrap(), EVENTS);
        let mut untouched = store.query_stream(&filter);
        assert_eq!(read(&mut untouched, 2).await[1].position(), 2);
    }
}

#[tokio::test]
async fn a_consumer_that_stops_stops_the_server_and_no_limit_counts_its_time() {
    let (database, router, store) = store().await;
    fill(&router).await;
    for filter in filters() {
        let mut stream = store.query(&filter).timeout(Duration::from_secs(2)).stream();
        let mut events = read(&mut stream, 10).await;
        // The server cannot get rid of its rows.
        let waiting = format!("{STREAMING} AND wait_event = 'ClientWrite'");
        sessions(&database, &waiting, 1).await;
        let pid = format!("SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND {waiting}");
        let pid: i32 = router.client().await.unwrap().query_one(&pid, &[]).await.unwrap().get(0);
        sleep(Duration::from_millis(2_500)).await;
        sessions(&database, &waiting, 1).await;
        events.extend(read(&mut stream, usize::MAX).await);
        assert_filled(&events);
        assert_eq!(stream.end().unwrap().head().unwrap().position(), EVENTS);
        drop(stream);
        // All was read: the connection is good for the next call, which may be a probe's.
        sessions(&database, &format!("pid = {pid} AND state = 'idle'"), 1).await;
    }
}

#[tokio::test]
async fn an_error_in_the_middle_is_an_item_and_never_the_end() {
    let (database, router, store) = store().await;
    fill(&router).await;
    let admin = Router::builder().primary(database.primary_url()).connect().await.unwrap();
    let cases = [("pg_cancel_backend", ErrorKind::Timeout), ("pg_terminate_backend", ErrorKind::Unavailable)];
    for filter in filters() {
        for (function, kind) in cases {
            let mut stream = store.query_stream(&filter);
            assert_eq!(read(&mut stream, 10).await.len(), 10);
            let waiting = format!("{STREAMING} AND wait_event = 'ClientWrite'");
            sessions(&database, &waiting, 1).await;
            let sql = format!(
                "SELECT count({function}(pid)) FROM pg_stat_activity WHERE datname = current_database() AND {waiting}"
            );
            admin.client().await.unwrap().query(&sql, &[]).await.unwrap();
            let error = loop {
                match timeout(HANG, stream.next()).await.expect("no hang") {
                    Some(Ok(event)) => assert!(event.position() < EVENTS, "nothing was interrupted"),
                    Some(Err(error)) => break error,
                    None => panic!("an interrupted stream ended as if it were complete"),
                }
            };
            assert_eq!(error.kind(), kind, "{}", error.report());
            assert!(error.node().is_some());
            assert!(stream.next().await.is_none(), "something behind the error");
            assert!(stream.end().is_none(), "the end of a stream that failed");
            drop(stream);
            assert_eq!(*store.count(&filter).await.unwrap(), EVENTS, "the next call is well");
        }
    }
}

#[tokio::test]
async fn a_stream_goes_on_elsewhere_when_its_replica_is_lost_up_to_the_head_of_its_start() {
    let cluster = started(LocalCluster::builder().replicas(2)).await;
    let builder =
        Router::builder().primary(cluster.primary().url()).replicas(cluster.replicas().map(|node| node.url()));
    let router = builder.connect().await.unwrap();
    let store = PostgresEventStore::new(&router);
    store.migrate().await.unwrap();
    fill(&router).await;
    cluster.wait_until_caught_up().await.unwrap();
    for filter in filters() {
        // Made in the scope, polled outside of it.
        let mut stream = with_eventual_consistency(async { store.query_stream(&filter) }).await;
        let mut events = read(&mut stream, 10).await;
        assert_eq!(stream.role(), Some(Role::Replica));
        let late = event("Filled", json!({})).with_tag("t");
        let late = store.append([late], AppendCondition::none()).await.unwrap().last();
        let first = stream.node().unwrap().to_owned();
        let lost = cluster.replicas().find(|node| first.ends_with(&format!(":{}", node.port()))).unwrap();
        lost.kill().await.unwrap();
        events.extend(read(&mut stream, usize::MAX).await);
        assert_ne!(stream.node(), Some(&*first));
        assert_eq!(events.last().map(Event::position), Some(late.position() - 1));
        assert_filled(&events[..EVENTS as usize]);
        let head = stream.end().unwrap().head().unwrap();
        assert_eq!(head, events.last().unwrap().mark(), "the head is that of the start");
        lost.start().await.unwrap();
        cluster.wait_until_caught_up().await.unwrap();
    }
}

#[tokio::test]
async fn a_replica_that_is_behind_the_head_of_its_start_does_not_end_a_stream() {
    let cluster = started(LocalCluster::builder().replicas(2)).await;
    let urls: Vec<String> = cluster.replicas().map(|node| node.url()).collect();
    let primary = || Router::builder().primary(cluster.primary().url());
    let router = primary().replicas(urls.clone()).connect().await.unwrap();
    let store = PostgresEventStore::new(&router);
    store.migrate().await.unwrap();
    cluster.wait_until_caught_up().await.unwrap();
    let behind = primary().replica(urls[1].clone()).connect().await.unwrap();
    let client = behind.client_at(Consistency::Eventual).await.unwrap();
    assert_eq!(client.role(), Role::Replica);
    client.query("SELECT pg_wal_replay_pause()", &[]).await.unwrap();
    drop(client);
    fill(&router).await;
    let ahead = PostgresEventStore::new(&primary().replica(urls[0].clone()).connect().await.unwrap());
    let caught_up = async {
        while *ahead.count(&Filter::any_event()).consistency(Consistency::Eventual).await.unwrap() < EVENTS {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(HANG, caught_up).await.expect("the first replica is up to date");
    for filter in filters() {
        let begin = async {
            loop {
                let mut stream = store.query(&filter).consistency(Consistency::Eventual).stream();
                let events = read(&mut stream, 10).await;
                if !events.is_empty() {
                    return (stream, events);
                }
            }
        };
        let (mut stream, mut events) = timeout(HANG, begin).await.expect("a stream on the replica that is up to date");
        let port = format!(":{}", cluster.replica(0).port());
        assert!(stream.node().is_some_and(|node| node.ends_with(&port)), "{:?}", stream.node());
        cluster.replica(0).kill().await.unwrap();
        events.extend(read(&mut stream, usize::MAX).await);
        assert_filled(&events);
        assert_eq!((stream.role(), stream.end().unwrap().head().unwrap().position()), (Some(Role::Primary), EVENTS));
        cluster.replica(0).start().await.unwrap();
        timeout(HANG, async {
            while *ahead.count(&filter).consistency(Consistency::Eventual).await.unwrap() < EVENTS {
                sleep(Duration::from_millis(10)).await;
            }
        })
        .await
        .expect("it is back");
    }
}

/// A replica shows what the primary does not show yet, since its commit waits for the other replica. That is not lost when the
/// stream goes on there.
#[tokio::test]
async fn a_head_whose_commit_waits_for_a_standby_is_waited_for_when_its_replica_is_lost() {
    let (cluster, router, store) = cluster_with_log(2, |builder| builder.replay_wait(HANG)).await;
    fill(&router).await;
    cluster.wait_until_caught_up().await.unwrap();
    commits_wait_for_both(&router).await;
    cluster.replica(0).pause_replay().await.unwrap();
    let appending = tokio::spawn({
        let late = event("Filled", json!({})).with_tag("t");
        let store = store.clone();
        async move { store.append([late], AppendCondition::none()).timeout(HANG).await }
    });
    let builder = Router::builder().primary(cluster.primary().url()).replica(cluster.replica(1).url());
    let ahead = PostgresEventStore::new(&builder.connect().await.unwrap());
    let shown = async {
        while *ahead.count(&Filter::any_event()).consistency(Consistency::Eventual).await.unwrap() <= EVENTS {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(HANG, shown).await.expect("one replica shows it");
    let port = format!(":{}", cluster.replica(1).port());
    let begin = async {
        loop {
            let mut stream =
                store.query(&Filter::any_event()).consistency(Consistency::Eventual).timeout(HANG).stream();
            let events = read(&mut stream, 10).await;
            if stream.node().is_some_and(|node| node.ends_with(&port)) {
                return (stream, events);
            }
        }
    };
    let (mut stream, mut events) = timeout(HANG, begin).await.expect("a stream on the replica that is ahead");
    cluster.replica(1).kill().await.unwrap();
    let rest = tokio::spawn(async move {
        events.extend(read(&mut stream, usize::MAX).await);
        events.len() as u64
    });
    sleep(Duration::from_secs(1)).await;
    assert!(!rest.is_finished() && !appending.is_finished());
    cluster.replica(1).start().await.unwrap();
    cluster.replica(0).resume_replay().await.unwrap();
    assert_eq!(timeout(HANG, rest).await.expect("no hang").unwrap(), EVENTS + 1);
    assert_eq!(appending.await.unwrap().unwrap().first_position(), EVENTS + 1);
}

#[tokio::test]
async fn a_log_that_lost_the_head_of_a_streams_start_has_diverged() {
    let (_database, router, store) = store().await;
    fill(&router).await;
    let mut stream = store.query_stream(&Filter::any_event());
    assert_eq!(read(&mut stream, 10).await.len(), 10);
    // As after a restore. The piece that runs has its snapshot, the next one finds another event.
    let restored = "SET session_replication_role = replica; ALTER TABLE mainstem.events DISABLE TRIGGER ALL;
                    UPDATE mainstem.events SET id = gen_random_uuid() WHERE position = (SELECT max(position) FROM mainstem.events)";
    router.client().await.unwrap().batch_execute(restored).await.unwrap();
    let error = loop {
        match timeout(HANG, stream.next()).await.expect("no hang") {
            Some(Ok(event)) => assert!(event.position() < EVENTS, "the other history was streamed"),
            Some(Err(error)) => break error,
            None => panic!("ended as if it were complete"),
        }
    };
    assert_eq!(error.kind(), ErrorKind::LogDiverged, "{}", error.report());
}

#[tokio::test]
async fn a_silent_server_is_an_error_of_the_stream() {
    let cluster = started(LocalCluster::builder().replicas(0)).await;
    let router = Router::builder().primary(cluster.primary().url()).connect().await.unwrap();
    let store = PostgresEventStore::new(&router);
    store.migrate().await.unwrap();
    fill(&router).await;
    for filter in filters() {
        let mut stream = store.query(&filter).timeout(Duration::from_millis(500)).stream();
        assert_eq!(read(&mut stream, 10).await.len(), 10);
        cluster.primary().freeze().await.unwrap();
        let error = loop {
            match timeout(HANG, stream.next()).await.expect("no hang") {
                Some(Ok(_)) => {}
                Some(Err(error)) => break error,
                None => panic!("ended as if it were complete"),
            }
        };
        assert_eq!(error.kind(), ErrorKind::Timeout, "{}", error.report());
        cluster.primary().thaw().await.unwrap();
    }
}

#[tokio::test]
async fn a_stream_may_be_spawned_and_reads_a_log_without_tables_as_an_error() {
    let database = database().await;
    let router = router(&database).await;
    let store = PostgresEventStore::new(&router);
    let mut stream = store.query_stream(&Filter::any_event());
    let read = tokio::spawn(async move { (stream.next().await, stream) });
    let (item, mut stream) = timeout(HANG, read).await.expect("no hang").unwrap();
    assert_eq!(item.unwrap().unwrap_err().kind(), ErrorKind::Schema);
    assert!(stream.next().await.is_none() && stream.end().is_none());
    assert_eq!(cluster().await.nodes().len(), 3);
}
