//! What is retried, how often, and what is reported at the end.

use std::time::Duration;

use mainstem::{
    CommandExecutor, Error, ErrorKind, EventStore, MemoryEventStore,
    testing::{AppendFault, FailingEventStore},
};

use super::{
    domain::{ENROLLED, append, defined, enrol, enrolled, log, reason},
    spy::{Call, Spy},
};

fn failing() -> FailingEventStore<MemoryEventStore> {
    FailingEventStore::new(MemoryEventStore::new())
}

fn error(kind: ErrorKind) -> Error {
    Error::new(kind, "as the test says")
}

fn quick(store: impl EventStore + 'static) -> CommandExecutor {
    CommandExecutor::new(store).base_delay(Duration::from_micros(100)).max_delay(Duration::from_micros(100))
}

async fn enrolments(store: &dyn EventStore) -> usize {
    log(store).await.iter().filter(|event| event.event_type() == ENROLLED).count()
}

#[tokio::test]
async fn an_append_whose_answer_is_lost_is_made_again_and_written_once() {
    for fault in [AppendFault::AfterCommit, AppendFault::BeforeCommit] {
        let store = failing();
        append(&store, [defined(1, 3)]).await;
        store.fail_next_append(fault(error(ErrorKind::OutcomeUnknown)));
        store.fail_next_append(AppendFault::BeforeCommit(error(ErrorKind::Unavailable)));
        let executed = quick(store.clone()).execute(&enrol(1, 7)).await.unwrap();
        assert_eq!((executed.attempts.decisions, executed.attempts.repeats, executed.attempts.conflicts), (1, 2, 0));
        assert_eq!(enrolments(&store).await, 1);
    }
}

#[tokio::test]
async fn a_repeat_has_the_same_ids_and_the_same_condition() {
    let spy = Spy::default();
    append(&spy, [defined(1, 3)]).await;
    let store = FailingEventStore::new(spy.clone());
    store.fail_next_append(AppendFault::AfterCommit(error(ErrorKind::OutcomeUnknown)));
    spy.calls();
    quick(store).execute(&enrol(1, 7)).await.unwrap();
    let appends: Vec<_> = spy.calls().into_iter().filter(|call| matches!(call, Call::Append(..))).collect();
    assert_eq!(appends.len(), 2);
    assert_eq!(appends[0], appends[1]);
}

#[tokio::test]
async fn if_nobody_answers_to_the_end_the_outcome_is_unknown_whatever_the_last_error_was() {
    for last in [ErrorKind::Unavailable, ErrorKind::Timeout, ErrorKind::Overloaded, ErrorKind::Closed] {
        let store = failing();
        append(&store, [defined(1, 3)]).await;
        store.fail_next_append(AppendFault::BeforeCommit(error(ErrorKind::Overloaded)));
        store.fail_next_append(AppendFault::AfterCommit(error(ErrorKind::OutcomeUnknown)));
        store.fail_next_append(AppendFault::BeforeCommit(error(last)));
        let told = quick(store.clone()).max_attempts(3).execute(&enrol(1, 7)).await.unwrap_err();
        assert_eq!(told.error().map(Error::kind), Some(ErrorKind::OutcomeUnknown), "{last:?}: {told}");
        assert_eq!(enrolments(&store).await, 1);
    }
}

#[tokio::test]
async fn if_no_try_can_have_written_the_last_error_is_told() {
    for last in [ErrorKind::Unavailable, ErrorKind::Timeout, ErrorKind::Overloaded] {
        let store = failing();
        append(&store, [defined(1, 3)]).await;
        (0..3).for_each(|_| store.fail_next_append(AppendFault::BeforeCommit(error(last))));
        let told = quick(store.clone()).max_attempts(3).execute(&enrol(1, 7)).await.unwrap_err();
        assert_eq!(told.error().map(Error::kind), Some(last), "{told}");
        assert_eq!((enrolments(&store).await, store.planned()), (0, 0));
    }
}

#[tokio::test]
async fn after_so_many_conflicts_it_is_given_up_and_nothing_is_written() {
    let spy = Spy::default();
    append(&spy, [defined(1, 100)]).await;
    (0..4).for_each(|student| spy.be_faster([enrolled(1, student)]));
    let told = quick(spy.clone()).max_attempts(3).execute(&enrol(1, 7)).await.unwrap_err();
    assert!(told.error().is_some_and(Error::is_conflict), "{told}");
    assert!(reason(&told).contains("given up after 3 attempts"), "{told:?}");
    assert_eq!((told.attempts().decisions, told.attempts().conflicts), (3, 3));
    assert_eq!(enrolments(&spy).await, 3);
    // None counts as one.
    let spy = Spy::default();
    append(&spy, [defined(1, 100)]).await;
    spy.be_faster([enrolled(1, 50)]);
    let told = quick(spy).max_attempts(0).execute(&enrol(1, 7)).await.unwrap_err();
    assert_eq!(told.attempts().decisions, 1);
}

#[tokio::test]
async fn no_wait_goes_on_beyond_the_limit() {
    let spy = Spy::default();
    append(&spy, [defined(1, 100)]).await;
    spy.be_faster([enrolled(1, 1)]);
    let hour = Duration::from_secs(3_600);
    let executor = CommandExecutor::new(spy.clone()).base_delay(hour).timeout(hour);
    let told = executor.execute(&enrol(1, 7)).await.unwrap_err();
    assert!(told.error().is_some_and(Error::is_conflict) && reason(&told).contains("the limit is 3600s"), "{told:?}");
    assert!(told.attempts().delay.is_zero());
}

#[tokio::test(start_paused = true)]
async fn waits_grow_up_to_the_longest_and_are_never_the_same() {
    let run = async || {
        let spy = Spy::default();
        append(&spy, [defined(1, 100)]).await;
        (0..6).for_each(|student| spy.be_faster([enrolled(1, student)]));
        let executor = CommandExecutor::new(spy.clone());
        let executor = executor.base_delay(Duration::from_millis(10)).max_delay(Duration::from_millis(40));
        executor.execute(&enrol(1, 7)).await.unwrap().attempts
    };
    let mut delays = Vec::new();
    for _ in 0..8 {
        let attempts = run().await;
        assert_eq!(attempts.conflicts, 6);
        // 10 + 20 + 4 × 40, and a random part of each.
        let (least, most) = (Duration::from_millis(190), Duration::from_millis(380));
        assert!((least..=most).contains(&attempts.delay), "{:?}", attempts.delay);
        delays.push(attempts.delay);
    }
    delays.sort();
    delays.dedup();
    assert!(delays.len() > 1, "without a random part");
}

#[tokio::test]
async fn reads_that_fail_for_now_are_made_again_and_others_are_not() {
    let store = failing();
    append(&store, [defined(1, 3)]).await;
    store.fail_next_read(error(ErrorKind::Unavailable));
    let executed = quick(store.clone()).execute(&enrol(1, 7)).await.unwrap();
    assert_eq!((executed.attempts.decisions, executed.attempts.last_error), (1, Some(ErrorKind::Unavailable)));
    store.fail_next_read(error(ErrorKind::Schema));
    let told = quick(store.clone()).execute(&enrol(1, 8)).await.unwrap_err();
    assert_eq!((told.error().map(Error::kind), told.attempts().decisions), (Some(ErrorKind::Schema), 0));
}

#[tokio::test]
async fn a_decision_on_a_history_that_the_log_has_lost_is_made_anew() {
    let store = failing();
    append(&store, [defined(1, 3)]).await;
    store.fail_next_append(AppendFault::BeforeCommit(error(ErrorKind::LogDiverged)));
    let executed = quick(store.clone()).execute(&enrol(1, 7)).await.unwrap();
    assert_eq!((executed.attempts.decisions, executed.attempts.conflicts), (2, 1));
}
