//! The calls that return a connection: for users, for any SQL, and for the layers above.

use std::future::Future;

use tokio::time::timeout_at;

use super::{
    Ask, Client, Deadline, Floor, Inner, Lease, Role, Router, Tried,
    core::{Decision, NodeSet, Want},
    freshness::guard::Guard,
    lease::failure::may_go_elsewhere,
    nodes::node::FULL_PATIENCE,
    pool::admission::Caller,
};
use crate::{
    error::{Error, Result},
    runtime,
    scope::{Consistency, Session, current_consistency, current_session},
    token::Token,
};

impl Router {
    /// Acquires a connection at the scope's consistency level: to the primary, unless the scope says
    /// [`Consistency::Eventual`], [`Consistency::Bounded`] or [`Consistency::AtLeast`].
    ///
    /// The scope is read when this method is called, not when its future is first polled.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) if no node that qualifies can be reached, and
    /// [`ErrorKind::Timeout`](crate::ErrorKind::Timeout) if none of their connections becomes free, both within the
    /// [acquire timeout](crate::RouterBuilder::acquire_timeout).
    /// [`ErrorKind::Overloaded`](crate::ErrorKind::Overloaded), at once, if [too many
    /// calls](crate::RouterBuilder::waiting_calls) already wait for them.
    /// [`ErrorKind::ReplicasUnavailable`](crate::ErrorKind::ReplicasUnavailable) if no replica qualifies and the
    /// primary may not [serve in their place](crate::RouterBuilder::fallback), and
    /// [`ErrorKind::SplitBrain`](crate::ErrorKind::SplitBrain) if two nodes take writes.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves nothing behind.
    pub fn client(&self) -> impl Future<Output = Result<Client>> + Send + 'static + use<> {
        self.client_at(current_consistency())
    }

    /// Acquires a connection that satisfies `consistency`, regardless of the scope.
    ///
    /// # Errors
    ///
    /// As [`client`](Self::client).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves nothing behind.
    pub fn client_at(&self, consistency: Consistency) -> impl Future<Output = Result<Client>> + Send + 'static + use<> {
        let (router, session) = (self.clone(), current_session());
        async move {
            let limits = &router.inner.limits;
            let deadline = Deadline::after(limits.acquire_timeout);
            let asked = asked(&consistency, session.as_ref());
            let floor = Floor::of(asked.clone());
            let ask = Ask { floor: floor.as_ref(), notes_place: session.is_some(), ..Ask::from(&consistency) };
            let lease = router.lease_expected(ask, deadline).await?;
            let judged = judged(&consistency, asked);
            let only_reads = consistency != Consistency::Strong;
            Ok(Client::new(lease, limits.call_timeout, only_reads, session.map(|session| (session, judged))))
        }
    }

    /// Acquires a connection to the node of this name, whatever its role and condition: for maintaining a cluster, not
    /// for using it.
    ///
    /// No routing rule applies. The node may be out of service, lagging, part of another cluster, or a primary that has
    /// been replaced: what is written there is lost. Neither the scope nor the session counts. The name is that of
    /// [`NodeStatus`](crate::NodeStatus).
    ///
    /// ```no_run
    /// # async fn run(router: mainstem::Router) -> mainstem::Result<()> {
    /// for node in router.status().nodes {
    ///     let client = router.client_on(&node.name).await?;
    ///     let version = client.query_one("SHOW server_version", &[]).await?;
    ///     println!("{}: {}", node.name, version.get::<_, &str>(0));
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) if no node has this name,
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) if it cannot be reached, and
    /// [`ErrorKind::Timeout`](crate::ErrorKind::Timeout) if none of its connections becomes free, both within the
    /// [acquire timeout](crate::RouterBuilder::acquire_timeout).
    /// [`ErrorKind::Overloaded`](crate::ErrorKind::Overloaded) if [too many calls](crate::RouterBuilder::waiting_calls)
    /// already wait for them.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves nothing behind.
    pub fn client_on(&self, node: &str) -> impl Future<Output = Result<Client>> + Send + 'static + use<> {
        let (router, node) = (self.clone(), self.node(node));
        async move {
            let node = node?;
            runtime::current()?;
            let Inner { probes, limits, .. } = &*router.inner;
            probes.keep_asking();
            let deadline = Deadline::after(limits.acquire_timeout);
            let in_flight = node.handle().enter(false);
            let lease = node.lease(Some(in_flight), deadline.at(), deadline, Caller::User).await?;
            Ok(Client::new(lease.whoever_leads(), limits.call_timeout, false, None))
        }
    }

    /// A connection to the primary for the library's own calls, of which there are few: a full queue does not refuse
    /// them. Otherwise a member of a group would lose its partitions for lack of a heartbeat.
    pub(crate) async fn lease_primary(&self, deadline: Deadline) -> Result<Lease> {
        let ask = Ask { caller: Caller::Library, ..Ask::from(&Consistency::Strong) };
        self.lease(ask, self.acquire_within(deadline), &mut Tried::default()).await
    }

    /// As [`lease_primary`](Self::lease_primary), for a sign of life: if the pool's connections all stay in use, it gets
    /// one of a few beside them, in turn with others. Whoever uses the pool's may wait for just this sign.
    pub(crate) async fn lease_primary_at_once(&self, deadline: Deadline) -> Result<Lease> {
        // A short limit must leave time to open one.
        let patience = FULL_PATIENCE.min(deadline.remaining() / 4);
        let pooled = timeout_at(deadline.or_within(patience), self.lease_primary(deadline)).await;
        if let Ok(lease) = pooled {
            return lease;
        }
        let Decision::Route(route) = self.inner.state.choose(Want::Strong, NodeSet::EMPTY) else {
            return self.lease_primary(deadline).await;
        };
        match self.inner.nodes.get(route.node) {
            Some(node) => node.lease_beside(deadline).await,
            None => self.lease_primary(deadline).await,
        }
    }

    /// Runs a read where its level allows it. If the node is lost meanwhile, or has not replayed as far as required, it
    /// tries each other qualifying node once.
    pub(crate) async fn read<T, F, Fut>(&self, ask: Ask<'_>, deadline: Deadline, read: F) -> Result<T>
    where
        F: Fn(Lease) -> Fut,
        Fut: Future<Output = Result<T>>,
    {
        let mut tried = Tried::default();
        let mut said: Option<Error> = None;
        loop {
            let lease = match self.lease(ask, self.acquire_within(deadline), &mut tried).await {
                Ok(lease) => lease,
                Err(error) => return Err(Self::last_word(said, error)),
            };
            let (replica, guard) = (lease.role() == Role::Replica, lease.guard().cloned());
            match read(lease).await {
                Err(error) if replica && may_go_elsewhere(&error) && !deadline.is_over() => {
                    tracing::debug!(error = %error.for_log(), "a replica could not serve a read; trying another node");
                    tried.last_has_failed(guard.as_deref());
                    said = Some(error);
                }
                outcome => return outcome,
            }
        }
    }

    /// A connection that the level allows, to a node that is not in `tried`; that node is then the last one in it, and has
    /// proven that it contains what the floor requires. For a read that continues elsewhere if its node is lost.
    pub(crate) async fn lease_at(&self, ask: Ask<'_>, deadline: Deadline, tried: &mut Tried) -> Result<Lease> {
        self.lease_proven(ask, deadline, tried, |_| true).await
    }

    /// A connection that the level allows, to a node that is expected to contain what the floor requires: it proves that
    /// with its first call. One that is not has proven it already. `acquire` is the [limit](Self::acquire_within) of the
    /// wait.
    pub(super) async fn lease_expected(&self, ask: Ask<'_>, acquire: Deadline) -> Result<Lease> {
        let mut tried = Tried::default();
        if ask.floor.is_none() {
            return self.lease(ask, acquire, &mut tried).await;
        }
        // Boxed: inside the future of all calls it would be moved about with it.
        Box::pin(self.lease_proven(ask, acquire, &mut tried, |guard| !guard.is_expected())).await
    }

    async fn lease_proven(
        &self,
        ask: Ask<'_>,
        deadline: Deadline,
        tried: &mut Tried,
        must_prove: fn(&Guard) -> bool,
    ) -> Result<Lease> {
        let mut said: Option<Error> = None;
        loop {
            let lease = match self.lease(ask, self.acquire_within(deadline), tried).await {
                Ok(lease) => lease,
                Err(error) => return Err(Self::last_word(said, error)),
            };
            let Some(guard) = lease.guard().cloned().filter(|guard| must_prove(guard)) else { return Ok(lease) };
            match Box::pin(lease.prove(deadline)).await {
                Ok(()) => return Ok(lease),
                Err(error) if lease.role() == Role::Replica && may_go_elsewhere(&error) && !deadline.is_over() => {
                    tried.last_has_failed(Some(&guard));
                    said = Some(error);
                }
                // What is committed there may only be waiting for its standby: the layer that checks can wait for it.
                Err(_) if lease.role() == Role::Primary && guard.is_behind() => return Ok(lease),
                Err(error) => return Err(error),
            }
        }
    }

    /// What a read fails with when there is no further node: an error from a server says more than that.
    fn last_word(said: Option<Error>, none_left: Error) -> Error {
        said.filter(|said| said.sqlstate().is_some()).unwrap_or(none_left)
    }

    /// The deadline for acquiring a connection: within the call's own, and never later than the router's limit.
    pub(super) fn acquire_within(&self, deadline: Deadline) -> Deadline {
        Deadline::after(deadline.remaining().min(self.inner.limits.acquire_timeout))
    }
}

/// What a read must contain, according to its level and its session.
pub(crate) fn asked(level: &Consistency, session: Option<&Session>) -> Token {
    let session = session.map(Session::token).unwrap_or_default();
    match level {
        Consistency::AtLeast(token) => token.merge(&session),
        _ => session,
    }
}

/// The part of the requirement that a read at this level was really held to: the newest state is there, whatever became
/// of an LSN on an older timeline.
pub(crate) fn judged(level: &Consistency, asked: Token) -> Token {
    if *level == Consistency::Strong { asked.without_places() } else { asked }
}
