//! A connection to the primary that listens for notifications.

use std::{
    fmt,
    sync::{Arc, atomic::Ordering},
};

use tokio::{sync::watch, time::timeout_at};
use tokio_postgres::{Row, types::ToSql};

use super::{
    Deadline, Role, Router,
    core::{Decision, NodeSet, Want},
    lease::failure::{self, Effect},
    nodes::node::Node,
    pool::connection::Connection,
};
use crate::{
    error::{Error, ErrorKind, Result},
    lsn::Lsn,
};

/// A session on the primary that listens to a channel, on a separate connection: one from the pool would be missing
/// there for as long as it listens.
pub(crate) struct Listener {
    connection: Box<Connection>,
    notified: watch::Receiver<Option<Box<str>>>,
    node: Arc<Node>,
}

impl Router {
    /// Opens a connection to the primary that listens to `channel`, which consists only of letters, digits and `_`.
    /// `None` if the primary's pool is borrowed, so that the router cannot open any, and behind a transaction pooler,
    /// where the listening session would be given to others.
    pub(crate) async fn listen(&self, channel: &str, deadline: Deadline) -> Result<Option<Listener>> {
        self.inner.probes.keep_asking();
        let Decision::Route(route) = self.inner.state.choose(Want::Strong, NodeSet::EMPTY) else {
            return Err(Error::new(ErrorKind::Unavailable, "no node is known to take writes"));
        };
        let Some(node) = self.inner.nodes.get(route.node) else {
            return Err(Error::new(ErrorKind::Unavailable, "the primary has just left"));
        };
        let named = |error: Error| error.with_node(Arc::clone(node.name()));
        let opened = timeout_at(deadline.at(), node.dedicated()).await;
        let opened = opened.map_err(|_| named(failure::on_deadline(deadline, Effect::Read)))?;
        let Some(connection) = opened.transpose()? else { return Ok(None) };
        if connection.is_pooled() {
            return Ok(None);
        }
        if connection.role() != Role::Primary {
            return Err(named(Error::new(ErrorKind::Unavailable, "it was the primary, and has become a replica")));
        }
        let notified = connection.notified();
        let listener = Listener { connection, notified, node };
        let listen = format!("LISTEN {channel}");
        listener.call(deadline, listener.connection.client().batch_execute(&listen)).await?;
        Ok(Some(listener))
    }

    /// How far the nodes of a role have come in the write-ahead log, as of their last probe. `None` if one of them has
    /// not reported it.
    pub(crate) fn written(&self, role: Role) -> Option<Vec<Lsn>> {
        self.status().nodes.iter().filter(|node| node.role == role).map(|node| node.lsn).collect()
    }

    /// Whether reads can go anywhere but the primary.
    pub(crate) fn has_replicas(&self) -> bool {
        self.inner.state.there().len() > 1 || self.inner.discovery.finds_replicas()
    }
}

impl Listener {
    /// The payload of the latest notification since the last call; several notifications are merged into one. `None` if
    /// no more will follow, since the connection has ended.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub(crate) async fn notified(&mut self) -> Option<Box<str>> {
        loop {
            if self.is_over() || self.notified.changed().await.is_err() {
                return None;
            }
            if let Some(payload) = self.notified.borrow_and_update().clone() {
                return Some(payload);
            }
        }
    }

    /// Whether the connection has ended, or its node is no longer the primary.
    pub(crate) fn is_over(&self) -> bool {
        self.connection.client().is_closed() || self.connection.is_of_the_past() || self.node.handle().is_fenced()
    }

    /// A short read on this connection.
    pub(crate) async fn query(
        &self,
        deadline: Deadline,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>> {
        if self.is_over() {
            let message = "the connection that listens has ended, or its node is not the primary any more";
            return Err(Error::new(ErrorKind::Unavailable, message).with_node(Arc::clone(self.node.name())));
        }
        let client = self.connection.client();
        let statement = match self.connection.cached(sql) {
            Some(statement) => statement,
            None => {
                let statement = self.call(deadline, client.prepare(sql)).await?;
                self.connection.cache(sql, statement.clone());
                statement
            }
        };
        self.call(deadline, client.query(&statement, params)).await
    }

    async fn call<T>(
        &self,
        deadline: Deadline,
        call: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T> {
        let named = |error: Error| error.with_node(Arc::clone(self.node.name()));
        // If the read is cancelled, dropping the connection does not wait for it.
        self.connection.pending().fetch_add(1, Ordering::AcqRel);
        let Ok(outcome) = timeout_at(deadline.at(), call).await else {
            return Err(named(failure::on_deadline(deadline, Effect::Read)));
        };
        self.connection.pending().fetch_sub(1, Ordering::AcqRel);
        outcome.map_err(|error| named(failure::on_call(error, Effect::Read, Role::Primary)))
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").field("node", self.node.name()).finish_non_exhaustive()
    }
}
