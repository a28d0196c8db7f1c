//! When a node that failed is tried again.

use std::time::Duration;

/// The first pause after a failure: long enough to spare a restarting server a storm of connects, short enough that
/// nobody notices it.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The longest pause: what a recovered node waits at most until it is used again.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Failures in a row, and the pause that follows them.
#[derive(Debug, Default)]
pub(super) struct Health {
    failures: u32,
    down_until: Option<Duration>,
}

impl Health {
    pub(super) fn succeed(&mut self) {
        *self = Self::default();
    }

    /// Counts once per pause: a hundred calls that fail on one dead node are one failure of it.
    pub(super) fn fail(&mut self, now: Duration) {
        if self.down_until.is_some_and(|until| now < until) {
            return;
        }
        let pause = FIRST_PAUSE.saturating_mul(1 << self.failures.min(16)).min(LONGEST_PAUSE);
        self.failures += 1;
        self.down_until = Some(now + pause);
    }

    pub(super) fn is_up(&self, now: Duration) -> bool {
        self.down_until.is_none_or(|until| now >= until)
    }
}
