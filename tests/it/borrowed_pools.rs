//! Pools that the user created, as primary and replicas: of bb8 and of deadpool, each behind its feature.

use std::time::Duration;

use futures_util::StreamExt;
use mainstem::{
    Consistency, ErrorKind, EventStore, ExistingPool, Filter, PostgresEventStore, Role, Router, testing::LocalCluster,
};
use serde_json::json;
use tokio::time::{sleep, timeout};
use tokio_postgres::NoTls;

use crate::{
    sessions::own_writes_are_read,
    support::{cluster, database, event, started, store},
};

const HANG: Duration = Duration::from_secs(30);

/// As long as replicas take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug)]
enum Kind {
    #[cfg(feature = "bb8")]
    Bb8,
    #[cfg(feature = "deadpool")]
    Deadpool,
}

const KINDS: &[Kind] = &[
    #[cfg(feature = "bb8")]
    Kind::Bb8,
    #[cfg(feature = "deadpool")]
    Kind::Deadpool,
];

async fn pool(kind: Kind, url: &str, size: u32) -> ExistingPool {
    match kind {
        #[cfg(feature = "bb8")]
        Kind::Bb8 => {
            let manager = bb8_postgres::PostgresConnectionManager::new_from_stringlike(url, NoTls).unwrap();
            bb8::Pool::builder().max_size(size).build(manager).await.unwrap().into()
        }
        #[cfg(feature = "deadpool")]
        Kind::Deadpool => {
            let manager = deadpool_postgres::Manager::new(url.parse().unwrap(), NoTls);
            deadpool_postgres::Pool::builder(manager).max_size(size as usize).build().unwrap().into()
        }
    }
}

/// A connection with an answer to come is not given back to its owner; and what would spoil one is refused.
#[tokio::test]
async fn a_stream_leaves_its_connection_as_it_was() {
    for kind in KINDS.iter().copied() {
        let database = database().await;
        let primary = pool(kind, &database.primary_url(), 1).await;
        let router = Router::builder().primary_pool(primary).connect().await.unwrap();
        let client = router.client().await.unwrap();
        client.batch_execute("CREATE TABLE kept (n int8)").await.unwrap();
        assert_eq!(client.query_stream("SELECT generate_series(1, 1000)", &[]).await.unwrap().count().await, 1000);
        let error = client.copy_in("COPY kept FROM STDIN").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        let copied = client.copy_out("COPY (SELECT generate_series(1, 10)) TO STDOUT").await.unwrap();
        assert_eq!(copied.count().await, 10);
        // Its rows come at once, and its end does not.
        let slow = "SELECT generate_series(1, 100000), repeat('x', 1000) UNION ALL SELECT 0, pg_sleep(2)::text";
        let mut rows = client.query_stream(slow, &[]).await.unwrap();
        rows.next().await.unwrap().unwrap();
        drop(rows);
        client.query("SELECT 1", &[]).await.unwrap_err();
        drop(client);
        assert!(
            timeout(Duration::from_millis(500), router.client()).await.is_err(),
            "the pool's only connection is free"
        );
        for n in 0..20_i32 {
            let client = timeout(PATIENCE, router.client()).await.expect("no hang").unwrap();
            assert_eq!(client.query_one("SELECT $1::int4", &[&n]).await.unwrap().get::<_, i32>(0), n, "{kind:?}");
        }
    }
}

#[tokio::test]
async fn borrowed_pools_serve_as_primary_and_replica_of_a_store() {
    for kind in KINDS.iter().copied() {
        let database = database().await;
        let primary = pool(kind, &database.primary_url(), 4).await;
        let replica = pool(kind, &database.replica_urls()[0], 4).await;
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
}

#[tokio::test]
async fn a_pool_in_the_wrong_role_is_refused() {
    for kind in KINDS.iter().copied() {
        let database = database().await;
        let primary = || pool(kind, database.primary_url().leak(), 2);
        let swapped = Router::builder().primary_pool(pool(kind, &database.replica_urls()[0], 2).await);
        assert_eq!(swapped.connect().await.unwrap_err().kind(), ErrorKind::Configuration);
        let twice = Router::builder().primary_pool(primary().await).replica_pool(primary().await);
        assert_eq!(twice.connect().await.unwrap_err().kind(), ErrorKind::Configuration);
    }
}

#[tokio::test]
async fn with_its_replica_killed_eventual_reads_still_answer() {
    for kind in KINDS.iter().copied() {
        let cluster = started(LocalCluster::builder()).await;
        let primary = pool(kind, &cluster.primary().url(), 4).await;
        let replica = pool(kind, &cluster.replica(0).url(), 4).await;
        let builder = Router::builder().primary_pool(primary).replica_pool(replica);
        let router = builder.connect_timeout(Duration::from_millis(300)).connect().await.unwrap();
        cluster.replica(0).kill().await.unwrap();
        let served_by = async || {
            let client = router.client_at(Consistency::Eventual).await?;
            client.query_one("SELECT 1", &[]).await.map(|_| client.role())
        };
        // A connection that has just died may still lie in the pool.
        let primary_serves = async {
            while !matches!(served_by().await, Ok(Role::Primary)) {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(HANG, primary_serves).await.expect("no hang");
    }
}

#[tokio::test]
async fn an_abandoned_statement_keeps_its_connection_until_the_server_has_answered() {
    for kind in KINDS.iter().copied() {
        let database = database().await;
        let router =
            Router::builder().primary_pool(pool(kind, &database.primary_url(), 2).await).connect().await.unwrap();
        let client = router.client().await.unwrap();
        let _ = timeout(Duration::from_millis(50), client.batch_execute("SELECT pg_sleep(5)")).await.unwrap_err();
        drop(client);
        // The pool has two: whoever comes next gets the other one, and never waits behind the sleeper.
        for _ in 0..10 {
            let client = router.client().await.unwrap();
            let sql = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND state = 'active' \
                       AND datname = current_database()";
            let sleepers: i64 = client.query_one(sql, &[]).await.unwrap().get(0);
            assert_eq!(sleepers, 1, "the call was answered only after the sleeper had ended");
        }
    }
}

#[tokio::test]
async fn an_open_transaction_is_rolled_back_and_the_rest_of_the_session_is_left_alone() {
    for kind in KINDS.iter().copied() {
        let database = database().await;
        let router =
            Router::builder().primary_pool(pool(kind, &database.primary_url(), 1).await).connect().await.unwrap();
        let client = router.client().await.unwrap();
        client.batch_execute("SET work_mem = '1MB'").await.unwrap();
        client.batch_execute("BEGIN; CREATE TABLE half_done ()").await.unwrap();
        drop(client);
        let client = router.client().await.unwrap();
        let sql = "SELECT current_setting('work_mem'), (SELECT count(*) FROM pg_class WHERE relname = 'half_done')";
        let row = client.query_one(sql, &[]).await.unwrap();
        assert_eq!((row.get::<_, &str>(0), row.get::<_, i64>(1)), ("1MB", 0));
    }
}

#[tokio::test]
async fn a_migration_that_is_given_up_leaves_neither_its_lock_nor_its_time_limits() {
    for kind in KINDS.iter().copied() {
        let (database, admin, store) = store().await;
        let limit = format!("ALTER DATABASE {} SET statement_timeout = '20s'", database.name());
        admin.client().await.unwrap().batch_execute(&limit).await.unwrap();
        let blocker = admin.client().await.unwrap();
        blocker.batch_execute("BEGIN; LOCK TABLE mainstem.events_migrations").await.unwrap();
        let router =
            Router::builder().primary_pool(pool(kind, &database.primary_url(), 1).await).connect().await.unwrap();
        let borrowed = PostgresEventStore::new(&router);
        // The pool's own, which is not the role's.
        router.client().await.unwrap().batch_execute("SET statement_timeout = '19s'").await.unwrap();
        // It has the lock of all migrations, and waits for the table.
        timeout(Duration::from_millis(500), borrowed.migrate()).await.expect_err("the table is locked");
        blocker.batch_execute("ROLLBACK").await.unwrap();
        timeout(HANG, store.migrate()).await.expect("the lock is free").unwrap();
        let shown = async || {
            let client = router.client().await.unwrap();
            client.query_one("SHOW statement_timeout", &[]).await.unwrap().get::<_, String>(0)
        };
        assert_eq!(shown().await, "19s", "given up");
        borrowed.migrate().await.unwrap();
        assert_eq!(shown().await, "19s", "at its end");
    }
}

#[cfg(feature = "deadpool")]
#[tokio::test]
async fn a_pool_that_says_why_it_cannot_connect_is_quoted_at_once() {
    let database = database().await;
    let url = database.primary_url().replace(database.name(), "nowhere");
    let builder = Router::builder().primary_pool(pool(Kind::Deadpool, &url, 2).await);
    let connect = builder.acquire_timeout(2 * HANG).connect_timeout(2 * HANG).connect();
    let error = timeout(HANG, connect).await.expect("no hang").unwrap_err();
    assert_eq!((error.kind(), error.sqlstate()), (ErrorKind::Configuration, Some("3D000")), "{}", error.report());
}

#[tokio::test]
async fn a_session_reads_its_own_writes_through_them() {
    for kind in KINDS.iter().copied() {
        let database = database().await;
        let primary = pool(kind, &database.primary_url(), 4).await;
        let replica = pool(kind, &database.replica_urls()[0], 4).await;
        let builder = Router::builder().primary_pool(primary).replica_pool(replica);
        let router = builder.acquire_timeout(PATIENCE).replay_wait(PATIENCE).connect().await.unwrap();
        own_writes_are_read(&router, &router).await;
    }
}
