//! What a cluster remembers about its nodes: their ports, and which of them is the primary.

use std::sync::atomic::{AtomicU16, AtomicU64, AtomicUsize, Ordering};

/// The nodes by their index, from 0. The first primary is node 0.
pub(super) struct Members {
    ports: Vec<AtomicU16>,
    primary: AtomicUsize,
    databases: AtomicU64,
}

impl Members {
    pub(super) fn new(nodes: usize) -> Self {
        Self {
            ports: (0..nodes).map(|_| AtomicU16::new(0)).collect(),
            primary: AtomicUsize::new(0),
            databases: AtomicU64::new(0),
        }
    }

    /// 0 until the node has one.
    pub(super) fn port(&self, node: usize) -> u16 {
        self.ports[node].load(Ordering::SeqCst)
    }

    pub(super) fn set_port(&self, node: usize, port: u16) {
        self.ports[node].store(port, Ordering::SeqCst);
    }

    pub(super) fn primary(&self) -> usize {
        self.primary.load(Ordering::SeqCst)
    }

    pub(super) fn primary_port(&self) -> u16 {
        self.port(self.primary())
    }

    pub(super) fn set_primary(&self, node: usize) {
        self.primary.store(node, Ordering::SeqCst);
    }

    /// The number of a new database, from 1.
    pub(super) fn next_database_number(&self) -> u64 {
        self.databases.fetch_add(1, Ordering::SeqCst) + 1
    }
}
