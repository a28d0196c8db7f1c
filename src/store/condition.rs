//! What must still be true when an append is written.

use crate::{Filter, Mark};

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
}

/// The condition that there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Guard {
    pub(crate) filter: Filter,
    pub(crate) after: After,
}

/// From where on the guard looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    /// From the first event on.
    Beginning,
    /// Behind this position, whatever event is there.
    Position(u64),
    /// Behind this event, which must be there.
    Mark(Mark),
}

impl AppendCondition {
    /// No condition: the events are written whatever else is in the log.
    pub fn none() -> Self {
        Self { guard: None }
    }

    /// No event may match `filter`: none at all, unless [`after`](Self::after) says from where on.
    pub fn fail_if_events_match(filter: Filter) -> Self {
        Self { guard: Some(Guard { filter, after: After::Beginning }) }
    }

    /// Only events behind this one count: the highest that the decision knew of, which is the log's head at the time of
    /// the read, not the last event that matched.
    ///
    /// If another event is at its position, or none, the append fails with
    /// [`LogDiverged`](crate::ErrorKind::LogDiverged): what the decision was made of is not this log's history. Without
    /// a filter, as in [`none`](Self::none), it changes nothing.
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

    fn behind(mut self, after: After) -> Self {
        if let Some(guard) = &mut self.guard {
            guard.after = after;
        }
        self
    }

    pub(crate) fn guard(&self) -> Option<&Guard> {
        self.guard.as_ref()
    }
}

impl After {
    pub(crate) fn position(self) -> u64 {
        match self {
            Self::Beginning => 0,
            Self::Position(position) => position,
            Self::Mark(mark) => mark.position(),
        }
    }

    pub(crate) fn mark(self) -> Option<Mark> {
        match self {
            Self::Mark(mark) => Some(mark),
            Self::Beginning | Self::Position(_) => None,
        }
    }
}
