//! Which node serves a call, and the connection to it.
//!
//! A [`Router`] holds one pool per node. It knows nothing of events: whoever asks it for a connection says what they
//! can live with, a [`Consistency`], or lets the scope say it.
//!
//! | file | what it holds |
//! |---|---|
//! | `core` | the decisions, pure: no I/O, no clock |
//! | `state` | the core with a clock, a lock, and its counters |
//! | `calls`, `route` | who gets a connection, and from a decision to it, or to an error |
//! | `builder`, `settings`, `parameters`, `source`, `url`, `tls`, `assemble`, `check` | settings, in code and as text, the router made of them, and what is verified before the first call |
//! | `node`, `own_pool`, `admission`, `supply`, `upkeep`, `manager`, `connection`, `told`, `statements`, `borrowed`, `names` | a node's pool, who gets its connections, and how long they live |
//! | `probe` | a task per node that asks how it is |
//! | `lease`, `exclusive`, `prepared`, `pooled`, `held`, `rows`, `server_session`, `failure`, `deadline` | a connection in use: limits, rows as they come, since when it is there, and what errors mean |
//! | `tried`, `record` | which nodes a call has asked, and what is told of it |
//! | `nodes`, `factory`, `discovery` | the nodes as they come and go, how they are made, and where they are found |
//! | `floor`, `guard`, `replay` | what a read has to contain, how its connection proves it, and waiting until it can |
//! | `watch` | telling who watches, and the log, that the cluster has changed |
//! | `listen` | a connection that listens for notifications |
//! | `row_stream`, `copy`, `piecewise`, `occupied` | answers that are taken, and data that are given, piece by piece |
//! | `client`, `transaction`, `generic_client`, `control`, `standby` | the raw connection for any SQL, in a transaction or not, what SQL does to that, and what a standby only seems to do |

/// Whether this rule is broken on purpose: never, except in unit tests, and by the drills (`core::flaw`).
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

mod admission;
mod assemble;
mod borrowed;
mod builder;
mod calls;
mod check;
mod client;
mod connection;
mod control;
mod copy;
mod core;
mod deadline;
mod discovery;
mod exclusive;
mod factory;
mod failure;
mod floor;
mod generic_client;
mod guard;
mod held;
mod lease;
mod listen;
mod manager;
mod names;
mod node;
mod nodes;
mod occupied;
mod own_pool;
mod parameters;
mod piecewise;
mod pooled;
mod prepared;
mod probe;
mod record;
mod replay;
mod reset;
mod route;
mod row_stream;
mod rows;
mod server_session;
mod settings;
mod source;
mod standby;
mod state;
mod statements;
mod supply;
mod tls;
mod told;
mod transaction;
mod tried;
mod upkeep;
mod url;
mod watch;

use std::sync::Arc;

use futures_util::future::join_all;

#[cfg(feature = "__faults")]
pub use self::core::flaw::turn_on;
#[cfg(feature = "rustls")]
pub use self::tls::{TlsMode, TlsOptions};
pub use self::{
    borrowed::ExistingPool,
    builder::RouterBuilder,
    client::Client,
    copy::{CopyIn, CopyOut},
    core::{
        Availability, EjectionCause, Fallback, FallbackStatus, NodeCondition, NodeStatus, PrimaryState, Readiness,
        Role, RouterStatus,
    },
    discovery::{HostResolver, SourceStatus},
    generic_client::GenericClient,
    row_stream::RowStream,
    settings::ReplicaOptions,
    transaction::{BeginTransaction, Isolation, Transaction},
    watch::RouterWatch,
};
use self::{
    builder::Limits, discovery::Discovery, factory::Factory, node::Node, nodes::Nodes, probe::Probes, state::State,
};
pub(crate) use self::{
    calls::{asked, judged},
    connection::Planning,
    deadline::Deadline,
    failure::{Effect, may_go_elsewhere},
    floor::{Check, Floor, Verdict},
    lease::Lease,
    listen::Listener,
    route::Ask,
    rows::Rows,
    server_session::ServerSession,
    transaction::NO_TRANSACTION,
    tried::Tried,
};
#[cfg(feature = "metrics")]
pub(crate) use self::{core::Reason, record::Endpoint};
use crate::error::{Error, Result};

/// The pools of a primary and its replicas, and the choice between them.
///
/// Cloning is cheap, and all clones share the pools. Connections are opened when they are needed;
/// the first one to each node by the router itself, which asks it how it is ([`RouterBuilder::probe_interval`]).
///
/// A connection is served by the tokio runtime in which it was opened, whoever uses it: a runtime that is kept and not driven makes
/// those of other runtimes wait.
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
    /// Of the primary of the settings.
    database: Option<Arc<str>>,
}

impl Inner {
    fn status(&self) -> RouterStatus {
        RouterStatus { sources: self.discovery.status(), ..self.state.status() }
    }
}

/// With the last clone of the router.
impl Drop for Inner {
    fn drop(&mut self) {
        self.state.watched().end();
    }
}

impl Router {
    /// A builder with every setting at its default.
    pub fn builder() -> RouterBuilder {
        RouterBuilder::default()
    }

    /// What the router knows at this moment: which node takes writes, and of each node its role, timeline and lag, whether
    /// it serves and why not, how much it has to do.
    ///
    /// For dashboards; it takes the lock that news takes, so don't ask for every call. To be told when it changes,
    /// [`watch`](Self::watch); for readiness probes there is [`readiness`](Self::readiness).
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

    /// The present [`status`](Self::status), and then a new one each time that something has changed: the primary, a
    /// node's role, timeline or condition (out of service, back, lagging, fenced), a split brain, whether the
    /// [fallback](RouterBuilder::fallback) is spent. Places in the log, lag, latency and numbers of calls are in the statuses, but are no
    /// changes.
    ///
    /// What happens is known when a call or a [probe](RouterBuilder::probe_interval) tells, and what comes with time (the end of a slow
    /// start, a budget that is not spent any more) with the next of these. The same changes are in the log, by the target
    /// [`mainstem::topology`](crate::telemetry::TOPOLOGY).
    ///
    /// ```no_run
    /// # async fn run(router: mainstem::Router) {
    /// use mainstem::PrimaryState;
    ///
    /// let mut watch = router.watch();
    /// tokio::spawn(async move {
    ///     while let Some(status) = watch.next().await {
    ///         if let PrimaryState::SplitBrain(one, other) = &status.primary {
    ///             eprintln!("{one} and {other} both take writes");
    ///         }
    ///     }
    /// });
    /// # }
    /// ```
    pub fn watch(&self) -> RouterWatch {
        RouterWatch::new(Arc::clone(&self.inner.state), Arc::downgrade(&self.inner))
    }

    /// Whether calls can be served, and by which node, or why not, for a readiness probe. It asks nobody: the
    /// [probes](RouterBuilder::probe_interval) do, and calls tell. Without probes, see [`ask_readiness`](Self::ask_readiness).
    ///
    /// [Ready](Readiness::is_ready) is a choice: whoever can serve strong calls, or else eventual reads.
    ///
    /// ```no_run
    /// # fn run(router: mainstem::Router) -> (u16, String) {
    /// let readiness = router.readiness();
    /// let status = if readiness.is_ready() { 200 } else { 503 };
    /// (status, readiness.to_string())
    /// # }
    /// ```
    ///
    /// For a liveness probe it is of no use: no restart of the application brings a database back.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        self.status().readiness()
    }

    /// The same, after every node was asked how it is: a round trip to each, all at once, and no longer than the
    /// [connect timeout](RouterBuilder::connect_timeout). What that has told counts for everybody. Outside of a tokio runtime nobody
    /// can be asked.
    ///
    /// # Cancel safety
    ///
    /// Dropped, a connection on which an answer was to come is closed.
    pub async fn ask_readiness(&self) -> Readiness {
        if crate::runtime::current().is_err() {
            return self.readiness();
        }
        let Inner { nodes, limits, .. } = &*self.inner;
        let deadline = Deadline::after(limits.connect_timeout);
        // Who does not answer is known by that.
        let _ = join_all(nodes.all().iter().map(|node| probe::ask(node, deadline))).await;
        self.readiness()
    }

    /// Forgets all that this node has told, and what nobody else has told: the newest timeline, and which cluster this is.
    ///
    /// For an operator who knows better. The router believes in the newest timeline that it has seen, for good, since who
    /// does not answer may still be written to. So these need a call, once for each node concerned, or a restart:
    ///
    /// - a clone of the cluster that was promoted while it was among the nodes, and fences the real primary;
    /// - a primary that is gone for good and was never followed by a replica: its writes are given up;
    /// - servers that were made anew (`initdb`, a dump that was restored) under the old addresses, and belong to another cluster
    ///   by their system identifier.
    ///
    /// Stop the node, or make it what it should be, before: it is asked at once, and what it says then counts again. Connections
    /// to it are closed. The name is that of [`NodeStatus`].
    ///
    /// ```no_run
    /// # fn run(router: mainstem::Router) -> mainstem::Result<()> {
    /// use mainstem::PrimaryState;
    ///
    /// if let PrimaryState::Fenced(primary) = router.status().primary {
    ///     println!("{primary} takes writes, but a newer timeline than its own was seen");
    ///     // On the word of an operator:
    ///     router.forget("10.0.0.3:5432")?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) when no node has this name.
    pub fn forget(&self, node: &str) -> Result<()> {
        let found = self.node(node)?;
        tracing::warn!(node, "an operator has the router forget what this node has told");
        found.handle().forget();
        Ok(())
    }

    /// The node that has this name.
    fn node(&self, name: &str) -> Result<Arc<Node>> {
        let nodes = self.inner.nodes.all();
        nodes.iter().find(|node| **node.name() == *name).cloned().ok_or_else(|| {
            let names: Vec<&str> = nodes.iter().map(|node| &**node.name()).collect();
            Error::invalid_input(format!("no node has the name {name:?}; the nodes are {}", names.join(", ")))
        })
    }

    /// Asks all nodes from now on, and looks for others.
    fn start(&self) {
        self.inner.nodes.all().iter().for_each(|node| self.inner.probes.start(node));
        self.start_looking();
    }

    /// The limit of one call, as the builder set it.
    pub(crate) fn call_timeout(&self) -> std::time::Duration {
        self.inner.limits.call_timeout
    }

    /// How long a read waits for what it must contain.
    pub(crate) fn replay_wait(&self) -> std::time::Duration {
        self.inner.limits.replay_wait
    }

    /// The cluster's system identifier, when somebody has told.
    pub(crate) fn system(&self) -> Option<u64> {
        self.inner.state.system()
    }

    /// Waits until every node was asked once.
    pub(crate) async fn all_asked(&self, deadline: Deadline) {
        self.inner.probes.keep_asking();
        let _ = tokio::time::timeout_at(deadline.at(), self.inner.state.all_asked()).await;
    }

    /// The database, unless only the owner of the primary's pool knows it.
    pub(crate) fn database(&self) -> Option<&str> {
        self.inner.database.as_deref()
    }

    /// The most connections to the primary, unless that is known to the owner of its pool alone.
    pub(crate) fn primary_size(&self) -> Option<u32> {
        self.inner.nodes.get(0)?.size()
    }
}
