//! The tests that need a Docker engine. They are a separate target, since building it takes five times as long as the
//! rest. `scripts/test-docker` runs it. Without an engine the tests are skipped, and say so.
#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in the functions that tests share")]

mod end;
mod refusals;
#[path = "../replicated/mod.rs"]
mod replicated;

use std::sync::Once;

use mainstem::testing::{DockerCluster, DockerClusterBuilder, TestCluster};
use tokio::sync::{OnceCell, Semaphore};

use replicated::{Clusters, replicated_tests};

/// How many tests may have their own cluster at the same time: more would make each start slower than it may be.
static OWN: Semaphore = Semaphore::const_new(2);

/// A cluster, and the permit to have it.
struct Docker;

impl Clusters for Docker {
    type Cluster = DockerCluster;

    async fn are_possible() -> bool {
        engine_answers().await
    }

    async fn shared() -> &'static DockerCluster {
        // It ends with the process.
        static CLUSTER: OnceCell<DockerCluster> = OnceCell::const_new();
        CLUSTER.get_or_init(async || started(DockerCluster::builder().replicas(2)).await).await
    }

    async fn own(replicas: usize) -> DockerCluster {
        let _turn = OWN.acquire().await.unwrap();
        started(DockerCluster::builder().replicas(replicas)).await
    }
}

replicated_tests!(crate::Docker);

/// Whether there is an engine. If not, one line says so.
async fn engine_answers() -> bool {
    static SAID: Once = Once::new();
    let found = DockerCluster::find_engine().await;
    if let Err(error) = &found {
        SAID.call_once(|| eprintln!("SKIPPED: {}; nothing was tested in containers", error.report()));
    }
    found.is_ok()
}

/// Starts a cluster and prints how long that took.
async fn started(builder: DockerClusterBuilder) -> DockerCluster {
    let start = std::time::Instant::now();
    let cluster = builder.start().await.unwrap_or_else(|error| panic!("no cluster: {}", error.report()));
    eprintln!("{} containers: started in {:?}", cluster.nodes().len(), start.elapsed());
    cluster
}
