//! The metrics of consumers.

use std::time::Duration;

use metrics::Key;

use super::{
    CONSUMER_DURATION, CONSUMER_EVENTS, CONSUMER_LAG, CONSUMER_RESTARTS, CONSUMER_SKIPPED,
    meter::{add, label, set, time},
};
use crate::telemetry::{CONSUMER, OUTCOME, Outcome};

/// Batches come one by one, and each costs at least a commit, so these labels are not cached.
fn of(consumer: &str) -> Vec<metrics::Label> {
    vec![label(CONSUMER, consumer.to_owned())]
}

/// A batch was delivered, with this many events of the log after it.
pub(crate) fn handed_out(consumer: &str, events_behind: u64) {
    set(&CONSUMER_LAG.key(of(consumer)), events_behind as f64);
}

/// A batch was to be committed.
pub(crate) fn committed(consumer: &str, outcome: Outcome, events: u64, skipped: u64, duration: Duration) {
    let labels = vec![label(CONSUMER, consumer.to_owned()), label(OUTCOME, outcome.as_str())];
    time(&CONSUMER_DURATION.key(labels), duration);
    if outcome == Outcome::Succeeded {
        let count = |key: Key, amount| {
            if amount > 0 {
                add(&key, amount);
            }
        };
        count(CONSUMER_EVENTS.key(of(consumer)), events);
        count(CONSUMER_SKIPPED.key(of(consumer)), skipped);
    }
}

/// A consumer has gone back to its checkpoint.
pub(crate) fn restarted(consumer: &str) {
    add(&CONSUMER_RESTARTS.key(of(consumer)), 1);
}
