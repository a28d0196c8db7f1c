//! The router's raw connection for any SQL.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use tokio_postgres::{Row, types::ToSql};

use super::{Deadline, Role, failure::Effect, lease::Lease};
use crate::error::{Error, ErrorKind, Result};

/// What a user may have left behind in the session. `DISCARD ALL` would also throw away our prepared statements.
const RESET: &str = "ROLLBACK; CLOSE ALL; SET SESSION AUTHORIZATION DEFAULT; RESET ALL; UNLISTEN *; \
                     SELECT pg_advisory_unlock_all(); DISCARD TEMP; DISCARD SEQUENCES";

/// A connection of the node that the call's [`Consistency`](crate::Consistency) asks for, for any SQL.
///
/// It goes back to its pool when it is dropped. What it was used for is undone behind the last answer, before the next
/// user's first statement: an open transaction, `SET`, temporary tables, `LISTEN`, advisory locks. (A connection from
/// a pool that you handed to the router is only rolled back: the rest of its session is yours.)
///
/// A replica's connection only reads: a write on it is refused with [`ErrorKind::ReadOnly`]. Beware of
/// `pg_advisory_lock` there: a standby grants it, and nobody else sees it.
///
/// # Cancel safety
///
/// A call that is dropped before its answer came may have been executed. Its connection is closed, not reused.
///
/// ```no_run
/// # async fn run(router: mainstem::Router) -> mainstem::Result<()> {
/// let client = router.client().await?;
/// let row = client.query_one("SELECT $1::int8 + 1", &[&41_i64]).await?;
/// assert_eq!(row.get::<_, i64>(0), 42);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Client {
    lease: Lease,
    limit: Duration,
    used: AtomicBool,
}

impl Client {
    pub(super) fn new(lease: Lease, limit: Duration) -> Self {
        Self { lease, limit, used: AtomicBool::new(false) }
    }

    /// The name of the node that serves: `host:port`.
    #[must_use]
    pub fn node(&self) -> &str {
        self.lease.node().name()
    }

    /// The role of that node.
    #[must_use]
    pub fn role(&self) -> Role {
        self.lease.node().role()
    }

    /// Runs a statement and returns its rows. The statement is prepared once per connection.
    ///
    /// # Errors
    ///
    /// What the server said; on a lost connection or past the [call
    /// timeout](crate::RouterBuilder::call_timeout) [`ErrorKind::OutcomeUnknown`] on the primary and
    /// [`ErrorKind::Unavailable`] or [`ErrorKind::Timeout`] on a replica, which cannot have written anything.
    ///
    /// # Cancel safety
    ///
    /// See [`Client`].
    pub async fn query(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>> {
        self.lease.query(self.effect(), self.start(), sql, params).await
    }

    /// Runs a statement that returns exactly one row.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query), and when there is no row or more than one.
    ///
    /// # Cancel safety
    ///
    /// See [`Client`].
    pub async fn query_one(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Row> {
        let mut rows = self.query(sql, params).await?;
        match (rows.pop(), rows.len()) {
            (Some(row), 0) => Ok(row),
            (last, more) => Err(self.wrong_count("exactly one row", more + usize::from(last.is_some()))),
        }
    }

    /// Runs a statement that returns one row or none.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query), and when there is more than one row.
    ///
    /// # Cancel safety
    ///
    /// See [`Client`].
    pub async fn query_opt(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Option<Row>> {
        let mut rows = self.query(sql, params).await?;
        match (rows.pop(), rows.len()) {
            (row, 0) => Ok(row),
            (_, more) => Err(self.wrong_count("at most one row", more + 1)),
        }
    }

    /// Runs a statement and returns the number of rows that it changed.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query).
    ///
    /// # Cancel safety
    ///
    /// See [`Client`].
    pub async fn execute(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<u64> {
        self.lease.execute(self.effect(), self.start(), sql, params).await
    }

    /// Runs several statements, separated by semicolons, without parameters. Never splice values into them.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query).
    ///
    /// # Cancel safety
    ///
    /// See [`Client`].
    pub async fn batch_execute(&self, sql: &str) -> Result<()> {
        self.lease.call(self.effect(), self.start(), self.lease.client().batch_execute(sql)).await
    }

    fn start(&self) -> Deadline {
        self.used.store(true, Ordering::Relaxed);
        Deadline::after(self.limit)
    }

    fn effect(&self) -> Effect {
        match self.role() {
            Role::Primary => Effect::Write,
            Role::Replica => Effect::Read,
        }
    }

    fn wrong_count(&self, expected: &str, found: usize) -> Error {
        let message = format!("the statement was to return {expected}, but it returned {found}");
        Error::new(ErrorKind::Database, message).with_node(self.node())
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if *self.used.get_mut() && !self.lease.is_abandoned() {
            self.lease.send_behind(if self.lease.is_own() { RESET } else { "ROLLBACK" });
        }
    }
}
