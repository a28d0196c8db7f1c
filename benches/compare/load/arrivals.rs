//! When work arrives: at a fixed rate, whether or not earlier work is done.
//!
//! Latencies count from these moments. Counting from the moment at which a worker was free to begin would leave out exactly the
//! arrivals that had to wait (*coordinated omission*): a side that stalls for a second would show one slow answer.

use std::time::Duration;

/// The arrivals of one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Arrivals {
    first: u64,
    /// The nanoseconds between two arrivals; `first` is in nanoseconds from the start.
    every: u64,
}

const SECOND: f64 = 1e9;

impl Arrivals {
    /// The arrivals of the process with this number, of `processes` that take turns at `per_second`.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "rates are above a thousandth")]
    pub(crate) fn shared(per_second: f64, process: u64, processes: u64) -> Self {
        let each = SECOND / per_second;
        Self { first: (each * process as f64) as u64, every: ((each * processes as f64) as u64).max(1) }
    }

    pub(crate) fn from_parts((first, every): (u64, u64)) -> Self {
        Self { first, every: every.max(1) }
    }

    pub(crate) fn parts(self) -> (u64, u64) {
        (self.first, self.every)
    }

    /// When this one arrives, from the start.
    pub(crate) fn at(self, number: u64) -> Duration {
        Duration::from_nanos(self.first.saturating_add(self.every.saturating_mul(number)))
    }

    /// How many have arrived by then.
    pub(crate) fn by(self, since: Duration) -> u64 {
        let since = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
        since.checked_sub(self.first).map_or(0, |since| since / self.every + 1)
    }
}
