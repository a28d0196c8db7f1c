//! The changes of the cluster that watchers are told about: everything except measurements.

use std::{sync::Arc, time::Duration};

use super::{
    Role, cluster::Cluster, election::Writer, live::Live, node::NodeState, set::NodeSet, status::NodeCondition,
};

/// The cluster without measurements: watchers are notified when two of these differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::router) struct Outline {
    pub(in crate::router) writer: Writer,
    pub(in crate::router) timeline: Option<u32>,
    /// The present nodes.
    pub(in crate::router) nodes: Vec<NodeOutline>,
    pub(in crate::router) is_budget_spent: bool,
    /// The nodes that have not been probed yet.
    pub(in crate::router) unasked: NodeSet,
    /// Whether names are still to be resolved, which the core does not know.
    pub(in crate::router) is_looking: bool,
}

/// One node in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::router) struct NodeOutline {
    pub(in crate::router) index: usize,
    pub(in crate::router) name: Arc<str>,
    pub(in crate::router) role: Role,
    generation: u32,
    system: Option<u64>,
    timeline: Option<u32>,
    /// Without its duration.
    pub(in crate::router) condition: NodeCondition,
}

impl Cluster {
    /// The outline at `now`.
    pub(in crate::router) fn outline(&self, live: &Live, unasked: NodeSet, now: Duration) -> Outline {
        Outline {
            writer: self.table().writer,
            timeline: self.newest,
            nodes: {
                let there = self.nodes.iter().enumerate().filter(|(_, node)| node.is_there());
                there.map(|(index, node)| self.node_outline(index, node, now)).collect()
            },
            is_budget_spent: live.budget().is_spent(now),
            unasked,
            is_looking: false,
        }
    }

    fn node_outline(&self, index: usize, node: &NodeState, now: Duration) -> NodeOutline {
        let condition = match self.condition(index, node, now) {
            NodeCondition::Ejected { cause, .. } => NodeCondition::Ejected { cause, elapsed: Duration::ZERO },
            condition => condition,
        };
        NodeOutline {
            index,
            name: Arc::clone(&node.config().name),
            role: node.role(),
            generation: node.generation(),
            system: node.system(),
            timeline: node.timeline(),
            condition,
        }
    }
}
