//! The type and the tags of a recorded event, in one piece of memory.
//!
//! Whoever reads a long log spends a third of the processor time in the allocator, most of it for short texts such as these.

use std::{borrow::Cow, fmt, iter::FusedIterator};

/// No text that PostgreSQL stores contains it.
const SEPARATOR: char = '\0';

/// The type, and behind it each tag, in order, after a separator.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Labels {
    text: Box<str>,
    type_len: usize,
}

/// Collects them. The tags come in any order and any number of times.
#[derive(Debug)]
pub(crate) struct LabelsBuilder {
    text: String,
    type_len: usize,
    /// Where the last tag begins.
    last: usize,
    is_sorted: bool,
}

impl LabelsBuilder {
    /// Begins with the type, with room for so many bytes of tags and separators.
    pub(crate) fn new(event_type: &str, room: usize) -> Self {
        let mut text = String::with_capacity(event_type.len() + room);
        text.push_str(&storable(event_type));
        let type_len = text.len();
        Self { text, type_len, last: type_len, is_sorted: true }
    }

    pub(crate) fn push(&mut self, tag: &str) {
        let tag = storable(tag);
        let is_first = self.text.len() == self.type_len;
        self.is_sorted &= is_first || self.text[self.last..] < *tag;
        self.text.push(SEPARATOR);
        self.last = self.text.len();
        self.text.push_str(&tag);
    }

    pub(crate) fn finish(self) -> Labels {
        let labels = Labels { text: self.text.into(), type_len: self.type_len };
        if self.is_sorted {
            return labels;
        }
        // As the library always writes them.
        let mut tags: Vec<&str> = labels.tags().collect();
        tags.sort_unstable();
        tags.dedup();
        let mut sorted = Self::new(labels.event_type(), labels.text.len() - labels.type_len);
        tags.into_iter().for_each(|tag| sorted.push(tag));
        sorted.finish()
    }
}

/// The text without separators. A log can hold none of them; an event that was never in one gets another character.
fn storable(text: &str) -> Cow<'_, str> {
    if memchr::memchr(0, text.as_bytes()).is_none() {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.replace(SEPARATOR, "\u{fffd}"))
}

impl Labels {
    pub(crate) fn event_type(&self) -> &str {
        &self.text[..self.type_len]
    }

    /// The tags, in order, each once.
    pub(crate) fn tags(&self) -> Tags<'_> {
        let text = self.tag_text();
        let len = text.map_or(0, |text| memchr::memchr_iter(0, text.as_bytes()).count() + 1);
        Tags { text, len }
    }

    pub(crate) fn has_tag(&self, tag: &str) -> bool {
        self.tag_text().is_some_and(|text| text.split(SEPARATOR).any(|candidate| candidate == tag))
    }

    /// The tags with separators between them; `None` if there is none.
    fn tag_text(&self) -> Option<&str> {
        self.text.get(self.type_len + 1..)
    }

    /// The number of bytes of all of them.
    pub(crate) fn byte_len(&self) -> usize {
        self.text.len() - self.tags().len()
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Labels").field("event_type", &self.event_type()).field("tags", &self.tags()).finish()
    }
}

#[derive(Clone)]
pub(crate) struct Tags<'a> {
    /// Those that are left; `None` if none is.
    text: Option<&'a str>,
    len: usize,
}

impl<'a> Iterator for Tags<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let text = self.text.take()?;
        self.len -= 1;
        let end = memchr::memchr(0, text.as_bytes());
        self.text = end.map(|end| &text[end + 1..]);
        Some(&text[..end.unwrap_or(text.len())])
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.len, Some(self.len))
    }
}

impl ExactSizeIterator for Tags<'_> {}

impl FusedIterator for Tags<'_> {}

impl fmt::Debug for Tags<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.clone()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(event_type: &str, tags: &[&str]) -> Labels {
        let mut labels = LabelsBuilder::new(event_type, 0);
        tags.iter().for_each(|tag| labels.push(tag));
        labels.finish()
    }

    #[test]
    fn type_and_tags_are_what_was_given() {
        for tags in [&[][..], &["a"], &["", "a", "ab", "b"], &["é", "😀"]] {
            for event_type in ["A", "", "Ärger"] {
                let labels = labels(event_type, tags);
                assert_eq!(labels.event_type(), event_type);
                assert_eq!(labels.tags().collect::<Vec<_>>(), tags);
                assert_eq!(labels.byte_len(), event_type.len() + tags.iter().map(|tag| tag.len()).sum::<usize>());
                assert!(tags.iter().all(|tag| labels.has_tag(tag)));
                assert!(!labels.has_tag("A") && !labels.has_tag("b\0") && (tags.contains(&"") || !labels.has_tag("")));
                let mut left = labels.tags();
                for len in (0..tags.len()).rev() {
                    assert!(left.next().is_some());
                    assert_eq!(left.len(), len);
                }
                assert_eq!((left.next(), left.next()), (None, None));
            }
        }
    }

    #[test]
    fn tags_are_sorted_and_each_is_there_once() {
        assert_eq!(labels("A", &["b", "a", "c", "a"]), labels("A", &["a", "b", "c"]));
        assert_eq!(labels("A", &["a", "a"]), labels("A", &["a"]));
        assert_eq!(labels("A", &["", ""]), labels("A", &[""]));
        assert_ne!(labels("A", &[""]), labels("A", &[]));
        assert_ne!(labels("A", &["b"]), labels("Ab", &[]));
    }

    #[test]
    fn a_separator_in_a_text_separates_nothing() {
        let labels = labels("A\0B", &["a\0b"]);
        assert_eq!(labels.event_type(), "A\u{fffd}B");
        assert_eq!(labels.tags().collect::<Vec<_>>(), ["a\u{fffd}b"]);
    }
}
