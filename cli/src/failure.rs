//! Why a command failed, and its exit status.

use mainstem::{Error, ErrorKind};

pub(crate) const FAILED: u8 = 1;
pub(crate) const USAGE: u8 = 2;
pub(crate) const CONFLICT: u8 = 3;
pub(crate) const OUTCOME_UNKNOWN: u8 = 4;
/// The events were written, but the answer could not be printed to standard output.
pub(crate) const UNTOLD: u8 = 5;
pub(crate) const WARNINGS: u8 = 10;
pub(crate) const FAULTS: u8 = 20;
/// As a shell reports a process that Ctrl-C ended.
pub(crate) const INTERRUPTED: u8 = 130;
/// As a shell reports a process that SIGPIPE ended.
pub(crate) const BROKEN_PIPE: u8 = 141;

/// The end of `mainstem --help`.
pub(crate) const EXIT_STATUS: &str = "\
Exit status:
    0  success; doctor and verify found nothing, or only notes
    1  failure; standard error gives the reason
    2  the command line, an event or a file is invalid; nothing was written
    3  append: the condition does not hold, or the stream has another version; nothing was written
       (2 and 3 after earlier chunks of import or append --chunk: those stay written, and standard
       error says how many events they have)
    4  the answer to a write was lost; the message says how to find out whether it was written
    5  append: the events were written, but standard output failed; the message has the answer
   10  doctor found a warning: something to look at
   20  doctor or verify found a fault: something is broken
  130  Ctrl-C; standard error says what was done and what was not
  141  the reader of standard output has closed it";

pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) status: u8,
    /// Empty if there is nothing more to say.
    pub(crate) message: String,
    /// Whether the node may merely not be there.
    is_outage: bool,
}

impl Failure {
    pub(crate) fn new(status: u8, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), is_outage: false }
    }

    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(FAILED, message)
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(USAGE, message)
    }

    pub(crate) fn interrupted(what: impl Into<String>) -> Self {
        Self::new(INTERRUPTED, what)
    }

    /// Adds what the caller knows about the failure.
    pub(crate) fn and(mut self, more: impl AsRef<str>) -> Self {
        let more = more.as_ref();
        if !more.is_empty() && self.status != BROKEN_PIPE {
            self.message = format!("{}\n{more}", self.message);
        }
        self
    }

    /// Adds what the caller knows, if the node may merely not be there.
    pub(crate) fn if_outage(self, more: &str) -> Self {
        if self.is_outage { self.and(more) } else { self }
    }

    /// For a command that writes nothing: a call without an answer has no unknown outcome.
    pub(crate) fn of_reads(mut self) -> Self {
        if self.status == OUTCOME_UNKNOWN {
            self.status = FAILED;
        }
        self
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let status = match error.kind() {
            ErrorKind::Conflict => CONFLICT,
            ErrorKind::OutcomeUnknown => OUTCOME_UNKNOWN,
            ErrorKind::InvalidInput => USAGE,
            _ => FAILED,
        };
        let is_outage = matches!(
            error.kind(),
            ErrorKind::OutcomeUnknown | ErrorKind::SplitBrain | ErrorKind::Timeout | ErrorKind::Unavailable
        );
        Self { is_outage, ..Self::new(status, error.report()) }
    }
}
