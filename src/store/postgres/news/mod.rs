//! Waiting for new events in the log, and what is known of its end: one watcher of the primary and one of the replicas,
//! for all readers that wait in this process.
//!
//! A notification is a hint, and a look at the log is the truth: the watcher looks when listening begins, and again
//! from time to time while the server has written something. Where listening is impossible, it only looks, and does so
//! often.
//!
//! | file | what it holds |
//! |---|---|
//! | `watch_primary`, `watch_replicas` | noticing new events |
//! | `announce` | notifications to other processes after appends |

pub(in crate::store::postgres) mod announce;
pub(in crate::store::postgres) mod watch_primary;
pub(in crate::store::postgres) mod watch_replicas;

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use tokio::{
    sync::watch,
    time::{Duration, Instant, timeout},
};

use super::PostgresEventStore;
use crate::{
    Consistency, Mark,
    error::{Error, Result},
    runtime,
    store::WaitRequest,
};

/// How long a watcher continues while nobody waits: a reader that processes a batch waits again in a moment.
const LINGER: Duration = Duration::from_secs(5);

/// How long it takes at most until a waiting reader notices that its watcher is gone with its runtime.
const CHECK: Duration = Duration::from_secs(1);

/// Replicas that have not shown for this long what the primary announced may follow nobody: the waiting reader must
/// look for itself.
const PATIENCE: Duration = Duration::from_secs(1);

/// The nodes that a reader waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store::postgres) enum Side {
    Primary,
    Replicas,
}

/// What this process knows of the end of the log.
#[derive(Debug, Default)]
pub(in crate::store::postgres) struct News {
    known: watch::Sender<HeadSightings>,
    primary: Watchers,
    replicas: Watchers,
}

/// The readers that wait for one side, and whether a watcher runs.
#[derive(Debug, Default)]
struct Watchers {
    waiting: AtomicUsize,
    watched: AtomicBool,
}

/// What is known.
#[derive(Clone, Debug, Default)]
pub(in crate::store::postgres) struct HeadSightings {
    pub(in crate::store::postgres) primary: Sighting,
    pub(in crate::store::postgres) replicas: Sighting,
    /// The position up to which new events were announced.
    pub(in crate::store::postgres) announced: u64,
    /// Whether the primary announces what is appended.
    pub(in crate::store::postgres) is_listening: bool,
}

/// What was seen on one side.
#[derive(Clone, Debug, Default)]
pub(in crate::store::postgres) struct Sighting {
    /// The last event at the last look.
    pub(in crate::store::postgres) head: Option<Mark>,
    /// The number of looks so far.
    pub(in crate::store::postgres) looks: u64,
    /// The number of failed looks, and the last error.
    failures: u64,
    error: Option<Error>,
}

impl News {
    fn watchers(&self, side: Side) -> &Watchers {
        match side {
            Side::Primary => &self.primary,
            Side::Replicas => &self.replicas,
        }
    }

    pub(in crate::store::postgres) fn subscribe(&self) -> watch::Receiver<HeadSightings> {
        self.known.subscribe()
    }

    pub(in crate::store::postgres) fn known(&self) -> HeadSightings {
        self.known.borrow().clone()
    }

    /// Records the announcement that the log continues up to this position.
    pub(in crate::store::postgres) fn announced(&self, position: u64) {
        self.known.send_if_modified(|known| {
            let is_news = position > known.announced;
            known.announced = known.announced.max(position);
            is_news
        });
    }

    /// Records what a look has shown. What was announced before it, and cannot be seen, is lost.
    pub(in crate::store::postgres) fn seen(&self, side: Side, head: Option<Mark>, announced_before: u64) {
        self.known.send_if_modified(|known| {
            let end = Mark::position_or_zero(head);
            if side == Side::Primary && known.announced == announced_before && end < announced_before {
                known.announced = end;
            }
            let seen = known.side(side);
            let is_first = seen.looks == 0 || seen.error.take().is_some();
            seen.looks += 1;
            std::mem::replace(&mut seen.head, head) != head || is_first
        });
    }

    /// Records a failed look.
    pub(in crate::store::postgres) fn failed(&self, side: Side, error: Error) {
        self.known.send_modify(|known| {
            let seen = known.side(side);
            seen.failures += 1;
            seen.error = Some(error);
        });
    }

    pub(in crate::store::postgres) fn listening(&self, is_listening: bool) {
        self.known.send_if_modified(|known| std::mem::replace(&mut known.is_listening, is_listening) != is_listening);
    }

    /// Whether any reader waits for what this watcher sees. Readers that wait for replicas need the primary's
    /// announcements.
    pub(in crate::store::postgres) fn is_wanted(&self, side: Side) -> bool {
        let replicas = self.replicas.waiting.load(Ordering::Acquire) > 0;
        replicas || side == Side::Primary && self.primary.waiting.load(Ordering::Acquire) > 0
    }
}

impl HeadSightings {
    fn side(&mut self, side: Side) -> &mut Sighting {
        match side {
            Side::Primary => &mut self.primary,
            Side::Replicas => &mut self.replicas,
        }
    }

    /// The position up to which the log continues, according to all announcements.
    pub(in crate::store::postgres) fn end(&self) -> u64 {
        self.announced.max(self.primary.position())
    }
}

impl Sighting {
    pub(in crate::store::postgres) fn position(&self) -> u64 {
        Mark::position_or_zero(self.head)
    }
}

/// A waiting reader; it counts until this is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::AcqRel);
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The right to watch one side.
pub(in crate::store::postgres) struct Watch {
    news: Arc<News>,
    side: Side,
    unwanted_since: Option<Instant>,
}

impl Watch {
    fn begin(news: &Arc<News>, side: Side) -> Option<Self> {
        let is_free = !news.watchers(side).watched.swap(true, Ordering::AcqRel);
        is_free.then(|| {
            // What was seen before says nothing about now.
            news.known.send_if_modified(|known| {
                *known.side(side) = Sighting { looks: 0, head: None, ..known.side(side).clone() };
                false
            });
            Self { news: Arc::clone(news), side, unwanted_since: None }
        })
    }

    /// Whether nobody has waited for some time.
    pub(in crate::store::postgres) fn is_over(&mut self) -> bool {
        if self.news.is_wanted(self.side) {
            self.unwanted_since = None;
            return false;
        }
        self.unwanted_since.get_or_insert_with(Instant::now).elapsed() > LINGER
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if self.side == Side::Primary {
            self.news.listening(false);
        }
        self.news.watchers(self.side).watched.store(false, Ordering::Release);
    }
}

/// Waits until there may be new events; see [`WaitRequest`].
pub(in crate::store::postgres) async fn wait(store: PostgresEventStore, request: WaitRequest) -> Result<()> {
    runtime::current()?;
    let side = match request.consistency {
        Consistency::Strong => Side::Primary,
        _ if store.router.has_replicas() => Side::Replicas,
        _ => Side::Primary,
    };
    let news = &store.news;
    let _waiting = Waiting::new(&news.watchers(side).waiting);
    let mut changes = news.subscribe();
    let mut ahead_since = None;
    let (looks, failures) = {
        let mut known = changes.borrow().clone();
        (known.primary.looks, known.side(side).failures)
    };
    loop {
        keep_watching(&store, side);
        let is_over = {
            let mut known = changes.borrow_and_update().clone();
            let has_looked = known.primary.looks > 0 && known.primary.looks != looks;
            let primary = has_looked.then(|| known.primary.position());
            let (announced, end) = (known.announced, known.end());
            let seen = known.side(side);
            if let Some(error) = seen.error.take()
                && seen.failures != failures
            {
                return Err(error);
            }
            let after = request.after.position();
            // The primary has nothing after the reader's mark any more: the reader must look for itself.
            let is_lost = primary.is_some_and(|end| end < after) && request.after.mark().is_some();
            let is_late = end > after && ahead_since.get_or_insert_with(Instant::now).elapsed() >= PATIENCE;
            request.is_over(seen.head) || side == Side::Primary && announced > after || is_lost || is_late
        };
        if is_over {
            return Ok(());
        }
        // It cannot fail: the sender is in the store.
        let _ = timeout(CHECK, changes.changed()).await;
    }
}

/// Starts the watchers that a reader waiting for this side needs, if they do not run.
fn keep_watching(store: &PostgresEventStore, side: Side) {
    if let Some(watch) = Watch::begin(&store.news, Side::Primary) {
        tokio::spawn(watch_primary::run(store.clone(), watch));
    }
    if side == Side::Replicas
        && let Some(watch) = Watch::begin(&store.news, side)
    {
        tokio::spawn(watch_replicas::run(store.clone(), watch));
    }
}
