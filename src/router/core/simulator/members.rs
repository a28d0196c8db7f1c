//! Changes of the list of nodes.

use super::{
    client::{CAPACITY, Client, settings},
    duration,
    world::Time,
};

impl Client {
    /// A node leaves the list, or comes back to it: then it is another server at that place, once nothing has to do
    /// with the former one. Returns which node was added.
    pub(super) fn change_list(&mut self, node: usize, now: Time) -> Option<usize> {
        if node == 0 {
            return None;
        }
        if self.there[node] {
            let told_at = self.tell(now);
            if self.cluster.remove(node, duration(told_at)) {
                self.there[node] = false;
                self.oracle.removed(node);
                self.tally.left += 1;
            }
            return None;
        }
        if self.calls.iter().any(|call| call.route.node == node) || self.probes[node].is_some() {
            return None;
        }
        self.cluster.release(node);
        let told_at = self.tell(now);
        let added = self.cluster.add(settings(node), duration(told_at))?;
        while self.cluster.next_wish().is_some() {}
        self.live.node(added).start_anew(Some(CAPACITY));
        (self.there[added], self.connected[added]) = (true, None);
        self.oracle.added(added);
        self.tally.joined += 1;
        Some(added)
    }

    /// Puts all nodes on the list again, as soon as that is possible.
    pub(super) fn complete_list(&mut self, now: Time) {
        for node in 0..self.there.len() {
            if !self.there[node] {
                self.change_list(node, now);
            }
        }
    }
}
