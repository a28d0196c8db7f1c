//! The router's own pool, and how a call gets a connection from it.

use std::{future::Future, pin::pin, sync::Arc, time::Duration};

use tokio::{
    sync::SemaphorePermit,
    time::{Instant, timeout_at},
};

use super::{
    admission::{Admission, Caller, Permit},
    beside::{Beside, InTurn},
    connection::Connection,
    manager::{ConnectFailures, Manager},
    supply::{Connected, Supply},
    upkeep::{Filling, NextLook, Upkeep},
};
#[cfg(feature = "metrics")]
use crate::telemetry::metrics::gauges::PoolState;
use crate::{
    error::{Error, ErrorKind},
    router::{Deadline, core::ConnectFailure, lease::failure::NotConnected, state::NodeHandle},
};

/// The pause of a waiting call between a failed connect and the next attempt.
const RECONNECT_PAUSE: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub(in crate::router) struct OwnPool {
    pub(in crate::router) supply: Arc<Supply>,
    size: u32,
    failures: Arc<ConnectFailures>,
    pub(in crate::router) admission: Admission,
    pub(in crate::router) upkeep: Upkeep,
    pub(in crate::router) next_look: Arc<NextLook>,
    pub(in crate::router) filling: Filling,
    beside: Arc<Beside>,
}

/// A connection of the pool and the permit it uses. (In this order: the next call looks for the connection when the
/// permit is free.)
#[derive(Debug)]
pub(in crate::router) struct Pooled {
    pub(in crate::router) connection: Connected,
    _permit: Permit,
}

/// A waiting call: its deadline, and what tells it that waiting is in vain.
struct Wait<'a> {
    pool: &'a OwnPool,
    node: &'a NodeHandle,
    until: Instant,
    deadline: Deadline,
    failures_before: u64,
}

impl OwnPool {
    pub(in crate::router) fn new(
        manager: Manager,
        size: u32,
        most_waiting: u32,
        failures: Arc<ConnectFailures>,
        upkeep: Upkeep,
    ) -> Self {
        // We set the limits (`acquire`) and never wait for bb8, but its own limit needs a value. We also end
        // connections ourselves (`upkeep`): bb8 would end all of them at once.
        let never = Duration::from_secs(24 * 60 * 60);
        let next_look = Arc::clone(manager.next_look());
        let pool = bb8::Pool::builder()
            .max_size(size)
            .connection_timeout(never)
            .max_lifetime(None)
            .idle_timeout(None)
            .retry_connection(false)
            .test_on_check_out(false)
            // The server process that was busy last has its data in the processor's caches, and so do we.
            .queue_strategy(bb8::QueueStrategy::Lifo)
            .build_unchecked(manager);
        let admission = Admission::new(size, most_waiting);
        let supply = Supply::new(pool, size, Arc::clone(&failures));
        let beside = Beside::new();
        Self { supply, size, failures, admission, upkeep, next_look, filling: Filling::default(), beside }
    }

    /// The maximum number of connections.
    pub(in crate::router) fn size(&self) -> u32 {
        self.size
    }

    /// How many connections there are, and how many calls wait for one.
    #[cfg(feature = "metrics")]
    pub(in crate::router) fn gauges(&self) -> PoolState {
        let state = self.supply.state();
        let (open, idle) = (state.connections, state.idle_connections);
        PoolState { open, idle, most: self.size, waiting: self.admission.waiting() }
    }

    /// Whether there is no room for another connection.
    pub(in crate::router) fn is_full(&self) -> bool {
        self.supply.connections() >= self.size
    }

    /// A connection in addition to the pool's.
    pub(in crate::router) async fn dedicated(&self) -> Result<Box<Connection>, NotConnected> {
        self.supply.dedicated().await
    }

    /// The one connection beside the pool's, in turn with others who need it.
    pub(in crate::router) async fn beside(&self) -> Result<InTurn, NotConnected> {
        self.beside.acquire(self.dedicated()).await
    }

    /// Acquires a connection that is ready for use, first come, first served, until `until` at the latest. A user's
    /// call joins the queue only while there is room in it.
    pub(in crate::router) async fn acquire(
        &self,
        until: Instant,
        deadline: Deadline,
        node: &NodeHandle,
        caller: Caller,
    ) -> Result<Pooled, Error> {
        let failures_before = self.failures.count();
        let mut so_far = failures_before;
        let wait = Wait { pool: self, node, until, deadline, failures_before };
        let permit = match self.admission.try_enter() {
            Some(permit) => permit,
            None => Box::pin(wait.for_permit(&mut so_far, caller)).await?,
        };
        let mut turn = None;
        if self.admission.is_short() {
            turn = Some(Box::pin(wait.in_line(&mut so_far, self.admission.turn())).await?);
        }
        loop {
            // Most calls end here. What only the others need is kept out of the future of all calls, which is moved
            // about.
            let connection = match self.supply.idle() {
                Some(connection) => connection,
                None => match Box::pin(wait.for_next(&mut turn)).await? {
                    Some(connection) => connection,
                    None => continue,
                },
            };
            // The server closed it while it was idle in the pool: dropping it makes room for a new one.
            if connection.is_spent() {
                node.gone();
                continue;
            }
            return Ok(Pooled { connection: self.ready_one(connection, node), _permit: permit });
        }
    }

    fn overloaded(&self, waiting: u32) -> Error {
        let size = self.size;
        let message = format!(
            "{waiting} calls wait for one of the {size} connections, and no more may (`waiting_calls`); nothing was sent"
        );
        Error::new(ErrorKind::Overloaded, message)
    }

    /// This connection, or the next idle one if this one's session is still being reset and that one's is not: the call
    /// would queue behind the reset.
    fn ready_one(&self, connection: Connected, node: &NodeHandle) -> Connected {
        if connection.reset().is_done() {
            return connection;
        }
        match self.supply.idle() {
            Some(next) if next.is_spent() => node.gone(),
            Some(next) if next.reset().is_done() => return next,
            _ => {}
        }
        connection
    }
}

impl<'a> Wait<'a> {
    /// Waits for the next connection. None if connecting has failed meanwhile and the caller has to ask again: from
    /// then on in its turn.
    async fn for_next(&self, turn: &mut Option<SemaphorePermit<'a>>) -> Result<Option<Connected>, Error> {
        let OwnPool { supply, failures, admission, .. } = self.pool;
        let waiting = admission.wait();
        // Failures before we asked do not concern this call.
        let mut so_far = failures.count();
        let mut next = Box::pin(supply.next());
        match failures.unless_failed(so_far, self.until, next.as_mut()).await {
            Ok(Some(connection)) => return Ok(Some(connection)),
            Ok(None) => self.unless_in_vain()?,
            Err(_) => return Err(self.out_of_time()),
        }
        if turn.is_none() {
            // A queued call looks for no connection, and is counted in the queue.
            drop((next, waiting));
            *turn = Some(self.in_line(&mut so_far, admission.turn()).await?);
            return Ok(None);
        }
        // Another call may return one.
        match timeout_at(self.until.min(Instant::now() + RECONNECT_PAUSE), next).await {
            Ok(connection) => Ok(Some(connection)),
            Err(_) if Instant::now() < self.until => Ok(None),
            Err(_) => Err(self.out_of_time()),
        }
    }

    /// Waits for a permit; a user's call only while there is room in the queue.
    async fn for_permit(&self, so_far: &mut u64, caller: Caller) -> Result<Permit, Error> {
        let OwnPool { admission, .. } = self.pool;
        let in_line = (caller == Caller::User).then(|| admission.get_in_line()).transpose();
        let _in_line = in_line.map_err(|waiting| self.pool.overloaded(waiting))?;
        self.in_line(so_far, admission.enter()).await
    }

    /// Waits in the queue, unless connecting fails meanwhile and no call is left that could return a connection.
    async fn in_line<T>(&self, so_far: &mut u64, turn: impl Future<Output = T>) -> Result<T, Error> {
        let _waiting = self.pool.admission.wait();
        let mut turn = pin!(turn);
        loop {
            let failures = &self.pool.failures;
            let event = failures.unless_failed(*so_far, self.until, turn.as_mut()).await;
            let had = std::mem::replace(so_far, failures.count());
            match event {
                Ok(Some(turn)) => {
                    // The calls before this one may just have failed.
                    if *so_far != had {
                        self.unless_in_vain()?;
                    }
                    return Ok(turn);
                }
                Ok(None) => self.unless_in_vain()?,
                Err(_) => return Err(self.out_of_time()),
            }
        }
    }

    /// The connect error, if there is neither a connection nor a prospect of one: nothing would wake us.
    fn unless_in_vain(&self) -> Result<(), Error> {
        let OwnPool { supply, failures, .. } = self.pool;
        if supply.has_hope() {
            return Ok(());
        }
        let Some(failed) = failures.last() else { return Ok(()) };
        if failed.why == ConnectFailure::Refused {
            self.node.connect_failed(failed.why);
        }
        Err(failed.error.clone())
    }

    /// The error that says what a call without a connection was waiting for.
    fn out_of_time(&self) -> Error {
        let OwnPool { supply, size, failures, admission, .. } = self.pool;
        let last = failures.last();
        let is_new = failures.count() != self.failures_before;
        let open = supply.connections();
        let waited = rounded(self.deadline.elapsed());
        // This call is one of them, unless it was told so before.
        let others = match admission.waiting().saturating_sub(1) {
            0 => String::new(),
            1 => "; 1 other call waits".to_owned(),
            others => format!("; {others} other calls wait"),
        };
        let error = match &last {
            // No call holds one, so none could have returned one: the connect error is the reason.
            Some(last) if open == 0 && is_new => return last.error.clone(),
            _ if open < *size => {
                let taken = if open > 0 { ", and those that are open are in use" } else { "" };
                let message = format!("no connection could be opened within {waited:?}{taken}{others}");
                Error::new(ErrorKind::Unavailable, message)
            }
            _ => {
                let message =
                    format!("no connection became free within {waited:?}: the pool's limit is {size}{others}");
                Error::new(ErrorKind::Timeout, message)
            }
        };
        match last {
            Some(last) => error.with_source(last.error.clone()),
            None => error,
        }
    }
}

/// For people, who do not need nanoseconds.
pub(in crate::router) fn rounded(duration: Duration) -> Duration {
    Duration::from_millis(duration.as_millis().try_into().unwrap_or(u64::MAX))
}
