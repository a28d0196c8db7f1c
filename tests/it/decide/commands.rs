//! The outcomes of commands.

use futures_util::future::join_all;
use mainstem::{
    Appended, Command, CommandError, CommandExecutor, CommandOutcome, Consistency, Decision, DecisionModel, Error,
    ErrorKind, EventContext, NewEvent, Result, Scope, current_consistency, with_eventual_consistency,
};

use super::{
    domain::{
        COURSES, ENROLLED, EnrolmentError, REFUSED, append, course, defined, enrol, enrolled, log, stores, student,
    },
    spy::{Call, Spy},
};

#[tokio::test]
async fn a_command_appends_what_was_decided() {
    for (place, store) in stores().await {
        append(&store, [defined(1, 3)]).await;
        let executed = CommandExecutor::new(store.clone()).execute(&enrol(1, 7)).await.unwrap();
        assert_eq!(executed.outcome, CommandOutcome::Decided, "{place}");
        assert_eq!(executed.appended.as_ref().map(Appended::positions), Some(2..=2), "{place}");
        assert_eq!((executed.is_repeated, executed.attempts.decisions, executed.attempts.conflicts), (false, 1, 0));
        assert_eq!(log(&store).await[1].event_type(), ENROLLED, "{place}");
    }
}

#[tokio::test]
async fn where_there_is_nothing_to_do_nothing_is_appended() {
    let spy = Spy::default();
    append(&spy, [defined(1, 3), enrolled(1, 7)]).await;
    let executed = CommandExecutor::new(spy.clone()).execute(&enrol(1, 7)).await.unwrap();
    assert_eq!((executed.outcome, executed.appended), (CommandOutcome::Nothing, None));
    assert_eq!(log(&spy).await.len(), 2);
}

#[tokio::test]
async fn a_refusal_is_an_error_and_appends_nothing() {
    for (place, store) in stores().await {
        append(&store, [defined(1, 1), enrolled(1, 6)]).await;
        let error = CommandExecutor::new(store.clone()).execute(&enrol(1, 7)).await.unwrap_err();
        assert_eq!(error.refusal(), Some(&EnrolmentError::Full), "{place}");
        assert_eq!(error.to_string(), "refused: the course is full", "{place}");
        assert!(matches!(error, CommandError::Refused { appended: None, is_repeated: false, .. }), "{place}");
        assert_eq!(log(&store).await.len(), 2, "{place}");
    }
}

#[tokio::test]
async fn a_refusal_with_events_appends_them_and_is_an_error_all_the_same() {
    for (place, store) in stores().await {
        append(&store, [defined(1, 1), enrolled(1, 6)]).await;
        let mut command = enrol(1, 7);
        command.tell = true;
        let error = CommandExecutor::new(store.clone()).execute(&command).await.unwrap_err();
        let CommandError::Refused { reason, appended, .. } = error else { panic!("{place}: {error}") };
        assert_eq!((reason, appended.map(|it| it.positions())), (EnrolmentError::Full, Some(3..=3)), "{place}");
        let log = log(&store).await;
        assert_eq!((log.len(), log[2].event_type()), (3, REFUSED), "{place}");
    }
}

#[tokio::test]
async fn a_decision_is_made_anew_when_somebody_was_faster() {
    let spy = Spy::default();
    append(&spy, [defined(1, 2)]).await;
    spy.calls();
    spy.be_faster([enrolled(1, 8)]);
    let executed = CommandExecutor::new(spy.clone()).execute(&enrol(1, 7)).await.unwrap();
    assert_eq!((executed.attempts.decisions, executed.attempts.conflicts), (2, 1));
    assert_eq!(executed.attempts.last_error, Some(ErrorKind::Conflict));
    assert!(!executed.attempts.delay.is_zero());
    // Now with the last place gone meanwhile: the second decision is another one.
    append(&spy, [defined(2, 1)]).await;
    spy.be_faster([enrolled(2, 8)]);
    let error = CommandExecutor::new(spy.clone()).execute(&enrol(2, 7)).await.unwrap_err();
    assert_eq!((error.refusal(), error.attempts().decisions), (Some(&EnrolmentError::Full), 2));
}

#[tokio::test]
async fn concurrent_commands_never_overbook_courses_or_students() {
    for (place, store) in stores().await {
        append(&store, [defined(1, 3), defined(2, 40), defined(3, 40), defined(4, 40)]).await;
        let executor = CommandExecutor::new(store.clone()).max_attempts(200);
        // Twelve students, each of whom wants every course: a boundary of two parts, of which either may break.
        let commands: Vec<_> = (0..12).flat_map(|student| (1..=4).map(move |course| enrol(course, student))).collect();
        let told = join_all(commands.iter().map(|command| async { executor.execute(command).await })).await;
        let (mut decided, mut full, mut enough) = (0, 0, 0);
        for outcome in told {
            match outcome {
                Ok(executed) => decided += usize::from(executed.outcome == CommandOutcome::Decided),
                Err(error) => match error.refusal() {
                    Some(EnrolmentError::Full) => full += 1,
                    Some(EnrolmentError::Enough) => enough += 1,
                    other => panic!("{place}: {other:?}, {error}"),
                },
            }
        }
        let events = log(&store).await;
        let courses: Vec<_> = (1..=4).map(course).collect();
        let students: Vec<_> = (0..12).map(student).collect();
        let (courses, students) = (courses, students).replay(&events).unwrap();
        assert!(courses.iter().all(|course| course.students.len() <= course.capacity), "{place}: {courses:?}");
        assert!(students.iter().all(|student| student.courses.len() <= COURSES), "{place}: {students:?}");
        assert_eq!(decided, events.len() - 4, "{place}");
        assert_eq!(decided + full + enough, 48, "{place}");
        assert!(full > 0 && enough > 0, "{place}: {full} {enough}");
    }
}

/// Is refused with the level of the scope in which it is decided.
struct LevelOfDecision;

impl Command for LevelOfDecision {
    type Model = super::domain::Course;
    type Refusal = Consistency;

    fn model(&self) -> Self::Model {
        course(9)
    }

    fn decide(&self, _course: &Self::Model) -> Result<Decision<Consistency>> {
        Ok(Decision::refuse(current_consistency()))
    }
}

#[tokio::test]
async fn a_command_reads_strongly_and_keeps_the_items_of_the_scope() {
    let spy = Spy::default();
    append(&spy, [defined(1, 3)]).await;
    spy.calls();
    let executor = CommandExecutor::new(spy.clone());
    with_eventual_consistency(async { executor.execute(&enrol(1, 7)).await }).await.unwrap();
    assert_eq!(spy.calls()[0], Call::Query(Consistency::Strong));
    // The scope is strong for whatever looks at it, too.
    let level = with_eventual_consistency(async { executor.execute(&LevelOfDecision).await }).await;
    assert_eq!(level.unwrap_err().refusal(), Some(&Consistency::Strong));
    // The scope is that of the call, and not of the await.
    let scope = Scope::new().with_item(EventContext::new().with_correlation_id("c-1"));
    let (first, second) = (enrol(1, 8), enrol(1, 9));
    scope.run_sync(|| executor.execute(&first)).await.unwrap();
    let outside = executor.execute(&second);
    scope.run(async { outside.await }).await.unwrap();
    let ids: Vec<_> = log(&spy).await.iter().map(|event| event.correlation_id().map(String::from)).collect();
    assert_eq!(ids, [None, None, Some("c-1".to_owned()), None]);
}

#[tokio::test]
async fn a_command_that_cannot_be_decided_is_given_up_at_once() {
    struct Broken;
    impl Command for Broken {
        type Model = super::domain::Course;
        type Refusal = &'static str;

        fn model(&self) -> Self::Model {
            course(1)
        }

        fn decide(&self, _course: &Self::Model) -> Result<Decision<&'static str>> {
            Err(Error::new(ErrorKind::Configuration, "no decision"))
        }
    }
    struct Unstorable;
    impl Command for Unstorable {
        type Model = super::domain::Course;
        type Refusal = &'static str;

        fn model(&self) -> Self::Model {
            course(1)
        }

        fn decide(&self, _course: &Self::Model) -> Result<Decision<&'static str>> {
            Ok(Decision::append([NewEvent::new("", &())?]))
        }
    }
    let executor = CommandExecutor::new(Spy::default());
    let error = executor.execute(&Broken).await.unwrap_err();
    assert_eq!((error.error().unwrap().kind(), error.attempts().decisions), (ErrorKind::Configuration, 1));
    let error = executor.execute(&Unstorable).await.unwrap_err();
    assert_eq!((error.error().unwrap().kind(), error.attempts().decisions), (ErrorKind::InvalidInput, 1));
}
