//! When and why a node is taken out of service.

use std::time::Duration;

use futures_util::TryStreamExt;
use mainstem::{
    AppendCondition, Consistency, EjectionCause, Error, EventStore, Fallback, Filter, NodeCondition,
    PostgresEventStore, Role, Router, RouterBuilder,
    testing::{Direction, LocalCluster},
};
use serde_json::json;
use tokio::time::{sleep, timeout};

use crate::support::{cluster, database, event, started, store};

/// Far longer than anything here may take: what it ends would have hung.
const HANG: Duration = Duration::from_secs(30);
const MS: Duration = Duration::from_millis(1);

/// Waits until the router says this of itself.
async fn until(router: &Router, what: impl Fn(&Router) -> bool) {
    let known = async {
        while !what(router) {
            sleep(MS).await;
        }
    };
    timeout(HANG, known).await.unwrap_or_else(|_| panic!("{:#?}", router.status()));
}

fn cause(router: &Router, node: usize) -> Option<EjectionCause> {
    match router.status().nodes[node].condition {
        NodeCondition::Ejected { cause, .. } => Some(cause),
        _ => None,
    }
}

fn both(cluster: &LocalCluster) -> RouterBuilder {
    Router::builder().primary(cluster.primary().url()).replica(cluster.replica(0).url())
}

#[tokio::test]
async fn a_promotion_is_noticed_while_all_connections_to_the_promoted_node_are_in_use() {
    let cluster = started(LocalCluster::builder()).await;
    let router = both(&cluster).max_connections(1).probe_interval(50 * MS).connect().await.unwrap();
    let held = router.client_at(Consistency::Eventual).await.unwrap();
    assert_eq!(held.role(), Role::Replica);
    let new = router.status().nodes[1].name.clone();
    cluster.replica(0).promote().await.unwrap();
    until(&router, |router| router.status().primary.known() == Some(&new)).await;
    drop(held);
    let client = timeout(HANG, router.client()).await.unwrap().unwrap();
    assert_eq!(client.node(), &*new);
    // What was opened for the question is closed again.
    let others =
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'mainstem' AND pid <> pg_backend_pid()";
    let closed = async { while client.query_one(others, &[]).await.unwrap().get::<_, i64>(0) > 1 {} };
    timeout(HANG, closed).await.expect("no connection is left over");
}

#[tokio::test]
async fn silence_is_noticed_while_all_connections_are_in_use() {
    let database = database().await;
    let proxy = cluster().await.replica(0).proxy().unwrap();
    let builder = Router::builder().primary(database.primary_url()).replica(database.url_through(&proxy));
    let builder = builder.max_connections(1).connect_timeout(300 * MS).probe_interval(50 * MS);
    let router = builder.connect().await.unwrap();
    // Nobody calls, so no call's limit can tell.
    let held = router.client_at(Consistency::Eventual).await.unwrap();
    assert_eq!(held.role(), Role::Replica);
    proxy.silence(Direction::Both);
    until(&router, |router| cause(router, 1).is_some()).await;
    proxy.restore().unwrap();
    until(&router, |router| cause(router, 1).is_none()).await;
    held.query_one("SELECT 1", &[]).await.unwrap();
}

#[tokio::test]
async fn a_call_that_cannot_wait_for_its_connection_takes_no_node_out_of_service() {
    let database = database().await;
    let proxy = cluster().await.replica(0).proxy().unwrap();
    let builder = Router::builder().primary(database.primary_url()).replica(database.url_through(&proxy));
    // The first probe is on its way when the calls come, and the next one is far.
    let builder = builder.acquire_timeout(20 * MS).connect_timeout(HANG).probe_interval(10 * HANG);
    proxy.delay(Direction::ToClient, 100 * MS);
    let router = builder.build().unwrap();
    let mut late = 0;
    for _ in 0..5 {
        late += u32::from(router.client_at(Consistency::Eventual).await.is_err());
        assert_eq!(cause(&router, 1), None);
    }
    assert!(late > 0, "the node is slow to connect to");
}

#[tokio::test]
async fn a_node_that_is_slow_to_let_anybody_in_serves_while_it_answers_those_who_are() {
    let cluster = started(LocalCluster::builder()).await;
    let builder = both(&cluster).fallback(Fallback::Unlimited).max_connections(9).connect_timeout(200 * MS);
    let router = builder.probe_interval(50 * MS).connect().await.unwrap();
    let client = router.client_at(Consistency::Eventual).await.unwrap();
    assert_eq!(client.role(), Role::Replica);
    for sql in ["ALTER SYSTEM SET pre_auth_delay = 5", "SELECT pg_reload_conf()"] {
        client.batch_execute(sql).await.unwrap();
    }
    sleep(300 * MS).await;
    // Those that are open already are held, and the next ones take too long.
    let (mut held, mut elsewhere) = (Vec::new(), 0);
    let start = tokio::time::Instant::now();
    while start.elapsed() < Duration::from_secs(2) {
        let call = async {
            let served = timeout(HANG, router.client_at(Consistency::Eventual)).await.unwrap().unwrap();
            match served.role() {
                Role::Primary => elsewhere += 1,
                _ => held.push(served),
            }
        };
        let answers = async {
            for _ in 0..25 {
                client.query_one("SELECT 1", &[]).await.unwrap();
                sleep(10 * MS).await;
            }
        };
        tokio::join!(call, answers);
        assert_eq!(cause(&router, 1), None);
    }
    assert!(elsewhere > 0, "connecting takes too long");
}

#[tokio::test]
async fn refusing_and_unreachable_nodes_are_distinguished() {
    let database = database().await;
    let wrong = database.replica_urls().remove(0).replacen("mainstem:", "mainstem:wrong", 1);
    let builder = Router::builder().primary(database.primary_url()).replica(wrong).probe_interval(50 * MS);
    let router = builder.replica("postgres://nobody@127.0.0.1:1/x").build().unwrap();
    until(&router, |router| cause(router, 1).is_some() && cause(router, 2).is_some()).await;
    assert_eq!(
        [1, 2].map(|node| cause(&router, node)),
        [EjectionCause::Refusing, EjectionCause::Unreachable].map(Some)
    );
}

/// Reads of this kind fail on this node, as they do where the replay stands in their way.
const CANCELLED: &str = "CREATE FUNCTION cancelled() RETURNS int4 LANGUAGE plpgsql AS $$BEGIN \
    IF pg_is_in_recovery() AND current_setting('cluster_name') = 'node_2' THEN \
    RAISE EXCEPTION 'canceling statement due to conflict with recovery' USING ERRCODE = '40001'; END IF; \
    RETURN 1; END$$";

#[tokio::test]
async fn a_replica_that_cancels_every_read_is_out_of_service_however_often_it_answers_probes() {
    let database = database().await;
    let builder = Router::builder().primary(database.primary_url()).replicas(database.replica_urls());
    let router = builder.probe_interval(25 * MS).connect().await.unwrap();
    router.client().await.unwrap().batch_execute(CANCELLED).await.unwrap();
    cluster().await.wait_until_caught_up().await.unwrap();
    let ask = async || {
        let client = router.client_at(Consistency::Eventual).await?;
        client.query_one("SELECT cancelled()", &[]).await?;
        Ok::<_, Error>(())
    };
    let out = async {
        while cause(&router, 1) != Some(EjectionCause::Failing) {
            let _ = ask().await;
            // For each call there are some probes.
            sleep(50 * MS).await;
        }
    };
    timeout(HANG, out).await.expect("it is taken out");
    assert_eq!(cause(&router, 2), None);
}

/// The rows of a stream come one by one: that it was begun is no success.
#[tokio::test]
async fn a_replica_that_cancels_every_stream_is_out_of_service() {
    let (database, admin, store) = store().await;
    let events = (0..3).map(|n| event("A", json!({ "n": n })));
    store.append(events, AppendCondition::none()).await.unwrap();
    let role = format!("reader_{}", database.name());
    let grants = store.name().grants(mainstem::schema::Access::Reader, &role).unwrap();
    let setup = format!(
        "{CANCELLED}; CREATE ROLE {role} LOGIN PASSWORD 'p'; ALTER TABLE mainstem.events ENABLE ROW LEVEL SECURITY; \
         CREATE POLICY cancels ON mainstem.events USING (cancelled() = 1); {grants}"
    );
    admin.client().await.unwrap().batch_execute(&setup).await.unwrap();
    cluster().await.wait_until_caught_up().await.unwrap();
    let reader = |url: String| format!("postgres://{role}:p@{}", url.split('@').nth(1).unwrap());
    let builder = Router::builder().primary(reader(database.primary_url()));
    let builder = builder.replicas(database.replica_urls().into_iter().map(reader)).probe_interval(25 * MS);
    let router = builder.connect().await.unwrap();
    let store = PostgresEventStore::new(&router);
    let any = Filter::any_event();
    let out = async {
        while cause(&router, 1) != Some(EjectionCause::Failing) {
            let stream = store.query(&any).consistency(Consistency::Eventual).stream();
            assert_eq!(stream.try_collect::<Vec<_>>().await.unwrap().len(), 3);
        }
    };
    timeout(HANG, out).await.expect("it is taken out");
    assert_eq!(cause(&router, 2), None);
}
