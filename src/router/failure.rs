//! What the driver's errors mean.

use tokio_postgres::{Error as DriverError, error::SqlState};

use super::{Deadline, Role};
use crate::error::{Error, ErrorKind};

/// What a call would have done to the data if it had gone through: it decides what an interruption means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Nothing, so an interrupted call has simply failed.
    Read,
    /// Something, so an interrupted call may have happened.
    Write,
}

/// A connection could not be opened.
pub(super) fn on_connect(error: DriverError) -> Error {
    let Some(db) = error.as_db_error() else {
        // Without an answer from the server it is the network, unless the driver itself refuses the settings.
        let network = std::error::Error::source(&error).is_some_and(|source| source.is::<std::io::Error>());
        let kind = if network || error.is_closed() { ErrorKind::Unavailable } else { ErrorKind::Configuration };
        return Error::new(kind, "cannot connect").with_source(error);
    };
    let kind = match db.code() {
        &SqlState::INVALID_PASSWORD
        | &SqlState::INVALID_AUTHORIZATION_SPECIFICATION
        | &SqlState::INVALID_CATALOG_NAME
        | &SqlState::INSUFFICIENT_PRIVILEGE => ErrorKind::Configuration,
        _ => ErrorKind::Unavailable,
    };
    Error::new(kind, format!("the server refused the connection: {}", db.message())).with_source(error)
}

/// A node does not play the role that the settings give it.
pub(super) fn wrong_role(expected: Role) -> Error {
    Error::configuration(match expected {
        Role::Primary => {
            "configured as the primary, but it is in recovery: it is a replica; give the URL of the writable node"
        }
        Role::Replica => {
            "configured as a replica, but it is not in recovery: it is a primary; \
             give the URL of a streaming replica"
        }
    })
}

/// A statement failed, or its answer was lost.
pub(crate) fn on_call(error: DriverError, effect: Effect) -> Error {
    let Some(db) = error.as_db_error() else {
        if error.is_closed() || std::error::Error::source(&error).is_some_and(|s| s.is::<std::io::Error>()) {
            return interrupted(effect, "the connection was lost").with_source(error);
        }
        return Error::new(ErrorKind::Database, "the driver refused the call").with_source(error);
    };
    let message = format!("{} (SQLSTATE {})", db.message(), db.code().code());
    match db.code() {
        // The server is going away. It says so instead of an answer, perhaps after it has committed.
        &SqlState::ADMIN_SHUTDOWN | &SqlState::CRASH_SHUTDOWN | &SqlState::CANNOT_CONNECT_NOW => {
            interrupted(effect, message).with_source(error)
        }
        &SqlState::READ_ONLY_SQL_TRANSACTION => Error::new(
            ErrorKind::ReadOnly,
            format!("{message}: this connection only reads; ask for a strong one to write"),
        )
        .with_source(error),
        &SqlState::LOCK_NOT_AVAILABLE | &SqlState::QUERY_CANCELED => {
            Error::new(ErrorKind::Timeout, message).with_source(error)
        }
        _ => Error::new(ErrorKind::Database, message).with_source(error),
    }
}

/// The call's limit ran out while its answer was on the way.
pub(crate) fn on_deadline(deadline: Deadline, effect: Effect) -> Error {
    let message = format!("no answer within the limit of {:?}", deadline.limit());
    match effect {
        Effect::Read => Error::new(ErrorKind::Timeout, message),
        Effect::Write => Error::new(ErrorKind::OutcomeUnknown, message),
    }
}

fn interrupted(effect: Effect, message: impl Into<String>) -> Error {
    let kind = match effect {
        Effect::Read => ErrorKind::Unavailable,
        Effect::Write => ErrorKind::OutcomeUnknown,
    };
    Error::new(kind, message)
}
