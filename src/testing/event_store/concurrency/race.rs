//! Many racers, each of which repeatedly reads, decides and appends.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use futures_util::future::join_all;
use tokio::sync::Barrier;

use super::{
    super::fixture::{Store, expect},
    oracle::Oracle,
};
use crate::{AppendCondition, Appended, Error, EventStore, Filter, Mark, NewEvent, Result, backend::BoxFuture};

/// What a racer does in a round: it reads this, and appends that, if what it has read is unchanged.
pub(super) struct Move {
    pub(super) filter: Filter,
    pub(super) events: Vec<NewEvent>,
    /// Whether the append has a condition.
    pub(super) guarded: bool,
}

/// The result of a racer's read.
pub(super) struct Read {
    pub(super) filter: Filter,
    pub(super) events: Vec<Mark>,
    pub(super) head: Option<Mark>,
    /// The highest position that had been acknowledged to anyone when the read began.
    pub(super) floor: u64,
}

/// A racer's attempt, and the answer it received.
pub(super) struct Attempt {
    pub(super) filter: Filter,
    /// That of the condition, unless there was none.
    pub(super) after: Option<u64>,
    pub(super) events: Vec<NewEvent>,
    pub(super) outcome: Result<Appended, Error>,
}

/// How often an append was written, and how often it was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Score {
    pub(super) won: usize,
    pub(super) lost: usize,
}

/// When racers read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// In every other round all decide on the same state, so that they are bound to collide.
    Together,
    /// One after the other, so that reads fall between the commits of others, and during them.
    Staggered,
}

/// Runs a race on an empty store, and lets the oracle judge the result.
pub(super) async fn run(store: Store<'_>, racers: usize, rounds: usize, plan: impl Fn(usize, usize) -> Move) -> Score {
    run_from(store, Start::Together, racers, rounds, plan).await
}

pub(super) async fn run_from(
    store: Store<'_>,
    start: Start,
    racers: usize,
    rounds: usize,
    plan: impl Fn(usize, usize) -> Move,
) -> Score {
    let (all_have_read, acknowledged) = (Barrier::new(racers), AtomicU64::new(0));
    let (all_have_read, acknowledged, plan) = (&all_have_read, &acknowledged, &plan);
    let racing = (0..racers).map(|racer| async move {
        let mut told = Vec::new();
        for round in 0..rounds {
            let Move { filter, events, guarded } = plan(racer, round);
            if start == Start::Staggered {
                let turn = u64::try_from((racer + round) % racers).unwrap_or_default();
                tokio::time::sleep(Duration::from_micros(250 * turn)).await;
            }
            let floor = acknowledged.load(Ordering::SeqCst);
            let history = expect(elsewhere(store.query(&filter)).await, "a racer's query");
            if start == Start::Together && round % 2 == 0 {
                all_have_read.wait().await;
            }
            let (after, condition) = if guarded {
                (Some(history.head().map_or(0, |head| head.position())), history.unchanged())
            } else {
                (None, AppendCondition::none())
            };
            let outcome = elsewhere(store.append(events.clone(), condition)).await;
            if let Ok(appended) = &outcome {
                acknowledged.fetch_max(appended.last().position(), Ordering::SeqCst);
            }
            let (head, seen) = (history.head(), history.iter().map(crate::Event::mark).collect());
            let read = Read { filter: filter.clone(), events: seen, head, floor };
            told.push((read, Attempt { filter, after, events, outcome }));
        }
        told
    });
    let (reads, attempts) = join_all(racing).await.into_iter().flatten().unzip();
    Oracle { reads, attempts }.judge(store).await
}

/// Runs a call in its own task, so that calls run in parallel and are not only interleaved.
pub(in super::super) async fn elsewhere<T: Send + 'static>(
    call: impl IntoFuture<Output = T, IntoFuture = BoxFuture<T>>,
) -> T {
    match tokio::spawn(call.into_future()).await {
        Ok(output) => output,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(error) => panic!("a call was cancelled: {error}"),
        },
    }
}
