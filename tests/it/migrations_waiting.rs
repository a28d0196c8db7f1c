//! Migrations that wait for others, and migrations that end half-way.

use std::time::Duration;

use mainstem::{Error, ErrorKind, PostgresEventStore, Router, schema::Migrated, testing::TestDatabase};

use crate::{
    migrations::instance,
    support::{database, sessions, store},
};

const V2: &str = include_str!("../../migrations/V2__append.sql");
const LIMIT: Duration = Duration::from_secs(30);

/// Begins a migration that gets as far as its second file, and stops there.
async fn stuck(
    database: &TestDatabase<'_>,
) -> (Router, mainstem::Client, tokio::task::JoinHandle<Result<Migrated, Error>>) {
    let router = instance(database).await;
    let blocker = router.client().await.unwrap();
    blocker.batch_execute("CREATE SCHEMA mainstem").await.unwrap();
    blocker.batch_execute(&format!("BEGIN; {V2}")).await.unwrap();
    let store = PostgresEventStore::new(&router);
    let migrating = tokio::spawn(async move { store.migrate().await });
    sessions(database, "wait_event = 'transactionid'", 1).await;
    (router, blocker, migrating)
}

async fn goes_on_with_the_second(database: &TestDatabase<'_>, blocker: &mainstem::Client) {
    let again = PostgresEventStore::new(&instance(database).await);
    let again = tokio::spawn(async move { again.migrate().await });
    blocker.batch_execute("ROLLBACK").await.unwrap();
    let migrated = tokio::time::timeout(LIMIT, again).await.expect("the lock is not free").unwrap().unwrap();
    assert_eq!(migrated.applied, crate::support::migrations()[1..]);
}

#[tokio::test]
async fn after_a_migration_that_was_dropped_midway_the_next_goes_on() {
    let database = database().await;
    let (_router, blocker, migrating) = stuck(&database).await;
    migrating.abort();
    assert!(migrating.await.unwrap_err().is_cancelled());
    goes_on_with_the_second(&database, &blocker).await;
}

#[tokio::test]
async fn after_a_migration_whose_session_was_ended_the_next_goes_on() {
    let database = database().await;
    let (router, blocker, migrating) = stuck(&database).await;
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'transactionid' \
               AND datname = current_database()";
    router.client().await.unwrap().batch_execute(end).await.unwrap();
    let error = migrating.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", error.report());
    assert!(error.report().contains("V2__append"), "{}", error.report());
    goes_on_with_the_second(&database, &blocker).await;
}

/// As an instance that migrates has it.
const SCHEMA_LOCK: &str = "SELECT pg_advisory_lock(1296651086, hashtext('mainstem'))";

#[tokio::test]
async fn a_migration_waits_for_another_only_within_its_timeout() {
    let (_database, router, store) = store().await;
    let other = router.client().await.unwrap();
    other.batch_execute(SCHEMA_LOCK).await.unwrap();
    let migrate = store.migrate().timeout(Duration::from_millis(300));
    let error = tokio::time::timeout(LIMIT, migrate).await.expect("it ends").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{}", error.report());
    assert!(error.to_string().contains("migrations") && error.to_string().contains("300ms"), "{error}");
}

#[tokio::test]
async fn a_waiting_migration_does_not_block_the_one_it_waits_for() {
    let (database, router, store) = store().await;
    let other = router.client().await.unwrap();
    other.batch_execute(SCHEMA_LOCK).await.unwrap();
    let waiting = tokio::spawn(async move { store.migrate().await });
    sessions(&database, "query LIKE '%pg_try_advisory_lock%'", 1).await;
    // Waits for the snapshots of all who have one.
    let index = "CREATE INDEX CONCURRENTLY later ON mainstem.events (occurred_at)";
    other.batch_execute(index).await.unwrap_or_else(|error| panic!("{}", error.report()));
    drop(other);
    assert_eq!(
        tokio::time::timeout(LIMIT, waiting).await.expect("the lock is free").unwrap().unwrap().applied.len(),
        0
    );
}
