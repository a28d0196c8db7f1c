//! What must still be true when an append is written.

use super::refusal;
use crate::{Error, Filter, Mark, Result};

/// The condition of an append: no event matching a filter has been appended after what was read.
///
/// It is the append condition of the Dynamic Consistency Boundary specification (`failIfEventsMatch` and `after`).
/// [`History::unchanged`](crate::History::unchanged) creates the condition that guards a read; the constructors here
/// are for appends without a preceding read.
///
/// ```
/// # use mainstem::{AppendCondition, Filter, Mark};
/// # fn example(mark: Mark) -> mainstem::Result<()> {
/// // A name is taken by the first who registers it: there must be no such event at all.
/// let taken = Filter::matching().any_type_of(["NameRegistered"]).and_all_tags_of(["name:ada"]).finish()?;
/// let free = AppendCondition::fail_if_events_match(taken.clone());
///
/// // Nobody took it since the place in the log that was read before.
/// let still_free = AppendCondition::fail_if_events_match(taken).after(mark);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a condition does nothing until an append takes it"]
pub struct AppendCondition {
    pub(super) guard: Option<Guard>,
    /// A starting place was set, but no filter.
    after_nothing: bool,
}

/// What a store checks when an append has a condition; for implementors of stores.
///
/// First, the store checks whether the log holds what the condition is based on, which [`After`] specifies. If it does
/// not, the answer is [`diverged`](Self::diverged). Then it checks whether an event after that matches the filter: if
/// one does, the answer is [`conflict`](Self::conflict). Nothing may come between the check and the write, and the
/// events of the append itself do not count.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Guard {
    /// The filter that no event may match.
    pub filter: Filter,
    /// The place after which events count.
    pub after: After,
}

/// The place after which a [`Guard`] looks for events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum After {
    /// From the first event on.
    Beginning,
    /// After this position, whatever event is there. It must not be beyond the log's head.
    Position(u64),
    /// After this event, which must exist.
    Mark(Mark),
}

impl AppendCondition {
    /// Creates an empty condition: the events are written whatever else is in the log.
    pub fn none() -> Self {
        Self { guard: None, after_nothing: false }
    }

    /// Requires that no event matches `filter`: none at all, unless [`after`](Self::after) sets a starting place.
    pub fn fail_if_events_match(filter: Filter) -> Self {
        Self { guard: Some(Guard { filter, after: After::Beginning }), after_nothing: false }
    }

    /// Counts only events after this one: the last event that the decision knew of, which is the log's head at the time
    /// of the read, not the last event that matched.
    ///
    /// If another event is at its position, or none, the append fails with
    /// [`LogDiverged`](crate::ErrorKind::LogDiverged): the decision was not based on this log's history. (At position 0
    /// no log has an event: that is [`InvalidInput`](crate::ErrorKind::InvalidInput).)
    ///
    /// On [`none`](Self::none), it makes the append fail with [`InvalidInput`](crate::ErrorKind::InvalidInput): without
    /// a filter, it would guard nothing. To refuse the append if anything has come since, use [`Filter::any_event`].
    pub fn after(self, mark: Mark) -> Self {
        self.looking_after(After::Mark(mark))
    }

    /// Counts only events after this position, as in the Dynamic Consistency Boundary specification.
    ///
    /// **Unfenced**: after a failover or a restore that lost events, the same position may hold another event, and this
    /// condition cannot detect that. Prefer [`after`](Self::after). A position beyond the log's head is
    /// [`LogDiverged`](crate::ErrorKind::LogDiverged).
    pub fn after_position(self, position: u64) -> Self {
        self.looking_after(After::Position(position))
    }

    /// Creates the condition that guards a read whose log ended there.
    pub(crate) fn since(head: Option<Mark>, filter: Filter) -> Self {
        Self::fail_if_events_match(filter).looking_after(head.map_or(After::Position(0), After::Mark))
    }

    fn looking_after(mut self, after: After) -> Self {
        match &mut self.guard {
            Some(guard) => guard.after = after,
            None => self.after_nothing = true,
        }
        self
    }

    /// For the next of several appends that form one: counts from its predecessor on, whose own events do not count.
    pub(super) fn continue_after(&mut self, mark: Mark) {
        if let Some(guard) = &mut self.guard {
            guard.after = After::Mark(mark);
        }
    }

    /// Checks what can be checked without asking a store.
    pub(super) fn check(&self) -> Result<()> {
        if self.after_nothing {
            return Err(Error::invalid_input(
                "the condition has an `after` but no filter, so it would guard nothing; begin it with \
                 AppendCondition::fail_if_events_match",
            ));
        }
        match self.guard.as_ref().and_then(|guard| guard.after.mark()) {
            Some(mark) if mark.position() == 0 => Err(Error::invalid_input(
                "the condition starts after an event at position 0, where none can be: leave out `after` to look from the beginning",
            )),
            _ => Ok(()),
        }
    }

    /// Returns what must be checked, if anything; for implementors of stores.
    #[must_use]
    pub fn guard(&self) -> Option<&Guard> {
        self.guard.as_ref()
    }
}

impl Guard {
    /// Creates the error for a matching event: the first one after [`after`](Self::after), by its position and type.
    #[must_use]
    pub fn conflict(&self, position: u64, event_type: &str) -> Error {
        refusal::conflict(position, event_type)
    }

    /// Creates the error for a log, whose last event is at `head`, that does not hold what [`after`](Self::after)
    /// specifies. An empty log ends at 0.
    #[must_use]
    pub fn diverged(&self, head: u64) -> Error {
        refusal::diverged(self.after, head)
    }
}

impl After {
    /// Returns the position after which events count; 0 if all of them do.
    #[must_use]
    pub fn position(self) -> u64 {
        match self {
            Self::Beginning => 0,
            Self::Position(position) => position,
            Self::Mark(mark) => mark.position(),
        }
    }

    /// Returns the event that must exist.
    #[must_use]
    pub fn mark(self) -> Option<Mark> {
        match self {
            Self::Mark(mark) => Some(mark),
            Self::Beginning | Self::Position(_) => None,
        }
    }
}
