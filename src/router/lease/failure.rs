//! What the driver's errors mean.

use tokio_postgres::{
    Error as DriverError,
    error::{DbError, Severity, SqlState},
};

use crate::{
    error::{Error, ErrorKind},
    router::{Deadline, Role, core::ConnectFailure},
};

/// What a call does to the data if it succeeds: this decides what an interruption means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Nothing, so an interrupted call has simply failed.
    Read,
    /// Something, so an interrupted call may have happened, wholly or in part.
    Write,
    /// Something, by one statement that waits for its lock before it does anything. The server is never asked to cancel
    /// it: if its commit is waiting for a standby, that would make the commit visible unreplicated.
    Append,
}

impl Effect {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Append => "append",
        }
    }
}

/// A connection could not be opened, with the reason.
#[derive(Debug)]
pub(in crate::router) struct NotConnected {
    pub(in crate::router) error: Error,
    pub(in crate::router) why: ConnectFailure,
}

impl NotConnected {
    pub(in crate::router) fn new(why: ConnectFailure, message: impl Into<String>) -> Self {
        Self { error: Error::new(ErrorKind::Unavailable, message), why }
    }
}

impl From<DriverError> for NotConnected {
    fn from(error: DriverError) -> Self {
        let source = std::error::Error::source(&error).and_then(|source| source.downcast_ref::<std::io::Error>());
        let why = match source.map(std::io::Error::kind) {
            _ if error.as_db_error().is_some() => ConnectFailure::Refused,
            Some(std::io::ErrorKind::ConnectionRefused) => ConnectFailure::NobodyListens,
            _ if is_lost(&error) => ConnectFailure::NoAnswer,
            // By the driver, because of the settings or something the server said.
            _ => ConnectFailure::Refused,
        };
        Self { error: on_connect(error), why }
    }
}

fn on_connect(error: DriverError) -> Error {
    let Some(db) = error.as_db_error() else {
        #[cfg(feature = "rustls")]
        if let Some(refusal) = crate::router::config::tls::refusal(&error) {
            return Error::configuration(format!("cannot connect: {refusal}")).with_source(error);
        }
        // Without an answer from the server the cause is the network, unless the driver itself rejects the settings.
        let kind = if is_lost(&error) { ErrorKind::Unavailable } else { ErrorKind::Configuration };
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

/// A node does not have the role that the settings give it.
pub(in crate::router) fn wrong_role(expected: Role) -> Error {
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
pub(in crate::router) fn on_call(error: DriverError, effect: Effect, role: Role) -> Error {
    let Some(db) = error.as_db_error() else {
        if is_lost(&error) {
            return interrupted(effect, "the connection was lost").with_source(error);
        }
        if is_out_of_step(&error) {
            let message = "the server answered something else than a result; COPY does not go through this call";
            return interrupted(effect, message).with_source(error);
        }
        // Nothing was sent yet: a parameter differs in type or number from the statement's.
        return Error::invalid_input("the statement does not take these parameters").with_source(error);
    };
    let message = format!("{} (SQLSTATE {})", db.message(), db.code().code());
    // The server ends the session. It says so in place of an answer, perhaps after it has committed.
    if ends_session(&error) {
        return interrupted(effect, message).with_source(error);
    }
    let kind = match (db.code(), effect) {
        (&SqlState::READ_ONLY_SQL_TRANSACTION, _) => {
            let message = match role {
                Role::Primary => format!(
                    "{message}: ask for a strong connection to write; if it is one, the primary's role, database or transaction \
                     is set to only read"
                ),
                Role::Replica => format!("{message}: a replica only reads; ask for a strong connection to write"),
            };
            return Error::new(ErrorKind::ReadOnly, message).with_source(error);
        }
        (&SqlState::QUERY_CANCELED, Effect::Append | Effect::Write)
        | (&SqlState::LOCK_NOT_AVAILABLE, Effect::Write) => ErrorKind::OutcomeUnknown,
        (&SqlState::QUERY_CANCELED | &SqlState::LOCK_NOT_AVAILABLE, _) => ErrorKind::Timeout,
        _ => ErrorKind::Database,
    };
    let failed = Error::new(kind, message).with_source(error);
    match kind {
        // One of the server's time limits.
        ErrorKind::OutcomeUnknown => failed.out_of_time(),
        _ => failed,
    }
}

/// The call timed out while its answer was awaited.
pub(in crate::router) fn on_deadline(deadline: Deadline, effect: Effect) -> Error {
    let message = format!("no answer within the limit of {:?}", deadline.limit());
    match effect {
        Effect::Read => Error::new(ErrorKind::Timeout, message),
        Effect::Append | Effect::Write => Error::new(ErrorKind::OutcomeUnknown, message).out_of_time(),
    }
}

/// The commit is there, but what it should have waited for is not.
pub(in crate::router) fn unreplicated() -> Error {
    let message = "committed on the primary, but the wait for its synchronous standby was cancelled";
    Error::new(ErrorKind::OutcomeUnknown, message)
}

/// The call was made in a session that another user had left in an unknown state.
pub(in crate::router) fn not_reset(effect: Effect) -> Error {
    interrupted(effect, "what the last user of this connection had left in its session could not be undone")
}

/// Whether a read that failed on a replica in this way may succeed on another node: the replica is gone, its recovery
/// would not wait for the read, or it has not yet replayed what was just created on the primary.
pub(crate) fn may_go_elsewhere(error: &Error) -> bool {
    const CONFLICT_WITH_RECOVERY: &str = "40001";
    // A schema, a table, a column, a function, a privilege.
    const NOT_THERE: [&str; 4] = ["3F000", "42P01", "42703", "42883"];
    let of_this_node = |state| state == CONFLICT_WITH_RECOVERY || NOT_THERE.contains(&state);
    error.kind() == ErrorKind::Unavailable || error.sqlstate().is_some_and(of_this_node)
}

/// Whether a replica has cancelled a query because it conflicted with the replay. (On a primary this SQLSTATE means
/// something else.)
pub(in crate::router) fn is_recovery_conflict(error: &DriverError) -> bool {
    error.code() == Some(&SqlState::T_R_SERIALIZATION_FAILURE)
}

/// Whether a primary has refused this because of another transaction, and would do so again: the transaction must be
/// restarted.
pub(in crate::router) fn is_conflict(error: &DriverError, role: Role) -> bool {
    let states = [&SqlState::T_R_SERIALIZATION_FAILURE, &SqlState::T_R_DEADLOCK_DETECTED];
    role == Role::Primary && error.code().is_some_and(|code| states.contains(&code))
}

/// Whether the server ends the session with this error. It then closes the connection, which may not have been noticed
/// yet.
pub(in crate::router) fn ends_session(error: &DriverError) -> bool {
    let severity = error.as_db_error().and_then(DbError::parsed_severity);
    matches!(severity, Some(Severity::Fatal | Severity::Panic))
}

/// Whether requests and answers on this connection no longer match.
pub(in crate::router) fn is_out_of_step(error: &DriverError) -> bool {
    // The driver has no other way to tell: its kinds are private.
    error.to_string().starts_with("unexpected message")
}

fn is_lost(error: &DriverError) -> bool {
    error.is_closed() || std::error::Error::source(error).is_some_and(|source| source.is::<std::io::Error>())
}

fn interrupted(effect: Effect, message: impl Into<String>) -> Error {
    let kind = match effect {
        Effect::Read => ErrorKind::Unavailable,
        Effect::Append | Effect::Write => ErrorKind::OutcomeUnknown,
    };
    Error::new(kind, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_ran_out_of_time_is_known_as_such_whatever_may_have_happened() {
        let deadline = Deadline::after(std::time::Duration::ZERO);
        for effect in [Effect::Write, Effect::Append] {
            let error = on_deadline(deadline, effect);
            assert_eq!(error.kind(), ErrorKind::OutcomeUnknown);
            assert!(error.is_out_of_time());
        }
        assert_eq!(on_deadline(deadline, Effect::Read).kind(), ErrorKind::Timeout);
    }
}
