//! The tasks that drain the queue of appends: one, or two if there are many appends. Each may end at any moment.

use std::{
    future::IntoFuture,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::{FutureExt, future::join_all};
use mainstem::{AppendCondition, Appended, Error, EventStore, PostgresEventStore};
use tokio::{
    runtime::{Builder, Runtime},
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use crate::support::{
    LogLock,
    boundary::{boundary, in_boundary, unless},
    store,
};

const LIMIT: Duration = Duration::from_secs(5);

/// An append on a task of its own.
fn append(store: &PostgresEventStore, name: &str, condition: AppendCondition) -> JoinHandle<Result<Appended, Error>> {
    let append = store.append(in_boundary(name), condition).timeout(LIMIT).into_future();
    tokio::spawn(append)
}

fn two_threads() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// An append whose runtime ends before the drain that it has spawned was ever polled.
fn append_on_a_runtime_that_ends(store: &PostgresEventStore) {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut append = Box::pin(store.append(in_boundary("given up"), AppendCondition::none()).into_future());
        assert!(append.as_mut().now_or_never().is_none());
    });
}

#[test]
fn a_drain_that_never_ran_is_replaced() {
    let runtime = two_threads();
    let (_database, _admin, store) = runtime.block_on(store());
    append_on_a_runtime_that_ends(&store);
    runtime.block_on(async {
        append(&store, "next", AppendCondition::none()).await.unwrap().unwrap();
        timeout(LIMIT, store.close()).await.expect("nothing is under way");
    });
}

#[test]
fn a_second_drain_that_never_ran_strands_nobody() {
    let runtime = two_threads();
    let (_database, admin, store) = runtime.block_on(store());
    let (lock, first, many) = runtime.block_on(async {
        let lock = LogLock::take(&admin).await;
        let first = append(&store, "first", AppendCondition::none());
        LogLock::is_waited_for(&admin).await;
        // The next one makes it worth a second drain.
        let many: Vec<_> = (0..63).map(|_| append(&store, "waits", AppendCondition::none())).collect();
        sleep(Duration::from_millis(50)).await;
        (lock, first, many)
    });
    append_on_a_runtime_that_ends(&store);
    runtime.block_on(async {
        lock.release().await;
        first.await.unwrap().unwrap();
        for append in join_all(many).await {
            append.unwrap().unwrap();
        }
    });
}

/// The second drain was spawned on a runtime that nobody drives.
#[test]
fn a_drain_leaves_the_line_to_none_that_does_not_run() {
    let runtime = two_threads();
    let (_database, admin, store) = runtime.block_on(store());
    let (lock, first, many) = runtime.block_on(async {
        let lock = LogLock::take(&admin).await;
        let first = append(&store, "first", AppendCondition::none());
        LogLock::is_waited_for(&admin).await;
        let many: Vec<_> = (0..63).map(|_| append(&store, "waits", AppendCondition::none())).collect();
        sleep(Duration::from_millis(50)).await;
        (lock, first, many)
    });
    let not_driven = Builder::new_current_thread().enable_all().build().unwrap();
    let mut last = Box::pin(store.append(in_boundary("last"), AppendCondition::none()).into_future());
    not_driven.block_on(async { assert!(last.as_mut().now_or_never().is_none()) });
    runtime.block_on(async {
        lock.release().await;
        first.await.unwrap().unwrap();
        let start = Instant::now();
        for append in join_all(many).await {
            append.unwrap().unwrap();
        }
        assert!(start.elapsed() < Duration::from_secs(2), "they waited for the second drain: {:?}", start.elapsed());
        last.await.unwrap();
    });
}

/// The first drain, and the connection's, too: nobody is there who could end it.
#[test]
fn a_store_closes_beside_a_drain_that_does_not_run() {
    let runtime = two_threads();
    let (_database, admin, store) = runtime.block_on(store());
    let not_driven = Builder::new_current_thread().enable_all().build().unwrap();
    let lock = runtime.block_on(async {
        // That one had no limit is nothing to who comes when it has been answered.
        store.append(in_boundary("first"), AppendCondition::none()).timeout(Duration::MAX).await.unwrap();
        LogLock::take(&admin).await
    });
    not_driven.block_on(async {
        let append = store.append(in_boundary("given up"), AppendCondition::none()).timeout(LIMIT).into_future();
        timeout(Duration::from_millis(300), append).await.unwrap_err();
    });
    runtime.block_on(async {
        let start = Instant::now();
        timeout(4 * LIMIT, store.close()).await.expect("it ends with the limit of the append");
        assert!(start.elapsed() > LIMIT / 2, "it waited for what may still be answered: {:?}", start.elapsed());
        lock.release().await;
    });
}

/// Who is judged again keeps its place in the line, so the store that closes meanwhile still answers it.
#[tokio::test]
async fn a_rechecked_append_is_still_answered_by_a_closing_store() {
    let (_database, router, store) = store().await;
    store.append(in_boundary("old"), AppendCondition::none()).await.unwrap();
    let lock = LogLock::take(&router).await;
    let first = append(&store, "first", AppendCondition::none());
    LogLock::is_waited_for(&router).await;
    let refused: Vec<_> = (0..20).map(|_| append(&store, "hot", unless(&boundary("old")))).collect();
    let last = append(&store, "last", unless(&boundary("hot")));
    sleep(Duration::from_millis(20)).await;
    let closing = tokio::spawn({
        let store = store.clone();
        async move { store.close().await }
    });
    sleep(Duration::from_millis(20)).await;
    lock.release().await;
    first.await.unwrap().unwrap();
    assert!(join_all(refused).await.into_iter().all(|append| append.unwrap().is_err()));
    last.await.unwrap().unwrap();
    closing.await.unwrap();
}

#[tokio::test]
async fn a_rechecked_append_is_not_overtaken_for_ever() {
    let (_database, _router, store) = store().await;
    store.append(in_boundary("old"), AppendCondition::none()).await.unwrap();
    let over = Arc::new(AtomicBool::new(false));
    let busy = (0..30).map(|_| {
        let (store, over) = (store.clone(), Arc::clone(&over));
        tokio::spawn(async move {
            while !over.load(Ordering::Relaxed) {
                assert!(store.append(in_boundary("hot"), unless(&boundary("old"))).await.is_err());
            }
        })
    });
    let busy: Vec<_> = busy.collect();
    sleep(Duration::from_millis(100)).await;
    let last = append(&store, "last", unless(&boundary("hot"))).await.unwrap();
    over.store(true, Ordering::Relaxed);
    for task in busy {
        task.await.unwrap();
    }
    last.unwrap();
}
