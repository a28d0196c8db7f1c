//! Why a store refuses an append, in the same words in every store.

use super::condition::After;
use crate::error::{Conflict, Error, ErrorKind};

/// An event that matches the condition has come.
pub(super) fn conflict(position: u64, event_type: impl Into<String>) -> Error {
    let conflict = Conflict { position, event_type: event_type.into() };
    let message = format!("the condition does not hold any more: {conflict} matches it");
    Error::new(ErrorKind::Conflict, message).with_conflict(conflict)
}

/// What the condition is based on is not in the log, which ends at `head`.
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

/// Some of the ids are taken, and it is no repeat.
pub(super) fn reused(position: u64) -> Error {
    Error::invalid_input(format!(
        "the log holds an event with one of these ids, at position {position}, but not these events: ids are never \
         used again, and an append is repeated whole and unchanged"
    ))
}
