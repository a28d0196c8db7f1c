//! The cluster: its nodes, which of them is the primary, and its end.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use futures_util::future::try_join_all;

use crate::Result;

use super::{
    builder::ClusterBuilder, database::TestDatabase, members::Members, node::Node, programs::Programs,
    server::Environment, settings::Settings, test_cluster::TestCluster, watchdog::Watchdog,
};

/// A PostgreSQL primary with streaming replicas on this machine, for tests.
///
/// See the [module](super) for how to use it. Dropping it ends its servers and removes its folder, which takes about a
/// tenth of a second and blocks the thread. It may also live in a `static`: a small shell process notices when the test
/// process is gone, for whatever reason, and does the same.
pub struct LocalCluster {
    nodes: Vec<Node>,
    pub(super) shared: Arc<Shared>,
    watchdog: Watchdog,
}

/// What the nodes know of each other.
pub(super) struct Shared {
    pub(super) folder: PathBuf,
    pub(super) environment: Environment,
    pub(super) settings: Settings,
    pub(super) members: Members,
}

impl Shared {
    pub(super) fn new(folder: PathBuf, environment: Environment, settings: Settings, nodes: usize) -> Self {
        Self { folder, environment, settings, members: Members::new(nodes) }
    }

    pub(super) fn primary_data_folder(&self) -> PathBuf {
        self.folder.join(Node::name_of(self.members.primary())).join("data")
    }

    pub(super) fn primary_url(&self) -> String {
        self.url("postgres", self.members.primary_port())
    }

    pub(super) fn url(&self, database: &str, port: u16) -> String {
        format!("postgres://mainstem:{}@127.0.0.1:{port}/{database}", self.environment.password)
    }
}

impl LocalCluster {
    /// Starts a cluster with one replica and default settings.
    ///
    /// # Errors
    ///
    /// As [`ClusterBuilder::start`].
    ///
    /// # Cancel safety
    ///
    /// As [`ClusterBuilder::start`].
    pub async fn start() -> Result<Self> {
        Self::builder().start().await
    }

    /// Returns a builder for a cluster with other settings.
    pub fn builder() -> ClusterBuilder {
        ClusterBuilder::default()
    }

    pub(super) fn new(shared: Shared, watchdog: Watchdog, nodes: usize) -> Self {
        let shared = Arc::new(shared);
        Self { nodes: (0..nodes).map(|index| Node::new(index, &shared)).collect(), shared, watchdog }
    }

    pub(super) async fn create(&self, saved: Option<&Path>) -> Result<()> {
        let primary = self.primary();
        match saved {
            Some(saved) => primary.copy_saved(saved).await?,
            None => primary.initdb().await?,
        }
        try_join_all(self.replicas().map(Node::copy_primary)).await?;
        primary.launch().await?;
        try_join_all(self.replicas().map(async |replica| {
            replica.create_slot().await?;
            replica.follow()?;
            replica.launch().await
        }))
        .await?;
        self.wait_until_caught_up().await
    }

    /// Returns the present primary: the node that was [promoted](Node::promote) last, at first `node_1`.
    ///
    /// The cluster remembers it rather than asking, so there is an answer even while it is stopped, and while an old
    /// primary runs beside it. A promotion by other means than [`Node::promote`] goes unnoticed.
    #[must_use]
    pub fn primary(&self) -> &Node {
        TestCluster::primary(self)
    }

    /// Returns all nodes except the [primary](Self::primary), in the order of their names: the replicas, and after a
    /// promotion the old primary.
    pub fn replicas(&self) -> impl Iterator<Item = &Node> {
        TestCluster::replicas(self)
    }

    /// Returns one of the [replicas](Self::replicas), from 0. After a promotion the same number may mean another node:
    /// keep the `&Node` that you have.
    ///
    /// # Panics
    ///
    /// If the cluster has no such replica.
    #[must_use]
    pub fn replica(&self, index: usize) -> &Node {
        TestCluster::replica(self, index)
    }

    /// Returns all nodes, in the order of their names.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Returns the programs that its servers run.
    #[must_use]
    pub fn programs(&self) -> &Programs {
        &self.shared.environment.programs
    }

    /// Returns the temporary folder with everything that belongs to the cluster.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.shared.folder
    }

    /// Waits as [`wait_until_caught_up_within`](Self::wait_until_caught_up_within) does, for up to 30 seconds.
    ///
    /// # Errors
    ///
    /// As that.
    ///
    /// # Cancel safety
    ///
    /// As that.
    pub async fn wait_until_caught_up(&self) -> Result<()> {
        TestCluster::wait_until_caught_up(self).await
    }

    /// Waits until every running replica has applied everything that was committed on the primary before this call.
    ///
    /// Frozen nodes and an old primary that still acts as one are ignored. The call writes a small record to the
    /// primary's log, because the end of a record is the only position that a replica is certain to reach.
    ///
    /// # Errors
    ///
    /// [`Timeout`](crate::ErrorKind::Timeout) after the limit, with the position of each node, for instance if a
    /// replica's replay is paused. [`Unavailable`](crate::ErrorKind::Unavailable) if a node does not answer.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped.
    pub async fn wait_until_caught_up_within(&self, limit: Duration) -> Result<()> {
        TestCluster::wait_until_caught_up_within(self, limit).await
    }

    /// Creates an empty database for one test, which already exists on the running replicas when this returns.
    ///
    /// # Errors
    ///
    /// As [`wait_until_caught_up`](Self::wait_until_caught_up), and if the primary cannot create it.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped, the database may exist until the end of the cluster.
    pub async fn database(&self) -> Result<TestDatabase<'_>> {
        TestCluster::database(self).await
    }
}

impl Drop for LocalCluster {
    fn drop(&mut self) {
        let finished = self.watchdog.finish();
        self.nodes.iter().for_each(Node::end);
        if let Err(error) = finished.and_then(|()| self.watchdog.remove_folder()) {
            tracing::warn!(folder = %self.folder().display(), %error, "could not clean up after a test cluster");
        }
    }
}

impl fmt::Debug for LocalCluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalCluster")
            .field("nodes", &self.nodes)
            .field("folder", &self.folder())
            .finish_non_exhaustive()
    }
}
