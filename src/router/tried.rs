//! Which nodes a call has asked.

use super::core::NodeSet;

/// The nodes that a call has asked already, so that it asks each of them once. A word, and no allocation.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tried {
    nodes: NodeSet,
    last: Option<usize>,
}

impl Tried {
    pub(super) fn nodes(&self) -> NodeSet {
        self.nodes
    }

    pub(super) fn push(&mut self, node: usize) {
        self.nodes.insert(node);
        self.last = Some(node);
    }

    /// For a call that got something from the last one: all the others may be asked again.
    pub(crate) fn keep_last(&mut self) {
        self.nodes = self.last.map_or(NodeSet::EMPTY, NodeSet::one);
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
}
