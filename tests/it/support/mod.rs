//! What the tests share: one cluster for all that do not hurt it.

use mainstem::testing::{LocalCluster, TestDatabase};
use tokio::sync::OnceCell;

/// A primary and two replicas, started by the first test that asks. It ends with the process.
pub(crate) async fn cluster() -> &'static LocalCluster {
    static CLUSTER: OnceCell<LocalCluster> = OnceCell::const_new();
    CLUSTER.get_or_init(async || started(LocalCluster::builder().replicas(2)).await).await
}

/// A database of the shared cluster, for one test.
pub(crate) async fn database() -> TestDatabase<'static> {
    cluster().await.database().await.expect("a database")
}

/// Starts a cluster and says how long that took.
pub(crate) async fn started(builder: mainstem::testing::ClusterBuilder) -> LocalCluster {
    let start = std::time::Instant::now();
    let cluster =
        builder.start().await.unwrap_or_else(|error| panic!("no cluster: {}", error.report()));
    let (version, nodes) = (cluster.programs().version(), cluster.nodes().len());
    eprintln!("PostgreSQL {version}, {nodes} nodes: started in {:?}", start.elapsed());
    cluster
}
