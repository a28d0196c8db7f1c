//! What only this crate needs of a cluster and its nodes. Since nobody else can implement the public traits, they can
//! grow.

use std::future::Future;

/// Of a cluster.
#[expect(unnameable_types, reason = "it is sealed")]
pub trait ClusterParts {
    /// The index of the primary among the nodes.
    #[doc(hidden)]
    fn primary_index(&self) -> usize;

    /// Counts from 1.
    #[doc(hidden)]
    fn next_database_number(&self) -> u64;
}

/// Of a node.
#[expect(unnameable_types, reason = "it is sealed")]
pub trait NodeParts {
    /// The URL of a database at a port of 127.0.0.1.
    #[doc(hidden)]
    fn url_at(&self, port: u16, database: &str) -> String;

    /// Whether it runs and is not frozen.
    #[doc(hidden)]
    fn is_at_work(&self) -> impl Future<Output = bool> + Send;
}
