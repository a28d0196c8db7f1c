//! The metrics of stores.

use std::time::Duration;

use metrics::Key;

use super::{
    APPEND_BATCH_APPENDS, APPEND_BATCH_EVENTS, APPEND_QUEUE, CONFLICT, LOADED, SAVED, SNAPSHOT_PROJECTIONS,
    STORE_CONFLICTS, STORE_DURATION, STORE_EVENTS, STORE_SHARED_READS,
    meter::{Keys, add, label, record, time},
};
use crate::{
    LogName, Role,
    error::Error,
    telemetry::{Done, ERROR_TYPE, LOG, OPERATION, OUTCOME, Operation, Outcome, ROLE},
};

/// Primary, replica, or unknown.
const ROLES: usize = 3;

fn role_index(role: Option<Role>) -> usize {
    match role {
        None => 0,
        Some(Role::Primary) => 1,
        Some(Role::Replica) => 2,
    }
}

/// An operation has ended.
pub(crate) fn operation(
    operation: Operation,
    outcome: Outcome,
    done: Done<'_>,
    error: Option<&Error>,
    duration: Duration,
) {
    static DURATIONS: Keys<{ Operation::COUNT * Outcome::COUNT * ROLES }> = Keys::new();
    static EVENTS: Keys<{ Operation::COUNT * ROLES }> = Keys::new();
    let role = done.served.map(|(_, role)| role);
    let labels = || {
        let labels = vec![label(OPERATION, operation.as_str()), label(OUTCOME, outcome.as_str())];
        labels.into_iter().chain(role.map(|role| label(ROLE, role.as_str())))
    };
    match error.filter(|error| !error.is_conflict()) {
        Some(error) => {
            let error = label(ERROR_TYPE, error.sqlstate().unwrap_or_else(|| error.kind().as_str()).to_owned());
            time(&STORE_DURATION.key(labels().chain([error]).collect()), duration);
        }
        None => {
            let index = (operation as usize * Outcome::COUNT + outcome as usize) * ROLES + role_index(role);
            time(DURATIONS.get(index, || STORE_DURATION.key(labels().collect())), duration);
        }
    }
    if done.events > 0 {
        let labels = || {
            let role = role.map(|role| label(ROLE, role.as_str()));
            [label(OPERATION, operation.as_str())].into_iter().chain(role).collect()
        };
        let index = operation as usize * ROLES + role_index(role);
        add(EVENTS.get(index, || STORE_EVENTS.key(labels())), done.events);
    }
    if let Some(error) = error.filter(|error| operation == Operation::Append && error.is_conflict()) {
        static CONFLICTS: Keys<2> = Keys::new();
        let is_version = error.version_mismatch().is_some();
        let kind = if is_version { "stream_version" } else { "condition" };
        add(CONFLICTS.get(usize::from(is_version), || STORE_CONFLICTS.key(vec![label(CONFLICT, kind)])), 1);
    }
}

/// A read was answered by another call's statement.
pub(crate) fn shared_read() {
    static SHARED: Keys<1> = Keys::new();
    add(SHARED.get(0, || STORE_SHARED_READS.key(Vec::new())), 1);
}

/// A state was computed.
pub(crate) fn projected(loaded: &'static str, saved: &'static str) {
    add(&SNAPSHOT_PROJECTIONS.key(vec![label(LOADED, loaded), label(SAVED, saved)]), 1);
}

/// The metrics of one log's batches.
#[derive(Debug)]
pub(crate) struct BatchMetrics {
    appends: Key,
    events: Key,
    queue: Key,
}

impl BatchMetrics {
    pub(crate) fn new(log: &LogName) -> Self {
        let labels = || vec![label(LOG, format!("{}.{}", log.schema(), log.log()))];
        let (appends, events) = (APPEND_BATCH_APPENDS.key(labels()), APPEND_BATCH_EVENTS.key(labels()));
        Self { appends, events, queue: APPEND_QUEUE.key(labels()) }
    }

    /// This many appends are sent together, with this many events, and have waited this long each.
    pub(crate) fn sent(&self, appends: usize, events: usize, waited: impl Iterator<Item = Duration>) {
        record(&self.appends, appends as f64);
        record(&self.events, events as f64);
        waited.for_each(|waited| time(&self.queue, waited));
    }
}
