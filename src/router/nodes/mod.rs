//! The router's nodes by their index, as they come and go.
//!
//! | file | what it holds |
//! |---|---|
//! | `node`, `factory` | a node, and how it is created |
//! | `discovery` | where nodes are found |
//! | `probe` | one task per node that asks for its state |

pub(in crate::router) mod discovery;
pub(in crate::router) mod factory;
pub(in crate::router) mod node;
pub(in crate::router) mod probe;

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

use self::node::Node;

/// A slot for each index; the primary of the settings is the first, and stays.
#[derive(Debug)]
pub(in crate::router) struct Nodes {
    places: ArcSwap<Vec<Option<Arc<Node>>>>,
    changing: Mutex<()>,
}

impl Nodes {
    pub(in crate::router) fn new(nodes: Vec<Arc<Node>>) -> Self {
        let places = nodes.into_iter().map(Some).collect();
        Self { places: ArcSwap::from_pointee(places), changing: Mutex::new(()) }
    }

    pub(in crate::router) fn get(&self, index: usize) -> Option<Arc<Node>> {
        self.places.load().get(index)?.clone()
    }

    /// For messages.
    pub(in crate::router) fn name(&self, index: usize) -> Arc<str> {
        self.get(index).map_or_else(|| "a node that has left".into(), |node| Arc::clone(node.name()))
    }

    /// The present nodes, in the order of their indices.
    pub(in crate::router) fn all(&self) -> Vec<Arc<Node>> {
        self.places.load().iter().flatten().cloned().collect()
    }

    /// Puts a node into its slot, which is free.
    pub(in crate::router) fn put(&self, node: &Arc<Node>) {
        self.change(node.handle().index(), Some(Arc::clone(node)));
    }

    pub(in crate::router) fn take(&self, index: usize) {
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
