//! PostgreSQL's `jsonb @> jsonb` on the text of the document: most of it is skipped, and no tree is built.

use std::borrow::Cow;

use super::{
    number::Decimal,
    parse::stored,
    value::{Value, last_of_each},
};

/// A document in which fragments are searched for.
///
/// Its text is JSON that was validated or came from a `jsonb` column. For any other text, it is only certain that the
/// search ends: text that cannot be read contains nothing.
#[derive(Debug)]
pub(crate) struct Document<'a> {
    text: &'a str,
    /// The members of an object, found once for all fragments: each key once, in order.
    members: Option<Vec<(Cow<'a, str>, &'a str)>>,
}

impl<'a> Document<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        let text = text.trim_ascii();
        let members = text.starts_with('{').then(|| last_of_each(members(text).collect()));
        Self { text, members }
    }

    /// Whether `document @> fragment`.
    ///
    /// Objects contain the members that they have, recursively; arrays are sets of elements, at every level; scalars
    /// contain their equals, without coercion. One exception, at the top only: an array contains a bare scalar that is
    /// one of its elements.
    pub(crate) fn contains(&self, fragment: &Value<'_>) -> bool {
        match (fragment, &self.members) {
            (Value::Object(wanted), Some(members)) => wanted.iter().all(|(key, wanted)| {
                let found = members.binary_search_by(|(candidate, _)| candidate.cmp(key));
                found.is_ok_and(|found| nested(members[found].1, wanted))
            }),
            (scalar, _) if !scalar.is_container() && self.text.starts_with('[') => {
                elements(self.text).any(|element| equals(element, scalar))
            }
            _ => nested(self.text, fragment),
        }
    }
}

/// It goes as deep as the fragment does, which has its [limit](crate::Json::MAX_DEPTH).
fn nested(text: &str, fragment: &Value<'_>) -> bool {
    match fragment {
        Value::Object(wanted) => {
            text.starts_with('{')
                && wanted.iter().all(|(key, wanted)| {
                    // Of a repeated key, the last one counts.
                    let found = members(text).filter(|(candidate, _)| candidate == key).last();
                    found.is_some_and(|(_, member)| nested(member, wanted))
                })
        }
        Value::Array(wanted) => {
            text.starts_with('[') && wanted.iter().all(|wanted| elements(text).any(|element| nested(element, wanted)))
        }
        scalar => equals(text, scalar),
    }
}

fn equals(text: &str, scalar: &Value<'_>) -> bool {
    match scalar {
        Value::Null => text == "null",
        Value::Bool(wanted) => text == if *wanted { "true" } else { "false" },
        Value::Number(wanted) => {
            text.starts_with(|first: char| first == '-' || first.is_ascii_digit())
                && (text == wanted || Decimal::new(text) == Decimal::new(wanted))
        }
        Value::String(wanted) => text.starts_with('"') && string(text).is_some_and(|string| string == *wanted),
        Value::Array(_) | Value::Object(_) | Value::TooDeep(_) => false,
    }
}

/// The keys and the texts of an object's members.
fn members(object: &str) -> impl Iterator<Item = (Cow<'_, str>, &str)> {
    let mut scan = Scan::inside(object);
    std::iter::from_fn(move || {
        let key = string(scan.value()?)?;
        scan.pass(b':')?;
        Some((key, scan.value()?))
    })
}

/// The texts of an array's elements.
fn elements(array: &str) -> impl Iterator<Item = &str> {
    let mut scan = Scan::inside(array);
    std::iter::from_fn(move || scan.value())
}

/// The content of a quoted string.
fn string(text: &str) -> Option<Cow<'_, str>> {
    let inside = text.strip_prefix('"')?.strip_suffix('"')?;
    if !inside.contains('\\') {
        return Some(Cow::Borrowed(inside));
    }
    match stored(text) {
        Value::String(string) => Some(string),
        _ => None,
    }
}

/// A scan through the values of a container, one after the other.
struct Scan<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scan<'a> {
    /// Starts after the bracket that opens it.
    fn inside(container: &'a str) -> Self {
        Self { text: container, at: 1 }
    }

    /// The next value; `None` at the end of the container.
    fn value(&mut self) -> Option<&'a str> {
        self.skip(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | b','));
        let start = self.at;
        match self.peek()? {
            b'}' | b']' => return None,
            b'"' => self.skip_string()?,
            b'{' | b'[' => self.skip_container()?,
            _ => self.skip(|byte| !matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r')),
        }
        self.text.get(start..self.at)
    }

    /// Skips this byte, which must come next.
    fn pass(&mut self, byte: u8) -> Option<()> {
        self.skip(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r'));
        (self.peek()? == byte).then(|| self.at += 1)
    }

    fn skip_string(&mut self) -> Option<()> {
        loop {
            self.at += 1;
            self.at += memchr::memchr2(b'"', b'\\', self.text.as_bytes().get(self.at..)?)?;
            if self.peek()? == b'"' {
                self.at += 1;
                return Some(());
            }
            // The escaped character may be a quotation mark.
            self.at += 1;
        }
    }

    fn skip_container(&mut self) -> Option<()> {
        let mut open = 0_usize;
        loop {
            match self.peek()? {
                b'"' => {
                    self.skip_string()?;
                    continue;
                }
                b'{' | b'[' => open += 1,
                b'}' | b']' => open -= 1,
                _ => {}
            }
            self.at += 1;
            if open == 0 {
                return Some(());
            }
        }
    }

    fn skip(&mut self, unwanted: impl Fn(u8) -> bool) {
        while self.peek().is_some_and(&unwanted) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }
}
