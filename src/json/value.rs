//! A parsed document, with `jsonb`'s equality and one canonical text for all equal values.

use std::borrow::Cow;

use super::number::{self, Decimal};

/// A parsed JSON document that borrows from its text.
#[derive(Clone, Debug)]
pub(crate) enum Value<'a> {
    Null,
    Bool(bool),
    /// The text of the number: most are never looked at.
    Number(Cow<'a, str>),
    String(Cow<'a, str>),
    Array(Vec<Self>),
    /// The members in the order of their keys, each key once.
    Object(Vec<(Cow<'a, str>, Self)>),
    /// The text of something nested deeper than any document of ours, and so than any predicate.
    TooDeep(Cow<'a, str>),
}

impl<'a> Value<'a> {
    /// Creates an object; of members with the same key, the last one stays.
    pub(super) fn object(members: Vec<(Cow<'a, str>, Self)>) -> Self {
        Self::Object(last_of_each(members))
    }

    /// Returns the one text of all scalars that are equal to this one, without quotation marks; `None` for a container.
    pub(crate) fn as_scalar(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Null => Some("null".into()),
            Self::Bool(bool) => Some(if *bool { "true" } else { "false" }.into()),
            Self::Number(number) => Some(number::canonical(number)),
            Self::String(string) => Some((&**string).into()),
            Self::Array(_) | Self::Object(_) | Self::TooDeep(_) => None,
        }
    }

    pub(crate) fn is_container(&self) -> bool {
        matches!(self, Self::Array(_) | Self::Object(_) | Self::TooDeep(_))
    }

    /// Whether this is an object or an array with nothing in it.
    pub(crate) fn is_empty_container(&self) -> bool {
        match self {
            Self::Array(elements) => elements.is_empty(),
            Self::Object(members) => members.is_empty(),
            _ => false,
        }
    }

    /// Returns the same fragment for containment in its canonical form, with its text.
    ///
    /// What a document must contain is a set at every level: members in any order, array elements in any order and
    /// any number of times.
    pub(crate) fn into_canonical(self) -> (Value<'static>, String) {
        let mut text = String::new();
        let value = match self {
            Self::Null => {
                text.push_str("null");
                Value::Null
            }
            Self::Bool(bool) => {
                text.push_str(if bool { "true" } else { "false" });
                Value::Bool(bool)
            }
            Self::Number(number) => {
                text = number::canonical(&number).into_owned();
                Value::Number(text.clone().into())
            }
            Self::String(string) => {
                write_string(&mut text, &string);
                Value::String(string.into_owned().into())
            }
            Self::Array(elements) => {
                let mut elements: Vec<_> = elements.into_iter().map(Self::into_canonical).collect();
                elements.sort_by(|left, right| left.1.cmp(&right.1));
                elements.dedup_by(|later, earlier| later.1 == earlier.1);
                text.push('[');
                let elements = separated(&mut text, elements, |text, (value, element)| {
                    text.push_str(&element);
                    value
                });
                text.push(']');
                Value::Array(elements)
            }
            Self::Object(members) => {
                text.push('{');
                let members = separated(&mut text, members, |text, (key, member)| {
                    write_string(text, &key);
                    text.push(':');
                    let (value, member) = member.into_canonical();
                    text.push_str(&member);
                    (key.into_owned().into(), value)
                });
                text.push('}');
                Value::Object(members)
            }
            Self::TooDeep(deep) => {
                text.push_str(&deep);
                Value::TooDeep(deep.into_owned().into())
            }
        };
        (value, text)
    }
}

impl PartialEq for Value<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Bool(left), Self::Bool(right)) => left == right,
            (Self::Number(left), Self::Number(right)) => left == right || Decimal::new(left) == Decimal::new(right),
            (Self::String(left), Self::String(right)) => left == right,
            (Self::Array(left), Self::Array(right)) => left == right,
            (Self::Object(left), Self::Object(right)) => left == right,
            (Self::TooDeep(left), Self::TooDeep(right)) => left == right,
            _ => false,
        }
    }
}

/// Members in the order of their keys; of each key, the last one.
pub(super) fn last_of_each<T>(mut members: Vec<(Cow<'_, str>, T)>) -> Vec<(Cow<'_, str>, T)> {
    // The sort is stable, so the last of equal keys is still the last.
    members.sort_by(|left, right| left.0.cmp(&right.0));
    members.dedup_by(|later, earlier| {
        let same = later.0 == earlier.0;
        if same {
            std::mem::swap(later, earlier);
        }
        same
    });
    members
}

fn separated<T, U>(text: &mut String, items: Vec<T>, mut write: impl FnMut(&mut String, T) -> U) -> Vec<U> {
    let mut first = true;
    let write = |item| {
        if !std::mem::take(&mut first) {
            text.push(',');
        }
        write(text, item)
    };
    items.into_iter().map(write).collect()
}

/// Writes a text as JSON. Our own function, not `serde_json`'s: digests of filters are stored, so it must not change
/// with a dependency.
pub(crate) fn write_string(text: &mut String, string: &str) {
    escaped(text, string, |text, control| text.push_str(&format!("\\u{:04x}", u32::from(control))));
}

/// The same, with a function that writes control characters.
pub(super) fn escaped(text: &mut String, string: &str, write_control: impl Fn(&mut String, char)) {
    let is_plain = |byte: u8| byte >= b' ' && byte != b'"' && byte != b'\\';
    text.reserve(string.len() + 2);
    text.push('"');
    let mut rest = string;
    while let Some(at) = rest.bytes().position(|byte| !is_plain(byte)) {
        let (plain, special) = rest.split_at(at);
        text.push_str(plain);
        // One byte, since it is ASCII.
        let (special, after) = special.split_at(1);
        match special {
            "\"" => text.push_str("\\\""),
            "\\" => text.push_str("\\\\"),
            control => control.chars().for_each(|it| write_control(text, it)),
        }
        rest = after;
    }
    text.push_str(rest);
    text.push('"');
}
