//! An append that is known to look far back is checked before it is sent, and no append is checked wrongly because of that.

use std::{future::IntoFuture, time::Duration};

use mainstem::{AppendCondition, ErrorKind, EventId, EventStore, Mark, PostgresEventStore, Router};
use serde_json::json;

use crate::{
    known_tail::tamper,
    support::{
        LogLock,
        boundary::{boundary, in_boundary},
        event, store,
    },
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

/// Until nobody else is likely to have the lock: else whoever has lost would learn it before the lock in any case.
async fn write_alone(store: &PostgresEventStore) -> Mark {
    for _ in 0..10 {
        store.append(in_boundary("own"), AppendCondition::none()).await.unwrap();
    }
    store.append(in_boundary("own"), AppendCondition::none()).await.unwrap().last()
}

fn nobody_wrote(name: &str) -> AppendCondition {
    AppendCondition::fail_if_events_match(boundary(name))
}

#[tokio::test]
async fn an_append_with_a_far_back_conflict_does_not_wait_for_the_lock() {
    let (_database, router, _) = store().await;
    let (store, first, _) = long_log(&router).await;
    let last = write_alone(&store).await;
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
async fn a_conflict_between_the_far_back_check_and_the_lock_is_found() {
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
async fn a_far_back_condition_based_on_a_missing_event_reports_divergence() {
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

/// A restored log ends earlier than the store knows, before what the condition is based on.
#[tokio::test]
async fn conditions_based_on_a_lost_end_of_the_log_report_divergence() {
    let (_database, router, _) = store().await;
    let (store, _, last) = long_log(&router).await;
    let since = PostgresEventStore::new(&router);
    since.append(in_boundary("since"), AppendCondition::none()).await.unwrap();
    write_many(&store).await;
    for left in [3, 0] {
        tamper(&router, &format!("DELETE FROM mainstem.events WHERE position > {left}")).await;
        for condition in [nobody_wrote("b").after_position(last.position()), nobody_wrote("b").after(last)] {
            let diverged = store.append(in_boundary("late"), condition).await.map(|appended| appended.first_position());
            assert_eq!(diverged.map_err(|error| error.kind()), Err(ErrorKind::LogDiverged), "{left} are left");
        }
    }
    let whole = store.append(in_boundary("b"), nobody_wrote("b").after_position(0)).await;
    assert_eq!(whole.unwrap().first_position(), 1);
}

/// What is lost is the event up to which it was judged, which the user never heard of.
#[tokio::test]
async fn an_append_succeeds_if_the_event_it_was_checked_up_to_is_lost() {
    let (_database, router, _) = store().await;
    let (store, first, _) = long_log(&router).await;
    write_alone(&store).await;
    let lock = LogLock::take(&router).await;
    let behind = [nobody_wrote("b").after(first), nobody_wrote("c").after_position(0)];
    let appends = behind.map(|condition| tokio::spawn(store.append(in_boundary("d"), condition).into_future()));
    LogLock::is_waited_for(&router).await;
    tamper(&router, "DELETE FROM mainstem.events WHERE position > 2").await;
    lock.release().await;
    let mut positions = Vec::new();
    for append in appends {
        positions.push(append.await.unwrap().unwrap().first_position());
    }
    positions.sort_unstable();
    assert_eq!(positions, [3, 4]);
}

/// They wait in a line of their own, and that has bounds as well.
#[tokio::test]
async fn beyond_the_bounds_a_condition_is_not_judged() {
    let (database, admin, _) = store().await;
    long_log(&admin).await;
    let router = Router::builder().primary(database.primary_url()).max_connections(2).connect().await.unwrap();
    for by_bytes in [false, true] {
        let builder = PostgresEventStore::builder(&router);
        let store = if by_bytes { builder.waiting_bytes(1) } else { builder.waiting_appends(1) }.build();
        store.append(in_boundary("own"), AppendCondition::none()).await.unwrap();
        // Nobody can look at the log.
        let client = admin.client().await.unwrap();
        client.batch_execute("BEGIN; LOCK TABLE mainstem.events IN ACCESS EXCLUSIVE MODE").await.unwrap();
        let append = |name: &str| {
            let append = store.append(in_boundary(name), nobody_wrote(name).after_position(0));
            append.timeout(Duration::from_secs(20)).into_future()
        };
        let judged = tokio::spawn(append("judged"));
        let sql = "SELECT count(*) FROM pg_locks WHERE relation = 'mainstem.events'::regclass AND NOT granted";
        while client.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) == 0 {}
        let waits = tokio::spawn(append("waits"));
        tokio::time::sleep(Duration::from_millis(20)).await;
        let refused = append("refused").await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Overloaded, "{}", refused.report());
        let part = if by_bytes { "limits are 8192 and 1;" } else { "limits are 1 and" };
        assert!(refused.to_string().contains(part), "{refused}");
        // Whoever is being judged is so to the end, and then told that it is too late.
        store.close().await;
        assert_eq!(waits.await.unwrap().unwrap_err().kind(), ErrorKind::Closed);
        client.batch_execute("ROLLBACK").await.unwrap();
        assert_eq!(judged.await.unwrap().unwrap_err().kind(), ErrorKind::Closed);
        assert_eq!(append("late").await.unwrap_err().kind(), ErrorKind::Closed);
    }
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
