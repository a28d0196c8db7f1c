//! The settings of a cluster of containers.

use std::time::Duration;

use crate::{Error, Result};

use super::{
    super::{ports, settings::Settings},
    cluster::{DockerCluster, Shared},
    engine::Engine,
    image::Image,
    node::DockerNode,
    recipe::Recipe,
};

/// Collects the settings of a [`DockerCluster`], from [`DockerCluster::builder`].
#[derive(Clone, Debug)]
#[must_use]
pub struct DockerClusterBuilder {
    replicas: usize,
    image: Option<String>,
    start_limit: Duration,
    settings: Settings,
}

impl Default for DockerClusterBuilder {
    fn default() -> Self {
        Self { replicas: 1, image: None, start_limit: Duration::from_secs(120), settings: Settings::default() }
    }
}

impl DockerClusterBuilder {
    /// Sets the number of streaming replicas. Default: 1. Each is another container, which starts in a few seconds;
    /// with 0, nothing about replication can be tested. At most 9.
    pub fn replicas(mut self, replicas: usize) -> Self {
        self.replicas = replicas;
        self
    }

    /// Sets the image, `name:tag`, or `name@sha256:…` for one that no later push changes. Default: the environment
    /// variable `MAINSTEM_POSTGRES_IMAGE`, or else `postgres:18`.
    pub fn image(mut self, image: impl Into<String>) -> Self {
        self.image = Some(image.into());
        self
    }

    /// Limits the time from the start of a node's container until it accepts connections; for a replica this includes
    /// its base backup. Default: 2 minutes. With less, tests fail on a slow machine; with more, a node that hangs is
    /// noticed later.
    pub fn start_limit(mut self, limit: Duration) -> Self {
        self.start_limit = limit;
        self
    }

    /// Adds a line to the settings of every node, overriding what the cluster sets itself, for instance
    /// `.setting("synchronous_standby_names", "*")`. The last value of a name counts. Default: none. If PostgreSQL
    /// rejects a name or value, the start fails with the server's message.
    pub fn setting(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.custom.push((name.into(), value.into()));
        self
    }

    /// Creates the containers, and waits until the replicas follow the primary.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](crate::ErrorKind::Unavailable) if no Docker engine answers, or if it refuses a request;
    /// [`Configuration`](crate::ErrorKind::Configuration) if the image is neither present nor can be fetched within 10
    /// minutes, or if the settings are impossible; [`Unavailable`](crate::ErrorKind::Unavailable) or
    /// [`Timeout`](crate::ErrorKind::Timeout) with the node's name if a node does not start, with the end of its log.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, everything that was created is removed.
    pub async fn start(self) -> Result<DockerCluster> {
        const MOST: usize = 9;
        if self.replicas > MOST {
            return Err(Error::configuration(format!("{} replicas are too many; use at most {MOST}", self.replicas)));
        }
        self.settings.check()?;
        let image = Image::choose(self.image.as_deref())?;
        let engine = Engine::find().await?;
        engine.have_image(&image).await?;
        let recipe = Recipe {
            cluster: ports::random_text()?[..12].to_owned(),
            image,
            settings: self.settings,
            password: ports::random_text()?,
            replicas: (1..=self.replicas).map(DockerNode::name_of).collect(),
        };
        let nodes = self.replicas + 1;
        let mut cluster = DockerCluster::new(Shared::new(engine, recipe, self.start_limit, nodes), nodes);
        cluster.create().await?;
        Ok(cluster)
    }
}
