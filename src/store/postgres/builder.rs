//! The settings of a store.

use std::{sync::Arc, time::Duration};

use super::{HotKey, Log, LogName, PostgresEventStore, announce::Announcements, group::Group, shared_reads::Shared};
use crate::Router;

/// The settings of a [`PostgresEventStore`].
///
/// Appends that arrive while others are under way wait, and then go together: one lock, one message and one flush of the
/// WAL for all of them, each judged alone. That is where the speed comes from, and these are its bounds. The defaults suit
/// most; every value is at least 1, and 0 counts as 1.
///
/// There is no time to set. A batch leaves as soon as those under way make room, so nobody waits in the hope that others
/// come, and how long an append may wait altogether is its own [limit](crate::Append::timeout), of which a fifth is kept for
/// the answer. How long the log is locked follows from what a batch may hold.
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

/// So many judge before the lock at a time, in a pool whose size we don't know.
const JUDGES: usize = 4;

/// Often enough for who waits, and so rare that it takes no more than a few percent of what appends cost.
const NOTIFY_INTERVAL: Duration = Duration::from_millis(5);

/// What may wait, and what may go together.
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
            batch_events: 1024,
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

    /// The log's name. Defaults to `mainstem.events`.
    pub fn name(mut self, name: LogName) -> Self {
        self.name = name;
        self
    }

    /// Members of payload or metadata that have an index of their own. None by default.
    ///
    /// Reads and conditions that ask for one of them then ask in the words of its index, which
    /// [`create_index`](PostgresEventStore::create_index) builds: build it first, then declare its key. A key that is declared
    /// without its index makes reads between positions look at all events there; an index whose key is not declared
    /// costs what it always does, and is of no use.
    pub fn hot_keys(mut self, keys: impl IntoIterator<Item = HotKey>) -> Self {
        self.keys.extend(keys);
        self
    }

    /// The most appends that go together. Defaults to 128.
    ///
    /// Beyond it there is little left to share. A second batch is sent while the first is under way, over the same connection, once
    /// half as many wait, or appends of 16 events (64 while other processes append as well; `batch_events`, if that is less),
    /// and of those who come at once half are left to it; not when both would have appends to fixed streams. Larger, and each waits longer for the others' work, with the log locked
    /// for other processes; smaller, and more flushes of the WAL are waited for one after the other.
    pub fn batch_appends(mut self, appends: usize) -> Self {
        self.limits.batch_appends = appends.max(1);
        self
    }

    /// The most events of the appends that go together. Defaults to 1024. An append that alone has more goes alone.
    ///
    /// It bounds how long the log is locked: an event takes some tens of microseconds, most of them for the indexes.
    pub fn batch_events(mut self, events: usize) -> Self {
        self.limits.batch_events = events.max(1);
        self
    }

    /// The most bytes of the appends that go together. Defaults to 1 MiB. An append that alone has more goes alone.
    ///
    /// As [`batch_events`](Self::batch_events), for large payloads. Half as many are worth a second batch, too.
    pub fn batch_bytes(mut self, bytes: usize) -> Self {
        self.limits.batch_bytes = bytes.max(1);
        self
    }

    /// The most appends that wait. Defaults to 8192. Another one is refused with
    /// [`Overloaded`](crate::ErrorKind::Overloaded), at once.
    ///
    /// Larger, and appends wait until their limit runs out, to be refused then; smaller, and a short burst is refused that
    /// could have been written.
    ///
    /// Those whose conditions reach far back wait before, to have them judged, in a line of their own that has the same bounds.
    pub fn waiting_appends(mut self, appends: usize) -> Self {
        self.limits.waiting_appends = appends.max(1);
        self
    }

    /// The most bytes of the appends that wait. Defaults to 64 MiB. Beyond it as with
    /// [`waiting_appends`](Self::waiting_appends); an append that alone has more is taken when nothing else waits.
    pub fn waiting_bytes(mut self, bytes: usize) -> Self {
        self.limits.waiting_bytes = bytes.max(1);
        self
    }

    /// The least time between two notifications that this store sends after its appends, so that subscriptions in other
    /// processes know at once. Defaults to 5 ms; `None` sends none, and then those notice within a second. Where other stores append to
    /// the log as well, it is up to ten times as long, by their share: all of them together send as many as one alone.
    ///
    /// Each is a statement of its own behind the commit, and costs about as much as a short read. The first append after a
    /// pause is told of at once; shorter, and a busy store sends more of them; longer, and those who wait for its next
    /// appends do so for longer.
    pub fn notify_interval(mut self, interval: impl Into<Option<Duration>>) -> Self {
        self.notify_interval = interval.into();
        self
    }

    /// Whether queries, counts, `exists` and loads that ask the same at the same time share one statement. Defaults to `true`.
    ///
    /// Many who compete for one boundary read it again and again, all at once, and so does everybody who asks for what is
    /// in demand. Whoever comes while such a read is under way waits for its end, and then one read, which begins behind
    /// all their calls, answers all who wait: as fresh as each of them would have read by themselves. That takes up to twice
    /// as long as a read alone, and spares the server the rest. What is slow is waited for 100 ms, twice as long for each further
    /// read of it that is under way, but at most a second, and a quarter of the limit of anybody who waits; then the
    /// next one begins beside it.
    ///
    /// Each keeps the own [limit](crate::Query::timeout) (and 20 ms, so that the read can say itself what it was waiting for), and
    /// dropping a call is nothing to the others. What fails, fails for all who share it; a connection that is lost at once is
    /// replaced by another one before. They share one place among the [waiting
    /// calls](crate::RouterBuilder::waiting_calls), and each gets a copy of the events, whose payloads are shared.
    ///
    /// Reads ask the same when they have the same filter or stream, bounds, order, limit, level and token. So those of two
    /// [sessions](crate::Session) are not shared, once these have seen different things. They are of one store (and its clones), and
    /// of one tokio runtime. Eventual reads that are alike go to one replica at a time. Streams are never shared.
    pub fn share_reads(mut self, shares: bool) -> Self {
        self.shares_reads = shares;
        self
    }

    /// The store. Nothing is sent.
    #[must_use]
    pub fn build(self) -> PostgresEventStore {
        // Half of the connections, so that appends and reads get theirs.
        let size = self.router.primary_size().map(|size| size as usize);
        let judges = size.map_or(JUDGES, |size| size / 2);
        let group = Arc::new(Group::new(self.limits, judges));
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
