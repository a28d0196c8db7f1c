//! What happens to reads when no replica can serve them, and what the router reports about itself.

use std::time::{Duration, Instant};

use mainstem::{
    Consistency, EjectionCause, ErrorKind, Fallback, NodeCondition, ReplicaOptions, Role, Router, testing::TestDatabase,
};
use tokio::{net::TcpListener, time::timeout};

use crate::support::database;

/// Far longer than anything here may take: what it ends would have hung.
const HANG: Duration = Duration::from_secs(30);

/// A router over a real primary, and a replica that nobody can reach.
async fn lonely(database: &TestDatabase<'_>) -> mainstem::RouterBuilder {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = format!("postgres://nobody@{}/x", listener.local_addr().unwrap());
    Router::builder().primary(database.primary_url()).replica(nobody).fallback_wait(Duration::from_millis(200))
}

#[tokio::test]
async fn without_replicas_the_primary_takes_over_no_more_reads_than_it_may() {
    let database = database().await;
    let router = lonely(&database).await.fallback_concurrency(1).connect().await.unwrap();
    let read = || timeout(HANG, router.client_at(Consistency::Eventual));
    let held = read().await.unwrap().unwrap();
    assert_eq!(held.role(), Role::Primary);
    let started = Instant::now();
    let error = read().await.unwrap().unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    assert_eq!(error.kind(), ErrorKind::ReplicasUnavailable, "{}", error.report());
    assert!(error.is_retryable());
    let report = error.report();
    // A call finds out now and then, and says what the network said.
    let why = report.contains("it cannot be reached") || report.contains("refused");
    assert!(report.contains("(1 at once)") && why, "{report}");
    assert_eq!(router.status().fallback.in_flight, 1);
    // Who needs the primary has it.
    router.client().await.unwrap().query_one("SELECT 1", &[]).await.unwrap();
    // Who waits gets the place that becomes free.
    let waiting = tokio::spawn(router.client_at(Consistency::Eventual));
    tokio::time::sleep(Duration::from_millis(50)).await;
    drop(held);
    assert_eq!(timeout(HANG, waiting).await.unwrap().unwrap().unwrap().role(), Role::Primary);
    assert_eq!(router.status().fallback.in_flight, 0);
}

#[tokio::test]
async fn a_call_that_gives_up_waiting_for_the_primary_leaves_no_place_taken() {
    let database = database().await;
    let router = lonely(&database).await.fallback_concurrency(1).fallback_wait(HANG).connect().await.unwrap();
    let held = router.client_at(Consistency::Eventual).await.unwrap();
    for _ in 0..20 {
        timeout(Duration::from_millis(5), router.client_at(Consistency::Eventual)).await.expect_err("it is taken");
    }
    drop(held);
    for _ in 0..20 {
        timeout(HANG, router.client_at(Consistency::Eventual)).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn reads_that_the_primary_takes_over_wait_for_their_turn() {
    let database = database().await;
    let router = lonely(&database).await.fallback_rate(10).fallback_wait(HANG).connect().await.unwrap();
    let started = Instant::now();
    for _ in 0..15 {
        timeout(HANG, router.client_at(Consistency::Eventual)).await.unwrap().unwrap();
    }
    // Ten in one go, and one in each tenth of a second.
    assert!(started.elapsed() > Duration::from_millis(400), "{:?}", started.elapsed());
}

#[tokio::test]
async fn the_primary_may_take_over_everything_or_nothing() {
    let database = database().await;
    let router = lonely(&database).await.fallback(Fallback::Unlimited).connect().await.unwrap();
    let reads = (0..8).map(|_| router.client_at(Consistency::Eventual));
    let clients = futures_util::future::try_join_all(reads).await.unwrap();
    assert!(clients.iter().all(|client| client.role() == Role::Primary));
    drop(clients);
    let router = lonely(&database).await.fallback(Fallback::Never).connect().await.unwrap();
    for _ in 0..3 {
        let error = timeout(HANG, router.client_at(Consistency::Eventual)).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ReplicasUnavailable, "{}", error.report());
        assert!(error.report().contains("the settings"), "{}", error.report());
    }
    router.client().await.unwrap();
}

#[tokio::test]
async fn the_status_says_who_serves_and_why_not() {
    let database = database().await;
    let router = lonely(&database).await.replicas(database.replica_urls()).connect().await.unwrap();
    let client = router.client_at(Consistency::Eventual).await.unwrap();
    client.query_one("SELECT 1", &[]).await.unwrap();
    // Somebody finds out.
    while router.status().nodes[1].condition == NodeCondition::Serving {
        router.client_at(Consistency::Eventual).await.unwrap();
    }
    let status = router.status();
    let primary = router.client().await.unwrap();
    assert_eq!(status.primary.known().map(|name| &**name), Some(primary.node()));
    let state = status.nodes[1].condition.clone();
    assert!(matches!(state, NodeCondition::Ejected { cause: EjectionCause::Unreachable, .. }), "{state:?}");
    let serving = status.nodes.iter().find(|node| &*node.name == client.node()).unwrap();
    assert_eq!(
        (serving.role, serving.condition.clone(), serving.in_flight),
        (Role::Replica, NodeCondition::Serving, 1)
    );
    assert!(serving.latency.is_some_and(|latency| latency < HANG) && serving.capacity == Some(10));
    drop(client);
    assert!(router.status().nodes.iter().skip(1).all(|node| node.in_flight == 0));
}

#[tokio::test]
async fn reads_stay_in_their_zone_while_it_has_a_free_connection() {
    let database = database().await;
    let [near, far] = <[String; 2]>::try_from(database.replica_urls()).unwrap();
    let builder = Router::builder().primary(database.primary_url()).zone("a").max_connections(2);
    let builder = builder.replica_with(near, ReplicaOptions::new().zone("a"));
    let router = builder.replica_with(far, ReplicaOptions::new().zone("b")).connect().await.unwrap();
    let read = || async { timeout(HANG, router.client_at(Consistency::Eventual)).await.unwrap().unwrap() };
    let held = [read().await, read().await, read().await];
    let near = held[0].node();
    assert_eq!(held.each_ref().map(|client| client.node() == near), [true, true, false]);
    assert!(held.iter().all(|client| client.role() == Role::Replica));
}
