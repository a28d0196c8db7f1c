//! A connection in use, and what becomes of it afterwards.

use std::{
    fmt,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt;
use tokio::time::{timeout, timeout_at};
use tokio_postgres::{Client, Row, Statement, error::SqlState, types::ToSql};

use super::{
    Deadline,
    borrowed::BorrowedConnection,
    failure::{self, Effect},
    manager::Manager,
    node::Node,
};
use crate::error::{Error, ErrorKind};

/// How long an abandoned statement on a borrowed connection may keep that connection from its pool.
const SETTLE_LIMIT: Duration = Duration::from_secs(60);

/// A connection that belongs to one caller until it is dropped.
pub(crate) struct Lease {
    held: Option<Held>,
    node: Arc<Node>,
}

pub(super) enum Held {
    Own(bb8::PooledConnection<'static, Manager>),
    Borrowed { connection: Box<dyn BorrowedConnection>, pending: AtomicUsize },
}

impl Held {
    pub(super) fn borrowed(connection: Box<dyn BorrowedConnection>) -> Self {
        Self::Borrowed { connection, pending: AtomicUsize::new(0) }
    }

    fn client(&self) -> &Client {
        match self {
            Self::Own(connection) => connection.client(),
            Self::Borrowed { connection, .. } => connection.client(),
        }
    }

    #[cfg(feature = "migrations")]
    fn client_mut(&mut self) -> &mut Client {
        match self {
            Self::Own(connection) => connection.client_mut(),
            Self::Borrowed { connection, .. } => connection.client_mut(),
        }
    }

    fn pending(&self) -> &AtomicUsize {
        match self {
            Self::Own(connection) => connection.pending(),
            Self::Borrowed { pending, .. } => pending,
        }
    }
}

impl Lease {
    pub(super) fn new(held: Held, node: Arc<Node>) -> Self {
        node.in_flight().fetch_add(1, Ordering::Relaxed);
        Self { held: Some(held), node }
    }

    pub(crate) fn node(&self) -> &Arc<Node> {
        &self.node
    }

    pub(super) fn is_own(&self) -> bool {
        matches!(self.held, Some(Held::Own(_)))
    }

    /// Runs one call on this connection. If it is given up, by its limit or because the caller drops it, the answer
    /// is still to come, and nobody else may use the connection.
    ///
    /// # Errors
    ///
    /// What the server or the network said, in this crate's terms, with the node's name.
    pub(crate) async fn call<T, F>(&self, effect: Effect, deadline: Deadline, call: F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, tokio_postgres::Error>>,
    {
        let held = self.held();
        let named = |error: Error| error.with_node(Arc::clone(self.node.name()));
        if held.client().is_closed() {
            self.node.failed();
            return Err(named(Error::new(ErrorKind::Unavailable, "the connection was lost before the call")));
        }
        held.pending().fetch_add(1, Ordering::AcqRel);
        let Ok(outcome) = timeout_at(deadline.at(), call).await else {
            // No failure of the node: the caller's limit may have been shorter than the statement is long.
            return Err(named(failure::on_deadline(deadline, effect)));
        };
        held.pending().fetch_sub(1, Ordering::AcqRel);
        match outcome {
            Ok(value) => {
                self.node.answered();
                Ok(value)
            }
            Err(error) => {
                let error = failure::on_call(error, effect);
                if held.client().is_closed() {
                    self.node.failed();
                }
                Err(named(error))
            }
        }
    }

    /// One statement with parameters, prepared once per connection.
    pub(crate) async fn query(
        &self,
        effect: Effect,
        deadline: Deadline,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, Error> {
        let statement = self.prepare(deadline, sql).await?;
        match self.call(effect, deadline, self.client().query(&statement, params)).await {
            Err(error) if self.is_outdated(sql, &error) => {
                let statement = self.prepare(deadline, sql).await?;
                self.call(effect, deadline, self.client().query(&statement, params)).await
            }
            outcome => outcome,
        }
    }

    /// One statement with parameters, prepared once per connection, for the number of rows that it changed.
    pub(crate) async fn execute(
        &self,
        effect: Effect,
        deadline: Deadline,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<u64, Error> {
        let statement = self.prepare(deadline, sql).await?;
        match self.call(effect, deadline, self.client().execute(&statement, params)).await {
            Err(error) if self.is_outdated(sql, &error) => {
                let statement = self.prepare(deadline, sql).await?;
                self.call(effect, deadline, self.client().execute(&statement, params)).await
            }
            outcome => outcome,
        }
    }

    /// Whether `error` says that the schema has changed under our prepared statement, which is then forgotten. The
    /// server refuses it before it executes anything, so even a write may be sent again.
    fn is_outdated(&self, sql: &str, error: &Error) -> bool {
        match self.held() {
            Held::Own(connection) if error.sqlstate() == Some(SqlState::FEATURE_NOT_SUPPORTED.code()) => {
                connection.forget(sql)
            }
            _ => false,
        }
    }

    /// The statement for `sql`: from the connection's cache if it is ours, anew if it is borrowed.
    async fn prepare(&self, deadline: Deadline, sql: &str) -> Result<Statement, Error> {
        let own = match self.held() {
            Held::Own(connection) => Some(connection),
            Held::Borrowed { .. } => None,
        };
        if let Some(statement) = own.and_then(|connection| connection.cached(sql)) {
            return Ok(statement);
        }
        // Nothing has been executed yet, whatever the statement will do.
        let statement = self.call(Effect::Read, deadline, self.client().prepare(sql)).await?;
        if let Some(connection) = own {
            connection.cache(sql, statement.clone());
        }
        Ok(statement)
    }

    pub(crate) fn client(&self) -> &Client {
        self.held().client()
    }

    /// Hands the driver's client out for work that needs it alone. If it is given up, the connection is not used again.
    #[cfg(feature = "migrations")]
    pub(crate) async fn exclusive<T>(
        &mut self,
        deadline: Deadline,
        work: impl AsyncFnOnce(&mut Client) -> Result<T, crate::error::Cause>,
    ) -> Result<T, Error> {
        let node = Arc::clone(self.node.name());
        let named = |error: Error| error.with_node(Arc::clone(&node));
        let Some(held) = &mut self.held else { return Err(named(failure::on_deadline(deadline, Effect::Read))) };
        held.pending().fetch_add(1, Ordering::AcqRel);
        let outcome = timeout_at(deadline.at(), work(held.client_mut())).await;
        let Ok(outcome) = outcome else { return Err(named(failure::on_deadline(deadline, Effect::Read))) };
        held.pending().fetch_sub(1, Ordering::AcqRel);
        outcome.map_err(|cause| {
            named(match cause.downcast::<tokio_postgres::Error>() {
                Ok(error) => failure::on_call(*error, Effect::Read),
                Err(cause) => match cause.downcast::<Error>() {
                    Ok(error) => *error,
                    Err(cause) => Error::new(ErrorKind::Database, "the work on a connection failed").with_source(cause),
                },
            })
        })
    }

    /// Sends `sql` without waiting for the answer: the next user's first statement gets in line behind it.
    pub(super) fn send_behind(&self, sql: &str) {
        // The driver queues the message at the first poll; what becomes of the answer is its affair.
        let _ = self.client().batch_execute(sql).now_or_never();
    }

    pub(super) fn is_abandoned(&self) -> bool {
        self.held().pending().load(Ordering::Acquire) > 0
    }

    #[expect(clippy::expect_used, reason = "only drop takes the connection out")]
    fn held(&self) -> &Held {
        self.held.as_ref().expect("a lease holds its connection until it is dropped")
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.node.in_flight().fetch_sub(1, Ordering::Relaxed);
        // Our own manager closes an abandoned connection. A borrowed pool would hand it out again, behind the
        // statement that nobody waits for: so a task keeps it until the server has answered.
        if let Some(Held::Borrowed { connection, pending }) = self.held.take()
            && pending.load(Ordering::Acquire) > 0
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(async move {
                let _ = timeout(SETTLE_LIMIT, connection.client().batch_execute("ROLLBACK")).await;
            });
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("node", self.node.name()).field("own", &self.is_own()).finish_non_exhaustive()
    }
}
