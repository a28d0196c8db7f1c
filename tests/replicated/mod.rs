//! What holds on every replicated cluster. The tests are written once, generic over the cluster: `tests/it` runs them on a
//! `LocalCluster`, `tests/docker` on a `DockerCluster`.

pub(crate) mod cluster;
pub(crate) mod event_store;
pub(crate) mod failover;
pub(crate) mod following;
pub(crate) mod races;
pub(crate) mod routing;
pub(crate) mod tokens;

use std::{future::Future, time::Duration};

use mainstem::{
    AppendCondition, Appended, Consistency, EventStore, Filter, History, NewEvent, PostgresEventStore, Router,
    RouterBuilder,
    testing::{TestCluster, TestDatabase, TestNode},
};
use serde_json::json;
use tokio::time::timeout;

/// Far longer than anything here may take: whatever reaches it has hung.
pub(crate) const HANG: Duration = Duration::from_secs(60);

/// Where the clusters of these tests come from.
pub(crate) trait Clusters: 'static {
    type Cluster: TestCluster + 'static;

    /// Whether clusters are possible here. If not, it prints that, and the tests are skipped.
    fn are_possible() -> impl Future<Output = bool> + Send;

    /// A primary and two replicas, shared by all tests that do no harm to nodes.
    fn shared() -> impl Future<Output = &'static Self::Cluster> + Send;

    /// A cluster for a test that harms nodes.
    fn own(replicas: usize) -> impl Future<Output = Self::Cluster> + Send;
}

/// Makes a test of each case of each topic, on this kind of cluster.
macro_rules! replicated_tests {
    ($clusters:ty) => {
        crate::replicated::replicated_tests! { $clusters;
            cluster: each_test_has_a_database_on_all_nodes, who_is_behind_is_named_when_the_wait_is_over,
                a_node_keeps_its_port_and_its_data_over_restarts, a_proxy_stands_in_front_of_a_node,
                what_a_role_does_not_allow_is_refused;
            event_store: append, query, page, following, waits, condition, concurrency, dcb, repeat, fixed_streams, stream, divergence, limits;
            failover: the_application_goes_on_after_a_failover_and_the_old_primary_comes_back_as_a_replica,
                a_promoted_replica_fences_the_primary_that_still_runs,
                without_a_replica_the_primary_reads_and_without_the_primary_only_writes_fail,
                a_frozen_replica_is_left_alone_until_it_answers;
            following: a_replica_is_followed_in_order_and_without_a_hole,
                a_subscription_goes_on_over_a_failover;
            races: decisions_on_stale_replicas_are_refused_and_never_written,
                every_read_of_a_replica_is_the_beginning_of_the_log;
            routing: the_scope_and_the_call_choose_the_node, every_replica_gets_a_share_of_the_eventual_calls,
                a_write_on_a_replica_is_refused_as_such,
                a_bound_is_kept_by_replicas_that_replay_and_by_the_primary_for_those_that_do_not;
            tokens: every_read_at_least_as_new_as_a_write_sees_it_on_a_replica,
                a_replica_that_stands_still_is_passed_over_waited_for_and_replaced,
                a_delayed_replica_is_waited_for, a_session_reads_its_own_writes_and_never_goes_back;
        }
    };
    ($clusters:ty; $($topic:ident: $($case:ident),+;)+) => {
        $(mod $topic {
            $(
                #[tokio::test]
                async fn $case() {
                    if <$clusters as crate::replicated::Clusters>::are_possible().await {
                        crate::replicated::$topic::$case::<$clusters>().await;
                    }
                }
            )+
        })+
    };
}
pub(crate) use replicated_tests;

pub(crate) async fn own<C: Clusters>(replicas: usize) -> C::Cluster {
    timeout(5 * HANG, C::own(replicas)).await.expect("a cluster in time")
}

/// A router with these settings over every node that has a database.
pub(crate) async fn router<C: TestCluster>(
    database: &TestDatabase<'_, C>,
    settings: impl FnOnce(RouterBuilder) -> RouterBuilder,
) -> Router {
    let builder = Router::builder().primary(database.primary_url()).replicas(database.replica_urls());
    // As long as it takes to get a connection on a busy machine.
    let builder = builder.connect_timeout(HANG / 3).acquire_timeout(HANG / 2);
    let builder = settings(builder.probe_interval(Duration::from_millis(100)));
    builder.connect().await.unwrap_or_else(|error| panic!("no router: {}", error.report()))
}

/// A log in its own database, which all nodes have.
pub(crate) async fn log<'a, C: TestCluster>(
    cluster: &'a C,
    settings: impl FnOnce(RouterBuilder) -> RouterBuilder,
) -> (TestDatabase<'a, C>, Router, PostgresEventStore) {
    let database = cluster.database().await.unwrap_or_else(|error| panic!("no database: {}", error.report()));
    let router = router(&database, settings).await;
    let store = PostgresEventStore::new(&router);
    store.migrate().await.unwrap_or_else(|error| panic!("no log: {}", error.report()));
    cluster.wait_until_caught_up().await.unwrap();
    (database, router, store)
}

pub(crate) fn event(event_type: &str) -> NewEvent {
    NewEvent::new(event_type, &json!({})).expect("an event")
}

pub(crate) async fn append(store: &PostgresEventStore, event_type: &str) -> Appended {
    let appended = store.append([event(event_type)], AppendCondition::none()).await;
    appended.unwrap_or_else(|error| panic!("no append: {}", error.report()))
}

pub(crate) async fn read(store: &PostgresEventStore, level: Consistency) -> History {
    let all = Filter::any_event();
    let history = timeout(HANG, store.query(&all).consistency(level).into_future()).await.expect("no hang");
    history.unwrap_or_else(|error| panic!("no answer: {}", error.report()))
}

/// Repeats the check until it holds.
pub(crate) async fn until(what: &str, mut check: impl AsyncFnMut() -> bool) {
    let seen = async {
        while !check().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(HANG, seen).await.unwrap_or_else(|_| panic!("{what}: not within {HANG:?}"));
}

/// Whether this is the router's name for the node.
pub(crate) fn is_node(node: &impl TestNode, name: &str) -> bool {
    name.contains(&format!(":{}", node.port()))
}
