//! Nodes that come and go.
//!
//! A node is known by its index, everywhere. So the place of one that has left stays empty until nobody holds anything of it
//! any more, and only then belongs to another one: what is told late of the old one is never taken for the new one's.

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
    /// It was added, and has not yet said what it is: nobody is sent there.
    Joining,
    Present,
    /// It has left, and calls are under way on it.
    Leaving,
    /// The place is free.
    Vacant,
}

impl Cluster {
    /// Adds a replica, which serves once it has said that it is one of this cluster. Its index, if there is a free one.
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

    /// Takes a node out. Whether it has gone: while it is known to take writes, and under no other address, it stays. Who
    /// leaves it out of a list does not stop it, and to forget a primary would be to let another one lose its writes.
    ///
    /// What it has told of the cluster stays: a fence that goes with the node is none.
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

    /// Nobody holds anything of this node any more, which has left.
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
