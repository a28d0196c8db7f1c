//! The servers: a cluster of our own, or one that the environment names. And what the page does to the replay of their replicas.

use std::{env, time::Duration};

use mainstem::{Consistency, Fallback, Router, testing::LocalCluster};
use tokio::sync::Mutex;

use super::Result;

const PRIMARY: &str = "MAINSTEM_PRIMARY_URL";
const REPLICAS: &str = "MAINSTEM_REPLICA_URLS";

/// A replica may be as far behind as whoever looks wants to see, and still serves.
const MAX_LAG: Duration = Duration::from_secs(3600);
/// Often enough that bounds of a second can be kept by replicas.
const PROBE_INTERVAL: Duration = Duration::from_millis(100);
/// The longest delay of the slider.
pub(crate) const MAX_DELAY: Duration = Duration::from_secs(10);

/// What is done to the replay of a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Replay {
    /// Each commit is applied so long after it was made.
    Delayed(Duration),
    /// Nothing is applied.
    Held,
}

pub(crate) struct Nodes {
    primary: String,
    replicas: Vec<Replica>,
    /// Real servers in a temporary folder. They end with this process, however it ends.
    own: Option<LocalCluster>,
}

struct Replica {
    url: String,
    /// As the router calls it.
    name: String,
    /// What was done to it last; locked while that is being done.
    replay: Mutex<Replay>,
    /// To it alone, on a cluster that is not our own.
    router: Option<Router>,
}

impl Nodes {
    pub(crate) async fn find() -> Result<Self> {
        match (variable(PRIMARY), variable(REPLICAS)) {
            (None, None) => Ok(Self::own(LocalCluster::builder().replicas(2).start().await?)),
            (Some(primary), Some(replicas)) => Self::given(primary, replicas.split(',').map(str::trim)).await,
            _ => Err(format!("set both {PRIMARY} and {REPLICAS}, or none to start a cluster on this machine").into()),
        }
    }

    /// Nodes of a cluster that others use, too.
    pub(crate) async fn given(primary: String, urls: impl IntoIterator<Item = impl Into<String>>) -> Result<Self> {
        let mut replicas = Vec::new();
        for url in urls {
            let url = url.into();
            // Never the primary in its place: that has no replay.
            let builder = Router::builder().primary(&primary).replica(&url).fallback(Fallback::Never);
            let router = builder.require_replicas(true).max_replica_lag(MAX_LAG).connect().await?;
            let name = router.status().nodes.get(1).map(|node| node.name.to_string()).unwrap_or_default();
            let replay = Mutex::new(Replay::Delayed(Duration::ZERO));
            replicas.push(Replica { url, name, replay, router: Some(router) });
        }
        Ok(Self { primary, replicas, own: None })
    }

    /// All nodes of a cluster that is ours.
    pub(crate) fn own(cluster: LocalCluster) -> Self {
        let replica = |node: &mainstem::testing::Node| Replica {
            url: node.url(),
            name: format!("127.0.0.1:{}", node.port()),
            replay: Mutex::new(Replay::Delayed(Duration::ZERO)),
            router: None,
        };
        let replicas = cluster.replicas().map(replica).collect();
        Self { primary: cluster.primary().url(), replicas, own: Some(cluster) }
    }

    pub(crate) async fn router(&self) -> Result<Router> {
        let builder = Router::builder().primary(&self.primary).replicas(self.replicas.iter().map(|it| &it.url));
        let builder = builder.max_replica_lag(MAX_LAG).probe_interval(PROBE_INTERVAL);
        // Two readers who want the same at once don't wait for a connection first.
        Ok(builder.min_connections(2).connect().await?)
    }

    /// Waits until the replicas of a cluster that is ours have what was written.
    pub(crate) async fn wait_until_caught_up(&self) -> Result {
        match &self.own {
            Some(cluster) => Ok(cluster.wait_until_caught_up().await?),
            None => Ok(()),
        }
    }

    /// Whether replay can be delayed. On servers that are not ours that would be a setting that outlives this process.
    pub(crate) fn can_delay(&self) -> bool {
        self.own.is_some()
    }

    /// The replicas by name, and what is done to their replay.
    pub(crate) async fn replays(&self) -> Vec<(String, Replay)> {
        let mut replays = Vec::new();
        for replica in &self.replicas {
            replays.push((replica.name.clone(), *replica.replay.lock().await));
        }
        replays
    }

    /// Delays the replay of a replica, holds it, or lets it go on.
    pub(crate) async fn set_replay(&self, name: &str, replay: Replay) -> Result {
        let found = self.replicas.iter().enumerate().find(|(_, replica)| replica.name == name);
        let (index, replica) = found.ok_or_else(|| format!("no replica has the name {name:?}"))?;
        let mut current = replica.replay.lock().await;
        match (&self.own, &replica.router, replay) {
            (Some(cluster), _, Replay::Held) => {
                // A replica that waits for a commit's time would pause only after that.
                cluster.replica(index).delay_replay(Duration::ZERO).await?;
                cluster.replica(index).pause_replay().await?;
            }
            (Some(cluster), _, Replay::Delayed(delay)) => {
                cluster.replica(index).delay_replay(delay).await?;
                cluster.replica(index).resume_replay().await?;
            }
            (None, Some(router), Replay::Held) => on_replica(router, "SELECT pg_wal_replay_pause()").await?,
            (None, Some(router), Replay::Delayed(Duration::ZERO)) => {
                on_replica(router, "SELECT pg_wal_replay_resume()").await?;
            }
            (None, ..) => return Err("replay is delayed on a cluster of this page's own only".into()),
        }
        *current = replay;
        Ok(())
    }

    /// Leaves the servers as they were.
    pub(crate) async fn release(&self) -> Result {
        for (name, replay) in self.replays().await {
            if self.own.is_none() && replay == Replay::Held {
                self.set_replay(&name, Replay::Delayed(Duration::ZERO)).await?;
            }
        }
        Ok(())
    }
}

async fn on_replica(router: &Router, sql: &str) -> Result {
    Ok(router.client_at(Consistency::Eventual).await?.batch_execute(sql).await?)
}

/// A variable of the environment; set but empty is how a script says "not set".
fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.trim().is_empty())
}
