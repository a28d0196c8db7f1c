//! What a writer attempted, and the answers it got: a line of JSON for each append.

use std::time::{Duration, SystemTime};

use mainstem::{EventId, Filter, Mark, NewEvent};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One append, attempted once or several times.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Entry {
    pub(crate) writer: u64,
    pub(crate) events: Vec<Written>,
    /// The append's condition, if it has one.
    pub(crate) condition: Option<Condition>,
    /// Each answer that settled it. The later ones are those of repeats.
    pub(crate) answers: Vec<Answer>,
    /// How often no answer came.
    pub(crate) lost: u64,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Condition {
    pub(crate) filter: Filter,
    /// The head of the read. `None` if there was no read before it, or the log was empty.
    pub(crate) after: Option<Mark>,
    pub(crate) read: Option<Read>,
}

/// What a decision was based on: the matching events after `from`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Read {
    pub(crate) from: u64,
    pub(crate) positions: Vec<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) enum Answer {
    Appended {
        first: u64,
        last: u64,
        repeated: bool,
    },
    Conflict {
        position: u64,
        event_type: String,
    },
    /// An answer that the drill did not expect.
    Other(String),
    /// No answer at all, until time ran out.
    None(String),
}

/// An event that was to be appended.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Written {
    pub(crate) id: EventId,
    pub(crate) event_type: String,
    pub(crate) tags: Vec<String>,
    pub(crate) payload: Value,
    pub(crate) metadata: Value,
    /// Microseconds since 1970.
    pub(crate) occurred: u64,
}

impl Written {
    pub(crate) fn event(&self) -> mainstem::Result<NewEvent> {
        let event = NewEvent::new(&*self.event_type, &self.payload)?.with_id(self.id);
        let event = event.with_tags(self.tags.iter().map(String::as_str)).with_metadata(&self.metadata)?;
        Ok(event.with_occurred_at(SystemTime::UNIX_EPOCH + Duration::from_micros(self.occurred)))
    }
}

impl Entry {
    /// The first and the last position, if it was acknowledged.
    pub(crate) fn acknowledged(&self) -> Option<(u64, u64)> {
        self.answers.iter().find_map(|answer| match answer {
            Answer::Appended { first, last, .. } => Some((*first, *last)),
            _ => None,
        })
    }

    pub(crate) fn refused(&self) -> bool {
        self.answers.iter().any(|answer| matches!(answer, Answer::Conflict { .. }))
    }
}
