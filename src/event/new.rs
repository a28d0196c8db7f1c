//! An event to append.

use std::{collections::BTreeSet, time::SystemTime};

use serde::Serialize;

use super::{
    Event, EventId, LabelsBuilder, Payload, check_tag, check_type,
    context::{NewMetadata, same_apart_from_ids},
    time::{MAX_MICROS, MIN_MICROS, floor_micros, from_micros},
};
use crate::{Error, Json, Result, json::quoted};

/// An event to append: a type, a payload, and what describes it.
///
/// Its id and its time are set when it is created, not when it is appended, so a repeated append writes the same event.
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
///     .with_metadata(&serde_json::json!({"user": "ada"}))?
///     .with_correlation_id("c-3");
/// assert_eq!(event.payload().to_string(), r#"{"BookID":"b-1"}"#);
/// # Ok::<(), mainstem::Error>(())
/// ```
///
/// Methods that turn a value into JSON can fail at once. The others cannot fail, so they chain;
/// [`validate`](Self::validate) checks their arguments, and every append calls it for all its events before anything is
/// sent.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "an event does nothing until it is appended"]
pub struct NewEvent {
    id: EventId,
    event_type: Box<str>,
    tags: BTreeSet<Box<str>>,
    payload: Payload,
    pub(super) metadata: NewMetadata,
    /// `None`: the time at which it is recorded.
    occurred_at: Option<SystemTime>,
}

impl NewEvent {
    /// The longest type, in bytes: 255.
    ///
    /// Types are names, not data. The limit keeps them far below what an index entry can hold (2704 bytes, shared
    /// with other columns), and fits the `VARCHAR(255)` that other stores and read models use.
    pub const MAX_TYPE_LEN: usize = 255;

    /// The longest tag, in bytes: 1024.
    ///
    /// Every tag is an index entry, which holds at most 2704 bytes: without the limit, a long tag would fail in the
    /// database, and with it the whole batch.
    pub const MAX_TAG_LEN: usize = 1024;

    /// The most tags of one event: 64, each counted once.
    ///
    /// A tag names an entity that takes part in the event. Each tag costs an index entry on every write, and is
    /// compared with the guards of the other appends of a batch.
    pub const MAX_TAGS: usize = 64;

    /// Creates an event of a type, and serialises its payload.
    ///
    /// It gets a [new id](EventId::new), no tags, the metadata `{}`, and the current time as the time when it occurred.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) if the payload is not JSON that the log can hold; see
    /// [`Json::from_serialize`].
    pub fn new<T: Serialize + ?Sized>(event_type: impl Into<Box<str>>, payload: &T) -> Result<Self> {
        let event_type = event_type.into();
        match json("payload", payload) {
            Ok(payload) => Ok(Self::from_json(event_type, payload)),
            Err(error) => Err(error.within(&format!("event of type {}", quoted(&event_type)))),
        }
    }

    /// Creates an event of a type with a payload that is already JSON. Everything else is as in [`new`](Self::new).
    pub fn from_json(event_type: impl Into<Box<str>>, payload: Json) -> Self {
        Self::from_payload(event_type, Payload::Json(payload))
    }

    /// Creates an event of a type with a payload of either kind, JSON or opaque bytes with their content type:
    /// [`Payload::bytes`]. Everything else is as in [`new`](Self::new).
    pub fn from_payload(event_type: impl Into<Box<str>>, payload: Payload) -> Self {
        Self {
            id: EventId::new(),
            event_type: event_type.into(),
            tags: BTreeSet::new(),
            payload,
            metadata: NewMetadata::default(),
            occurred_at: Some(microseconds(SystemTime::now())),
        }
    }

    /// Replaces the id.
    ///
    /// Set your own id if the same cause can produce the event twice (for example, a message that is redelivered): with
    /// an id derived from that cause, the second append finds the first one's events.
    pub fn with_id(mut self, id: EventId) -> Self {
        self.id = id;
        self
    }

    /// Adds a tag. Tags are a set: adding an existing one changes nothing.
    pub fn with_tag(mut self, tag: impl Into<Box<str>>) -> Self {
        self.tags.insert(tag.into());
        self
    }

    /// Adds tags. Tags are a set: neither order nor repetition matters.
    pub fn with_tags<T: Into<Box<str>>>(mut self, tags: impl IntoIterator<Item = T>) -> Self {
        self.tags.extend(tags.into_iter().map(Into::into));
        self
    }

    /// Replaces the metadata with a value, which is serialised now. Ids that were set separately
    /// ([`with_correlation_id`](Self::with_correlation_id) and its siblings) stay.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) if the value is not JSON that the log can hold; see
    /// [`Json::from_serialize`].
    pub fn with_metadata<T: Serialize + ?Sized>(self, metadata: &T) -> Result<Self> {
        match json("metadata", metadata) {
            Ok(metadata) => Ok(self.with_metadata_json(metadata)),
            Err(error) => Err(error.within(&self.to_string())),
        }
    }

    /// Replaces the metadata with existing JSON. Everything else is as in [`with_metadata`](Self::with_metadata).
    pub fn with_metadata_json(mut self, metadata: Json) -> Self {
        self.metadata.replace(metadata);
        self
    }

    /// Replaces the time at which the event occurred.
    ///
    /// The log holds whole microseconds, so the time is truncated here, towards the past: the time that is read back is
    /// the one that [`occurred_at`](Self::occurred_at) returns now.
    pub fn with_occurred_at(mut self, time: SystemTime) -> Self {
        self.occurred_at = Some(microseconds(time));
        self
    }

    /// Uses the store's clock: the event occurred when it is [recorded](Event::recorded_at).
    ///
    /// Use it when the clients' clocks cannot be trusted, or there are many. A repeated append finds the time of the
    /// first one.
    pub fn occurred_when_recorded(mut self) -> Self {
        self.occurred_at = None;
        self
    }

    /// Checks the arguments given to the setters.
    ///
    /// Every append calls it for each of its events; call it yourself to find problems earlier.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) naming the event's type and the field, if the type or a tag is
    /// empty, contains a NUL character or is [too](Self::MAX_TYPE_LEN) [long](Self::MAX_TAG_LEN), if there are [too
    /// many](Self::MAX_TAGS) tags, if the id is the nil UUID, if the time is before 4714 BC or after the year 294246,
    /// if bytes are [too long](Payload::MAX_BYTES_LEN) or their content type is empty, [too
    /// long](Payload::MAX_CONTENT_TYPE_LEN) or not printable ASCII, or if the metadata cannot take the ids of messages,
    /// for the reasons that [`EventContext`](super::EventContext) gives.
    pub fn validate(&self) -> Result<()> {
        self.check().map_err(|what| Error::invalid_input(format!("{self}: {what}")))
    }

    /// Checks all events of an append; the error names the event by its index, counted from 0.
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
        self.payload.check()?;
        if let Some(problem) = &self.metadata.problem {
            return Err(problem.to_string());
        }
        if self.occurred_at.is_some_and(|time| !(MIN_MICROS..=MAX_MICROS).contains(&floor_micros(time))) {
            return Err("occurred_at is outside of what PostgreSQL can store: 4714 BC to the year 294246".into());
        }
        Ok(())
    }

    /// Whether the recorded event is this one: same id, type, tags, payload, metadata and time. JSON is compared by
    /// value. The [ids of messages](super::EventContext) in the metadata are ignored. The time is the recording time if
    /// this event left it [to the store](Self::occurred_when_recorded).
    ///
    /// Stores use it to recognise a repeated append.
    #[must_use]
    pub fn is_recorded_as(&self, recorded: &Event) -> bool {
        self.id == recorded.id
            && *self.event_type == *recorded.event_type()
            && self.tags().eq(recorded.tags())
            && self.payload == recorded.payload
            && same_apart_from_ids(self.metadata(), &recorded.metadata)
            && self.occurred_at.unwrap_or(recorded.recorded_at) == recorded.occurred_at
    }

    /// Returns the event as a log would return it: with JSON in the text form of `jsonb`, so it decodes as it will when
    /// read back.
    ///
    /// The store does this when it appends, and then puts the event [into its stream](Event::in_stream), if it has one.
    /// It is public for tests of code that decides on events. Of an event that no store would take, a NUL character in the
    /// type or a tag becomes `U+FFFD`.
    #[must_use]
    pub fn into_recorded(self, position: u64, recorded_at: SystemTime) -> Event {
        let recorded_at = microseconds(recorded_at);
        let mut labels = LabelsBuilder::new(&self.event_type, self.tags().map(|tag| tag.len() + 1).sum());
        self.tags().for_each(|tag| labels.push(tag));
        Event {
            position,
            id: self.id,
            labels: labels.finish(),
            payload: self.payload.into_recorded(),
            metadata: self.metadata.into_whole().as_jsonb(),
            occurred_at: self.occurred_at.unwrap_or(recorded_at),
            recorded_at,
            stream: None,
        }
    }
}

/// Getters.
impl NewEvent {
    /// Returns the id.
    #[must_use]
    pub fn id(&self) -> EventId {
        self.id
    }

    /// Returns the type.
    #[must_use]
    pub fn event_type(&self) -> &str {
        &self.event_type
    }

    /// Returns the tags, in order, each once.
    #[must_use]
    pub fn tags(&self) -> impl ExactSizeIterator<Item = &str> {
        self.tags.iter().map(|tag| &**tag)
    }

    /// Returns the payload.
    #[must_use]
    pub fn payload(&self) -> &Payload {
        &self.payload
    }

    /// Returns the metadata, including the ids of messages.
    #[must_use]
    pub fn metadata(&self) -> &Json {
        self.metadata.whole()
    }

    /// Returns when the event occurred, in whole microseconds; `None` for [when it is
    /// recorded](Self::occurred_when_recorded).
    #[must_use]
    pub fn occurred_at(&self) -> Option<SystemTime> {
        self.occurred_at
    }

    pub(crate) fn has_tag(&self, tag: &str) -> bool {
        self.tags.contains(tag)
    }
}

/// Copies an event for another log: its id, tags, payload, metadata and the time at which it occurred. Position and
/// recording time belong to the log. The copy is in no fixed stream, unless it is appended [to
/// one](crate::Append::to_stream).
///
/// ```
/// # use mainstem::{AppendCondition, EventStore, MemoryEventStore, NewEvent};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> mainstem::Result<()> {
/// # let (from, to) = (MemoryEventStore::new(), MemoryEventStore::new());
/// # from.append([NewEvent::new("BookLent", &7)?.with_tag("book:7")], AppendCondition::none()).await?;
/// # let lent = mainstem::Filter::any_event();
/// let events = from.query(&lent).await?;
/// to.append(events.iter().map(NewEvent::from), AppendCondition::none()).await?;
/// # let copied = to.query(&lent).await?;
/// # assert_eq!((copied[0].id(), copied[0].occurred_at()), (events[0].id(), events[0].occurred_at()));
/// # assert!(copied[0].has_tag("book:7") && copied[0].payload() == events[0].payload());
/// # Ok(())
/// # }
/// ```
impl From<&Event> for NewEvent {
    fn from(event: &Event) -> Self {
        Self::from_payload(event.event_type(), event.payload().clone())
            .with_id(event.id())
            .with_tags(event.tags())
            .with_metadata_json(event.metadata().clone())
            .with_occurred_at(event.occurred_at())
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
    // A time that cannot be truncated is out of range, which the validation reports.
    from_micros(floor_micros(time)).unwrap_or(time)
}
