//! The payload of an event: JSON, or opaque bytes.

use std::{fmt, sync::Arc};

use serde::Deserialize;

use crate::{Error, Json, Result, json::quoted};

/// The content of an event: JSON, or bytes that only the application reads, such as a picture, a protocol buffer, or
/// encrypted JSON.
///
/// Predicates on the payload never match bytes, whatever they contain: the log does not look inside. Use types, tags
/// and metadata to select such events.
///
/// ```
/// use mainstem::{NewEvent, Payload};
///
/// let scanned = NewEvent::from_payload("PageScanned", Payload::bytes("image/png", *b"\x89PNG")).with_tag("book:b-1");
/// match scanned.payload() {
///     Payload::Json(json) => panic!("JSON: {json}"),
///     Payload::Bytes { content_type, bytes } => assert_eq!((&**content_type, bytes.len()), ("image/png", 4)),
/// }
/// ```
///
/// Bytes are equal when they and their content types are equal, byte by byte; for JSON, see [`Json`]. Cloning shares
/// the content.
#[derive(Clone, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_enums,
    reason = "a store must keep either; a third kind should stop its build, not its users"
)]
pub enum Payload {
    /// A JSON document, which predicates look into.
    Json(Json),
    /// Opaque bytes.
    Bytes {
        /// What the bytes are, as the application names it: a media type such as `image/png`.
        content_type: Arc<str>,
        /// The bytes, as they were given.
        bytes: Arc<[u8]>,
    },
}

impl Payload {
    /// The most bytes of one event: 16 MiB, as [for JSON](Json::MAX_LEN).
    ///
    /// Every projection reads its events whole, one by one. Larger data belongs in a file store, with a reference in
    /// the event.
    pub const MAX_BYTES_LEN: usize = Json::MAX_LEN;

    /// The longest content type, in bytes: 255, the most that a media type can have.
    pub const MAX_CONTENT_TYPE_LEN: usize = 255;

    /// Creates a payload of bytes with their content type.
    #[must_use]
    pub fn bytes(content_type: impl Into<Arc<str>>, bytes: impl Into<Arc<[u8]>>) -> Self {
        Self::Bytes { content_type: content_type.into(), bytes: bytes.into() }
    }

    /// Returns the payload as a log returns it.
    pub(super) fn into_recorded(self) -> Self {
        match self {
            Self::Json(json) => Self::Json(json.as_jsonb()),
            bytes @ Self::Bytes { .. } => bytes,
        }
    }

    /// Returns the document, unless this is bytes.
    #[must_use]
    pub fn as_json(&self) -> Option<&Json> {
        match self {
            Self::Json(json) => Some(json),
            Self::Bytes { .. } => None,
        }
    }

    /// Returns the content type and the bytes, unless this is JSON.
    #[must_use]
    pub fn as_bytes(&self) -> Option<(&str, &[u8])> {
        match self {
            Self::Json(_) => None,
            Self::Bytes { content_type, bytes } => Some((content_type, bytes)),
        }
    }

    /// Deserialises the document into your own type, which may borrow from it.
    ///
    /// # Errors
    ///
    /// [`InvalidData`](crate::ErrorKind::InvalidData) if the payload is bytes, which only the application can read, or
    /// if the document does not have the shape of `T`; then the source says where.
    pub fn decode<'a, T: Deserialize<'a>>(&'a self) -> Result<T> {
        match self {
            Self::Json(json) => json.decode(),
            Self::Bytes { .. } => Err(Error::invalid_data(format!("{self} are opaque, not JSON to decode"))),
        }
    }

    /// The approximate number of bytes needed to send it.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Json(json) => json.as_str().len(),
            Self::Bytes { content_type, bytes } => content_type.len() + bytes.len(),
        }
    }

    /// What is wrong with it. JSON was checked when it was created.
    pub(super) fn check(&self) -> Result<(), String> {
        let Self::Bytes { content_type, bytes } = self else { return Ok(()) };
        if content_type.is_empty() {
            return Err("the content type is empty".into());
        }
        if content_type.len() > Self::MAX_CONTENT_TYPE_LEN {
            let limit = Self::MAX_CONTENT_TYPE_LEN;
            return Err(format!("the content type {} is longer than the limit of {limit} bytes", quoted(content_type)));
        }
        if !content_type.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            return Err(format!(
                "the content type {} is not printable ASCII, as media types are",
                quoted(content_type)
            ));
        }
        if bytes.len() > Self::MAX_BYTES_LEN {
            return Err(format!(
                "the payload of {} bytes is longer than the limit of {} bytes; store large content elsewhere and refer to it",
                bytes.len(),
                Self::MAX_BYTES_LEN
            ));
        }
        Ok(())
    }
}

impl From<Json> for Payload {
    fn from(json: Json) -> Self {
        Self::Json(json)
    }
}

impl fmt::Display for Payload {
    /// The text of the document, or the number of bytes and their content type.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json(json) => json.fmt(f),
            Self::Bytes { content_type, bytes } => write!(f, "{} bytes of {}", bytes.len(), quoted(content_type)),
        }
    }
}

impl fmt::Debug for Payload {
    /// The same: bytes are of no use in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
