//! The options of a transaction.

use std::{
    fmt::Write,
    future::{Future, IntoFuture},
    pin::Pin,
    time::Duration,
};

use super::Transaction;
use crate::{
    error::{Error, Result},
    router::{
        Ask, Deadline, Effect, Floor, Router, asked,
        client::transaction_control::TransactionState,
        judged,
        pool::{admission::Caller, connection::Planning},
    },
    scope::{Consistency, Session, current_consistency, current_session},
};

/// How strictly a transaction is isolated from the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Isolation {
    /// Each statement sees what was committed before it began.
    ReadCommitted,
    /// All statements see what was committed before the first one. Writing a row that has changed since then fails
    /// (40001).
    RepeatableRead,
    /// The transactions behave as if they ran one after the other. Any statement, and the commit, can fail for this
    /// reason (40001). On the primary only: a replica cannot check it.
    Serializable,
}

/// Builds a transaction: await it for a [`Transaction`], or pass the work to [`run`](Self::run).
///
/// # Errors
///
/// As [`Router::client`]; [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) if the options contradict each
/// other.
///
/// # Cancel safety
///
/// Dropping the future leaves nothing behind.
#[derive(Clone, Debug)]
#[must_use = "nothing begins until it is awaited"]
pub struct BeginTransaction {
    pub(super) router: Router,
    consistency: Consistency,
    session: Option<Session>,
    caller: Caller,
    isolation: Option<Isolation>,
    read_only: bool,
    deferrable: bool,
    pub(super) timeout: Duration,
    pub(super) attempts: u32,
}

impl Router {
    /// Prepares a transaction at the scope's consistency level: on the primary, or in an eventual scope, read-only, on
    /// a replica. The scope is read when this method is called.
    ///
    /// ```no_run
    /// # async fn run(router: mainstem::Router) -> mainstem::Result<()> {
    /// use mainstem::Isolation;
    ///
    /// let transaction = router.transaction().isolation(Isolation::RepeatableRead).await?;
    /// transaction.execute("UPDATE accounts SET balance = balance - 10 WHERE name = $1", &[&"ada"]).await?;
    /// transaction.execute("UPDATE accounts SET balance = balance + 10 WHERE name = $1", &[&"ben"]).await?;
    /// transaction.commit().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// [`BeginTransaction::run`] retries it if another transaction conflicted.
    pub fn transaction(&self) -> BeginTransaction {
        BeginTransaction {
            router: self.clone(),
            consistency: current_consistency(),
            session: current_session(),
            caller: Caller::User,
            isolation: None,
            read_only: false,
            deferrable: false,
            timeout: self.call_timeout(),
            attempts: 10,
        }
    }

    /// A transaction on the primary for the library's own calls; [`lease_primary`](Self::lease_primary) is the same for
    /// a connection.
    pub(crate) fn library_transaction(&self, deadline: Deadline) -> BeginTransaction {
        BeginTransaction {
            consistency: Consistency::Strong,
            session: None,
            caller: Caller::Library,
            isolation: Some(Isolation::ReadCommitted),
            timeout: deadline.remaining(),
            ..self.transaction()
        }
    }
}

impl BeginTransaction {
    /// Replaces the consistency level that the scope has set.
    pub fn consistency(mut self, consistency: Consistency) -> Self {
        self.consistency = consistency;
        self
    }

    /// Sets the isolation level. Defaults to the server's setting, which is [`Isolation::ReadCommitted`] unless it was
    /// changed.
    ///
    /// Too weak, and two transactions that are correct on their own are wrong together; too strong, and more of them
    /// fail with 40001 and have to be [retried](Self::run).
    pub fn isolation(mut self, isolation: Isolation) -> Self {
        self.isolation = Some(isolation);
        self
    }

    /// Makes the transaction read-only: writes fail with [`ErrorKind::ReadOnly`](crate::ErrorKind::ReadOnly).
    /// Defaults to read-write at the strong level, and to read-only at any other, on every node.
    pub fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// Delays the first statement until the transaction can be [serializable](Isolation::Serializable) without ever
    /// failing for it or making others fail. For long reports. Needs that isolation level and
    /// [`read_only`](Self::read_only), without which the server would ignore it. Defaults to not waiting.
    pub fn deferrable(mut self) -> Self {
        self.deferrable = true;
        self
    }

    /// Limits the whole transaction: the wait for its connection, its statements, the time between them, the commit,
    /// and in [`run`](Self::run) all attempts. Defaults to the router's [call
    /// timeout](crate::RouterBuilder::call_timeout).
    ///
    /// After the limit, nothing more is sent. If the client falls silent between two statements, the server itself ends
    /// the session, so a program that hangs does not keep its locks. (In the middle of a stream or a `COPY`, the server
    /// waits for the reader or sender.) Too short, and legitimate work is undone; too long, and all others wait for a
    /// transaction that has stalled.
    ///
    /// With [`Duration::MAX`], only the router's call timeout applies, to the wait for a connection and to each call,
    /// and the server's own `idle_in_transaction_session_timeout`.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = limit;
        self
    }

    /// Limits how often [`run`](Self::run) tries the transaction, including the first time. Defaults to 10; 1 makes no
    /// second attempt.
    ///
    /// Too few, and a contended row fails its callers; too many, and a transaction that always conflicts costs as much
    /// as ten.
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts;
        self
    }

    fn is_read_only(&self) -> bool {
        self.read_only || self.consistency != Consistency::Strong
    }

    fn check(&self) -> Result<()> {
        let is_serializable = self.isolation == Some(Isolation::Serializable);
        if is_serializable && self.consistency != Consistency::Strong {
            let message = "a replica has no serializable transactions: ask for RepeatableRead, or for a strong one";
            return Err(Error::invalid_input(message));
        }
        if self.deferrable && !(is_serializable && self.read_only) {
            let message = "deferrable means something only for a transaction that is serializable and only reads";
            return Err(Error::invalid_input(message));
        }
        if self.attempts == 0 || self.timeout.is_zero() {
            return Err(Error::invalid_input("a transaction with no attempt or no time could never begin"));
        }
        Ok(())
    }

    fn sql(&self) -> String {
        let mut sql = "BEGIN".to_owned();
        match self.isolation {
            None => {}
            Some(Isolation::ReadCommitted) => sql.push_str(" ISOLATION LEVEL READ COMMITTED"),
            Some(Isolation::RepeatableRead) => sql.push_str(" ISOLATION LEVEL REPEATABLE READ"),
            Some(Isolation::Serializable) => sql.push_str(" ISOLATION LEVEL SERIALIZABLE"),
        }
        if self.is_read_only() {
            sql.push_str(" READ ONLY");
        }
        if self.deferrable {
            sql.push_str(" DEFERRABLE");
        }
        if self.timeout == Duration::MAX {
            return sql;
        }
        // The maximum that the server accepts.
        let longest = self.timeout.as_millis().clamp(1, i32::MAX as u128);
        write!(sql, "; SET LOCAL idle_in_transaction_session_timeout = {longest}").expect("a string takes everything");
        sql
    }

    pub(super) async fn begin(&self, deadline: Deadline) -> Result<Transaction> {
        self.check()?;
        let asked = asked(&self.consistency, self.session.as_ref());
        let floor = Floor::of(asked.clone());
        let (notes_place, caller) = (self.session.is_some(), self.caller);
        let ask = Ask { floor: floor.as_ref(), notes_place, caller, ..Ask::from(&self.consistency) };
        // The wait for a connection always has a limit.
        let waits = if self.timeout == Duration::MAX { Deadline::after(self.router.call_timeout()) } else { deadline };
        let lease = self.router.lease_expected(ask, self.router.acquire_within(waits)).await?;
        lease.plan(Planning::ByTheServer);
        lease.transaction_state().set(TransactionState::Inside);
        let limit = self.router.call_timeout();
        if let Some(guard) = lease.guard() {
            // Until the commit.
            guard.quiet(true);
        }
        let judged = judged(&self.consistency, asked);
        let session = self.session.clone().map(|session| (session, judged));
        let transaction = Transaction::new(lease, deadline, limit, self.is_read_only(), session);
        transaction.send(Effect::Read, &self.sql()).await?;
        Ok(transaction)
    }
}

/// The future owns everything it needs, so it can be spawned.
impl IntoFuture for BeginTransaction {
    type Output = Result<Transaction>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { self.begin(Deadline::after(self.timeout)).await })
    }
}
