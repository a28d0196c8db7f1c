//! Events as JSON lines.

use std::time::SystemTime;

use base64::{Engine, prelude::BASE64_STANDARD};
use mainstem::{Event, Json, NewEvent, Payload, tokio_postgres::Row};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::{
    failure::{Failure, Result},
    time::Time,
};

/// An event of a log, with everything that the log stores about it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Record {
    pub(crate) position: u64,
    pub(crate) id: Uuid,
    #[serde(rename = "type")]
    pub(crate) event_type: String,
    pub(crate) tags: Vec<String>,
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub(crate) payload: Option<Box<RawValue>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) content_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) bytes: Option<Bytes>,
    pub(crate) metadata: Box<RawValue>,
    pub(crate) occurred_at: Time,
    pub(crate) recorded_at: Time,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) stream: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) version: Option<u64>,
    /// How many events of the same append follow this one. Only exports have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) following: Option<u32>,
}

/// An event to append.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Incoming {
    #[serde(rename = "type")]
    event_type: String,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default, deserialize_with = "given")]
    payload: Option<Box<RawValue>>,
    content_type: Option<String>,
    bytes: Option<Bytes>,
    metadata: Option<Box<RawValue>>,
    id: Option<Uuid>,
    occurred_at: Option<Time>,
}

/// Written in base64.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Bytes(pub(crate) Vec<u8>);

/// A payload may be `null`, which differs from no payload.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(deserializer).map(Some)
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64_STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        BASE64_STANDARD
            .decode(text)
            .map(Self)
            .map_err(|error| de::Error::custom(format!("invalid base64 in bytes: {error}")))
    }
}

impl Record {
    pub(crate) fn of(event: &Event) -> Result<Self> {
        let (payload, content_type, bytes) = match event.payload() {
            Payload::Json(json) => (Some(raw(json.as_str().to_owned())?), None, None),
            Payload::Bytes { content_type, bytes } => {
                (None, Some(content_type.to_string()), Some(Bytes(bytes.to_vec())))
            }
        };
        Ok(Self {
            position: event.position(),
            id: event.id().into(),
            event_type: event.event_type().to_owned(),
            tags: event.tags().map(str::to_owned).collect(),
            payload,
            content_type,
            bytes,
            metadata: raw(event.metadata().as_str().to_owned())?,
            occurred_at: Time(event.occurred_at()),
            recorded_at: Time(event.recorded_at()),
            stream: event.stream().map(|stream| stream.id().to_owned()),
            version: event.stream().map(mainstem::StreamPlace::version),
            following: None,
        })
    }

    /// From a row of `read.sql`.
    pub(crate) fn read(row: &Row) -> Result<Self> {
        let read = || -> Result<Self, Box<dyn std::error::Error>> {
            let json = |column| -> Result<Option<Box<RawValue>>, Box<dyn std::error::Error>> {
                Ok(row.try_get::<_, Option<String>>(column)?.map(RawValue::from_string).transpose()?)
            };
            Ok(Self {
                position: row.try_get::<_, i64>(0)?.try_into()?,
                following: Some(row.try_get::<_, i32>(1)?.try_into()?),
                id: row.try_get(2)?,
                event_type: row.try_get(3)?,
                tags: row.try_get(4)?,
                payload: json(5)?,
                metadata: json(6)?.ok_or("no metadata")?,
                bytes: row.try_get::<_, Option<Vec<u8>>>(7)?.map(Bytes),
                content_type: row.try_get(8)?,
                stream: row.try_get(9)?,
                version: row.try_get::<_, Option<i64>>(10)?.map(u64::try_from).transpose()?,
                occurred_at: Time(row.try_get::<_, SystemTime>(11)?),
                recorded_at: Time(row.try_get::<_, SystemTime>(12)?),
            })
        };
        read().map_err(|error| Failure::failed(format!("cannot read an event of the log: {error}")))
    }

    /// The first field in which the two differ. JSON is compared by value.
    pub(crate) fn differs_from(&self, other: &Self) -> Option<&'static str> {
        let json = |one: &RawValue, other: &RawValue| {
            one.get() == other.get()
                || matches!((Json::from_text(one.get()), Json::from_text(other.get())), (Ok(one), Ok(other)) if one == other)
        };
        let payload = match (&self.payload, &other.payload) {
            (Some(one), Some(other)) => json(one, other),
            (one, other) => one.is_none() && other.is_none(),
        };
        [
            ("position", self.position == other.position),
            ("id", self.id == other.id),
            ("type", self.event_type == other.event_type),
            ("tags", self.tags == other.tags),
            ("payload", payload),
            ("content_type", self.content_type == other.content_type),
            ("bytes", self.bytes == other.bytes),
            ("metadata", json(&self.metadata, &other.metadata)),
            ("occurred_at", self.occurred_at == other.occurred_at),
            ("recorded_at", self.recorded_at == other.recorded_at),
            ("stream", self.stream == other.stream),
            ("version", self.version == other.version),
            ("following", self.following == other.following),
        ]
        .into_iter()
        .find_map(|(part, is_same)| (!is_same).then_some(part))
    }
}

/// Parses an event to append from its JSON.
pub(crate) fn new_event(place: &str, text: &str) -> Result<NewEvent> {
    let wrong = |what: String| Failure::usage(format!("{place}: {what}"));
    let Incoming { event_type, tags, payload, content_type, bytes, metadata, id, occurred_at } =
        serde_json::from_str(text).map_err(|error| wrong(format!("invalid event: {error}")))?;
    let json = |what: &str, text: &RawValue| {
        Json::from_text(text.get()).map_err(|error| wrong(format!("{what}: {}", error.report())))
    };
    let mut event = match (payload, bytes, content_type) {
        (Some(payload), None, None) => NewEvent::from_json(event_type, json("payload", &payload)?),
        (None, Some(Bytes(bytes)), Some(content_type)) => {
            NewEvent::from_payload(event_type, Payload::bytes(content_type, bytes))
        }
        _ => return Err(wrong("an event has either a payload, or bytes and their content_type".into())),
    };
    event = event.with_tags(tags);
    if let Some(metadata) = metadata {
        event = event.with_metadata_json(json("metadata", &metadata)?);
    }
    if let Some(id) = id {
        event = event.with_id(id.into());
    }
    if let Some(Time(time)) = occurred_at {
        event = event.with_occurred_at(time);
    }
    event.validate().map_err(|error| wrong(error.report()))?;
    Ok(event)
}

fn raw(text: String) -> Result<Box<RawValue>> {
    RawValue::from_string(text).map_err(|error| Failure::failed(format!("cannot read JSON of the log: {error}")))
}
