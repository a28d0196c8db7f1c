//! What is written: an event of the library, like the fixture's, with what the oracle needs.

use serde::{Deserialize, Serialize};

use super::Outcome;

/// The boundary's tag, for stores that have tags.
pub(crate) fn tag(book: &str) -> String {
    format!("book:{book}")
}

/// The fields and the approximate length of the fixture's payloads.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Payload {
    /// What the boundary is about.
    #[serde(rename = "BookID", default, skip_serializing_if = "String::is_empty")]
    pub(crate) book: String,
    #[serde(rename = "ReaderID")]
    reader: String,
    #[serde(rename = "ISBN")]
    isbn: String,
    title: String,
    authors: String,
    publisher: String,
    edition: String,
    publication_year: u64,
    /// Absent in the fixture's events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) made: Option<Made>,
}

/// Who made an event, and based on what.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Made {
    pub(crate) writer: u64,
    /// The number of the append. It counts on through all rows of the writer.
    pub(crate) number: u64,
    /// Which event of its append it is.
    pub(crate) part: u64,
    /// How many events of the boundary the writer had seen when it decided.
    pub(crate) seen: u64,
}

/// An event to write.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub(crate) event_type: &'static str,
    pub(crate) payload: Payload,
}

impl Draft {
    pub(crate) fn new(book: &str, made: Made) -> Self {
        let lent = (made.number + made.part).is_multiple_of(2);
        let payload = Payload {
            book: book.to_owned(),
            reader: format!("{:08x}-0000-4000-8000-{:012x}", made.writer, made.number),
            isbn: format!("978-{:010}", made.number % 10_000_000_000),
            title: "The Garden of the Mountain and the River".to_owned(),
            authors: "E. Fairweather, T. Nakamura".to_owned(),
            publisher: "Lantern & Voyage Press".to_owned(),
            edition: format!("Revised edition no. {}", 1 + made.part),
            publication_year: 1987,
            made: Some(made),
        };
        Self { event_type: if lent { "BookCopyLentToReader" } else { "BookCopyReturnedByReader" }, payload }
    }
}

/// An event as a store returns it. Its content is read only outside of measurements.
pub(crate) trait Recorded: Send {
    fn decode(&self) -> Outcome<(String, Payload)>;
}

/// A type, and the payload's text.
impl Recorded for (String, String) {
    fn decode(&self) -> Outcome<(String, Payload)> {
        Ok((self.0.clone(), serde_json::from_str(&self.1)?))
    }
}

/// A type, and the payload's text as bytes.
impl Recorded for (String, Vec<u8>) {
    fn decode(&self) -> Outcome<(String, Payload)> {
        Ok((self.0.clone(), serde_json::from_slice(&self.1)?))
    }
}

impl Payload {
    /// What is compared between stores: the same text in every language.
    pub(crate) fn identity(&self, event_type: &str) -> String {
        format!("{event_type} {} {} {} {}", self.book, self.reader, self.isbn, self.title)
    }
}
