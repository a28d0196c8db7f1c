//! Marks: events of the log, by position and id.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::EventId;

/// A place in the log: a position, and the id of the event that is there.
///
/// If a log never lost an event, the position would be enough. After a failover that lost acknowledged events, or a
/// restore to a point in time, the log reuses positions for other events; the id reveals that. So everything that
/// continues from an earlier place (an append condition, a checkpoint, a snapshot) holds a mark. If another event is at
/// that position, or none, the store answers [`LogDiverged`](crate::ErrorKind::LogDiverged) instead of continuing.
///
/// A log without events has no mark.
///
/// It serialises as `{"position": 17, "id": "…"}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mark {
    position: u64,
    id: EventId,
}

impl Mark {
    /// Creates the mark of the event `id` at `position`.
    #[must_use]
    pub fn new(position: u64, id: EventId) -> Self {
        Self { position, id }
    }

    /// Returns the position.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The position of the last event, 0 for a log without events.
    pub(crate) fn position_or_zero(mark: Option<Self>) -> u64 {
        mark.map_or(0, |mark| mark.position)
    }

    /// Returns the id of the event at that position.
    #[must_use]
    pub fn id(&self) -> EventId {
        self.id
    }
}

impl fmt::Display for Mark {
    /// `17 (0198…)`, for messages.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.position, self.id)
    }
}
