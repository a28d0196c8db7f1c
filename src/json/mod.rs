//! JSON as PostgreSQL's `jsonb` sees it: what it can hold, when two values are equal, and what contains what.
//!
//! A document stays the text it arrived as. It is parsed by our own small parser, not into `serde_json::Value`, because
//! `jsonb` numbers are decimals of any length, and an `f64` confuses different ones.

mod contains;
mod jsonb_text;
mod number;
mod parse;
mod reading;
mod value;

#[cfg(test)]
pub(crate) mod tests;

use std::{fmt, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};
use serde_json::value::RawValue;

pub(crate) use self::{
    contains::Document,
    parse::{checked, stored},
    reading::Walk,
    value::{Value, write_string},
};
use crate::{Error, Result};

/// A JSON document that the log can hold, kept as text.
///
/// It is validated once, when it is created, against everything that PostgreSQL's `jsonb` rejects, so an append does
/// not fail for it later; the error names the byte and the path. After that it is only text: cloning shares it, and
/// nothing is parsed before [`decode`](Self::decode) is called.
///
/// Besides text that is not JSON, it rejects: the escape `\u0000` and escapes of half a surrogate pair (the server has
/// no such character), numbers beyond the range of PostgreSQL's `numeric` (more than 131072 digits before the decimal
/// point or 16383 after it), more than [`MAX_DEPTH`](Self::MAX_DEPTH) levels and more than [`MAX_LEN`](Self::MAX_LEN)
/// bytes.
///
/// Two documents are equal if `jsonb` says so: the order of members and white space do not matter, of a repeated key
/// the last one counts, and numbers are compared as decimals (`1`, `1.0` and `1e0` are equal, 9007199254740993 and
/// 9007199254740992 are not). The text that is read back may differ, but has the same value.
///
/// ```
/// use mainstem::Json;
///
/// let json = Json::from_text(r#"{"BookID": "b-1", "pages": 120.0}"#)?;
/// assert_eq!(json, Json::from_text(r#"{"pages":120,"BookID":"b-1"}"#)?);
/// assert!(Json::from_text(r#"{"title": "\u0000"}"#).is_err());
/// # Ok::<(), mainstem::Error>(())
/// ```
///
/// It serialises as the JSON that it is. This works only with `serde_json`, since no other format can carry raw JSON
/// text.
#[derive(Clone)]
pub struct Json(Arc<str>);

impl Json {
    /// The longest text, in bytes: 16 MiB.
    ///
    /// The limit applies to the text as given and to the text with all numbers written out, since PostgreSQL turns the
    /// seven bytes of `1e99999` into a hundred thousand. Whatever the content, PostgreSQL's binary form of such a
    /// document stays below the 256 MB that `jsonb` allows for one value, and an append of it below the server's limit
    /// on messages. Larger data belongs in a file store, with a reference in the event.
    pub const MAX_LEN: usize = 16 * 1024 * 1024;

    /// The deepest nesting of arrays and objects: 127 levels.
    ///
    /// This is where `serde_json` stops, so a deeper document could be written and never be decoded.
    pub const MAX_DEPTH: usize = 127;

    /// Validates JSON text.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) if the text is empty, is not JSON, or is JSON that PostgreSQL's
    /// `jsonb` cannot hold.
    pub fn from_text(text: impl Into<Arc<str>>) -> Result<Self> {
        let text = text.into();
        if text.len() > Self::MAX_LEN {
            return Err(Error::invalid_input(format!(
                "JSON of {} bytes is longer than the limit of {} bytes; store large content elsewhere and refer to it",
                text.len(),
                Self::MAX_LEN
            )));
        }
        parse::check(&text).map_err(|error| Error::invalid_input(error.to_string()))?;
        Ok(Self(text))
    }

    /// Serialises a value as JSON text.
    ///
    /// `serde_json` does this, so a float without a JSON form (NaN, the infinities) becomes `null`.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) if the value cannot be serialised as JSON (a map with keys that
    /// are not strings, for example), or as for [`from_text`](Self::from_text).
    pub fn from_serialize<T: Serialize + ?Sized>(value: &T) -> Result<Self> {
        let text = serde_json::to_string(value)
            .map_err(|error| Error::invalid_input("the value cannot be serialised as JSON").with_source(error))?;
        Self::from_text(text)
    }

    /// Takes text that a `jsonb` column returned, and that therefore needs no validation.
    pub(crate) fn from_stored(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// Returns the same document in the text form of a `jsonb` column.
    pub(crate) fn as_jsonb(&self) -> Self {
        Self(jsonb_text::jsonb_text(&self.value()).into())
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Deserialises the document into your own type, which may borrow from it.
    ///
    /// # Errors
    ///
    /// [`InvalidData`](crate::ErrorKind::InvalidData) if the document does not have the shape of `T`; the source says
    /// where.
    pub fn decode<'a, T: Deserialize<'a>>(&'a self) -> Result<T> {
        serde_json::from_str(&self.0).map_err(|error| {
            let target = std::any::type_name::<T>();
            Error::invalid_data(format!("the JSON does not decode as {target}")).with_source(error)
        })
    }

    /// Returns the parsed document, for comparison.
    ///
    /// Total on purpose: a stored document may come from anyone who may insert into the table.
    pub(crate) fn value(&self) -> Value<'_> {
        stored(&self.0)
    }

    /// Walks the document, which begins at this place, without building a tree.
    pub(crate) fn walk<'a, W: Walk<'a>>(&'a self, document: W::Path, walk: W) {
        parse::walk(&self.0, document, walk);
    }
}

impl Default for Json {
    /// The empty object, `{}`.
    fn default() -> Self {
        Self("{}".into())
    }
}

impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0 || self.value() == other.value()
    }
}

impl Eq for Json {}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize_text(&self.0, serializer)
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        Self::from_text(Box::<str>::from(raw)).map_err(de::Error::custom)
    }
}

/// Writes JSON text as the JSON that it is.
pub(crate) fn serialize_text<S: Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
    RawValue::from_string(text.to_owned()).map_err(ser::Error::custom)?.serialize(serializer)
}

/// Prepares a user's text for an error message: quoted, escaped, and cut to a length suitable for a log line.
pub(crate) fn quoted(text: &str) -> String {
    const SHOWN: usize = 60;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{:?}… ({} bytes)", &text[..end], text.len()),
        None => format!("{text:?}"),
    }
}
