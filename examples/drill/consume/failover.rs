//! The two failovers: one that loses nothing, and one that loses acknowledged events.

use std::time::Duration;

use mainstem::testing::LocalCluster;
use tokio::time::sleep;

use crate::{Outcome, database::connect};

/// How long the primary runs alone before it is lost.
const ALONE: Duration = Duration::from_millis(400);

/// Promotes the replica, and turns the old primary into its replica.
pub(crate) async fn fail_over(cluster: &LocalCluster, lossy: bool) -> Outcome {
    let (old, new) = (cluster.primary(), cluster.replica(0));
    if lossy {
        // What is written now is acknowledged, but replicated to no other node.
        let admin = connect(&new.url()).await?;
        admin.batch_execute("ALTER SYSTEM SET primary_conninfo = ''").await?;
        admin.batch_execute("SELECT pg_reload_conf()").await?;
        sleep(ALONE).await;
        old.kill().await?;
    } else {
        // It sends everything before it stops.
        old.stop().await?;
    }
    new.promote().await?;
    if lossy {
        connect(&new.url()).await?.batch_execute("ALTER SYSTEM RESET primary_conninfo").await?;
    }
    old.rejoin().await?;
    Ok(())
}
