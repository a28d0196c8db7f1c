//! Which nodes a call has asked.

use tokio::time::Instant;

use super::{
    Deadline,
    core::{Asked, NodeSet},
    guard::Guard,
};

/// The nodes that a call has asked already, so that it asks each of them once. A word, and no allocation.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tried {
    nodes: NodeSet,
    last: Option<usize>,
    /// The replicas that only have not got so far.
    behind: NodeSet,
    /// Whether one of these says a place that is far enough.
    by_more_than_place: bool,
    /// Until when these are waited for.
    wait_until: Option<Instant>,
    /// How often they were asked again.
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

    /// What the core is to know of it. Without a floor nobody is behind.
    pub(super) fn asked(&self, has_floor: bool) -> Asked {
        let may_wait = self.wait_until.is_none_or(|until| Instant::now() < until);
        Asked { tried: self.nodes, behind: self.behind, may_wait, has_floor }
    }

    pub(super) fn behind(&self) -> NodeSet {
        self.behind
    }

    /// The last one has not got as far as the call needs, perhaps although its place says so.
    fn last_is_behind(&mut self, is_behind_its_place: bool) {
        self.by_more_than_place |= is_behind_its_place;
        self.behind = self.behind | self.last.map_or(NodeSet::EMPTY, NodeSet::one);
    }

    /// The last one could not serve, as its guard says for want of what has to be there, or for another reason.
    pub(super) fn last_has_failed(&mut self, guard: Option<&Guard>) {
        match guard.filter(|guard| guard.is_behind()) {
            Some(guard) => self.last_is_behind(guard.is_behind_its_place()),
            None => self.give_up_last(),
        }
    }

    /// The last one could not serve, whether or not it has got so far: it is not waited for any more.
    pub(super) fn give_up_last(&mut self) {
        self.behind = self.behind - self.last.map_or(NodeSet::EMPTY, NodeSet::one);
    }

    /// Whether places don't tell who has got as far as the call needs: who is asked has to look, and not too often.
    pub(super) fn places_tell_nothing(&self) -> bool {
        self.by_more_than_place
    }

    /// Those who were behind may be asked again.
    pub(super) fn ask_again(&mut self) {
        self.nodes = self.nodes - self.behind;
        self.behind = NodeSet::EMPTY;
        self.again += 1;
    }

    /// The pause before that: twice as long each time, since each of those who wait asks for himself.
    pub(super) fn pause(&self) -> std::time::Duration {
        std::time::Duration::from_millis(5) * (1 << self.again.min(5))
    }

    /// Until when those who are behind are waited for: so long from the first time on.
    pub(super) fn wait_until(&mut self, deadline: Deadline, limit: std::time::Duration) -> Instant {
        *self.wait_until.get_or_insert_with(|| deadline.or_within(limit))
    }

    /// For a call that got something from the last one: all the others may be asked again.
    pub(crate) fn keep_last(&mut self) {
        let nodes = self.last.map_or(NodeSet::EMPTY, NodeSet::one);
        *self = Self { nodes, last: self.last, ..Self::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_those_that_were_asked_the_last_one_may_be_kept() {
        let mut tried = Tried::default();
        tried.keep_last();
        assert!(tried.nodes().is_empty());
        [3, 0, 5].into_iter().for_each(|node| tried.push(node));
        assert_eq!(tried.nodes(), [0, 3, 5].into_iter().collect());
        tried.keep_last();
        assert_eq!(tried.nodes(), NodeSet::one(5));
    }

    #[test]
    fn who_has_got_something_waits_the_next_time_as_the_first_time() {
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
    fn who_fails_otherwise_is_not_waited_for_although_it_was_behind() {
        let mut tried = Tried::default();
        tried.push(1);
        tried.last_is_behind(false);
        assert_eq!(tried.behind(), NodeSet::one(1));
        tried.push(1);
        tried.give_up_last();
        assert_eq!((tried.nodes(), tried.behind()), (NodeSet::one(1), NodeSet::EMPTY));
    }
}
