//! What must still be true when an append is written.

use super::refusal;
use crate::{Error, Filter, Mark, Result};

/// The condition of an append: that no event matching a filter has been appended after what was read.
///
/// It is the append condition of the Dynamic Consistency Boundary specification (`failIfEventsMatch` and `after`).
/// [`History::unchanged`](crate::History::unchanged) makes the one that vouches for a read; the constructors here are
/// for appends that no read precedes.
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
    /// Something was said about from where on to look, but not for what.
    after_nothing: bool,
}

/// For the makers of stores: what a store judges when an append has a condition.
///
/// First whether the log holds what the condition is based on: [`After`] says what, and if it does not, the answer is
/// [`diverged`](Self::diverged). Then whether an event behind it matches the filter: if one does, the answer is
/// [`conflict`](Self::conflict). Nothing may come between the judgement and the write, and the events of the append
/// itself do not count.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Guard {
    /// No event that matches this may be there,
    pub filter: Filter,
    /// behind this.
    pub after: After,
}

/// From where on a [`Guard`] looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum After {
    /// From the first event on.
    Beginning,
    /// Behind this position, whatever event is there. It must not be beyond the log's head.
    Position(u64),
    /// Behind this event, which must be there.
    Mark(Mark),
}

impl AppendCondition {
    /// No condition: the events are written whatever else is in the log.
    pub fn none() -> Self {
        Self { guard: None, after_nothing: false }
    }

    /// No event may match `filter`: none at all, unless [`after`](Self::after) says from where on.
    pub fn fail_if_events_match(filter: Filter) -> Self {
        Self { guard: Some(Guard { filter, after: After::Beginning }), after_nothing: false }
    }

    /// Only events behind this one count: the highest that the decision knew of, which is the log's head at the time of
    /// the read, not the last event that matched.
    ///
    /// If another event is at its position, or none, the append fails with
    /// [`LogDiverged`](crate::ErrorKind::LogDiverged): what the decision was made of is not this log's history. (At position 0 no log
    /// has an event: that is [`InvalidInput`](crate::ErrorKind::InvalidInput).)
    ///
    /// An append with [`none`](Self::none) behind something is refused with
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput): there is no filter, so it would guard nothing. To refuse whatever
    /// has come since, say [`Filter::any_event`].
    pub fn after(self, mark: Mark) -> Self {
        self.behind(After::Mark(mark))
    }

    /// Only events behind this position count, as in the Dynamic Consistency Boundary specification.
    ///
    /// **Unfenced**: after a failover or a restore that lost events the same position may hold another event, and this
    /// condition cannot tell. Prefer [`after`](Self::after). A position beyond the log's head is
    /// [`LogDiverged`](crate::ErrorKind::LogDiverged).
    pub fn after_position(self, position: u64) -> Self {
        self.behind(After::Position(position))
    }

    /// What vouches for a read whose log ended there.
    pub(crate) fn since(head: Option<Mark>, filter: Filter) -> Self {
        Self::fail_if_events_match(filter).behind(head.map_or(After::Position(0), After::Mark))
    }

    fn behind(mut self, after: After) -> Self {
        match &mut self.guard {
            Some(guard) => guard.after = after,
            None => self.after_nothing = true,
        }
        self
    }

    /// For the next append of several that are one: from its predecessor on, whose own events don't count.
    pub(super) fn go_on_behind(&mut self, mark: Mark) {
        if let Some(guard) = &mut self.guard {
            guard.after = After::Mark(mark);
        }
    }

    /// What can be told before a store is asked.
    pub(super) fn check(&self) -> Result<()> {
        if self.after_nothing {
            return Err(Error::invalid_input(
                "the condition says behind what, but not what may not be there, so it would guard nothing; begin it with \
                 AppendCondition::fail_if_events_match",
            ));
        }
        match self.guard.as_ref().and_then(|guard| guard.after.mark()) {
            Some(mark) if mark.position() == 0 => Err(Error::invalid_input(
                "the condition is behind an event at position 0, where none can be: leave out `after` to look from the beginning",
            )),
            _ => Ok(()),
        }
    }

    /// For the makers of stores: what is to be judged, if anything is.
    #[must_use]
    pub fn guard(&self) -> Option<&Guard> {
        self.guard.as_ref()
    }
}

impl Guard {
    /// The refusal when an event matches: the first one behind [`after`](Self::after), by its position and type.
    #[must_use]
    pub fn conflict(&self, position: u64, event_type: &str) -> Error {
        refusal::conflict(position, event_type)
    }

    /// The refusal when the log, whose last event is at `head`, does not hold what [`after`](Self::after) says. An empty
    /// log ends at 0.
    #[must_use]
    pub fn diverged(&self, head: u64) -> Error {
        refusal::diverged(self.after, head)
    }
}

impl After {
    /// Only events with a higher position count; 0 when all of them do.
    #[must_use]
    pub fn position(self) -> u64 {
        match self {
            Self::Beginning => 0,
            Self::Position(position) => position,
            Self::Mark(mark) => mark.position(),
        }
    }

    /// The event that must be there.
    #[must_use]
    pub fn mark(self) -> Option<Mark> {
        match self {
            Self::Mark(mark) => Some(mark),
            Self::Beginning | Self::Position(_) => None,
        }
    }
}
