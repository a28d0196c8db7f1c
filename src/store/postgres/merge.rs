//! Keeps the lists short in which new entries of the indexes on payloads and metadata wait (`migrations/V1__log.sql`), beside
//! those who append.
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

use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout_at},
};

use super::{PostgresEventStore, prepared::Prepared};
use crate::{
    error::Result,
    router::{Deadline, Effect},
};

/// New entries that are merged at once, if not so many were just now: some thousand events of eight members. A search reads each event of
/// the list, in about 50 ns for each value that it looks for: more, and reads are slower; fewer, and there is less to share.
const MANY: usize = 12 * 1024;

/// Time between two merges, unless so many have come that they are not waited for: while thousands of events come in each
/// second, larger merges take less of the processor, which is what such a server has the least of. What events have in
/// common (a title, a year) is one entry of the index, which is written anew once in a merge, however many of them have it.
const PAUSE: Duration = Duration::from_millis(250);
const VERY_MANY: usize = 4 * MANY;

/// With so many, appends wait for the merge that is under way: PostgreSQL merges until the list is empty, so it would never end
/// while more came than it merges, and the list would grow without a limit. Each takes 20 bytes there, so this is less than the 2 MB
/// with which an append would merge it itself, under the log's lock.
const TOO_MANY: usize = 8 * MANY;

/// They wait for so long at most, each batch: whoever holds up the merge must not hold up the log.
const ROOM: Duration = Duration::from_secs(1);

/// Fewer are merged after this long, so that the list of a log which rests is empty.
const PATIENCE: Duration = Duration::from_secs(1);

/// While another process merges, this one looks again after this long: that one may have been past our entries.
const AGAIN: Duration = Duration::from_millis(100);

/// A merge takes milliseconds. What it has merged when it is given up stays merged.
const LIMIT: Duration = Duration::from_secs(30);

/// How many entries were appended through this store and are not merged yet.
#[derive(Debug, Default)]
pub(super) struct Unmerged {
    entries: AtomicUsize,
    many: Notify,
    /// Whether a task waits for the next merge, or merges. It ends when nothing is left.
    merging: AtomicBool,
    /// At the end of each merge.
    merged: Notify,
    /// Whether the store was closed: nothing is waited for any more.
    closed: AtomicBool,
}

/// The right to merge; there is one for each store.
struct Merging(Arc<Unmerged>);

impl Unmerged {
    /// Notes that so many entries were appended. Whoever finds nobody at work gets the right to merge.
    fn add(self: &Arc<Self>, entries: usize) -> Option<Merging> {
        if entries == 0 {
            return None;
        }
        let before = self.entries.fetch_add(entries, Ordering::AcqRel);
        if [MANY, VERY_MANY].into_iter().any(|limit| (before..before + entries).contains(&(limit - 1))) {
            self.many.notify_one();
        }
        (!self.merging.swap(true, Ordering::AcqRel)).then(|| Merging(Arc::clone(self)))
    }

    /// Waits while too much is not merged, and somebody is at it.
    pub(super) async fn room(&self, deadline: Deadline) {
        let until = deadline.at().min(Instant::now() + ROOM);
        loop {
            let merged = self.merged.notified();
            let full = self.entries.load(Ordering::Acquire) >= TOO_MANY && self.merging.load(Ordering::Acquire);
            if !full || timeout_at(until, merged).await.is_err() {
                return;
            }
        }
    }

    /// The store is closed: the task of the next merge does not wait for more.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.many.notify_one();
    }
}

impl Merging {
    /// Waits until it is time, the last merge having been then; how many entries there are, or `None` when the store was closed.
    async fn due(&self, last: Option<Instant>) -> Option<usize> {
        let now = Instant::now();
        let soon = last.map_or(now, |last| last + PAUSE);
        loop {
            if self.0.closed.load(Ordering::Acquire) {
                return None;
            }
            let entries = self.0.entries.load(Ordering::Acquire);
            let until = if entries >= MANY { soon } else { now + PATIENCE };
            if entries >= VERY_MANY {
                return Some(entries);
            }
            if timeout_at(until, self.0.many.notified()).await.is_err() {
                return Some(self.0.entries.load(Ordering::Acquire));
            }
        }
    }

    /// So many were merged; whether there are more by now.
    fn merged(&self, entries: usize) -> bool {
        let left = self.0.entries.fetch_sub(entries, Ordering::AcqRel) - entries;
        self.0.merged.notify_waiters();
        left > 0
    }
}

impl Drop for Merging {
    fn drop(&mut self) {
        self.0.merging.store(false, Ordering::Release);
        self.0.merged.notify_waiters();
    }
}

/// Notes what was appended, and has it merged in a task of its own.
pub(super) fn appended(store: &PostgresEventStore, appends: &[Arc<Prepared>]) {
    let keys = appends.iter().flat_map(|append| &append.keys);
    // Somewhat more than there are entries: an event's type is a key as well, and metadata have no index unless one is made.
    let entries = keys.map(|keys| keys.hashes().len()).sum();
    if let Some(merging) = store.known.unmerged.add(entries) {
        tokio::spawn(run(store.clone(), merging));
    }
}

async fn run(store: PostgresEventStore, merging: Merging) {
    let mut began = Instant::now();
    let mut last = None;
    while let Some(entries) = merging.due(last).await {
        match merge(&store).await {
            Ok(true) => {
                // What comes between this and the end waits for the next append.
                if !merging.merged(entries) {
                    return;
                }
                began = Instant::now();
                last = Some(began);
            }
            Ok(false) if began.elapsed() < LIMIT => sleep(AGAIN).await,
            // The lists have a limit of their own, so this costs time and nothing else. The next append tries again.
            outcome => {
                if let Err(error) = outcome {
                    tracing::warn!(error = %error.for_log(), log = %store.name(), "the lists of the indexes were not merged");
                }
                merging.merged(entries);
                return;
            }
        }
    }
}

/// Whether it was done; not if somebody else is at it.
async fn merge(store: &PostgresEventStore) -> Result<bool> {
    let deadline = Deadline::after(LIMIT);
    let lease = store.router.lease_primary(deadline).await?;
    let rows = lease.query(Effect::Read, deadline, &store.log.merge, &[]).await?;
    Ok(rows.first().is_some_and(|row| row.try_get::<_, Option<i64>>(0).is_ok_and(|pages| pages.is_some())))
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn few_wait_for_more_and_many_do_not() {
        let unmerged = Arc::new(Unmerged::default());
        let merging = unmerged.add(1).expect("nobody is at work");
        let start = Instant::now();
        assert_eq!(merging.due(None).await, Some(1));
        assert_eq!(start.elapsed(), PATIENCE);
        assert!(!merging.merged(1));

        assert!(unmerged.add(MANY - 1).is_none(), "somebody is at work");
        assert!(unmerged.add(1).is_none());
        let start = Instant::now();
        assert_eq!(merging.due(None).await, Some(MANY));
        assert_eq!(start.elapsed(), Duration::ZERO);
        assert!(unmerged.add(3).is_none());
        assert!(merging.merged(MANY), "what came meanwhile is left");

        // That there were many once does not make these many.
        let start = Instant::now();
        assert_eq!(merging.due(Some(start)).await, Some(3));
        assert_eq!(start.elapsed(), PATIENCE);

        drop(merging);
        assert!(unmerged.add(0).is_none(), "nothing was appended");
        let merging = unmerged.add(1).expect("the next one goes on");
        unmerged.close();
        assert_eq!(merging.due(None).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn merges_in_a_row_are_larger_ones() {
        let unmerged = Arc::new(Unmerged::default());
        let merging = unmerged.add(MANY).expect("nobody is at work");
        let last = Instant::now();
        assert_eq!(merging.due(Some(last)).await, Some(MANY));
        assert_eq!(last.elapsed(), PAUSE);

        let adding = async |entries: usize| {
            sleep(PAUSE / 4).await;
            assert!(unmerged.add(entries).is_none(), "somebody is at work");
        };
        let last = Instant::now();
        let (due, ()) = tokio::join!(merging.due(Some(last)), adding(VERY_MANY - MANY - 1));
        assert_eq!((due, last.elapsed()), (Some(VERY_MANY - 1), PAUSE));
        let last = Instant::now();
        let (due, ()) = tokio::join!(merging.due(Some(last)), adding(1));
        assert_eq!((due, last.elapsed()), (Some(VERY_MANY), PAUSE / 4));
    }

    #[tokio::test(start_paused = true)]
    async fn appends_wait_for_a_merge_that_falls_behind_and_not_for_long() {
        let unmerged = Arc::new(Unmerged::default());
        let deadline = || Deadline::after(Duration::from_secs(60));
        let room = async |unmerged: &Unmerged| {
            let start = Instant::now();
            unmerged.room(deadline()).await;
            start.elapsed()
        };
        let merging = unmerged.add(TOO_MANY - 1).expect("nobody is at work");
        assert_eq!(room(&unmerged).await, Duration::ZERO);
        assert!(unmerged.add(1).is_none());
        assert_eq!(room(&unmerged).await, ROOM);
        let waiting = tokio::spawn({
            let unmerged = Arc::clone(&unmerged);
            async move { timeout(ROOM / 2, unmerged.room(deadline())).await }
        });
        sleep(ROOM / 4).await;
        assert!(merging.merged(MANY));
        assert_eq!(waiting.await.expect("it ends"), Ok(()));
        unmerged.add(MANY);
        drop(merging);
        assert_eq!(room(&unmerged).await, Duration::ZERO, "nobody is at work");
    }
}
