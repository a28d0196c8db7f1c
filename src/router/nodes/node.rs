//! One node of the cluster: its name, its role, its pool.

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use tokio::time::{Instant, timeout_at};

#[cfg(feature = "metrics")]
use crate::telemetry::metrics::{gauges, router::NodeMetrics};
use crate::{
    error::{Error, ErrorKind},
    router::{
        Deadline, Effect, Role,
        core::ConnectFailure,
        freshness::replay::ReplayWatch,
        lease::{
            Lease,
            failure::{self, NotConnected},
            held::Held,
        },
        pool::{
            admission::Caller,
            borrowed::{BorrowedConnection, BorrowedPool},
            connection::Connection,
            own_pool::{OwnPool, rounded},
        },
        record::Endpoint,
        state::{InFlight, NodeHandle},
    },
    telemetry::{Outcome, Stopwatch},
};

/// How long a probe waits for a connection of a full pool before it opens its own. Calls return theirs sooner, unless
/// something is wrong.
pub(in crate::router) const FULL_PATIENCE: Duration = Duration::from_millis(50);

/// A node: its pool, and what the [`State`](crate::router::state::State) knows of it.
#[derive(Debug)]
pub(crate) struct Node {
    name: Arc<str>,
    endpoint: Endpoint,
    configured_role: Option<Role>,
    /// Whether it was added at run time, or found by a name.
    is_found: bool,
    pool: Pool,
    handle: NodeHandle,
    /// Whether its server refuses access to its control data, so that it is not asked a second time: each refusal is a
    /// line in the server's log.
    hides_control_data: AtomicBool,
    replay_watch: ReplayWatch,
    #[cfg(feature = "metrics")]
    metrics: NodeMetrics,
}

#[derive(Debug)]
pub(in crate::router) enum Pool {
    Own(OwnPool),
    Borrowed(Box<dyn BorrowedPool>),
}

impl Node {
    pub(in crate::router) fn new(
        name: Arc<str>,
        configured_role: Option<Role>,
        pool: Pool,
        handle: NodeHandle,
    ) -> Self {
        let (hides_control_data, replay_watch) = (AtomicBool::new(false), ReplayWatch::default());
        let (endpoint, is_found) = (Endpoint::default(), false);
        Self {
            name,
            endpoint,
            configured_role,
            is_found,
            pool,
            handle,
            hides_control_data,
            replay_watch,
            #[cfg(feature = "metrics")]
            metrics: NodeMetrics::default(),
        }
    }

    /// Sets its address according to the settings.
    pub(in crate::router) fn at(mut self, endpoint: Endpoint) -> Self {
        self.endpoint = endpoint;
        self
    }

    /// Marks it as one that the settings do not list.
    pub(in crate::router) fn found(mut self) -> Arc<Self> {
        self.is_found = true;
        Arc::new(self)
    }

    pub(in crate::router) fn is_found(&self) -> bool {
        self.is_found
    }

    /// The database, unless only the pool's owner knows it.
    pub(in crate::router) fn database(&self) -> Option<&str> {
        self.endpoint.database.as_deref()
    }

    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub(in crate::router) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    #[cfg(feature = "metrics")]
    pub(in crate::router) fn metrics(&self) -> &NodeMetrics {
        &self.metrics
    }

    /// Sets the gauges of its state and of the cluster's.
    #[cfg(feature = "metrics")]
    pub(in crate::router) fn set_gauges(&self) {
        let status = self.handle.router_status();
        if let Some(node) = status.nodes.iter().find(|node| node.name == self.name) {
            gauges::node(node, self.own_pool().map(OwnPool::gauges));
            gauges::router(&status);
        }
    }

    /// Resets them when the node is no longer looked at: nobody would correct them afterwards.
    #[cfg(feature = "metrics")]
    pub(in crate::router) fn reset_gauges(&self) {
        gauges::node_gone(&self.name);
        if self.handle.has_router_ended() {
            gauges::router_gone(&self.handle.router_status());
        }
    }

    /// The role in the settings, if any.
    pub(in crate::router) fn configured_role(&self) -> Option<Role> {
        self.configured_role
    }

    pub(in crate::router) fn hides_control_data(&self) -> &AtomicBool {
        &self.hides_control_data
    }

    /// The calls that wait for its replay.
    pub(in crate::router) fn replay_watch(&self) -> &ReplayWatch {
        &self.replay_watch
    }

    /// Its present role.
    pub(crate) fn role(&self) -> Role {
        self.handle.standing().0
    }

    /// Its pool, if it is our own.
    pub(in crate::router) fn own_pool(&self) -> Option<&OwnPool> {
        match &self.pool {
            Pool::Own(pool) => Some(pool),
            Pool::Borrowed(_) => None,
        }
    }

    /// The maximum number of connections, if the pool is our own.
    pub(in crate::router) fn size(&self) -> Option<u32> {
        self.own_pool().map(OwnPool::size)
    }

    pub(in crate::router) fn handle(&self) -> &NodeHandle {
        &self.handle
    }

    /// A separate connection, outside of the pool; `None` if only the owner of the pool can open one.
    pub(in crate::router) async fn dedicated(&self) -> Option<Result<Box<Connection>, Error>> {
        let opened = self.own_pool()?.dedicated().await;
        Some(opened.map_err(|failed| failed.error.with_node(Arc::clone(&self.name))))
    }

    /// Acquires a connection of this node that is ready for use, until `until` at the latest. A user's call is refused
    /// if the queue is full.
    pub(in crate::router) async fn lease(
        self: &Arc<Self>,
        in_flight: Option<InFlight>,
        until: Instant,
        deadline: Deadline,
        caller: Caller,
    ) -> Result<Lease, Error> {
        let waiting =
            in_flight.is_some().then(|| Waiting { node: self, outcome: Outcome::Cancelled, since: Stopwatch::start() });
        let held = match &self.pool {
            Pool::Own(pool) => {
                let pooled = pool.acquire(until, deadline, &self.handle, caller).await;
                pooled.map(|pooled| Held::Own(pooled.into()))
            }
            Pool::Borrowed(pool) => borrow(&**pool, until, deadline, &self.handle).await.map(Held::borrowed),
        };
        if let Some(mut waiting) = waiting {
            waiting.outcome = held.as_ref().map_or_else(Outcome::from, |_| Outcome::Succeeded);
        }
        match held {
            Ok(held) => Ok(Lease::new(held, Arc::clone(self), in_flight)),
            Err(error) => Err(self.named(error)),
        }
    }

    /// Acquires a connection to probe the node. If the pool's connections all stay in use, it is an extra one, which is
    /// closed afterwards: otherwise nobody would notice that the node has been promoted, or is silent, before they are
    /// returned.
    pub(in crate::router) async fn lease_for_probe(self: &Arc<Self>, deadline: Deadline) -> Result<Lease, Error> {
        let mut pooled = Box::pin(self.lease(None, deadline.at(), deadline, Caller::Library));
        let Some(pool) = self.own_pool() else { return pooled.await };
        if let Ok(lease) = timeout_at(deadline.or_within(FULL_PATIENCE), pooled.as_mut()).await {
            return lease;
        }
        if !pool.is_full() {
            return pooled.await;
        }
        // Out of the queue: the next one woken there has to be listening.
        drop(pooled);
        // Not given up at the deadline: that it gets no answer is what the core has to be told.
        self.extra(pool).await
    }

    /// Acquires a connection beside the pool's, if those are all in use, or else one of the pool's.
    pub(in crate::router) async fn lease_beside(self: &Arc<Self>, deadline: Deadline) -> Result<Lease, Error> {
        match self.own_pool().filter(|pool| pool.is_full()) {
            Some(pool) => {
                let in_turn = timeout_at(deadline.at(), pool.beside()).await;
                let in_turn = in_turn.unwrap_or_else(|_| {
                    let error = failure::on_deadline(deadline, Effect::Read);
                    Err(NotConnected { error, why: ConnectFailure::NoAnswer })
                });
                let held = Held::Own(in_turn.map_err(|failed| self.named(failed.error))?.into());
                Ok(Lease::new(held, Arc::clone(self), None))
            }
            None => self.lease(None, deadline.at(), deadline, Caller::Library).await,
        }
    }

    async fn extra(self: &Arc<Self>, pool: &OwnPool) -> Result<Lease, Error> {
        let single = pool.dedicated().await.map_err(|failed| self.named(failed.error))?;
        Ok(Lease::new(Held::Own(single.into()), Arc::clone(self), None))
    }

    fn named(&self, error: Error) -> Error {
        if error.node().is_none() { error.with_node(Arc::clone(&self.name)) } else { error }
    }
}

/// A call that waits for a connection: the result is counted when this is dropped.
struct Waiting<'a> {
    node: &'a Node,
    outcome: Outcome,
    since: Stopwatch,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        with_metrics! {
            self.node.metrics.waited(&self.node.name, self.outcome, self.since.elapsed());
        }
        let _ = (self.node, self.outcome, self.since);
    }
}

async fn borrow(
    pool: &dyn BorrowedPool,
    until: Instant,
    deadline: Deadline,
    handle: &NodeHandle,
) -> Result<Box<dyn BorrowedConnection>, Error> {
    loop {
        let answers = handle.answers();
        match timeout_at(until, pool.get()).await {
            Ok(Ok(connection)) if connection.client().is_closed() => {}
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(cause)) => {
                let cause = match cause.downcast::<tokio_postgres::Error>() {
                    Ok(error) => {
                        let failed = NotConnected::from(*error);
                        match failed.why {
                            // Perhaps only we are refused, since so many others are in.
                            ConnectFailure::Refused => handle.was_silent(answers),
                            why => handle.connect_failed(why),
                        }
                        return Err(failed.error);
                    }
                    Err(cause) => cause,
                };
                handle.was_silent(answers);
                let message = "the pool that was handed to the router gave no connection";
                return Err(Error::new(ErrorKind::Unavailable, message).with_source(cause));
            }
            Err(_) => {
                // Such a pool does not report its connect errors: an unreachable server looks like a busy one. Only its
                // answers distinguish them.
                handle.was_silent(answers);
                let waited = rounded(deadline.elapsed());
                let message = format!("the pool that was handed to the router gave no connection within {waited:?}");
                return Err(Error::new(ErrorKind::Unavailable, message));
            }
        }
    }
}
