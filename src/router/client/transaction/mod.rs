//! Transactions: their options, and a commit that reports what really happened.
//!
//! | file | what it holds |
//! |---|---|
//! | `begin` | the options |
//! | `end` | commit and rollback |
//! | `run` | retries when another transaction conflicted |

mod begin;
mod end;
mod run;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crossbeam_utils::atomic::AtomicCell;
use tokio_postgres::{Row, types::ToSql};

pub use self::begin::{BeginTransaction, Isolation};
use super::{
    occupied::CallInFlight,
    piecewise::PieceCall,
    standby,
    transaction_control::{self, ASYNCHRONOUS},
};
use crate::{
    error::{Error, Result},
    router::{Deadline, Effect, Lease, Role, lease::rows::Count},
    scope::Session,
    token::Token,
};

pub(crate) const FAILED_TRANSACTION: &str = "25P02";
pub(crate) const NO_TRANSACTION: &str = "25P01";

/// SQLSTATEs reported to a transaction that conflicted with another one.
const SERIALIZATION_FAILURE: &str = "40001";
const DEADLOCK: &str = "40P01";

/// An open transaction on its own connection; see [`Router::transaction`](crate::Router::transaction).
///
/// Dropping it rolls it back, after the last answer and before the connection is reused. Anything its SQL has set in
/// the session is undone as well, as after a [`Client`](crate::Client).
///
/// End it with [`commit`](Self::commit) or [`rollback`](Self::rollback), not in SQL. You may use savepoints.
///
/// # Cancel safety
///
/// If a call is dropped before its answer arrives, the transaction can no longer be committed.
#[derive(Debug)]
#[must_use = "a transaction that is not committed is rolled back"]
pub struct Transaction {
    open: Arc<Open>,
}

#[derive(Debug)]
struct Open {
    lease: Lease,
    /// For the whole transaction.
    deadline: Deadline,
    /// For one call.
    limit: Duration,
    read_only: bool,
    /// Whether another transaction conflicted.
    lost: AtomicBool,
    /// The error of the statement with which the server has let it fail.
    failure: Mutex<Option<Error>>,
    /// Whether its commit may be acknowledged before it is on disk.
    is_asynchronous: AtomicBool,
    stage: AtomicCell<Stage>,
    /// The session, and what the transaction had to contain when it began.
    session: Option<(Session, Token)>,
}

/// The stage that a transaction has reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Open,
    /// It takes no more calls.
    Ending,
    RolledBack,
    /// The server has refused the commit: nothing was written.
    CommitRefused,
    /// The commit was sent, and nobody knows what has become of it.
    CommitSent,
    Committed,
}

impl Transaction {
    fn new(
        lease: Lease,
        deadline: Deadline,
        limit: Duration,
        read_only: bool,
        session: Option<(Session, Token)>,
    ) -> Self {
        let [lost, is_asynchronous] = [const { AtomicBool::new(false) }; 2];
        let (stage, failure) = (AtomicCell::new(Stage::Open), Mutex::default());
        let open = Open { lease, deadline, limit, read_only, lost, failure, is_asynchronous, stage, session };
        Self { open: Arc::new(open) }
    }

    /// The same transaction for another owner. Whichever ends it ends it for both.
    fn share(&self) -> Self {
        Self { open: Arc::clone(&self.open) }
    }

    /// Returns the name of the serving node: `host:port`.
    #[must_use]
    pub fn node(&self) -> &str {
        self.open.lease.node().name()
    }

    /// Returns the role of that node when the transaction began.
    #[must_use]
    pub fn role(&self) -> Role {
        self.open.lease.role()
    }

    /// Runs a statement and returns its rows. The statement is prepared once per connection.
    ///
    /// # Errors
    ///
    /// The server's error; the transaction can then only be rolled back, unless there is a savepoint. If the call was
    /// interrupted, [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) or
    /// [`ErrorKind::Timeout`](crate::ErrorKind::Timeout), and the server has rolled the transaction back or will.
    ///
    /// # Cancel safety
    ///
    /// See [`Transaction`].
    pub async fn query(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>> {
        let _in_flight = self.enter(sql)?;
        let rows = self.open.lease.query(Effect::Read, self.next(), sql, params).await;
        self.note(rows).inspect(|_| self.went_on(sql))
    }

    /// Runs a statement that returns exactly one row.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query), and if there is no row or more than one.
    ///
    /// # Cancel safety
    ///
    /// See [`Transaction`].
    pub async fn query_one(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Row> {
        self.query(sql, params).await?.exactly_one().map_err(|error| error.with_node(self.node()))
    }

    /// Runs a statement that returns at most one row.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query), and if there is more than one row.
    ///
    /// # Cancel safety
    ///
    /// See [`Transaction`].
    pub async fn query_opt(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Option<Row>> {
        self.query(sql, params).await?.at_most_one().map_err(|error| error.with_node(self.node()))
    }

    /// Runs a statement and returns the number of rows affected.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query).
    ///
    /// # Cancel safety
    ///
    /// See [`Transaction`].
    pub async fn execute(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<u64> {
        let _in_flight = self.enter(sql)?;
        let changed = self.open.lease.execute(Effect::Read, self.next(), sql, params).await;
        self.note(changed).inspect(|_| self.went_on(sql))
    }

    /// Runs several statements, separated by semicolons, without parameters. Never interpolate values into them.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query).
    ///
    /// # Cancel safety
    ///
    /// See [`Transaction`].
    pub async fn batch_execute(&self, sql: &str) -> Result<()> {
        let _in_flight = self.enter(sql)?;
        self.send(Effect::Read, sql).await.inspect(|()| self.went_on(sql))
    }

    /// Takes the advisory lock with this key until the end of the transaction, waiting for it if necessary.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query), and [`ErrorKind::ReadOnly`](crate::ErrorKind::ReadOnly) on a replica, where no other
    /// session would see the lock.
    ///
    /// # Cancel safety
    ///
    /// See [`Transaction`].
    pub async fn advisory_lock(&self, key: i64) -> Result<()> {
        self.execute("SELECT pg_catalog.pg_advisory_xact_lock($1)", &[&key]).await.map(drop)
    }

    async fn send(&self, effect: Effect, sql: &str) -> Result<()> {
        self.note(self.open.lease.guarded(effect, self.next(), self.open.lease.client().batch_execute(sql)).await)
    }

    /// The deadline of the next call.
    pub(in crate::router) fn next(&self) -> Deadline {
        if self.open.deadline.remaining() <= self.open.limit {
            self.open.deadline
        } else {
            Deadline::after(self.open.limit)
        }
    }

    /// A call whose answer is read piece by piece.
    pub(in crate::router) fn piecewise(&self, sql: &str) -> Result<PieceCall<'_>> {
        let occupied = self.open.lease.occupy(Effect::Read)?;
        self.may_run(sql)?;
        Ok(PieceCall::in_transaction(occupied, self))
    }

    fn enter(&self, sql: &str) -> Result<CallInFlight<'_>> {
        let in_flight = self.open.lease.enter(Effect::Read)?;
        self.may_run(sql).map(|()| in_flight)
    }

    fn may_run(&self, sql: &str) -> Result<()> {
        let named = |error: Error| self.open.lease.refuse(Effect::Read, error);
        if self.role() == Role::Replica {
            standby::check(sql).map_err(named)?;
        }
        if self.open.stage.load() != Stage::Open {
            return Err(named(Error::invalid_input("this transaction is over; nothing was sent")));
        }
        if transaction_control::mentions(sql, ASYNCHRONOUS) {
            self.open.is_asynchronous.store(true, Ordering::Relaxed);
        }
        if transaction_control::ends(sql) {
            let message = "a transaction is ended by commit() or rollback(), and not in SQL; nothing was sent";
            return Err(named(Error::invalid_input(message)));
        }
        Ok(())
    }

    pub(in crate::router) fn note<T>(&self, outcome: Result<T>) -> Result<T> {
        outcome.inspect_err(|error| self.note_error(error))
    }

    pub(in crate::router) fn note_error(&self, error: &Error) {
        if matches!(error.sqlstate(), Some(SERIALIZATION_FAILURE | DEADLOCK)) {
            self.open.lost.store(true, Ordering::Relaxed);
        }
        // What comes after it is refused, and that says nothing about the cause.
        if error.sqlstate().is_some_and(|state| state != FAILED_TRANSACTION) {
            *self.failed_with() = Some(error.clone());
        }
    }

    /// The failure is undone if this statement rolled back to a savepoint.
    fn went_on(&self, sql: &str) {
        let mut failed_with = self.failed_with();
        if failed_with.is_some() && transaction_control::goes_back(sql) {
            *failed_with = None;
            self.open.lost.store(false, Ordering::Relaxed);
        }
    }

    /// The error with which it has failed, whoever has seen it.
    pub(crate) fn failure(&self) -> Option<Error> {
        self.failed_with().clone()
    }

    fn failed_with(&self) -> MutexGuard<'_, Option<Error>> {
        self.open.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether another transaction conflicted.
    fn has_lost(&self) -> bool {
        self.open.lost.load(Ordering::Relaxed)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if !self.lease.is_abandoned() {
            self.lease.leave(!matches!(self.stage.load(), Stage::RolledBack | Stage::Committed));
        }
    }
}
