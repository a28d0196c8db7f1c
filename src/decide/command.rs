//! A command, and what is decided about it.

use super::DecisionModel;
use crate::{NewEvent, Result};

/// Something that somebody wants done: what it is decided on, and the decision.
///
/// ```
/// use mainstem::{Command, Decision, Event, Filter, NewEvent, Projection, Result};
///
/// /// Whether a seat is taken.
/// struct Seat {
///     name: String,
///     taken: bool,
/// }
///
/// impl Projection for Seat {
///     fn filter(&self) -> Result<Filter> {
///         Filter::matching().any_type_of(["SeatBooked"]).and_all_tags_of([format!("seat:{}", self.name)]).finish()
///     }
///
///     fn apply(&mut self, _booked: &Event) -> Result<()> {
///         self.taken = true;
///         Ok(())
///     }
/// }
///
/// struct BookSeat {
///     name: String,
/// }
///
/// #[derive(Debug, PartialEq)]
/// struct Taken;
///
/// impl Command for BookSeat {
///     type Model = Seat;
///     type Refusal = Taken;
///
///     fn model(&self) -> Seat {
///         Seat { name: self.name.clone(), taken: false }
///     }
///
///     fn decide(&self, seat: &Seat) -> Result<Decision<Taken>> {
///         if seat.taken {
///             return Ok(Decision::refuse(Taken));
///         }
///         Ok(Decision::append([NewEvent::new("SeatBooked", &())?.with_tag(format!("seat:{}", self.name))]))
///     }
/// }
///
/// let book = BookSeat { name: "A1".into() };
/// let decision = book.decide(&book.model())?;
/// assert_eq!(decision.events()[0].event_type(), "SeatBooked");
/// # Ok::<(), mainstem::Error>(())
/// ```
///
/// A [`CommandExecutor`](crate::CommandExecutor) reads, decides and appends, as often as it takes. Both methods are to be pure:
/// no I/O, and nothing that must not happen twice, since after a conflict a decision is made anew. `testing::Scenario`
/// (feature `testing`) tests decisions without a store.
pub trait Command: Sync {
    /// What it is decided on.
    type Model: DecisionModel;

    /// Why it is refused, in the words of the business.
    type Refusal: Send;

    /// The model, as it is before the first event. Its filters say what the decision depends on, and so what must not change
    /// before it is written.
    fn model(&self) -> Self::Model;

    /// Decides.
    ///
    /// # Errors
    ///
    /// When no decision can be made, as when an event cannot be serialised. It ends the execution. What the business
    /// refuses is no error, but a [decision](Decision::refuse).
    fn decide(&self, model: &Self::Model) -> Result<Decision<Self::Refusal>>;
}

/// What was decided: events, nothing, or a refusal, perhaps with events that tell of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a decision does nothing until it is carried out"]
pub struct Decision<R> {
    pub(super) events: Vec<NewEvent>,
    pub(super) refusal: Option<R>,
}

impl<R> Decision<R> {
    /// These events are appended. Without any, it is the same as [`nothing`](Self::nothing).
    pub fn append(events: impl IntoIterator<Item = NewEvent>) -> Self {
        Self { events: events.into_iter().collect(), refusal: None }
    }

    /// There is nothing to do: what was asked for is so already.
    pub fn nothing() -> Self {
        Self::append([])
    }

    /// It is refused.
    pub fn refuse(reason: R) -> Self {
        Self { events: Vec::new(), refusal: Some(reason) }
    }

    /// It is refused, and these events are appended: the log tells of it, and who asked is refused all the same.
    pub fn refuse_and_append(reason: R, events: impl IntoIterator<Item = NewEvent>) -> Self {
        Self { events: events.into_iter().collect(), refusal: Some(reason) }
    }

    /// The events to append.
    pub fn events(&self) -> &[NewEvent] {
        &self.events
    }

    /// Why it is refused, if it is.
    #[must_use]
    pub fn refusal(&self) -> Option<&R> {
        self.refusal.as_ref()
    }
}
