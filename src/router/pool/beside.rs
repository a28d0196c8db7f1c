//! The one connection beside a pool's: for signs of life, while all of the pool's are in use.
//!
//! Those who give one do so at about the same time, each for a single short statement. With a connection for each, a busy
//! process with many consumers would log in a hundred times a second. So they take turns, and the connection stays a
//! while.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinHandle,
    time::{Instant, sleep},
};

use super::connection::Connection;

/// How long it stays open unused.
const KEEP: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(in crate::router) struct Beside {
    turn: Arc<Semaphore>,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    /// And since when nobody uses it.
    connection: Option<(Box<Connection>, Instant)>,
    /// The task that closes it, from the moment on when it is kept.
    closer: Option<JoinHandle<()>>,
}

/// The connection, in somebody's turn.
#[derive(Debug)]
pub(in crate::router) struct InTurn {
    pub(in crate::router) connection: Box<Connection>,
    beside: Arc<Beside>,
    turn: Option<OwnedSemaphorePermit>,
}

impl Beside {
    pub(in crate::router) fn new() -> Arc<Self> {
        Arc::new(Self { turn: Arc::new(Semaphore::new(1)), kept: Mutex::default() })
    }

    /// Waits for the turn, and opens the connection if there is none.
    pub(in crate::router) async fn acquire<E>(
        self: &Arc<Self>,
        open: impl Future<Output = Result<Box<Connection>, E>>,
    ) -> Result<InTurn, E> {
        // It is never closed.
        let turn = Arc::clone(&self.turn).acquire_owned().await.ok();
        let kept = self.lock().connection.take();
        let connection = match kept.filter(|(connection, _)| !connection.is_spent()) {
            Some((connection, _)) => connection,
            None => open.await?,
        };
        Ok(InTurn { connection, beside: Arc::clone(self), turn })
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes it if it was not used for long; otherwise returns when to look again.
    fn close_if_idle(&self) -> Option<Duration> {
        let mut kept = self.lock();
        let idle = kept.connection.as_ref().map_or(Duration::ZERO, |(_, since)| since.elapsed());
        if idle < KEEP {
            return Some(KEEP - idle);
        }
        // In one step: whoever keeps one from now on starts another task.
        kept.closer = None;
        let closed = kept.connection.take();
        drop(kept);
        drop(closed);
        None
    }
}

impl InTurn {
    /// Keeps it for the next ones, if it is fit for use.
    pub(in crate::router) fn give_back(mut self) {
        let Ok(runtime) = Handle::try_current() else { return };
        if self.connection.came_back(Instant::now()) {
            return;
        }
        let Self { connection, beside, turn } = self;
        let mut kept = beside.lock();
        kept.connection = Some((connection, Instant::now()));
        if kept.closer.as_ref().is_none_or(JoinHandle::is_finished) {
            kept.closer = Some(runtime.spawn(close_when_idle(Arc::downgrade(&beside))));
        }
        drop(kept);
        drop(turn);
    }
}

async fn close_when_idle(beside: Weak<Beside>) {
    let mut pause = KEEP;
    loop {
        sleep(pause).await;
        match beside.upgrade().and_then(|beside| beside.close_if_idle()) {
            Some(left) => pause = left,
            None => return,
        }
    }
}
