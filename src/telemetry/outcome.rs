//! How something ended: one list for calls, routing decisions, operations, commands and batches.

use crate::error::{Error, ErrorKind};

/// The outcome; see [`OUTCOME`](super::OUTCOME).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Succeeded,
    Nothing,
    Refused,
    Conflicted,
    Failed,
    TimedOut,
    Cancelled,
}

impl Outcome {
    /// How many there are.
    #[cfg(feature = "metrics")]
    pub(crate) const COUNT: usize = Self::Cancelled as usize + 1;

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Nothing => "nothing",
            Self::Refused => "refused",
            Self::Conflicted => "conflicted",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether someone may have to look into it: for `otel.status_code`.
    pub(crate) fn is_error(self) -> bool {
        matches!(self, Self::Failed | Self::TimedOut)
    }
}

/// What an error says, if nothing else is more specific.
impl From<&Error> for Outcome {
    fn from(error: &Error) -> Self {
        match error.kind() {
            _ if error.is_out_of_time() => Self::TimedOut,
            ErrorKind::Conflict | ErrorKind::OwnershipLost => Self::Conflicted,
            ErrorKind::Closed
            | ErrorKind::InvalidInput
            | ErrorKind::Overloaded
            | ErrorKind::ReadOnly
            | ErrorKind::ReplicasUnavailable
            | ErrorKind::SplitBrain
            | ErrorKind::Unproven => Self::Refused,
            _ => Self::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_told_as_what_they_are() {
        let outcome = |error: Error| Outcome::from(&error).as_str();
        let of = |kind| Error::new(kind, "");
        for (kind, expected) in [
            (ErrorKind::Timeout, "timed_out"),
            (ErrorKind::Conflict, "conflicted"),
            (ErrorKind::OwnershipLost, "conflicted"),
            (ErrorKind::Overloaded, "refused"),
            (ErrorKind::OutcomeUnknown, "failed"),
            (ErrorKind::Unavailable, "failed"),
            (ErrorKind::LogDiverged, "failed"),
        ] {
            assert_eq!(outcome(of(kind)), expected, "{kind:?}");
        }
        // The outcome is unknown, but not the cause.
        assert_eq!(outcome(of(ErrorKind::OutcomeUnknown).out_of_time()), "timed_out");
        assert_eq!(outcome(of(ErrorKind::OutcomeUnknown).out_of_time().within("an import")), "timed_out");
    }
}
