//! Nodes that come and go.
//!
//! Everywhere, a node is identified by its index. The place of a node that has left therefore stays empty until nothing
//! holds it any more, and only then goes to another node: late reports about the old node are never attributed to the
//! new one.

use std::time::Duration;

use super::{
    Role,
    cluster::Cluster,
    node::{NodeConfig, NodeState},
    set::MOST_NODES,
};

/// Whether a node is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    /// It was added and has not reported what it is yet: it gets no calls.
    Joining,
    Present,
    /// It has left, and calls to it are in flight.
    Leaving,
    /// The place is free.
    Vacant,
}

impl Cluster {
    /// Adds a replica, which serves once it has reported that it belongs to this cluster. Returns its index, if there
    /// is a free one.
    pub(in crate::router) fn add(&mut self, config: NodeConfig, now: Duration) -> Option<usize> {
        self.now = self.now.max(now);
        let node = NodeState::joining(config);
        let vacant = self.nodes.iter().position(|node| node.presence() == Presence::Vacant);
        let index = match vacant {
            Some(index) => {
                self.nodes[index] = node;
                index
            }
            None if self.nodes.len() < MOST_NODES => {
                self.nodes.push(node);
                self.nodes.len() - 1
            }
            None => return None,
        };
        self.wish_probe(index);
        self.rebuild();
        Some(index)
    }

    /// Removes a node. Returns whether it is gone: it stays while it is known to take writes under no other address.
    /// Leaving it out of a list does not stop it, and forgetting a primary would let another one lose its writes.
    ///
    /// What it has reported about the cluster stays: a fence that disappeared with the node would be useless.
    pub(in crate::router) fn remove(&mut self, index: usize, now: Duration) -> bool {
        self.now = self.now.max(now);
        if self.is_needed(index) && !flawed!(RemoveWriter) {
            return false;
        }
        let Some(node) = self.nodes.get_mut(index).filter(|node| node.is_there()) else { return false };
        node.leave();
        self.rebuild();
        true
    }

    /// Nothing holds this node any more, which has left.
    pub(in crate::router) fn release(&mut self, index: usize) {
        if let Some(node) = self.nodes.get_mut(index).filter(|node| node.presence() == Presence::Leaving) {
            node.vacate();
        }
    }

    fn is_needed(&self, index: usize) -> bool {
        let Some(node) = self.nodes.get(index) else { return false };
        let may_lead = node.is_member()
            && node.role() == Role::Primary
            && (node.timeline().is_none() || node.timeline() == self.newest);
        let mut others = self.nodes.iter().enumerate().filter(|(other, _)| *other != index);
        may_lead && !others.any(|(_, other)| other.is_member() && other.is_same_server(node))
    }
}
