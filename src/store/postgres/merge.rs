//! Keeps the lists short in which new entries of the GIN indexes wait (`migrations/V1__log.sql`), beside those who append.
//!
//! Merged one by one, the entries of an event cost more than all the rest of its append, and under the log's lock.
//! Together they cost less, and nobody waits for it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{sync::Notify, time::timeout};

use super::PostgresEventStore;
use crate::{
    error::Result,
    router::{Deadline, Effect},
};

/// So many events are merged at once. A search reads each event of the list, in about 50 ns for each value that it looks for:
/// more, and reads are slower; fewer, and there is less to share.
const MANY: usize = 1024;

/// Fewer are merged after this long, so that the list of a log which rests is empty.
const PATIENCE: Duration = Duration::from_secs(1);

/// A merge takes milliseconds. What it has merged when it is given up stays merged.
const LIMIT: Duration = Duration::from_secs(30);

/// How much was appended through this store since the last merge.
#[derive(Debug, Default)]
pub(super) struct Unmerged {
    events: AtomicUsize,
    many: Notify,
    /// Whether a task waits for the next merge, or merges. It ends when nothing is left.
    merging: AtomicBool,
}

/// The right to merge; there is one for each store.
struct Merging(Arc<Unmerged>);

impl Unmerged {
    /// Notes that so many events were appended. Whoever finds nobody at work gets the right to merge.
    fn add(self: &Arc<Self>, events: usize) -> Option<Merging> {
        if events == 0 {
            return None;
        }
        if self.events.fetch_add(events, Ordering::AcqRel) + events >= MANY {
            self.many.notify_one();
        }
        (!self.merging.swap(true, Ordering::AcqRel)).then(|| Merging(Arc::clone(self)))
    }
}

impl Merging {
    /// Waits until it is time, and then takes what is there.
    async fn due(&self) {
        if self.0.events.load(Ordering::Acquire) < MANY {
            let _ = timeout(PATIENCE, self.0.many.notified()).await;
        }
        self.0.events.store(0, Ordering::Release);
    }

    fn is_done(&self) -> bool {
        self.0.events.load(Ordering::Acquire) == 0
    }
}

impl Drop for Merging {
    fn drop(&mut self) {
        self.0.merging.store(false, Ordering::Release);
    }
}

/// Notes that so many events were appended, and has them merged in a task of its own.
pub(super) fn appended(store: &PostgresEventStore, events: usize) {
    if let Some(merging) = store.unmerged.add(events) {
        tokio::spawn(run(store.clone(), merging));
    }
}

async fn run(store: PostgresEventStore, merging: Merging) {
    loop {
        merging.due().await;
        if let Err(error) = merge(&store).await {
            // The lists have a limit of their own, so this costs time and nothing else. The next append tries again.
            tracing::debug!(error = %error.report(), "the lists of the indexes were not merged");
            return;
        }
        // What comes between this and the end waits for the next append.
        if merging.is_done() {
            return;
        }
    }
}

async fn merge(store: &PostgresEventStore) -> Result<()> {
    let deadline = Deadline::after(LIMIT);
    let lease = store.router.lease_primary(deadline).await?;
    lease.query(Effect::Read, deadline, &store.log.merge, &[]).await.map(drop)
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn few_events_wait_for_more_and_many_do_not() {
        let unmerged = Arc::new(Unmerged::default());
        let merging = unmerged.add(1).expect("nobody is at work");
        let start = Instant::now();
        merging.due().await;
        assert_eq!(start.elapsed(), PATIENCE);
        assert!(merging.is_done());

        assert!(unmerged.add(MANY - 1).is_none(), "somebody is at work");
        assert!(unmerged.add(1).is_none());
        assert!(!merging.is_done(), "what came meanwhile counts");
        let start = Instant::now();
        merging.due().await;
        assert_eq!(start.elapsed(), Duration::ZERO);

        drop(merging);
        assert!(unmerged.add(0).is_none(), "nothing was appended");
        assert!(unmerged.add(1).is_some(), "the next one goes on");
    }
}
