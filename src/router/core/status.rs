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

/// A snapshot of what a [`Router`](crate::Router) knows; see [`Router::status`](crate::Router::status).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RouterStatus {
    /// Which node is the primary.
    pub primary: PrimaryState,
    /// The newest timeline ever seen; `None` if no node has reported one.
    pub timeline: Option<u32>,
    /// Whether some nodes have not been probed yet, or names not resolved yet: strong calls wait for that.
    pub is_starting: bool,
    /// All nodes, the primary of the settings first.
    pub nodes: Vec<NodeStatus>,
    /// The reads that the primary currently takes over from the replicas.
    pub fallback: FallbackStatus,
    /// The sources of replicas that come and go.
    pub sources: Vec<SourceStatus>,
}

/// Which node is the primary, if that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PrimaryState {
    /// This node takes writes.
    #[non_exhaustive]
    Known {
        /// Its name.
        node: Arc<str>,
    },
    /// Two nodes take writes, and neither timeline is the newer one. Strong calls are refused until one of them is a
    /// replica or was stopped, which means that nobody has listened at its address for ten seconds. A node that only
    /// does not answer, or refuses our connections, may still accept writes. If the stopped node comes back and takes
    /// writes, the split brain is back too.
    #[non_exhaustive]
    SplitBrain {
        /// Their names.
        nodes: Vec<Arc<str>>,
    },
    /// Only this node takes writes, but a newer timeline than its own has been seen. Strong calls are refused until the
    /// primary of that timeline is found.
    #[non_exhaustive]
    Fenced {
        /// Its name.
        node: Arc<str>,
    },
    /// No node is known to take writes.
    Unknown,
}

impl PrimaryState {
    /// Returns the primary's name, if one node takes writes and is known to be the primary.
    #[must_use]
    pub fn known(&self) -> Option<&Arc<str>> {
        match self {
            Self::Known { node } => Some(node),
            Self::SplitBrain { .. } | Self::Fenced { .. } | Self::Unknown => None,
        }
    }
}

/// One node of a [`RouterStatus`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NodeStatus {
    /// The node's name: `host:port`, or `host:port/database` if several nodes are behind one address.
    pub name: Arc<str>,
    /// The node's role; the role in the settings until it has reported one.
    pub role: Role,
    /// Whether the node serves calls, and if not why.
    pub condition: NodeCondition,
    /// Whether the node has been probed at least once, whatever the result; `true` if [probing is
    /// off](crate::RouterBuilder::probe_interval).
    pub is_asked: bool,
    /// How often the node has changed into something else, such as the primary.
    pub generation: u32,
    /// The system identifier of its cluster, once it has reported it.
    pub system_identifier: Option<u64>,
    /// Its timeline, once it has reported it.
    pub timeline: Option<u32>,
    /// The LSN it has replayed; for the primary, the LSN it has flushed.
    pub lsn: Option<Lsn>,
    /// Its replication lag behind the primary in bytes, as of the last probe of each.
    pub lag_bytes: Option<u64>,
    /// Its replication lag behind the primary as of the last probe. Replicas of an idle primary have no lag, and a
    /// replica that receives nothing lags only by what the primary has written since.
    pub lag: Option<Duration>,
    /// The upper bound on the age of its data: it contains everything that was acknowledged longer ago than this. It
    /// grows until the node and the primary are probed again.
    pub staleness: Option<Duration>,
    /// Whether it is connected to the node that it replicates from, if it reports that.
    pub is_receiving: Option<bool>,
    /// The number of calls that wait for one of its connections or use one.
    pub in_flight: u32,
    /// The maximum number of its connections; `None` if only the owner of the pool knows it.
    pub capacity: Option<u32>,
    /// The smoothed time from a call to its answer, if it has been measured.
    pub latency: Option<Duration>,
    /// Its weight among the replicas.
    pub weight: u32,
}

/// Whether a node serves calls, and if not why.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NodeCondition {
    /// The node serves calls.
    Serving,
    /// The node has just returned to service, and its share of the calls is still growing.
    SlowStart,
    /// The node is out of service.
    #[non_exhaustive]
    Ejected {
        /// The reason.
        cause: EjectionCause,
        /// The time since then.
        elapsed: Duration,
    },
    /// The node belongs to another cluster.
    Foreign,
    /// The node was added at run time and has not reported what it is yet: it gets no calls, only probes.
    Joining,
    /// The node takes writes but is not the primary: a newer one has replaced it, or another one is equally new.
    Fenced,
    /// The node lags more than eventual reads allow.
    Lagging,
    /// The node has not followed the last failover yet.
    OlderTimeline,
}

/// The reads that the primary takes over from the replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FallbackStatus {
    /// The policy in the settings.
    pub policy: Fallback,
    /// The number of such reads in flight.
    pub in_flight: u32,
    /// The maximum number of them at once; `None` without a limit.
    pub limit: Option<u32>,
    /// Whether the budget is exhausted: within the last second it has made a read wait or go elsewhere.
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
    /// What is known at `now`, while the nodes in `unasked` have not been probed yet.
    pub(in crate::router) fn status(&self, live: &Live, unasked: NodeSet, now: Duration) -> RouterStatus {
        let name =
            |node: usize| self.nodes.get(node).map_or_else(|| "?".into(), |node| Arc::clone(&node.config().name));
        let budget = live.budget();
        RouterStatus {
            primary: match self.table().writer {
                Writer::One(node) => PrimaryState::Known { node: name(node) },
                Writer::SplitBrain(one, other) => PrimaryState::SplitBrain { nodes: vec![name(one), name(other)] },
                Writer::Fenced(node) => PrimaryState::Fenced { node: name(node) },
                Writer::Nobody => PrimaryState::Unknown,
            },
            timeline: self.newest,
            is_starting: !unasked.is_empty(),
            nodes: {
                let there = self.nodes.iter().enumerate().filter(|(_, node)| node.is_there());
                there.map(|(index, node)| self.node(index, node, live, !unasked.contains(index), now)).collect()
            },
            // The core does not know them.
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
