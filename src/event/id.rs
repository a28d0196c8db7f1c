//! The id of an event.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Error, Result};

/// The id of an event, created by the client that appends it, and unique in the log.
///
/// Ids make an append repeatable: if its answer is lost, the same append with the same ids either writes the events or
/// finds that they are there. [`new`](Self::new) creates a UUID of version 7, which starts with the time and so keeps
/// the index on ids compact; any other UUID works as well. The order of ids says nothing about the order of events:
/// that is their position.
///
/// It serialises as `uuid::Uuid` does, in JSON as the hyphenated text.
///
/// ```
/// let id = mainstem::EventId::new();
/// assert_eq!(id.to_string().parse::<mainstem::EventId>()?, id);
/// # Ok::<(), mainstem::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EventId(Uuid);

impl EventId {
    /// Creates a UUID of version 7. Within a process, each is greater than the one before.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "a default is the same one each time")]
    pub fn new() -> Self {
        Self(Uuid::now_v7())
    }

    pub(crate) fn is_nil(self) -> bool {
        self.0.is_nil()
    }
}

impl From<Uuid> for EventId {
    fn from(uuid: Uuid) -> Self {
        Self(uuid)
    }
}

impl From<EventId> for Uuid {
    fn from(id: EventId) -> Self {
        id.0
    }
}

impl FromStr for EventId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        text.parse().map(Self).map_err(|error: uuid::Error| {
            Error::invalid_input(format!("event id {} is not a UUID", crate::json::quoted(text))).with_source(error)
        })
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
