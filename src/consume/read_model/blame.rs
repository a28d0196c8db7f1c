//! Whose fault a failure is: an event's, so that its model's policy decides, or the database's, so that the batch is
//! tried again.

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
/// any event would have failed in the same way, for lack of a table, a privilege or space.
fn is_of_the_database(error: &Error) -> bool {
    /// The classes of SQLSTATEs: invalid authorization, invalid catalog and schema name, syntax error or access rule
    /// violation, insufficient resources, object not in prerequisite state, operator intervention, system error,
    /// configuration file error, internal error.
    const OF_ITSELF: [&str; 10] = ["28", "3D", "3F", "42", "53", "55", "57", "58", "F0", "XX"];
    let state = error.sqlstate().unwrap_or_default();
    let is_of_itself = state.get(..2).is_some_and(|class| OF_ITSELF.contains(&class));
    // An outdated statement: its table was altered after it was prepared, or it was deallocated.
    let is_outdated = match state {
        "0A000" => error.routine() == Some("RevalidateCachedQuery"),
        "26000" => true,
        _ => false,
    };
    // The statement that has failed is an earlier one, and unknown.
    let has_failed_before = state == FAILED_TRANSACTION;
    error.may_pass() || has_failed_before || error.kind() == ErrorKind::ReadOnly || is_outdated || is_of_itself
}
