//! Payloads of a given length.

use serde::Serialize;

use crate::{Outcome, library::Boundary};

/// The bytes that are not text.
pub(crate) const LEAST: u64 = 150;
pub(crate) const MOST: u64 = 65_536;

const WORDS: [&str; 16] = [
    "shelf", "returned", "with", "a", "torn", "cover", "by", "the", "evening", "desk", "renewed", "twice", "reader",
    "asked", "for", "another",
];

/// The two ids that conditions look at, and text.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Padded {
    #[serde(rename = "BookID")]
    book: String,
    #[serde(rename = "ReaderID")]
    reader: String,
    remark: String,
}

impl Padded {
    /// Its JSON has exactly this many bytes. The words of the text depend on the number, so that it compresses as text does.
    pub(crate) fn new(boundary: Boundary, number: u64, bytes: u64) -> Outcome<Self> {
        let mut padded =
            Self { book: boundary.book.to_string(), reader: boundary.reader.to_string(), remark: String::new() };
        let bare = serde_json::to_string(&padded)?.len();
        let length = usize::try_from(bytes)?.checked_sub(bare).ok_or_else(|| format!("{bytes} bytes are too few"))?;
        padded.remark = text(number, length);
        Ok(padded)
    }
}

fn text(number: u64, length: usize) -> String {
    let mut text = String::with_capacity(length + 16);
    let mut bits = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    while text.len() < length {
        // Xorshift: any order of words will do.
        bits ^= bits << 13;
        bits ^= bits >> 7;
        bits ^= bits << 17;
        text.push_str(WORDS[usize::try_from(bits >> 60).unwrap_or_default()]);
        text.push(' ');
    }
    text.truncate(length);
    text
}
