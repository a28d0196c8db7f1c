//! The gauges that are set once a second: the state of the cluster, its nodes and their pools. And the counters of its
//! changes.

use std::{sync::Arc, time::Duration};

use super::{
    CAUSE, CONNECTION_COUNT, CONNECTION_MAX, CONNECTION_PENDING, FALLBACK_EXHAUSTIONS, FALLBACK_IN_FLIGHT,
    FALLBACK_LIMIT, FALLBACK_SPENT_NOW, MetricDescription, NODE_CONDITION, NODE_EJECTIONS, NODE_IN_FLIGHT, NODE_LAG,
    NODE_LAG_BYTES, NODE_LATENCY, NODE_ROLE, NODE_STALENESS, PRIMARY_CHANGES, PRIMARY_IS, PRIMARY_STATE, ROUTER,
    TIMELINE_NUMBER,
    meter::{add, label, set},
};
use crate::{
    EjectionCause, FallbackStatus, NodeCondition, NodeStatus, PrimaryState, Role, RouterStatus,
    telemetry::{CONDITION, CONNECTION_STATE, NODE, POOL, ROLE},
};

const CONDITIONS: [&str; 8] =
    ["serving", "slow_start", "ejected", "foreign", "joining", "fenced", "lagging", "older_timeline"];

const STATES: [&str; 4] = ["known", "split_brain", "fenced", "unknown"];

fn condition_name(condition: &NodeCondition) -> &'static str {
    match condition {
        NodeCondition::Serving => "serving",
        NodeCondition::SlowStart => "slow_start",
        NodeCondition::Ejected { .. } => "ejected",
        NodeCondition::Foreign => "foreign",
        NodeCondition::Joining => "joining",
        NodeCondition::Fenced => "fenced",
        NodeCondition::Lagging => "lagging",
        NodeCondition::OlderTimeline => "older_timeline",
    }
}

fn state_name(state: &PrimaryState) -> &'static str {
    match state {
        PrimaryState::Known { .. } => "known",
        PrimaryState::SplitBrain { .. } => "split_brain",
        PrimaryState::Fenced { .. } => "fenced",
        PrimaryState::Unknown => "unknown",
    }
}

/// The connections of a pool: how many are open, how many of those are idle, the maximum, and how many calls wait for
/// one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PoolState {
    pub(crate) open: u32,
    pub(crate) idle: u32,
    pub(crate) most: u32,
    pub(crate) waiting: u32,
}

fn of_node(metric: &MetricDescription, node: &Arc<str>, value: f64) {
    set(&metric.key(vec![label(NODE, Arc::clone(node))]), value);
}

fn seconds(duration: Option<Duration>) -> f64 {
    duration.map_or(f64::NAN, |duration| duration.as_secs_f64())
}

fn flag(is: bool) -> f64 {
    f64::from(u8::from(is))
}

/// Sets the gauges of a node and its pool.
pub(crate) fn node(node: &NodeStatus, pool: Option<PoolState>) {
    let name = &node.name;
    each_condition(name, Some(condition_name(&node.condition)));
    each_role(name, Some(node.role));
    of_node(&NODE_LAG, name, seconds(node.lag));
    of_node(&NODE_LAG_BYTES, name, node.lag_bytes.map_or(f64::NAN, |bytes| bytes as f64));
    of_node(&NODE_STALENESS, name, seconds(node.staleness));
    of_node(&NODE_LATENCY, name, seconds(node.latency));
    of_node(&NODE_IN_FLIGHT, name, f64::from(node.in_flight));
    if let Some(pool) = pool {
        pool.set(name);
    }
}

/// Resets the gauges of a node that has left, or whose router is gone.
pub(crate) fn node_gone(name: &Arc<str>) {
    each_condition(name, None);
    each_role(name, None);
    for metric in [NODE_LAG, NODE_LAG_BYTES, NODE_STALENESS, NODE_LATENCY] {
        of_node(&metric, name, f64::NAN);
    }
    of_node(&NODE_IN_FLIGHT, name, 0.0);
    PoolState { open: 0, idle: 0, most: 0, waiting: 0 }.set(name);
}

fn each_condition(name: &Arc<str>, is: Option<&str>) {
    for condition in CONDITIONS {
        let labels = vec![label(NODE, Arc::clone(name)), label(CONDITION, condition)];
        set(&NODE_CONDITION.key(labels), flag(is == Some(condition)));
    }
}

fn each_role(name: &Arc<str>, is: Option<Role>) {
    for role in [Role::Primary, Role::Replica] {
        let labels = vec![label(NODE, Arc::clone(name)), label(ROLE, role.as_str())];
        set(&NODE_ROLE.key(labels), flag(is == Some(role)));
    }
}

impl PoolState {
    fn set(self, name: &Arc<str>) {
        let pool = || label(POOL, Arc::clone(name));
        for (state, amount) in [("idle", self.idle), ("used", self.open.saturating_sub(self.idle))] {
            set(&CONNECTION_COUNT.key(vec![pool(), label(CONNECTION_STATE, state)]), f64::from(amount));
        }
        set(&CONNECTION_MAX.key(vec![pool()]), f64::from(self.most));
        set(&CONNECTION_PENDING.key(vec![pool()]), f64::from(self.waiting));
    }
}

/// Sets the gauges of the cluster.
pub(crate) fn router(status: &RouterStatus) {
    let Some(first) = status.nodes.first() else { return };
    let router = || label(ROUTER, Arc::clone(&first.name));
    let of_router = |metric: &MetricDescription, value| set(&metric.key(vec![router()]), value);
    for state in STATES {
        let is = state_name(&status.primary) == state;
        set(&PRIMARY_STATE.key(vec![router(), label(PRIMARY_IS, state)]), flag(is));
    }
    of_router(&TIMELINE_NUMBER, status.timeline.map_or(f64::NAN, f64::from));
    let FallbackStatus { in_flight, limit, is_spent, .. } = status.fallback;
    of_router(&FALLBACK_IN_FLIGHT, f64::from(in_flight));
    of_router(&FALLBACK_LIMIT, limit.map_or(f64::INFINITY, f64::from));
    of_router(&FALLBACK_SPENT_NOW, flag(is_spent));
}

/// Resets the gauges of a cluster whose router is gone: otherwise they would show its last state for ever.
pub(crate) fn router_gone(status: &RouterStatus) {
    let Some(first) = status.nodes.first() else { return };
    let router = || label(ROUTER, Arc::clone(&first.name));
    for state in STATES {
        set(&PRIMARY_STATE.key(vec![router(), label(PRIMARY_IS, state)]), 0.0);
    }
    for metric in [TIMELINE_NUMBER, FALLBACK_LIMIT] {
        set(&metric.key(vec![router()]), f64::NAN);
    }
    for metric in [FALLBACK_IN_FLIGHT, FALLBACK_SPENT_NOW] {
        set(&metric.key(vec![router()]), 0.0);
    }
}

/// A node was taken out of service.
pub(crate) fn ejected(node: &Arc<str>, cause: EjectionCause) {
    let cause = match cause {
        EjectionCause::Failing => "failing",
        EjectionCause::Silent => "silent",
        EjectionCause::Unreachable => "unreachable",
        EjectionCause::Refusing => "refusing",
    };
    add(&NODE_EJECTIONS.key(vec![label(NODE, Arc::clone(node)), label(CAUSE, cause)]), 1);
}

/// Another node has become the primary.
pub(crate) fn primary_changed(router: &Arc<str>) {
    add(&PRIMARY_CHANGES.key(vec![label(ROUTER, Arc::clone(router))]), 1);
}

/// The primary now serves as many reads for replicas as it may.
pub(crate) fn fallback_exhausted(router: &Arc<str>) {
    add(&FALLBACK_EXHAUSTIONS.key(vec![label(ROUTER, Arc::clone(router))]), 1);
}
