//! Why a command did not succeed, and its exit status.

use mainstem::{Error, ErrorKind};

pub(crate) const FAILED: u8 = 1;
pub(crate) const USAGE: u8 = 2;
pub(crate) const CONFLICT: u8 = 3;
pub(crate) const OUTCOME_UNKNOWN: u8 = 4;
/// Done, and nobody could be told on standard output.
pub(crate) const UNTOLD: u8 = 5;
pub(crate) const WARNINGS: u8 = 10;
pub(crate) const FAULTS: u8 = 20;
/// As a shell reports a process that Ctrl-C has ended.
pub(crate) const INTERRUPTED: u8 = 130;
/// As a shell reports one that SIGPIPE has ended.
pub(crate) const BROKEN_PIPE: u8 = 141;

/// For the manual.
pub(crate) const EXIT_STATUS: &str = "\
Exit status:
    0  done; doctor and verify have found nothing, or only notes
    1  it failed, and standard error says why
    2  the command line, an event or a file is not what it should be; nothing was written
    3  append: the condition does not hold, or the stream has another version; nothing was written
       (2 and 3 of an import and of append --chunk: but what is before, and standard error says how much that is)
    4  the answer to a write was lost: the message says how to find out whether it was written
    5  append: it was written, but standard output does not take the answer, which is in the message
   10  doctor has found something to look at (a warning)
   20  doctor or verify has found something that is broken
  130  Ctrl-C; what is done and what is not, standard error says
  141  whoever read the output has gone";

pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) status: u8,
    /// Empty when all has been said.
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(status: u8, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
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

    /// Adds what is known at the place where it happened.
    pub(crate) fn and(mut self, more: impl AsRef<str>) -> Self {
        let more = more.as_ref();
        if !more.is_empty() && self.status != BROKEN_PIPE {
            self.message = format!("{}\n{more}", self.message);
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
        Self::new(status, error.report())
    }
}
