//! What has become of a command.

use std::{error::Error as StdError, fmt, time::Duration};

use crate::{Appended, Error, ErrorKind};

/// A command that was carried out, or that left nothing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Executed {
    /// What was decided.
    pub outcome: CommandOutcome,
    /// What was written, the [record](crate::CommandRecord) of the command included. `None` when there was nothing to write.
    pub appended: Option<Appended>,
    /// Whether this is the result of an earlier execution with the same [command id](crate::Execute::recorded).
    pub is_repeated: bool,
    /// What it took.
    pub attempts: Attempts,
}

/// What was decided about a command that was not refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CommandOutcome {
    /// Events were appended.
    Decided,
    /// What was asked for was so already.
    Nothing,
}

/// What an execution took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attempts {
    /// How often the model was read and a decision was made.
    pub decisions: u32,
    /// How often an event came in between, and the decision was made anew.
    pub conflicts: u32,
    /// How often the same append was made again, because it was not answered.
    pub repeats: u32,
    /// How often a decision that writes nothing was made on a replica's past, and made anew on the primary.
    pub confirmations: u32,
    /// How long was waited in between, all together.
    pub delay: Duration,
    /// What the last try that failed has failed with.
    pub last_error: Option<ErrorKind>,
}

/// Why a command was not carried out.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum CommandError<R> {
    /// The decision was to refuse it.
    #[non_exhaustive]
    Refused {
        /// Why.
        reason: R,
        /// The events that tell of it, if there are any, and the record of the command.
        appended: Option<Appended>,
        /// Whether this is the result of an earlier execution with the same command id.
        is_repeated: bool,
        /// What it took.
        attempts: Attempts,
    },
    /// No decision was written: there were too many conflicts, or something else went wrong.
    #[non_exhaustive]
    GaveUp {
        /// The last error. A [conflict](Error::is_conflict) says that others were faster each time;
        /// [`OutcomeUnknown`](ErrorKind::OutcomeUnknown) that the decision may have been written.
        error: Error,
        /// What it took.
        attempts: Attempts,
    },
}

impl<R> CommandError<R> {
    /// Why it was refused, if it was.
    #[must_use]
    pub fn refusal(&self) -> Option<&R> {
        match self {
            Self::Refused { reason, .. } => Some(reason),
            Self::GaveUp { .. } => None,
        }
    }

    /// The last error, if it was given up.
    #[must_use]
    pub fn error(&self) -> Option<&Error> {
        match self {
            Self::Refused { .. } => None,
            Self::GaveUp { error, .. } => Some(error),
        }
    }

    /// What it took.
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
            Self::GaveUp { error, .. } => error.fmt(f),
        }
    }
}

impl<R: fmt::Display + fmt::Debug> StdError for CommandError<R> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Refused { .. } => None,
            // Its own text is this one's.
            Self::GaveUp { error, .. } => error.source(),
        }
    }
}
