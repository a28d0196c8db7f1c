//! Whose fault a failure is: an event's, so that its model's policy decides, or the database's, so that the batch is
//! tried again.

use tokio_postgres::error::ErrorPosition;

use crate::{ConsumerTransaction, Error, ErrorKind, Mark, Result, router::FAILED_TRANSACTION};

/// Sent where a statement has failed and its model went on: refused, unless the model has rolled back to a savepoint.
const IS_ALIVE: &str = "SELECT 1";

/// Why a batch was not committed.
pub(super) enum Failure {
    /// It was not the events' fault.
    Other(Error),
    Event(Mark, Error),
}

impl Failure {
    pub(super) fn error(&self) -> &Error {
        let (Self::Other(error) | Self::Event(_, error)) = self;
        error
    }

    /// Applying the event has failed with this error.
    pub(super) fn of_apply(mark: Mark, error: Error) -> Self {
        match is_of_the_database(&error) {
            true => Self::Other(error),
            false => Self::Event(mark, error),
        }
    }
}

/// Whether the transaction can go on, although its model reports no error. A statement whose error the model has kept
/// to itself may have failed it: the next statement, perhaps of another event, is then refused for no fault of its own.
pub(super) async fn settled(transaction: &ConsumerTransaction) -> Result<()> {
    let Some(failure) = transaction.failure() else { return Ok(()) };
    match transaction.batch_execute(IS_ALIVE).await {
        Err(error) if error.sqlstate() == Some(FAILED_TRANSACTION) => Err(failure),
        outcome => outcome,
    }
}

/// The error with which the transaction has failed, if this one says only that it has.
pub(super) fn cause(error: Error, transaction: &ConsumerTransaction) -> Error {
    match error.sqlstate() {
        Some(FAILED_TRANSACTION) => transaction.failure().unwrap_or(error),
        _ => error,
    }
}

/// Whether the server has refused a commit or a check because of what an event has written: a deferred constraint, for
/// example. Class 25 says that the transaction had ended or failed before, for whatever reason.
pub(super) fn may_be_of_an_event(error: &Error) -> bool {
    let is_refused = error.sqlstate().is_some_and(|state| !state.starts_with("25"));
    is_refused && !error.is_outcome_unknown() && !is_of_the_database(error)
}

/// Whether the database is the cause, and not the event: it was lost, the transaction conflicted with another one, or
/// any event would have failed in the same way, for lack of a table, a privilege, space, or a store that is still open.
fn is_of_the_database(error: &Error) -> bool {
    let is_of_no_event = matches!(
        error.kind(),
        ErrorKind::Closed | ErrorKind::Configuration | ErrorKind::ReadOnly | ErrorKind::Schema | ErrorKind::SplitBrain
    );
    if is_of_no_event || error.may_pass() {
        return true;
    }
    let Some(state) = error.sqlstate() else { return false };
    let is_missing =
        IS_MISSING.contains(&state) && (matches!(state, "42501" | "42P10") || points_into_a_statement(error));
    let is_of_itself = state.get(..2).is_some_and(|class| OF_ITSELF.contains(&class)) || is_missing;
    let is_of_now = match state {
        // An outdated statement: its table was altered after it was prepared, or it was deallocated.
        "0A000" => error.routine() == Some("RevalidateCachedQuery"),
        "26000" => true,
        // A sequence has reached its end; a partition is missing.
        "2200H" => true,
        "23514" => error.routine() == Some("ExecFindPartition"),
        // A foreign server that cannot be reached; damaged data or indexes.
        "HV00N" | "XX001" | "XX002" => true,
        "XX000" => is_of_a_changing_schema(error),
        // The statement that has failed is an earlier one, and unknown.
        FAILED_TRANSACTION => true,
        _ => false,
    };
    is_of_itself || is_of_now || is_wrong_itself(error)
}

/// Classes of SQLSTATEs: connections to other servers, invalid authorization, invalid catalog and schema name, insufficient
/// resources, object not in prerequisite state, operator intervention, system error, snapshot too old, configuration
/// file error.
const OF_ITSELF: [&str; 10] = ["08", "28", "3D", "3F", "53", "55", "57", "58", "72", "F0"];

/// What the class 42 has for what is missing: a privilege, a column, another object, a function, a table, a unique index for
/// ON CONFLICT. The rest of the class is also for values: a malformed `tsquery`, for example.
const IS_MISSING: [&str; 6] = ["42501", "42703", "42704", "42883", "42P01", "42P10"];

/// Whether the statement is wrong whatever its parameters are: the server points into it only while it analyses it.
fn is_wrong_itself(error: &Error) -> bool {
    matches!(position(error), Some(ErrorPosition::Original(_)))
}

/// The statement, or one in a function: the names in it are missing. Those in an event's values are in no statement.
fn points_into_a_statement(error: &Error) -> bool {
    position(error).is_some()
}

fn position(error: &Error) -> Option<&ErrorPosition> {
    error.driver_error()?.as_db_error()?.position()
}

/// Whether another transaction has changed an object at the wrong time. Extensions use the same SQLSTATE for values that
/// they cannot read. The server does not translate these messages.
fn is_of_a_changing_schema(error: &Error) -> bool {
    const CHANGING: [&str; 3] = ["cache lookup failed", "could not open relation with OID", "tuple concurrently"];
    let said = error.driver_error().and_then(tokio_postgres::Error::as_db_error);
    said.is_some_and(|said| CHANGING.iter().any(|changing| said.message().starts_with(changing)))
}
