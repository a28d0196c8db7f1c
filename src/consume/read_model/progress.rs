//! How far a read model is.

use crate::{Error, Mark};

/// The progress of a read model in this process.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ReadModelProgress {
    /// Its name.
    pub name: String,
    /// The place up to which everything is applied, as far as this process knows; `None` at the beginning. If another
    /// process runs the read model, only [`wait_until_caught_up`](super::ReadModels::wait_until_caught_up) finds it out, for what it shows.
    pub handled: Option<Mark>,
    /// The position of the log's last event when this process last looked: the goal of [`handled`](Self::handled).
    pub head_position: u64,
    /// The number of events applied by this process.
    pub applied: u64,
    /// The number of events skipped by this process.
    pub skipped: u64,
    /// What it is doing.
    pub state: ReadModelState,
    /// The last error. The read model may have recovered from it.
    pub error: Option<Error>,
    /// Whether it was accepted as a member of its consumer: until then, the checkpoint may be that of another filter or
    /// version.
    pub(super) has_joined: bool,
}

/// What a read model is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReadModelState {
    /// Nothing yet: it has not reached the primary, or another process runs it.
    Waiting,
    /// It applies events that have been in the log for some time.
    CatchingUp,
    /// It has applied everything that was there at its last look, and applies new events as they come.
    Live,
    /// It has ended with an [error](ReadModelProgress::error): an event that cannot be handled, or a log that has lost
    /// events.
    Failed,
    /// It was stopped.
    Stopped,
}

impl ReadModelProgress {
    pub(super) fn new(name: String) -> Self {
        let state = ReadModelState::Waiting;
        Self { name, handled: None, head_position: 0, applied: 0, skipped: 0, state, error: None, has_joined: false }
    }

    /// Returns how much of the log it has applied, from 0 to 1: for a progress bar.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "nobody sees the difference")]
    pub fn fraction(&self) -> f64 {
        let position = Mark::position_or_zero(self.handled);
        if self.state == ReadModelState::Live {
            1.0
        } else {
            (position as f64 / self.head_position.max(1) as f64).min(1.0)
        }
    }
}
