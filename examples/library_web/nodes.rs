//! The servers: a cluster of its own, or the one that the environment names. Also how the page controls replay on the replicas.

use std::{env, time::Duration};

use mainstem::{Consistency, Fallback, Router, testing::LocalCluster};
use tokio::sync::Mutex;

use super::Result;

const PRIMARY: &str = "MAINSTEM_PRIMARY_URL";
const REPLICAS: &str = "MAINSTEM_REPLICA_URLS";

/// A replica still serves, however far behind the user wants to see it.
const MAX_LAG: Duration = Duration::from_secs(3600);
/// Often enough for replicas to keep bounds of a second.
const PROBE_INTERVAL: Duration = Duration::from_millis(100);
/// The longest delay of the slider.
pub(crate) const MAX_DELAY: Duration = Duration::from_secs(10);

/// What the page does to a replica's replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Replay {
    /// Each commit is replayed this long after it was made.
    Delayed(Duration),
    /// Replay is paused.
    Held,
}

pub(crate) struct Nodes {
    primary: String,
    replicas: Vec<Replica>,
    /// Real servers in a temporary folder. They stop when this process ends, however it ends.
    own: Option<LocalCluster>,
}

struct Replica {
    url: String,
    /// The router's name for the replica.
    name: String,
    /// The last state that was set; locked while it changes.
    replay: Mutex<Replay>,
    /// A router to this replica alone, on a cluster that is not our own.
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

    /// The nodes of a cluster that others use, too.
    pub(crate) async fn given(primary: String, urls: impl IntoIterator<Item = impl Into<String>>) -> Result<Self> {
        let mut replicas = Vec::new();
        for url in urls {
            let url = url.into();
            // Never fall back to the primary: it has no replay.
            let builder = Router::builder().primary(&primary).replica(&url).fallback(Fallback::Never);
            let router = builder.require_replicas(true).max_replica_lag(MAX_LAG).connect().await?;
            let name = router.status().nodes.get(1).map(|node| node.name.to_string()).unwrap_or_default();
            let replay = Mutex::new(Replay::Delayed(Duration::ZERO));
            replicas.push(Replica { url, name, replay, router: Some(router) });
        }
        Ok(Self { primary, replicas, own: None })
    }

    /// All nodes of our own cluster.
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
        // Two readers who want the same copy at once do not have to wait for a connection first.
        Ok(builder.min_connections(2).connect().await?)
    }

    /// Waits until the replicas of our own cluster have what was written.
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

    /// The replicas by name, and the state of their replay.
    pub(crate) async fn replays(&self) -> Vec<(String, Replay)> {
        let mut replays = Vec::new();
        for replica in &self.replicas {
            replays.push((replica.name.clone(), *replica.replay.lock().await));
        }
        replays
    }

    /// Delays, pauses or resumes a replica's replay.
    pub(crate) async fn set_replay(&self, name: &str, replay: Replay) -> Result {
        let found = self.replicas.iter().enumerate().find(|(_, replica)| replica.name == name);
        let (index, replica) = found.ok_or_else(|| format!("no replica has the name {name:?}"))?;
        let mut current = replica.replay.lock().await;
        match (&self.own, &replica.router, replay) {
            (Some(cluster), _, Replay::Held) => {
                // A replica that is waiting for a delayed commit would pause only after it.
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

    /// Restores the servers' replay.
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

/// An environment variable. Scripts leave it set but empty to say "not set".
fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.trim().is_empty())
}
