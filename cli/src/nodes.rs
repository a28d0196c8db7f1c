//! Builds a router from the command line and the environment.

use std::{sync::Arc, time::Duration};

use mainstem::{Client, LogName, PostgresEventStore, Router, RouterBuilder, RouterStatus};

use crate::{
    args::Connection,
    failure::{Failure, Result},
};

/// The variables that name nodes when the command line does not.
const VARIABLES: [&str; 3] = ["MAINSTEM_URL", "MAINSTEM_PRIMARY_URL", "PGHOST"];

/// How long to wait for nodes without --timeout.
const PATIENCE: Duration = Duration::from_secs(30);

/// How to reach the cluster. The URLs contain passwords, so there is no `Debug`.
pub(crate) struct Nodes {
    /// One URL for all nodes, or the primary's and then those of the replicas. If empty, the environment names the nodes.
    urls: Vec<String>,
    /// The limit of a call, if the command line sets it.
    limit: Option<Duration>,
}

impl Nodes {
    /// Reads the options and the environment, and checks them.
    pub(crate) fn new(connection: &Connection) -> Result<Self> {
        let nodes = Self { urls: connection.urls.clone(), limit: connection.timeout.map(Duration::from_secs) };
        let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        if nodes.urls.is_empty() && !VARIABLES.iter().any(|name| is_set(name)) {
            return Err(Failure::usage(
                "no database given: use --url postgres://user:password@host1,host2/database, or set MAINSTEM_URL to such a URL, \
                 or set MAINSTEM_PRIMARY_URL and MAINSTEM_REPLICA_URLS (separated by commas)",
            ));
        }
        nodes.builder().map(drop)?;
        Ok(nodes)
    }

    /// The only place where options and variables become settings of a router. Every setting of the library is accepted.
    pub(crate) fn builder(&self) -> Result<RouterBuilder> {
        let of = |builder: mainstem::Result<RouterBuilder>| builder.map_err(|error| Failure::usage(error.report()));
        let builder = match &*self.urls {
            [] => of(RouterBuilder::from_env())?,
            [all] if all.contains("://") => of(RouterBuilder::from_url(all).and_then(RouterBuilder::with_env))?,
            [primary, replicas @ ..] => of(Router::builder().primary(primary).replicas(replicas).with_env())?,
        };
        Ok(match self.limit {
            Some(limit) => builder.call_timeout(limit),
            None => builder,
        })
    }

    /// A router that has probed its nodes.
    pub(crate) async fn connect(&self) -> Result<Router> {
        Ok(self.builder()?.connect().await?)
    }

    /// The log, on a router that has probed its nodes.
    pub(crate) async fn store(&self, name: LogName) -> Result<PostgresEventStore> {
        Ok(PostgresEventStore::with_name(&self.connect().await?, name))
    }

    /// How long to wait for nodes.
    pub(crate) fn limit(&self) -> Duration {
        self.limit.unwrap_or(PATIENCE)
    }
}

/// Replaces the default name of the log in `sql` with `name`.
pub(crate) fn put_into(name: &LogName, sql: &str) -> String {
    sql.replace(r#""mainstem"."events""#, &name.to_string())
}

/// A connection to one node, or why there is none.
pub(crate) struct Reached {
    pub(crate) name: Arc<str>,
    pub(crate) client: mainstem::Result<Client>,
    pub(crate) is_primary: bool,
}

/// Whether this node is the primary.
pub(crate) fn leads(status: &RouterStatus, node: &str) -> bool {
    status.primary.known().is_some_and(|name| **name == *node)
}

/// A connection to each node of the router, in the router's order, whatever the node's role and condition.
pub(crate) async fn reach(router: &Router) -> Vec<Reached> {
    let status = router.status();
    let mut reached = Vec::with_capacity(status.nodes.len());
    for node in &status.nodes {
        let client = router.client_on(&node.name).await;
        reached.push(Reached { name: Arc::clone(&node.name), client, is_primary: leads(&status, &node.name) });
    }
    reached
}
