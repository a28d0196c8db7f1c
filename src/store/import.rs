//! Appending more events than go into one append.

mod pace;

use std::{
    collections::VecDeque,
    fmt,
    future::{Future, IntoFuture},
    iter,
    pin::Pin,
    time::Duration,
};

use self::pace::Pace;
use super::{
    After, Append, AppendCondition, AppendRequest, Appended, EventStore, ReadBehindRequest, append, noted::Noted,
};
use crate::{
    Consistency, Error, Event, EventContext, Filter, Mark, NewEvent, Result, scope::current_item, telemetry::Operation,
};

/// An import that is about to be made: await it, after changing its parts if need be.
///
/// It appends the events in chunks, one after the other: each is written whole or not at all, and the log is locked for no
/// longer than for one of them, whose [events](Self::chunk_events) and [bytes](Self::chunk_bytes) are bounded, and which become fewer
/// when the log is locked for [too long](Self::lock_time). Other appends get their
/// turn in between, so that the positions of an import have gaps. For a stall of the log
/// and all or nothing, [`append`](EventStore::append) them at once, up to [`Append::MAX_LEN`].
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
/// assert_eq!((imported.events, imported.chunks), (5_000, 5));
/// # Ok(())
/// # }
/// ```
///
/// The condition holds for the whole import: for the first chunk as it is given, and for each later one from the chunk before
/// on, whose own events don't count.
///
/// # Errors
///
/// As an [`Append`] of the chunk that failed; the message says how many events are in the log before it.
///
/// Whatever the error, make the same import again, with the same events (their ids included), in whatever chunks: what is in
/// the log already is recognised, and the import goes on behind it. With a condition that goes only if nothing matched in
/// between.
///
/// It borrows the store, the events and what it tells its progress to; to spawn one, move these into the task.
///
/// # Cancel safety
///
/// Dropped, the chunks that were answered are in the log, and the one that is under way whole or not at all. The same
/// import, made again, goes on.
#[must_use = "an import does nothing until it is awaited"]
pub struct Import<'a> {
    store: &'a dyn EventStore,
    events: Box<dyn Iterator<Item = NewEvent> + Send + 'a>,
    condition: AppendCondition,
    chunk_events: usize,
    chunk_bytes: usize,
    lock_time: Duration,
    timeout: Option<Duration>,
    /// Of the scope in which the method was called.
    context: Option<EventContext>,
    noted: Noted,
    on_progress: Box<dyn FnMut(Imported) + Send + 'a>,
}

/// How far an [`Import`] has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Imported {
    /// So many events are in the log, those included that an earlier try had written.
    pub events: u64,
    /// So many of them were there already.
    pub repeated: u64,
    /// In so many chunks.
    pub chunks: u64,
    /// The last of them.
    pub last: Mark,
}

impl<'a> Import<'a> {
    /// The events of a chunk, unless [`chunk_events`](Self::chunk_events) says otherwise: 1000.
    pub const DEFAULT_CHUNK_EVENTS: usize = 1000;

    /// The bytes of a chunk, unless [`chunk_bytes`](Self::chunk_bytes) says otherwise: 1 MiB.
    pub const DEFAULT_CHUNK_BYTES: usize = 1024 * 1024;

    /// How long a chunk may lock the log before the next one is smaller, unless [`lock_time`](Self::lock_time) says otherwise: 100 ms.
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

    /// Replaces the most events of a chunk; 0 counts as 1. Defaults to [`DEFAULT_CHUNK_EVENTS`](Self::DEFAULT_CHUNK_EVENTS). A chunk has
    /// fewer if it would exceed its [bytes](Self::chunk_bytes).
    ///
    /// An event takes some tens of microseconds while the log is locked, so a chunk of 1000 makes other appends wait for some
    /// tens of milliseconds. Larger, and they wait longer; smaller, and the import waits for more flushes of the WAL.
    pub fn chunk_events(mut self, events: usize) -> Self {
        self.chunk_events = events.max(1);
        self
    }

    /// Replaces the most bytes of a chunk, payloads, metadata, types and tags together; beyond [`Append::MAX_LEN`] it counts as that, and
    /// an event that alone has more is a chunk of its own. Defaults to [`DEFAULT_CHUNK_BYTES`](Self::DEFAULT_CHUNK_BYTES).
    ///
    /// It is what [`chunk_events`](Self::chunk_events) is for large events: while the log is locked, the server writes some tens of MB a second.
    pub fn chunk_bytes(mut self, bytes: usize) -> Self {
        self.chunk_bytes = bytes.min(Append::MAX_LEN);
        self
    }

    /// Replaces how long other appends may have to wait for what one chunk takes. Defaults to
    /// [`DEFAULT_LOCK_TIME`](Self::DEFAULT_LOCK_TIME). `Duration::MAX` is no limit.
    ///
    /// Nobody knows how long the first chunk takes. Behind one that has [locked](Appended::lock_time) the log for longer the next
    /// one has so many events as would have fitted, and half of them at most; behind one that took less than half of it, twice as
    /// many, up to [`chunk_events`](Self::chunk_events). A chunk has one event at least, whatever that takes. The wait of a commit, for a disk or a
    /// standby, is not counted, since smaller chunks make it no shorter: only more frequent. Nor are triggers that are deferred
    /// to it. In memory there is no such limit.
    ///
    /// Larger, and a slow trigger or a slow server makes other appends wait for longer; smaller, and the import waits for
    /// more commits.
    pub fn lock_time(mut self, limit: Duration) -> Self {
        self.lock_time = limit;
        self
    }

    /// Replaces the limit of each chunk. Defaults to the store's own for an append.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }

    /// Calls this behind each chunk.
    pub fn on_progress(mut self, call: impl FnMut(Imported) + Send + 'a) -> Self {
        self.on_progress = Box::new(call);
        self
    }

    async fn run(mut self) -> Result<Imported> {
        let mut events = Rest::new(std::mem::replace(&mut self.events, Box::new(iter::empty())));
        let mut pace = Pace::new(self.chunk_events, self.lock_time);
        let mut imported: Option<Imported> = None;
        loop {
            let mut chunk = events.take(pace.events(), self.chunk_bytes);
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
                    error.within(&format!("behind {} imported events, up to {}", so_far.events, so_far.last))
                }
                None => error.within("before the first event was imported"),
            })?;
            let rest = chunk.split_off(amount);
            if appended.is_repeated() {
                // Nothing was inserted, so its time tells nothing. What was written in chunks of this size goes on in them.
                pace.found(amount);
            } else if let Some(locked) = appended.lock_time() {
                pace.took(amount, locked);
            }
            events.put_back(rest);
            self.noted.saw(appended.token());
            self.condition.go_on_behind(appended.last());
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
        Operation::Append.tell(append, move |appended| appended.done(amount))
    }
}

/// So much is read of what is there already, at a time: as of a batch of those who read on.
const FOUND_BYTES: usize = 4 * 1024 * 1024;

/// What an earlier try has written of the beginning of a chunk, from this position on, as parts of chunks of other sizes. Each of
/// its chunks is whole, and one behind the other: so what is there is the beginning of all that there is to import.
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
    // What is behind the chunk may be somebody else's, and of any size.
    let mut request = ReadBehindRequest::new(Filter::any_event(), after, chunk.len() as u64, Consistency::Strong);
    (request.limit_bytes, request.timeout) = (FOUND_BYTES, timeout);
    let there = store.run_read_behind(request).await?.events;
    let is_recorded = |(new, old): &(&NewEvent, &Event)| old.stream().is_none() && new.is_recorded_as(old);
    let amount = chunk.iter().zip(&there).take_while(is_recorded).count();
    let Some(last) = there[..amount].last().map(Event::mark) else { return Ok(None) };
    // Once more, for its token: that of a piece has no place, which a session wants for SQL of one's own.
    let position = last.position();
    let only_that = Filter::any_event().after_position(position.saturating_sub(1)).until_position(position);
    let only_that = (&store).last(&only_that).consistency(Consistency::Strong);
    let seen = if let Some(limit) = timeout { only_that.timeout(limit) } else { only_that }.await?;
    let is_there = seen.as_ref().is_some_and(|event| event.mark() == last);
    Ok(is_there.then(|| (amount, Appended::found(first, last, seen.node(), seen.token().clone()))))
}

/// The events that are to be written yet.
struct Rest<I> {
    put_back: VecDeque<NewEvent>,
    events: iter::Fuse<I>,
}

impl<I: Iterator<Item = NewEvent>> Rest<I> {
    fn new(events: I) -> Self {
        Self { put_back: VecDeque::new(), events: events.fuse() }
    }

    /// As many as a chunk may have, and at least one if there is any.
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
