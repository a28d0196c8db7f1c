//! What the router knows, for people, dashboards and health checks.

use std::{fmt, sync::Arc, time::Duration};

use super::{
    EjectionCause, Fallback, Role,
    cluster::Cluster,
    election::Writer,
    live::Live,
    node::NodeState,
    set::NodeSet,
    table::{Exclusion, Want},
    tabulate::{fresh_as_of, lag},
};
use crate::{lsn::Lsn, router::SourceStatus};

/// What a [`Router`](crate::Router) knows at one moment; see [`Router::status`](crate::Router::status).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RouterStatus {
    /// Which node takes writes.
    pub primary: PrimaryState,
    /// The newest timeline that was ever seen; `None` when no node has told one.
    pub timeline: Option<u32>,
    /// Whether nodes are still to be asked for the first time, or names to be looked up: strong calls wait for that.
    pub is_starting: bool,
    /// All nodes, the primary of the settings first.
    pub nodes: Vec<NodeStatus>,
    /// The reads that the primary has taken over from the replicas.
    pub fallback: FallbackStatus,
    /// Where replicas come from that come and go.
    pub sources: Vec<SourceStatus>,
}

/// Which node takes writes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PrimaryState {
    /// This one.
    Known(Arc<str>),
    /// Two nodes take writes, and neither timeline is the newer one. Strong calls are refused until one of them is a
    /// replica, or was stopped: until nobody has listened at its address for ten seconds. One that just does not answer, or
    /// has no place for us, may still be writing. If the stopped one comes back and takes writes, this is back too.
    SplitBrain(Arc<str>, Arc<str>),
    /// Only this node takes writes, but a newer timeline than its own has been seen. Strong calls are refused until the
    /// primary of that one is found.
    Fenced(Arc<str>),
    /// No node is known to take writes.
    Unknown,
}

/// One node of a [`RouterStatus`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NodeStatus {
    /// Its name: `host:port`, or `host:port/database` where several nodes are behind one address.
    pub name: Arc<str>,
    /// The role that it plays; that of the settings until it has told.
    pub role: Role,
    /// Whether it serves, and why not.
    pub condition: NodeCondition,
    /// Whether it has been asked how it is, whatever came of that; `true` where [nobody is](crate::RouterBuilder::probe_interval).
    pub is_asked: bool,
    /// How often it has become something else, such as the primary.
    pub generation: u32,
    /// The cluster that it belongs to, when it has told.
    pub system_identifier: Option<u64>,
    /// Its timeline, when it has told.
    pub timeline: Option<u32>,
    /// What it has replayed; of the primary, what it has flushed.
    pub lsn: Option<Lsn>,
    /// How far it is behind the primary in bytes, as of when each was asked last.
    pub lag_bytes: Option<u64>,
    /// How far it was behind the primary when that was asked last. An idle primary's replicas are not behind, and one that
    /// receives nothing falls behind only what the primary has written since.
    pub lag: Option<Duration>,
    /// Everything that was acknowledged longer ago than this is there. It grows until the node and the primary are asked
    /// again.
    pub staleness: Option<Duration>,
    /// Whether it is connected to the node that it follows, when it tells.
    pub is_receiving: Option<bool>,
    /// Calls that wait for one of its connections or use one.
    pub in_flight: u32,
    /// Its connections at most; `None` when only the owner of the pool knows.
    pub capacity: Option<u32>,
    /// The smoothed time from a call to its answer, when it was measured.
    pub latency: Option<Duration>,
    /// Its weight among the replicas.
    pub weight: u32,
}

/// Whether a node serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NodeCondition {
    /// It does.
    Serving,
    /// It has come back a moment ago, and its share still grows.
    SlowStart,
    /// It is out of service.
    #[non_exhaustive]
    Ejected {
        /// Why.
        cause: EjectionCause,
        /// How long ago that was.
        elapsed: Duration,
    },
    /// It belongs to another cluster.
    Foreign,
    /// It was added while the router runs, and has not said yet what it is: nothing is sent there but that question.
    Joining,
    /// It takes writes, but is not the primary: a newer one has replaced it, or another one is as new.
    Fenced,
    /// It is further behind than eventual reads may be.
    Lagging,
    /// It has not followed the last failover yet.
    OlderTimeline,
}

/// The reads that the primary has taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FallbackStatus {
    /// The choice of the settings.
    pub policy: Fallback,
    /// Such reads at this moment.
    pub in_flight: u32,
    /// The most of them at once; `None` without a limit.
    pub limit: Option<u32>,
    /// Whether the primary has taken over as many as it may, and has had to let one wait or go elsewhere within the last second.
    pub is_spent: bool,
    /// Whether the primary is the router's only node, and no replica can come from a name or a list: it then serves all
    /// reads, whatever the policy.
    pub is_only_node: bool,
}

impl fmt::Display for NodeCondition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Serving => f.pad("serving"),
            Self::SlowStart => f.pad("serving a share that grows"),
            Self::Ejected { cause, .. } => write!(f, "out of service: {cause}"),
            Self::Foreign => f.pad("it belongs to another cluster"),
            Self::Joining => f.pad("it was added, and has not said yet what it is"),
            Self::Fenced => f.pad("it takes writes, but is not the primary"),
            Self::Lagging => f.pad("it lags too far behind"),
            Self::OlderTimeline => f.pad("it has not followed the last failover"),
        }
    }
}

impl Cluster {
    /// What is known at `now`, while nobody has asked the nodes in `unasked` yet how they are.
    pub(in crate::router) fn status(&self, live: &Live, unasked: NodeSet, now: Duration) -> RouterStatus {
        let name =
            |node: usize| self.nodes.get(node).map_or_else(|| "?".into(), |node| Arc::clone(&node.config().name));
        let budget = live.budget();
        RouterStatus {
            primary: match self.table().writer {
                Writer::One(node) => PrimaryState::Known(name(node)),
                Writer::SplitBrain(one, other) => PrimaryState::SplitBrain(name(one), name(other)),
                Writer::Fenced(node) => PrimaryState::Fenced(name(node)),
                Writer::Nobody => PrimaryState::Unknown,
            },
            timeline: self.newest,
            is_starting: !unasked.is_empty(),
            nodes: {
                let there = self.nodes.iter().enumerate().filter(|(_, node)| node.is_there());
                there.map(|(index, node)| self.node(index, node, live, !unasked.contains(index), now)).collect()
            },
            // They are no affair of the core's.
            sources: Vec::new(),
            fallback: FallbackStatus {
                policy: self.config.fallback,
                in_flight: budget.taken(),
                limit: (budget.at_once() < u32::MAX).then_some(budget.at_once()),
                is_spent: budget.is_spent(now),
                is_only_node: self.table().is_alone,
            },
        }
    }

    fn node(&self, index: usize, node: &NodeState, live: &Live, is_asked: bool, now: Duration) -> NodeStatus {
        let counters = live.node(index);
        let flushed = self.history.last().map(|(_, flush)| flush);
        let is_current_replica = node.role() == Role::Replica && node.timeline() == self.newest;
        let lag_bytes = || Some(flushed?.get().saturating_sub(node.place()?.get()));
        NodeStatus {
            name: Arc::clone(&node.config().name),
            role: node.role(),
            condition: self.condition(index, node, now),
            is_asked,
            generation: node.generation(),
            system_identifier: node.system(),
            timeline: node.timeline(),
            lsn: node.place(),
            lag_bytes: is_current_replica.then(lag_bytes).flatten(),
            lag: lag(node, self.newest, &self.history),
            staleness: is_current_replica
                .then(|| fresh_as_of(node, self.newest, &self.history))
                .flatten()
                .map(|at| now.saturating_sub(at)),
            is_receiving: node.is_receiving(),
            in_flight: counters.in_flight(),
            capacity: (counters.capacity() < u32::MAX).then_some(counters.capacity()),
            latency: Some(counters.latency(now)).filter(|&latency| latency > 0).map(Duration::from_nanos),
            weight: node.config().weight,
        }
    }

    pub(super) fn condition(&self, index: usize, node: &NodeState, now: Duration) -> NodeCondition {
        let table = self.table();
        if let Some(ejection) = node.health.ejection().filter(|_| !table.foreign.contains(index)) {
            return NodeCondition::Ejected { cause: ejection.cause, elapsed: now.saturating_sub(ejection.since) };
        }
        match table.exclusion(index, Want::Eventual, NodeSet::EMPTY, now) {
            Some(Exclusion::Foreign) => NodeCondition::Foreign,
            Some(Exclusion::Joining) => NodeCondition::Joining,
            Some(Exclusion::Fenced) => NodeCondition::Fenced,
            Some(Exclusion::Lagging) => NodeCondition::Lagging,
            Some(Exclusion::OlderTimeline) => NodeCondition::OlderTimeline,
            _ if node.health.admitted_at().is_some_and(|at| now.saturating_sub(at) < table.slow_start) => {
                NodeCondition::SlowStart
            }
            _ => NodeCondition::Serving,
        }
    }
}
