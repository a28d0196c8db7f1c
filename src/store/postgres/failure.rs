//! What the server's errors mean for the store.

use std::time::Duration;

use super::LogName;
use crate::{
    error::{Error, ErrorKind},
    router::Deadline,
};

/// Whether the server rejects the content of an append, so others of its batch may be written without it. (An error
/// raised by a trigger counts as well. Errors about the server's resources, its state or the network concern all.)
pub(super) fn is_about_data(error: &Error) -> bool {
    let is_class = |state| matches!(class(state), "22" | "23" | "2F" | "38" | "39" | "42" | "44" | "54" | "P0" | "XX");
    error.kind() == ErrorKind::Database && error.sqlstate().is_some_and(is_class)
}

/// The first two of the five characters of a state. Something that claims to be a server may send others.
fn class(state: &str) -> &str {
    state.get(..2).unwrap_or_default()
}

/// For an append that waited for a lock until there was just enough time for the answer: says which limit that was.
pub(super) fn on_append(error: Error, deadline: Deadline, name: &LogName) -> Error {
    if error.sqlstate() != Some("55P03") {
        return classify(error, name);
    }
    let message = format!(
        "the lock of the log {name}, or one that its holder has to wait for, was not free in time: {:?} of the limit of \
         {:?} have passed, and the rest was kept for the answer; nothing was written",
        deadline.elapsed(),
        deadline.limit()
    );
    error.reworded(ErrorKind::Timeout, message)
}

/// For a read that waited in vain for the append in flight: whether an event is lost, or not there yet, is unknown.
pub(super) fn on_wait_for_appends(error: Error, limit: Duration, name: &LogName) -> Error {
    if error.sqlstate() != Some("55P03") {
        return error;
    }
    let message = format!(
        "the primary does not show an event that the read must contain, and an append to the log {name} that may be it was \
         not through within {limit:?}: try again, or allow for more (RouterBuilder::replay_wait)"
    );
    error.reworded(ErrorKind::Timeout, message)
}

/// Gives an error of the router the kind that it has for the log.
pub(super) fn classify(error: Error, name: &LogName) -> Error {
    if error.kind() != ErrorKind::Database {
        return error;
    }
    let Some(state) = error.sqlstate().map(str::to_owned) else { return error };
    match state.as_str() {
        // An undefined table, function or schema.
        "42P01" | "42703" | "42883" | "3F000" => error.reworded(
            ErrorKind::Schema,
            format!(
                "the log {name} is not there, or too old; run its migrations: `PostgresEventStore::migrate` with the \
                 feature `migrations`, or the files in `migrations/` with any tool"
            ),
        ),
        // What the client's checks admit but the server cannot hold, and what a constraint of the user rejects. The
        // log's own primary key and its streams' versions are not about data: somebody writes without the log's lock.
        "23505"
            if error.constraint().is_some_and(|constraint| {
                [format!("{}_pkey", name.log()), format!("{}_stream", name.log())].iter().any(|own| own == constraint)
            }) =>
        {
            error.reworded(
                ErrorKind::Database,
                format!("somebody inserts into {name} without its append procedure; nothing was written"),
            )
        }
        state if matches!(class(state), "22" | "23" | "54") => {
            let message = format!("the server refuses the data: {}", error.message());
            error.reworded(ErrorKind::InvalidInput, message)
        }
        "25000" => error.reworded(
            ErrorKind::Configuration,
            format!(
                "appends to {name} need READ COMMITTED, and this role or database has another default; ALTER ROLE or \
                 ALTER DATABASE … SET default_transaction_isolation TO 'read committed'"
            ),
        ),
        "42501" => {
            let message = format!(
                "this role may not: {}; a reader of {name} needs USAGE on its schema and SELECT on its table, who appends \
                 also INSERT and EXECUTE on its append procedure, and who migrates CREATE on the schema; for the snapshots in \
                 {log}_snapshots a reader needs SELECT, who saves also INSERT and UPDATE, who deletes DELETE; a consumer \
                 needs all four on {log}_consumers, {log}_members, {log}_progress and {log}_skipped (`LogName::grants` has \
                 it all)",
                error.message(),
                log = name.log()
            );
            error.reworded(ErrorKind::Configuration, message)
        }
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_what_a_server_says_they_are() {
        for (state, two) in [("23505", "23"), ("2", ""), ("", ""), ("€", ""), ("2€", "")] {
            assert_eq!(class(state), two);
        }
    }
}
