//! The metrics of the router.

use std::{sync::Arc, time::Duration};

use metrics::Label;

use super::{
    CONNECTION_CREATE_TIME, CONNECTION_TIMEOUTS, CONNECTION_USE_TIME, CONNECTION_WAIT_TIME, OPERATION_DURATION,
    ROUTE_DECISIONS, ROUTE_WAIT, WAIT,
    meter::{Keys, add, label, time},
};
use crate::{
    Consistency, Role,
    error::ErrorKind,
    router::{Effect, Endpoint, Reason},
    telemetry::{
        EFFECT, ERROR_KIND, ERROR_TYPE, LEVEL, NAMESPACE, NODE, OUTCOME, Outcome, POOL, POSTGRESQL, REASON, ROLE,
        SERVER_ADDRESS, SERVER_PORT, STATUS_CODE, SYSTEM,
    },
};

const LEVELS: usize = 4;
const ROLES: usize = 2;
const EFFECTS: usize = 3;
/// The number of reasons, including none.
const REASONS: usize = Reason::LastResort as usize + 2;

fn level_index(level: &Consistency) -> usize {
    match level {
        Consistency::Strong => 0,
        Consistency::Eventual => 1,
        Consistency::Bounded(_) => 2,
        Consistency::AtLeast(_) => 3,
    }
}

/// A decision has ended, after waiting this long for the start, a connection, the replay and the fallback.
pub(crate) fn decision(
    outcome: Outcome,
    level: &Consistency,
    reason: Option<Reason>,
    error: Option<ErrorKind>,
    waits: &[Duration; 4],
) {
    static DECISIONS: Keys<{ Outcome::COUNT * LEVELS * REASONS }> = Keys::new();
    static WAITS: Keys<{ 4 * LEVELS }> = Keys::new();
    let labels = || {
        let labels = [label(OUTCOME, outcome.as_str()), label(LEVEL, level.name())];
        let reason = reason.map(|reason| label(REASON, reason.as_str()));
        let error = error.map(|error| label(ERROR_KIND, error.as_str()));
        labels.into_iter().chain(reason).chain(error).collect()
    };
    let reason = reason.map_or(0, |reason| reason as usize + 1);
    match error {
        Some(_) => add(&ROUTE_DECISIONS.key(labels()), 1),
        None => {
            let index = (outcome as usize * LEVELS + level_index(level)) * REASONS + reason;
            add(DECISIONS.get(index, || ROUTE_DECISIONS.key(labels())), 1);
        }
    }
    for (index, (name, wait)) in ["start", "connection", "replay", "fallback"].into_iter().zip(waits).enumerate() {
        if !wait.is_zero() {
            let labels = || vec![label(WAIT, name), label(LEVEL, level.name())];
            time(WAITS.get(index * LEVELS + level_index(level), || ROUTE_WAIT.key(labels())), *wait);
        }
    }
}

/// The metrics of one node.
#[derive(Debug, Default)]
pub(crate) struct NodeMetrics(Box<Of>);

#[derive(Debug)]
struct Of {
    calls: Keys<{ EFFECTS * ROLES * Outcome::COUNT }>,
    waits: Keys<{ Outcome::COUNT }>,
    timeouts: Keys<1>,
    uses: Keys<1>,
}

impl Default for Of {
    fn default() -> Self {
        Self { calls: Keys::new(), waits: Keys::new(), timeouts: Keys::new(), uses: Keys::new() }
    }
}

/// The outcome of a call.
pub(crate) struct Call<'a> {
    pub(crate) role: Role,
    pub(crate) effect: Effect,
    pub(crate) outcome: Outcome,
    pub(crate) error_type: Option<&'a str>,
    pub(crate) status: Option<&'a str>,
    pub(crate) duration: Duration,
}

impl NodeMetrics {
    /// A call has ended.
    pub(crate) fn called(&self, name: &Arc<str>, endpoint: &Endpoint, call: &Call<'_>) {
        let Call { role, effect, outcome, error_type, status, duration } = *call;
        let labels = || -> Vec<Label> {
            let Endpoint { host, port, database } = endpoint;
            let known = [
                database.as_deref().map(|database| label(NAMESPACE, database.to_owned())),
                host.as_deref().map(|host| label(SERVER_ADDRESS, host.to_owned())),
                port.map(|port| label(SERVER_PORT, port.to_string())),
                error_type.map(|error| label(ERROR_TYPE, error.to_owned())),
                status.map(|status| label(STATUS_CODE, status.to_owned())),
            ];
            let always = [
                label(SYSTEM, POSTGRESQL),
                label(NODE, name.clone()),
                label(ROLE, role.as_str()),
                label(EFFECT, effect.as_str()),
                label(OUTCOME, outcome.as_str()),
            ];
            always.into_iter().chain(known.into_iter().flatten()).collect()
        };
        if error_type.is_some() {
            return time(&OPERATION_DURATION.key(labels()), duration);
        }
        let role_index = usize::from(role == Role::Replica);
        let index = (effect as usize * ROLES + role_index) * Outcome::COUNT + outcome as usize;
        time(self.0.calls.get(index, || OPERATION_DURATION.key(labels())), duration);
    }

    /// A call has acquired a connection of the node's pool, or failed to.
    pub(crate) fn waited(&self, name: &Arc<str>, outcome: Outcome, duration: Duration) {
        let labels = || vec![label(POOL, name.clone()), label(OUTCOME, outcome.as_str())];
        time(self.0.waits.get(outcome as usize, || CONNECTION_WAIT_TIME.key(labels())), duration);
        if outcome == Outcome::TimedOut {
            let key = || CONNECTION_TIMEOUTS.key(vec![label(POOL, name.clone())]);
            add(self.0.timeouts.get(0, key), 1);
        }
    }

    /// A call has returned a connection.
    pub(crate) fn used(&self, name: &Arc<str>, duration: Duration) {
        let key = || CONNECTION_USE_TIME.key(vec![label(POOL, name.clone())]);
        time(self.0.uses.get(0, key), duration);
    }
}

/// A connection was opened, or opening it failed.
pub(crate) fn opened(node: Arc<str>, outcome: Outcome, duration: Duration) {
    time(&CONNECTION_CREATE_TIME.key(vec![label(POOL, node), label(OUTCOME, outcome.as_str())]), duration);
}
