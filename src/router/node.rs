//! One node of the cluster: its name, its role, its pool.

use std::{
    pin::pin,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use futures_util::future::poll_immediate;
use tokio::time::{Instant, timeout_at};

use super::{
    Deadline, Role,
    borrowed::{BorrowedConnection, BorrowedPool},
    connection::Connection,
    core::ConnectFailure,
    failure::NotConnected,
    held::Held,
    lease::Lease,
    manager::{ConnectFailures, Manager},
    replay::ReplayWatch,
    state::{InFlight, NodeHandle},
};
use crate::error::{Error, ErrorKind};

/// How long one who waits leaves a failed connect alone before the next one.
const RECONNECT_PAUSE: Duration = Duration::from_millis(50);

/// How long a probe waits for a connection of a full pool before it opens one of its own. Calls give theirs back in less,
/// unless something is wrong.
const FULL_PATIENCE: Duration = Duration::from_millis(50);

/// A node: its pool, and what the [`State`](super::state::State) knows of it.
#[derive(Debug)]
pub(crate) struct Node {
    name: Arc<str>,
    configured_role: Role,
    pool: Pool,
    handle: NodeHandle,
    /// Whether its server keeps its control data to itself, so that nobody asks for it a second time: each refusal is a
    /// line in the server's log.
    hides_control_data: AtomicBool,
    replay_watch: ReplayWatch,
}

#[derive(Debug)]
pub(super) enum Pool {
    Own { pool: bb8::Pool<Manager>, size: u32, failures: Arc<ConnectFailures> },
    Borrowed(Box<dyn BorrowedPool>),
}

impl Node {
    pub(super) fn new(name: Arc<str>, configured_role: Role, pool: Pool, handle: NodeHandle) -> Arc<Self> {
        let (hides_control_data, replay_watch) = (AtomicBool::new(false), ReplayWatch::default());
        Arc::new(Self { name, configured_role, pool, handle, hides_control_data, replay_watch })
    }

    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The role that the settings give it.
    pub(super) fn configured_role(&self) -> Role {
        self.configured_role
    }

    pub(super) fn hides_control_data(&self) -> &AtomicBool {
        &self.hides_control_data
    }

    /// Who waits for its replay.
    pub(super) fn replay_watch(&self) -> &ReplayWatch {
        &self.replay_watch
    }

    /// The role that it plays now.
    pub(crate) fn role(&self) -> Role {
        self.handle.standing().0
    }

    /// The most connections, if they are our own.
    pub(super) fn size(&self) -> Option<u32> {
        match &self.pool {
            Pool::Own { size, .. } => Some(*size),
            Pool::Borrowed(_) => None,
        }
    }

    pub(super) fn handle(&self) -> &NodeHandle {
        &self.handle
    }

    /// A connection of its own, beside the pool's; `None` when only the owner of the pool can open one.
    pub(super) async fn dedicated(&self) -> Option<Result<Box<Connection>, Error>> {
        let Pool::Own { pool, .. } = &self.pool else { return None };
        let opened = pool.dedicated_connection().await;
        Some(opened.map_err(|failed| failed.error.with_node(Arc::clone(&self.name))))
    }

    /// A connection of this node that is ready to be used, until `until` at the latest.
    pub(super) async fn lease(
        self: &Arc<Self>,
        in_flight: Option<InFlight>,
        until: Instant,
        deadline: Deadline,
    ) -> Result<Lease, Error> {
        let held = match &self.pool {
            Pool::Own { pool, size, failures } => {
                let pooled = acquire(pool, *size, failures, until, deadline, &self.handle).await;
                pooled.map(|connection| Held::Own(connection.into()))
            }
            Pool::Borrowed(pool) => borrow(&**pool, until, deadline, &self.handle).await.map(Held::borrowed),
        };
        match held {
            Ok(held) => Ok(Lease::new(held, Arc::clone(self), in_flight)),
            Err(error) => Err(self.named(error)),
        }
    }

    /// A connection to ask the node how it is. When those who have the pool's keep all of them, it is one more, which is closed
    /// afterwards: else nobody would learn that the node has been promoted, or is silent, before they give one back.
    pub(super) async fn lease_for_probe(self: &Arc<Self>, deadline: Deadline) -> Result<Lease, Error> {
        let mut pooled = Box::pin(self.lease(None, deadline.at(), deadline));
        let Pool::Own { pool, size, .. } = &self.pool else { return pooled.await };
        if let Ok(lease) = timeout_at(deadline.or_within(FULL_PATIENCE), pooled.as_mut()).await {
            return lease;
        }
        if pool.state().connections < *size {
            return pooled.await;
        }
        // Out of the line: bb8 wakes one of those who wait, who has to be one that listens.
        drop(pooled);
        let single = pool.dedicated_connection().await.map_err(|failed| self.named(failed.error))?;
        Ok(Lease::new(Held::Own(single.into()), Arc::clone(self), None))
    }

    fn named(&self, error: Error) -> Error {
        if error.node().is_none() { error.with_node(Arc::clone(&self.name)) } else { error }
    }
}

async fn acquire(
    pool: &bb8::Pool<Manager>,
    size: u32,
    failures: &ConnectFailures,
    until: Instant,
    deadline: Deadline,
    handle: &NodeHandle,
) -> Result<bb8::PooledConnection<'static, Manager>, Error> {
    let before = failures.count();
    loop {
        // What has failed before we asked is not our affair.
        let failures_so_far = failures.count();
        let mut get = pin!(pool.get_owned());
        // Most calls end here; the others also watch the clock and the connect errors. What only they need is not part of
        // the future of all calls, which is moved about.
        let got = match poll_immediate(get.as_mut()).await {
            Some(got) => got,
            None => match Box::pin(failures.unless_failed(failures_so_far, until, get.as_mut())).await {
                Ok(Some(got)) => got,
                Ok(None) => {
                    // Neither a connection nor the hope for one: nobody would wake us.
                    if !failures.is_opening()
                        && pool.state().connections == 0
                        && let Some(failed) = failures.last()
                    {
                        if failed.why == ConnectFailure::Refused {
                            handle.connect_failed(failed.why);
                        }
                        return Err(failed.error.clone());
                    }
                    // Somebody may give one back. bb8 does not try again to open one by itself: ask anew.
                    match Box::pin(timeout_at(until.min(Instant::now() + RECONNECT_PAUSE), get.as_mut())).await {
                        Ok(got) => got,
                        Err(_) if Instant::now() < until => continue,
                        Err(_) => return Err(out_of_time(pool, size, failures, before, deadline)),
                    }
                }
                Err(_) => return Err(out_of_time(pool, size, failures, before, deadline)),
            },
        };
        match got {
            // Closed by the server while it lay in the pool: dropping it makes room for a new one.
            Ok(connection) if connection.is_spent() => handle.gone(),
            Ok(connection) => return Ok(connection),
            Err(bb8::RunError::User(failed)) => return Err(failed.error),
            Err(bb8::RunError::TimedOut) => return Err(out_of_time(pool, size, failures, before, deadline)),
        }
    }
}

/// What a call that got no connection in time was waiting for.
fn out_of_time(
    pool: &bb8::Pool<Manager>,
    size: u32,
    failures: &ConnectFailures,
    failures_before: u64,
    deadline: Deadline,
) -> Error {
    let last = failures.last();
    let is_new = failures.count() != failures_before;
    let open = pool.state().connections;
    let waited = rounded(deadline.elapsed());
    let error = match &last {
        // Nobody has one, so that nobody would have given one back: the connect error is the reason.
        Some(last) if open == 0 && is_new => return last.error.clone(),
        _ if open < size => {
            Error::new(ErrorKind::Unavailable, format!("no connection could be opened within {waited:?}"))
        }
        _ => {
            let message = format!("no connection became free within {waited:?}: the pool's limit is {size}");
            Error::new(ErrorKind::Timeout, message)
        }
    };
    match last {
        Some(last) => error.with_source(last.error.clone()),
        None => error,
    }
}

async fn borrow(
    pool: &dyn BorrowedPool,
    until: Instant,
    deadline: Deadline,
    handle: &NodeHandle,
) -> Result<Box<dyn BorrowedConnection>, Error> {
    loop {
        match timeout_at(until, pool.get()).await {
            Ok(Ok(connection)) if connection.client().is_closed() => {}
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(cause)) => {
                let cause = match cause.downcast::<tokio_postgres::Error>() {
                    Ok(error) => {
                        let failed = NotConnected::from(*error);
                        match failed.why {
                            // Perhaps only us, since so many others are in.
                            ConnectFailure::Refused => handle.was_silent(),
                            why => handle.connect_failed(why),
                        }
                        return Err(failed.error);
                    }
                    Err(cause) => cause,
                };
                handle.was_silent();
                let message = "the pool that was handed to the router gave no connection";
                return Err(Error::new(ErrorKind::Unavailable, message).with_source(cause));
            }
            Err(_) => {
                // Such a pool keeps its connect errors to itself: an unreachable server looks like a busy one. Which it is can
                // be told by its answers only.
                handle.was_silent();
                let waited = rounded(deadline.elapsed());
                let message = format!("the pool that was handed to the router gave no connection within {waited:?}");
                return Err(Error::new(ErrorKind::Unavailable, message));
            }
        }
    }
}

/// For people: nobody wants nanoseconds.
fn rounded(duration: Duration) -> Duration {
    Duration::from_millis(duration.as_millis().try_into().unwrap_or(u64::MAX))
}
