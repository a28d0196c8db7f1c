//! Commands, and decisions about them.

use super::DecisionModel;
use crate::{NewEvent, Result};

/// A request to do something: the model that its decision is based on, and the decision itself.
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
/// A [`CommandExecutor`](crate::CommandExecutor) reads, decides and appends, as often as it takes. Both methods must be
/// pure: no I/O, and nothing that must not happen twice, since a conflict leads to a new decision. `testing::Scenario`
/// (feature `testing`) tests decisions without a store.
pub trait Command: Sync {
    /// The model that the decision is based on.
    type Model: DecisionModel;

    /// The reason for a refusal, in business terms.
    type Refusal: Send;

    /// Returns the model in its state before the first event. Its filters define what the decision depends on, and
    /// therefore what must not change before the decision is written.
    fn model(&self) -> Self::Model;

    /// Makes the decision.
    ///
    /// # Errors
    ///
    /// If no decision can be made, for example because an event cannot be serialised. The error ends the execution. A
    /// refusal for business reasons is not an error but a [decision](Decision::refuse).
    fn decide(&self, model: &Self::Model) -> Result<Decision<Self::Refusal>>;
}

/// The result of deciding: events, nothing, or a refusal, which may have events that record it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a decision does nothing until it is carried out"]
pub struct Decision<R> {
    pub(super) events: Vec<NewEvent>,
    pub(super) refusal: Option<R>,
}

impl<R> Decision<R> {
    /// Appends these events. Without events, it is the same as [`nothing`](Self::nothing).
    pub fn append(events: impl IntoIterator<Item = NewEvent>) -> Self {
        Self { events: events.into_iter().collect(), refusal: None }
    }

    /// Does nothing: what the command asks for is already the case.
    pub fn nothing() -> Self {
        Self::append([])
    }

    /// Refuses the command.
    pub fn refuse(reason: R) -> Self {
        Self { events: Vec::new(), refusal: Some(reason) }
    }

    /// Refuses the command and appends these events: the log records the refusal, and the caller still gets it.
    pub fn refuse_and_append(reason: R, events: impl IntoIterator<Item = NewEvent>) -> Self {
        Self { events: events.into_iter().collect(), refusal: Some(reason) }
    }

    /// Returns the events to append.
    pub fn events(&self) -> &[NewEvent] {
        &self.events
    }

    /// Returns the reason for the refusal, if it is one.
    #[must_use]
    pub fn refusal(&self) -> Option<&R> {
        self.refusal.as_ref()
    }
}
