//! Transactions: with options, and with an end that tells the truth.
//!
//! | file | what it holds |
//! |---|---|
//! | `begin` | the options |
//! | `run` | doing it again when another transaction was in the way |

mod begin;
mod run;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    time::Duration,
};

use tokio_postgres::{Row, types::ToSql};

pub use self::begin::{BeginTransaction, Isolation};
use super::{
    Deadline, Effect, Lease, Role,
    control::{self, ASYNCHRONOUS},
    guard::{Guard, Unsettled},
    piecewise::PieceCall,
    rows::Count,
    standby,
};
use crate::{
    error::{Error, ErrorKind, Result},
    scope::Session,
    token::Token,
};

/// The savepoint is refused where there is nothing to commit: in a transaction that has failed, whose COMMIT would roll it
/// back and report no error, and outside of any. Then the COMMIT behind it is not executed.
const COMMIT: &str = "SAVEPOINT mainstem_commit; COMMIT";

pub(super) const FAILED_TRANSACTION: &str = "25P02";
pub(crate) const NO_TRANSACTION: &str = "25P01";

/// What one of two transactions is told that were in each other's way.
const SERIALIZATION_FAILURE: &str = "40001";
const DEADLOCK: &str = "40P01";

/// An open transaction on a connection of its own; see [`Router::transaction`](crate::Router::transaction).
///
/// It is rolled back when it is dropped, behind the last answer and before anybody else uses the connection. Whatever its SQL has set in
/// the session is undone, too, as behind a [`Client`](crate::Client).
///
/// End it by [`commit`](Self::commit) or [`rollback`](Self::rollback), and not in SQL. Savepoints are yours.
///
/// # Cancel safety
///
/// When a call is dropped before its answer came, the transaction cannot be committed any more.
#[derive(Debug)]
#[must_use = "a transaction that is not committed is rolled back"]
pub struct Transaction {
    open: Arc<Open>,
}

#[derive(Debug)]
struct Open {
    lease: Lease,
    /// Of all of it.
    deadline: Deadline,
    /// Of one call.
    limit: Duration,
    read_only: bool,
    /// Another transaction was in the way.
    lost: AtomicBool,
    /// Its commit may be acknowledged before it is on the disk.
    is_asynchronous: AtomicBool,
    end: AtomicU8,
    /// And what the transaction had to contain when it began.
    session: Option<(Session, Token)>,
}

/// How far a transaction is.
const OPEN: u8 = 0;
/// The commit was sent. It may have failed.
const ENDING: u8 = 1;
const OVER: u8 = 2;

impl Transaction {
    fn new(
        lease: Lease,
        deadline: Deadline,
        limit: Duration,
        read_only: bool,
        session: Option<(Session, Token)>,
    ) -> Self {
        let [lost, is_asynchronous] = [const { AtomicBool::new(false) }; 2];
        let end = AtomicU8::new(OPEN);
        Self { open: Arc::new(Open { lease, deadline, limit, read_only, lost, is_asynchronous, end, session }) }
    }

    /// The same transaction for somebody else. It ends with whoever ends it.
    fn share(&self) -> Self {
        Self { open: Arc::clone(&self.open) }
    }

    /// The name of the node that serves: `host:port`.
    #[must_use]
    pub fn node(&self) -> &str {
        self.open.lease.node().name()
    }

    /// The role of that node when the transaction began.
    #[must_use]
    pub fn role(&self) -> Role {
        self.open.lease.role()
    }

    /// Runs a statement and returns its rows. The statement is prepared once per connection.
    ///
    /// # Errors
    ///
    /// What the server said; the transaction can then only be rolled back, unless there is a savepoint. When it was interrupted,
    /// [`ErrorKind::Unavailable`] or [`ErrorKind::Timeout`], and the server has rolled it back or will.
    ///
    /// # Cancel safety
    ///
    /// See [`Transaction`].
    pub async fn query(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>> {
        self.check(sql)?;
        let rows = self.open.lease.query(Effect::Read, self.next(), sql, params).await;
        self.note(rows).inspect(|_| self.went_on(sql))
    }

    /// Runs a statement that returns exactly one row.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query), and when there is no row or more than one.
    ///
    /// # Cancel safety
    ///
    /// See [`Transaction`].
    pub async fn query_one(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Row> {
        self.query(sql, params).await?.exactly_one().map_err(|error| error.with_node(self.node()))
    }

    /// Runs a statement that returns one row or none.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query), and when there is more than one row.
    ///
    /// # Cancel safety
    ///
    /// See [`Transaction`].
    pub async fn query_opt(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Option<Row>> {
        self.query(sql, params).await?.at_most_one().map_err(|error| error.with_node(self.node()))
    }

    /// Runs a statement and returns the number of rows that it changed.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query).
    ///
    /// # Cancel safety
    ///
    /// See [`Transaction`].
    pub async fn execute(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<u64> {
        self.check(sql)?;
        let changed = self.open.lease.execute(Effect::Read, self.next(), sql, params).await;
        self.note(changed).inspect(|_| self.went_on(sql))
    }

    /// Runs several statements, separated by semicolons, without parameters. Never splice values into them.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query).
    ///
    /// # Cancel safety
    ///
    /// See [`Transaction`].
    pub async fn batch_execute(&self, sql: &str) -> Result<()> {
        self.check(sql)?;
        self.send(Effect::Read, sql).await.inspect(|()| self.went_on(sql))
    }

    /// Takes the advisory lock with this number until the end of the transaction, and waits for it if need be.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query), and [`ErrorKind::ReadOnly`] on a replica, where nobody else would see the lock.
    ///
    /// # Cancel safety
    ///
    /// See [`Transaction`].
    pub async fn advisory_lock(&self, key: i64) -> Result<()> {
        self.execute("SELECT pg_catalog.pg_advisory_xact_lock($1)", &[&key]).await.map(drop)
    }

    /// Commits, and says so only if that is what has happened.
    ///
    /// # Errors
    ///
    /// What the server said, such as a deferred constraint or a serialization failure: then nothing was written. Also when a
    /// statement had failed before, where a bare COMMIT would roll back and report success.
    /// [`ErrorKind::OutcomeUnknown`] when the answer was lost, or the wait for a synchronous standby was cut short.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it may have committed.
    pub async fn commit(self) -> Result<()> {
        self.finish().await
    }

    /// [Commits](Self::commit), and gives a token for reads that contain what was written and seen: for another request, or another
    /// process. In a [`Session`] the plain commit does for those that follow.
    ///
    /// ```no_run
    /// # async fn run(router: mainstem::Router) -> mainstem::Result<()> {
    /// use mainstem::Consistency;
    ///
    /// let transaction = router.transaction().await?;
    /// transaction.execute("UPDATE accounts SET balance = balance - 10 WHERE name = $1", &[&"ada"]).await?;
    /// let token = transaction.commit_with_token().await?;
    ///
    /// // A replica may serve, and shows the balance of now.
    /// let client = router.client_at(Consistency::AtLeast(token)).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// The node's place is asked for in the same message as the commit, so it is no further round trip (behind a pooler in
    /// transaction mode it is one). What is committed is never an error for want of a token: of a node that keeps its place to
    /// itself, the token asks for the primary. Within [`BeginTransaction::run`] the work may end its transaction by this.
    ///
    /// # Errors
    ///
    /// As [`commit`](Self::commit).
    ///
    /// # Cancel safety
    ///
    /// Dropped, it may have committed.
    pub async fn commit_with_token(self) -> Result<Token> {
        let lease = &self.open.lease;
        let own = Guard::new(None, None, true);
        let guard = lease.guard().map_or(&own, |guard| if guard.notes_place() { guard } else { &own });
        let unsettled = self.unsettled();
        let ended = self.end(Some(guard)).await;
        unsettled.settled();
        let token = lease.token_of(guard.seen().filter(|_| !self.is_asynchronous()));
        self.advance(&ended);
        ended.map(|()| token)
    }

    /// Undoes all of it. Dropping the transaction does the same without waiting; only this has the [`Session`] take in what was read.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unavailable`] or [`ErrorKind::Timeout`] when the answer did not come. The server has rolled it back, or will. (Behind a
    /// stream or a `COPY` that did not come to its end, none is waited for; on a connection of a pool that was handed in, and behind a
    /// pooler, the server goes on to the end of it first, and keeps its locks so long.)
    ///
    /// # Cancel safety
    ///
    /// Dropped, it is rolled back all the same.
    pub async fn rollback(self) -> Result<()> {
        if self.open.lease.is_spent() {
            // The server was told to cancel, and the connection is closed, which does it.
            self.see_unknown();
            self.open.end.store(OVER, Ordering::Release);
            return Ok(());
        }
        if let Some(guard) = self.open.lease.guard() {
            guard.quiet(false);
        }
        let undone = self.send(Effect::Read, "ROLLBACK").await;
        self.advance(&undone);
        undone?;
        self.open.end.store(OVER, Ordering::Release);
        Ok(())
    }

    /// Commits, unless it was ended already.
    pub(crate) async fn finish(&self) -> Result<()> {
        let unsettled = self.unsettled();
        let ended = self.end(self.open.lease.guard().map(|guard| &**guard)).await;
        unsettled.settled();
        self.advance(&ended);
        ended
    }

    /// The same with this guard's statements behind the commit. Nobody is told of what they have noted.
    async fn end(&self, guard: Option<&Guard>) -> Result<()> {
        if self.open.end.swap(ENDING, Ordering::AcqRel) == OVER {
            self.open.end.store(OVER, Ordering::Release);
            return Ok(());
        }
        let lease = &self.open.lease;
        if lease.is_spent() {
            self.see_unknown();
            let message =
                "a stream or a COPY of this transaction did not come to its end, so nothing of it was committed";
            return Err(Error::new(ErrorKind::Database, message).with_node(self.node()));
        }
        if lease.is_abandoned() {
            let message = "a call of this transaction was given up, so it is rolled back";
            return Err(Error::new(ErrorKind::Timeout, message).with_node(self.node()));
        }
        let effect = if self.open.read_only { Effect::Read } else { Effect::Write };
        if let Some(guard) = guard {
            guard.quiet(false);
        }
        let commit = lease.client().batch_execute(COMMIT);
        let Err(error) = self.note(lease.guarded_with(guard, effect, self.next(), commit).await) else {
            self.open.end.store(OVER, Ordering::Release);
            return Ok(());
        };
        let error = match error.sqlstate() {
            Some(FAILED_TRANSACTION) => {
                let message = "a statement of this transaction had failed, so nothing of it was committed";
                error.reworded(ErrorKind::Database, message)
            }
            Some(NO_TRANSACTION) => {
                let message = "the transaction was ended by its own SQL; whether it was committed is not known here";
                error.reworded(ErrorKind::OutcomeUnknown, message)
            }
            _ => error,
        };
        if error.is_outcome_unknown() {
            // Whatever was in the way before: this may be committed, so nobody may do it again.
            self.open.lost.store(false, Ordering::Relaxed);
        }
        Err(error)
    }

    /// From when the commit is sent.
    fn unsettled(&self) -> Unsettled<'_> {
        let writes_in = self.open.session.as_ref().filter(|_| !self.open.read_only);
        Unsettled::new(&self.open.lease, writes_in.map(|(session, _)| session))
    }

    /// Has the session take in what was written or seen, as far as it was told behind the end.
    fn advance(&self, ended: &Result<()>) {
        if let Some((session, asked)) = &self.open.session {
            self.open.lease.advance(session, asked, ended);
            if ended.is_ok() && self.is_asynchronous() {
                session.see(&self.open.lease.token_of(None));
            }
        }
    }

    fn see_unknown(&self) {
        if let Some((session, _)) = &self.open.session {
            session.see(&self.open.lease.token_of(None));
        }
    }

    fn is_asynchronous(&self) -> bool {
        self.open.is_asynchronous.load(Ordering::Relaxed)
    }

    async fn send(&self, effect: Effect, sql: &str) -> Result<()> {
        self.note(self.open.lease.guarded(effect, self.next(), self.open.lease.client().batch_execute(sql)).await)
    }

    /// The limit of the next call.
    pub(super) fn next(&self) -> Deadline {
        if self.open.deadline.remaining() <= self.open.limit {
            self.open.deadline
        } else {
            Deadline::after(self.open.limit)
        }
    }

    /// A call whose answer is taken piece by piece.
    pub(super) fn piecewise(&self, sql: &str) -> Result<PieceCall<'_>> {
        self.may_run(sql)?;
        Ok(PieceCall::in_transaction(self.open.lease.occupy(Effect::Read)?, self))
    }

    fn check(&self, sql: &str) -> Result<()> {
        self.open.lease.check_free(Effect::Read)?;
        self.may_run(sql)
    }

    fn may_run(&self, sql: &str) -> Result<()> {
        let named = |error: Error| self.open.lease.refuse(Effect::Read, error);
        if self.role() == Role::Replica {
            standby::check(sql).map_err(named)?;
        }
        if self.open.end.load(Ordering::Acquire) != OPEN {
            return Err(named(Error::invalid_input("this transaction is over; nothing was sent")));
        }
        if control::mentions(sql, ASYNCHRONOUS) {
            self.open.is_asynchronous.store(true, Ordering::Relaxed);
        }
        if control::ends(sql) {
            let message = "a transaction is ended by commit() or rollback(), and not in SQL; nothing was sent";
            return Err(named(Error::invalid_input(message)));
        }
        Ok(())
    }

    pub(super) fn note<T>(&self, outcome: Result<T>) -> Result<T> {
        outcome.inspect_err(|error| self.note_error(error))
    }

    pub(super) fn note_error(&self, error: &Error) {
        if matches!(error.sqlstate(), Some(SERIALIZATION_FAILURE | DEADLOCK)) {
            self.open.lost.store(true, Ordering::Relaxed);
        }
    }

    /// What was in the way is undone, if this has gone back to a savepoint.
    fn went_on(&self, sql: &str) {
        if self.has_lost() && control::goes_back(sql) {
            self.open.lost.store(false, Ordering::Relaxed);
        }
    }

    /// Whether another transaction was in the way.
    fn has_lost(&self) -> bool {
        self.open.lost.load(Ordering::Relaxed)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if !self.lease.is_abandoned() {
            self.lease.leave(*self.end.get_mut() != OVER);
        }
    }
}
