//! A database for one test.

use crate::Result;

use super::{
    cluster::LocalCluster,
    proxy::FaultProxy,
    sealed::NodeParts,
    sql,
    test_cluster::{TestCluster, TestNode},
};

/// A database of a [`TestCluster`] for one test alone, from [`TestCluster::database`].
///
/// It exists until the end of the cluster, unless [`drop`](Self::drop) is called.
#[derive(Debug)]
pub struct TestDatabase<'a, C: TestCluster = LocalCluster> {
    cluster: &'a C,
    name: String,
}

impl<'a, C: TestCluster> TestDatabase<'a, C> {
    pub(super) async fn create(cluster: &'a C) -> Result<Self> {
        let primary = cluster.primary();
        let name = loop {
            let name = format!("test_{}", cluster.next_database_number());
            // Data that a cluster begins with may have some.
            let is_free = format!("SELECT count(*) = 0 FROM pg_database WHERE datname = '{name}'");
            if sql::ask_bool(&primary.url(), primary.name(), &is_free).await? {
                break name;
            }
        };
        sql::ask(&primary.url(), primary.name(), &format!("CREATE DATABASE {name}")).await?;
        cluster.wait_until_caught_up().await?;
        Ok(Self { cluster, name })
    }

    /// Returns its name: `test_1` and so on.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns its URL on the present primary.
    #[must_use]
    pub fn primary_url(&self) -> String {
        self.cluster.primary().url_for(&self.name)
    }

    /// Returns its URLs on the other nodes, in the order of [`TestCluster::replicas`].
    #[must_use]
    pub fn replica_urls(&self) -> Vec<String> {
        self.cluster.replicas().map(|node| node.url_for(&self.name)).collect()
    }

    /// Returns its URL through a [proxy](TestNode::proxy) in front of a node of this cluster.
    #[must_use]
    pub fn url_through(&self, proxy: &FaultProxy) -> String {
        self.cluster.primary().url_at(proxy.port(), &self.name)
    }

    /// Drops the database, and ends the sessions that use it, including those on replicas.
    ///
    /// # Errors
    ///
    /// If the primary does not answer.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped, the database may remain.
    pub async fn drop(self) -> Result<()> {
        let primary = self.cluster.primary();
        let statement = format!("DROP DATABASE {} WITH (FORCE)", self.name);
        sql::ask(&primary.url(), primary.name(), &statement).await.map(drop)
    }
}
