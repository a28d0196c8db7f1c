//! The nodes to run on: those that the environment names, or a cluster of its own.

use std::env::{self, VarError};

use mainstem::{Client, Consistency, Router, testing::LocalCluster};

use crate::{LIMIT, Outcome, wait_for};

const PRIMARY: &str = "MAINSTEM_PRIMARY_URL";
const REPLICAS: &str = "MAINSTEM_REPLICA_URLS";

pub(crate) struct Nodes {
    primary: String,
    pub(crate) replicas: Vec<String>,
    /// Real servers in a temporary folder. They stop when this process ends, however it ends.
    own: Option<LocalCluster>,
}

impl Nodes {
    pub(crate) async fn find() -> Outcome<Self> {
        let half = |set, missing| {
            format!("{set} is set, but {missing} is not; set both, or none to start a cluster on this machine")
        };
        match (variable(PRIMARY)?, variable(REPLICAS)?) {
            (Some(primary), Some(urls)) => {
                let replicas: Vec<_> = urls.split(',').map(|url| url.trim().to_owned()).collect();
                check_url(PRIMARY, &primary)?;
                replicas.iter().try_for_each(|url| check_url(REPLICAS, url))?;
                Ok(Self { primary, replicas, own: None })
            }
            (None, None) => {
                let cluster = LocalCluster::builder().replicas(2).start().await.map_err(|error| {
                    let report = error.report();
                    format!("cannot start a cluster: {report}; or set {PRIMARY} and {REPLICAS} to use one that runs")
                })?;
                let replicas = cluster.replicas().map(|node| node.url()).collect();
                Ok(Self { primary: cluster.primary().url(), replicas, own: Some(cluster) })
            }
            (Some(_), None) => Err(half(PRIMARY, REPLICAS).into()),
            (None, Some(_)) => Err(half(REPLICAS, PRIMARY).into()),
        }
    }

    /// A router over the primary and these replicas. Other programs start without a replica that is down; this one needs
    /// its replicas.
    pub(crate) async fn router(&self, replicas: &[String]) -> Outcome<Router> {
        let builder = Router::builder().primary(&self.primary).replicas(replicas);
        let router = builder.require_replicas(true).call_timeout(LIMIT).connect().await;
        router.map_err(|error| {
            format!("these nodes cannot be used: {}; check {PRIMARY} and {REPLICAS}", error.report()).into()
        })
    }

    /// Pauses replay on the one replica that `router` knows, or says why it cannot.
    pub(crate) async fn pause_replay(&self, router: &Router) -> Outcome<Result<(), String>> {
        if let Some(cluster) = &self.own {
            return Ok(Ok(cluster.replica(0).pause_replay().await?));
        }
        let client = router.client_at(Consistency::Eventual).await?;
        if pause_state(&client).await? != "not paused" {
            return Ok(Err("somebody else has paused it".to_owned()));
        }
        match client.batch_execute("SELECT pg_wal_replay_pause()").await {
            Err(error) if error.sqlstate() == Some("42501") => return Ok(Err(error.to_string())),
            asked => asked?,
        }
        let is_paused = async || Ok((pause_state(&client).await? == "paused").then_some(()));
        if let Err(error) = wait_for("the pause of replay", is_paused).await {
            self.resume_replay(router).await?;
            return Err(error);
        }
        Ok(Ok(()))
    }

    pub(crate) async fn resume_replay(&self, router: &Router) -> Outcome {
        if let Some(cluster) = &self.own {
            return Ok(cluster.replica(0).resume_replay().await?);
        }
        let client = router.client_at(Consistency::Eventual).await;
        let resumed = async { client?.batch_execute("SELECT pg_wal_replay_resume()").await };
        let stuck = |error| format!("replay is still paused; run SELECT pg_wal_replay_resume() there: {error}").into();
        resumed.await.map_err(stuck)
    }
}

async fn pause_state(client: &Client) -> Outcome<String> {
    Ok(client.query_one("SELECT pg_get_wal_replay_pause_state()", &[]).await?.get(0))
}

/// An environment variable. Scripts leave it set but empty to say "not set".
fn variable(name: &str) -> Outcome<Option<String>> {
    match env::var(name) {
        Ok(value) => Ok(Some(value).filter(|value| !value.trim().is_empty())),
        Err(VarError::NotPresent) => Ok(None),
        // Without the variable's text, which may hold a password.
        Err(VarError::NotUnicode(_)) => Err(format!("{name} is not valid UTF-8; set it to a URL").into()),
    }
}

/// Keeps passwords out of error messages, which may quote what the driver takes for the host or for an option.
fn check_url(name: &str, url: &str) -> Outcome {
    if !["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme)) {
        Err(format!("what {name} holds does not begin with postgres:// or postgresql://; set it to a URL").into())
    } else if url.matches('@').count() > 1 {
        Err(format!("{name} has an @ too many; write %40 for one in a name or password").into())
    } else {
        Ok(())
    }
}
