//! What the builder is told of replicas that come and go.

use std::{fmt, sync::Arc, time::Duration};

use futures_util::{Stream, StreamExt, stream::BoxStream};

use super::{
    super::{ReplicaOptions, RouterBuilder},
    name::NameUrl,
    resolver::{HostResolver, SystemResolver},
};
use crate::error::{Error, Result};

/// The settings.
pub(in crate::router) struct DiscoverySettings {
    pub(super) names: Vec<(NameUrl, ReplicaOptions)>,
    pub(super) changes: Option<BoxStream<'static, Vec<String>>>,
    pub(super) resolver: Arc<dyn HostResolver>,
    pub(in crate::router) interval: Duration,
}

impl Default for DiscoverySettings {
    fn default() -> Self {
        Self { names: Vec::new(), changes: None, resolver: Arc::new(SystemResolver), interval: Duration::from_secs(10) }
    }
}

impl DiscoverySettings {
    /// Whether replicas may come that the settings do not list.
    pub(in crate::router) fn finds_replicas(&self) -> bool {
        !self.names.is_empty() || self.changes.is_some()
    }

    pub(in crate::router) fn names(&self) -> usize {
        self.names.len()
    }

    /// A URL for each name, as its addresses will have it: to find what is wrong before there are any.
    pub(in crate::router) fn examples(&self) -> impl Iterator<Item = (String, &ReplicaOptions)> {
        self.names.iter().map(|(name, options)| (name.at(([127, 0, 0, 1], name.port).into()), options))
    }

    pub(in crate::router) fn check(&self, is_asking: bool) -> Result<()> {
        if self.finds_replicas() && !is_asking {
            let message = "replicas that come and go are asked what they are: set a probe_interval";
            return Err(Error::configuration(message));
        }
        if self.interval.is_zero() {
            return Err(Error::configuration("resolve_interval is 0: names would be looked up without a pause"));
        }
        Ok(())
    }
}

impl RouterBuilder {
    /// The replicas behind a name: each of its addresses is one, with a pool of its own. The URL is like a
    /// [replica's](Self::replica), with a name for its host; TLS verifies certificates against that.
    ///
    /// The name is looked up when the router connects, then every [`resolve_interval`](Self::resolve_interval), and at
    /// once when connecting to a node fails. What comes and goes does so as with [`Router::set_replicas`](crate::Router::set_replicas).
    /// An answer that is empty, or none, changes nothing: it is logged, and told by [`Router::status`](crate::Router::status). If
    /// the name also stands for the primary, that is noticed, and reads go to the others. A machine with addresses of both kinds
    /// is two nodes.
    ///
    /// The primary has a URL of its own, whose name is looked up at each connect by the driver.
    ///
    /// An error in the URL is told by [`build`](Self::build) and [`connect`](Self::connect).
    pub fn replicas_by_name(self, url: impl Into<String>) -> Self {
        self.replicas_by_name_with(url, ReplicaOptions::new())
    }

    /// The same, with a weight or a zone for each of them.
    pub fn replicas_by_name_with(mut self, url: impl Into<String>, options: ReplicaOptions) -> Self {
        match NameUrl::parse(&url.into()) {
            Ok(name) => self.discovery.names.push((name, options)),
            Err(error) => _ = self.mistake.get_or_insert(error),
        }
        self
    }

    /// Lists of the replicas, each of which replaces the one before, as [`Router::set_replicas`](crate::Router::set_replicas)
    /// does: from whatever knows of the cluster's changes. The first list replaces the replicas of the settings.
    ///
    /// A list that is empty or has a wrong URL changes nothing: it is logged, and told by
    /// [`Router::status`](crate::Router::status). When the stream ends the last list stays.
    pub fn replica_changes<S>(mut self, changes: S) -> Self
    where
        S: Stream<Item = Vec<String>> + Send + 'static,
    {
        self.discovery.changes = Some(changes.boxed());
        self
    }

    /// The time between two look-ups of a [name](Self::replicas_by_name). Defaults to 10 s.
    ///
    /// Beyond it, names are looked up when connecting to a node fails, at most once a second. So it only says how soon replicas
    /// that are new get reads, and those that are taken out get none. Too short and it is a load on the name server; too
    /// long and new ones idle, and those that were taken out are read from until they stop.
    pub fn resolve_interval(mut self, interval: Duration) -> Self {
        self.discovery.interval = interval;
        self
    }

    /// What looks [names](Self::replicas_by_name) up. Defaults to the operating system.
    pub fn resolver(mut self, resolver: impl HostResolver) -> Self {
        self.discovery.resolver = Arc::new(resolver);
        self
    }
}

/// A source of replicas that come and go, in a [`RouterStatus`](crate::RouterStatus).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SourceStatus {
    /// `name:port` of a [name](crate::RouterBuilder::replicas_by_name), or `list` for what was listed by URL.
    pub name: Arc<str>,
    /// The names of its nodes, which are in the status's own list.
    pub nodes: Vec<Arc<str>>,
    /// How long ago it gave the list that holds; `None` before the first one.
    pub age: Option<Duration>,
    /// Why its last answer was not taken, if it was not: the one before it holds. Or why not all of it could be: the rest follows
    /// when there is room.
    pub error: Option<String>,
}

impl fmt::Debug for DiscoverySettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiscoverySettings")
            .field("names", &self.names.iter().map(|(name, _)| name.to_string()).collect::<Vec<_>>())
            .field("interval", &self.interval)
            .finish_non_exhaustive()
    }
}
