//! What kinds of errors there are.

use std::fmt;

/// The kinds of [`Error`](crate::Error).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The application's own error, passed through: a read model, an upcaster or a source of nodes that is yours has failed. See
    /// [`Error::application`](crate::Error::application).
    Application,
    /// The store has been [closed](crate::PostgresEventStore::close). Nothing was sent.
    Closed,
    /// A setting, a URL or the environment is wrong; the call cannot succeed until a person changes it.
    Configuration,
    /// An append's condition does not hold any more: an event that matches it has been appended since
    /// ([`Error::conflict`](crate::Error::conflict)); or its stream has another version than expected ([`Error::version_mismatch`](crate::Error::version_mismatch)).
    /// Nothing was written. Read again and decide again.
    Conflict,
    /// The server answered with an error that has no kind of its own; see [`Error::sqlstate`](crate::Error::sqlstate).
    Database,
    /// What was to be saved is another one's to save by now: a consumer's partitions have been taken over, or it was reset.
    /// Nothing was saved. Go on from the checkpoint that is there.
    Fenced,
    /// What was read cannot be decoded as what the program wants: another program has written it, or an older one, or it is not
    /// what it was taken for. Whoever sent the request is not the reason.
    InvalidData,
    /// The value handed in cannot be stored or searched for. Nothing was sent, or nothing was written.
    InvalidInput,
    /// The log does not hold the event that a condition, an expected version, a position or a [`Token`](crate::Token) refers to, or the
    /// primary not the place: it was restored, or lost in a failover. What was read before is not the history of this log.
    LogDiverged,
    /// The answer to a write was lost: it is whole or not there at all, and only the log knows which.
    OutcomeUnknown,
    /// So many appends, or calls that need a [connection](crate::RouterBuilder::waiting_calls), wait already that another one would
    /// only wait for its limit, or so many commands or projections are under way. Nothing was sent. Slow down, and try again.
    Overloaded,
    /// A write was asked of a read-only connection.
    ReadOnly,
    /// No replica can serve the read, and the primary has [taken over](crate::RouterBuilder::fallback) as many as it may.
    /// The message names each node's reason.
    ReplicasUnavailable,
    /// The tables are missing, too old, or not ours.
    Schema,
    /// Two nodes take writes, and neither timeline is the newer one: whichever served, writes would be lost. Nothing was
    /// sent. The message names both; stop one of them.
    SplitBrain,
    /// A limit on time ran out. This call has written nothing. (If it repeats one whose outcome is unknown, that one
    /// may still be on its way.)
    Timeout,
    /// No node that qualifies can be reached.
    Unavailable,
    /// A [`Token`](crate::Token) asks for a place of a timeline that a failover has ended, and nobody can tell whether it is
    /// in the present history; or it is of another cluster. Drop the token, and tell the user if what it stands for matters.
    Unproven,
}

impl ErrorKind {
    /// Its name for programs, in small letters; [`Display`](fmt::Display) shows it, too.
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
            Self::Fenced => "fenced",
            Self::InvalidData => "invalid_data",
            Self::InvalidInput => "invalid_input",
            Self::LogDiverged => "log_diverged",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::Overloaded => "overloaded",
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
