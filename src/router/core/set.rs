//! A set of nodes.

use std::ops::{BitAnd, BitOr, Sub};

/// The most nodes that a router can have: as many as a word has bits.
pub(in crate::router) const MOST_NODES: usize = 64;

/// A set of nodes, by their index. One word, so that a decision can build any number of them without an allocation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::router) struct NodeSet(u64);

impl NodeSet {
    pub(in crate::router) const EMPTY: Self = Self(0);

    pub(in crate::router) fn one(node: usize) -> Self {
        Self(1_u64.checked_shl(node as u32).unwrap_or(0))
    }

    pub(in crate::router) fn contains(self, node: usize) -> bool {
        !(self & Self::one(node)).is_empty()
    }

    pub(in crate::router) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(in crate::router) fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    pub(in crate::router) fn first(self) -> Option<usize> {
        (self.0 != 0).then(|| self.0.trailing_zeros() as usize)
    }

    pub(in crate::router) fn insert(&mut self, node: usize) {
        *self = *self | Self::one(node);
    }

    pub(in crate::router) fn filter(self, mut keep: impl FnMut(usize) -> bool) -> Self {
        let mut kept = Self::EMPTY;
        for node in self {
            if keep(node) {
                kept.insert(node);
            }
        }
        kept
    }
}

impl BitAnd for NodeSet {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl BitOr for NodeSet {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl Sub for NodeSet {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl FromIterator<usize> for NodeSet {
    fn from_iter<I: IntoIterator<Item = usize>>(nodes: I) -> Self {
        nodes.into_iter().fold(Self::EMPTY, |set, node| set | Self::one(node))
    }
}

/// In the order of the indices. Each step removes the first one.
impl Iterator for NodeSet {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let first = self.first()?;
        self.0 &= self.0 - 1;
        Some(first)
    }
}
