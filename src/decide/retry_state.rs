//! How often an execution is attempted, and how long it waits in between.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use tokio::time::{Instant, sleep};

use super::Attempts;
use crate::{
    Error, ErrorKind, runtime,
    telemetry::{DECIDE, ERROR_KIND, RETRY_DELAY},
};

/// The retry settings of an executor.
#[derive(Clone, Debug)]
pub(super) struct Retries {
    pub(super) max_attempts: u32,
    pub(super) base_delay: Duration,
    pub(super) max_delay: Duration,
    pub(super) limit: Duration,
}

impl Default for Retries {
    fn default() -> Self {
        Self {
            max_attempts: 10,
            base_delay: Duration::from_millis(5),
            max_delay: Duration::from_millis(500),
            limit: Duration::from_secs(30),
        }
    }
}

/// The progress of one execution.
#[derive(Debug)]
pub(super) struct RetryState {
    retries: Retries,
    delays: ExponentialBackoff,
    begin: Instant,
    pub(super) attempts: Attempts,
    /// How often it waited before a retry.
    pub(super) retries_made: u32,
    /// Which limit ended it, if any.
    pub(super) limit: Option<&'static str>,
}

impl RetryState {
    pub(super) fn new(retries: &Retries) -> Self {
        let delays = ExponentialBuilder::new()
            .with_min_delay(retries.base_delay)
            .with_max_delay(retries.max_delay.max(retries.base_delay))
            .with_max_times(retries.max_attempts.saturating_sub(1) as usize)
            .with_jitter()
            .build();
        Self {
            retries: retries.clone(),
            delays,
            begin: Instant::now(),
            attempts: Attempts::default(),
            retries_made: 0,
            limit: None,
        }
    }

    /// Counts an error that may rest on a replica's past, and is looked into on the primary.
    pub(super) fn confirm(&mut self, error: &Error) {
        tracing::debug!(target: DECIDE, error = %error.for_log(), "a command failed on a replica's past; deciding on the primary");
        self.attempts.confirmations += 1;
    }

    /// Waits until the next attempt is due; returns the last attempt's error if there is none.
    pub(super) async fn wait(&mut self, error: Error) -> Result<(), Error> {
        let kind = error.kind();
        self.attempts.last_error = Some(kind);
        let left = self.retries.limit.saturating_sub(self.begin.elapsed());
        let Some(delay) = self.delays.next() else {
            self.limit = Some("attempts");
            return Err(error.within(&format!("given up after {} attempts", self.retries.max_attempts.max(1))));
        };
        if delay >= left {
            self.limit = Some("time");
            return Err(error.within(&format!(
                "given up after {:?}, the limit is {:?}",
                self.begin.elapsed(),
                self.retries.limit
            )));
        }
        runtime::current()?;
        self.attempts.delay += delay;
        self.retries_made += 1;
        let delay_seconds = delay.as_secs_f64();
        tracing::debug!(target: DECIDE, { { ERROR_KIND } = kind.as_str(), { RETRY_DELAY } = delay_seconds }, "trying again");
        sleep(delay).await;
        Ok(())
    }

    /// The same after an append; `is_unknown` if one of the attempts may have written.
    pub(super) async fn wait_for_append(&mut self, error: Error, is_unknown: bool) -> Result<(), Error> {
        self.wait(error).await.map_err(|error| if is_unknown { unknown(error) } else { error })
    }
}

/// The last error of an append of which an earlier attempt may have written.
pub(super) fn unknown(error: Error) -> Error {
    if error.is_outcome_unknown() {
        return error;
    }
    let message = format!("an earlier try may have written; {}", error.message());
    let is_late = error.is_out_of_time();
    let error = error.reworded(ErrorKind::OutcomeUnknown, message);
    if is_late { error.out_of_time() } else { error }
}
