//! How far a read model is.

use crate::{Error, Mark};

/// How far a read model of this process is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ReadModelProgress {
    /// Its name.
    pub name: String,
    /// The place up to which it has everything, as far as this process knows; `None` at the beginning. Of a read model
    /// that another process has, only [`caught_up`](super::ReadModels::caught_up) finds out, for what it shows.
    pub handled: Option<Mark>,
    /// The position of the log's last event when this process looked last: what [`handled`](Self::handled) goes towards.
    pub head_position: u64,
    /// Events that were applied by this process.
    pub applied: u64,
    /// Events that were passed over by this process.
    pub skipped: u64,
    /// What it does.
    pub state: ReadModelState,
    /// The last error. It may have got over it.
    pub error: Option<Error>,
}

/// What a read model does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReadModelState {
    /// Nothing yet: it has not reached the primary, or another process has it.
    Waiting,
    /// It applies events that have been there for some time.
    CatchingUp,
    /// It has everything that was there at its last look, and applies what comes.
    Live,
    /// It has ended with an [error](ReadModelProgress::error): an event that cannot be handled, a log that has lost events.
    Failed,
    /// It was stopped.
    Stopped,
}

impl ReadModelProgress {
    pub(super) fn new(name: String) -> Self {
        let state = ReadModelState::Waiting;
        Self { name, handled: None, head_position: 0, applied: 0, skipped: 0, state, error: None }
    }

    /// How much of the log it has, from 0 to 1: for a progress bar.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "nobody sees the difference")]
    pub fn fraction(&self) -> f64 {
        let position = self.handled.map_or(0, |mark| mark.position());
        if self.state == ReadModelState::Live {
            1.0
        } else {
            (position as f64 / self.head_position.max(1) as f64).min(1.0)
        }
    }
}
