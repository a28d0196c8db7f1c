//! The idle connections of a pool, those being opened for it, and the calls that wait for one.
//!
//! bb8 stores them, but does not open any. It would do so in a task on the runtime of the caller. If that task ended
//! with its runtime, or panicked, bb8 would count its connection as pending forever, and that slot would be lost. bb8
//! is therefore only asked while a connection is idle there, and is given those that are opened here, where guards
//! count pending connections when dropped.

use std::{
    fmt,
    ops::{Deref, DerefMut},
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::panicking,
};

use bb8::ManageConnection;
use futures_util::FutureExt;
use tokio::{sync::Notify, task::yield_now};

use super::manager::{ConnectFailures, Manager};
use crate::router::{core::ConnectFailure, lease::failure::NotConnected};

pub(in crate::router) struct Supply<M: ManageConnection = Manager> {
    pool: bb8::Pool<M>,
    size: u32,
    failures: Arc<ConnectFailures>,
    /// Held while a connection is taken, so that bb8 is never asked for one that has just been taken.
    counts: Mutex<Counts>,
    /// A connection was opened or returned, or there is room for another one.
    news: Notify,
}

#[derive(Debug, Default)]
struct Counts {
    /// Pending connects: bb8 does not know of them.
    opening: u32,
    /// Callers that wait for a connection.
    looking: u32,
}

/// A connection that is out of the pool until it is dropped. (In this order: the notified caller looks for it.)
pub(in crate::router) struct Connected<M: ManageConnection = Manager> {
    connection: bb8::PooledConnection<'static, M>,
    _back: Back<M>,
}

/// Notifies one of the waiters that a connection has been returned.
struct Back<M: ManageConnection>(Arc<Supply<M>>);

/// Counts a waiter while it exists.
struct Looking<'a, M: ManageConnection>(&'a Supply<M>);

/// Room for a connection being opened, until it is in the pool or this is dropped.
pub(in crate::router) struct Slot<M: ManageConnection> {
    supply: Arc<Supply<M>>,
    is_done: bool,
}

impl<M: ManageConnection<Error = NotConnected>> Supply<M> {
    /// Nothing else may ask `pool` for a connection, and it must keep none by itself.
    pub(in crate::router) fn new(pool: bb8::Pool<M>, size: u32, failures: Arc<ConnectFailures>) -> Arc<Self> {
        Arc::new(Self { pool, size, failures, counts: Mutex::default(), news: Notify::new() })
    }

    /// An idle connection.
    pub(in crate::router) fn idle(self: &Arc<Self>) -> Option<Connected<M>> {
        let _one_at_a_time = self.counts();
        if self.pool.state().idle_connections == 0 {
            return None;
        }
        let connection = self.pool.get_owned().now_or_never()?.ok()?;
        Some(Connected { connection, _back: Back(Arc::clone(self)) })
    }

    /// The next idle connection. One is opened unless as many are pending as there are waiters, or the pool is full.
    /// Opening continues when this is dropped. Failures are only reported to [`ConnectFailures`].
    pub(in crate::router) async fn next(self: &Arc<Self>) -> Connected<M> {
        self.counts().looking += 1;
        let _looking = Looking(self);
        loop {
            let mut news = pin!(self.news.notified());
            // Enabled now, so that nothing is missed between the check and the wait.
            news.as_mut().enable();
            if let Some(connection) = self.idle() {
                return connection;
            }
            let slot = {
                let mut counts = self.counts();
                if counts.looking > counts.opening { self.room(&mut counts) } else { None }
            };
            if let Some(slot) = slot {
                tokio::spawn(slot.open());
            }
            news.await;
            // A runtime that is shutting down drops spawned tasks at once, which is a notification: it has to make
            // progress.
            yield_now().await;
        }
    }

    /// Room for one more connection, if there is any.
    pub(in crate::router) fn slot(self: &Arc<Self>) -> Option<Slot<M>> {
        self.room(&mut self.counts())
    }

    fn room(self: &Arc<Self>, counts: &mut Counts) -> Option<Slot<M>> {
        if self.connections() + counts.opening >= self.size {
            return None;
        }
        counts.opening += 1;
        Some(Slot { supply: Arc::clone(self), is_done: false })
    }

    /// A connection that does not belong to the pool.
    pub(in crate::router) async fn dedicated(&self) -> Result<M::Connection, NotConnected> {
        self.pool.dedicated_connection().await
    }

    /// How many there are, and how many of them are idle.
    #[cfg(feature = "metrics")]
    pub(in crate::router) fn state(&self) -> bb8::State {
        self.pool.state()
    }

    /// How many there are.
    pub(in crate::router) fn connections(&self) -> u32 {
        self.pool.state().connections
    }

    /// How many must be opened to have at least `least`; those being opened count as there.
    pub(in crate::router) fn missing(&self, least: u32) -> u32 {
        let counts = self.counts();
        least.saturating_sub(self.connections() + counts.opening)
    }

    /// Whether there is a connection that may be returned, or one being opened.
    pub(in crate::router) fn has_hope(&self) -> bool {
        let counts = self.counts();
        counts.opening > 0 || self.connections() > 0
    }
}

impl<M: ManageConnection> Supply<M> {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<M: ManageConnection<Error = NotConnected>> Slot<M> {
    /// Opens the connection and puts it into the pool. The code that opens it reports a failure to the core.
    pub(in crate::router) async fn open(mut self) {
        match self.supply.pool.dedicated_connection().await {
            Ok(connection) => {
                // Nobody must see both, or neither: each would be a different number of connections.
                let refused = self.free(|supply| supply.pool.add(connection).err());
                // It has ended already, or leads to what the node was when it was begun.
                drop(refused);
                self.supply.news.notify_one();
            }
            Err(failed) => {
                self.free(|_| ());
                // Only now: a caller that this wakes may have another one opened.
                self.supply.failures.record(failed);
            }
        }
    }
}

impl<M: ManageConnection> Slot<M> {
    /// Frees this slot, together with `end`.
    fn free<T>(&mut self, end: impl FnOnce(&Supply<M>) -> T) -> T {
        let mut counts = self.supply.counts();
        let ended = end(&self.supply);
        counts.opening -= 1;
        self.is_done = true;
        ended
    }
}

impl<M: ManageConnection> Drop for Slot<M> {
    /// Its runtime or its caller has ended, or it has panicked.
    fn drop(&mut self) {
        if self.is_done {
            return;
        }
        self.free(|_| ());
        if panicking() {
            // Like any failed connect: waiters must not have the next one opened at once, again and again.
            self.supply.failures.record(NotConnected::new(ConnectFailure::NoAnswer, "connecting has panicked"));
        } else {
            // Another waiter may rely on it.
            self.supply.news.notify_one();
        }
    }
}

impl<M: ManageConnection> Drop for Looking<'_, M> {
    fn drop(&mut self) {
        self.0.counts().looking -= 1;
        // The waiter may have been notified of this one and dropped before it looked. Only then: after a failed
        // connect, another waiter that is woken has the next one opened at once, and all other waiters would take that
        // for a connection that they can wait for.
        if self.0.pool.state().idle_connections > 0 {
            self.0.news.notify_one();
        }
    }
}

impl<M: ManageConnection> Drop for Back<M> {
    fn drop(&mut self) {
        self.0.news.notify_one();
    }
}

impl<M: ManageConnection> Deref for Connected<M> {
    type Target = M::Connection;

    fn deref(&self) -> &M::Connection {
        &self.connection
    }
}

impl<M: ManageConnection> DerefMut for Connected<M> {
    fn deref_mut(&mut self) -> &mut M::Connection {
        &mut self.connection
    }
}

impl<M: ManageConnection> fmt::Debug for Supply<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Supply").field("size", &self.size).field("counts", &self.counts).finish_non_exhaustive()
    }
}

impl<M: ManageConnection> fmt::Debug for Connected<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connected").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
