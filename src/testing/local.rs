//! `LocalCluster` and its nodes as implementations of the traits of all test clusters.

use std::time::Duration;

use crate::Result;

use super::{
    cluster::LocalCluster,
    node::Node,
    proxy::FaultProxy,
    roles::Rejoined,
    sealed::{ClusterParts, NodeParts},
    test_cluster::{TestCluster, TestNode},
};

impl TestCluster for LocalCluster {
    type Node = Node;

    fn nodes(&self) -> &[Node] {
        Self::nodes(self)
    }
}

impl ClusterParts for LocalCluster {
    fn primary_index(&self) -> usize {
        self.shared.members.primary()
    }

    fn next_database_number(&self) -> u64 {
        self.shared.members.next_database_number()
    }
}

// In here, `Self::start` is the method of the type itself, not that of the trait.
impl TestNode for Node {
    fn name(&self) -> &str {
        Self::name(self)
    }

    fn port(&self) -> u16 {
        Self::port(self)
    }

    fn url_for(&self, database: &str) -> String {
        Self::url_for(self, database)
    }

    fn proxy(&self) -> Result<FaultProxy> {
        Self::proxy(self)
    }

    async fn start(&self) -> Result<()> {
        Self::start(self).await
    }

    async fn stop(&self) -> Result<()> {
        Self::stop(self).await
    }

    async fn kill(&self) -> Result<()> {
        Self::kill(self).await
    }

    async fn freeze(&self) -> Result<()> {
        Self::freeze(self).await
    }

    async fn thaw(&self) -> Result<()> {
        Self::thaw(self).await
    }

    async fn pause_replay(&self) -> Result<()> {
        Self::pause_replay(self).await
    }

    async fn resume_replay(&self) -> Result<()> {
        Self::resume_replay(self).await
    }

    async fn delay_replay(&self, delay: Duration) -> Result<()> {
        Self::delay_replay(self, delay).await
    }

    async fn promote(&self) -> Result<()> {
        Self::promote(self).await
    }

    async fn rejoin(&self) -> Result<Rejoined> {
        Self::rejoin(self).await
    }
}

impl NodeParts for Node {
    fn url_at(&self, port: u16, database: &str) -> String {
        self.shared.url(database, port)
    }

    async fn is_at_work(&self) -> bool {
        self.is_running() && !self.is_frozen()
    }
}
