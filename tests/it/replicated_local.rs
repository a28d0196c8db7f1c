//! `tests/replicated` on a `LocalCluster`.

use mainstem::testing::LocalCluster;

use crate::{
    replicated::{Clusters, replicated_tests},
    support,
};

struct Local;

impl Clusters for Local {
    type Cluster = LocalCluster;

    async fn are_possible() -> bool {
        true
    }

    async fn shared() -> &'static LocalCluster {
        support::cluster().await
    }

    async fn own(replicas: usize) -> LocalCluster {
        support::started(LocalCluster::builder().replicas(replicas)).await
    }
}

replicated_tests!(super::Local);
