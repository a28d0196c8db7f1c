//! The metrics of commands and models.

use std::time::Duration;

use super::{
    COMMAND_CONFLICTS, COMMAND_DURATION, COMMAND_GAVE_UP, COMMAND_REPEATED, COMMAND_RETRIES, COMMAND_RETRY_DELAY,
    LIMIT, MODEL_DURATION, MODEL_EVENTS,
    meter::{add, label, time},
};
use crate::{
    Role,
    error::Error,
    telemetry::{COMMAND, ERROR_TYPE, MODEL, OUTCOME, Outcome, ROLE},
};

/// The outcome of a command.
pub(crate) struct CommandEnd<'a> {
    pub(crate) outcome: Outcome,
    pub(crate) error: Option<&'a Error>,
    pub(crate) is_repeated: bool,
    pub(crate) conflicts: u32,
    pub(crate) retries: u32,
    pub(crate) delay: Duration,
    /// The limit that ended it, if one did.
    pub(crate) limit: Option<&'static str>,
    pub(crate) duration: Duration,
}

/// A command has ended. It has cost at least a read and an append, so these labels are not cached.
pub(crate) fn commanded(command: &str, end: &CommandEnd<'_>) {
    let of = || vec![label(COMMAND, command.to_owned())];
    let labels = of().into_iter().chain([label(OUTCOME, end.outcome.as_str())]);
    let error =
        end.error.map(|error| label(ERROR_TYPE, error.sqlstate().unwrap_or_else(|| error.kind().as_str()).to_owned()));
    time(&COMMAND_DURATION.key(labels.chain(error).collect()), end.duration);
    let counts = [
        (COMMAND_CONFLICTS, u64::from(end.conflicts)),
        (COMMAND_RETRIES, u64::from(end.retries)),
        (COMMAND_REPEATED, u64::from(end.is_repeated)),
    ];
    for (metric, amount) in counts.into_iter().filter(|(_, amount)| *amount > 0) {
        add(&metric.key(of()), amount);
    }
    if end.retries > 0 {
        time(&COMMAND_RETRY_DELAY.key(of()), end.delay);
    }
    if let Some(limit) = end.limit {
        add(&COMMAND_GAVE_UP.key(of().into_iter().chain([label(LIMIT, limit)]).collect()), 1);
    }
}

/// A model was read, or reading it failed.
pub(crate) fn read(model: &str, outcome: Outcome, role: Option<Role>, error: Option<&Error>, duration: Duration) {
    let labels = [label(MODEL, model.to_owned()), label(OUTCOME, outcome.as_str())];
    let role = role.map(|role| label(ROLE, role.as_str()));
    let error =
        error.map(|error| label(ERROR_TYPE, error.sqlstate().unwrap_or_else(|| error.kind().as_str()).to_owned()));
    time(&MODEL_DURATION.key(labels.into_iter().chain(role).chain(error).collect()), duration);
}

/// This many events were applied to it.
pub(crate) fn applied(model: &str, events: u64) {
    if events > 0 {
        add(&MODEL_EVENTS.key(vec![label(MODEL, model.to_owned())]), events);
    }
}
