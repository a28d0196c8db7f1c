//! The router's nodes by their index, as they come and go.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

use super::node::Node;

/// A slot for each index; the primary of the settings is the first, and stays.
#[derive(Debug)]
pub(super) struct Nodes {
    places: ArcSwap<Vec<Option<Arc<Node>>>>,
    changing: Mutex<()>,
}

impl Nodes {
    pub(super) fn new(nodes: Vec<Arc<Node>>) -> Self {
        let places = nodes.into_iter().map(Some).collect();
        Self { places: ArcSwap::from_pointee(places), changing: Mutex::new(()) }
    }

    pub(super) fn get(&self, index: usize) -> Option<Arc<Node>> {
        self.places.load().get(index)?.clone()
    }

    /// For messages.
    pub(super) fn name(&self, index: usize) -> Arc<str> {
        self.get(index).map_or_else(|| "a node that has left".into(), |node| Arc::clone(node.name()))
    }

    /// The present nodes, in the order of their indices.
    pub(super) fn all(&self) -> Vec<Arc<Node>> {
        self.places.load().iter().flatten().cloned().collect()
    }

    /// Puts a node into its slot, which is free.
    pub(super) fn put(&self, node: &Arc<Node>) {
        self.change(node.handle().index(), Some(Arc::clone(node)));
    }

    pub(super) fn take(&self, index: usize) {
        self.change(index, None);
    }

    fn change(&self, index: usize, node: Option<Arc<Node>>) {
        let _one_at_a_time = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut places = Vec::clone(&self.places.load());
        if places.len() <= index {
            places.resize(index + 1, None);
        }
        places[index] = node;
        self.places.store(Arc::new(places));
    }
}
