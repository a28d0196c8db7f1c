//! Keeps the lists short in which new entries of the indexes on payloads and metadata wait (`migrations/V1__log.sql`),
//! independently of the appends.
//!
//! Merged one by one, the entries of an event cost more than all the rest of its append, and under the log's lock.
//! Together they cost less, and nobody waits for it.

mod blocks;

use std::{
    ops::RangeInclusive,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout_at},
};

use self::blocks::{Blocks, Turn};
use super::prepared::Prepared;
use crate::{
    error::Result,
    router::{Deadline, Effect},
    store::postgres::PostgresEventStore,
};

/// The entries that are merged at once, unless very many arrive: those of some thousand events of eight to twelve
/// members. A search reads each event of the list, in about 50 ns for each value that it looks for: with more, reads
/// are slower; with fewer, there is less to share.
const MANY: usize = 12 * 1024;

/// The time between two merges, unless so many entries arrive that it is cut short: while thousands of events arrive
/// each second, larger merges take less of the processor, which is what such a server has the least of. What events
/// have in common (a title, a year) is one entry of the index, which is rewritten once in a merge, however many of them
/// have it.
const PAUSE: Duration = Duration::from_millis(250);

/// With this many, they are merged, whosever turn it is. Usually, [`Blocks`] gives the turn to another process before.
const VERY_MANY: usize = 5 * MANY;

/// With this many, appends wait for the merge in flight: PostgreSQL merges until the list is empty, so a merge would
/// never end while more arrives than it merges, and the list would grow without limit. Each entry takes 20 bytes there,
/// and some room at the end of a page, so this is less than the 2 MB with which an append would merge it itself, under
/// the log's lock.
const TOO_MANY: usize = 6 * MANY;

/// The longest wait of each batch: whatever holds up the merge must not hold up the log.
const ROOM: Duration = Duration::from_secs(1);

/// A merge that has not ended after this long is held up, on a server that no longer answers perhaps: nobody waits for it.
const HELD_UP: Duration = Duration::from_secs(5);

/// Fewer entries are merged after this long, so the list of an idle log is empty.
const PATIENCE: Duration = Duration::from_secs(1);

/// While another process merges, this one looks again after this long: that one may already have passed our entries.
const AGAIN: Duration = Duration::from_millis(100);

/// A merge takes milliseconds. What it has merged when it is given up stays merged.
const LIMIT: Duration = Duration::from_secs(30);

/// What was appended through this store and is not merged yet.
#[derive(Debug, Default)]
pub(in crate::store::postgres) struct Unmerged {
    state: Mutex<State>,
    /// Something of the state has changed.
    changed: Notify,
    /// At the end of each merge.
    merged: Notify,
    /// Whether the store was closed: nothing is waited for any more.
    closed: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    blocks: Blocks,
    /// How many entries.
    entries: usize,
    /// When they are merged; none while nothing has arrived since the last merge began.
    due: Option<Instant>,
    worker: Worker,
    /// When the merge in flight began.
    since: Option<Instant>,
}

impl State {
    fn is_held_up(&self) -> bool {
        self.since.is_some_and(|since| since.elapsed() >= HELD_UP)
    }
}

/// The task that merges. It ends when nothing is left.
#[derive(Debug, Default, PartialEq, Eq)]
enum Worker {
    #[default]
    None,
    Waits,
    Merges,
}

/// The right to merge; there is one for each store.
struct Merging {
    unmerged: Arc<Unmerged>,
    /// Whether it was returned: another task may have it.
    is_over: bool,
}

impl Unmerged {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that events were appended there, with this many entries. A caller that finds no task running gets the
    /// right to merge.
    fn add(self: &Arc<Self>, positions: &RangeInclusive<u64>, entries: usize) -> Option<Merging> {
        let now = Instant::now();
        let mut state = self.state();
        let turn = state.blocks.appended(positions, entries, now);
        // They merge everything that was there before this. But what arrives while we merge is only merged when we are
        // done: if that never ends, we must check how much it is.
        if turn == Turn::Others && state.worker != Worker::Merges {
            (state.entries, state.due) = (0, None);
        }
        state.entries += entries;
        let is_due = turn == Turn::Ours || state.entries >= VERY_MANY;
        state.due = if is_due { Some(now) } else { state.due.or(Some(now + PATIENCE)) };
        let is_needed = state.worker == Worker::None;
        if is_needed {
            state.worker = Worker::Waits;
        }
        drop(state);
        if is_due {
            self.changed.notify_one();
        }
        is_needed.then(|| Merging { unmerged: Arc::clone(self), is_over: false })
    }

    /// Waits while too much is unmerged, and a merge is running.
    pub(in crate::store::postgres) async fn room(&self, deadline: Deadline) {
        let until = deadline.at().min(Instant::now() + ROOM);
        loop {
            let merged = self.merged.notified();
            let is_full = {
                let state = self.state();
                state.entries >= TOO_MANY && state.worker != Worker::None && !state.is_held_up()
            };
            if !is_full || timeout_at(until, merged).await.is_err() {
                return;
            }
        }
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// The store is closed: the task of the next merge does not wait for more.
    pub(in crate::store::postgres) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.changed.notify_one();
    }
}

impl Merging {
    /// Waits until a merge is due, and returns the number of entries, or `None` if the store was closed.
    async fn due(&self) -> Option<usize> {
        loop {
            if self.unmerged.is_closed() {
                return None;
            }
            let until = {
                let mut state = self.unmerged.state();
                let now = Instant::now();
                let due = *state.due.get_or_insert(now + PATIENCE);
                if due <= now {
                    (state.due, state.worker, state.since) = (None, Worker::Merges, Some(now));
                    return Some(state.entries);
                }
                due
            };
            // Whatever has woken us, the state says what to do.
            let _ = timeout_at(until, self.unmerged.changed.notified()).await;
        }
    }

    /// Records that this many were merged, or will not be; returns whether there are more by now. If not, the right is
    /// returned.
    fn merged(&mut self, entries: usize) -> bool {
        let has_more = {
            let mut state = self.unmerged.state();
            state.entries -= entries;
            state.since = None;
            let has_more = state.entries > 0;
            state.worker = if has_more { Worker::Waits } else { Worker::None };
            self.is_over = !has_more;
            has_more
        };
        self.unmerged.merged.notify_waiters();
        has_more
    }
}

impl Drop for Merging {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        {
            let mut state = self.unmerged.state();
            (state.worker, state.since) = (Worker::None, None);
        }
        self.unmerged.merged.notify_waiters();
    }
}

/// Records what was appended from this position on, and has a separate task merge it.
pub(in crate::store::postgres) fn appended(store: &PostgresEventStore, first: u64, appends: &[Arc<Prepared>]) {
    let keys = appends.iter().flat_map(|append| &append.keys);
    let (events, entries) = keys.fold((0, 0), |(events, entries), keys| (events + 1, entries + keys.entries()));
    if let Some(merging) = store.known.unmerged.add(&(first..=first + events - 1), entries) {
        tokio::spawn(run(store.clone(), merging));
    }
}

async fn run(store: PostgresEventStore, mut merging: Merging) {
    while let Some(entries) = merging.due().await {
        let outcome = merge(&store).await;
        let has_more = merging.merged(entries);
        // The lists have their own limit, so this costs time and nothing else. The next append tries again.
        if let Err(error) = &outcome {
            tracing::warn!(error = %error.for_log(), log = %store.name(), "the lists of the indexes were not merged");
        }
        // What arrives between this and the end waits for the next append.
        if outcome.is_err() || !has_more {
            return;
        }
    }
}

/// Merges, after any merge that is already running.
async fn merge(store: &PostgresEventStore) -> Result<()> {
    let deadline = Deadline::after(LIMIT);
    loop {
        let lease = store.router.lease_primary(deadline).await?;
        let rows = lease.query(Effect::Read, deadline, &store.log.merge, &[]).await?;
        let pages = rows.first().and_then(|row| row.try_get::<_, Option<i64>>(0).ok().flatten());
        if pages.is_some() || deadline.remaining() < AGAIN || store.known.unmerged.is_closed() {
            return Ok(());
        }
        drop(lease);
        sleep(AGAIN).await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn few_events_wait_for_more_and_many_do_not() {
        let unmerged = Arc::new(Unmerged::default());
        let mut merging = unmerged.add(&(1..=1), 1).expect("nobody is at work");
        let start = Instant::now();
        assert_eq!(merging.due().await, Some(1));
        assert_eq!(start.elapsed(), PATIENCE);
        assert!(unmerged.add(&(2..=2), 2).is_none(), "somebody is at work");
        assert!(merging.merged(1), "what came meanwhile is left");

        let start = Instant::now();
        sleep(PATIENCE / 2).await;
        assert!(unmerged.add(&(3..=3), MANY).is_none());
        assert_eq!(merging.due().await, Some(2 + MANY));
        assert_eq!(start.elapsed(), PATIENCE / 2, "a block is full");
        assert!(unmerged.add(&(4..=4), 3).is_none());
        assert!(merging.merged(2 + MANY));
        assert_eq!(merging.due().await, Some(3));
        assert_eq!(start.elapsed(), PATIENCE / 2 + PATIENCE, "that there were many once does not make these many");

        assert!(!merging.merged(3));
        let next = unmerged.add(&(5..=5), 1).expect("nothing was left, so nobody is at work");
        drop(merging);
        assert!(unmerged.add(&(6..=6), 1).is_none(), "that has nothing to do with the next one");
        drop(next);
        let merging = unmerged.add(&(7..=7), 1).expect("nobody is at work");
        unmerged.close();
        assert_eq!(merging.due().await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_log_that_never_rests_is_merged_all_the_same() {
        let unmerged = Arc::new(Unmerged::default());
        let merging = unmerged.add(&(1..=1), 1).expect("nobody is at work");
        let start = Instant::now();
        for position in 2..5 {
            sleep(PATIENCE / 4).await;
            assert!(unmerged.add(&(position..=position), 1).is_none());
        }
        assert_eq!((merging.due().await, start.elapsed()), (Some(4), PATIENCE), "a second after the first");
    }

    #[tokio::test(start_paused = true)]
    async fn entries_that_others_merge_are_not_due_before_the_log_rests() {
        let unmerged = Arc::new(Unmerged::default());
        let block = |number: u64| number * 1024 + 1..=number * 1024 + 1;
        let few = MANY / 1024;
        let mut merging = unmerged.add(&(1..=1), few).expect("nobody is at work");
        let start = Instant::now();
        for number in 1..8 {
            assert!(unmerged.add(&block(number), few).is_none(), "somebody is at work");
            assert!(timeout(PATIENCE / 2, merging.due()).await.is_err(), "somebody else has filled the block");
        }
        assert_eq!(merging.due().await, Some(few));
        assert_eq!(start.elapsed(), PATIENCE / 2 * 6 + PATIENCE);

        // While we merge, the others only seem to.
        for number in 8..16 {
            assert!(unmerged.add(&block(number), few).is_none());
        }
        assert!(merging.merged(few));
        assert_eq!(merging.due().await, Some(8 * few));
        assert!(!merging.merged(8 * few));

        // Whatever the others do.
        let start = Instant::now();
        let merging = unmerged.add(&block(16), VERY_MANY - 1).expect("nobody is at work");
        assert!(unmerged.add(&(16 * 1024 + 2..=16 * 1024 + 2), 1).is_none());
        assert_eq!(merging.due().await, Some(VERY_MANY));
        assert_eq!(start.elapsed(), Duration::ZERO);
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
        let mut merging = unmerged.add(&(1..=1), MANY).expect("nobody is at work");
        assert_eq!(merging.due().await, Some(MANY));
        // Others get their turns, and must wait as well: what we have becomes too much.
        let few = (TOO_MANY - MANY) / 50;
        for number in 1..50 {
            assert!(unmerged.add(&(number * 1024 + 1..=number * 1024 + 1), few).is_none());
        }
        assert_eq!(room(&unmerged).await, Duration::ZERO);
        assert!(unmerged.add(&(60_000..=60_000), TOO_MANY - MANY - 49 * few).is_none());
        assert_eq!(room(&unmerged).await, ROOM);
        let waiting = tokio::spawn({
            let unmerged = Arc::clone(&unmerged);
            async move { timeout(ROOM / 2, unmerged.room(deadline())).await }
        });
        sleep(ROOM / 4).await;
        assert!(merging.merged(MANY));
        assert_eq!(waiting.await.expect("it ends"), Ok(()));
        assert!(unmerged.add(&(60_001..=60_001), MANY).is_none());
        assert_eq!(room(&unmerged).await, ROOM);
        assert!(merging.due().await.is_some());
        assert_eq!(room(&unmerged).await, ROOM);
        sleep(HELD_UP).await;
        assert_eq!(room(&unmerged).await, Duration::ZERO, "the merge is held up");
        drop(merging);
        assert_eq!(room(&unmerged).await, Duration::ZERO, "nobody is at work");
    }
}
