//! Tests of decisions: given these events, when this command, then that decision.

use std::{
    fmt::{Debug, Write as _},
    time::SystemTime,
};

use crate::{Command, Decision, DecisionModel, Event, NewEvent};

/// Tests a [`Command`]: given events, when a command, then events, nothing or a refusal. It needs no store and no
/// database.
///
/// ```
/// # use mainstem::{Command, Decision, Event, Filter, NewEvent, Projection, Result};
/// use mainstem::testing::Scenario;
/// # struct Seat(u32, bool);
/// # impl Projection for Seat {
/// #     fn filter(&self) -> Result<Filter> { Filter::matching().all_tags_of([format!("seat:{}", self.0)]).finish() }
/// #     fn apply(&mut self, _event: &Event) -> Result<()> { self.1 = true; Ok(()) }
/// # }
/// # #[derive(Debug, PartialEq)]
/// # enum Refusal { Taken }
/// # struct Book { seat: u32 }
/// # impl Command for Book {
/// #     type Model = Seat;
/// #     type Refusal = Refusal;
/// #     fn model(&self) -> Seat { Seat(self.seat, false) }
/// #     fn decide(&self, seat: &Seat) -> Result<Decision<Refusal>> {
/// #         Ok(if seat.1 { Decision::refuse(Refusal::Taken) } else { Decision::append([booked(self.seat)?]) })
/// #     }
/// # }
/// # fn booked(seat: u32) -> Result<NewEvent> {
/// #     Ok(NewEvent::new("SeatBooked", &())?.with_tag(format!("seat:{seat}")))
/// # }
///
/// Scenario::given([booked(2)?]).when(&Book { seat: 1 }).then([booked(1)?]);
/// Scenario::given([booked(1)?]).when(&Book { seat: 1 }).then_refused(Refusal::Taken);
/// # Ok::<(), mainstem::Error>(())
/// ```
///
/// The events go through the model's own filters, as in a store: a projection does not see an event that its filter
/// does not match. Decisions are compared by type, tags, payload and metadata; ids and times are new each time, and do
/// not count.
#[derive(Clone, Debug)]
#[must_use = "a scenario tests nothing without a command"]
pub struct Scenario {
    log: Vec<Event>,
}

/// The decision of a command in a [`Scenario`].
#[derive(Clone, Debug)]
#[must_use = "a decision is tested by one of the methods that begin with `then`"]
pub struct Decided<R> {
    decision: Decision<R>,
}

impl Scenario {
    /// Begins with a log that contains these events, in this order.
    pub fn given(events: impl IntoIterator<Item = NewEvent>) -> Self {
        let recorded = |(event, position): (NewEvent, u64)| event.into_recorded(position, SystemTime::now());
        Self { log: events.into_iter().zip(1..).map(recorded).collect() }
    }

    /// Begins with an empty log.
    pub fn given_nothing() -> Self {
        Self::given([])
    }

    /// Runs the command on these events.
    ///
    /// # Panics
    ///
    /// If an event is not valid, if a filter cannot be built, or if a projection or the command returns an error.
    #[track_caller]
    pub fn when<C: Command>(self, command: &C) -> Decided<C::Refusal> {
        let model = match command.model().replay(&self.log) {
            Ok(model) => model,
            Err(error) => panic!("the model cannot be made of the given events: {}", error.report()),
        };
        match command.decide(&model) {
            Ok(decision) => Decided { decision },
            Err(error) => panic!("no decision: {}", error.report()),
        }
    }
}

impl<R> Decided<R> {
    /// Returns the decision itself, for other kinds of checks.
    pub fn decision(&self) -> &Decision<R> {
        &self.decision
    }
}

impl<R: Debug> Decided<R> {
    /// Asserts that these events are appended, and nothing is refused.
    ///
    /// # Panics
    ///
    /// If something else was decided.
    #[track_caller]
    pub fn then(self, events: impl IntoIterator<Item = NewEvent>) {
        self.not_refused();
        self.same_events(&events.into_iter().collect::<Vec<_>>());
    }

    /// Asserts that there is nothing to do, and nothing is refused.
    ///
    /// # Panics
    ///
    /// If something else was decided.
    #[track_caller]
    pub fn then_nothing(self) {
        self.then([]);
    }

    /// Asserts that the command is refused for this reason, and nothing is appended.
    ///
    /// # Panics
    ///
    /// If something else was decided.
    #[track_caller]
    pub fn then_refused(self, reason: R)
    where
        R: PartialEq,
    {
        self.then_refused_with(reason, []);
    }

    /// Asserts that the command is refused for this reason, and these events are appended.
    ///
    /// # Panics
    ///
    /// If something else was decided.
    #[track_caller]
    pub fn then_refused_with(self, reason: R, events: impl IntoIterator<Item = NewEvent>)
    where
        R: PartialEq,
    {
        match self.decision.refusal() {
            Some(refusal) => assert!(*refusal == reason, "refused for {refusal:?}, and not for {reason:?}"),
            None => panic!("not refused for {reason:?}, but decided:{}", told(self.decision.events())),
        }
        self.same_events(&events.into_iter().collect::<Vec<_>>());
    }

    #[track_caller]
    fn not_refused(&self) {
        if let Some(reason) = self.decision.refusal() {
            panic!("refused for {reason:?}, with these events:{}", told(self.decision.events()));
        }
    }

    #[track_caller]
    fn same_events(&self, expected: &[NewEvent]) {
        let decided = self.decision.events();
        for event in decided {
            if let Err(error) = event.validate() {
                panic!("an event cannot be appended: {}", error.report());
            }
        }
        let same =
            decided.len() == expected.len() && decided.iter().zip(expected).all(|(left, right)| same(left, right));
        assert!(same, "expected:{}\ndecided:{}", told(expected), told(decided));
    }
}

fn same(left: &NewEvent, right: &NewEvent) -> bool {
    left.event_type() == right.event_type()
        && left.tags().eq(right.tags())
        && left.payload() == right.payload()
        && left.metadata() == right.metadata()
}

/// A line for each event.
fn told(events: &[NewEvent]) -> String {
    let mut text = String::new();
    for event in events {
        let tags: Vec<&str> = event.tags().collect();
        let (payload, metadata) = (event.payload(), event.metadata());
        let _ = write!(text, "\n    {} {payload} {tags:?} {metadata}", event.event_type());
    }
    if events.is_empty() { "\n    nothing".to_owned() } else { text }
}
