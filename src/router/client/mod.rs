//! The router's raw connection for any SQL.
//!
//! | file | what it holds |
//! |---|---|
//! | `transaction` | transactions: beginning, end, and the loop that runs one again |
//! | `transaction_control`, `standby` | how SQL affects a transaction, and what a standby only appears to do |
//! | `generic_client` | what a client and a transaction have in common |
//! | `row_stream`, `copy` | results that are read, and data that are sent, piece by piece |
//! | `piecewise`, `occupied` | what these have in common, and the connection that is occupied meanwhile |

pub(in crate::router) mod copy;
pub(in crate::router) mod generic_client;
pub(in crate::router) mod occupied;
pub(in crate::router) mod piecewise;
pub(in crate::router) mod row_stream;
pub(in crate::router) mod standby;
pub(in crate::router) mod transaction;
pub(in crate::router) mod transaction_control;

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use tokio_postgres::{Row, types::ToSql};

use self::{
    occupied::CallInFlight,
    piecewise::PieceCall,
    transaction_control::{ASYNCHRONOUS, TransactionControl, TransactionState},
};
use super::{
    Deadline, Role,
    freshness::guard::Unsettled,
    lease::{Lease, failure::Effect, rows::Count},
    pool::connection::Planning,
};
use crate::{
    error::{Error, ErrorKind, Result},
    scope::Session,
    token::Token,
};

/// A connection to a node that satisfies the call's [`Consistency`](crate::Consistency), for any SQL.
///
/// It returns to its pool when it is dropped. Whatever it left in the session is reset after the last answer, before
/// the next user's first statement: an open transaction, `SET`, cursors, temporary tables, `LISTEN`, advisory locks.
/// SQL `PREPARE` is not undone. (A connection from a pool that you passed to the router is only rolled back: the rest
/// of its session is yours.)
///
/// A connection requested at any level other than strong is read-only on every node: a write fails with
/// [`ErrorKind::ReadOnly`]. (On the primary, this does not apply to a pool that you passed to the router, nor behind a
/// pooler.) On a replica, `pg_advisory_lock` is refused as well, by its name: a standby would grant the lock, and no
/// other session would see it. (A call inside a function of yours goes unnoticed.)
///
/// `COPY` has its own calls, [`copy_in`](Self::copy_in) and [`copy_out`](Self::copy_out). In any other call it fails,
/// and the connection is closed.
///
/// # Cancel safety
///
/// A call that is dropped before its answer arrives may have been executed. The server is asked to cancel it, and the
/// connection is closed, not reused. (A borrowed connection is kept from its pool until the server has answered.)
///
/// ```no_run
/// # async fn run(router: mainstem::Router) -> mainstem::Result<()> {
/// let client = router.client().await?;
/// let row = client.query_one("SELECT $1::int8 + 1", &[&41_i64]).await?;
/// assert_eq!(row.get::<_, i64>(0), 42);
/// # Ok(())
/// # }
/// ```
///
/// [`ErrorKind::ReadOnly`]: crate::ErrorKind::ReadOnly
#[derive(Debug)]
pub struct Client {
    lease: Lease,
    limit: Duration,
    used: AtomicBool,
    /// Whether a transaction may be open when the connection is returned.
    may_be_open: AtomicBool,
    /// Whether its commits may be acknowledged before they are on disk.
    is_asynchronous: AtomicBool,
    /// The session, and what the connection had to contain when it was acquired.
    session: Option<(Session, Token)>,
}

impl Client {
    /// `only_reads` applies on the primary as well: otherwise a mistaken write would be noticed only once there is a
    /// replica.
    pub(in crate::router) fn new(
        lease: Lease,
        limit: Duration,
        only_reads: bool,
        session: Option<(Session, Token)>,
    ) -> Self {
        lease.plan(Planning::ByTheServer);
        let reads_on_primary = only_reads && lease.role() == Role::Primary && lease.only_reads();
        let (used, may_be_open) = (AtomicBool::new(reads_on_primary), AtomicBool::new(false));
        Self { lease, limit, used, may_be_open, is_asynchronous: AtomicBool::new(false), session }
    }

    /// Replaces the time limit of each call on this connection. Defaults to the router's [call
    /// timeout](crate::RouterBuilder::call_timeout). (It does not cover the wait for the connection, which is over by
    /// then; that has the [acquire timeout](crate::RouterBuilder::acquire_timeout).)
    ///
    /// A call that times out may have been executed, and the connection is closed. Too short, and legitimate work is
    /// undone or its outcome unknown; too long, and a server that has fallen silent keeps its caller waiting.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # async fn run(router: mainstem::Router) -> mainstem::Result<()> {
    /// let client = router.client().await?.timeout(Duration::from_secs(600));
    /// client.batch_execute("REFRESH MATERIALIZED VIEW balances").await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use = "it is the connection itself that has the other limit"]
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Returns a token for reads that must contain everything committed and everything read on this connection so far.
    ///
    /// Call it after the commit, on the connection that wrote: an LSN read inside a transaction is before its commit.
    /// In a [`Session`] this happens automatically. It is one round trip. (If SQL on this connection mentions
    /// `synchronous_commit`, the token requires the primary: a commit may have been acknowledged before its place was
    /// known.)
    ///
    /// # Errors
    ///
    /// [`Unproven`](ErrorKind::Unproven) if the node does not reveal its LSN or timeline; a replica hides its timeline
    /// from roles that are not members of `pg_read_all_stats`. Otherwise as [`query`](Self::query).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the connection is closed.
    pub async fn token(&self) -> Result<Token> {
        let _in_flight = self.lease.enter(Effect::Read)?;
        let whereabouts = self.lease.whereabouts(Deadline::after(self.limit)).await?;
        if self.is_asynchronous.load(Ordering::Relaxed) {
            // What was acknowledged may not be flushed up to this place.
            return Ok(self.lease.token_of(None));
        }
        match whereabouts.place() {
            Some(place) => Ok(self.lease.token_of(Some(place))),
            None => {
                let message = "the node does not tell its timeline or its place, so there is no token: grant pg_read_all_stats \
                               to the role";
                Err(Error::new(ErrorKind::Unproven, message).with_node(self.node()))
            }
        }
    }

    /// Returns the name of the serving node, as in [`NodeStatus`](crate::NodeStatus).
    #[must_use]
    pub fn node(&self) -> &str {
        self.lease.node().name()
    }

    /// Returns the role of that node when the connection was acquired.
    #[must_use]
    pub fn role(&self) -> Role {
        self.lease.role()
    }

    /// Runs a statement and returns its rows. The statement is prepared once per connection.
    ///
    /// # Errors
    ///
    /// The server's error. If the call was interrupted by its [limit](Self::timeout), a lost connection, a cancel
    /// request or one of the server's own time limits: [`ErrorKind::OutcomeUnknown`] on the primary, and
    /// [`ErrorKind::Unavailable`] or [`ErrorKind::Timeout`] on a replica, which cannot have written anything. (On a
    /// borrowed pool the role is not monitored: there it is `OutcomeUnknown` in any case.)
    ///
    /// # Cancel safety
    ///
    /// See [`Client`].
    ///
    /// [`ErrorKind::OutcomeUnknown`]: crate::ErrorKind::OutcomeUnknown
    /// [`ErrorKind::Timeout`]: crate::ErrorKind::Timeout
    /// [`ErrorKind::Unavailable`]: crate::ErrorKind::Unavailable
    pub async fn query(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>> {
        let _in_flight = self.enter(sql)?;
        let call = self.start(sql);
        let rows = self.lease.query(self.effect(), call.deadline, sql, params).await;
        call.end(rows)
    }

    /// Runs a statement that returns exactly one row.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query), and if there is no row or more than one.
    ///
    /// # Cancel safety
    ///
    /// See [`Client`].
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
    /// See [`Client`].
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
    /// See [`Client`].
    pub async fn execute(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<u64> {
        let _in_flight = self.enter(sql)?;
        let call = self.start(sql);
        let changed = self.lease.execute(self.effect(), call.deadline, sql, params).await;
        call.end(changed)
    }

    /// Runs several statements, separated by semicolons, without parameters. Never interpolate values into them.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query).
    ///
    /// # Cancel safety
    ///
    /// See [`Client`].
    pub async fn batch_execute(&self, sql: &str) -> Result<()> {
        let _in_flight = self.enter(sql)?;
        let call = self.start(sql);
        let done = match self.lease.settled(call.deadline).await {
            Ok(()) => {
                let batch = self.lease.client().batch_execute(sql);
                self.lease.guarded(self.effect(), call.deadline, batch).await
            }
            Err(error) => Err(error),
        };
        call.end(done)
    }

    fn enter(&self, sql: &str) -> Result<CallInFlight<'_>> {
        let in_flight = self.lease.enter(self.effect())?;
        self.may_run(sql).map(|()| in_flight)
    }

    fn may_run(&self, sql: &str) -> Result<()> {
        if self.role() == Role::Replica {
            return standby::check(sql).map_err(|error| self.lease.refuse(self.effect(), error));
        }
        Ok(())
    }

    /// A call whose answer is read piece by piece.
    pub(in crate::router) fn piecewise(&self, sql: &str) -> Result<PieceCall<'_>> {
        let occupied = self.lease.occupy(self.effect())?;
        self.may_run(sql)?;
        // What was read counts as well: if the call is cancelled midway, nobody knows up to which LSN.
        let session = self.session.as_ref().map(|(session, _)| session);
        let mut call = self.start(sql);
        std::mem::replace(&mut call.unsettled, Unsettled::new(&self.lease, session)).settled();
        Ok(PieceCall::on_client(occupied, call))
    }

    fn start(&self, sql: &str) -> Call<'_> {
        self.used.store(true, Ordering::Relaxed);
        if transaction_control::mentions(sql, "begin") || transaction_control::mentions(sql, "start") {
            // However the SQL is classified: no later user may find an open transaction, and none can be opened without
            // these words.
            self.may_be_open.store(true, Ordering::Relaxed);
        }
        if transaction_control::mentions(sql, ASYNCHRONOUS) {
            self.is_asynchronous.store(true, Ordering::Relaxed);
        }
        let control = transaction_control::of(sql);
        if let Some(guard) = self.lease.guard() {
            guard.quiet(match control {
                Some(TransactionControl::Ends) => false,
                Some(TransactionControl::Opens | TransactionControl::Chains) => true,
                None | Some(TransactionControl::GoesBack) => {
                    self.lease.transaction_state().get() != TransactionState::Outside
                }
            });
        }
        self.lease.transaction_state().sends(control);
        let writes_in = self.session.as_ref().filter(|_| self.effect() == Effect::Write);
        let unsettled = Unsettled::new(&self.lease, writes_in.map(|(session, _)| session));
        Call { client: self, deadline: Deadline::after(self.limit), control, unsettled }
    }

    fn effect(&self) -> Effect {
        // A borrowed or pooled connection to a promoted replica can write without anybody noticing.
        if self.role() == Role::Replica && self.lease.is_watched() { Effect::Read } else { Effect::Write }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if *self.used.get_mut() && !self.lease.is_abandoned() {
            self.lease.leave(*self.may_be_open.get_mut());
        }
    }
}

/// A call in progress.
#[derive(Debug)]
pub(in crate::router) struct Call<'a> {
    client: &'a Client,
    deadline: Deadline,
    control: Option<TransactionControl>,
    unsettled: Unsettled<'a>,
}

impl Call<'_> {
    /// The deadline of the next wait.
    pub(in crate::router) fn next(&self) -> Deadline {
        Deadline::after(self.client.limit)
    }

    pub(in crate::router) fn effect(&self) -> Effect {
        self.client.effect()
    }

    /// Ends a call whose answer arrived, or whose data were sent, piece by piece. The LSN was not requested along with
    /// it, so it has to be asked for now. Failing to get it is not an error of the call: the session then requires the
    /// primary.
    pub(in crate::router) async fn end_of_answer(self) -> Result<()> {
        let Client { lease, session, .. } = self.client;
        if lease.note_place(self.next()).await.is_err()
            && let Some((session, _)) = session
        {
            session.see(&lease.token_of(None));
        }
        self.end(Ok(()))
    }

    /// Ends a call that did not complete but may have read or written something: up to which LSN is unknown.
    pub(in crate::router) fn break_off(self) {
        self.client.lease.transaction_state().call_ended(self.control, false);
    }

    /// Records the outcome of the call, including what was written or read in the session.
    pub(in crate::router) fn end<T>(self, outcome: Result<T>) -> Result<T> {
        self.unsettled.settled();
        let Client { lease, session, .. } = self.client;
        lease.transaction_state().call_ended(self.control, outcome.is_ok());
        if let Some((session, asked)) = session {
            lease.advance(session, asked, &outcome);
            // It may have committed without its LSN having been requested, or before it was flushed up to there.
            let is_elsewhere =
                self.client.is_asynchronous.load(Ordering::Relaxed) || self.control == Some(TransactionControl::Chains);
            // So may one that has failed after the end of a transaction.
            let may_have_committed =
                outcome.is_ok() || matches!(self.control, Some(TransactionControl::Ends | TransactionControl::Chains));
            if may_have_committed && (is_elsewhere || lease.transaction_state().get() == TransactionState::Unclear) {
                session.see(&lease.token_of(None));
            }
        }
        outcome
    }
}
