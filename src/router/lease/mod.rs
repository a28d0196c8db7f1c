//! A connection in use, and what happens to it afterwards.
//!
//! | file | what it holds |
//! |---|---|
//! | `held`, `drop` | the connection, our own or borrowed, and what happens to it when its caller gives up |
//! | `exclusive` | a borrowed connection whose session limits are lifted |
//! | `prepared`, `pooled` | statements with a name, and without one behind a pooler |
//! | `rows` | rows as they arrive |
//! | `server_session`, `reset` | the server session, and its reset |
//! | `failure` | what errors mean |
//! | `deadline` | the time limit of a call |

pub(in crate::router) mod deadline;
mod drop;
pub(in crate::router) mod exclusive;
pub(in crate::router) mod failure;
pub(in crate::router) mod held;
pub(in crate::router) mod pooled;
pub(in crate::router) mod prepared;
pub(in crate::router) mod reset;
pub(in crate::router) mod rows;
pub(in crate::router) mod server_session;

use std::{
    fmt,
    future::Future,
    sync::{Arc, atomic::Ordering},
};

use futures_util::FutureExt;
use tokio::time::{Instant, timeout_at};
use tokio_postgres::Client;

use self::{failure::Effect, held::Held};
use super::{
    Deadline, Role, ServerSession,
    client::{occupied::Occupation, transaction_control::TransactionTracker},
    freshness::guard::Guard,
    nodes::node::Node,
    pool::connection::{Connection, Planning},
    record::{CallRecord, Failed},
    state::InFlight,
};
use crate::{
    error::{Error, ErrorKind},
    lsn::Lsn,
    runtime,
    telemetry::Stopwatch,
    token::{Place, Token},
};

/// Resets what a user may have left in the session. `DISCARD ALL` would also discard our prepared statements.
const RESET: &str = "CLOSE ALL; SET SESSION AUTHORIZATION DEFAULT; RESET ALL; UNLISTEN *; \
                     SELECT pg_catalog.pg_advisory_unlock_all(); DISCARD TEMP; DISCARD SEQUENCES";

/// A connection that belongs to one caller until it is dropped.
pub(crate) struct Lease {
    pub(in crate::router) held: Option<Held>,
    pub(in crate::router) node: Arc<Node>,
    /// The node's role when the connection was acquired.
    pub(in crate::router) role: Role,
    session: ServerSession,
    /// What it is counted as while a user uses it.
    in_flight: Option<InFlight>,
    /// Whether the client was lent to work that may take advisory locks.
    pub(in crate::router) exclusive: bool,
    /// Whether the node must be the primary, even for reads.
    must_lead: bool,
    /// Whether it may write even if the node is no longer the primary.
    whoever_leads: bool,
    /// Whether a transaction of the user's is open.
    transaction_state: TransactionTracker,
    pub(in crate::router) occupation: Occupation,
    pub(in crate::router) guard: Option<Arc<Guard>>,
    /// Runs since the connection was acquired.
    stopwatch: Stopwatch,
}

impl Lease {
    pub(in crate::router) fn new(held: Held, node: Arc<Node>, in_flight: Option<InFlight>) -> Self {
        let (role, session) = match &held {
            Held::Own(connection) => (connection.role(), connection.session()),
            // Its age is not known; as long as it lives, it is older than this.
            Held::Borrowed { .. } => {
                let (role, generation) = node.handle().standing();
                (role, ServerSession { server: (node.handle().index(), generation), opened: Instant::now() })
            }
        };
        Self {
            held: Some(held),
            node,
            role,
            session,
            in_flight,
            exclusive: false,
            must_lead: false,
            whoever_leads: false,
            transaction_state: TransactionTracker::outside(),
            occupation: Occupation::default(),
            guard: None,
            stopwatch: Stopwatch::start(),
        }
    }

    /// The cluster's system identifier, once it has been reported.
    pub(crate) fn system(&self) -> Option<u64> {
        self.node.handle().system()
    }

    /// The token of a place on this node, or of an unknown one.
    pub(in crate::router) fn token_of(&self, place: Option<Place>) -> Token {
        match place {
            Some(place) => Token::of_place(self.system(), place),
            None => Token::of_unknown_place(self.system()),
        }
    }

    /// What a write gets for an LSN that this connection's server has just acknowledged: the cluster and, if known, the
    /// place on its timeline.
    pub(crate) fn written(&self, lsn: Lsn) -> (Option<u64>, Option<Place>) {
        self.node.handle().written(self.session.server.1, lsn)
    }

    /// For a strong call: nothing is sent once another node has become the primary.
    pub(in crate::router) fn must_lead(mut self) -> Self {
        self.must_lead = true;
        self
    }

    /// For a node requested by name: calls are sent even after another node has become the primary.
    pub(in crate::router) fn whoever_leads(mut self) -> Self {
        self.whoever_leads = true;
        self
    }

    /// The node's role when the connection was acquired. The present one may differ.
    pub(crate) fn role(&self) -> Role {
        self.role
    }

    /// The server of the session, and since when it has existed.
    pub(crate) fn session(&self) -> ServerSession {
        self.session
    }

    /// Abandons the connection: it is not reused.
    pub(in crate::router) fn discard(self) {
        self.held().pending().fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// Whether a transaction of the user's is open.
    pub(in crate::router) fn transaction_state(&self) -> &TransactionTracker {
        &self.transaction_state
    }

    /// Makes the server refuse writes until the user [leaves](Self::leave). Not if the session belongs to someone else.
    pub(in crate::router) fn only_reads(&self) -> bool {
        let own = self.own().filter(|connection| !connection.is_pooled());
        own.map(|connection| connection.send_unawaited("SET default_transaction_read_only = on")).is_some()
    }

    /// Whether we notice when the server's role changes, and the session is read-only on a replica.
    pub(in crate::router) fn is_watched(&self) -> bool {
        self.is_own() && !self.is_pooled()
    }

    /// The connection, unless it is borrowed.
    pub(in crate::router) fn own(&self) -> Option<&Connection> {
        match self.held() {
            Held::Own(connection) => Some(connection),
            Held::Borrowed { .. } => None,
        }
    }

    /// Whether a user uses it, and not the router itself.
    pub(in crate::router) fn is_for_user(&self) -> bool {
        self.in_flight.is_some()
    }

    pub(in crate::router) fn is_own(&self) -> bool {
        matches!(self.held, Some(Held::Own(_)))
    }

    /// Runs one call on this connection. If the call times out or its caller drops it, the answer is still outstanding,
    /// and the connection must not be reused.
    ///
    /// # Errors
    ///
    /// The error of the server or the network, as one of this crate's, with the node's name.
    pub(crate) async fn call<T, F>(&self, effect: Effect, deadline: Deadline, call: F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, tokio_postgres::Error>>,
    {
        let outcome = self.step(effect, deadline, call).await;
        if outcome.is_ok() {
            self.served();
        }
        outcome
    }

    /// Runs a part of a call: its answer does not mean that the call was served.
    pub(in crate::router) async fn step<T, F>(&self, effect: Effect, deadline: Deadline, call: F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, tokio_postgres::Error>>,
    {
        let record = CallRecord::begin(self, effect);
        let outcome = self.exchange(effect, deadline, call).await;
        record.end(outcome.as_ref().err());
        outcome.map_err(|failed| failed.error)
    }

    /// Sends something and waits for its answer. It reports nothing: the caller knows what it was.
    pub(in crate::router) async fn exchange<T, F>(
        &self,
        effect: Effect,
        deadline: Deadline,
        call: F,
    ) -> Result<T, Failed>
    where
        F: Future<Output = Result<T, tokio_postgres::Error>>,
    {
        let held = self.held();
        let named = |error: Error| error.with_node(Arc::clone(self.node.name()));
        if held.client().is_closed() {
            self.node.handle().lost();
            return Err(named(Error::new(ErrorKind::Unavailable, "the connection was lost before the call")).into());
        }
        runtime::current().map_err(named)?;
        if deadline.is_over() {
            let message = format!("the limit of {:?} ran out before the call was sent", deadline.limit());
            return Err(named(Error::new(ErrorKind::Timeout, message)).into());
        }
        let leads = self.must_lead || effect != Effect::Read && !self.whoever_leads;
        if leads && self.role == Role::Primary && self.node.handle().is_fenced() {
            let message = "another node has become the primary, or nobody knows which one is; nothing was sent";
            return Err(Failed::refused(named(Error::new(ErrorKind::Unavailable, message))));
        }
        let (started, answers) = (Instant::now(), self.node.handle().answers());
        let mut unreplicated = 0;
        if let Held::Own(connection) = held {
            connection.appends().fetch_add(usize::from(effect == Effect::Append), Ordering::AcqRel);
            unreplicated = connection.unreplicated();
        }
        held.pending().fetch_add(1, Ordering::AcqRel);
        let Ok(outcome) = timeout_at(deadline.at(), call).await else {
            self.node.handle().was_silent(answers);
            return Err(Failed::timed_out(named(failure::on_deadline(deadline, effect))));
        };
        if !outcome.as_ref().is_err_and(failure::is_out_of_step) {
            held.pending().fetch_sub(1, Ordering::AcqRel);
            if let Held::Own(connection) = held {
                connection.appends().fetch_sub(usize::from(effect == Effect::Append), Ordering::AcqRel);
            }
        }
        if let Held::Own(connection) = held {
            // If the connection was lost, the call itself gives the better error.
            let was_lost = outcome.as_ref().is_err_and(|error| error.is_closed() || failure::ends_session(error));
            if connection.reset().has_failed() && !was_lost {
                return Err(named(failure::not_reset(effect)).into());
            }
            // Of two appends in flight it may have been the other one; both report the same. What has failed was not
            // committed.
            if effect != Effect::Read && outcome.is_ok() && connection.unreplicated() != unreplicated {
                return Err(named(failure::unreplicated()).into());
            }
        }
        self.note_role();
        match outcome {
            Ok(value) => {
                self.answered(Some(started));
                Ok(value)
            }
            Err(error) => {
                self.note_failure(&error, Some(started));
                let is_conflict = failure::is_conflict(&error, self.role);
                let failed = Failed::from(named(failure::on_call(error, effect, self.role)));
                Err(if is_conflict { failed.conflicted() } else { failed })
            }
        }
    }

    /// An answer has arrived; `started` is `None` if its time does not measure the node.
    fn answered(&self, started: Option<Instant>) {
        let asked = started.filter(|_| self.in_flight.is_some());
        self.node.handle().answered(asked.map(|asked| asked.elapsed()));
    }

    /// A user's call was served.
    pub(in crate::router) fn served(&self) {
        if self.in_flight.is_some() {
            self.node.handle().served();
        }
    }

    /// The first answer after a promotion also reveals the promotion.
    fn note_role(&self) {
        if let Held::Own(connection) = self.held()
            && let Some(role) = connection.other_role()
            && self.node.role() != role
        {
            self.node.handle().told_role(role);
        }
    }

    /// Reports what an error says about the node.
    pub(in crate::router) fn note_failure(&self, error: &tokio_postgres::Error, started: Option<Instant>) {
        let handle = self.node.handle();
        self.note_end(error);
        if self.held().client().is_closed() {
            handle.lost();
        } else if self.role == Role::Replica && failure::is_recovery_conflict(error) {
            handle.call_failed();
        } else {
            self.answered(started);
            // It is the user's own error.
            self.served();
        }
    }

    /// Abandons the connection if the server has said that it ends the session.
    pub(in crate::router) fn note_end(&self, error: &tokio_postgres::Error) {
        if let Some(connection) = self.own()
            && failure::ends_session(error)
        {
            connection.ends();
        }
    }

    /// Whether the connection was lost while idle.
    pub(crate) fn is_closed(&self) -> bool {
        self.client().is_closed()
    }

    /// Whether the next writing call would be refused: the connection is lost or its session ends, or the node is no
    /// longer the primary.
    pub(crate) fn is_over(&self) -> bool {
        let is_fenced = self.role == Role::Primary && !self.whoever_leads && self.node.handle().is_fenced();
        is_fenced || self.is_closed() || self.own().is_some_and(Connection::is_over)
    }

    /// Whether the connection has lived long enough: a caller that keeps it from one call to the next has to return it.
    pub(crate) fn is_due(&self) -> bool {
        self.own().is_some_and(|connection| connection.is_expired(Instant::now()))
    }

    pub(crate) fn client(&self) -> &Client {
        self.held().client()
    }

    /// Sets how the next statements are planned. The session of a borrowed connection belongs to its owner.
    pub(in crate::router) fn plan(&self, planning: Planning) {
        if let Held::Own(connection) = self.held() {
            connection.plan(planning);
        }
    }

    /// Resets what the user of this connection has left, after the last answer.
    pub(in crate::router) fn leave(&self, opened_transaction: bool) {
        match self.held() {
            // Nothing of its session belongs to the user, except for an open transaction.
            Held::Own(connection) if connection.is_pooled() => {
                if opened_transaction {
                    connection.send_reset("ROLLBACK");
                }
            }
            Held::Own(connection) if opened_transaction => connection.send_reset(&format!("ROLLBACK; {RESET}")),
            // Without a transaction, the server would log a warning about a ROLLBACK.
            Held::Own(connection) => connection.send_reset(RESET),
            // The rest of a borrowed session belongs to its owner.
            Held::Borrowed { connection, .. } if opened_transaction => {
                let _ = connection.client().batch_execute("ROLLBACK").now_or_never();
            }
            Held::Borrowed { .. } => {}
        }
    }

    pub(in crate::router) fn is_abandoned(&self) -> bool {
        self.held().pending().load(Ordering::Acquire) > 0
    }

    #[expect(clippy::expect_used, reason = "only drop takes the connection out")]
    pub(in crate::router) fn held(&self) -> &Held {
        self.held.as_ref().expect("a lease holds its connection until it is dropped")
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("node", self.node.name()).field("own", &self.is_own()).finish_non_exhaustive()
    }
}
