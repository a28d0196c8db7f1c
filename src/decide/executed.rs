//! The outcome of a command.

use std::{error::Error as StdError, fmt, time::Duration};

use crate::{Appended, Error, ErrorKind};

/// The result of a command that was executed, or that left nothing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Executed {
    /// What was decided.
    pub outcome: CommandOutcome,
    /// What was written, including the command's [record](crate::CommandRecord). `None` if there was nothing to write.
    pub appended: Option<Appended>,
    /// Whether this is the result of an earlier execution with the same [command id](crate::Execute::recorded).
    pub is_repeated: bool,
    /// The attempts that it took.
    pub attempts: Attempts,
}

/// What was decided about a command that was not refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CommandOutcome {
    /// Events were appended.
    Decided,
    /// What was asked for was already the case.
    Nothing,
}

/// How many attempts an execution took, and how long it waited in between.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attempts {
    /// How often the model was read and a decision was made.
    pub decisions: u32,
    /// How often an event was appended in between, and the decision was made again.
    pub conflicts: u32,
    /// How often the same append was repeated because no answer came.
    pub repeats: u32,
    /// How often a decision that writes nothing was made on a replica's past state, and made again on the primary.
    pub confirmations: u32,
    /// The total time spent waiting between attempts.
    pub delay: Duration,
    /// The error kind of the last failed attempt.
    pub last_error: Option<ErrorKind>,
}

/// The reason why a command was not executed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum CommandError<R> {
    /// The decision was to refuse the command.
    #[non_exhaustive]
    Refused {
        /// The reason for the refusal.
        reason: R,
        /// The events that record the refusal, if any, and the record of the command.
        appended: Option<Appended>,
        /// Whether this is the result of an earlier execution with the same command id.
        is_repeated: bool,
        /// The attempts that it took.
        attempts: Attempts,
    },
    /// No decision was written: there were too many conflicts, or something else failed.
    #[non_exhaustive]
    GaveUp {
        /// The last error. A [conflict](Error::is_conflict) means that another append was faster each time;
        /// [`OutcomeUnknown`](ErrorKind::OutcomeUnknown) means that the decision may have been written.
        error: Error,
        /// The attempts that it took.
        attempts: Attempts,
    },
}

impl<R> CommandError<R> {
    /// Returns the reason for the refusal, if it was refused.
    #[must_use]
    pub fn refusal(&self) -> Option<&R> {
        match self {
            Self::Refused { reason, .. } => Some(reason),
            Self::GaveUp { .. } => None,
        }
    }

    /// Returns the last error, if the execution gave up.
    #[must_use]
    pub fn error(&self) -> Option<&Error> {
        match self {
            Self::Refused { .. } => None,
            Self::GaveUp { error, .. } => Some(error),
        }
    }

    /// Returns the attempts that it took.
    #[must_use]
    pub fn attempts(&self) -> &Attempts {
        let (Self::Refused { attempts, .. } | Self::GaveUp { attempts, .. }) = self;
        attempts
    }
}

impl<R: fmt::Display> fmt::Display for CommandError<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { reason, .. } => write!(f, "refused: {reason}"),
            // Its source says why.
            Self::GaveUp { .. } => f.write_str("the command was given up"),
        }
    }
}

impl<R: fmt::Display + fmt::Debug> StdError for CommandError<R> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Refused { .. } => None,
            Self::GaveUp { error, .. } => Some(error),
        }
    }
}
