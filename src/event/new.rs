//! An event that is to be appended.

use std::{collections::BTreeSet, time::SystemTime};

use serde::Serialize;

use super::{
    Event, EventId, check_tag, check_type,
    time::{MAX_MICROS, MIN_MICROS, floor_micros, from_micros},
};
use crate::{Error, Json, Result, json::quoted};

/// An event to append: a type, a payload, and what describes it.
///
/// It gets its id and its time when it is made, not when it is appended, so that a repeated append is the same one.
///
/// ```
/// use mainstem::NewEvent;
/// use serde::Serialize;
///
/// #[derive(Serialize)]
/// struct BookLent<'a> {
///     #[serde(rename = "BookID")]
///     book_id: &'a str,
/// }
///
/// let event = NewEvent::new("BookLent", &BookLent { book_id: "b-1" })?
///     .with_tags(["book:b-1", "reader:r-7"])
///     .with_metadata(&serde_json::json!({"correlation": "c-3"}))?;
/// assert_eq!(event.payload().as_str(), r#"{"BookID":"b-1"}"#);
/// # Ok::<(), mainstem::Error>(())
/// ```
///
/// Methods that turn a value into JSON can fail at once. The others cannot, so that they chain; what they were given
/// is checked by [`validate`](Self::validate), which every append calls for all its events before anything is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "an event does nothing until it is appended"]
pub struct NewEvent {
    id: EventId,
    event_type: Box<str>,
    tags: BTreeSet<Box<str>>,
    payload: Json,
    metadata: Json,
    occurred_at: SystemTime,
}

impl NewEvent {
    /// The longest type, in bytes: 255.
    ///
    /// Types are names, not data. The limit keeps them far below what an index entry can hold (2704 bytes, shared
    /// with other columns), and fits the `VARCHAR(255)` that other stores and read models use.
    pub const MAX_TYPE_LEN: usize = 255;

    /// The longest tag, in bytes: 1024.
    ///
    /// Every tag is an index entry, and an index entry holds at most 2704 bytes: without the limit a long tag would
    /// fail in the database, and with it the whole batch.
    pub const MAX_TAG_LEN: usize = 1024;

    /// The most tags of one event: 64, each counted once.
    ///
    /// A tag names an entity that the event takes part in. Every one costs an index entry on each write, and
    /// is compared with the guards of the other appends of a batch.
    pub const MAX_TAGS: usize = 64;

    /// An event of a type, with a payload that is serialised now.
    ///
    /// It gets a [new id](EventId::new), no tags, the metadata `{}`, and occurred now.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) when the payload is not JSON that the log can hold; see
    /// [`Json::from_serialize`].
    pub fn new<T: Serialize + ?Sized>(event_type: impl Into<Box<str>>, payload: &T) -> Result<Self> {
        let event_type = event_type.into();
        match json("payload", payload) {
            Ok(payload) => Ok(Self::from_json(event_type, payload)),
            Err(error) => Err(error.within(&format!("event of type {}", quoted(&event_type)))),
        }
    }

    /// An event of a type, with a payload that is JSON already. The rest is as with [`new`](Self::new).
    pub fn from_json(event_type: impl Into<Box<str>>, payload: Json) -> Self {
        Self {
            id: EventId::new(),
            event_type: event_type.into(),
            tags: BTreeSet::new(),
            payload,
            metadata: Json::default(),
            occurred_at: microseconds(SystemTime::now()),
        }
    }

    /// Replaces the id.
    ///
    /// Give your own when the event can be made a second time from the same cause (a message that is delivered
    /// again): with an id derived from that cause the second append finds the first one's events.
    pub fn with_id(mut self, id: EventId) -> Self {
        self.id = id;
        self
    }

    /// Adds a tag. Tags are a set: one that is there already changes nothing.
    pub fn with_tag(mut self, tag: impl Into<Box<str>>) -> Self {
        self.tags.insert(tag.into());
        self
    }

    /// Adds tags. Tags are a set: their order does not count, and neither do repeats.
    pub fn with_tags<T: Into<Box<str>>>(mut self, tags: impl IntoIterator<Item = T>) -> Self {
        self.tags.extend(tags.into_iter().map(Into::into));
        self
    }

    /// Replaces the metadata by a value that is serialised now.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) when it is not JSON that the log can hold; see
    /// [`Json::from_serialize`].
    pub fn with_metadata<T: Serialize + ?Sized>(self, metadata: &T) -> Result<Self> {
        match json("metadata", metadata) {
            Ok(metadata) => Ok(self.with_metadata_json(metadata)),
            Err(error) => Err(error.within(&self.to_string())),
        }
    }

    /// Replaces the metadata by what is JSON already.
    pub fn with_metadata_json(mut self, metadata: Json) -> Self {
        self.metadata = metadata;
        self
    }

    /// Replaces the time at which the event occurred.
    ///
    /// The log holds whole microseconds, so the rest is cut off here, towards the past: the time that is read back
    /// is the one that [`occurred_at`](Self::occurred_at) shows now.
    pub fn with_occurred_at(mut self, time: SystemTime) -> Self {
        self.occurred_at = microseconds(time);
        self
    }

    /// Checks what the setters were given.
    ///
    /// Every append calls it for each of its events; call it yourself to find out earlier.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) naming the event's type and the field, when the type or a
    /// tag is empty, contains a NUL character or is [too](Self::MAX_TYPE_LEN) [long](Self::MAX_TAG_LEN), when there
    /// are [too many](Self::MAX_TAGS) tags, when the id is the nil UUID, or when the time is before 4714 BC or after
    /// the year 294246.
    pub fn validate(&self) -> Result<()> {
        self.check().map_err(|what| Error::invalid_input(format!("{self}: {what}")))
    }

    /// Checks all events of an append; the error says which one by its index, from 0.
    pub(crate) fn validate_all(events: &[Self]) -> Result<()> {
        events.iter().enumerate().try_for_each(|(index, event)| {
            event.check().map_err(|what| Error::invalid_input(format!("events[{index}], {event}: {what}")))
        })
    }

    fn check(&self) -> Result<(), String> {
        check_type(&self.event_type)?;
        if self.id.is_nil() {
            return Err("the id is the nil UUID, so it is not unique; use EventId::new".into());
        }
        if self.tags.len() > Self::MAX_TAGS {
            return Err(format!("it has {} tags, more than the limit of {}", self.tags.len(), Self::MAX_TAGS));
        }
        self.tags.iter().try_for_each(|tag| check_tag(tag))?;
        if !(MIN_MICROS..=MAX_MICROS).contains(&floor_micros(self.occurred_at)) {
            return Err("occurred_at is outside of what PostgreSQL can store: 4714 BC to the year 294246".into());
        }
        Ok(())
    }

    /// Whether the log's event is this one: the same id, type, tags, payload, metadata and time. JSON is compared by value.
    ///
    /// Stores tell by it whether an append is a repeat.
    #[must_use]
    pub fn is_recorded_as(&self, recorded: &Event) -> bool {
        self.id == recorded.id
            && self.event_type == recorded.event_type
            && self.tags.iter().eq(&recorded.tags)
            && self.payload == recorded.payload
            && self.metadata == recorded.metadata
            && self.occurred_at == recorded.occurred_at
    }

    /// The event as a log would hand it back.
    ///
    /// The store does this when it appends. It is public for the tests of code that decides on events.
    #[must_use]
    pub fn into_recorded(self, position: u64, recorded_at: SystemTime) -> Event {
        Event {
            position,
            id: self.id,
            event_type: self.event_type,
            tags: self.tags.into_iter().collect(),
            payload: self.payload,
            metadata: self.metadata,
            occurred_at: self.occurred_at,
            recorded_at: microseconds(recorded_at),
        }
    }
}

/// What it holds.
impl NewEvent {
    /// The id.
    #[must_use]
    pub fn id(&self) -> EventId {
        self.id
    }

    /// The type.
    #[must_use]
    pub fn event_type(&self) -> &str {
        &self.event_type
    }

    /// The tags, in order, each once.
    #[must_use]
    pub fn tags(&self) -> impl ExactSizeIterator<Item = &str> {
        self.tags.iter().map(|tag| &**tag)
    }

    /// The payload.
    #[must_use]
    pub fn payload(&self) -> &Json {
        &self.payload
    }

    /// The metadata.
    #[must_use]
    pub fn metadata(&self) -> &Json {
        &self.metadata
    }

    /// When it occurred, in whole microseconds.
    #[must_use]
    pub fn occurred_at(&self) -> SystemTime {
        self.occurred_at
    }

    pub(crate) fn has_tag(&self, tag: &str) -> bool {
        self.tags.contains(tag)
    }
}

impl std::fmt::Display for NewEvent {
    /// Names the event in messages.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "event of type {}", quoted(&self.event_type))
    }
}

fn json<T: Serialize + ?Sized>(field: &str, value: &T) -> Result<Json> {
    Json::from_serialize(value).map_err(|error| error.within(field))
}

fn microseconds(time: SystemTime) -> SystemTime {
    // A time that cannot be cut is out of range, which the validation reports.
    from_micros(floor_micros(time)).unwrap_or(time)
}
