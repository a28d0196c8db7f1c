//! Servers that lie: real ones, behind a proxy that changes the queries they get and the answers they give.
//!
//! The router checks what it can: which node accepts writes, which cluster a node belongs to, what the rows of an answer show. It must
//! believe what only the server knows, namely how far it has replayed; `docs/guarantees.md` says so.

mod answers;
mod liar;
mod probes;

use std::{
    future::IntoFuture,
    time::{Duration, Instant},
};

use mainstem::{
    AppendCondition, Consistency, ErrorKind, EventStore, Fallback, Filter, NewEvent, NodeCondition, Payload,
    PostgresEventStore, PrimaryState, Role, Router, RouterBuilder, Start, Subscribe, testing::TestDatabase,
};
use serde_json::json;
use tokio::time::{sleep, timeout};

use self::liar::{Fault, Liar};
use crate::support::{cluster, cluster_with_log, database, event};

/// Far longer than anything here may take: what it ends would have hung.
const HANG: Duration = Duration::from_secs(60);
/// The limits of these routers on connecting and on a call.
const LIMIT: Duration = Duration::from_millis(300);
const SLACK: Duration = Duration::from_secs(4);
const SOON: Duration = Duration::from_millis(50);

const IN_RECOVERY: (&str, &str) = ("pg_is_in_recovery()", "(false AND pg_is_in_recovery())");
const TIMELINE_OF_A_PRIMARY: &str = "('x' || left(pg_walfile_name(pg_current_wal_flush_lsn()), 8))::bit(32)::int8";
const TIMELINE_OF_A_REPLICA: &str = "max(timeline)::int8";
const FIFTH: &str = "(5 + 0 * max(timeline))::int8";
const FLUSHED: (&str, &str) = ("pg_current_wal_flush_lsn()", "'F0000000/0'::pg_lsn");
const REPLAYED: (&str, &str) = ("pg_last_wal_replay_lsn()", "'F0000000/0'::pg_lsn");
const SYSTEM: (&str, &str) =
    ("(SELECT system_identifier FROM pg_control_system())", "(SELECT system_identifier + 1 FROM pg_control_system())");

async fn until(what: impl AsyncFn() -> bool) {
    let holds = async {
        while !what().await {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(HANG, holds).await.expect("it becomes so");
}

async fn soon<T>(what: impl IntoFuture<Output = T>) -> T {
    timeout(HANG, what).await.expect("no hang")
}

fn condition(router: &Router, name: &str) -> NodeCondition {
    router.status().nodes.into_iter().find(|node| *node.name == *name).expect("the node").condition
}

/// A liar before the first replica of the shared cluster.
async fn before_a_replica(database: &TestDatabase<'_>) -> (Liar, String) {
    let liar = Liar::before(cluster().await.replica(0).port()).await;
    let url = liar.url(&database.replica_urls()[0]);
    (liar, url)
}

fn impatient(primary: String, replica: String) -> RouterBuilder {
    let builder = Router::builder().primary(primary).replica(replica).probe_interval(SOON);
    builder.fallback(Fallback::Unlimited).connect_timeout(LIMIT).call_timeout(LIMIT).acquire_timeout(2 * LIMIT)
}

#[tokio::test]
async fn a_node_claiming_to_be_primary_of_an_older_timeline_gets_no_write() {
    let database = database().await;
    let before_primary = Liar::before(cluster().await.primary().port()).await;
    let (liar, url) = before_a_replica(&database).await;
    // All say that they are on the fifth timeline.
    before_primary.tells(&[(TIMELINE_OF_A_PRIMARY, "5::int8")], None);
    liar.tells(&[(TIMELINE_OF_A_REPLICA, FIFTH)], None);
    let primary = before_primary.url(&database.primary_url());
    let router = impatient(primary, url).connect().await.unwrap();
    until(async || router.client_at(Consistency::Eventual).await.is_ok_and(|client| client.role() == Role::Replica))
        .await;
    liar.tells(&[(TIMELINE_OF_A_PRIMARY, "4::int8"), IN_RECOVERY, FLUSHED], Some("off"));
    until(async || condition(&router, &liar.name()) == NodeCondition::Fenced).await;
    // Until it has told its timeline it might be a newer one, and nobody is written to.
    until(async || router.client().await.is_ok()).await;
    for _ in 0..50 {
        let client = router.client().await.unwrap();
        assert_eq!(client.node(), before_primary.name());
        assert_eq!(router.client_at(Consistency::Eventual).await.unwrap().node(), before_primary.name());
    }
    // On the same timeline nobody can know who is right: no coin is tossed.
    liar.tells(&[(TIMELINE_OF_A_PRIMARY, "5::int8"), IN_RECOVERY, FLUSHED], Some("off"));
    until(async || router.client().await.is_err_and(|error| error.kind() == ErrorKind::SplitBrain)).await;
    // It is over when the lie is.
    liar.tells(&[(TIMELINE_OF_A_REPLICA, FIFTH)], None);
    until(async || router.client().await.is_ok_and(|client| client.node() == before_primary.name())).await;
    // And not only because nobody has heard from it yet: it is a replica again.
    until(async || router.client_at(Consistency::Eventual).await.is_ok_and(|client| client.role() == Role::Replica))
        .await;
}

/// Who has a newer timeline than the primary may have been written to, so it is believed, and writes are stopped. None is lost, and an
/// operator ends it.
#[tokio::test]
async fn a_node_that_invents_a_newer_timeline_stops_writes_until_forgotten() {
    let (cluster, _router, by_owner) = cluster_with_log(1, |builder| builder).await;
    by_owner.append([event("A", json!({}))], AppendCondition::none()).await.unwrap();
    cluster.wait_until_caught_up().await.unwrap();
    let liar = Liar::before(cluster.replica(0).port()).await;
    let builder = impatient(cluster.primary().url(), liar.url(&cluster.replica(0).url()));
    let router = builder.call_timeout(Duration::from_secs(2)).connect().await.unwrap();
    let store = PostgresEventStore::new(&router);
    let primary = router.client().await.unwrap().node().to_owned();
    let append = async || soon(store.append([event("B", json!({}))], AppendCondition::none())).await;

    let a_replica_s = [(TIMELINE_OF_A_REPLICA, "(4294967295 + 0 * max(timeline))::int8")];
    let a_primary_s = [(TIMELINE_OF_A_PRIMARY, "4294967295::int8"), IN_RECOVERY, FLUSHED];
    for (lies, in_hot_standby, state) in
        [(&a_replica_s[..], None, Err(primary.as_str())), (&a_primary_s[..], Some("off"), Ok(&*liar.name()))]
    {
        append().await.unwrap();
        liar.tells(lies, in_hot_standby);
        let is_so = || match (router.status().primary, state) {
            (PrimaryState::Known { node, .. }, Ok(name)) | (PrimaryState::Fenced { node, .. }, Err(name)) => {
                *node == *name
            }
            _ => false,
        };
        until(async || is_so()).await;
        for _ in 0..3 {
            let error = append().await.unwrap_err();
            assert_ne!(error.kind(), ErrorKind::OutcomeUnknown, "{}", error.report());
        }
        // That he says so no more does not make it untrue.
        liar.is_honest();
        sleep(10 * SOON).await;
        assert!(router.client().await.is_err());
        router.forget(&liar.name()).unwrap();
        until(async || append().await.is_ok()).await;
        assert_eq!(router.client().await.unwrap().node(), primary);
    }
    // What was refused was not written.
    let history = store.query(&Filter::any_event()).consistency(Consistency::Strong).await.unwrap();
    assert_eq!(history.len(), 5);
}

/// The parameter that comes with the log-in says one thing, and the answer to a question another.
#[tokio::test]
async fn a_node_that_contradicts_itself_about_its_role_gets_no_write() {
    let database = database().await;
    let (liar, url) = before_a_replica(&database).await;
    let router = impatient(database.primary_url(), url).connect().await.unwrap();
    liar.tells(&[], Some("off"));
    let end = Instant::now() + Duration::from_secs(2);
    while Instant::now() < end {
        if let Ok(client) = soon(router.client()).await {
            assert_ne!(client.node(), liar.name());
        }
    }
    liar.is_honest();
    until(async || router.client().await.is_ok_and(|client| client.node() != liar.name())).await;
}

#[tokio::test]
async fn a_node_of_another_cluster_serves_nobody() {
    let database = database().await;
    let (liar, url) = before_a_replica(&database).await;
    liar.tells(&[SYSTEM], None);
    let error = impatient(database.primary_url(), url.clone()).connect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration, "{}", error.report());
    assert!(error.to_string().contains("system identifiers differ"), "{error}");
    // The same when it becomes so later.
    liar.is_honest();
    let router = impatient(database.primary_url(), url).connect().await.unwrap();
    until(async || router.client_at(Consistency::Eventual).await.is_ok_and(|client| client.role() == Role::Replica))
        .await;
    liar.tells(&[SYSTEM], None);
    until(async || condition(&router, &liar.name()) == NodeCondition::Foreign).await;
    for _ in 0..50 {
        assert_ne!(router.client_at(Consistency::Eventual).await.unwrap().node(), liar.name());
    }
}

#[tokio::test]
async fn a_node_that_overstates_its_replay_is_found_out_by_its_rows() {
    let (cluster, _router, by_owner) = cluster_with_log(1, |builder| builder).await;
    let liar = Liar::before(cluster.replica(0).port()).await;
    liar.tells(&[REPLAYED], None);
    let url = liar.url(&cluster.replica(0).url());
    // The primary is to have its time, behind the wait for the replica.
    let router = impatient(cluster.primary().url(), url).replay_wait(SOON).connect().await.unwrap();
    let store = PostgresEventStore::new(&router);
    let eventual = async || store.query(&Filter::any_event()).consistency(Consistency::Eventual).await;
    until(async || eventual().await.is_ok_and(|history| history.role() == Role::Replica)).await;
    cluster.replica(0).pause_replay().await.unwrap();
    let written = by_owner.append([event("A", json!({}))], AppendCondition::none()).await.unwrap();
    let level = Consistency::AtLeast(written.token().clone());

    // A read of the log proves itself by its own rows.
    for _ in 0..20 {
        let history = store.query(&Filter::any_event()).consistency(level.clone()).await.unwrap();
        assert_eq!((history.len(), history.role()), (1, Role::Primary));
    }
    // What was decided by old rows is judged where they are not old.
    let mut refused = 0;
    for _ in 0..20 {
        let history = eventual().await.unwrap();
        if history.role() == Role::Replica {
            assert!(history.is_empty());
            let error = store.append([event("B", json!({}))], history.unchanged()).await.unwrap_err();
            assert!(error.is_conflict(), "{}", error.report());
            refused += 1;
        }
    }
    assert!(refused > 0, "nobody was deceived");
    // SQL of one's own has nothing but the server's word.
    let client = router.client_at(level).await.unwrap();
    assert_eq!(client.node(), liar.name());
    let count: i64 = client.query_one("SELECT count(*) FROM mainstem.events", &[]).await.unwrap().get(0);
    assert_eq!(count, 0);
}

/// All messages that a server sends in a log-in and an answer.
const KINDS: [u8; 10] = *b"RSKZ1tT2DC";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_hangs_whatever_comes_and_whenever() {
    let database = database().await;
    let (liar, url) = before_a_replica(&database).await;
    let healthy = impatient(database.primary_url(), url.clone()).connect().await.unwrap();
    let store = PostgresEventStore::new(&healthy);
    store.migrate().await.unwrap();
    store.append([event("A", json!({}))], AppendCondition::none()).await.unwrap();
    cluster().await.wait_until_caught_up().await.unwrap();
    let mut failed = 0;
    for kind in KINDS {
        for fault in Fault::ALL {
            let (what, before) = (format!("{fault:?} at {}", char::from(kind)), liar.spoilt());
            liar.spoils(kind, fault);
            // It knows nothing bad of anybody, and nobody but its calls asks.
            let router = impatient(database.primary_url(), url.clone()).probe_interval(None).build().unwrap();
            let store = PostgresEventStore::new(&router);
            for _ in 0..2 {
                let start = Instant::now();
                let asked = async {
                    let client = router.client_at(Consistency::Eventual).await?;
                    client.query_one("SELECT 1", &[]).await.map(drop)
                };
                let asked = soon(asked).await;
                let read = soon(store.query(&Filter::any_event()).consistency(Consistency::Eventual)).await;
                assert!(start.elapsed() < 4 * LIMIT + SLACK, "{what}: {:?}", start.elapsed());
                for error in [asked.err(), read.as_ref().err().cloned()].into_iter().flatten() {
                    failed += 1;
                    let kinds = [ErrorKind::Unavailable, ErrorKind::Timeout, ErrorKind::Database];
                    assert!(kinds.contains(&error.kind()), "{what}: {}", error.report());
                    assert!(error.report().len() < 4_000, "{what}: {}", error.report());
                }
                if let Ok(history) = read {
                    assert_eq!(history.len(), 1, "{what}, by {}", history.node());
                }
                // Strong calls have nothing to do with it.
                soon(router.client()).await.unwrap_or_else(|error| panic!("{what}: {}", error.report()));
            }
            assert!(liar.spoilt() > before, "{what}: nothing was spoilt");
        }
    }
    assert!(failed > 0, "nobody noticed");
    liar.is_honest();
    until(async || healthy.client_at(Consistency::Eventual).await.is_ok_and(|client| client.node() == liar.name()))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_without_an_end_take_no_more_memory_than_their_reader_and_no_more_time_than_the_call() {
    let database = database().await;
    let (liar, url) = before_a_replica(&database).await;
    let builder = impatient(database.primary_url(), url).probe_interval(None);
    let router = builder.fallback(Fallback::Never).connect().await.unwrap();
    let store = PostgresEventStore::new(&router);
    store.migrate().await.unwrap();
    store.append([event("A", json!({}))], AppendCondition::none()).await.unwrap();
    cluster().await.wait_until_caught_up().await.unwrap();
    liar.spoils(b'D', Fault::Endless);
    let before = liar.sent();
    let mut events = store.query(&Filter::any_event()).consistency(Consistency::Eventual).stream();
    let first = soon(events.next()).await;
    // It takes one, and then its time: meanwhile the server has to wait.
    sleep(Duration::from_secs(1)).await;
    let sent = liar.sent() - before;
    assert!(sent < 32 << 20, "{sent} bytes were taken for {first:?}");
    drop(events);
    let error = soon(async {
        let client = router.client_at(Consistency::Eventual).await?;
        client.query_one("SELECT 1", &[]).await
    });
    let error = error.await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Unavailable), "{}", error.report());
    // Nobody listens any more.
    until(async || {
        let before = liar.sent();
        sleep(Duration::from_millis(200)).await;
        liar.sent() == before
    })
    .await;
}

/// Of a log of large events a piece takes no more from its node than it may have, and what tells that it is full: nothing waits in this
/// process, and the node stops.
#[tokio::test]
async fn a_piece_of_large_events_takes_little_more_from_its_node_than_it_may_have() {
    const MIB: usize = 1 << 20;
    let database = database().await;
    let liar = Liar::before(cluster().await.primary().port()).await;
    let builder = Router::builder().primary(liar.url(&database.primary_url())).probe_interval(None);
    let store = PostgresEventStore::new(&builder.connect().await.unwrap());
    store.migrate().await.unwrap();
    for _ in 0..10 {
        let events =
            (0..10).map(|_| NewEvent::from_payload("Scanned", Payload::bytes("text/plain", vec![b'x'; 3 * MIB])));
        store.append(events.collect::<Vec<_>>(), AppendCondition::none()).await.unwrap();
    }
    let before = liar.sent();
    let fetched = soon(store.fetch(&Filter::any_event(), Start::Beginning).limit(1000)).await.unwrap();
    // 4 MiB, an event that there is no room for, 16 MiB to find the end, an event in which those end, and what is in buffers.
    let sent = liar.sent() - before;
    assert_eq!((fetched.len(), fetched.is_at_head()), (1, false));
    assert!(sent < 60 * MIB as u64, "{sent} bytes were taken for one event");

    let mut subscription = store.subscribe(&Filter::any_event()).consistency(Consistency::Strong).build();
    let before = liar.sent();
    for _ in 0..20 {
        assert_eq!(soon(subscription.next_batch()).await.unwrap().unwrap().len(), 1);
    }
    // Each event, and one that there is no room for; the first piece does not know how large they are.
    let sent = liar.sent() - before;
    assert!(sent < (60 + 22 * 2 * 3) * MIB as u64, "{sent} bytes were taken for 20 events");
}
