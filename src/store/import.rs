//! Appending more events than fit into one append.

mod chunk_size;

use std::{
    collections::VecDeque,
    fmt,
    future::{Future, IntoFuture},
    iter,
    pin::Pin,
    time::Duration,
};

use self::chunk_size::ChunkSize;
use super::{
    After, Append, AppendCondition, AppendRequest, Appended, EventStore, ReadAfterRequest, append, noted::Noted,
};
use crate::{
    Consistency, Error, Event, EventContext, Filter, Mark, NewEvent, Result, scope::current_item, telemetry::Operation,
};

/// An import: await it, after changing its chunks or limits if needed.
///
/// It appends the events in chunks, one after the other. Each chunk is written completely or not at all, and the log is
/// locked for no longer than one chunk takes. The [events](Self::chunk_events) and [bytes](Self::chunk_bytes) of a
/// chunk are bounded, and it has fewer events when the log is locked for [too long](Self::lock_time). Other appends get
/// their turn in between, so the positions of an import have gaps. To write all or nothing, at the cost of a stalled
/// log, [`append`](EventStore::append) the events at once, up to [`Append::MAX_LEN`].
///
/// ```
/// # use mainstem::{AppendCondition, EventStore, MemoryEventStore, NewEvent};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> mainstem::Result<()> {
/// # let store = MemoryEventStore::new();
/// let old = (0..5_000).map(|n| NewEvent::new("Migrated", &n)).collect::<Result<Vec<_>, _>>()?;
/// let imported = store
///     .import(old, AppendCondition::none())
///     .on_progress(|progress| println!("{} events, up to position {}", progress.events, progress.last.position()))
///     .await?;
/// assert_eq!((imported.events, imported.chunks), (5_000, 10));
/// # Ok(())
/// # }
/// ```
///
/// The condition holds for the whole import: for the first chunk as given, and for each later one from the preceding
/// chunk on, whose own events do not count.
///
/// # Errors
///
/// As an [`Append`] of the chunk that failed; the message says how many events are in the log before it.
///
/// After any error, make the same import again, with the same events (including their ids), in chunks of any size: it
/// recognises what is already in the log, and continues after it. With a condition, this works only if nothing matched
/// in between.
///
/// It borrows the store, the events and the progress callback; to spawn an import, move these into the task.
///
/// # Cancel safety
///
/// If it is dropped, the chunks that were answered are in the log, and the one in flight is written completely or not
/// at all. The same import, made again, continues.
#[must_use = "an import does nothing until it is awaited"]
pub struct Import<'a> {
    store: &'a dyn EventStore,
    events: Box<dyn Iterator<Item = NewEvent> + Send + 'a>,
    condition: AppendCondition,
    chunk_events: u64,
    chunk_bytes: usize,
    lock_time: Duration,
    timeout: Option<Duration>,
    /// The context of the scope in which the method was called.
    context: Option<EventContext>,
    noted: Noted,
    on_progress: Box<dyn FnMut(Imported) + Send + 'a>,
}

/// The progress of an [`Import`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Imported {
    /// The number of events in the log, including those written by an earlier attempt.
    pub events: u64,
    /// How many of them were already there.
    pub repeated: u64,
    /// The number of chunks that they took.
    pub chunks: u64,
    /// The last of them.
    pub last: Mark,
}

impl<'a> Import<'a> {
    /// The most events of a chunk, unless [`chunk_events`](Self::chunk_events) sets another value: 500.
    pub const DEFAULT_CHUNK_EVENTS: u64 = 500;

    /// The most bytes of a chunk, unless [`chunk_bytes`](Self::chunk_bytes) sets another value: 1 MiB.
    pub const DEFAULT_CHUNK_BYTES: usize = 1024 * 1024;

    /// How long a chunk may lock the log before the next one is smaller, unless [`lock_time`](Self::lock_time) sets
    /// another value: 100 ms.
    pub const DEFAULT_LOCK_TIME: Duration = Duration::from_millis(100);

    pub(super) fn new(
        store: &'a dyn EventStore,
        events: Box<dyn Iterator<Item = NewEvent> + Send + 'a>,
        condition: AppendCondition,
    ) -> Self {
        let (chunk_events, chunk_bytes, lock_time) =
            (Self::DEFAULT_CHUNK_EVENTS, Self::DEFAULT_CHUNK_BYTES, Self::DEFAULT_LOCK_TIME);
        let (timeout, context, noted, on_progress) = (None, current_item(), Noted::current(), Box::new(|_| {}));
        Self { store, events, condition, chunk_events, chunk_bytes, lock_time, timeout, context, noted, on_progress }
    }

    /// Sets the most events of a chunk; 0 counts as 1. Defaults to
    /// [`DEFAULT_CHUNK_EVENTS`](Self::DEFAULT_CHUNK_EVENTS). A chunk has fewer if it would exceed its
    /// [bytes](Self::chunk_bytes).
    ///
    /// An event takes some tens of microseconds while the log is locked, so a chunk of 500 delays other appends by
    /// some tens of milliseconds. If the value is larger, they wait longer; if it is smaller, the import waits for more
    /// flushes of the WAL.
    pub fn chunk_events(mut self, events: u64) -> Self {
        self.chunk_events = events.max(1);
        self
    }

    /// Sets the most bytes of a chunk, payloads, metadata, types and tags together; more than [`Append::MAX_LEN`]
    /// counts as that, and a single event with more is a chunk of its own. Defaults to
    /// [`DEFAULT_CHUNK_BYTES`](Self::DEFAULT_CHUNK_BYTES).
    ///
    /// It does for large events what [`chunk_events`](Self::chunk_events) does otherwise: while the log is locked, the
    /// server writes some tens of MB a second.
    pub fn chunk_bytes(mut self, bytes: usize) -> Self {
        self.chunk_bytes = bytes.min(Append::MAX_LEN);
        self
    }

    /// Sets how long one chunk may make other appends wait. Defaults to [`DEFAULT_LOCK_TIME`](Self::DEFAULT_LOCK_TIME).
    /// `Duration::MAX` means no limit.
    ///
    /// How long the first chunk takes is unknown beforehand. After a chunk that [locked](Appended::lock_time) the log
    /// for longer, the next one has as many events as would have fitted, and at most half as many. After one that took
    /// at most half of the limit, the next one has twice as many, up to [`chunk_events`](Self::chunk_events). A chunk
    /// has at least one event, however long that takes. The wait of a commit, for a disk or a standby, is not counted,
    /// since smaller chunks make it more frequent but not shorter. Triggers that are deferred to the commit are not
    /// counted either. In memory there is no such limit.
    ///
    /// If the value is larger, a slow trigger or a slow server delays other appends for longer; if it is smaller, the
    /// import waits for more commits.
    pub fn lock_time(mut self, limit: Duration) -> Self {
        self.lock_time = limit;
        self
    }

    /// Sets the time limit of each chunk. Defaults to the store's own for an append.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }

    /// Calls this function after each chunk.
    pub fn on_progress(mut self, call: impl FnMut(Imported) + Send + 'a) -> Self {
        self.on_progress = Box::new(call);
        self
    }

    async fn run(mut self) -> Result<Imported> {
        let mut events = Rest::new(std::mem::replace(&mut self.events, Box::new(iter::empty())));
        let mut size = ChunkSize::new(usize::try_from(self.chunk_events).unwrap_or(usize::MAX), self.lock_time);
        let mut imported: Option<Imported> = None;
        loop {
            let mut chunk = events.take(size.events(), self.chunk_bytes);
            if chunk.is_empty() {
                return imported.ok_or_else(|| Error::invalid_input("there are no events to import"));
            }
            let appended = match self.append(chunk.clone()).await {
                Ok(appended) => Ok((chunk.len(), appended)),
                Err(error) => match error.reused_at() {
                    Some(first) => found(self.store, &chunk, first, self.timeout).await.and_then(|it| it.ok_or(error)),
                    None => Err(error),
                },
            };
            let (amount, appended) = appended.map_err(|error| match imported {
                Some(so_far) => {
                    error.within(&format!("after {} imported events, up to {}", so_far.events, so_far.last))
                }
                None => error.within("before the first event was imported"),
            })?;
            let rest = chunk.split_off(amount);
            if appended.is_repeated() {
                // Nothing was inserted, so its time says nothing. What was written in chunks of this size continues in
                // chunks of this size.
                size.found(amount);
            } else if let Some(locked) = appended.lock_time() {
                size.took(amount, locked);
            }
            events.put_back(rest);
            self.noted.saw(appended.token());
            self.condition.continue_after(appended.last());
            let amount = amount as u64;
            let before = imported.map_or((0, 0, 0), |it| (it.events, it.repeated, it.chunks));
            let so_far = Imported {
                events: before.0 + amount,
                repeated: before.1 + if appended.is_repeated() { amount } else { 0 },
                chunks: before.2 + 1,
                last: appended.last(),
            };
            (self.on_progress)(so_far);
            imported = Some(so_far);
        }
    }

    fn append(&self, mut events: Vec<NewEvent>) -> impl Future<Output = Result<Appended>> + Send + use<> {
        if let Some(context) = &self.context {
            events.iter_mut().for_each(|event| event.take_context(context));
        }
        let amount = events.len() as u64;
        let checked = self.condition.check().and_then(|()| append::check(&events));
        let request = AppendRequest { events, condition: self.condition.clone(), stream: None, timeout: self.timeout };
        let appended = checked.map(|()| (self.store.run_append(request), self.noted.append(self.store)));
        let append = async move {
            let (appended, noted) = appended?;
            noted.follow(appended).await
        };
        Operation::Append.record(append, move |appended| appended.done(amount))
    }
}

/// How much of the existing events is read at a time: as for a batch of a subscription.
const FOUND_BYTES: usize = 4 * 1024 * 1024;

/// Finds what an earlier attempt has written of the beginning of a chunk, from this position on, as parts of chunks of
/// other sizes. Each of its chunks is whole, one after the other: so what exists is the beginning of all that is to be
/// imported.
async fn found(
    store: &dyn EventStore,
    chunk: &[NewEvent],
    first: u64,
    timeout: Option<Duration>,
) -> Result<Option<(usize, Appended)>> {
    let after = match first.saturating_sub(1) {
        0 => After::Beginning,
        before => After::Position(before),
    };
    // What comes after the chunk may be from another client, and of any size.
    let mut request = ReadAfterRequest::new(Filter::any_event(), after, chunk.len() as u64, Consistency::Strong);
    (request.limit_bytes, request.timeout) = (FOUND_BYTES, timeout);
    let there = store.run_read_after(request).await?.events;
    let is_recorded = |(new, old): &(&NewEvent, &Event)| old.stream().is_none() && new.is_recorded_as(old);
    let amount = chunk.iter().zip(&there).take_while(is_recorded).count();
    let Some(last) = there[..amount].last().map(Event::mark) else { return Ok(None) };
    // Read once more, for its token: that of a piece has no place, which a session needs for other SQL.
    let position = last.position();
    let only_that = Filter::any_event().after_position(position.saturating_sub(1)).until_position(position);
    let only_that = (&store).last(&only_that).consistency(Consistency::Strong);
    let seen = if let Some(limit) = timeout { only_that.timeout(limit) } else { only_that }.await?;
    let is_there = seen.as_ref().is_some_and(|event| event.mark() == last);
    Ok(is_there.then(|| (amount, Appended::found(first, last, seen.node(), seen.token().clone()))))
}

/// The events that are still to be written.
struct Rest<I> {
    put_back: VecDeque<NewEvent>,
    events: iter::Fuse<I>,
}

impl<I: Iterator<Item = NewEvent>> Rest<I> {
    fn new(events: I) -> Self {
        Self { put_back: VecDeque::new(), events: events.fuse() }
    }

    /// Takes as many as a chunk may have, and at least one if there is any.
    fn take(&mut self, most: usize, most_bytes: usize) -> Vec<NewEvent> {
        let (mut chunk, mut len) = (Vec::new(), 0);
        while chunk.len() < most
            && let Some(event) = self.put_back.pop_front().or_else(|| self.events.next())
        {
            len += append::len(&event);
            if len > most_bytes && !chunk.is_empty() {
                self.put_back.push_front(event);
                break;
            }
            chunk.push(event);
        }
        chunk
    }

    fn put_back(&mut self, events: Vec<NewEvent>) {
        events.into_iter().rev().for_each(|event| self.put_back.push_front(event));
    }
}

impl<'a> IntoFuture for Import<'a> {
    type Output = Result<Imported>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

impl fmt::Debug for Import<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Import")
            .field("store", &self.store)
            .field("condition", &self.condition)
            .field("chunk_events", &self.chunk_events)
            .field("chunk_bytes", &self.chunk_bytes)
            .field("lock_time", &self.lock_time)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}
