//! The cluster: its nodes, and which of them is the primary.

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use futures_util::future::try_join_all;

use crate::{Result, testing::sealed::ClusterParts};

use super::{
    super::{
        members::Members,
        test_cluster::{TestCluster, TestNode},
    },
    builder::DockerClusterBuilder,
    engine::Engine,
    node::DockerNode,
    recipe::Recipe,
    remains::Remains,
};

/// For an engine on this machine.
const LOOPBACK: &str = "127.0.0.1";

/// A PostgreSQL primary with streaming replicas in containers, for tests: a [`TestCluster`] (feature `testcontainers`).
///
/// The nodes are containers of the official `postgres` image on their own network. The scripts in this crate's folder
/// `replication`, which `docker-compose.yml` uses too, set up the primary and the replicas. It needs a Docker engine,
/// at `DOCKER_HOST` or in the usual place, and no program. [`TestNode`] contains the operations of a node.
///
/// ```no_run
/// use mainstem::testing::{DockerCluster, TestCluster, TestNode};
///
/// # const _: &str = stringify!(
/// #[tokio::test]
/// # );
/// async fn the_application_survives_a_failover() -> mainstem::Result<()> {
///     if let Err(error) = DockerCluster::find_engine().await {
///         eprintln!("SKIPPED: {error}");
///         return Ok(());
///     }
///     let cluster = DockerCluster::builder().replicas(2).image("postgres:17").start().await?;
///     let database = cluster.database().await?;
///     // … give the application database.primary_url() and database.replica_urls() …
///     cluster.primary().kill().await?;
///     cluster.replica(0).promote().await
/// }
/// ```
///
/// # Image
///
/// `postgres:18`, unless the environment variable `MAINSTEM_POSTGRES_IMAGE` or [`DockerClusterBuilder::image`] names
/// another one, of PostgreSQL 15 or newer and with the official image's entrypoint. It is fetched if it is not present.
///
/// # Access
///
/// Each node has its own port and keeps it over restarts: on 127.0.0.1, unless the engine is on another machine or this
/// process is in a container itself; then it is on all addresses of the engine's machine. The user `mainstem` is a
/// superuser with a password that is generated for each cluster and is part of the URLs. Databases have the locale C
/// and the encoding UTF8.
///
/// # The end
///
/// When it is dropped, even by a panic, it removes its containers with their data and its network, and blocks the
/// thread until that is done, for a minute at most. If the cluster is in a `static`, or its process is killed, a small
/// shell process does the same, if the program `docker` is in `PATH`. Only if this shell is killed too does something
/// remain, with the label `mainstem.cluster`. With `TESTCONTAINERS_COMMAND=keep` in the environment, everything stays
/// for inspection.
///
/// # Runtimes
///
/// The cluster holds no task and no connection: each test may have its own tokio runtime, as with `#[tokio::test]`. The
/// runtime needs I/O and time enabled.
pub struct DockerCluster {
    nodes: Vec<DockerNode>,
    shared: Arc<Shared>,
    remains: Remains,
}

/// What the nodes know of each other.
pub(super) struct Shared {
    pub(super) engine: Engine,
    pub(super) recipe: Recipe,
    pub(super) start_limit: Duration,
    pub(super) members: Members,
    /// The host of the ports, known from the first container on.
    host: OnceLock<String>,
}

impl DockerCluster {
    /// Starts a cluster with one replica and default settings.
    ///
    /// # Errors
    ///
    /// As [`DockerClusterBuilder::start`].
    ///
    /// # Cancel safety
    ///
    /// As [`DockerClusterBuilder::start`].
    pub async fn start() -> Result<Self> {
        Self::builder().start().await
    }

    /// Returns a builder for a cluster with other settings.
    pub fn builder() -> DockerClusterBuilder {
        DockerClusterBuilder::default()
    }

    /// Checks whether there is a Docker engine, for tests that are skipped without one.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](crate::ErrorKind::Unavailable) if none answers within 10 seconds.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped.
    pub async fn find_engine() -> Result<()> {
        Engine::find().await.map(drop)
    }

    pub(super) fn new(shared: Shared, nodes: usize) -> Self {
        let shared = Arc::new(shared);
        // From here on, everything that is created is removed.
        let remains = Remains::of(&shared.recipe.cluster, &shared.recipe.network());
        let nodes = (0..nodes).map(|index| DockerNode::new(index, &shared)).collect();
        Self { nodes, shared, remains }
    }

    pub(super) async fn create(&mut self) -> Result<()> {
        let recipe = &self.shared.recipe;
        self.shared.engine.create_network(&recipe.network(), &recipe.cluster).await?;
        self.primary().create_as_primary().await?;
        let primary = self.primary().name();
        try_join_all(self.replicas().map(|replica| replica.create_as_replica_of(primary))).await?;
        self.wait_until_caught_up().await?;
        self.remains.are_settled = true;
        Ok(())
    }
}

impl TestCluster for DockerCluster {
    type Node = DockerNode;

    fn nodes(&self) -> &[DockerNode] {
        &self.nodes
    }
}

impl ClusterParts for DockerCluster {
    fn primary_index(&self) -> usize {
        self.shared.members.primary()
    }

    fn next_database_number(&self) -> u64 {
        self.shared.members.next_database_number()
    }
}

impl fmt::Debug for DockerCluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DockerCluster")
            .field("nodes", &self.nodes)
            .field("image", &self.shared.recipe.image.to_string())
            .finish_non_exhaustive()
    }
}

impl Shared {
    pub(super) fn new(engine: Engine, recipe: Recipe, start_limit: Duration, nodes: usize) -> Self {
        Self { engine, recipe, start_limit, members: Members::new(nodes), host: OnceLock::new() }
    }

    pub(super) fn host(&self) -> &str {
        self.host.get().map_or(LOOPBACK, String::as_str)
    }

    pub(super) fn set_host(&self, host: String) {
        // As a number: this avoids resolving the name again for each connection, and the ports are published for IPv4.
        self.host.get_or_init(|| if host == "localhost" { LOOPBACK.to_owned() } else { host });
    }

    pub(super) fn url(&self, port: u16, database: &str) -> String {
        self.url_at(self.host(), port, database)
    }

    pub(super) fn url_at(&self, host: &str, port: u16, database: &str) -> String {
        // The servers have no certificates, and on another machine the router would require them.
        let plain = if host == LOOPBACK { "" } else { "?sslmode=disable" };
        format!("postgres://mainstem:{}@{host}:{port}/{database}{plain}", self.recipe.password)
    }
}
