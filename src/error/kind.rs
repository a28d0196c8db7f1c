//! The kinds of errors.

use std::fmt;

/// The kinds of [`Error`](crate::Error).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The application's own error, passed through: one of your read models, upcasters or node sources failed. See
    /// [`Error::application`](crate::Error::application).
    Application,
    /// The store has been [closed](crate::PostgresEventStore::close). Nothing was sent.
    Closed,
    /// A setting, a URL or the environment is wrong. The call cannot succeed until a person changes it.
    Configuration,
    /// An append's condition no longer holds: a matching event has been appended since
    /// ([`Error::conflict`](crate::Error::conflict)), or its stream has another version than expected
    /// ([`Error::version_mismatch`](crate::Error::version_mismatch)). Nothing was written. Read again and decide again.
    Conflict,
    /// The server answered with an error that has no kind of its own; see [`Error::sqlstate`](crate::Error::sqlstate).
    Database,
    /// Data that was read cannot be decoded as the program expects: another program or an older version wrote it, or it
    /// is something other than was assumed. The sender of the request is not at fault.
    InvalidData,
    /// The given value cannot be stored or searched for. Nothing was sent, or nothing was written.
    InvalidInput,
    /// The log does not contain the event that a condition, an expected version, a position or a
    /// [`Token`](crate::Token) refers to, or the primary does not contain the place: the log was restored, or lost it
    /// in a failover. What was read before is not the history of this log.
    LogDiverged,
    /// The answer to a write was lost: the write was applied completely or not at all, and only the log can tell which.
    OutcomeUnknown,
    /// Too much work is waiting or in flight. So many appends, or calls that need a
    /// [connection](crate::RouterBuilder::waiting_calls), wait already that another one would only time out; or too
    /// many commands or projections are in flight. Nothing was sent. Slow down and retry.
    Overloaded,
    /// The caller no longer owns what it tried to save: a consumer's partitions have been taken over, or it was reset.
    /// Nothing was saved. Continue from the stored checkpoint.
    OwnershipLost,
    /// A write was attempted on a read-only connection.
    ReadOnly,
    /// No replica can serve the read, and the primary has [taken over](crate::RouterBuilder::fallback) as many reads as
    /// it may. The message names each node's reason.
    ReplicasUnavailable,
    /// The tables are missing, too old, or not Mainstem's.
    Schema,
    /// Two nodes accept writes, and neither timeline is newer: whichever served, writes would be lost. Nothing was
    /// sent. The message names both; stop one of them.
    SplitBrain,
    /// A time limit ran out. This call has written nothing. (If it repeats a call whose outcome is unknown, that call
    /// may still be in flight.)
    Timeout,
    /// No qualified node can be reached.
    Unavailable,
    /// A [`Token`](crate::Token) asks for a place on a timeline that a failover has ended, and nobody can tell whether
    /// it is in the present history; or the token is of another cluster. Drop the token, and inform the user if what it
    /// stands for matters.
    Unproven,
}

impl ErrorKind {
    /// Returns the kind's name for programs, in lower case; [`Display`](fmt::Display) shows the same.
    ///
    /// ```
    /// use mainstem::ErrorKind;
    ///
    /// assert_eq!(ErrorKind::OutcomeUnknown.as_str(), "outcome_unknown");
    /// assert_eq!(format!("{:>10}", ErrorKind::Timeout), "   timeout");
    /// ```
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Application => "application",
            Self::Closed => "closed",
            Self::Configuration => "configuration",
            Self::Conflict => "conflict",
            Self::Database => "database",
            Self::InvalidData => "invalid_data",
            Self::InvalidInput => "invalid_input",
            Self::LogDiverged => "log_diverged",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::Overloaded => "overloaded",
            Self::OwnershipLost => "ownership_lost",
            Self::ReadOnly => "read_only",
            Self::ReplicasUnavailable => "replicas_unavailable",
            Self::Schema => "schema",
            Self::SplitBrain => "split_brain",
            Self::Timeout => "timeout",
            Self::Unavailable => "unavailable",
            Self::Unproven => "unproven",
        }
    }
}

impl fmt::Display for ErrorKind {
    /// As [`as_str`](Self::as_str).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
