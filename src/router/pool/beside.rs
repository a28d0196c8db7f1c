//! A few connections beside a pool's: for signs of life, while all of the pool's are in use.
//!
//! Those who give one do so at about the same time, each for a single short statement. With a connection for each, a busy
//! process with many consumers would log in a hundred times a second. So they take turns, and the connections stay a
//! while. With a single one, one answer that does not come would keep back the signs of all others.

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

/// How many there are at most.
const MOST: usize = 4;

/// How long one stays open unused.
const KEEP: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(in crate::router) struct Beside {
    turns: Arc<Semaphore>,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    /// And since when nobody uses them: the one that was used last is the last.
    connections: Vec<(Box<Connection>, Instant)>,
    /// The task that closes them, from the moment on when one is kept.
    closer: Option<JoinHandle<()>>,
}

/// A connection, in somebody's turn.
#[derive(Debug)]
pub(in crate::router) struct InTurn {
    pub(in crate::router) connection: Box<Connection>,
    beside: Arc<Beside>,
    turn: Option<OwnedSemaphorePermit>,
}

impl Beside {
    pub(in crate::router) fn new() -> Arc<Self> {
        Arc::new(Self { turns: Arc::new(Semaphore::new(MOST)), kept: Mutex::default() })
    }

    /// Waits for a turn, and opens a connection if none is kept.
    pub(in crate::router) async fn acquire<E>(
        self: &Arc<Self>,
        open: impl Future<Output = Result<Box<Connection>, E>>,
    ) -> Result<InTurn, E> {
        // It is never closed.
        let turn = Arc::clone(&self.turns).acquire_owned().await.ok();
        let kept = self.lock().connections.pop();
        let connection = match kept.filter(|(connection, _)| !connection.is_spent()) {
            Some((connection, _)) => connection,
            None => open.await?,
        };
        Ok(InTurn { connection, beside: Arc::clone(self), turn })
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes those that were not used for long. Returns when to look again; `None` if none is left.
    fn close_idle(&self) -> Option<Duration> {
        let mut kept = self.lock();
        let idle = kept.connections.iter().take_while(|(_, since)| since.elapsed() >= KEEP).count();
        let closed: Vec<_> = kept.connections.drain(..idle).collect();
        let next = kept.connections.first().map(|(_, since)| KEEP.saturating_sub(since.elapsed()));
        if next.is_none() && self.turns.available_permits() == MOST {
            // In one step: whoever keeps one from now on starts another task.
            kept.closer = None;
            drop(kept);
            drop(closed);
            return None;
        }
        drop(kept);
        drop(closed);
        Some(next.unwrap_or(KEEP))
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
        kept.connections.push((connection, Instant::now()));
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
        match beside.upgrade().and_then(|beside| beside.close_idle()) {
            Some(left) => pause = left,
            None => return,
        }
    }
}
