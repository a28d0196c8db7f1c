//! Scenarios: they pass when the decision is as expected, and say what is wrong when it is not.

use std::panic::{AssertUnwindSafe, catch_unwind};

use mainstem::{Command, Decision, Error, ErrorKind, NewEvent, Result, testing::Scenario};

use super::domain::{Course, EnrolmentError, REFUSED, course, defined, enrol, enrolled};

/// What a test that fails says.
fn failure(test: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(test)).expect_err("it should have failed");
    panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).into())).unwrap()
}

fn told_of_refusal() -> NewEvent {
    NewEvent::new(REFUSED, &EnrolmentError::Full).unwrap().with_tag("course:1")
}

#[test]
fn a_scenario_passes_when_the_decision_is_as_it_should_be() {
    Scenario::given([defined(1, 1)]).when(&enrol(1, 7)).then([enrolled(1, 7)]);
    Scenario::given([defined(1, 1), enrolled(1, 7)]).when(&enrol(1, 7)).then_nothing();
    Scenario::given_nothing().when(&enrol(1, 7)).then_refused(EnrolmentError::NoCourse);
    let mut telling = enrol(1, 7);
    telling.tell = true;
    let full = Scenario::given([defined(1, 1), enrolled(1, 8)]);
    full.clone().when(&telling).then_refused_with(EnrolmentError::Full, [told_of_refusal()]);
    assert_eq!(full.when(&enrol(1, 7)).decision().refusal(), Some(&EnrolmentError::Full));
    // By the filters of the model: what is another course's is not seen.
    Scenario::given([defined(1, 1), enrolled(2, 8)]).when(&enrol(1, 7)).then([enrolled(1, 7)]);
}

#[test]
fn a_scenario_fails_when_it_is_not_and_says_why() {
    let free = || Scenario::given([defined(1, 1)]).when(&enrol(1, 7));
    let full = || Scenario::given([defined(1, 1), enrolled(1, 8)]).when(&enrol(1, 7));
    let mut telling = enrol(1, 7);
    telling.tell = true;
    let told = || Scenario::given([defined(1, 1), enrolled(1, 8)]).when(&telling);
    let failures = [
        (failure(|| free().then_nothing()), "decided:\n    StudentEnrolled"),
        (failure(|| free().then([enrolled(1, 8)])), "expected:\n    StudentEnrolled"),
        (failure(|| free().then([enrolled(1, 7), enrolled(1, 7)])), "expected:"),
        (failure(|| free().then([enrolled(1, 7).with_tag("more")])), "\"more\""),
        (failure(|| free().then([enrolled(1, 7).with_correlation_id("c")])), "CorrelationID"),
        (failure(|| free().then_refused(EnrolmentError::Full)), "not refused for Full"),
        (failure(|| full().then([enrolled(1, 7)])), "refused for Full"),
        (failure(|| full().then_nothing()), "refused for Full"),
        (failure(|| full().then_refused(EnrolmentError::Enough)), "and not for Enough"),
        (failure(|| full().then_refused_with(EnrolmentError::Full, [told_of_refusal()])), "decided:\n    nothing"),
        (failure(|| told().then_refused(EnrolmentError::Full)), "expected:\n    nothing"),
        (failure(|| told().then([told_of_refusal()])), "refused for Full"),
    ];
    for (message, part) in failures {
        assert!(message.contains(part), "{message:?} does not say {part:?}");
    }
}

#[test]
fn a_scenario_fails_when_no_decision_can_be_made_or_appended() {
    struct Failing(fn() -> Result<Decision<()>>);
    impl Command for Failing {
        type Model = Course;
        type Refusal = ();

        fn model(&self) -> Course {
            course(1)
        }

        fn decide(&self, _course: &Course) -> Result<Decision<()>> {
            (self.0)()
        }
    }
    let failing = Failing(|| Err(Error::new(ErrorKind::Configuration, "why not")));
    assert!(failure(|| Scenario::given_nothing().when(&failing).then_nothing()).contains("why not"));
    let unstorable = Failing(|| Ok(Decision::append([NewEvent::new("", &())?])));
    let expected = || NewEvent::new("", &()).unwrap();
    assert!(failure(|| Scenario::given_nothing().when(&unstorable).then([expected()])).contains("cannot be appended"));
    let unreadable = NewEvent::new("CourseDefined", "many").unwrap().with_tag("course:1");
    assert!(failure(|| Scenario::given([unreadable]).when(&enrol(1, 7)).then_nothing()).contains("position 1"));
}
