//! Conditions on the JSON of an event.

use std::{
    cmp::Ordering,
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};

use serde::Serialize;

use crate::json::{Value, checked};

/// A condition on the JSON of an event: its payload or its metadata contains a given fragment.
///
/// Containment is that of PostgreSQL's `jsonb` operator `@>`. An object contains the given members, whatever else it
/// has, and recursively so. An array contains the given elements, in any order and any number of times; at the top
/// level it contains a bare scalar too. Values are equal when their type and value are: the string `"1"` is not the
/// number 1, and 1 is 1.0.
///
/// ```
/// use mainstem::Predicate;
/// use serde_json::json;
///
/// Predicate::payload("BookID", "b-1");                       // {"BookID": "b-1"}
/// Predicate::payload("copies", 3);                           // {"copies": 3}
/// Predicate::payload(["address", "city"], "Wien");           // {"address": {"city": "Wien"}}
/// Predicate::payload("genres", ["fantasy"]);                 // {"genres": ["fantasy"]}: one of them, whatever others
/// Predicate::metadata("tenant", 4);
/// Predicate::payload_contains(&json!({"lines": [{"sku": "x", "gift": true}]}));
/// ```
///
/// Creating a predicate never fails. [`finish`](super::FilterBuilder::finish) reports what is wrong with it, and its
/// place in the filter.
#[derive(Clone, PartialEq, Eq)]
pub struct Predicate(Result<Fragment, String>);

/// The part of an event that a predicate looks into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Side {
    /// The payload.
    Payload,
    /// The metadata.
    Metadata,
}

/// The piece of JSON that a predicate of a finished [`Filter`](super::Filter) looks for, in its canonical form.
#[derive(Clone)]
pub struct Fragment {
    side: Side,
    json: Arc<str>,
    value: Arc<Value<'static>>,
}

/// A path to a member of a JSON object: one key, or several from the outside in.
///
/// Created from a string, or from an array or a vector of strings. Keys are taken literally: there is no separator, so
/// a dot in a key is a dot in a key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct JsonPath(Vec<Box<str>>);

impl JsonPath {
    /// From the outside in.
    pub(crate) fn keys(&self) -> impl ExactSizeIterator<Item = &str> {
        self.0.iter().map(|key| &**key)
    }
}

impl From<&str> for JsonPath {
    fn from(key: &str) -> Self {
        Self(vec![key.into()])
    }
}

impl From<String> for JsonPath {
    fn from(key: String) -> Self {
        Self(vec![key.into()])
    }
}

impl<K: Into<Box<str>>, const N: usize> From<[K; N]> for JsonPath {
    fn from(keys: [K; N]) -> Self {
        Self(keys.map(Into::into).into())
    }
}

impl<K: Into<Box<str>>> From<Vec<K>> for JsonPath {
    fn from(keys: Vec<K>) -> Self {
        Self(keys.into_iter().map(Into::into).collect())
    }
}

impl Predicate {
    /// Requires that the payload has this value at this path.
    pub fn payload(path: impl Into<JsonPath>, value: impl Serialize) -> Self {
        Self::at(Side::Payload, &path.into(), &value)
    }

    /// Requires that the metadata has this value at this path.
    pub fn metadata(path: impl Into<JsonPath>, value: impl Serialize) -> Self {
        Self::at(Side::Metadata, &path.into(), &value)
    }

    /// Requires that the payload contains this JSON.
    pub fn payload_contains<T: Serialize + ?Sized>(fragment: &T) -> Self {
        Self::contains(Side::Payload, fragment)
    }

    /// Requires that the metadata contains this JSON.
    pub fn metadata_contains<T: Serialize + ?Sized>(fragment: &T) -> Self {
        Self::contains(Side::Metadata, fragment)
    }

    pub(super) fn from_text(side: Side, text: &str) -> Self {
        Self(Fragment::new(side, text))
    }

    pub(super) fn into_fragment(self) -> Result<Fragment, String> {
        self.0
    }

    fn contains<T: Serialize + ?Sized>(side: Side, fragment: &T) -> Self {
        Self(serialize(fragment).and_then(|text| Fragment::new(side, &text)))
    }

    fn at(side: Side, path: &JsonPath, value: &impl Serialize) -> Self {
        let nested = || {
            let mut text = serialize(value)?;
            if path.0.is_empty() {
                return Err("the path has no keys".into());
            }
            for key in path.0.iter().rev() {
                if key.is_empty() {
                    return Err("the path has an empty key".into());
                }
                text = format!("{{{}:{text}}}", serialize(key)?);
            }
            Fragment::new(side, &text)
        };
        Self(nested())
    }
}

impl fmt::Debug for Predicate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Ok(fragment) => fragment.fmt(f),
            Err(what) => write!(f, "invalid: {what}"),
        }
    }
}

impl Fragment {
    fn new(side: Side, text: &str) -> Result<Self, String> {
        if text.len() > super::Filter::MAX_LEN {
            return Err(format!("the JSON has {} bytes, more than a whole filter may have", text.len()));
        }
        let value = checked(text).map_err(|refused| refused.to_string())?;
        if value.is_empty_container() {
            return Err(format!("{text} asks for nothing; every object or array contains it"));
        }
        let (value, json) = value.into_canonical();
        Ok(Self { side, json: json.into(), value: value.into() })
    }

    /// Returns the part of the event that must contain the fragment.
    #[must_use]
    pub fn side(&self) -> Side {
        self.side
    }

    /// Returns the fragment as JSON text: no white space, keys in order, array elements in order and each once. Equal
    /// values have equal text.
    #[must_use]
    pub fn json(&self) -> &str {
        &self.json
    }

    pub(crate) fn value(&self) -> &Value<'static> {
        &self.value
    }

    fn key(&self) -> (Side, &str) {
        (self.side, &self.json)
    }
}

/// The text is enough: the value follows from it.
impl PartialEq for Fragment {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Fragment {}

impl PartialOrd for Fragment {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Fragment {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

impl Hash for Fragment {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

impl fmt::Debug for Fragment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} @> {}", self.side, self.json)
    }
}

fn serialize<T: Serialize + ?Sized>(value: &T) -> Result<String, String> {
    serde_json::to_string(value).map_err(|error| format!("the value cannot be serialised as JSON: {error}"))
}
