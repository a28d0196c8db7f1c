//! What the router does when the cluster changes at a bad moment: while a call waits, between two probes, in a runtime that is
//! shutting down.

use std::time::Duration;

use futures_util::future::try_join_all;
use mainstem::{
    AppendCondition, Consistency, EventStore, Fallback, Filter, PostgresEventStore, Role, Router, RouterBuilder,
    testing::{Direction, LocalCluster},
};
use serde_json::json;
use tokio::{
    runtime::Runtime,
    time::{Instant, sleep},
};

use crate::support::{event, started};

const MS: Duration = Duration::from_millis(1);
const LIMIT: Duration = Duration::from_secs(20);

fn both(cluster: &LocalCluster) -> RouterBuilder {
    Router::builder().primary(cluster.primary().url()).replica(cluster.replica(0).url())
}

/// Waits until the router says this of itself.
async fn until(router: &Router, what: impl Fn(&Router) -> bool) {
    let start = Instant::now();
    while !what(router) {
        assert!(start.elapsed() < LIMIT, "{:?}", router.status());
        sleep(MS).await;
    }
}

#[tokio::test]
async fn a_strong_read_that_waited_for_the_old_primary_is_served_by_the_new_one() {
    let cluster = started(LocalCluster::builder()).await;
    let router = both(&cluster).probe_interval(50 * MS).max_connections(2).connect().await.unwrap();
    let store = PostgresEventStore::new(&router);
    store.migrate().await.unwrap();
    store.append([event("A", json!({}))], AppendCondition::none()).await.unwrap();
    store.close().await;
    cluster.wait_until_caught_up().await.unwrap();
    let store = PostgresEventStore::new(&router);
    let held = [router.client().await.unwrap(), router.client().await.unwrap()];
    let reading = tokio::spawn({
        let store = store.clone();
        async move { store.query(&Filter::any_event()).await }
    });
    sleep(100 * MS).await;
    cluster.replica(0).promote().await.unwrap();
    let new = router.status().nodes[1].name.clone();
    until(&router, |router| router.status().primary.known() == Some(&new)).await;
    for _ in 0..5 {
        store.append([event("B", json!({}))], AppendCondition::none()).await.unwrap();
    }
    drop(held);
    let history = reading.await.unwrap().unwrap();
    assert_eq!((history.len(), history.node()), (6, &*new));
}

/// It may come back with less than it had, until it has replayed that again. It is asked, and its answer comes later than the
/// next read.
#[tokio::test]
async fn a_replica_that_was_restarted_between_two_probes_is_not_known_to_be_fresh() {
    let cluster = started(LocalCluster::builder()).await;
    // Or its only probe would find it behind.
    cluster.wait_until_caught_up().await.unwrap();
    let proxy = cluster.replica(0).proxy().unwrap();
    let builder = Router::builder().primary(cluster.primary().url()).replica(cluster.replica(0).url_through(&proxy));
    let router = builder.probe_interval(Duration::from_secs(30)).build().unwrap();
    let bounded = || router.client_at(Consistency::Bounded(Duration::from_secs(60)));
    until(&router, |router| router.status().nodes[1].staleness.is_some()).await;
    assert_eq!(bounded().await.unwrap().role(), Role::Replica);
    cluster.replica(0).kill().await.unwrap();
    cluster.replica(0).start().await.unwrap();
    proxy.delay(Direction::ToClient, 100 * MS);
    // In pieces: what has arrived meanwhile is heard between two of them, even if the machine was busy all the while.
    for _ in 0..30 {
        sleep(10 * MS).await;
    }
    // Whoever finds the closed connection knows no more than that.
    assert_eq!(bounded().await.unwrap().role(), Role::Primary);
    until(&router, |router| router.status().nodes[1].staleness.is_some()).await;
    assert_eq!(bounded().await.unwrap().role(), Role::Replica);
}

#[cfg(feature = "bb8")]
#[tokio::test]
async fn a_borrowed_pool_that_is_busy_is_not_taken_for_a_dead_node() {
    let cluster = started(LocalCluster::builder()).await;
    let url = cluster.replica(0).url();
    let manager = bb8_postgres::PostgresConnectionManager::new_from_stringlike(url, tokio_postgres::NoTls).unwrap();
    let pool = bb8::Pool::builder().max_size(1).build(manager).await.unwrap();
    let builder = Router::builder().primary(cluster.primary().url()).replica_pool(pool);
    let router = builder.connect_timeout(300 * MS).probe_interval(100 * MS).connect().await.unwrap();
    let client = router.client_at(Consistency::Eventual).await.unwrap();
    assert_eq!(client.role(), Role::Replica);
    for _ in 0..20 {
        sleep(100 * MS).await;
        client.query_one("SELECT 1", &[]).await.unwrap();
        let condition = router.status().nodes[1].condition.clone();
        assert!(matches!(condition, mainstem::NodeCondition::Serving), "{condition:?}");
    }
}

#[test]
fn a_router_outlives_the_runtime_that_made_it() {
    let runtime = Runtime::new().unwrap();
    let cluster = runtime.block_on(started(LocalCluster::builder()));
    let first = Runtime::new().unwrap();
    let router = first.block_on(both(&cluster).probe_interval(50 * MS).connect()).unwrap();
    drop(first);
    runtime.block_on(async {
        cluster.nodes()[0].stop().await.unwrap();
        cluster.replica(0).promote().await.unwrap();
        let start = Instant::now();
        while let Err(error) = router.client().await {
            assert!(start.elapsed() < LIMIT, "{}", error.report());
            sleep(50 * MS).await;
        }
    });
}

#[tokio::test]
async fn the_servers_error_is_reported_when_no_other_node_can_serve() {
    let cluster = started(LocalCluster::builder()).await;
    let router = both(&cluster).fallback(Fallback::Never).connect().await.unwrap();
    let store = PostgresEventStore::new(&router);
    let error = store.query(&Filter::any_event()).consistency(Consistency::Eventual).await.unwrap_err();
    assert_eq!(error.sqlstate(), Some("42P01"), "{}", error.report());
    assert_eq!(error.kind(), mainstem::ErrorKind::Schema);
}

/// The settings of an application are older than the last failover.
#[tokio::test]
async fn an_application_starts_with_the_settings_of_yesterday() {
    let cluster = started(LocalCluster::builder().replicas(2)).await;
    let urls: Vec<String> = cluster.nodes().iter().map(|node| node.url()).collect();
    let builder = || Router::builder().primary(&urls[0]).replica(&urls[1]).replica(&urls[2]);
    cluster.replica(0).promote().await.unwrap();
    let serves = async |what: &str| {
        let router = builder().connect().await.unwrap_or_else(|error| panic!("{what}: {}", error.report()));
        let client = router.client().await.unwrap();
        assert_eq!(client.node(), &*router.status().nodes[1].name, "{what}");
        client.batch_execute("CREATE TABLE IF NOT EXISTS here ()").await.unwrap();
    };
    serves("with the old primary still there").await;
    cluster.nodes()[0].stop().await.unwrap();
    serves("with the old primary stopped").await;
    // Nobody who leads: the settings are wrong, or the cluster is.
    cluster.nodes()[1].stop().await.unwrap();
    let Err(error) = builder().connect().await else { panic!("nobody leads") };
    assert!(matches!(error.kind(), mainstem::ErrorKind::Unavailable), "{}", error.report());
}

/// Nobody has been asked when the first call comes.
#[tokio::test]
async fn the_first_calls_go_to_who_is_the_primary_now() {
    let cluster = started(LocalCluster::builder().replicas(2)).await;
    let urls: Vec<String> = cluster.nodes().iter().map(|node| node.url()).collect();
    let builder = || Router::builder().primary(&urls[0]).replica(&urls[1]).replica(&urls[2]);
    cluster.replica(0).promote().await.unwrap();
    for _ in 0..20 {
        let router = builder().build().unwrap();
        // Nobody knows yet how fresh a replica is, so a bounded read gets the primary, too.
        let level = |n| if n % 2 == 0 { Consistency::Strong } else { Consistency::Bounded(LIMIT) };
        let clients = try_join_all((0..4).map(|n| router.client_at(level(n)))).await.unwrap();
        let new = router.status().nodes[1].name.clone();
        assert!(clients.iter().all(|client| client.node() == &*new));
    }
    // Who does not answer is waited for, and then left aside.
    let proxy = cluster.nodes()[2].proxy().unwrap();
    proxy.silence(Direction::Both);
    let builder =
        || Router::builder().primary(&urls[0]).replica(&urls[1]).replica(cluster.primary().url_through(&proxy));
    let router = builder().connect_timeout(300 * MS).build().unwrap();
    assert_eq!(router.client().await.unwrap().node(), &*router.status().nodes[1].name);
    // Without the time for that, nothing is sent to a primary that may be none.
    let router = builder().connect_timeout(LIMIT).acquire_timeout(200 * MS).build().unwrap();
    let error = router.client().await.unwrap_err();
    assert!(error.is_retryable() && error.to_string().contains(&proxy.address().to_string()), "{}", error.report());
    // Nobody asks: then the settings are all there is to go by.
    let router = builder().probe_interval(None).build().unwrap();
    assert_eq!(router.client().await.unwrap().node(), &*router.status().nodes[0].name);
}
