//! The builder's settings for replicas that come and go.

use std::{fmt, sync::Arc, time::Duration};

use futures_util::{Stream, StreamExt, stream::BoxStream};

use super::{
    name::NameUrl,
    resolver::{HostResolver, SystemResolver},
};
use crate::{
    error::{Error, Result},
    router::{ReplicaOptions, RouterBuilder},
};

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
    /// Whether replicas may appear that the settings do not list.
    pub(in crate::router) fn finds_replicas(&self) -> bool {
        !self.names.is_empty() || self.changes.is_some()
    }

    pub(in crate::router) fn names(&self) -> usize {
        self.names.len()
    }

    /// A URL for each name, as its addresses will use it: to find mistakes before there are any addresses.
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
    /// Adds the replicas behind a name: each of its addresses becomes a replica with its own pool. The URL is like that
    /// of a [replica](Self::replica), with a name as its host; TLS verifies certificates against that name.
    ///
    /// The name is resolved when the router connects, then every [`resolve_interval`](Self::resolve_interval), and at
    /// once when connecting to a node fails. Replicas are added and removed as by
    /// [`Router::set_replicas`](crate::Router::set_replicas). A failed or empty answer changes nothing: it is logged,
    /// and [`Router::status`](crate::Router::status) shows it. If the name also resolves to the primary, the router
    /// notices, and reads go to the others. A machine with both IPv4 and IPv6 addresses counts as two nodes.
    ///
    /// The primary has its own URL, whose host the driver resolves at each connect.
    ///
    /// [`build`](Self::build) and [`connect`](Self::connect) report an error in the URL.
    pub fn replicas_by_name(self, url: impl Into<String>) -> Self {
        self.replicas_by_name_with(url, ReplicaOptions::new())
    }

    /// Adds the replicas behind a name, each with this weight or zone.
    pub fn replicas_by_name_with(mut self, url: impl Into<String>, options: ReplicaOptions) -> Self {
        match NameUrl::parse(&url.into()) {
            Ok(name) => self.discovery.names.push((name, options)),
            Err(error) => _ = self.mistake.get_or_insert(error),
        }
        self
    }

    /// Takes the lists of replicas from a stream, each replacing the one before, as
    /// [`Router::set_replicas`](crate::Router::set_replicas) does. For any source that knows of the cluster's changes.
    /// The first list replaces the replicas in the settings.
    ///
    /// A list that is empty or contains a wrong URL changes nothing: it is logged, and
    /// [`Router::status`](crate::Router::status) shows it. When the stream ends, the last list stays.
    pub fn replica_changes<S>(mut self, changes: S) -> Self
    where
        S: Stream<Item = Vec<String>> + Send + 'static,
    {
        self.discovery.changes = Some(changes.boxed());
        self
    }

    /// Sets the time between two look-ups of a [name](Self::replicas_by_name). Defaults to 10 s.
    ///
    /// In addition, names are resolved when connecting to a node fails, at most once a second. The interval therefore
    /// only determines how soon new replicas get reads, and removed ones no longer do. Too short, and it is a load on
    /// the name server; too long, and new replicas idle, and removed ones are read from until they stop.
    pub fn resolve_interval(mut self, interval: Duration) -> Self {
        self.discovery.interval = interval;
        self
    }

    /// Sets the resolver for [names](Self::replicas_by_name). Defaults to the operating system.
    pub fn resolver(mut self, resolver: impl HostResolver) -> Self {
        self.discovery.resolver = Arc::new(resolver);
        self
    }
}

/// The state of a source of replicas, in a [`RouterStatus`](crate::RouterStatus).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SourceStatus {
    /// `name:port` of a [name](crate::RouterBuilder::replicas_by_name), or `list` for the replicas listed by URL.
    pub name: Arc<str>,
    /// The names of its nodes, as in the status's list of nodes.
    pub nodes: Vec<Arc<str>>,
    /// The age of the list in force; `None` before the first one.
    pub age: Option<Duration>,
    /// Why its last answer was not accepted, if so: the one before it remains in force. Or why only part of it could
    /// be: the rest follows when places become free.
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
