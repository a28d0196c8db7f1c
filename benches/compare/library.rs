//! A lending library's events, the same for the same seed: about 30 of them match a decision, however long the log is.

use std::time::{Duration, SystemTime};

use mainstem::{Filter, NewEvent, Predicate};
use serde::Serialize;
use uuid::Uuid;

use crate::Outcome;

/// The types that a decision about lending looks at.
pub(crate) const DECISIVE: [&str; 4] = [
    "BookCopyAddedToCirculation",
    "BookCopyLentToReader",
    "BookCopyRemovedFromCirculation",
    "BookCopyReturnedByReader",
];

/// All types, with how many of a hundred events have them.
const TYPES: [(&str, u64); 8] = [
    ("BookCopyLentToReader", 42),
    ("BookCopyReturnedByReader", 42),
    ("BookCopyAddedToCirculation", 4),
    ("BookCopyRemovedFromCirculation", 2),
    ("LendingBookToReaderFailed", 4),
    ("ReturningBookFromReaderFailed", 2),
    ("ReaderRegistered", 2),
    ("ReaderContractCanceled", 2),
];

const EVENTS_PER_BOOK: u64 = 20;
const EVENTS_PER_READER: u64 = 14;

/// 2025-01-01. Later events of a fixture are 10 ms later, so that all of them are of the past.
const BEGINNING: Duration = Duration::from_secs(1_735_689_600);
const STEP: Duration = Duration::from_millis(10);

const WORDS: [&str; 16] = [
    "Garden", "Winter", "Harbour", "Silence", "Mountain", "Letters", "Orchard", "Shadow", "River", "Kingdom",
    "Lantern", "Voyage", "Memory", "Thunder", "Meadow", "Glass",
];
const NAMES: [&str; 8] = [
    "A. Lindqvist",
    "M. Okonkwo",
    "J. Haraldsen",
    "S. Petrova",
    "R. Delacroix",
    "T. Nakamura",
    "E. Fairweather",
    "C. Ibarra",
];

/// The events of one seed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Library {
    seed: u64,
    books: u64,
    readers: u64,
}

/// A copy and a reader: what one decision is about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Boundary {
    pub(crate) book: Uuid,
    pub(crate) reader: Uuid,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Payload {
    #[serde(rename = "BookID")]
    book_id: Uuid,
    #[serde(rename = "ReaderID")]
    reader_id: Uuid,
    #[serde(rename = "ISBN")]
    isbn: String,
    title: String,
    authors: String,
    publisher: String,
    edition: String,
    publication_year: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct Metadata {
    #[serde(rename = "MessageID")]
    message: Uuid,
    #[serde(rename = "CausationID")]
    causation: Uuid,
    #[serde(rename = "CorrelationID")]
    correlation: Uuid,
}

/// What every side writes, each in its own way.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) event_type: &'static str,
    pub(crate) payload: Payload,
    pub(crate) metadata: Metadata,
}

impl Library {
    pub(crate) fn new(seed: u64, events: u64) -> Self {
        Self { seed, books: (events / EVENTS_PER_BOOK).max(1), readers: (events / EVENTS_PER_READER).max(1) }
    }

    /// One of the decisions that events of the log match. No two numbers below [`boundaries`](Self::boundaries)
    /// share a copy or a reader.
    pub(crate) fn boundary(&self, number: u64) -> Boundary {
        Boundary { book: self.id(1, number % self.books), reader: self.id(2, number % self.readers) }
    }

    /// How many decisions there are that have nothing in common.
    pub(crate) fn boundaries(&self) -> u64 {
        self.books.min(self.readers)
    }

    /// A decision that no event of the log matches.
    pub(crate) fn absent(&self, number: u64) -> Boundary {
        Boundary { book: self.id(3, number), reader: self.id(4, number) }
    }

    /// The event of a fixture at a position.
    pub(crate) fn at(&self, position: u64) -> Draft {
        let mut kind = self.number(5, position) % 100;
        let mut event_type = TYPES[0].0;
        for (name, share) in TYPES {
            if kind < share {
                event_type = name;
                break;
            }
            kind -= share;
        }
        let book = self.id(1, self.number(6, position) % self.books);
        let reader = self.id(2, self.number(7, position) % self.readers);
        self.draft(event_type, Boundary { book, reader }, position)
    }

    /// When that event occurred.
    pub(crate) fn time_at(&self, position: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + since_epoch(position)
    }

    /// That event's id: as those of version 7, in the order of time.
    pub(crate) fn id_at(&self, position: u64) -> Uuid {
        let millis = u64::try_from(since_epoch(position).as_millis()).unwrap_or_default();
        let random = self.number(8, position);
        Uuid::from_u64_pair(millis << 16 | 7 << 12 | (random & 0xfff), 1 << 63 | random >> 2)
    }

    /// The next event of a boundary, as somebody decides on it.
    pub(crate) fn next(&self, boundary: Boundary, number: u64) -> Draft {
        let event_type = if number.is_multiple_of(2) { "BookCopyLentToReader" } else { "BookCopyReturnedByReader" };
        self.draft(event_type, boundary, number ^ boundary.book.as_u64_pair().1)
    }

    /// An event of a type that no decision looks at.
    pub(crate) fn aside(&self, boundary: Boundary, number: u64) -> Draft {
        self.draft("LendingBookToReaderFailed", boundary, number ^ boundary.book.as_u64_pair().1)
    }

    fn draft(&self, event_type: &'static str, Boundary { book, reader }: Boundary, number: u64) -> Draft {
        let mut bits = self.number(9, number);
        let mut draw = |of: u64| {
            let drawn = bits % of;
            bits /= of;
            drawn
        };
        let mut word = |of: &[&'static str]| of[usize::try_from(draw(of.len() as u64)).unwrap_or_default()];
        let title = format!("The {} of the {} and the {}", word(&WORDS), word(&WORDS), word(&WORDS));
        let authors = format!("{}, {}", word(&NAMES), word(&NAMES));
        let publisher = format!("{} & {} Press", word(&WORDS), word(&WORDS));
        let payload = Payload {
            book_id: book,
            reader_id: reader,
            isbn: format!("978-{:010}", draw(10_000_000_000)),
            title,
            authors,
            publisher,
            edition: format!("Revised edition no. {}", 1 + draw(9)),
            publication_year: 1900 + draw(125),
        };
        let message = self.id(10, number);
        let metadata = Metadata { message, causation: self.id(11, number), correlation: self.id(12, number) };
        Draft { event_type, payload, metadata }
    }

    fn id(&self, stream: u64, number: u64) -> Uuid {
        let (high, low) = (self.number(stream, number), self.number(stream + 100, number));
        Uuid::from_u64_pair(high & !0xf000 | 0x4000, low & (u64::MAX >> 2) | 1 << 63)
    }

    /// SplitMix64: random access to as many streams as one likes.
    fn number(&self, stream: u64, number: u64) -> u64 {
        mix(mix(self.seed ^ stream << 48).wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
    }
}

fn mix(mut bits: u64) -> u64 {
    bits = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ bits >> 31
}

fn since_epoch(position: u64) -> Duration {
    BEGINNING + STEP * u32::try_from(position).unwrap_or(u32::MAX)
}

impl Boundary {
    /// Four types and two predicates.
    pub(crate) fn filter(&self) -> Outcome<Filter> {
        let predicates = [Predicate::payload("BookID", self.book), Predicate::payload("ReaderID", self.reader)];
        Ok(Filter::matching().any_type_of(DECISIVE).and_any_predicate_of(predicates).finish()?)
    }
}

impl Draft {
    pub(crate) fn book(&self) -> Uuid {
        self.payload.book_id
    }

    pub(crate) fn payload_json(&self) -> Outcome<String> {
        Ok(serde_json::to_string(&self.payload)?)
    }

    pub(crate) fn metadata_json(&self) -> Outcome<String> {
        Ok(serde_json::to_string(&self.metadata)?)
    }

    /// As the store takes it.
    pub(crate) fn event(&self) -> Outcome<NewEvent> {
        Ok(NewEvent::new(self.event_type, &self.payload)?.with_metadata(&self.metadata)?)
    }
}
