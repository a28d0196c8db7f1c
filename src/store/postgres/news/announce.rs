//! Announces appends to other processes: a notification, in a separate statement after the commit.
//!
//! Within the append's transaction, it would hold a lock across all databases of the server until the commit has
//! reached the disk, and so make all logs wait for each other.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::sleep;

use crate::{
    error::Result,
    router::{Deadline, Effect},
    store::postgres::PostgresEventStore,
};

/// Nobody waits for a notification, and a process that misses one looks for itself.
const LIMIT: Duration = Duration::from_secs(1);

/// What this process has appended and not announced yet.
#[derive(Debug)]
pub(in crate::store::postgres) struct Announcements {
    /// The pause after each notification; `None` if there are none.
    interval: Option<Duration>,
    /// The highest position to announce; 0 for none.
    position: AtomicU64,
    /// The position that it announced last; 0 for none.
    told: AtomicU64,
    /// How many events this process has appended since its last announcement.
    events: AtomicU64,
    /// Whether a task announces. It ends when nothing is left.
    announcing: AtomicBool,
}

/// The right to announce; there is one for each store.
struct Announcing(Arc<Announcements>);

impl Announcements {
    pub(in crate::store::postgres) fn new(interval: Option<Duration>) -> Self {
        let [position, told, events] = [const { AtomicU64::new(0) }; 3];
        Self { interval, position, told, events, announcing: AtomicBool::new(false) }
    }

    fn begin(self: &Arc<Self>) -> Option<Announcing> {
        (!self.announcing.swap(true, Ordering::SeqCst)).then(|| Announcing(Arc::clone(self)))
    }
}

impl Drop for Announcing {
    fn drop(&mut self) {
        self.0.announcing.store(false, Ordering::SeqCst);
    }
}

/// Announces that so many events were appended, up to this position: within this process at once, to others by a task.
pub(in crate::store::postgres) fn appended(store: &PostgresEventStore, position: u64, events: u64) {
    store.news.announced(position);
    let announcements = &store.announcements;
    let Some(interval) = announcements.interval else { return };
    announcements.events.fetch_add(events, Ordering::Relaxed);
    // In one order with the right to announce: a caller that finds it taken has stored its position before.
    announcements.position.fetch_max(position, Ordering::SeqCst);
    if let Some(announcing) = announcements.begin() {
        tokio::spawn(run(store.clone(), interval, announcing));
    }
}

async fn run(store: PostgresEventStore, interval: Duration, mut announcing: Announcing) {
    loop {
        while let position @ 1.. = announcing.0.position.swap(0, Ordering::SeqCst) {
            if let Err(error) = tell(&store, position).await {
                tracing::debug!(error = %error.for_log(), log = %store.name(), "nobody was told of an append");
            }
            let events = announcing.0.events.swap(0, Ordering::Relaxed);
            let growth = match announcing.0.told.swap(position, Ordering::Relaxed) {
                0 => events,
                told => position.saturating_sub(told),
            };
            sleep(pause(interval, growth, events)).await;
        }
        drop(announcing);
        // A caller that has come in between has found the right taken. The position is checked first: while this task
        // holds the right, others rely on it to look, although it is about to end.
        if store.announcements.position.load(Ordering::SeqCst) == 0 {
            return;
        }
        match store.announcements.begin() {
            Some(again) => announcing = again,
            None => return,
        }
    }
}

/// The most times that the interval is multiplied.
const LONGEST: u64 = 10;

/// The pause after a notification of `events`, while the log has grown by this much: longer by the share that others
/// have written, who announce these events, too, so that all together announce as often as one alone.
///
/// Each notification is a transaction with its own number, takes a lock of the whole server, and wakes all listeners.
/// (Measured by hand: without them, 8 processes with batches of 2 to 4 appended 9 to 40 % more.)
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
