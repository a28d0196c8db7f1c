//! Appending beside a process with many writers: the server grants the log's lock in the order of requests, to one process after
//! another.

use std::{
    future::IntoFuture,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use mainstem::{AppendCondition, EventStore, Filter, PostgresEventStore, Result, Router};
use serde_json::json;
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    contention::sabotage,
    support::{LogLock, event, store},
};

/// Far longer than anything here may take: what it ends would have hung.
const HANG: Duration = Duration::from_secs(120);

/// The writers of one process. Its batches have as many events at most.
const CROWD: usize = 32;

/// The appends of the other process, one after the other.
const ALONE: usize = 15;

/// While an append waits, one batch of the crowd is under way, and perhaps another one before it in the line; while its answer is on
/// the way and the next one is made, on a busy machine many more. Who is not given the lock never gets it.
const FAIR: u64 = 50 * CROWD as u64;

/// For one append of the other process.
const LIMIT: Duration = Duration::from_secs(5);

/// How many events of the crowd come between two appends of the other process: the median.
async fn between(changes: &[(&str, &str)]) -> Result<u64> {
    let (_database, router, store) = store().await;
    sabotage(&router, changes).await;
    let crowds = PostgresEventStore::with_name(&router, store.name().clone());
    let mut crowd = JoinSet::new();
    for _ in 0..CROWD {
        let crowds = crowds.clone();
        crowd.spawn(async move {
            while crowds.append([event("Crowd", json!({}))], AppendCondition::none()).await.is_ok() {}
        });
    }
    let begun = async { while !*store.exists(&Filter::any_event()).await.unwrap() {} };
    timeout(HANG, begun).await.expect("the crowd appends");
    let mut positions = Vec::new();
    for _ in 0..ALONE {
        let appending = store.append([event("Alone", json!({}))], AppendCondition::none()).timeout(LIMIT);
        positions.push(timeout(HANG, appending.into_future()).await.expect("no hang")?.first_position());
    }
    assert!(crowd.try_join_next().is_none(), "none of the crowd has failed");
    let mut between: Vec<u64> = positions.windows(2).map(|two| two[1] - two[0] - 1).collect();
    between.sort_unstable();
    Ok(between[between.len() / 2])
}

#[tokio::test]
async fn a_process_with_one_writer_takes_turns_with_one_that_has_many() {
    let between = between(&[]).await.unwrap_or_else(|error| panic!("{}", error.report()));
    assert!((1..=FAIR).contains(&between), "{between} events of others between two appends");
}

#[tokio::test]
async fn mutation_with_a_lock_that_its_session_keeps_the_one_writer_starves() {
    let error = between(&[("done := pg_advisory_xact_lock(", "done := pg_advisory_lock(")]).await.unwrap_err();
    assert!(error.is_timeout(), "{}", error.report());
}

/// Others hold the lock in turn, each for longer than the appends with short limits can wait. One that can wait is written
/// all the same, however many of the others come.
#[tokio::test]
async fn appends_with_short_limits_do_not_keep_one_that_can_wait_from_the_lock() {
    const HELD: Duration = Duration::from_millis(150);
    const SHORT: Duration = Duration::from_millis(120);
    let (database, _router, store) = store().await;
    let elsewhere = Router::builder().primary(database.primary_url()).connect().await.unwrap();
    let over = Arc::new(AtomicBool::new(false));
    let mut tasks = JoinSet::new();
    for _ in 0..2 {
        let (elsewhere, over) = (elsewhere.clone(), Arc::clone(&over));
        tasks.spawn(async move {
            while !over.load(Ordering::Relaxed) {
                let lock = LogLock::take(&elsewhere).await;
                sleep(HELD).await;
                lock.release().await;
            }
        });
    }
    LogLock::is_waited_for(&elsewhere).await;
    let (crowd, is_over) = (store.clone(), Arc::clone(&over));
    tasks.spawn(async move {
        let mut short = JoinSet::new();
        while !is_over.load(Ordering::Relaxed) {
            let append = crowd.append([event("Short", json!({}))], AppendCondition::none());
            short.spawn(append.timeout(SHORT).into_future());
            sleep(SHORT / 6).await;
        }
    });
    sleep(SHORT).await;
    let long = store.append([event("Long", json!({}))], AppendCondition::none()).timeout(LIMIT).await;
    over.store(true, Ordering::Relaxed);
    long.unwrap_or_else(|error| panic!("{}", error.report()));
    timeout(HANG, tasks.join_all()).await.expect("no hang");
    store.close().await;
}
