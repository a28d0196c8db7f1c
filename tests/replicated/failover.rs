//! Nodes that are lost, come back, and change their roles.

use std::time::Duration;

use mainstem::{
    AppendCondition, Consistency, ErrorKind, EventStore, PostgresEventStore, Role, RouterBuilder,
    testing::{TestCluster, TestNode},
};
use tokio::time::timeout;

use super::{Clusters, HANG, append, event, is_node, log, own, read, until};

fn impatient(builder: RouterBuilder) -> RouterBuilder {
    let builder = builder.connect_timeout(Duration::from_millis(500)).acquire_timeout(Duration::from_secs(3));
    builder.call_timeout(Duration::from_secs(3))
}

async fn try_append(store: &PostgresEventStore) -> mainstem::Result<()> {
    let append = store.append([event("A")], AppendCondition::none());
    timeout(HANG, append.into_future()).await.expect("no hang").map(drop)
}

pub(crate) async fn the_application_goes_on_after_a_failover_and_the_old_primary_comes_back_as_a_replica<
    C: Clusters,
>() {
    let cluster = own::<C>(2).await;
    let (_database, router, store) = log(&cluster, impatient).await;
    append(&store, "Before").await;
    cluster.wait_until_caught_up().await.unwrap();
    let [old, new, third] = [cluster.primary(), cluster.replica(0), cluster.replica(1)];
    old.kill().await.unwrap();
    new.promote().await.unwrap();
    assert_eq!(cluster.primary().name(), new.name());
    until("an append on the new primary", async || try_append(&store).await.is_ok()).await;
    let strong = read(&store, Consistency::Strong).await;
    assert!(is_node(new, strong.node()), "{}", strong.node());
    assert_eq!(strong.iter().next().unwrap().event_type().to_string(), "Before");

    old.rejoin().await.unwrap();
    third.rejoin().await.unwrap();
    cluster.wait_until_caught_up().await.unwrap();
    assert!(old.is_in_recovery().await.unwrap() && third.is_in_recovery().await.unwrap());
    for node in [old, third] {
        let what = format!("eventual reads by {}", node.name());
        until(&what, async || is_node(node, read(&store, Consistency::Eventual).await.node())).await;
    }
    let level = Consistency::AtLeast(append(&store, "After").await.token().clone());
    let history = read(&store, level).await;
    assert_eq!(history.iter().last().unwrap().event_type().to_string(), "After");
    assert_eq!(router.status().timeline, Some(2));
}

pub(crate) async fn a_promoted_replica_fences_the_primary_that_still_runs<C: Clusters>() {
    let cluster = own::<C>(1).await;
    let (_database, router, store) = log(&cluster, |builder| builder).await;
    append(&store, "A").await;
    cluster.wait_until_caught_up().await.unwrap();
    let (old, new) = (cluster.primary(), cluster.replica(0));
    let held = router.client().await.unwrap();
    new.promote().await.unwrap();
    until("the new primary", async || router.status().primary.known().is_some_and(|name| is_node(new, name))).await;
    // The old primary still accepts writes, but not through this router, not even on a connection that a caller already
    // holds.
    assert!(!old.is_in_recovery().await.unwrap());
    held.batch_execute("CREATE TABLE t ()").await.unwrap_err();
    for position in 2..10 {
        let appended = append(&store, "B").await;
        assert!(is_node(new, appended.node()) && appended.first_position() == position, "{appended:?}");
    }
}

pub(crate) async fn without_a_replica_the_primary_reads_and_without_the_primary_only_writes_fail<C: Clusters>() {
    let cluster = own::<C>(1).await;
    let (_database, _router, store) = log(&cluster, impatient).await;
    append(&store, "A").await;
    cluster.wait_until_caught_up().await.unwrap();
    let role = async || {
        let history = read(&store, Consistency::Eventual).await;
        assert_eq!(history.len(), 1);
        history.role()
    };
    assert_eq!(role().await, Role::Replica);
    cluster.replica(0).kill().await.unwrap();
    for _ in 0..20 {
        assert_eq!(role().await, Role::Primary);
    }
    cluster.replica(0).start().await.unwrap();
    until("reads by the replica that is back", async || role().await == Role::Replica).await;

    cluster.primary().stop().await.unwrap();
    for _ in 0..5 {
        let error = try_append(&store).await.unwrap_err();
        let kinds = [ErrorKind::Unavailable, ErrorKind::Timeout, ErrorKind::OutcomeUnknown];
        assert!(kinds.contains(&error.kind()), "{}", error.report());
        assert_eq!(role().await, Role::Replica);
    }
    cluster.primary().start().await.unwrap();
    until("an append on the primary that is back", async || try_append(&store).await.is_ok()).await;
}

pub(crate) async fn a_frozen_replica_is_left_alone_until_it_answers<C: Clusters>() {
    let cluster = own::<C>(1).await;
    let settings = |builder| impatient(builder).call_timeout(Duration::from_millis(500));
    let (_database, router, store) = log(&cluster, settings).await;
    let ask = async || {
        let client = router.client_at(Consistency::Eventual).await?;
        client.query_one("SELECT 1", &[]).await.map(|_| client.role())
    };
    until("reads by the replica", async || matches!(ask().await, Ok(Role::Replica))).await;
    cluster.replica(0).freeze().await.unwrap();
    let mut in_a_row = 0;
    until("reads by the primary", async || {
        in_a_row = if matches!(ask().await, Ok(Role::Primary)) { in_a_row + 1 } else { 0 };
        in_a_row == 20
    })
    .await;
    try_append(&store).await.unwrap();
    cluster.replica(0).thaw().await.unwrap();
    until("reads by the replica that answers", async || matches!(ask().await, Ok(Role::Replica))).await;
}
