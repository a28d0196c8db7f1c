//! The connections that lie in a pool, those that are being opened for it, and who waits for one.
//!
//! bb8 keeps them, but does not open any. It would do so in a task on the runtime of whoever asks, and when that task ends with its
//! runtime, or panics, bb8 goes on counting its connection as one that is to come: that place would be gone for ever. So bb8 is only
//! asked while a connection lies there, and is given those that are opened here, where what is under way is counted by who is dropped.

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

use super::{
    core::ConnectFailure,
    failure::NotConnected,
    manager::{ConnectFailures, Manager},
};

pub(super) struct Supply<M: ManageConnection = Manager> {
    pool: bb8::Pool<M>,
    size: u32,
    failures: Arc<ConnectFailures>,
    /// Held by whoever takes a connection, so that bb8 is never asked for one that somebody else has just taken.
    counts: Mutex<Counts>,
    /// A connection was opened, or came back, or there is room for another one.
    news: Notify,
}

#[derive(Debug, Default)]
struct Counts {
    /// Connects that are under way: bb8 does not know of them.
    opening: u32,
    /// Callers who wait for a connection.
    looking: u32,
}

/// A connection that is out of the pool until it is dropped. (In this order: who is told looks for it.)
pub(super) struct Connected<M: ManageConnection = Manager> {
    connection: bb8::PooledConnection<'static, M>,
    _back: Back<M>,
}

/// Tells one of those who wait that a connection has come back.
struct Back<M: ManageConnection>(Arc<Supply<M>>);

/// One who waits, and is counted as long.
struct Looking<'a, M: ManageConnection>(&'a Supply<M>);

/// Room for a connection that is being opened, until it is in the pool or this is dropped.
pub(super) struct Slot<M: ManageConnection> {
    supply: Arc<Supply<M>>,
    is_done: bool,
}

impl<M: ManageConnection<Error = NotConnected>> Supply<M> {
    /// `pool` must not be asked for a connection by anybody else, and keep none by itself.
    pub(super) fn new(pool: bb8::Pool<M>, size: u32, failures: Arc<ConnectFailures>) -> Arc<Self> {
        Arc::new(Self { pool, size, failures, counts: Mutex::default(), news: Notify::new() })
    }

    /// A connection that lies there.
    pub(super) fn idle(self: &Arc<Self>) -> Option<Connected<M>> {
        let _one_at_a_time = self.counts();
        if self.pool.state().idle_connections == 0 {
            return None;
        }
        let connection = self.pool.get_owned().now_or_never()?.ok()?;
        Some(Connected { connection, _back: Back(Arc::clone(self)) })
    }

    /// The next connection that lies there. One is opened unless as many are as there are callers who wait, or the pool is full.
    /// Opening goes on when this is dropped. What fails is only told to [`ConnectFailures`].
    pub(super) async fn next(self: &Arc<Self>) -> Connected<M> {
        self.counts().looking += 1;
        let _looking = Looking(self);
        loop {
            let mut news = pin!(self.news.notified());
            // From now on, so that nothing is missed between the look and the wait.
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
            // A runtime that is shutting down drops at once what is spawned, which is news: it has to get on with it.
            yield_now().await;
        }
    }

    /// Room for one more connection, if there is any.
    pub(super) fn slot(self: &Arc<Self>) -> Option<Slot<M>> {
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
    pub(super) async fn dedicated(&self) -> Result<M::Connection, NotConnected> {
        self.pool.dedicated_connection().await
    }

    /// How many there are, and how many of them lie there.
    #[cfg(feature = "metrics")]
    pub(super) fn state(&self) -> bb8::State {
        self.pool.state()
    }

    /// How many there are.
    pub(super) fn connections(&self) -> u32 {
        self.pool.state().connections
    }

    /// How many have to be opened for there to be so many: those that are being opened need not be.
    pub(super) fn missing(&self, least: u32) -> u32 {
        let counts = self.counts();
        least.saturating_sub(self.connections() + counts.opening)
    }

    /// Whether there is a connection that somebody may give back, or one that is being opened.
    pub(super) fn has_hope(&self) -> bool {
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
    /// Opens the connection and puts it into the pool. What fails is told to the core by who opens it.
    pub(super) async fn open(mut self) {
        match self.supply.pool.dedicated_connection().await {
            Ok(connection) => {
                // Nobody must see both, or neither: each would be another number of connections.
                let refused = self.free(|supply| supply.pool.add(connection).err());
                // It has ended already, or is to what the node was when it was begun.
                drop(refused);
                self.supply.news.notify_one();
            }
            Err(failed) => {
                self.free(|_| ());
                // Behind that: whom this wakes can have another one opened.
                self.supply.failures.record(failed);
            }
        }
    }
}

impl<M: ManageConnection> Slot<M> {
    /// Ends the time of this slot, together with `end`.
    fn free<T>(&mut self, end: impl FnOnce(&Supply<M>) -> T) -> T {
        let mut counts = self.supply.counts();
        let ended = end(&self.supply);
        counts.opening -= 1;
        self.is_done = true;
        ended
    }
}

impl<M: ManageConnection> Drop for Slot<M> {
    /// Its runtime has ended, or its caller has, or it has panicked.
    fn drop(&mut self) {
        if self.is_done {
            return;
        }
        self.free(|_| ());
        if panicking() {
            // Like any failed connect: who waits must not have the next one opened at once, and again.
            self.supply.failures.record(NotConnected::new(ConnectFailure::NoAnswer, "connecting has panicked"));
        } else {
            // Somebody else may rely on it.
            self.supply.news.notify_one();
        }
    }
}

impl<M: ManageConnection> Drop for Looking<'_, M> {
    fn drop(&mut self) {
        self.0.counts().looking -= 1;
        // It may have been told of this one and dropped before it has looked. Only then: behind a connect that has failed, somebody else who
        // is woken has the next one opened at once, and those who wait with him would take that for hope.
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
