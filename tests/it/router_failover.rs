//! Which node is the primary, and how fresh the replicas are, as the router's probes find out.

use std::time::Duration;

use mainstem::{
    AppendCondition, Consistency, ErrorKind, EventStore, Fallback, Filter, NodeCondition, NodeStatus,
    PostgresEventStore, Role, Router, testing::LocalCluster,
};
use serde_json::json;
use tokio::time::timeout;

use crate::support::{event, started};

/// Far longer than anything here may take: what it ends would have hung.
const HANG: Duration = Duration::from_secs(30);

async fn asking(cluster: &LocalCluster) -> Router {
    let replicas = cluster.replicas().map(|node| node.url());
    let builder = Router::builder().primary(cluster.primary().url()).replicas(replicas);
    builder.probe_interval(Duration::from_millis(50)).connect().await.unwrap()
}

/// Waits until the router knows this of a node.
async fn known(router: &Router, node: usize, what: impl Fn(&NodeStatus) -> bool) {
    let known = async {
        while !what(&router.status().nodes[node]) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(HANG, known).await.unwrap_or_else(|_| panic!("{:#?}", router.status()));
}

#[tokio::test]
async fn a_promoted_replica_is_the_primary_and_the_old_one_gets_no_write_any_more() {
    let cluster = started(LocalCluster::builder()).await;
    let router = asking(&cluster).await;
    let store = PostgresEventStore::new(&router);
    store.migrate().await.unwrap();
    store.append([event("A", json!({}))], AppendCondition::none()).await.unwrap();
    cluster.wait_until_caught_up().await.unwrap();
    let before = router.status();
    assert_eq!((before.timeline, before.nodes[1].timeline, before.nodes[1].generation), (Some(1), Some(1), 0));
    let old = router.client().await.unwrap();
    old.batch_execute("CREATE TABLE written ()").await.unwrap();

    cluster.replica(0).promote().await.unwrap();
    let new = before.nodes[1].name.clone();
    let found = async {
        while router.status().primary.known() != Some(&new) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(HANG, found).await.expect("the new primary is found");
    let after = router.status();
    assert_eq!((after.timeline, after.nodes[1].role, after.nodes[1].generation), (Some(2), Role::Primary, 1));
    assert_eq!(after.nodes[0].condition, NodeCondition::Fenced);

    // The old one still takes writes, but not from here; also not on a connection that somebody has.
    let error = old.batch_execute("INSERT INTO written DEFAULT VALUES").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", error.report());
    for position in 2..10 {
        let appended = store.append([event("B", json!({}))], AppendCondition::none()).await.unwrap();
        assert_eq!(appended.first_position(), position);
    }
    let client = router.client().await.unwrap();
    assert_eq!((client.node(), client.role()), (&*before.nodes[1].name, Role::Primary));
    let history = store.query(&Filter::any_event()).consistency(Consistency::Eventual).await.unwrap();
    assert_eq!((history.role(), history.len()), (Role::Primary, 9), "it has no replica now");
}

#[tokio::test]
async fn a_bound_is_kept_by_replicas_that_replay_and_by_the_primary_for_those_that_do_not() {
    let cluster = started(LocalCluster::builder()).await;
    let router = asking(&cluster).await;
    let primary = router.client().await.unwrap();
    primary.batch_execute("CREATE TABLE t (a int4)").await.unwrap();
    cluster.wait_until_caught_up().await.unwrap();
    let bound = Duration::from_secs(2);
    let read = async || router.client_at(Consistency::Bounded(bound)).await.unwrap().role();
    known(&router, 1, |node| node.staleness.is_some_and(|age| age < bound)).await;
    assert_eq!(read().await, Role::Replica);
    let replica = router.client_at(Consistency::Eventual).await.unwrap();

    // Nothing is replayed, but there is nothing to replay: an idle primary leaves nobody behind.
    replica.batch_execute("SELECT pg_wal_replay_pause()").await.unwrap();
    tokio::time::sleep(bound + Duration::from_millis(500)).await;
    assert_eq!(read().await, Role::Replica, "{:#?}", router.status());

    primary.batch_execute("INSERT INTO t VALUES (1)").await.unwrap();
    known(&router, 1, |node| node.lag.is_some_and(|lag| lag > bound)).await;
    let node = router.status().nodes[1].clone();
    assert!(node.lag_bytes.is_some_and(|bytes| bytes > 0) && node.staleness > Some(bound), "{node:#?}");
    assert_eq!(read().await, Role::Primary);
    assert_eq!(router.client_at(Consistency::Eventual).await.unwrap().role(), Role::Replica);

    replica.batch_execute("SELECT pg_wal_replay_resume()").await.unwrap();
    known(&router, 1, |node| node.staleness.is_some_and(|age| age < bound)).await;
    assert_eq!(read().await, Role::Replica);
}

#[tokio::test]
async fn a_bound_also_holds_after_waiting_for_a_connection() {
    let cluster = started(LocalCluster::builder()).await;
    let builder = Router::builder().primary(cluster.primary().url()).replica(cluster.replica(0).url());
    let builder = builder.probe_interval(Duration::from_millis(50)).max_connections(2).connect_timeout(HANG);
    let router = builder.acquire_timeout(HANG).connect().await.unwrap();
    let primary = router.client().await.unwrap();
    primary.batch_execute("CREATE TABLE t (a int4)").await.unwrap();
    cluster.wait_until_caught_up().await.unwrap();
    let bound = Duration::from_millis(700);
    known(&router, 1, |node| node.staleness.is_some_and(|age| age < bound / 2)).await;
    let replica = [
        router.client_at(Consistency::Eventual).await.unwrap(),
        router.client_at(Consistency::Eventual).await.unwrap(),
    ];
    assert!(replica.iter().all(|client| client.role() == Role::Replica));
    known(&router, 1, |node| node.staleness.is_some_and(|age| age < bound / 2)).await;
    let waiting = tokio::spawn(router.client_at(Consistency::Bounded(bound)));
    known(&router, 1, |node| node.in_flight == 3).await;
    replica[0].batch_execute("SELECT pg_wal_replay_pause()").await.unwrap();
    primary.batch_execute("INSERT INTO t VALUES (1)").await.unwrap();
    // Nobody can ask it while both connections are out: what was known grows old.
    tokio::time::sleep(2 * bound).await;
    drop(replica);
    assert_eq!(timeout(HANG, waiting).await.unwrap().unwrap().unwrap().role(), Role::Primary);
}

#[tokio::test]
async fn a_node_that_is_back_is_noticed_without_a_call() {
    let cluster = started(LocalCluster::builder()).await;
    let router = asking(&cluster).await;
    cluster.replica(0).kill().await.unwrap();
    known(&router, 1, |node| matches!(node.condition, NodeCondition::Ejected { .. })).await;
    cluster.replica(0).start().await.unwrap();
    known(&router, 1, |node| !matches!(node.condition, NodeCondition::Ejected { .. })).await;
    assert_eq!(router.client_at(Consistency::Eventual).await.unwrap().role(), Role::Replica);
}

#[tokio::test]
async fn a_server_that_hides_its_control_data_is_asked_for_the_rest_and_for_that_once() {
    let cluster = started(LocalCluster::builder().replicas(0)).await;
    let admin = Router::builder().primary(cluster.primary().url()).connect().await.unwrap();
    let hide = "CREATE ROLE plain LOGIN PASSWORD 'p';
                REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC";
    admin.client().await.unwrap().batch_execute(hide).await.unwrap();
    let url = cluster.primary().url();
    let (_, address) = url.split_once('@').unwrap();
    let builder = Router::builder().primary(format!("postgres://plain:p@{address}"));
    let router = builder.probe_interval(Duration::from_millis(20)).connect().await.unwrap();
    let place = router.status().nodes[0].lsn;
    admin.client().await.unwrap().batch_execute("CREATE TABLE t ()").await.unwrap();
    known(&router, 0, |node| node.lsn > place).await;
    let node = &router.status().nodes[0];
    assert_eq!((node.system_identifier, node.timeline), (None, Some(1)));
    let log = cluster.primary().log().unwrap();
    assert_eq!(log.matches("permission denied for function pg_control_system").count(), 1, "{log}");
}

/// Without pg_read_all_stats nobody is told which timeline a replica receives.
#[tokio::test]
async fn a_replica_that_hides_its_timeline_from_us_serves_after_a_failover() {
    let cluster = started(LocalCluster::builder().replicas(2)).await;
    let admin = asking(&cluster).await;
    admin.client().await.unwrap().batch_execute("CREATE ROLE plain LOGIN PASSWORD 'p'").await.unwrap();
    cluster.wait_until_caught_up().await.unwrap();
    let plain = |url: String| format!("postgres://plain:p@{}", url.split('@').nth(1).unwrap());
    let urls = cluster.nodes().iter().map(|node| plain(node.url()));
    let mut builder = Router::builder().probe_interval(Duration::from_millis(50)).fallback(Fallback::Never);
    for (index, url) in urls.enumerate() {
        builder = if index == 0 { builder.primary(url) } else { builder.replica(url) };
    }
    let router = builder.connect().await.unwrap();
    let old = cluster.primary();
    cluster.replica(0).promote().await.unwrap();
    cluster.nodes()[2].rejoin().await.unwrap();
    old.stop().await.unwrap();
    known(&router, 1, |node| node.timeline == Some(2)).await;
    // It follows the new primary, but its last restart point is on the old timeline.
    known(&router, 2, |node| {
        node.is_receiving == Some(true) && node.timeline.is_none() && node.condition != NodeCondition::OlderTimeline
    })
    .await;
    // It was out of service if a probe came while it started anew: then a first call tries it, and only its answer counts.
    let serves = async {
        loop {
            if let Ok(client) = router.client_at(Consistency::Eventual).await
                && client.query_one("SELECT 1", &[]).await.is_ok()
            {
                break client.node().to_owned();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let node = timeout(HANG, serves).await.expect("it is used");
    assert_eq!(node, *router.status().nodes[2].name);
    // Who may know is told.
    known(&admin, 2, |node| node.timeline == Some(2)).await;
}

#[tokio::test]
async fn a_clone_that_was_promoted_fences_the_primary_until_it_is_forgotten() {
    let cluster = started(LocalCluster::builder()).await;
    let router = asking(&cluster).await;
    let [primary, clone] = [0, 1].map(|node| router.status().nodes[node].name.clone());
    let clone_node = cluster.replica(0);
    clone_node.promote().await.unwrap();
    known(&router, 1, |node| node.timeline == Some(2)).await;
    clone_node.stop().await.unwrap();
    // Nobody can know that it was a mistake.
    known(&router, 1, |node| matches!(node.condition, NodeCondition::Ejected { .. })).await;
    assert_eq!(router.status().primary.known(), Some(&clone));
    assert!(router.client().await.is_err());
    assert_eq!(router.forget("nobody:1").unwrap_err().kind(), ErrorKind::InvalidInput);
    router.forget(&clone).unwrap();
    let status = router.status();
    assert_eq!((status.primary.known(), status.timeline), (Some(&primary), Some(1)));
    let client = timeout(HANG, router.client()).await.unwrap().unwrap();
    client.batch_execute("CREATE TABLE written ()").await.unwrap();
    assert_eq!(client.node(), &*primary);
    // It tells the same again, if nobody has made it what it should be.
    clone_node.start().await.unwrap();
    known(&router, 1, |node| node.timeline == Some(2)).await;
    assert_eq!(router.status().primary.known(), Some(&clone));
}

#[tokio::test]
async fn nobody_asks_any_more_when_the_router_is_gone() {
    let cluster = started(LocalCluster::builder().replicas(0)).await;
    let router = asking(&cluster).await;
    let url = cluster.primary().url();
    tokio::time::sleep(Duration::from_millis(200)).await;
    drop(router);
    let observer = Router::builder().primary(url).probe_interval(None).max_connections(1).connect().await.unwrap();
    let client = observer.client().await.unwrap();
    let others =
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'mainstem' AND pid <> pg_backend_pid()";
    let gone = async { while client.query_one(others, &[]).await.unwrap().get::<_, i64>(0) > 0 {} };
    timeout(HANG, gone).await.expect("its connections are closed");
}
