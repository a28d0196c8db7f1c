//! Tells other processes that something was appended: a notification, in a statement of its own behind the commit.
//!
//! Within the append's transaction it would take a lock across all databases of the server until the commit has reached the
//! disk, and so make all logs wait for each other.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::sleep;

use super::PostgresEventStore;
use crate::{
    error::Result,
    router::{Deadline, Effect},
};

/// Nobody waits for a notification, and whoever misses one looks for himself.
const LIMIT: Duration = Duration::from_secs(1);

/// What this process has appended and not told yet.
#[derive(Debug)]
pub(super) struct Announcements {
    /// The pause behind each notification; `None` when nobody is told.
    interval: Option<Duration>,
    /// The highest position that is to be told; 0 for none.
    position: AtomicU64,
    /// Whether a task tells. It ends when nothing is left.
    telling: AtomicBool,
}

/// The right to tell; there is one for each store.
struct Telling(Arc<Announcements>);

impl Announcements {
    pub(super) fn new(interval: Option<Duration>) -> Self {
        Self { interval, position: AtomicU64::new(0), telling: AtomicBool::new(false) }
    }

    fn begin(self: &Arc<Self>) -> Option<Telling> {
        (!self.telling.swap(true, Ordering::SeqCst)).then(|| Telling(Arc::clone(self)))
    }
}

impl Drop for Telling {
    fn drop(&mut self) {
        self.0.telling.store(false, Ordering::SeqCst);
    }
}

/// Tells that the log goes on up to this position: those in this process at once, and the others by a task.
pub(super) fn appended(store: &PostgresEventStore, position: u64) {
    store.news.announced(position);
    let announcements = &store.announcements;
    let Some(interval) = announcements.interval else { return };
    // In one order with the right to tell: who finds somebody at it has left him the position before.
    announcements.position.fetch_max(position, Ordering::SeqCst);
    if let Some(telling) = announcements.begin() {
        tokio::spawn(run(store.clone(), interval, telling));
    }
}

async fn run(store: PostgresEventStore, interval: Duration, mut telling: Telling) {
    loop {
        while let position @ 1.. = telling.0.position.swap(0, Ordering::SeqCst) {
            if let Err(error) = tell(&store, position).await {
                tracing::debug!(error = %error.for_log(), log = %store.name(), "nobody was told of an append");
            }
            sleep(interval).await;
        }
        drop(telling);
        // Whoever has come in between has found somebody at it. First the position: with the right to tell in his hand, others would
        // still rely on who looks at it and goes.
        if store.announcements.position.load(Ordering::SeqCst) == 0 {
            return;
        }
        match store.announcements.begin() {
            Some(again) => telling = again,
            None => return,
        }
    }
}

async fn tell(store: &PostgresEventStore, position: u64) -> Result<()> {
    let deadline = Deadline::after(LIMIT);
    let lease = store.router.lease_primary(deadline).await?;
    let params = (store.log.name.channel(), position.to_string());
    lease.query(Effect::Read, deadline, &store.log.notify, &[&params.0, &params.1]).await?;
    Ok(())
}
