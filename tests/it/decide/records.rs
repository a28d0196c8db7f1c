//! The log of commands: a record of each, and one result for each id.

use std::time::Duration;

use futures_util::future::join_all;
use mainstem::{
    Appended, CommandError, CommandExecutor, CommandOutcome, CommandRecord, Error, ErrorKind, Event, EventContext,
    EventStore, Filter, MemoryEventStore, Predicate, RecordedCommand, Scope,
    testing::{AppendFault, FailingEventStore},
};

use super::{
    domain::{Enrol, EnrolmentError, append, defined, enrol, enrolled, log, reason, stores},
    spy::Spy,
};

fn record(id: &str, command: &Enrol) -> CommandRecord {
    CommandRecord::new(id, "Enrol").with_data(command).unwrap()
}

async fn records(store: &dyn EventStore) -> Vec<RecordedCommand> {
    let filter = Filter::matching().any_type_of([CommandRecord::EVENT_TYPE]).finish().unwrap();
    let events = (&store).query(&filter).await.unwrap();
    events.iter().map(|event| RecordedCommand::from_event(event).unwrap()).collect()
}

#[tokio::test]
async fn a_repeated_command_has_the_result_of_the_first() {
    for (place, store) in stores().await {
        append(&store, [defined(1, 1)]).await;
        let executor = CommandExecutor::new(store.clone());
        let mut told = enrol(1, 9);
        told.tell = true;
        let (decided, nothing, refused) = (enrol(1, 7), enrol(1, 7), enrol(1, 8));
        for round in 0..2 {
            let executed = executor.execute(&decided).recorded(record("decided", &decided)).await.unwrap();
            assert_eq!((executed.outcome, executed.is_repeated), (CommandOutcome::Decided, round == 1), "{place}");
            assert_eq!(executed.appended.as_ref().map(Appended::positions), Some(2..=3), "{place}");
            let executed = executor.execute(&nothing).recorded(record("nothing", &nothing)).await.unwrap();
            assert_eq!((executed.outcome, executed.is_repeated), (CommandOutcome::Nothing, round == 1), "{place}");
            assert_eq!(executed.appended.as_ref().map(Appended::positions), Some(4..=4), "{place}");
            for (id, command, positions) in [("refused", &refused, 5..=5), ("told", &told, 6..=7)] {
                let error = executor.execute(command).recorded(record(id, command)).await.unwrap_err();
                let CommandError::Refused { reason, appended, is_repeated, .. } = error else { panic!("{error}") };
                assert_eq!((reason, is_repeated), (EnrolmentError::Full, round == 1), "{place}");
                assert_eq!(appended.map(|it| it.positions()), Some(positions), "{place}");
            }
        }
        assert_eq!(log(&store).await.len(), 7, "{place}");
    }
}

#[tokio::test]
async fn a_command_made_many_times_at_once_is_carried_out_once() {
    for (place, store) in stores().await {
        append(&store, [defined(1, 100)]).await;
        // Each on an executor of its own, as in different processes; without the id each would be "nothing to do".
        let command = enrol(1, 7);
        let told = join_all((0..12).map(|_| async {
            let executor = CommandExecutor::new(store.clone()).max_attempts(100);
            executor.execute(&command).recorded(record("once", &command)).await.unwrap()
        }));
        let told = told.await;
        assert_eq!(told.iter().filter(|executed| !executed.is_repeated).count(), 1, "{place}");
        assert!(told.iter().all(|executed| executed.outcome == CommandOutcome::Decided), "{place}");
        let positions = |executed: &mainstem::Executed| executed.appended.as_ref().map(Appended::positions);
        assert!(told.iter().all(|executed| positions(executed) == Some(2..=3)), "{place}: {told:?}");
        assert_eq!((records(&store).await.len(), log(&store).await.len()), (1, 3), "{place}");
    }
}

#[tokio::test]
async fn the_record_says_what_was_asked_and_decided_and_which_events_that_were() {
    for (place, store) in stores().await {
        append(&store, [defined(1, 1)]).await;
        let executor = CommandExecutor::new(store.clone());
        let (decided, refused) = (enrol(1, 7), enrol(1, 8));
        let context = EventContext::new().with_correlation_id("c-1");
        let scope = Scope::new().with_item(context);
        scope.run(async { executor.execute(&decided).recorded(record("m-1", &decided)).await }).await.unwrap();
        let _ = executor.execute(&refused).recorded(record("m-2", &refused)).await;

        let found = executor.find_command("m-1").await.unwrap().unwrap();
        assert_eq!(
            (found.id(), found.command_type(), found.outcome()),
            ("m-1", "Enrol", Some(CommandOutcome::Decided))
        );
        assert_eq!((found.positions(), found.mark().position(), found.refusal()), (2..3, 3, None), "{place}");
        assert_eq!(found.data(), Some(&mainstem::Json::from_serialize(&decided).unwrap()), "{place}");
        let found = executor.find_command("m-2").await.unwrap().unwrap();
        assert_eq!((found.outcome(), found.positions()), (None, 4..4), "{place}");
        assert_eq!(found.refusal().unwrap().decode::<EnrolmentError>().unwrap(), EnrolmentError::Full, "{place}");
        assert!(executor.find_command("m-3").await.unwrap().is_none(), "{place}");

        // The events name the command, and the scope's ids stay.
        let of_command = Predicate::metadata(EventContext::MESSAGE_ID, "m-1");
        let events = store.query(&Filter::matching().any_predicate_of([of_command]).finish().unwrap()).await.unwrap();
        assert_eq!(events.iter().map(Event::position).collect::<Vec<_>>(), [2, 3], "{place}");
        assert!(events.iter().all(|event| event.correlation_id().as_deref() == Some("c-1")), "{place}");
    }
}

#[tokio::test]
async fn events_keep_the_message_id_that_the_scope_has() {
    let store = MemoryEventStore::new();
    append(&store, [defined(1, 1)]).await;
    let executor = CommandExecutor::new(store.clone());
    let scope = Scope::new().with_item(EventContext::new().with_message_id("of the scope"));
    let command = enrol(1, 7);
    scope.run(async { executor.execute(&command).recorded(record("m-1", &command)).await }).await.unwrap();
    assert_eq!(log(&store).await[1].message_id().as_deref(), Some("of the scope"));
}

#[tokio::test]
async fn the_record_is_there_with_its_events_or_not_at_all() {
    let spy = Spy::default();
    append(&spy, [defined(1, 100)]).await;
    spy.be_faster([enrolled(1, 1)]);
    let executor = CommandExecutor::new(spy.clone()).max_attempts(1);
    let command = enrol(1, 7);
    executor.execute(&command).recorded(record("m-1", &command)).await.unwrap_err();
    assert!(records(&spy).await.is_empty());
    assert!(!executor.execute(&command).recorded(record("m-1", &command)).await.unwrap().is_repeated);
}

#[tokio::test]
async fn after_an_unknown_outcome_another_execution_tells() {
    for was_written in [true, false] {
        let store = FailingEventStore::new(MemoryEventStore::new());
        append(&store, [defined(1, 100)]).await;
        let lost = Error::new(ErrorKind::OutcomeUnknown, "the answer was lost");
        let (behind, before) = (AppendFault::AfterCommit(lost.clone()), AppendFault::BeforeCommit(lost));
        store.fail_next_append(if was_written { behind } else { before });
        let executor = CommandExecutor::new(store.clone()).max_attempts(1);
        let command = enrol(1, 7);
        let error = executor.execute(&command).recorded(record("m-1", &command)).await.unwrap_err();
        assert!(error.error().is_some_and(Error::is_outcome_unknown), "{error}");
        // In another process, perhaps, and whatever the course has come to since.
        append(&store, [defined(1, if was_written { 0 } else { 2 })]).await;
        let executed = executor.execute(&command).recorded(record("m-1", &command)).await.unwrap();
        assert_eq!((executed.outcome, executed.is_repeated), (CommandOutcome::Decided, was_written));
    }
}

#[tokio::test]
async fn an_id_is_never_taken_for_another_command() {
    let store = MemoryEventStore::new();
    append(&store, [defined(1, 100)]).await;
    let executor = CommandExecutor::new(store.clone()).base_delay(Duration::ZERO);
    let (command, other) = (enrol(1, 7), enrol(1, 8));
    executor.execute(&command).recorded(record("m-1", &command)).await.unwrap();
    let without_data = CommandRecord::new("m-1", "Enrol");
    let of_another_type = CommandRecord::new("m-1", "Leave").with_data(&command).unwrap();
    for wrong in [record("m-1", &other), of_another_type, without_data] {
        let error = executor.execute(&command).recorded(wrong).await.unwrap_err();
        assert_eq!(error.error().map(Error::kind), Some(ErrorKind::InvalidInput));
        assert!(reason(&error).contains("taken by another command"), "{error:?}");
    }
    for id in ["", "a\0b", &"x".repeat(CommandRecord::MAX_ID_LEN + 1)] {
        let error = executor.execute(&other).recorded(record(id, &other)).await.unwrap_err();
        assert_eq!(error.error().map(Error::kind), Some(ErrorKind::InvalidInput), "{id:?}");
        assert_eq!(executor.find_command(id).await.unwrap_err().kind(), ErrorKind::InvalidInput, "{id:?}");
    }
    assert_eq!(log(&store).await.len(), 3);
    let longest = "x".repeat(CommandRecord::MAX_ID_LEN);
    executor.execute(&other).recorded(record(&longest, &other)).await.unwrap();
    assert!(RecordedCommand::from_event(&log(&store).await[0]).is_err());
}
