//! Hot keys: members of events that are queried so often that they have their own index.

use std::fmt::{self, Write as _};

use sha2::{Digest as _, Sha256};

use crate::{
    Error, JsonPath, Result,
    filter::{Fragment, Side},
    json::{Value, quoted},
};

/// A member of payload or metadata whose values many events share, and by which they are queried: a tenant, a customer.
///
/// The index on a whole payload finds all events of such a value, in no order: a query for only those after a position
/// (the next part of a projection, a condition that was read long ago) looks at all the others as well. A hot key has
/// an index on its value and the position, which goes straight to them.
///
/// [`PostgresEventStoreBuilder::hot_keys`](crate::PostgresEventStoreBuilder::hot_keys) declares the key to the store,
/// and [`PostgresEventStore::create_index`](crate::PostgresEventStore::create_index) builds the index. Neither needs
/// the other to be correct, only to be fast. The index serves predicates that ask for one scalar at this path: a
/// string, a number, a boolean, null.
///
/// ```
/// use mainstem::schema::HotKey;
///
/// let tenant = HotKey::metadata("tenant")?;
/// let city = HotKey::payload(["address", "city"])?;
/// # Ok::<(), mainstem::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct HotKey {
    side: Side,
    path: JsonPath,
}

impl HotKey {
    /// The longest path, in bytes of its keys: 1024.
    pub const MAX_PATH_LEN: usize = 1024;

    /// Creates a key for a member of the payload.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) if the path has no keys, an empty one, one with a NUL
    /// character, or more than [`MAX_PATH_LEN`](Self::MAX_PATH_LEN) bytes.
    pub fn payload(path: impl Into<JsonPath>) -> Result<Self> {
        Self::new(Side::Payload, path.into())
    }

    /// Creates a key for a member of the metadata.
    ///
    /// # Errors
    ///
    /// As [`payload`](Self::payload).
    pub fn metadata(path: impl Into<JsonPath>) -> Result<Self> {
        Self::new(Side::Metadata, path.into())
    }

    fn new(side: Side, path: JsonPath) -> Result<Self> {
        let len: usize = path.keys().map(str::len).sum();
        let problem = if path.keys().len() == 0 {
            "has no keys".to_owned()
        } else if path.keys().any(|key| key.is_empty() || key.contains('\0')) {
            "has a key that is empty or holds a NUL character".to_owned()
        } else if len > Self::MAX_PATH_LEN {
            format!("has {len} bytes, more than the limit of {}", Self::MAX_PATH_LEN)
        } else {
            return Ok(Self { side, path });
        };
        Err(Error::invalid_input(format!("the path of the hot key {problem}")))
    }

    /// The suffix of its index's name: always the same for the same key.
    pub(in crate::store::postgres) fn suffix(&self) -> String {
        let mut hash = Sha256::new();
        hash.update([u8::from(self.side == Side::Metadata)]);
        for key in self.path.keys() {
            hash.update([0]);
            hash.update(key);
        }
        let digest = hash.finalize();
        let mut suffix = String::from("_key_");
        for byte in digest.iter().take(4) {
            let _ = write!(suffix, "{byte:02x}");
        }
        suffix
    }

    /// The column that contains it.
    pub(in crate::store::postgres) fn column(&self) -> &'static str {
        column(self.side)
    }

    /// The indexed expression of a document: a hash, so long values neither make the index large nor, beyond 2700
    /// bytes, make the append fail. It is the hash that `jsonb` uses for hash joins: equal for equal values, and
    /// stable.
    pub(in crate::store::postgres) fn sql(&self, document: &str) -> String {
        let mut sql = format!("pg_catalog.jsonb_hash_extended({document}");
        for key in self.path.keys() {
            let _ = write!(sql, " -> {}::text", literal(key));
        }
        sql.push_str(", 0)");
        sql
    }

    /// Whether a document that contains the fragment has one certain scalar here.
    pub(in crate::store::postgres) fn is_in(&self, fragment: &Fragment) -> bool {
        self.finds_scalar(fragment, |_| true)
    }

    /// Whether the fragment asks for that, and for nothing else.
    pub(in crate::store::postgres) fn is_all_of(&self, fragment: &Fragment) -> bool {
        self.finds_scalar(fragment, |members| members == 1)
    }

    /// Whether the path leads to a scalar, through objects with such a number of members.
    fn finds_scalar(&self, fragment: &Fragment, through: impl Fn(usize) -> bool) -> bool {
        let mut value = fragment.value();
        for key in self.path.keys() {
            let Value::Object(members) = value else { return false };
            match members.iter().find(|(name, _)| name == key) {
                Some((_, member)) if through(members.len()) => value = member,
                _ => return false,
            }
        }
        self.side == fragment.side() && !value.is_container()
    }
}

pub(in crate::store::postgres) fn column(side: Side) -> &'static str {
    match side {
        Side::Payload => "payload",
        Side::Metadata => "metadata",
    }
}

/// Writes a text as an SQL constant that means the same whatever the session's settings are.
fn literal(text: &str) -> String {
    let mut literal = String::from("E'");
    for character in text.chars() {
        let _ = match u32::from(character) {
            _ if character.is_ascii_alphanumeric() || character == '_' => write!(literal, "{character}"),
            code if code <= 0xffff => write!(literal, "\\u{code:04x}"),
            code => write!(literal, "\\U{code:08x}"),
        };
    }
    literal.push('\'');
    literal
}

/// As it is written: `payload.address.city`.
impl fmt::Display for HotKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.column())?;
        self.path.keys().try_for_each(|key| match key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            true => write!(f, ".{key}"),
            false => write!(f, ".{}", quoted(key)),
        })
    }
}

impl fmt::Debug for HotKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HotKey({self})")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{Filter, Predicate, filter::PredicateGroup};

    #[test]
    fn a_key_is_constant_text_whatever_is_in_it() {
        let key = HotKey::payload(["a_1", "O'Rei\\lly", "😀"]).unwrap();
        let sql = r"pg_catalog.jsonb_hash_extended(d -> E'a_1'::text -> E'O\u0027Rei\u005clly'::text -> E'\U0001f600'::text, 0)";
        assert_eq!(key.sql("d"), sql);
        assert_eq!(key.to_string(), r#"payload.a_1."O'Rei\\lly"."😀""#);
    }

    #[test]
    fn the_name_of_an_index_stays() {
        let suffix = |key: Result<HotKey>| key.unwrap().suffix();
        assert_eq!(suffix(HotKey::payload("BookID")), "_key_37b062e8");
        let others = [
            suffix(HotKey::payload("BookID")),
            suffix(HotKey::metadata("BookID")),
            suffix(HotKey::payload(["Book", "ID"])),
            suffix(HotKey::payload("Book\u{1}ID")),
        ];
        assert_eq!(others.iter().collect::<std::collections::BTreeSet<_>>().len(), others.len());
        assert!(others.iter().all(|suffix| suffix.len() <= crate::store::postgres::names::LONGEST_SUFFIX.len()));
    }

    #[test]
    fn paths_that_name_nothing_are_refused() {
        for path in [vec![], vec![""], vec!["a", ""], vec!["a\0"], vec![&*"x".repeat(1025)]] {
            let error = HotKey::payload(path.clone()).unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::InvalidInput, "{path:?}");
        }
    }

    #[test]
    fn a_key_is_in_what_asks_for_one_scalar_there() {
        let key = HotKey::payload(["a", "b"]).unwrap();
        let fragment = |predicate| {
            let filter = Filter::matching().any_predicate_of([predicate]).finish().unwrap();
            let Some(PredicateGroup::AnyOf(fragments)) = filter.items().unwrap().next().unwrap().predicates().cloned()
            else {
                panic!("one predicate")
            };
            fragments.into_iter().next().unwrap()
        };
        let is_in = |predicate| key.is_in(&fragment(predicate));
        let is_all = |predicate| key.is_all_of(&fragment(predicate));
        for value in [json!("x"), json!(1), json!(true), json!(null)] {
            assert!(is_in(Predicate::payload(["a", "b"], &value)), "{value}");
            assert!(!is_in(Predicate::metadata(["a", "b"], &value)), "{value}");
            let more = Predicate::payload_contains(&json!({"a": {"b": value, "c": []}, "d": 1}));
            assert!(is_in(more.clone()) && !is_all(more), "{value}");
            assert!(is_all(Predicate::payload(["a", "b"], &value)), "{value}");
            for elsewhere in [json!({"a": value}), json!({"a": [{"b": value}]}), json!({"b": value}), json!([value])] {
                assert!(!is_in(Predicate::payload_contains(&elsewhere)), "{elsewhere}");
            }
        }
        for more in [json!(["x"]), json!({"c": 1}), json!({})] {
            assert!(!is_in(Predicate::payload(["a", "b"], &more)), "{more}");
        }
    }
}
