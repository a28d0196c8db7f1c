//! What is recorded about each decision and each call: which node, why, how long it waited, how it ended.

use std::time::Duration;

use mainstem::{
    Consistency, Fallback, Role, Router, RouterBuilder,
    telemetry::{
        ATTEMPTS, CALL, CONDITION, DURATION, EFFECT, ERROR_KIND, ERROR_TYPE, LEVEL, NAMESPACE, NODE, OUTCOME, REASON,
        REPLICAS, ROLE, ROUTE, SERVER_ADDRESS, SERVER_PORT, STATUS_CODE, SYSTEM, TOPOLOGY, WAIT_CONNECTION,
        WAIT_FALLBACK, WAIT_REPLAY,
    },
    testing::{LocalCluster, TestDatabase},
};
use tokio::{net::TcpListener, time::timeout};
use tracing::Level;

use crate::support::{Records, database, router, started};

const HANG: Duration = Duration::from_secs(30);
const MS: Duration = Duration::from_millis(1);

/// The address of nobody.
async fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("postgres://nobody@{}/x", listener.local_addr().unwrap())
}

/// A primary alone, with one connection.
fn narrow(database: &TestDatabase<'_>) -> RouterBuilder {
    Router::builder().primary(database.primary_url()).max_connections(1).probe_interval(None)
}

#[tokio::test]
async fn a_decision_says_which_node_serves_and_why() {
    let database = database().await;
    let router = router(&database).await;
    let (records, _kept) = Records::keep(Level::DEBUG);
    let client = router.client().await.unwrap();
    let told = records.only(ROUTE);
    let (host, port) = client.node().split_once(':').unwrap();
    let expected = [
        (OUTCOME, "succeeded"),
        (LEVEL, "strong"),
        (REASON, "primary"),
        (NODE, client.node()),
        (ROLE, "primary"),
        (SYSTEM, "postgresql"),
        (SERVER_ADDRESS, host),
        (SERVER_PORT, port),
        (ATTEMPTS, "1"),
        (REPLICAS, ""),
        (ERROR_KIND, ""),
        ("message", "routed"),
    ];
    expected.into_iter().for_each(|(name, value)| assert_eq!(told.get(name), value, "{name} of {told:#?}"));
    assert!(database.primary_url().contains(told.get(NAMESPACE)) && told.get(NAMESPACE).len() > 2, "{told:#?}");

    let replica = router.client_at(Consistency::Eventual).await.unwrap();
    let told = records.only(ROUTE);
    assert_eq!((told.get(LEVEL), told.get(REASON), told.get(NODE)), ("eventual", "replica", replica.node()));
    assert_eq!((told.get(ROLE), told.get(REPLICAS)), ("replica", ""));
    // What the router asks for itself is no call of anybody's.
    assert!(router.ask_readiness().await.is_ready());
    assert!(records.take(ROUTE).is_empty() && records.take(CALL).is_empty());
}

#[tokio::test]
async fn a_decision_for_the_primary_says_why_no_replica_serves_and_what_was_waited_for() {
    let cluster = started(LocalCluster::builder()).await;
    let builder = || Router::builder().primary(cluster.primary().url()).replica(cluster.replica(0).url());
    let router = builder().replay_wait(50 * MS).connect().await.unwrap();
    let primary = router.client().await.unwrap();
    primary.batch_execute("CREATE TABLE t (a int4)").await.unwrap();
    cluster.wait_until_caught_up().await.unwrap();
    cluster.replica(0).pause_replay().await.unwrap();
    primary.batch_execute("INSERT INTO t VALUES (1)").await.unwrap();
    let token = primary.token().await.unwrap();
    let (records, _kept) = Records::keep(Level::DEBUG);
    let client = router.client_at(Consistency::AtLeast(token)).await.unwrap();
    assert_eq!(client.role(), Role::Primary);
    let told = records.take(ROUTE);
    let last = told.last().unwrap();
    assert_eq!((last.get(LEVEL), last.get(REASON), last.get(OUTCOME)), ("at_least", "fallback", "succeeded"));
    assert!(last.number(WAIT_REPLAY) > 0.0 && last.number(ATTEMPTS) == 2.0, "{told:#?}");
    let replica = router.status().nodes[1].name.clone();
    assert_eq!(last.get(REPLICAS), format!("{replica}: this call has tried it"), "{told:#?}");
    // That it was behind was a call that has failed.
    let calls = records.take(CALL);
    let behind = calls.iter().find(|call| call.get(NODE) == &*replica && call.get(OUTCOME) == "failed");
    assert!(behind.is_some_and(|call| call.get(ERROR_TYPE) == "unavailable"), "{calls:#?}");
    cluster.replica(0).resume_replay().await.unwrap();
}

#[tokio::test]
async fn decisions_without_a_node_are_refused_or_failed_or_timed_out_or_cancelled() {
    let database = database().await;
    let (records, _kept) = Records::keep(Level::DEBUG);
    let lonely = async |fallback| {
        let builder = Router::builder().primary(database.primary_url()).replica(nobody().await);
        builder.fallback(fallback).fallback_concurrency(1).fallback_wait(50 * MS).connect().await.unwrap()
    };
    let never = lonely(Fallback::Never).await;
    let ended = async |router: &Router, level| {
        records.take(ROUTE);
        let ended = timeout(HANG, router.client_at(level)).await.expect("a limit of its own");
        drop(ended.expect_err("nobody can serve"));
        records.only(ROUTE)
    };
    let told = ended(&never, Consistency::Eventual).await;
    let (outcome, kind) = (told.get(OUTCOME), told.get(ERROR_KIND));
    assert_eq!((outcome, kind), ("refused", "replicas_unavailable"), "{told:#?}");
    let protect = lonely(Fallback::Protect).await;
    let held = protect.client_at(Consistency::Eventual).await.unwrap();
    let told = ended(&protect, Consistency::Eventual).await;
    assert_eq!((told.get(OUTCOME), told.get("message")), ("refused", "not routed"), "{told:#?}");
    assert!(told.number(WAIT_FALLBACK) > 0.0 && !told.get(REPLICAS).is_empty(), "{told:#?}");
    drop(held);

    let unreachable = Router::builder().primary(nobody().await).probe_interval(None).build().unwrap();
    let told = ended(&unreachable, Consistency::Strong).await;
    assert_eq!((told.get(OUTCOME), told.get(ERROR_KIND), told.get(REASON)), ("failed", "unavailable", "primary"));

    let full = narrow(&database).acquire_timeout(50 * MS).build().unwrap();
    let held = full.client().await;
    let Ok(held) = held else {
        // The machine is too busy to connect in that time: it says so.
        assert_eq!(records.take(ROUTE).last().unwrap().get(OUTCOME), "timed_out");
        return;
    };
    let told = ended(&full, Consistency::Strong).await;
    assert_eq!((told.get(OUTCOME), told.get(ERROR_KIND), told.get(NODE)), ("timed_out", "timeout", held.node()));
    assert!(told.number(WAIT_CONNECTION) > 0.0, "{told:#?}");
    drop(held);

    let full = narrow(&database).acquire_timeout(HANG).build().unwrap();
    let held = full.client().await.unwrap();
    records.take(ROUTE);
    timeout(20 * MS, full.client()).await.expect_err("it is taken");
    let told = records.only(ROUTE);
    assert_eq!((told.get(OUTCOME), told.get(NODE), told.get(ERROR_KIND)), ("cancelled", held.node(), ""));
    assert!(told.number(WAIT_CONNECTION) > 0.0, "{told:#?}");
}

#[tokio::test]
async fn calls_succeed_or_are_refused_or_failed_or_timed_out_or_cancelled() {
    let database = database().await;
    let router = router(&database).await;
    let (records, _kept) = Records::keep(Level::DEBUG);
    let client = router.client().await.unwrap();
    let sql = "SELECT $1::text";
    client.query_one(sql, &[&"hunter2"]).await.unwrap();
    // Prepared once.
    let told = records.take(CALL);
    assert_eq!(told.iter().map(|call| call.get(EFFECT)).collect::<Vec<_>>(), ["read", "write"]);
    client.query_one(sql, &[&"hunter2"]).await.unwrap();
    let told = records.only(CALL);
    assert_eq!((told.get(OUTCOME), told.get(NODE), told.get(ERROR_TYPE)), ("succeeded", client.node(), ""));
    assert!(told.number(DURATION) > 0.0 && told.get(SERVER_PORT).parse::<u16>().is_ok(), "{told:#?}");

    client.query("SELECT 'hunter2'::int4", &[]).await.unwrap_err();
    let told = records.take(CALL).pop().unwrap();
    let fields = [OUTCOME, STATUS_CODE, ERROR_TYPE, ERROR_KIND].map(|name| told.get(name));
    assert_eq!(fields, ["failed", "22P02", "22P02", "database"]);
    // No values, and no SQL: the server's own message has both.
    assert!(told.fields.values().all(|value| !value.contains("hunter2") && !value.contains("SELECT")), "{told:#?}");

    let replica = router.client_at(Consistency::Eventual).await.unwrap();
    replica.query("SELECT pg_advisory_lock(1)", &[]).await.unwrap_err();
    let told = records.only(CALL);
    assert_eq!((told.get(OUTCOME), told.get(STATUS_CODE), told.get(ERROR_TYPE)), ("refused", "", "read_only"));
    replica.batch_execute("CREATE TABLE never ()").await.unwrap_err();
    let told = records.only(CALL);
    assert_eq!((told.get(OUTCOME), told.get(STATUS_CODE), told.get(EFFECT)), ("refused", "25006", "read"));

    timeout(50 * MS, client.batch_execute("SELECT pg_sleep(60)")).await.expect_err("it sleeps");
    let told = records.only(CALL);
    assert_eq!((told.get(OUTCOME), told.get(ERROR_TYPE)), ("cancelled", ""));
    drop((client, replica));

    let builder = Router::builder().primary(database.primary_url()).call_timeout(200 * MS).acquire_timeout(HANG);
    let client = builder.build().unwrap().client().await.unwrap();
    records.take(CALL);
    let error = client.batch_execute("SELECT pg_sleep(60)").await.unwrap_err();
    assert!(error.is_outcome_unknown());
    let told = records.only(CALL);
    assert_eq!((told.get(OUTCOME), told.get(ERROR_TYPE)), ("timed_out", "outcome_unknown"));
}

#[tokio::test]
async fn nothing_is_told_of_calls_to_those_who_want_only_what_matters() {
    let database = database().await;
    let (records, _kept) = Records::keep(Level::INFO);
    let builder = Router::builder().primary(database.primary_url()).replica(nobody().await).probe_interval(20 * MS);
    let router = builder.connect().await.unwrap();
    router.client().await.unwrap().query_one("SELECT 1", &[]).await.unwrap();
    assert!(records.take(ROUTE).is_empty() && records.take(CALL).is_empty());
    // The outage matters, and is told once.
    let out = async {
        loop {
            let told = records.take(TOPOLOGY);
            if let Some(told) = told.into_iter().find(|told| told.get(CONDITION).contains("cannot be reached")) {
                return told;
            }
            tokio::time::sleep(MS).await;
        }
    };
    let told = timeout(HANG, out).await.unwrap();
    assert_eq!((told.get(NODE), told.get(ROLE)), (&*router.status().nodes[1].name, "replica"));
}
