//! One limit for everything that a call does: waiting for a connection, connecting, the round trips.

use std::time::Duration;

use tokio::time::Instant;

/// When a call must be over, and since when it has been running, so that errors can state both.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    started: Instant,
    limit: Duration,
}

impl Deadline {
    pub(crate) fn after(limit: Duration) -> Self {
        Self { started: Instant::now(), limit }
    }

    /// The moment itself. A limit beyond what the clock can hold counts as a century.
    pub(crate) fn at(&self) -> Instant {
        let century = Duration::from_secs(100 * 365 * 24 * 60 * 60);
        self.started.checked_add(self.limit).unwrap_or_else(|| self.started + century)
    }

    /// The earlier of this deadline and `limit` from now.
    pub(crate) fn or_within(&self, limit: Duration) -> Instant {
        Instant::now().checked_add(limit).map_or_else(|| self.at(), |at| at.min(self.at()))
    }

    pub(crate) fn limit(&self) -> Duration {
        self.limit
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    pub(crate) fn remaining(&self) -> Duration {
        self.at().saturating_duration_since(Instant::now())
    }

    pub(crate) fn is_over(&self) -> bool {
        Instant::now() >= self.at()
    }
}
