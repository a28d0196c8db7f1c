//! The settings of a store.

use std::{sync::Arc, time::Duration};

use super::{
    HotKey, Log, LogName, PostgresEventStore, append::group::Group, news::announce::Announcements,
    read::shared_reads::Shared,
};
use crate::Router;

/// The settings of a [`PostgresEventStore`].
///
/// Appends that arrive while others are in flight wait, and then go together: one lock, one message and one flush of
/// the WAL for all of them, each checked alone. This batching makes appends fast, and these settings bound it. The
/// defaults suit most applications; every value is at least 1, and 0 counts as 1.
///
/// There is no delay to set. A batch is sent as soon as those in flight leave room, so no append waits in the hope that
/// others arrive. How long an append may wait altogether is its own [limit](crate::Append::timeout), a fifth of which
/// is reserved for the answer. How long the log is locked follows from what a batch may hold.
///
/// ```no_run
/// # fn run(router: mainstem::Router) -> mainstem::Result<()> {
/// use mainstem::{LogName, PostgresEventStore};
///
/// let store = PostgresEventStore::builder(&router).name(LogName::new("lending", "log")?).waiting_appends(1_000).build();
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it builds"]
pub struct PostgresEventStoreBuilder {
    router: Router,
    name: LogName,
    keys: Vec<HotKey>,
    limits: GroupLimits,
    notify_interval: Option<Duration>,
    shares_reads: bool,
}

/// How many conditions are checked before the lock at a time, in a pool of unknown size.
const PRECHECKS: usize = 4;

/// Often enough for waiting readers, and so rare that it takes no more than a few percent of the cost of appends.
const NOTIFY_INTERVAL: Duration = Duration::from_millis(5);

/// The limits on what may wait, and on what may go together.
#[derive(Clone, Copy, Debug)]
pub(super) struct GroupLimits {
    pub(super) batch_appends: usize,
    pub(super) batch_events: usize,
    pub(super) batch_bytes: usize,
    pub(super) waiting_appends: usize,
    pub(super) waiting_bytes: usize,
}

impl Default for GroupLimits {
    fn default() -> Self {
        Self {
            batch_appends: 128,
            batch_events: 500,
            batch_bytes: 1024 * 1024,
            waiting_appends: 8192,
            waiting_bytes: 64 * 1024 * 1024,
        }
    }
}

impl PostgresEventStoreBuilder {
    pub(super) fn new(router: Router) -> Self {
        Self {
            router,
            name: LogName::default(),
            keys: Vec::new(),
            limits: GroupLimits::default(),
            notify_interval: Some(NOTIFY_INTERVAL),
            shares_reads: true,
        }
    }

    /// Sets the log's name. Defaults to `mainstem.events`.
    pub fn name(mut self, name: LogName) -> Self {
        self.name = name;
        self
    }

    /// Sets the members of payload or metadata that have their own index. None by default.
    ///
    /// Reads and conditions on one of them then use the expression of its index, which
    /// [`create_index`](PostgresEventStore::create_index) builds: build the index first, then declare its key. With a
    /// key that is declared without its index, reads between positions look at all events there. An index whose key is
    /// not declared has its cost but no benefit.
    pub fn hot_keys(mut self, keys: impl IntoIterator<Item = HotKey>) -> Self {
        self.keys.extend(keys);
        self
    }

    /// Sets the most appends that go together. Defaults to 128.
    ///
    /// Beyond it there is little left to share. A second batch is sent while the first is in flight, over the same
    /// connection, once half as many appends wait, or appends of 16 events (64 while other processes append as well;
    /// `batch_events`, if that is less). Of appends that arrive at once, half are left to it. There is no second batch
    /// if both would have appends to fixed streams. If the value is larger, each append waits longer for the work of
    /// others, with the log locked for other processes; if it is smaller, more flushes of the WAL follow one another.
    pub fn batch_appends(mut self, appends: usize) -> Self {
        self.limits.batch_appends = appends.max(1);
        self
    }

    /// Sets the most events of the appends that go together. Defaults to 500. A single append with more goes alone.
    ///
    /// It bounds how long the log is locked: an event takes some tens of microseconds, most of them for the indexes. Two
    /// batches of others may be written while an append waits for the lock, and a condition is judged under the lock on at
    /// most 1000 events: with larger batches, conditions must more often be judged once more before it.
    pub fn batch_events(mut self, events: u64) -> Self {
        self.limits.batch_events = usize::try_from(events).unwrap_or(usize::MAX).max(1);
        self
    }

    /// Sets the most bytes of the appends that go together. Defaults to 1 MiB. A single append with more goes alone.
    ///
    /// It is like [`batch_events`](Self::batch_events), for large payloads. Half as many bytes justify a second batch,
    /// too.
    pub fn batch_bytes(mut self, bytes: usize) -> Self {
        self.limits.batch_bytes = bytes.max(1);
        self
    }

    /// Sets the most appends that wait. Defaults to 8192. One more fails at once with
    /// [`Overloaded`](crate::ErrorKind::Overloaded).
    ///
    /// If the value is larger, appends wait until their limit runs out, and fail then; if it is smaller, a short burst
    /// is refused that could have been written.
    ///
    /// Appends whose conditions reach far back first wait to have them checked, in a separate queue with the same
    /// bounds.
    pub fn waiting_appends(mut self, appends: usize) -> Self {
        self.limits.waiting_appends = appends.max(1);
        self
    }

    /// Sets the most bytes of the appends that wait. Defaults to 64 MiB. Beyond it, appends fail as with
    /// [`waiting_appends`](Self::waiting_appends); a single append with more is accepted if nothing else waits.
    pub fn waiting_bytes(mut self, bytes: usize) -> Self {
        self.limits.waiting_bytes = bytes.max(1);
        self
    }

    /// Sets the minimum time between two notifications that this store sends after its appends, which let subscriptions
    /// in other processes know at once. Defaults to 5 ms. `None` sends none; those subscriptions then notice within a
    /// second. Where other stores append to the log as well, the time is up to ten times as long, depending on their
    /// share: all of them together send as many as one alone.
    ///
    /// Each notification is a separate statement after the commit, and costs about as much as a short read. The first
    /// append after a pause is announced at once. If the value is smaller, a busy store sends more notifications; if it
    /// is larger, subscribers wait longer for its next appends.
    pub fn notify_interval(mut self, interval: impl Into<Option<Duration>>) -> Self {
        self.notify_interval = interval.into();
        self
    }

    /// Sets whether queries, counts, `exists` and loads that ask the same at the same time share one statement.
    /// Defaults to `true`.
    ///
    /// Commands that compete for one boundary read it again and again, all at once; popular queries behave the same
    /// way. A call that arrives while such a read is in flight waits for its end. Then one read, which begins after all
    /// these calls, answers all that wait: it is as fresh as each call's own read would have been. That takes up to
    /// twice as long as a read alone, and saves the server the other reads. The wait for a slow read is at most 100 ms,
    /// doubled for each further read of it in flight, but never more than a second, nor a quarter of the limit of any
    /// waiting call; then the next read begins beside it.
    ///
    /// Each call keeps its own [limit](crate::Query::timeout) (plus 20 ms, so the read itself can report what it was
    /// waiting for), and dropping a call does not affect the others. An error is returned to all calls that share the
    /// read; but if the connection is lost at once, another one is tried first. They share one place among the [waiting
    /// calls](crate::RouterBuilder::waiting_calls), and each gets a copy of the events, whose payloads are shared.
    ///
    /// Reads ask the same if they have the same filter or stream, bounds, order, limit, level and token. So reads of
    /// two [sessions](crate::Session) are not shared once these have seen different things. Only reads of one store
    /// (and its clones), on one tokio runtime, are shared. Identical eventual reads go to one replica at a time.
    /// Streams are never shared.
    pub fn share_reads(mut self, shares: bool) -> Self {
        self.shares_reads = shares;
        self
    }

    /// Creates the store. Nothing is sent.
    #[must_use]
    pub fn build(self) -> PostgresEventStore {
        // Half of the connections, so appends and reads get theirs.
        let size = self.router.primary_size().map(|size| size as usize);
        let prechecks = size.map_or(PRECHECKS, |size| size / 2);
        let group = Arc::new(Group::new(self.limits, prechecks));
        let log = Log::new(self.name, self.router.database(), self.keys.into());
        PostgresEventStore {
            router: self.router,
            log: Arc::new(log),
            group,
            known: Arc::default(),
            news: Arc::default(),
            announcements: Arc::new(Announcements::new(self.notify_interval)),
            shared: Arc::new(Shared::new(self.shares_reads)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::GroupLimits;
    use crate::{Import, store::postgres::tail};

    /// Otherwise an append whose condition was as new as can be would have to be judged again, merely since it waited.
    #[test]
    fn two_batches_or_chunks_of_others_are_judged_under_the_lock() {
        let largest = Import::DEFAULT_CHUNK_EVENTS.max(GroupLimits::default().batch_events as u64);
        assert!(2 * largest <= tail::UNDER_THE_LOCK, "{largest}");
    }
}
