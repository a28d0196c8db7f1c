//! A recorded event.

use std::time::SystemTime;

use serde::Deserialize;

use super::{EventId, Labels, Mark, Payload, StreamPlace};
use crate::{Json, Result};

/// An event of the log.
///
/// ```
/// # use std::time::SystemTime;
/// # use mainstem::NewEvent;
/// # let event = NewEvent::new("BookLent", &serde_json::json!({"BookID": "b-1"}))?.into_recorded(1, SystemTime::now());
/// #[derive(serde::Deserialize)]
/// struct BookLent<'a> {
///     #[serde(rename = "BookID")]
///     book_id: &'a str,
/// }
///
/// let lent: BookLent = event.decode()?;
/// assert_eq!(lent.book_id, "b-1");
/// # Ok::<(), mainstem::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub(crate) position: u64,
    pub(crate) id: EventId,
    pub(crate) labels: Labels,
    pub(crate) payload: Payload,
    pub(crate) metadata: Json,
    /// In whole microseconds.
    pub(crate) occurred_at: SystemTime,
    /// In whole microseconds.
    pub(crate) recorded_at: SystemTime,
    pub(crate) stream: Option<StreamPlace>,
}

impl Event {
    /// Returns the position in the log. The first event has position 1 or higher, and every later one a higher position
    /// than all before. Once a reader has seen a position, no event appears below it.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Returns the id that the client gave the event.
    #[must_use]
    pub fn id(&self) -> EventId {
        self.id
    }

    /// Returns position and id: the place to continue from.
    #[must_use]
    pub fn mark(&self) -> Mark {
        Mark::new(self.position, self.id)
    }

    /// Returns the type.
    #[must_use]
    pub fn event_type(&self) -> &str {
        self.labels.event_type()
    }

    /// Returns the tags, in order, each once.
    #[must_use]
    pub fn tags(&self) -> impl ExactSizeIterator<Item = &str> {
        self.labels.tags()
    }

    /// Whether the event has this tag.
    #[must_use]
    pub fn has_tag(&self, tag: &str) -> bool {
        self.labels.has_tag(tag)
    }

    /// Returns the payload.
    #[must_use]
    pub fn payload(&self) -> &Payload {
        &self.payload
    }

    /// Returns the metadata.
    #[must_use]
    pub fn metadata(&self) -> &Json {
        &self.metadata
    }

    /// Returns when the event occurred according to the client that appended it, or when it was recorded if the client
    /// left that [to the store](crate::NewEvent::occurred_when_recorded).
    #[must_use]
    pub fn occurred_at(&self) -> SystemTime {
        self.occurred_at
    }

    /// Returns when the event was appended, by the clock of the log's primary, which all appends share. When the event
    /// [occurred](Self::occurred_at) is for the client to say. Clocks step back: the order of events is their
    /// [position](Self::position).
    #[must_use]
    pub fn recorded_at(&self) -> SystemTime {
        self.recorded_at
    }

    /// Returns the approximate number of bytes needed to hold or to send the event: those of its type, tags, payload,
    /// metadata and stream. Batches are [bounded](crate::SubscriptionBuilder::batch_bytes) by it.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        let stream = self.stream.as_ref().map_or(0, |stream| stream.id().len());
        self.labels.byte_len() + self.payload.len() + self.metadata.as_str().len() + stream
    }

    /// Deserialises the payload into your own type, which may borrow from it.
    ///
    /// # Errors
    ///
    /// [`InvalidData`](crate::ErrorKind::InvalidData) naming position and type, if the payload is
    /// [bytes](Payload::Bytes), or does not have the shape of `T`; then the source says where.
    pub fn decode<'a, T: Deserialize<'a>>(&'a self) -> Result<T> {
        self.payload.decode().map_err(|error| {
            let event_type = crate::json::quoted(self.event_type());
            error.within(&format!("payload of the event of type {event_type} at position {}", self.position))
        })
    }
}
