//! The nodes that a call has tried.

use tokio::time::Instant;

use super::{
    Deadline,
    core::{Asked, NodeSet},
    freshness::guard::Guard,
};

/// The nodes that a call has already tried, so that it tries each of them once. A word, without allocation.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tried {
    nodes: NodeSet,
    last: Option<usize>,
    /// The replicas that only have not replayed far enough.
    behind: NodeSet,
    /// Whether one of these is far enough by its place.
    by_more_than_place: bool,
    /// Until when the call waits for these.
    wait_until: Option<Instant>,
    /// How often they were tried again.
    again: u32,
}

impl Tried {
    pub(super) fn nodes(&self) -> NodeSet {
        self.nodes
    }

    pub(super) fn push(&mut self, node: usize) {
        self.nodes.insert(node);
        self.last = Some(node);
    }

    /// What the core has to know about it. Without a floor no node is behind.
    pub(super) fn asked(&self, has_floor: bool) -> Asked {
        let may_wait = self.wait_until.is_none_or(|until| Instant::now() < until);
        Asked { tried: self.nodes, behind: self.behind, may_wait, has_floor }
    }

    pub(super) fn behind(&self) -> NodeSet {
        self.behind
    }

    /// The last node has not replayed as far as the call needs, perhaps although its place says so.
    fn last_is_behind(&mut self, is_behind_its_place: bool) {
        self.by_more_than_place |= is_behind_its_place;
        self.behind = self.behind | self.last.map_or(NodeSet::EMPTY, NodeSet::one);
    }

    /// The last node could not serve: by its guard, because something is missing, or for another reason.
    pub(crate) fn last_has_failed(&mut self, guard: Option<&Guard>) {
        match guard.filter(|guard| guard.is_behind()) {
            Some(guard) => self.last_is_behind(guard.is_behind_its_place()),
            None => self.give_up_last(),
        }
    }

    /// The last node could not serve, whether or not it is far enough: the call no longer waits for it.
    pub(super) fn give_up_last(&mut self) {
        self.behind = self.behind - self.last.map_or(NodeSet::EMPTY, NodeSet::one);
    }

    /// Whether places do not reveal which nodes are far enough: a node that is asked has to check, and not too often.
    pub(super) fn places_tell_nothing(&self) -> bool {
        self.by_more_than_place
    }

    /// The lagging nodes may be tried again.
    pub(super) fn ask_again(&mut self) {
        self.nodes = self.nodes - self.behind;
        self.behind = NodeSet::EMPTY;
        self.again += 1;
    }

    /// The pause before that: it doubles each time, since each waiting call asks separately.
    pub(super) fn pause(&self) -> std::time::Duration {
        std::time::Duration::from_millis(5) * (1 << self.again.min(5))
    }

    /// Until when the call waits for lagging nodes: this long, counted from the first time.
    pub(super) fn wait_until(&mut self, deadline: Deadline, limit: std::time::Duration) -> Instant {
        *self.wait_until.get_or_insert_with(|| deadline.or_within(limit))
    }

    /// For a call that got something from the last node: all others may be tried again.
    pub(crate) fn keep_last(&mut self) {
        let nodes = self.last.map_or(NodeSet::EMPTY, NodeSet::one);
        *self = Self { nodes, last: self.last, ..Self::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keep_last_forgets_all_tried_nodes_but_the_last() {
        let mut tried = Tried::default();
        tried.keep_last();
        assert!(tried.nodes().is_empty());
        [3, 0, 5].into_iter().for_each(|node| tried.push(node));
        assert_eq!(tried.nodes(), [0, 3, 5].into_iter().collect());
        tried.keep_last();
        assert_eq!(tried.nodes(), NodeSet::one(5));
    }

    #[test]
    fn keep_last_resets_the_wait_for_lagging_nodes() {
        let mut tried = Tried::default();
        tried.push(1);
        tried.last_is_behind(true);
        tried.wait_until(Deadline::after(std::time::Duration::ZERO), std::time::Duration::ZERO);
        tried.ask_again();
        assert!(!tried.asked(true).may_wait && tried.places_tell_nothing());
        tried.keep_last();
        assert!(tried.asked(true).may_wait && !tried.places_tell_nothing());
        assert_eq!(tried.pause(), Tried::default().pause());
    }

    #[test]
    fn a_lagging_node_that_fails_otherwise_is_no_longer_waited_for() {
        let mut tried = Tried::default();
        tried.push(1);
        tried.last_is_behind(false);
        assert_eq!(tried.behind(), NodeSet::one(1));
        tried.push(1);
        tried.give_up_last();
        assert_eq!((tried.nodes(), tried.behind()), (NodeSet::one(1), NodeSet::EMPTY));
    }
}
