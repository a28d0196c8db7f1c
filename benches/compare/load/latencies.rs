//! Any number of latencies in little memory: a histogram with three digits.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::Outcome;

/// In microseconds.
const LONGEST: u64 = 3_600_000_000;
const DIGITS: u8 = 3;

/// The latencies of one kind of work.
#[derive(Clone, Debug)]
pub(crate) struct Latencies(Histogram<u64>);

/// The same for another process: values, and how often each occurred.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(crate) struct Counted(Vec<(u64, u64)>);

impl Latencies {
    pub(crate) fn new() -> Outcome<Self> {
        Ok(Self(Histogram::new_with_bounds(1, LONGEST, DIGITS)?))
    }

    /// Anything longer than an hour counts as an hour.
    pub(crate) fn record(&mut self, latency: Duration) {
        self.0.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(LONGEST));
    }

    pub(crate) fn counted(&self) -> Counted {
        Counted(self.0.iter_recorded().map(|step| (step.value_iterated_to(), step.count_at_value())).collect())
    }

    /// Adds the latencies of another process or another round.
    pub(crate) fn add(&mut self, others: &Counted) -> Outcome {
        for &(value, count) in &others.0 {
            self.0.record_n(value, count)?;
        }
        Ok(())
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.len()
    }

    /// The latency that this fraction of them did not exceed, in milliseconds.
    pub(crate) fn millis(&self, quantile: f64) -> f64 {
        if self.0.is_empty() { f64::NAN } else { self.0.value_at_quantile(quantile) as f64 / 1000.0 }
    }

    pub(crate) fn longest_millis(&self) -> f64 {
        self.millis(1.0)
    }
}
