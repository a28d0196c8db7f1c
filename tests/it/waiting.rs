//! Appends that wait for their turn: how many may, for how long, and what happens to them when one is cancelled.

use std::{future::IntoFuture, time::Duration};

use mainstem::{AppendCondition, Error, ErrorKind, EventStore, Filter, PostgresEventStore, Router};
use serde_json::json;
use tokio::{runtime::Builder, task::JoinHandle, time::timeout};

use crate::support::{LogLock, event, router, sessions, store};

const LIMIT: Duration = Duration::from_secs(20);

type Result = std::result::Result<u64, Error>;

/// An append of one event on a task of its own, which has been polled when this returns.
async fn start(store: &PostgresEventStore, event_type: &str, limit: Duration) -> JoinHandle<Result> {
    let append = store.append([event(event_type, json!({}))], AppendCondition::none()).timeout(limit).into_future();
    let task = tokio::spawn(async { append.await.map(|appended| appended.first_position()) });
    tokio::task::yield_now().await;
    task
}

async fn types(store: &PostgresEventStore) -> Vec<String> {
    let history = store.query(&Filter::any_event()).await.unwrap();
    history.iter().map(|event| event.event_type().to_owned()).collect()
}

#[tokio::test]
async fn an_append_cancelled_before_its_turn_is_not_written() {
    let (_database, router, store) = store().await;
    let lock = LogLock::take(&router).await;
    let first = start(&store, "Sent", LIMIT).await;
    LogLock::is_waited_for(&router).await;
    let given_up = start(&store, "GivenUp", LIMIT).await;
    let kept = start(&store, "Kept", LIMIT).await;
    given_up.abort();
    assert!(given_up.await.unwrap_err().is_cancelled());
    lock.release().await;
    assert_eq!((first.await.unwrap().unwrap(), kept.await.unwrap().unwrap()), (1, 2));
    assert_eq!(types(&store).await, ["Sent", "Kept"]);
}

/// What is under way goes on, for the others of its batch; only its own caller does not hear of it.
#[tokio::test]
async fn an_append_cancelled_after_it_was_sent_is_written_whole() {
    let (_database, router, store) = store().await;
    let lock = LogLock::take(&router).await;
    let sent = start(&store, "Sent", LIMIT).await;
    LogLock::is_waited_for(&router).await;
    let next = start(&store, "Next", LIMIT).await;
    sent.abort();
    assert!(sent.await.unwrap_err().is_cancelled());
    lock.release().await;
    assert_eq!(next.await.unwrap().unwrap(), 2);
    assert_eq!(types(&store).await, ["Sent", "Next"]);
}

#[tokio::test]
async fn a_limit_that_runs_out_before_the_turn_says_that_nothing_was_sent() {
    let (_database, router, store) = store().await;
    let lock = LogLock::take(&router).await;
    let first = start(&store, "Sent", LIMIT).await;
    LogLock::is_waited_for(&router).await;
    let error = start(&store, "Late", Duration::from_millis(50)).await.await.unwrap().unwrap_err();
    assert!(error.is_timeout() && error.to_string().contains("before the append was sent"), "{error}");
    lock.release().await;
    first.await.unwrap().unwrap();
    assert_eq!(types(&store).await, ["Sent"]);
}

/// The lock is waited for as long as the first of a batch can wait; the others go on waiting.
#[tokio::test]
async fn a_short_limit_shortens_nobody_elses() {
    let (_database, router, store) = store().await;
    let lock = LogLock::take(&router).await;
    let first = start(&store, "Sent", LIMIT).await;
    LogLock::is_waited_for(&router).await;
    // Behind the first append, and before the next two, which then wait for the lock in one batch.
    let between = tokio::spawn({
        let router = router.clone();
        async move { LogLock::take(&router).await }
    });
    LogLock::is_waited_for_by(&router, 2).await;
    let (short, long) = (start(&store, "Short", Duration::from_secs(1)).await, start(&store, "Long", LIMIT).await);
    lock.release().await;
    first.await.unwrap().unwrap();
    let between = between.await.unwrap();
    let error = short.await.unwrap().unwrap_err();
    assert_eq!((error.kind(), error.sqlstate()), (ErrorKind::Timeout, Some("55P03")), "{}", error.report());
    assert!(!long.is_finished());
    between.release().await;
    assert_eq!(long.await.unwrap().unwrap(), 2);
}

#[tokio::test]
async fn beyond_the_bounds_an_append_is_refused_at_once() {
    let (database, router, _store) = store().await;
    let _keep = &database;
    for by_bytes in [false, true] {
        let builder = PostgresEventStore::builder(&router);
        let store = if by_bytes { builder.waiting_bytes(25) } else { builder.waiting_appends(2) }.build();
        let before = types(&store).await.len() as u64;
        let lock = LogLock::take(&router).await;
        let sent = start(&store, "Sent", LIMIT).await;
        LogLock::is_waited_for(&router).await;
        let waiting = [start(&store, "Waits", LIMIT).await, start(&store, "Waits", LIMIT).await];
        let error = start(&store, "Refused", LIMIT).await.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Overloaded, "{}", error.report());
        let part = if by_bytes { "limits are 8192 and 25" } else { "limits are 2" };
        assert!(error.is_retryable() && error.to_string().contains(part), "{error}");
        // Whoever has given up makes room.
        let [given_up, kept] = waiting;
        given_up.abort();
        given_up.await.unwrap_err();
        let late = start(&store, "Late", LIMIT).await;
        lock.release().await;
        assert_eq!(sent.await.unwrap().unwrap(), before + 1);
        assert_eq!((kept.await.unwrap().unwrap(), late.await.unwrap().unwrap()), (before + 2, before + 3));
    }
}

#[tokio::test]
async fn closing_answers_what_was_taken_and_takes_no_more() {
    let (_database, router, store) = store().await;
    let lock = LogLock::take(&router).await;
    let first = start(&store, "Sent", LIMIT).await;
    LogLock::is_waited_for(&router).await;
    let waiting = start(&store, "Waits", LIMIT).await;
    let closing = tokio::spawn({
        let store = store.clone();
        async move { store.close().await }
    });
    tokio::time::sleep(Duration::from_millis(20)).await;
    let error = start(&store, "Late", LIMIT).await.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed, "{}", error.report());
    assert!(!closing.is_finished() && !error.is_retryable());
    lock.release().await;
    closing.await.unwrap();
    assert!(first.is_finished() && waiting.is_finished() || timeout(LIMIT, waiting).await.unwrap().unwrap().is_ok());
    assert_eq!(types(&store).await, ["Sent", "Waits"]);
    store.close().await;
}

/// The drain runs on the runtime of whoever came first. When that ends, the others are not left alone.
#[test]
fn a_runtime_that_ends_leaves_nobody_waiting() {
    let here = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (database, admin, reader) = here.block_on(store());
    let lock = here.block_on(LogLock::take(&admin));
    // Its one connection is opened here: one that is opened there would end with that runtime.
    let router = here.block_on(Router::builder().primary(database.primary_url()).max_connections(1).connect()).unwrap();
    let store = PostgresEventStore::new(&router);
    assert!(here.block_on(types(&store)).is_empty());
    let there = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let sent = there.spawn({
        let store = store.clone();
        async move { start(&store, "Sent", LIMIT).await.await }
    });
    here.block_on(LogLock::is_waited_for(&admin));
    let waiting = here.block_on(start(&store, "Waits", LIMIT));
    there.shutdown_background();
    assert!(here.block_on(sent).unwrap_err().is_cancelled());
    here.block_on(async {
        // The first append may be written or not.
        lock.release().await;
        let position = timeout(LIMIT, waiting).await.expect("an answer").unwrap().unwrap();
        let types = types(&reader).await;
        assert_eq!(types.last().map(String::as_str), Some("Waits"), "{types:?}");
        assert_eq!(types.len() as u64, position);
    });
}

/// Those who wait on another runtime than the drain's have the same outcome as it, if they were in its batch.
#[test]
fn an_append_batched_by_a_runtime_that_ends_is_still_answered() {
    let here = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (database, admin, _) = here.block_on(store());
    let there = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let own = there.block_on(router(&database));
    let store = PostgresEventStore::new(&own);
    let lock = here.block_on(LogLock::take(&admin));
    let first = there.spawn({
        let store = store.clone();
        async move { start(&store, "First", LIMIT).await.await }
    });
    here.block_on(LogLock::is_waited_for(&admin));
    let together = here.block_on(start(&store, "Together", LIMIT));
    here.block_on(lock.release());
    here.block_on(first).unwrap().unwrap().unwrap();
    here.block_on(together).unwrap().unwrap();

    let lock = here.block_on(LogLock::take(&admin));
    let driver = there.spawn({
        let store = store.clone();
        async move { start(&store, "Driver", LIMIT).await.await }
    });
    // Perhaps before the drain takes its batch, perhaps after: either outcome is right, but nobody may hang.
    let together = here.block_on(start(&store, "Together", LIMIT));
    here.block_on(LogLock::is_waited_for(&admin));
    there.shutdown_background();
    assert!(here.block_on(driver).is_err());
    here.block_on(lock.release());
    match here.block_on(async { timeout(LIMIT, together).await }).expect("an answer").unwrap() {
        Ok(_) => {}
        Err(error) => {
            assert!(error.is_outcome_unknown() || error.kind() == ErrorKind::Unavailable, "{}", error.report())
        }
    }
}

/// Conditions that reach far back are judged on connections of their own, and not on all of them.
#[tokio::test]
async fn far_back_checks_leave_a_connection_for_appends() {
    let (database, admin, _) = store().await;
    let router = Router::builder().primary(database.primary_url()).max_connections(4).connect().await.unwrap();
    let store = PostgresEventStore::new(&router);
    let free = || AppendCondition::fail_if_events_match(Filter::matching().any_type_of(["Taken"]).finish().unwrap());
    let client = admin.client().await.unwrap();
    client.batch_execute("BEGIN; LOCK TABLE mainstem.events IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let far = (0..10).map(|_| {
        let append = store.append([event("Far", json!({}))], free()).timeout(LIMIT).into_future();
        tokio::spawn(append)
    });
    let far: Vec<_> = far.collect();
    sessions(&database, "wait_event_type = 'Lock' AND query LIKE '%broken%'", 2).await;
    let plain = start(&store, "Plain", LIMIT).await;
    sessions(&database, "wait_event_type = 'Lock' AND query LIKE 'CALL%'", 1).await;
    sessions(&database, "wait_event_type = 'Lock' AND query LIKE '%broken%'", 2).await;
    client.batch_execute("ROLLBACK").await.unwrap();
    plain.await.unwrap().unwrap();
    for append in far {
        append.await.unwrap().unwrap();
    }
    assert_eq!(types(&store).await.len(), 11);
}
