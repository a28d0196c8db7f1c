//! Chooses the node that serves a call, and provides the connection to it.
//!
//! A [`Router`] holds one pool per node. It knows nothing about events: a caller that requests a connection states the
//! [`Consistency`] it needs, or leaves that to the scope.
//!
//! | file | what it holds |
//! |---|---|
//! | `core` | the routing decisions as pure code: no I/O, no clock |
//! | `state` | the core with a clock, a lock and its counters |
//! | `calls`, `route`, `tried`, `record` | the calls that return a connection, the way from a decision to a connection or an error, the nodes that a call has tried, and what is reported about it |
//! | `config` | settings, in code and as text, and the router built from them |
//! | `nodes` | the nodes as they come and go, and the task for each that asks for its state |
//! | `pool` | the connections to a node while no call uses them |
//! | `lease` | a connection in use: limits, rows, the server session and its reset, and what errors mean |
//! | `freshness` | what a read must contain, how its connection proves it, and waiting until it can |
//! | `client` | the raw connection for any SQL, with or without a transaction |
//! | `watch` | reports changes of the cluster to watchers and to the log |
//! | `listen` | a connection that listens for notifications |

/// Whether this rule is broken on purpose: only in unit tests and in the drills (`core::flaw`).
#[cfg(any(test, feature = "__faults"))]
macro_rules! flawed {
    ($flaw:ident) => {
        $crate::router::core::flaw::is_on($crate::router::core::flaw::Flaw::$flaw)
    };
}

#[cfg(not(any(test, feature = "__faults")))]
macro_rules! flawed {
    ($flaw:ident) => {
        false
    };
}

mod calls;
mod client;
mod config;
mod core;
mod freshness;
mod lease;
mod listen;
mod nodes;
mod pool;
mod record;
mod route;
mod state;
mod tried;
mod watch;

use std::sync::Arc;

use futures_util::future::join_all;

#[cfg(feature = "rustls")]
pub use self::config::tls::{TlsMode, TlsOptions};
#[cfg(feature = "__faults")]
pub use self::core::flaw::turn_on;
pub(crate) use self::{
    calls::{asked, judged},
    client::transaction::{FAILED_TRANSACTION, NO_TRANSACTION},
    freshness::floor::{Check, Floor, Freshness},
    lease::{
        Lease,
        deadline::Deadline,
        exclusive::{LIFT_LIMITS, RESTORE_LIMITS},
        failure::{Effect, may_go_elsewhere},
        rows::Rows,
        server_session::ServerSession,
    },
    listen::Listener,
    pool::connection::Planning,
    route::Ask,
    tried::Tried,
};
pub use self::{
    client::{
        Client,
        copy::{CopyIn, CopyOut},
        generic_client::GenericClient,
        row_stream::RowStream,
        transaction::{BeginTransaction, Isolation, Transaction},
    },
    config::{builder::RouterBuilder, settings::ReplicaOptions},
    core::{
        Availability, EjectionCause, Fallback, FallbackStatus, NodeCondition, NodeStatus, PrimaryState, Readiness,
        Role, RouterStatus,
    },
    nodes::discovery::{HostResolver, SourceStatus},
    pool::borrowed::ExistingPool,
    watch::RouterWatch,
};
use self::{
    config::builder::Limits,
    nodes::{Nodes, discovery::Discovery, factory::Factory, node::Node, probe::Probes},
    state::State,
};
#[cfg(feature = "metrics")]
pub(crate) use self::{core::Reason, record::Endpoint};
use crate::error::{Error, Result};

/// Routes calls to a primary and its replicas; holds one connection pool per node.
///
/// Cloning is cheap, and all clones share the pools. Connections are opened on demand. The router itself opens the
/// first one to each node, to [probe](RouterBuilder::probe_interval) it.
///
/// Each connection is driven by the tokio runtime on which it was opened, even when another runtime uses it: a runtime
/// that is kept alive but not driven blocks calls made from other runtimes.
///
/// ```no_run
/// # async fn run() -> mainstem::Result<()> {
/// use mainstem::{Router, with_eventual_consistency};
///
/// let router = Router::builder()
///     .primary("postgres://app:secret@10.0.0.1/shop")
///     .replica("postgres://app:secret@10.0.0.2/shop")
///     .connect()
///     .await?;
///
/// // Outside of any scope: the primary.
/// let client = router.client().await?;
/// client.execute("INSERT INTO visits VALUES (now())", &[]).await?;
///
/// // In an eventual scope: a replica.
/// let visits = with_eventual_consistency(async {
///     let client = router.client().await?;
///     client.query("SELECT * FROM visits", &[]).await
/// })
/// .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Router {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    nodes: Nodes,
    discovery: Discovery,
    factory: Factory,
    state: Arc<State>,
    limits: Limits,
    probes: Probes,
    /// The database of the primary in the settings.
    database: Option<Arc<str>>,
}

impl Inner {
    fn status(&self) -> RouterStatus {
        RouterStatus { sources: self.discovery.status(), ..self.state.status() }
    }
}

/// Runs when the last clone of the router is dropped.
impl Drop for Inner {
    fn drop(&mut self) {
        self.state.watched().end();
    }
}

impl Router {
    /// Returns a builder with every setting at its default.
    pub fn builder() -> RouterBuilder {
        RouterBuilder::default()
    }

    /// Returns what the router knows at this moment: which node is the primary, and for each node its role, timeline
    /// and lag, whether it serves and if not why, and its load.
    ///
    /// For dashboards. It takes the lock that state updates take, so do not call it for every request. To be notified
    /// of changes, use [`watch`](Self::watch); for readiness probes, use [`readiness`](Self::readiness).
    ///
    /// ```no_run
    /// # fn run(router: mainstem::Router) {
    /// for node in router.status().nodes {
    ///     println!("{} ({}): {}, {:?} behind", node.name, node.role, node.condition, node.lag);
    /// }
    /// # }
    /// ```
    #[must_use]
    pub fn status(&self) -> RouterStatus {
        self.inner.status()
    }

    /// Watches the [`status`](Self::status): yields the present one, then a new one each time something has changed.
    ///
    /// Changes are: the primary, a node's role, timeline or condition (out of service, back in service, lagging,
    /// fenced), a split brain, and whether the [fallback](RouterBuilder::fallback) budget is exhausted. The statuses
    /// also contain LSNs, lag, latency and call counts, but a difference in those is not a change.
    ///
    /// A change is noticed when a call or a [probe](RouterBuilder::probe_interval) reveals it. A change that comes with
    /// time (the end of a slow start, a budget that is no longer exhausted) is noticed with the next call or probe. The
    /// same changes are logged under the target [`mainstem::topology`](crate::telemetry::TOPOLOGY).
    ///
    /// ```no_run
    /// # async fn run(router: mainstem::Router) {
    /// use mainstem::PrimaryState;
    ///
    /// let mut watch = router.watch();
    /// tokio::spawn(async move {
    ///     while let Some(status) = watch.next().await {
    ///         if let PrimaryState::SplitBrain { nodes, .. } = &status.primary {
    ///             eprintln!("{} all take writes", nodes.join(", "));
    ///         }
    ///     }
    /// });
    /// # }
    /// ```
    pub fn watch(&self) -> RouterWatch {
        RouterWatch::new(Arc::clone(&self.inner.state), Arc::downgrade(&self.inner))
    }

    /// Reports for a readiness probe whether calls can be served, and by which node, or why not.
    ///
    /// It contacts no node: it uses what [probes](RouterBuilder::probe_interval) and calls have found. Without probes,
    /// see [`ask_readiness`](Self::ask_readiness).
    ///
    /// [Ready](Readiness::is_ready) means that strong calls can be served, or at least eventual reads. Your probe may
    /// decide otherwise.
    ///
    /// ```no_run
    /// # fn run(router: mainstem::Router) -> (u16, String) {
    /// let readiness = router.readiness();
    /// let status = if readiness.is_ready() { 200 } else { 503 };
    /// (status, readiness.to_string())
    /// # }
    /// ```
    ///
    /// Do not use it as a liveness probe: restarting the application does not bring a database back.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        self.status().readiness()
    }

    /// Probes every node, then returns the same as [`readiness`](Self::readiness).
    ///
    /// This is one round trip to each node, all at once, for at most the [connect
    /// timeout](RouterBuilder::connect_timeout). The router uses the results for all further calls. Outside of a tokio
    /// runtime no node can be probed.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, a connection that was waiting for an answer is closed.
    pub async fn ask_readiness(&self) -> Readiness {
        if crate::runtime::current().is_err() {
            return self.readiness();
        }
        let Inner { nodes, limits, .. } = &*self.inner;
        let deadline = Deadline::after(limits.connect_timeout);
        // A node that does not answer is marked as such by the probe itself.
        let _ = join_all(nodes.all().iter().map(|node| nodes::probe::ask(node, deadline))).await;
        self.readiness()
    }

    /// Forgets everything that this node has reported, including what only this node has reported: the newest timeline,
    /// and which cluster this is.
    ///
    /// For an operator who knows better than the router. The router believes in the newest timeline that it has seen
    /// for good, since a node that does not answer may still receive writes. These cases need a call for each node
    /// concerned, or a restart:
    ///
    /// - a clone of the cluster that was promoted while it was among the nodes, and now fences the real primary;
    /// - a primary that is gone for good and was never followed by a replica: its writes are abandoned;
    /// - servers that were created anew (`initdb`, a restored dump) under the old addresses, and belong to another
    ///   cluster by their system identifier.
    ///
    /// First stop the node, or make it what it should be: the router probes it at once, and what it then reports counts
    /// again. Connections to it are closed. The name is that of [`NodeStatus`].
    ///
    /// ```no_run
    /// # fn run(router: mainstem::Router) -> mainstem::Result<()> {
    /// use mainstem::PrimaryState;
    ///
    /// if let PrimaryState::Fenced { node, .. } = router.status().primary {
    ///     println!("{node} takes writes, but a newer timeline than its own was seen");
    ///     // On the word of an operator:
    ///     router.forget("10.0.0.3:5432")?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) if no node has this name.
    pub fn forget(&self, node: &str) -> Result<()> {
        let found = self.node(node)?;
        tracing::warn!(node, "an operator has the router forget what this node has told");
        found.handle().forget();
        Ok(())
    }

    /// The node with this name.
    fn node(&self, name: &str) -> Result<Arc<Node>> {
        let nodes = self.inner.nodes.all();
        nodes.iter().find(|node| **node.name() == *name).cloned().ok_or_else(|| {
            let names: Vec<&str> = nodes.iter().map(|node| &**node.name()).collect();
            Error::invalid_input(format!("no node has the name {name:?}; the nodes are {}", names.join(", ")))
        })
    }

    /// Starts probing all nodes and looking for further ones.
    fn start(&self) {
        self.inner.nodes.all().iter().for_each(|node| self.inner.probes.start(node));
        self.start_looking();
    }

    /// The time limit of one call, as set in the builder.
    pub(crate) fn call_timeout(&self) -> std::time::Duration {
        self.inner.limits.call_timeout
    }

    /// How long a read waits for what it must contain.
    pub(crate) fn replay_wait(&self) -> std::time::Duration {
        self.inner.limits.replay_wait
    }

    /// The cluster's system identifier, once a node has reported it.
    pub(crate) fn system(&self) -> Option<u64> {
        self.inner.state.system()
    }

    /// Waits until every node has been probed once.
    pub(crate) async fn all_asked(&self, deadline: Deadline) {
        self.inner.probes.keep_asking();
        let _ = tokio::time::timeout_at(deadline.at(), self.inner.state.all_asked()).await;
    }

    /// The database, unless it is known only to the owner of a borrowed pool of the primary.
    pub(crate) fn database(&self) -> Option<&str> {
        self.inner.database.as_deref()
    }

    /// The most connections to the primary, unless that is known only to the owner of its pool.
    pub(crate) fn primary_size(&self) -> Option<u32> {
        self.inner.nodes.get(0)?.size()
    }
}
