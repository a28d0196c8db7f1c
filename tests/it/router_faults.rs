//! What goes wrong around a call: servers that fall silent, pools that cannot fill, sessions that stay dirty.

use std::time::Duration;

use mainstem::{
    AppendCondition, Consistency, ErrorKind, EventStore, Filter, PostgresEventStore, Role, Router,
    testing::{Direction, FaultProxy, LocalCluster},
};
use serde_json::json;
use tokio::time::timeout;

use crate::support::{cluster, database, event, router, sessions, started};

/// Far longer than anything here may take: what it ends would have hung.
const HANG: Duration = Duration::from_secs(30);

fn impatient(cluster: &LocalCluster) -> mainstem::RouterBuilder {
    let replicas: Vec<_> = cluster.replicas().map(|node| node.url()).collect();
    let builder = Router::builder().primary(cluster.primary().url()).replicas(replicas);
    builder.connect_timeout(Duration::from_millis(300)).acquire_timeout(Duration::from_secs(3))
}

#[tokio::test]
async fn a_replica_that_falls_silent_is_left_alone_and_used_again_when_it_answers() {
    let cluster = started(LocalCluster::builder()).await;
    let router = impatient(&cluster).call_timeout(Duration::from_millis(300)).connect().await.unwrap();
    let ask = async || {
        let client = router.client_at(Consistency::Eventual).await?;
        client.query_one("SELECT 1", &[]).await.map(|_| client.role())
    };
    // Eight connections in the pool, each of which could keep a caller waiting.
    let clients = (0..8).map(|_| router.client_at(Consistency::Eventual));
    let clients = futures_util::future::try_join_all(clients).await.unwrap();
    assert!(clients.iter().all(|client| client.role() == Role::Replica));
    drop(clients);
    cluster.replica(0).freeze().await.unwrap();
    let mut unanswered = 0;
    while ask().await.is_err() {
        unanswered += 1;
    }
    assert!(unanswered <= 3, "{unanswered} calls got no answer before the node was left alone");
    let given_up = async {
        // Pooled connections are silent; then connecting is. Soon nobody asks it any more.
        let mut in_a_row = 0;
        while in_a_row < 20 {
            in_a_row = if matches!(ask().await, Ok(Role::Primary)) { in_a_row + 1 } else { 0 };
        }
    };
    timeout(HANG, given_up).await.expect("the primary serves");
    cluster.replica(0).thaw().await.unwrap();
    let back = async { while !matches!(ask().await, Ok(Role::Replica)) {} };
    timeout(HANG, back).await.expect("the replica is used again");
}

#[tokio::test]
async fn a_read_whose_replica_dies_under_it_is_answered_by_another_node() {
    let cluster = started(LocalCluster::builder()).await;
    let router = impatient(&cluster).connect().await.unwrap();
    let store = PostgresEventStore::new(&router);
    store.migrate().await.unwrap();
    cluster.wait_until_caught_up().await.unwrap();
    let all = Filter::any_event();
    let eventual = || store.query(&all).consistency(Consistency::Eventual);
    assert_eq!(eventual().await.unwrap().role(), Role::Replica);
    // The question is sent and the answer is waited for, when the server goes.
    cluster.replica(0).freeze().await.unwrap();
    let read = tokio::spawn(eventual().into_future());
    tokio::time::sleep(Duration::from_millis(100)).await;
    cluster.replica(0).kill().await.unwrap();
    let history = timeout(HANG, read).await.expect("no hang").unwrap().unwrap();
    assert_eq!(history.role(), Role::Primary);
}

#[tokio::test]
async fn a_node_that_cannot_be_connected_to_is_not_asked_for_every_call() {
    let database = database().await;
    // Nobody is behind it: it hangs up on everybody.
    let proxy = FaultProxy::start(([127, 0, 0, 1], 1)).unwrap();
    let router = Router::builder().primary(database.primary_url()).replica(database.url_through(&proxy));
    let router = router.build().unwrap();
    for _ in 0..100 {
        assert_eq!(router.client_at(Consistency::Eventual).await.unwrap().role(), Role::Primary);
    }
    let connects = proxy.counts().connections;
    assert!((1..30).contains(&connects), "{connects} connects for 100 calls");
}

#[tokio::test]
async fn a_failed_connect_fails_nobody_while_another_is_under_way() {
    let database = database().await;
    let proxy = cluster().await.primary().proxy().unwrap();
    let router = Router::builder().primary(database.url_through(&proxy)).max_connections(2).build().unwrap();
    proxy.silence(Direction::Both);
    let first = tokio::spawn(router.client());
    let under_way = async {
        while proxy.counts().connections == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await
        }
    };
    timeout(HANG, under_way).await.expect("it connects");
    proxy.refuse().unwrap();
    let second = tokio::spawn(router.client());
    // Long enough to be refused more than once.
    tokio::time::sleep(Duration::from_millis(300)).await;
    proxy.restore().unwrap();
    for client in [first, second] {
        timeout(HANG, client).await.expect("no hang").unwrap().unwrap_or_else(|error| panic!("{}", error.report()));
    }
}

#[tokio::test]
async fn a_refused_connect_fails_no_call_that_another_connection_can_serve() {
    let database = database().await;
    let admin = router(&database).await;
    let role = format!("limited_{}", database.name());
    let client = admin.client().await.unwrap();
    client.batch_execute(&format!("CREATE ROLE {role} LOGIN PASSWORD 'p' CONNECTION LIMIT 1")).await.unwrap();
    let (scheme, rest) = (database.primary_url(), database.primary_url());
    let url = format!("{}://{role}:p@{}", scheme.split("://").next().unwrap(), rest.split('@').nth(1).unwrap());
    let cold = || Router::builder().primary(url.clone()).max_connections(5).build().unwrap();
    // Of five connects at once the server takes one, and refuses the others before that one is ready.
    for _ in 0..3 {
        let router = cold();
        let calls = (0..5).map(|_| async {
            let client = router.client().await?;
            client.query_one("SELECT 1", &[]).await.map(drop)
        });
        let answers = timeout(HANG, futures_util::future::join_all(calls)).await.expect("no hang");
        for answer in answers {
            answer.unwrap_or_else(|error| panic!("{}", error.report()));
        }
        drop(router);
        // The limit is the role's: the next round begins when the server has noticed.
        sessions(&database, &format!("usename = '{role}'"), 0).await;
    }
    let router = cold();
    // The only connection is out, a connect is refused, and then the limit is lifted: who waits gets one.
    let held = router.client().await.unwrap();
    let waiting = tokio::spawn(router.client());
    tokio::time::sleep(Duration::from_millis(300)).await;
    client.batch_execute(&format!("ALTER ROLE {role} CONNECTION LIMIT 5")).await.unwrap();
    timeout(HANG, waiting).await.expect("no hang").unwrap().unwrap_or_else(|error| panic!("{}", error.report()));
    drop(held);
}

#[tokio::test]
async fn an_abandoned_query_is_cancelled_on_the_server() {
    let database = database().await;
    let router = Router::builder().primary(database.primary_url()).max_connections(1).connect().await.unwrap();
    for _ in 0..10 {
        let client = router.client().await.unwrap();
        let _ = timeout(Duration::from_millis(20), client.query("SELECT pg_sleep(600)", &[])).await.unwrap_err();
    }
    sessions(&database, "state = 'active' AND query LIKE 'SELECT pg_sleep%'", 0).await;
}

#[tokio::test]
async fn statements_that_somebody_threw_away_are_prepared_anew() {
    let database = database().await;
    let router = Router::builder().primary(database.primary_url()).max_connections(1).connect().await.unwrap();
    let store = PostgresEventStore::new(&router);
    store.migrate().await.unwrap();
    store.append([event("A", json!({}))], AppendCondition::none()).await.unwrap();
    for gone in ["DEALLOCATE ALL", "DISCARD ALL"] {
        router.client().await.unwrap().batch_execute(gone).await.unwrap();
        store.append([event("A", json!({}))], AppendCondition::none()).await.unwrap();
        store.query(&Filter::any_event()).await.unwrap();
    }
}

/// Also where the server tells the parameters with each error, which is a context.
#[tokio::test]
async fn a_statement_whose_table_was_altered_is_prepared_anew() {
    let database = database().await;
    let client = router(&database).await.client().await.unwrap();
    client.batch_execute("CREATE TABLE wide (a int8); INSERT INTO wide VALUES (1)").await.unwrap();
    for setting in ["0", "100"] {
        client.batch_execute(&format!("SET log_parameter_max_length_on_error = {setting}")).await.unwrap();
        let before = client.query_one("SELECT * FROM wide WHERE a = $1", &[&1_i64]).await.unwrap().len();
        client.batch_execute(&format!("ALTER TABLE wide ADD COLUMN c{setting} int8")).await.unwrap();
        let after = client.query_one("SELECT * FROM wide WHERE a = $1", &[&1_i64]).await.unwrap().len();
        assert_eq!(after, before + 1, "{setting}");
    }
}

#[tokio::test]
async fn only_a_statement_that_never_ran_is_sent_again() {
    let database = database().await;
    let client = router(&database).await.client().await.unwrap();
    client.batch_execute("CREATE TABLE ran ()").await.unwrap();
    let ends = ["RAISE SQLSTATE '0A000'", "RAISE SQLSTATE '26000'", "EXECUTE 'DEALLOCATE nothing_of_this_name'"];
    for (end, ran_before) in ends.into_iter().zip(0_i64..) {
        let sql = format!(
            "CREATE OR REPLACE PROCEDURE run_once() LANGUAGE plpgsql AS \
             $$BEGIN INSERT INTO ran DEFAULT VALUES; COMMIT; {end}; END$$"
        );
        client.batch_execute(&sql).await.unwrap();
        client.execute("CALL run_once()", &[]).await.unwrap_err();
        let ran: i64 = client.query_one("SELECT count(*) FROM ran", &[]).await.unwrap().get(0);
        assert_eq!(ran, ran_before + 1, "{end}");
    }
}

#[tokio::test]
async fn a_session_that_cannot_be_reset_is_not_handed_on() {
    let tight = LocalCluster::builder().replicas(0).setting("max_locks_per_transaction", "10");
    let cluster = started(tight.setting("max_connections", "20")).await;
    let router = Router::builder().primary(cluster.primary().url()).max_connections(1).connect().await.unwrap();
    let client = router.client().await.unwrap();
    let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    client.batch_execute("SET work_mem = '1MB'").await.unwrap();
    // More tables than the server has locks for, so that they cannot be dropped in one transaction.
    let tables = "DO $$BEGIN FOR i IN 1..2500 LOOP EXECUTE 'CREATE TEMP TABLE t' || i || ' ()'; \
                  IF i % 100 = 0 THEN COMMIT; END IF; END LOOP; END$$";
    client.batch_execute(tables).await.unwrap();
    drop(client);
    let cleaned = async {
        loop {
            // An answer from the dirty session would be one too many: an error is allowed, while the server has no locks
            // left for anybody, work_mem is not.
            let Ok(client) = router.client().await else { continue };
            let sql = "SELECT pg_backend_pid(), current_setting('work_mem')";
            let Ok(row) = client.query_one(sql, &[]).await else { continue };
            assert_ne!((row.get::<_, i32>(0), row.get::<_, &str>(1)), (pid, "1MB"));
            return;
        }
    };
    timeout(HANG, cleaned).await.expect("a clean session");
}

#[tokio::test]
async fn nobodys_log_fills_with_warnings_of_ours() {
    let cluster = started(LocalCluster::builder().replicas(0)).await;
    let router = Router::builder().primary(cluster.primary().url()).connect().await.unwrap();
    for _ in 0..5 {
        router.client().await.unwrap().query_one("SELECT 1", &[]).await.unwrap();
    }
    let log = cluster.primary().log().unwrap();
    assert!(!log.contains("there is no transaction in progress"), "{log}");
}

#[tokio::test]
async fn a_copy_fails_by_itself_and_nobody_else() {
    let database = database().await;
    let router = Router::builder().primary(database.primary_url()).max_connections(1).connect().await.unwrap();
    let client = router.client().await.unwrap();
    client.batch_execute("CREATE TABLE t (a int4)").await.unwrap();
    let error = client.batch_execute("COPY t FROM STDIN").await.unwrap_err();
    assert!(error.to_string().contains("COPY"), "{}", error.report());
    drop(client);
    for _ in 0..3 {
        router.client().await.unwrap().query_one("SELECT 1", &[]).await.unwrap();
    }
}

#[tokio::test]
async fn wrong_parameters_are_the_callers_affair() {
    let database = database().await;
    let router = Router::builder().primary(database.primary_url()).max_connections(1).connect().await.unwrap();
    let client = router.client().await.unwrap();
    let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    let wrong_type = client.query("SELECT $1::int4", &[&"text"]).await.unwrap_err();
    let wrong_count = client.query("SELECT $1::int4", &[]).await;
    assert_eq!(wrong_type.kind(), ErrorKind::InvalidInput, "{}", wrong_type.report());
    // The driver panics on a wrong count in some versions; where it answers, it is the caller's error, too.
    assert!(wrong_count.is_err_and(|error| error.kind() == ErrorKind::InvalidInput));
    drop(client);
    let client = router.client().await.unwrap();
    assert_eq!(client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get::<_, i32>(0), pid);
}

#[tokio::test]
async fn with_no_time_left_nothing_is_sent() {
    let database = database().await;
    let router = router(&database).await;
    let store = PostgresEventStore::new(&router);
    store.migrate().await.unwrap();
    for _ in 0..3 {
        let append = store.append([event("A", json!({}))], AppendCondition::none()).timeout(Duration::ZERO);
        let error = append.await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{}", error.report());
    }
    assert!(store.query(&Filter::any_event()).await.unwrap().is_empty());
}

#[tokio::test]
async fn the_same_wrong_setting_on_every_node_is_a_wrong_setting() {
    let cluster = started(LocalCluster::builder()).await;
    let wrong = |url: String| url.replacen("mainstem:", "mainstem:wrong", 1);
    let builder = Router::builder().primary(wrong(cluster.primary().url())).replica(wrong(cluster.replica(0).url()));
    let error = builder.build().unwrap().client_at(Consistency::Eventual).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration, "{}", error.report());
    assert_eq!((error.is_retryable(), error.sqlstate()), (false, Some("28P01")));
}

#[tokio::test]
async fn a_session_that_the_server_ends_is_an_interruption() {
    let database = database().await;
    // One node of each role.
    let builder = Router::builder().primary(database.primary_url()).replica(database.replica_urls().remove(0));
    let router = builder.connect().await.unwrap();
    let level_and_kind = [
        (Consistency::Strong, ErrorKind::OutcomeUnknown),
        // A replica cannot have written anything.
        (Consistency::Eventual, ErrorKind::Unavailable),
    ];
    for (level, kind) in level_and_kind {
        let client = router.client_at(level.clone()).await.unwrap();
        let killer = router.client_at(level).await.unwrap();
        assert_eq!(killer.node(), client.node());
        let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
        let kill = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            killer.query_one("SELECT pg_terminate_backend($1)", &[&pid]).await.unwrap();
        };
        let sleep = client.batch_execute("SELECT pg_sleep(60)");
        let (outcome, ()) = timeout(HANG, async { tokio::join!(sleep, kill) }).await.expect("no hang");
        assert_eq!(outcome.unwrap_err().kind(), kind);
    }
}

#[tokio::test]
async fn raw_sql_that_was_interrupted_may_have_written() {
    let database = database().await;
    let router = router(&database).await;
    let client = router.client().await.unwrap();
    client.batch_execute("CREATE TABLE t (a int4)").await.unwrap();
    client.batch_execute("SET statement_timeout = 200").await.unwrap();
    let half = "INSERT INTO t VALUES (1); COMMIT; SELECT pg_sleep(60)";
    let error = client.batch_execute(half).await.unwrap_err();
    assert!(error.is_outcome_unknown(), "{}", error.report());
    assert_eq!(client.query("SELECT * FROM t", &[]).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_commit_that_did_not_wait_for_its_standby_is_an_unknown_outcome() {
    let cluster = started(LocalCluster::builder()).await;
    let router = impatient(&cluster).connect().await.unwrap();
    let store = PostgresEventStore::new(&router);
    store.migrate().await.unwrap();
    store.append([event("A", json!({}))], AppendCondition::none()).await.unwrap();
    let admin = router.client().await.unwrap();
    for sql in ["ALTER SYSTEM SET synchronous_standby_names = '*'", "SELECT pg_reload_conf()"] {
        admin.batch_execute(sql).await.unwrap();
    }
    cluster.wait_until_caught_up().await.unwrap();
    cluster.replica(0).freeze().await.unwrap();
    let events = [event("A", json!({})), event("A", json!({}))];
    let append = tokio::spawn(store.append(events.clone(), AppendCondition::none()).into_future());
    let waits = "wait_event = 'SyncRep'";
    let cancel = format!("SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE {waits}");
    let cancelled = async { while admin.query_one(&cancel, &[]).await.unwrap().get::<_, i64>(0) == 0 {} };
    timeout(HANG, cancelled).await.expect("the commit waits");
    let error = timeout(HANG, append).await.expect("no hang").unwrap().unwrap_err();
    assert!(error.is_outcome_unknown(), "{}", error.report());
    // The repeat finds the events, and waits as the first try should have. So does an import, in chunks of its own.
    let mut import = store.import(events.clone(), AppendCondition::none()).chunk_events(1).into_future();
    timeout(Duration::from_millis(500), &mut import).await.expect_err("it waits for the standby");
    let repeat = store.append(events, AppendCondition::none()).into_future();
    let mut repeat = std::pin::pin!(repeat);
    timeout(Duration::from_millis(500), repeat.as_mut()).await.expect_err("it waits for the standby");
    cluster.replica(0).thaw().await.unwrap();
    assert_eq!(timeout(HANG, import).await.expect("no hang").unwrap().repeated, 2);
    assert!(timeout(HANG, repeat).await.expect("no hang").unwrap().is_repeated());
}
