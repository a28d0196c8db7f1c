//! Which node serves, and the error of a call when none can.

use std::time::Duration;

use mainstem::{
    AppendCondition, Consistency, ErrorKind, EventStore, Filter, PostgresEventStore, Role, Router,
    testing::LocalCluster, with_eventual_consistency, with_strong_consistency,
};
use serde_json::json;
use tokio::{net::TcpListener, time::timeout};

use crate::support::{cluster, database, event, router, started};

/// Far longer than anything here may take: what it ends would have hung.
const HANG: Duration = Duration::from_secs(30);

async fn is_in_recovery(client: &mainstem::Client) -> bool {
    client.query_one("SELECT pg_is_in_recovery()", &[]).await.unwrap().get(0)
}

/// A router over a cluster of its own, with limits that a test can wait for.
async fn short_tempered(cluster: &LocalCluster) -> Router {
    let replicas = cluster.replicas().map(|node| node.url());
    let builder = Router::builder().primary(cluster.primary().url()).replicas(replicas);
    builder
        .connect_timeout(Duration::from_millis(500))
        .acquire_timeout(Duration::from_secs(3))
        .call_timeout(Duration::from_secs(3))
        .connect()
        .await
        .unwrap()
}

#[tokio::test]
async fn the_primary_serves_unless_an_eventual_scope_or_the_call_says_replica() {
    let database = database().await;
    let router = router(&database).await;
    let client = router.client().await.unwrap();
    assert_eq!((client.role(), is_in_recovery(&client).await), (Role::Primary, false));
    let client = with_strong_consistency(async { router.client().await }).await.unwrap();
    assert_eq!((client.role(), is_in_recovery(&client).await), (Role::Primary, false));
    let client = with_eventual_consistency(async { router.client().await }).await.unwrap();
    assert_eq!((client.role(), is_in_recovery(&client).await), (Role::Replica, true));
    let client = router.client_at(Consistency::Eventual).await.unwrap();
    assert_eq!((client.role(), is_in_recovery(&client).await), (Role::Replica, true));
    let explicit = with_eventual_consistency(async { router.client_at(Consistency::Strong).await }).await.unwrap();
    assert_eq!((explicit.role(), is_in_recovery(&explicit).await), (Role::Primary, false));
}

#[tokio::test]
async fn a_node_is_reached_by_its_name_whatever_the_scope_says() {
    let database = database().await;
    let router = router(&database).await;
    for node in router.status().nodes {
        let client = with_eventual_consistency(async { router.client_on(&node.name).await }).await.unwrap();
        assert_eq!((client.node(), client.role()), (&*node.name, node.role));
        assert_eq!(is_in_recovery(&client).await, node.role == Role::Replica, "{}", node.name);
        let written = client.batch_execute("CREATE TABLE IF NOT EXISTS by_name ()").await;
        assert_eq!(
            written.err().map(|error| error.kind()),
            (node.role == Role::Replica).then_some(ErrorKind::ReadOnly)
        );
    }
    let nobody = router.client_on("nobody:1").await.unwrap_err();
    assert_eq!(nobody.kind(), ErrorKind::InvalidInput);
    assert!(nobody.to_string().contains(&*router.status().nodes[2].name), "{nobody}");
}

#[tokio::test]
async fn every_replica_gets_a_share_of_the_eventual_calls() {
    let database = database().await;
    let router = router(&database).await;
    let mut nodes = std::collections::BTreeMap::<String, usize>::new();
    for _ in 0..60 {
        let client = router.client_at(Consistency::Eventual).await.unwrap();
        *nodes.entry(client.node().to_owned()).or_default() += 1;
    }
    assert_eq!(nodes.len(), 2, "{nodes:?}");
    assert!(nodes.values().all(|&share| share > 10), "{nodes:?}");
}

#[tokio::test]
async fn a_write_on_a_replica_is_refused_as_such() {
    let database = database().await;
    let router = router(&database).await;
    let client = router.client_at(Consistency::Eventual).await.unwrap();
    let error = client.batch_execute("CREATE TABLE t ()").await.unwrap_err();
    assert_eq!(
        (error.kind(), error.sqlstate(), error.node()),
        (ErrorKind::ReadOnly, Some("25006"), Some(client.node()))
    );
}

#[tokio::test]
async fn with_the_only_replica_killed_eventual_reads_still_answer_and_go_back_to_it_later() {
    let cluster = started(LocalCluster::builder()).await;
    let router = short_tempered(&cluster).await;
    let store = PostgresEventStore::new(&router);
    store.migrate().await.unwrap();
    store.append([event("A", json!({}))], AppendCondition::none()).await.unwrap();
    cluster.wait_until_caught_up().await.unwrap();
    let read = || async {
        let all = Filter::any_event();
        let history = store.query(&all).consistency(Consistency::Eventual);
        let history = timeout(HANG, history.into_future()).await.expect("no hang").expect("an answer");
        assert_eq!(history.len(), 1);
        history.role()
    };
    assert_eq!(read().await, Role::Replica);
    cluster.replica(0).kill().await.unwrap();
    for _ in 0..20 {
        assert_eq!(read().await, Role::Primary);
    }
    cluster.replica(0).start().await.unwrap();
    let back = async { while read().await != Role::Replica {} };
    timeout(HANG, back).await.expect("the replica is used again");
}

#[tokio::test]
async fn with_the_primary_killed_strong_calls_fail_typed_and_in_time_while_eventual_reads_go_on() {
    let cluster = started(LocalCluster::builder()).await;
    let router = short_tempered(&cluster).await;
    let store = PostgresEventStore::new(&router);
    store.migrate().await.unwrap();
    cluster.wait_until_caught_up().await.unwrap();
    let primary = cluster.primary().port();
    cluster.primary().kill().await.unwrap();
    for _ in 0..5 {
        let append = store.append([event("A", json!({}))], AppendCondition::none());
        let error = timeout(HANG, append.into_future()).await.expect("no hang").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", error.report());
        assert!(error.is_retryable());
        assert!(error.node().is_some_and(|node| node.ends_with(&format!(":{primary}"))), "{error}");
        let error = timeout(HANG, router.client()).await.expect("no hang").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        // Not "timed out": what the network said.
        assert!(error.report().contains("refused"), "{}", error.report());
    }
    let history = store.query(&Filter::any_event()).consistency(Consistency::Eventual).await.unwrap();
    assert_eq!(history.role(), Role::Replica);
    cluster.primary().start().await.unwrap();
    store.append([event("A", json!({}))], AppendCondition::none()).await.unwrap();
}

#[tokio::test]
async fn a_node_is_what_the_settings_say_or_connect_fails_and_says_what_is_wrong() {
    let database = database().await;
    let (primary, replica) = (database.primary_url(), database.replica_urls().remove(0));
    let other = started(LocalCluster::builder().replicas(1)).await;
    let wrong_password = |url: &str| {
        let (start, end) = url.split_once('@').unwrap();
        format!("{}:not-my-password@{end}", start.rsplit_once(':').unwrap().0)
    };
    let cases = [
        (Router::builder().primary(&replica), "it is a replica"),
        (
            Router::builder().primary(&primary).replica(primary.replace("127.0.0.1", "localhost")),
            "it is not in recovery",
        ),
        (Router::builder().primary(&primary).replica(other.replica(0).url()), "not of the same cluster"),
        (Router::builder().primary(wrong_password(&primary)), "password"),
        (Router::builder().primary(&primary).replica(wrong_password(&replica)), "password"),
        (Router::builder().primary(format!("{primary}_not_there")), "does not exist"),
    ];
    for (builder, part) in cases {
        let error = builder.connect().await.unwrap_err();
        let report = error.report();
        assert_eq!(error.kind(), ErrorKind::Configuration, "{report}");
        assert!(report.contains(part), "{report:?} does not say {part:?}");
        assert!(error.node().is_some() && !report.contains("not-my-password"), "{report}");
    }
}

#[tokio::test]
async fn an_unreachable_replica_keeps_nobody_from_starting_unless_it_is_required() {
    let database = database().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = format!("postgres://nobody:secret@{}/x", listener.local_addr().unwrap());
    drop(listener);
    let builder = || Router::builder().primary(database.primary_url()).replica(&nobody);
    let router = timeout(HANG, builder().connect()).await.expect("no hang").unwrap();
    assert_eq!(router.client_at(Consistency::Eventual).await.unwrap().role(), Role::Primary);
    let error = timeout(HANG, builder().require_replicas(true).connect()).await.expect("no hang").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.report().contains("refused") && !error.report().contains("secret"), "{}", error.report());
    let error = timeout(HANG, Router::builder().primary(&nobody).connect()).await.expect("no hang").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn a_server_that_accepts_and_says_nothing_costs_no_more_than_the_connect_timeout() {
    let database = database().await;
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("postgres://nobody@{}/x", mute.local_addr().unwrap());
    let limit = Duration::from_millis(200);
    let router =
        Router::builder().primary(database.primary_url()).replica(&url).connect_timeout(limit).max_connections(2);
    let router = timeout(HANG, router.connect()).await.expect("no hang").unwrap();
    // More rounds than the pool has places: none of them may leak.
    for _ in 0..5 {
        let client = timeout(HANG, router.client_at(Consistency::Eventual)).await.expect("no hang").unwrap();
        assert_eq!(client.role(), Role::Primary);
    }
    let lonely = Router::builder().primary(&url).connect_timeout(limit).build().unwrap();
    let error = timeout(HANG, lonely.client()).await.expect("no hang").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.report().contains("200ms"), "{}", error.report());
}

#[tokio::test]
async fn a_full_pool_says_which_limit_was_hit() {
    let database = database().await;
    let builder = Router::builder().primary(database.primary_url()).max_connections(1);
    let router = builder.acquire_timeout(Duration::from_millis(200)).connect().await.unwrap();
    let held = router.client().await.unwrap();
    let error = timeout(HANG, router.client()).await.expect("no hang").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.to_string().contains("the pool's limit is 1"), "{error}");
    drop(held);
    router.client().await.unwrap();
}

#[tokio::test]
async fn nobody_gets_a_connection_on_which_somebody_gave_up() {
    let database = database().await;
    let builder = Router::builder().primary(database.primary_url()).max_connections(1);
    let router = builder.call_timeout(Duration::from_millis(300)).connect().await.unwrap();
    let pid = async |client: &mainstem::Client| -> i32 {
        client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0)
    };

    // By dropping the call,
    let client = router.client().await.unwrap();
    let first = pid(&client).await;
    let _ = timeout(Duration::from_millis(50), client.batch_execute("SELECT pg_sleep(60)")).await.unwrap_err();
    drop(client);
    let client = router.client().await.unwrap();
    let second = pid(&client).await;
    assert_ne!(first, second);

    // or by the call's own limit.
    let error = client.batch_execute("SELECT pg_sleep(60)").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "it might have written: {error}");
    drop(client);
    let client = router.client().await.unwrap();
    assert_ne!(pid(&client).await, second);
    drop(client);

    // An answered call costs nobody the connection.
    let client = router.client().await.unwrap();
    let third = pid(&client).await;
    client.batch_execute("SELECT 1/0").await.unwrap_err();
    drop(client);
    assert_eq!(pid(&router.client().await.unwrap()).await, third);
}

#[tokio::test]
async fn session_state_left_by_one_client_is_gone_for_the_next() {
    let database = database().await;
    let router = Router::builder().primary(database.primary_url()).max_connections(1).connect().await.unwrap();
    let client = router.client().await.unwrap();
    let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    // One by one: together they would be one transaction, and its rollback would do the whole work.
    for left_behind in [
        "CREATE TEMP TABLE mine ()",
        "LISTEN gossip",
        "SELECT pg_advisory_lock(42)",
        "SET work_mem = '1MB'",
        "BEGIN; CREATE TABLE half_done ()",
        "SET ROLE pg_monitor",
    ] {
        client.batch_execute(left_behind).await.unwrap();
    }
    drop(client);
    let client = router.client().await.unwrap();
    let row = client
        .query_one(
            "SELECT pg_backend_pid(), current_setting('work_mem') = '1MB', current_user = 'pg_monitor', \
                 (SELECT count(*) FROM pg_listening_channels()), \
                 (SELECT count(*) FROM pg_class WHERE relname IN ('mine', 'half_done')), \
                 (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()), \
                 pg_current_xact_id_if_assigned() IS NULL",
            &[],
        )
        .await
        .unwrap();
    assert_eq!(row.get::<_, i32>(0), pid, "the same session");
    assert!(!row.get::<_, bool>(1) && !row.get::<_, bool>(2));
    let left: [i64; 3] = [row.get(3), row.get(4), row.get(5)];
    assert_eq!(left, [0; 3]);
    assert!(row.get::<_, bool>(6), "still in the transaction of the last user");
}

#[tokio::test]
async fn statements_are_prepared_once_and_anew_when_the_schema_changes() {
    let database = database().await;
    let router = Router::builder().primary(database.primary_url()).max_connections(1).connect().await.unwrap();
    let client = router.client().await.unwrap();
    client.batch_execute("CREATE TABLE t (a int4); INSERT INTO t VALUES (1)").await.unwrap();
    for _ in 0..3 {
        client.query_one("SELECT * FROM t WHERE a = $1", &[&1]).await.unwrap();
    }
    let prepared = "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE 'SELECT * FROM t%'";
    assert_eq!(client.query_one(prepared, &[]).await.unwrap().get::<_, i64>(0), 1);
    client.batch_execute("ALTER TABLE t ADD b text").await.unwrap();
    assert_eq!(client.query_one("SELECT * FROM t WHERE a = $1", &[&1]).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_connection_that_the_server_closed_is_replaced_before_anybody_gets_it() {
    let database = database().await;
    let router = Router::builder().primary(database.primary_url()).max_connections(1).connect().await.unwrap();
    let pid: i32 = router.client().await.unwrap().query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    let killer = Router::builder().primary(cluster().await.primary().url()).connect().await.unwrap();
    let client = killer.client().await.unwrap();
    client.execute("SELECT pg_terminate_backend($1)", &[&pid]).await.unwrap();
    let gone = async {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE pid = $1";
        while client.query_one(sql, &[&pid]).await.unwrap().get::<_, i64>(0) > 0 {
            tokio::task::yield_now().await;
        }
        // The goodbye is on its way; the driver's task has to see it.
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    timeout(HANG, gone).await.expect("the backend ends");
    router.client().await.unwrap().query_one("SELECT 1", &[]).await.unwrap();
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_an_unknown_outcome_and_its_repeat_tells() {
    let cluster = started(LocalCluster::builder().replicas(0)).await;
    let router = short_tempered(&cluster).await;
    // A notification would take the connection that has prepared the append.
    let store = PostgresEventStore::builder(&router).notify_interval(None).build();
    store.migrate().await.unwrap();
    // The statement is prepared by now: else it would be certain that nothing was sent.
    store.append([event("A", json!({}))], AppendCondition::none()).await.unwrap();
    let appended = event("A", json!({}));
    cluster.primary().freeze().await.unwrap();
    let append = store.append([appended.clone()], AppendCondition::none());
    let error = timeout(HANG, append.into_future()).await.expect("no hang").unwrap_err();
    assert!(error.is_outcome_unknown(), "{}", error.report());
    cluster.primary().thaw().await.unwrap();
    let outcome = store.append([appended], AppendCondition::none()).await.unwrap();
    assert_eq!(outcome.first_position(), 2);
    assert_eq!(store.query(&Filter::any_event()).await.unwrap().len(), 2);
}
