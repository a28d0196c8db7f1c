//! What must hold for any bytes: `fuzz_targets` throw random ones at it, and `tests/it/fuzz.rs` the corpora and what is near to
//! them.

use std::{fmt::Display, str::FromStr};

use mainstem::{
    Cursor, Error, Filter, Json, NewEvent, Payload, PositionBoundedFilter, RouterBuilder, TimeBoundedFilter, Token,
    TokenKey,
    testing::{__column, __guard, __row},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

/// No error repeats more of a text than this, in bytes: it goes to logs, and to whoever has sent the text.
const LONGEST_ERROR: usize = 4096;

/// A password that no error may tell.
const PASSWORD: &str = "hunter2hunter2";

/// What is read is written as it was, and nothing passes for signed.
pub fn token(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Some(token) = round_trip::<Token>(text) {
        assert_eq!(token.to_string(), text, "a token has one text");
        let json = serde_json::to_string(&token).expect("a token is text");
        assert_eq!(serde_json::from_str::<Token>(&json).expect("and is read from it"), token);
    }
    let key = TokenKey::new([7; 32]).expect("a key of 32 bytes");
    match key.verify(text) {
        Ok(token) => assert_eq!(key.sign(&token), text, "a signature is for one text"),
        Err(error) => bounded(&error),
    }
}

/// What is read is written to something that is read as the same, and written as the same.
pub fn filter(data: &[u8]) {
    let _ = is_filter(data);
}

/// Whether it is a filter of any kind.
pub fn is_filter(data: &[u8]) -> bool {
    let filter = form_in_json::<Filter>(data);
    if let Some(filter) = &filter {
        let json = serde_json::to_string(&filter).expect("a filter has a form in JSON");
        let again: Filter = serde_json::from_str(&json).expect("which is read");
        assert_eq!(again.digest(), filter.digest(), "{json}");
    }
    let by_position = form_in_json::<PositionBoundedFilter>(data);
    let by_time = form_in_json::<TimeBoundedFilter>(data);
    filter.is_some() || by_position.is_some() || by_time.is_some()
}

fn form_in_json<T: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug>(data: &[u8]) -> Option<T> {
    let filter: T = serde_json::from_slice(data).ok()?;
    let json = serde_json::to_string(&filter).expect("a filter has a form in JSON");
    let again: T = serde_json::from_str(&json).expect("which is read");
    assert_eq!(again, filter, "{json}");
    assert_eq!(serde_json::to_string(&again).expect("as before"), json, "that form is the only one");
    Some(filter)
}

/// A filter, and an event that it may match.
#[derive(Deserialize)]
struct Guarded {
    filter: Filter,
    #[serde(rename = "type")]
    event_type: String,
    #[serde(default)]
    tags: Vec<String>,
    payload: Option<Json>,
    #[serde(default)]
    metadata: Json,
}

/// An event that a filter matches has a key of the filter: or a condition would let it pass.
pub fn guard(data: &[u8]) {
    let _ = is_guarded(data);
}

/// Whether the event matches; none if there is no filter with an event.
pub fn is_guarded(data: &[u8]) -> Option<bool> {
    let Guarded { filter, event_type, tags, payload, metadata } = serde_json::from_slice(data).ok()?;
    let payload = payload.map_or_else(|| Payload::bytes("text/plain", event_type.as_bytes()), Payload::Json);
    let event = NewEvent::from_payload(event_type, payload).with_tags(tags).with_metadata_json(metadata);
    let is_match = __guard(&filter, &event);
    let recorded = event.into_recorded(1, std::time::SystemTime::UNIX_EPOCH);
    assert_eq!(filter.matches(&recorded), is_match, "that it is recorded changes nothing");
    Some(is_match)
}

/// A cursor is never taken for another place.
pub fn cursor(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Some(cursor) = round_trip::<Cursor>(text) {
        assert_eq!(cursor.to_string(), text, "a cursor has one text");
    }
}

/// The URL of the nodes, and lines `NAME=VALUE` of an environment: whatever is wrong, the password stays out of it.
pub fn settings(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let secret = |told: &str| assert!(text.contains(PASSWORD) || !told.contains(PASSWORD), "{told}");
    for url in [text.to_owned(), format!("postgres://ada:{PASSWORD}@{text}")] {
        match RouterBuilder::from_url(&url) {
            Ok(builder) => secret(&format!("{builder:?}")),
            Err(error) => {
                bounded(&error);
                secret(&error.report());
            }
        }
    }
    let vars = text.lines().filter_map(|line| line.split_once('=')).chain([("PGPASSWORD", PASSWORD)]);
    match RouterBuilder::from_vars(vars) {
        Ok(builder) => secret(&format!("{builder:?}")),
        Err(error) => {
            bounded(&error);
            secret(&error.report());
        }
    }
}

/// What is taken is JSON for everybody, and stays as it is.
pub fn json(data: &[u8]) {
    let _ = is_json(data);
}

/// Whether it is taken.
pub fn is_json(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    match Json::from_text(text) {
        Ok(json) => {
            assert_eq!(json.as_str(), text);
            assert_eq!(json, json.clone());
            let written = serde_json::to_string(&json).expect("it is JSON");
            assert_eq!(written, text.trim_matches([' ', '\n', '\r', '\t']), "it is written as it is");
            assert_eq!(serde_json::from_str::<Json>(&written).expect("and is read"), json);
            // Numbers beyond those of f64 are in `jsonb`, and not in `Value`.
            match serde_json::from_str::<Value>(text) {
                Ok(_) => {}
                Err(error) => assert!(error.to_string().contains("number out of range"), "{error}: {text}"),
            }
            true
        }
        Err(error) => {
            bounded(&error);
            false
        }
    }
}

/// The columns that the store reads itself.
pub fn column(data: &[u8]) {
    __column(data);
}

/// The rows of a server's answers.
pub fn row(data: &[u8]) {
    let _ = is_row(data);
}

/// Whether it is a row that can be read.
pub fn is_row(data: &[u8]) -> bool {
    __row(data)
}

fn round_trip<T: FromStr<Err = Error> + Display + PartialEq + std::fmt::Debug>(text: &str) -> Option<T> {
    match text.parse::<T>() {
        Ok(value) => {
            let again: T = value.to_string().parse().expect("what was written is read");
            assert_eq!(again, value);
            Some(value)
        }
        Err(error) => {
            bounded(&error);
            None
        }
    }
}

fn bounded(error: &Error) {
    let report = error.report();
    assert!(report.len() <= LONGEST_ERROR, "an error of {} bytes: {:.200}…", report.len(), report);
}
