//! Which node serves.

use std::{collections::BTreeMap, time::Duration};

use mainstem::{
    Consistency, ErrorKind, EventStore, Filter, Role,
    testing::{TestCluster, TestNode},
    with_eventual_consistency, with_strong_consistency,
};

use super::{Clusters, append, log, own, read, until};

async fn is_in_recovery(client: &mainstem::Client) -> bool {
    client.query_one("SELECT pg_is_in_recovery()", &[]).await.unwrap().get(0)
}

pub(crate) async fn the_scope_and_the_call_choose_the_node<C: Clusters>() {
    let cluster = C::shared().await;
    let (_database, router, store) = log(cluster, |builder| builder).await;
    let all = Filter::any_event();
    with_eventual_consistency(async { append(&store, "A").await }).await;
    cluster.wait_until_caught_up().await.unwrap();
    let strong = store.query(&all).await.unwrap();
    let eventual = with_eventual_consistency(async { store.query(&all).await.unwrap() }).await;
    let inner = with_eventual_consistency(with_strong_consistency(async { store.query(&all).await.unwrap() })).await;
    let called = store.query(&all).consistency(Consistency::Eventual).await.unwrap();
    let roles = [strong, eventual, inner, called].map(|history| (history.role(), history.len()));
    assert_eq!(roles, [(Role::Primary, 1), (Role::Replica, 1), (Role::Primary, 1), (Role::Replica, 1)]);
    // The servers themselves say the same of connections for any SQL.
    let client = router.client().await.unwrap();
    assert_eq!((client.role(), is_in_recovery(&client).await), (Role::Primary, false));
    let client = with_eventual_consistency(async { router.client().await.unwrap() }).await;
    assert_eq!((client.role(), is_in_recovery(&client).await), (Role::Replica, true));
}

pub(crate) async fn every_replica_gets_a_share_of_the_eventual_calls<C: Clusters>() {
    let (_database, router, _store) = log(C::shared().await, |builder| builder).await;
    let mut nodes = BTreeMap::<String, usize>::new();
    for _ in 0..60 {
        let client = router.client_at(Consistency::Eventual).await.unwrap();
        assert!(is_in_recovery(&client).await);
        *nodes.entry(client.node().to_owned()).or_default() += 1;
    }
    assert!(nodes.len() == 2 && nodes.values().all(|&share| share > 10), "{nodes:?}");
}

pub(crate) async fn a_write_on_a_replica_is_refused_as_such<C: Clusters>() {
    let (_database, router, _store) = log(C::shared().await, |builder| builder).await;
    let client = router.client_at(Consistency::Eventual).await.unwrap();
    let error = client.batch_execute("CREATE TABLE t ()").await.unwrap_err();
    assert_eq!((error.kind(), error.node()), (ErrorKind::ReadOnly, Some(client.node())));
}

pub(crate) async fn a_bound_is_kept_by_replicas_that_replay_and_by_the_primary_for_those_that_do_not<C: Clusters>() {
    let cluster = own::<C>(1).await;
    let (_database, router, store) = log(&cluster, |builder| builder).await;
    let bound = Duration::from_secs(2);
    let bounded = async || read(&store, Consistency::Bounded(bound)).await.role();
    until("a fresh replica", async || bounded().await == Role::Replica).await;
    cluster.replica(0).pause_replay().await.unwrap();
    append(&store, "A").await;
    until("a replica known to lag", async || router.status().nodes[1].lag.is_some_and(|lag| lag > bound)).await;
    let present = read(&store, Consistency::Bounded(bound)).await;
    let past = read(&store, Consistency::Eventual).await;
    assert_eq!((present.role(), present.len()), (Role::Primary, 1));
    assert_eq!((past.role(), past.len()), (Role::Replica, 0), "it shows the past, and says so");
    cluster.replica(0).resume_replay().await.unwrap();
    until("a replica that is fresh again", async || bounded().await == Role::Replica).await;
}
