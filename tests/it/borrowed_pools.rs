//! Pools that the user made: `bb8_postgres` pools as primary and replicas.

use std::time::Duration;

use bb8_postgres::PostgresConnectionManager;
use mainstem::{Consistency, ErrorKind, EventStore, Filter, PostgresEventStore, Role, Router, testing::LocalCluster};
use serde_json::json;
use tokio::time::timeout;
use tokio_postgres::NoTls;

use crate::support::{cluster, database, event, started, store};

const HANG: Duration = Duration::from_secs(30);

async fn pool(url: &str, size: u32) -> bb8::Pool<PostgresConnectionManager<NoTls>> {
    let manager = PostgresConnectionManager::new_from_stringlike(url, NoTls).unwrap();
    bb8::Pool::builder().max_size(size).build(manager).await.unwrap()
}

#[tokio::test]
async fn they_serve_as_primary_and_replica_and_carry_a_store() {
    let database = database().await;
    let primary = pool(&database.primary_url(), 4).await;
    let replica = pool(&database.replica_urls()[0], 4).await;
    let router = Router::builder().primary_pool(primary).replica_pool(replica).connect().await.unwrap();
    let store = PostgresEventStore::new(&router);
    store.migrate().await.unwrap();
    let none = store.query(&Filter::any_event()).await.unwrap();
    store.append([event("A", json!({}))], none.unchanged()).await.unwrap();
    assert!(store.append([event("A", json!({}))], none.unchanged()).await.unwrap_err().is_conflict());
    cluster().await.wait_until_caught_up().await.unwrap();
    let history = store.query(&Filter::any_event()).consistency(Consistency::Eventual).await.unwrap();
    assert_eq!((history.role(), history.len()), (Role::Replica, 1));
    let client = router.client_at(Consistency::Eventual).await.unwrap();
    let error = client.batch_execute("CREATE TABLE t ()").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ReadOnly);
}

#[tokio::test]
async fn a_pool_in_the_wrong_role_is_refused() {
    let database = database().await;
    let primary = || pool(database.primary_url().leak(), 2);
    let swapped = Router::builder().primary_pool(pool(&database.replica_urls()[0], 2).await);
    assert_eq!(swapped.connect().await.unwrap_err().kind(), ErrorKind::Configuration);
    let twice = Router::builder().primary_pool(primary().await).replica_pool(primary().await);
    assert_eq!(twice.connect().await.unwrap_err().kind(), ErrorKind::Configuration);
}

#[tokio::test]
async fn with_its_replica_killed_eventual_reads_still_answer() {
    let cluster = started(LocalCluster::builder()).await;
    let primary = pool(&cluster.primary().url(), 4).await;
    let replica = pool(&cluster.replica(0).url(), 4).await;
    let builder = Router::builder().primary_pool(primary).replica_pool(replica);
    let router = builder.connect_timeout(Duration::from_millis(300)).connect().await.unwrap();
    cluster.replica(0).kill().await.unwrap();
    let client = timeout(HANG, router.client_at(Consistency::Eventual)).await.expect("no hang").unwrap();
    assert_eq!(client.role(), Role::Primary);
}

#[tokio::test]
async fn an_abandoned_statement_keeps_its_connection_until_the_server_has_answered() {
    let database = database().await;
    let router = Router::builder().primary_pool(pool(&database.primary_url(), 2).await).connect().await.unwrap();
    let client = router.client().await.unwrap();
    let _ = timeout(Duration::from_millis(50), client.batch_execute("SELECT pg_sleep(5)")).await.unwrap_err();
    drop(client);
    // The pool has two: whoever comes next gets the other one, and never waits behind the sleeper.
    for _ in 0..10 {
        let client = router.client().await.unwrap();
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND state = 'active'";
        let sleepers: i64 = client.query_one(sql, &[]).await.unwrap().get(0);
        assert_eq!(sleepers, 1, "the call was answered only after the sleeper had ended");
    }
}

#[tokio::test]
async fn an_open_transaction_is_rolled_back_and_the_rest_of_the_session_is_left_alone() {
    let database = database().await;
    let router = Router::builder().primary_pool(pool(&database.primary_url(), 1).await).connect().await.unwrap();
    let client = router.client().await.unwrap();
    client.batch_execute("SET work_mem = '1MB'").await.unwrap();
    client.batch_execute("BEGIN; CREATE TABLE half_done ()").await.unwrap();
    drop(client);
    let client = router.client().await.unwrap();
    let sql = "SELECT current_setting('work_mem'), (SELECT count(*) FROM pg_class WHERE relname = 'half_done')";
    let row = client.query_one(sql, &[]).await.unwrap();
    assert_eq!((row.get::<_, &str>(0), row.get::<_, i64>(1)), ("1MB", 0));
}

#[tokio::test]
async fn a_migration_that_is_given_up_leaves_no_lock_behind() {
    let (database, admin, store) = store().await;
    let blocker = admin.client().await.unwrap();
    blocker.batch_execute("BEGIN; LOCK TABLE mainstem.events_migrations").await.unwrap();
    let router = Router::builder().primary_pool(pool(&database.primary_url(), 1).await).connect().await.unwrap();
    let borrowed = PostgresEventStore::new(&router);
    // It has the lock of all migrations, and waits for the table.
    timeout(Duration::from_millis(500), borrowed.migrate()).await.expect_err("the table is locked");
    blocker.batch_execute("ROLLBACK").await.unwrap();
    timeout(HANG, store.migrate()).await.expect("the lock is free").unwrap();
}
