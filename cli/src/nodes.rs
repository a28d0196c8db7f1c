//! From the URLs to a router.

use std::{sync::Arc, time::Duration};

use mainstem::{
    Client, Consistency, Fallback, LogName, NodeSnapshot, PostgresEventStore, PrimaryState, Router, RouterBuilder,
};

use crate::{
    args::Connection,
    failure::{Failure, Result},
};

const PRIMARY_URL: &str = "MAINSTEM_PRIMARY_URL";
const REPLICA_URLS: &str = "MAINSTEM_REPLICA_URLS";

/// The URLs of a cluster's nodes. They hold passwords, so there is no `Debug`.
#[derive(Clone)]
pub(crate) struct Nodes {
    pub(crate) primary: String,
    pub(crate) replicas: Vec<String>,
    limit: Duration,
}

impl Nodes {
    /// From the options, else from the environment.
    pub(crate) fn new(connection: &Connection) -> Result<Self> {
        let limit = Duration::from_secs(connection.timeout);
        if let [primary, replicas @ ..] = &*connection.urls {
            return Ok(Self { primary: primary.clone(), replicas: replicas.to_vec(), limit });
        }
        let Some(primary) = std::env::var(PRIMARY_URL).ok().filter(|url| !url.is_empty()) else {
            return Err(Failure::usage(format!(
                "which database? Give --url postgres://user:password@host:port/database, once for the primary and once for each \
                 replica, or set {PRIMARY_URL} and {REPLICA_URLS} (separated by commas)"
            )));
        };
        let replicas = std::env::var(REPLICA_URLS).unwrap_or_default();
        let replicas = replicas.split(',').map(str::trim).filter(|url| !url.is_empty()).map(str::to_owned).collect();
        Ok(Self { primary, replicas, limit })
    }

    /// The one place where URLs become settings of a router.
    pub(crate) fn builder(&self) -> RouterBuilder {
        self.limited(Router::builder().primary(&self.primary).replicas(&self.replicas))
    }

    fn limited(&self, builder: RouterBuilder) -> RouterBuilder {
        builder.call_timeout(self.limit).connect_timeout(self.limit.min(Duration::from_secs(5))).max_connections(4)
    }

    /// A router whose nodes have been asked who they are.
    pub(crate) async fn connect(&self) -> Result<Router> {
        Ok(self.builder().connect().await?)
    }

    /// The log, on a router whose nodes have been asked who they are.
    pub(crate) async fn store(&self, name: LogName) -> Result<PostgresEventStore> {
        Ok(PostgresEventStore::with_name(&self.connect().await?, name))
    }

    pub(crate) fn limit(&self) -> Duration {
        self.limit
    }
}

/// SQL that is written with the default name of the log, with this one.
pub(crate) fn put_into(name: &LogName, sql: &str) -> String {
    sql.replace(r#""mainstem"."events""#, &name.to_string())
}

/// A connection to one node, or why there is none.
pub(crate) struct Reached {
    pub(crate) name: Arc<str>,
    pub(crate) client: mainstem::Result<Client>,
    pub(crate) is_primary: bool,
}

impl Nodes {
    /// A connection to each node, in the order of the URLs. A router hands out those of a replica that it chooses, so each
    /// replica has one of its own here.
    pub(crate) async fn reach(&self) -> Result<Vec<Reached>> {
        self.reach_from(&self.connect().await?).await
    }

    /// The same, by what this router, which is of these nodes, knows of them.
    pub(crate) async fn reach_from(&self, router: &Router) -> Result<Vec<Reached>> {
        let snapshot = router.snapshot();
        let urls: Vec<&String> = std::iter::once(&self.primary).chain(&self.replicas).collect();
        let leads = |node: &NodeSnapshot| matches!(&snapshot.primary, PrimaryState::Known(name) if *name == node.name);
        let primary = snapshot.nodes.iter().position(leads);
        let mut reached = Vec::with_capacity(urls.len());
        for (index, (node, url)) in snapshot.nodes.iter().zip(&urls).enumerate() {
            let (name, is_primary) = (Arc::clone(&node.name), primary == Some(index));
            let client = match is_primary {
                true => router.client_at(Consistency::Strong).await,
                false => {
                    let other = primary
                        .filter(|&primary| primary != index)
                        .or_else(|| (0..urls.len()).find(|&other| other != index));
                    match other.and_then(|other| urls.get(other)) {
                        Some(other) => self.replica(other, url).await,
                        None => router.client_at(Consistency::Strong).await,
                    }
                }
            };
            reached.push(Reached { name, client, is_primary });
        }
        Ok(reached)
    }

    async fn replica(&self, primary: &str, url: &str) -> mainstem::Result<Client> {
        let builder = self.limited(Router::builder().primary(primary).replica(url)).fallback(Fallback::Never);
        builder.build()?.client_at(Consistency::Eventual).await
    }
}
