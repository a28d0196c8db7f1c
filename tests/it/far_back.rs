//! Who is known to look far back is judged before the append is sent, and no append is judged wrongly for it.

use std::{future::IntoFuture, time::Duration};

use mainstem::{AppendCondition, ErrorKind, EventId, EventStore, Mark, PostgresEventStore, Router};
use serde_json::json;

use crate::support::{
    LogLock,
    boundary::{boundary, in_boundary},
    event, store,
};

/// More than what is looked at under the lock.
const MANY: u64 = 1001;

/// A store that has written the end of the log, far behind an event of somebody else, which is followed by one in the boundary
/// "a". Its first and its last event.
async fn long_log(router: &Router) -> (PostgresEventStore, Mark, Mark) {
    let (other, store) = (PostgresEventStore::new(router), PostgresEventStore::new(router));
    let first = other.append(in_boundary("first"), AppendCondition::none()).await.unwrap().last();
    other.append(in_boundary("a"), AppendCondition::none()).await.unwrap();
    store.append(in_boundary("own"), AppendCondition::none()).await.unwrap();
    let last = write_many(&store).await;
    (store, first, last)
}

async fn write_many(store: &PostgresEventStore) -> Mark {
    let many = (0..MANY).map(|number| event("Many", json!({"number": number})));
    store.append(many, AppendCondition::none()).await.unwrap().last()
}

fn nobody_wrote(name: &str) -> AppendCondition {
    AppendCondition::fail_if_events_match(boundary(name))
}

#[tokio::test]
async fn who_has_lost_far_back_does_not_wait_for_the_lock() {
    let (_database, router, _) = store().await;
    let (store, first, mut last) = long_log(&router).await;
    // Until nobody else is likely to have the lock: else whoever has lost would learn it before the lock in any case.
    for _ in 0..10 {
        last = store.append(in_boundary("own"), AppendCondition::none()).await.unwrap().last();
    }
    let lock = LogLock::take(&router).await;
    for condition in [nobody_wrote("a").after(first), nobody_wrote("a").after_position(0)] {
        let lost = store.append(in_boundary("late"), condition).timeout(Duration::from_secs(5)).await;
        assert_eq!(lost.unwrap_err().conflict().map(|conflict| conflict.position), Some(2));
    }
    let held = tokio::spawn(store.append(in_boundary("held"), nobody_wrote("held").after(first)).into_future());
    LogLock::is_waited_for(&router).await;
    lock.release().await;
    assert_eq!(held.await.unwrap().unwrap().first_position(), last.position() + 1);
}

/// Between the judgement and the lock.
#[tokio::test]
async fn what_comes_behind_the_judgement_is_found() {
    let (_database, router, _) = store().await;
    let (store, first, last) = long_log(&router).await;
    let lock = LogLock::take(&router).await;
    let broken = tokio::spawn(store.append(in_boundary("b"), nobody_wrote("b").after(first)).into_future());
    LogLock::is_waited_for(&router).await;
    lock.append("b").await;
    let broken = broken.await.unwrap().unwrap_err();
    assert_eq!(broken.conflict().map(|conflict| conflict.position), Some(last.position() + 1));
}

/// What breaks the condition in this log says nothing of one that is based on another log.
#[tokio::test]
async fn what_a_condition_is_based_on_must_be_there_far_back_as_well() {
    let (_database, router, _) = store().await;
    let (store, first, last) = long_log(&router).await;
    for name in ["a", "nobody's"] {
        let elsewhere = Mark::new(first.position(), EventId::new());
        let diverged = store.append(in_boundary("late"), nobody_wrote(name).after(elsewhere)).await.unwrap_err();
        assert_eq!(diverged.kind(), ErrorKind::LogDiverged, "{}", diverged.report());
    }
    let beyond = nobody_wrote("a").after_position(last.position() + 5);
    assert_eq!(store.append(in_boundary("late"), beyond).await.unwrap_err().kind(), ErrorKind::LogDiverged);
}

#[tokio::test]
async fn an_append_is_repeated_far_back_whatever_its_own_events_break() {
    let (_database, router, _) = store().await;
    let (store, first, _) = long_log(&router).await;
    let event = in_boundary("b").remove(0);
    let append = async || store.append([event.clone()], nobody_wrote("b").after(first)).await.unwrap();
    let written = append().await;
    write_many(&store).await;
    let again = append().await;
    assert_eq!((again.is_repeated(), again.last()), (true, written.last()));
}
