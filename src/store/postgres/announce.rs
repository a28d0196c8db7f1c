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
    /// The position that it has told last; 0 for none.
    told: AtomicU64,
    /// How many events this process has appended since it told the last time.
    events: AtomicU64,
    /// Whether a task tells. It ends when nothing is left.
    telling: AtomicBool,
}

/// The right to tell; there is one for each store.
struct Telling(Arc<Announcements>);

impl Announcements {
    pub(super) fn new(interval: Option<Duration>) -> Self {
        let [position, told, events] = [const { AtomicU64::new(0) }; 3];
        Self { interval, position, told, events, telling: AtomicBool::new(false) }
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

/// Tells that so many events were appended, up to this position: those in this process at once, and the others by a task.
pub(super) fn appended(store: &PostgresEventStore, position: u64, events: u64) {
    store.news.announced(position);
    let announcements = &store.announcements;
    let Some(interval) = announcements.interval else { return };
    announcements.events.fetch_add(events, Ordering::Relaxed);
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
            let events = telling.0.events.swap(0, Ordering::Relaxed);
            let growth = match telling.0.told.swap(position, Ordering::Relaxed) {
                0 => events,
                told => position.saturating_sub(told),
            };
            sleep(pause(interval, growth, events)).await;
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

/// So many times the interval at most.
const LONGEST: u64 = 10;

/// The pause behind a notification of `events`, while the log has grown by so much: so much longer as others have written as well, who tell
/// of these, too, so that all together tell as often as one alone.
///
/// Each notification is a transaction with a number of its own, takes a lock of the whole server, and wakes all who listen. (By hand:
/// without them, 8 processes with batches of 2 to 4 appended 9 to 40 % more.)
fn pause(interval: Duration, growth: u64, events: u64) -> Duration {
    let times = (growth / events.max(1)).clamp(1, LONGEST);
    interval.saturating_mul(u32::try_from(times).unwrap_or(u32::MAX))
}

async fn tell(store: &PostgresEventStore, position: u64) -> Result<()> {
    let deadline = Deadline::after(LIMIT);
    let lease = store.router.lease_primary(deadline).await?;
    let params = (store.log.name.channel(), position.to_string());
    lease.query(Effect::Read, deadline, &store.log.notify, &[&params.0, &params.1]).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_who_write_tell_as_often_as_one_alone() {
        let interval = Duration::from_millis(5);
        for (growth, events, times) in [(10, 10, 1), (80, 10, 8), (12, 10, 1), (10_000, 10, 10), (0, 0, 1), (5, 10, 1)]
        {
            assert_eq!(pause(interval, growth, events), times * interval, "{events} of {growth}");
        }
        assert_eq!(pause(Duration::MAX, u64::MAX, 1), Duration::MAX);
    }
}
