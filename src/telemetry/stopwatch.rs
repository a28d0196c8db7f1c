//! Measures how long something takes, if metrics are on: without the feature `metrics` it does nothing, and the clock
//! is not read.

#[cfg(feature = "metrics")]
use std::time::{Duration, Instant};

/// Runs from its creation.
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
