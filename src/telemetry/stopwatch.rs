//! Measures how long something takes, if anybody may want to know: without the feature `metrics` it is nothing, and the clock is
//! not read.

#[cfg(feature = "metrics")]
use std::time::{Duration, Instant};

/// Runs from its making.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stopwatch {
    #[cfg(feature = "metrics")]
    since: Instant,
}

impl Stopwatch {
    pub(crate) fn start() -> Self {
        Self {
            #[cfg(feature = "metrics")]
            since: Instant::now(),
        }
    }

    #[cfg(feature = "metrics")]
    pub(crate) fn elapsed(&self) -> Duration {
        self.since.elapsed()
    }
}
