//! Why a store refuses an append, with the same wording in every store.

use super::condition::After;
use crate::{
    Mark,
    error::{Conflict, Error, ErrorKind, VersionMismatch},
    json::quoted,
};

/// An event that matches the condition has been appended.
pub(super) fn conflict(position: u64, event_type: impl Into<String>) -> Error {
    let conflict = Conflict { position, event_type: event_type.into() };
    let message = format!("the condition does not hold any more: {conflict} matches it");
    Error::new(ErrorKind::Conflict, message).with_conflict(conflict)
}

/// The stream has another version.
pub(super) fn version(stream: &str, expected: u64, actual: u64) -> Error {
    let name = quoted(stream);
    let message = match (expected, actual) {
        (0, _) => format!("the stream {name} is there already, at version {actual}"),
        (_, 0) => format!("there is no stream {name}, which was expected at version {expected}"),
        _ => format!("the stream {name} is at version {actual}, and not at {expected} as expected"),
    };
    let mismatch = VersionMismatch { stream: stream.into(), expected, actual };
    Error::new(ErrorKind::Conflict, message).with_version_mismatch(mismatch)
}

/// The stream has the version, but another event has it.
pub(super) fn replaced(stream: &str, version: u64) -> Error {
    let message = format!(
        "the stream {} is at version {version}, as expected, but the event at that version is not the one that was read: the log was restored, \
         or events were lost in a failover; read again",
        quoted(stream)
    );
    Error::new(ErrorKind::LogDiverged, message)
}

/// The log, which ends at `head`, does not hold what the condition is based on.
pub(super) fn diverged(after: After, head: u64) -> Error {
    let expected = match after {
        After::Mark(mark) => format!("the event {mark}"),
        After::Beginning | After::Position(_) => format!("position {}", after.position()),
    };
    let message = format!(
        "the log, which ends at position {head}, does not hold {expected} that the condition is based on: it was \
         restored, or events were lost in a failover; read again"
    );
    Error::new(ErrorKind::LogDiverged, message)
}

/// The log does not hold an event that a token asks for.
pub(super) fn lost(mark: Mark) -> Error {
    let message = format!(
        "the log does not hold the event {mark} that the read must contain: it was restored, or events were lost in a \
         failover; drop the token, or begin the session anew, and read again"
    );
    Error::new(ErrorKind::LogDiverged, message)
}

/// Some of the ids are taken, and it is not a repeat.
pub(super) fn reused(position: u64) -> Error {
    Error::invalid_input(format!(
        "the log holds an event with one of these ids, at position {position}, but not these events: ids are never \
         used again, and an append is repeated whole and unchanged"
    ))
    .with_reused_at(position)
}
