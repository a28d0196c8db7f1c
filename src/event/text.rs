//! The rules for event types, tags and stream ids, the same everywhere.

use super::{NewEvent, StreamPlace};
use crate::json::quoted;

/// What is wrong with an event type.
pub(crate) fn check_type(event_type: &str) -> Result<(), String> {
    check("type", event_type, NewEvent::MAX_TYPE_LEN)
}

/// What is wrong with a tag.
pub(crate) fn check_tag(tag: &str) -> Result<(), String> {
    check("tag", tag, NewEvent::MAX_TAG_LEN)
}

/// What is wrong with the id of a stream.
pub(crate) fn check_stream(id: &str) -> Result<(), String> {
    check("stream id", id, StreamPlace::MAX_ID_LEN)
}

fn check(what: &str, text: &str, limit: usize) -> Result<(), String> {
    if text.is_empty() {
        Err(format!("a {what} is empty"))
    } else if text.contains('\0') {
        Err(format!("the {what} {} contains a NUL character, which PostgreSQL cannot store", quoted(text)))
    } else if text.len() > limit {
        Err(format!("the {what} {} is longer than the limit of {limit} bytes", quoted(text)))
    } else {
        Ok(())
    }
}
