//! A log in memory.

mod snapshot;

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, PoisonError, RwLock},
    time::SystemTime,
};

use super::{
    Answer, AppendRequest, Appended, BoxFuture, BoxStream, EventStore, QueryRequest, Snapshot,
    condition::{After, Guard},
    refusal,
};
use crate::{Event, EventId, NewEvent, Result};

/// An event store in memory, under the same rules as [`PostgresEventStore`](crate::PostgresEventStore).
///
/// For tests, and for programs whose log may end with them. Cloning is cheap, and all clones are the same log. Every
/// read is strong, whatever the scope says, and nothing ever waits, so that limits have no effect.
///
/// A query looks at every event behind its bound on positions.
#[derive(Clone, Default)]
pub struct MemoryEventStore {
    log: Arc<RwLock<Log>>,
}

#[derive(Default)]
struct Log {
    /// The event at position `n` is at index `n - 1`.
    events: Vec<Event>,
    /// How many events of the same append follow each event.
    following: Vec<usize>,
    positions: HashMap<EventId, u64>,
    snapshots: HashMap<snapshot::Key, Snapshot>,
}

impl MemoryEventStore {
    /// An empty log.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl fmt::Debug for MemoryEventStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let events = self.log.read().unwrap_or_else(PoisonError::into_inner).events.len();
        f.debug_struct("MemoryEventStore").field("events", &events).finish()
    }
}

impl EventStore for MemoryEventStore {
    fn run_append(&self, request: AppendRequest) -> BoxFuture<Result<Appended>> {
        let log = Arc::clone(&self.log);
        Box::pin(async move {
            let AppendRequest { events, condition, .. } = request;
            // One lock for judging and writing. Nothing in here panics half-way: a poisoned log is still whole.
            let mut log = log.write().unwrap_or_else(PoisonError::into_inner);
            if let Some(appended) = log.repeated(&events)? {
                return Ok(appended);
            }
            if let Some(guard) = condition.guard() {
                log.judge(guard)?;
            }
            Ok(log.write(events))
        })
    }

    fn run_query(&self, request: QueryRequest) -> BoxFuture<Result<Answer>> {
        let log = Arc::clone(&self.log);
        Box::pin(async move {
            let log = log.read().unwrap_or_else(PoisonError::into_inner);
            let behind = request.bounds.after.map_or(0, |after| usize::try_from(after).unwrap_or(usize::MAX));
            let events = request.select_from(log.events.get(behind..).unwrap_or_default().iter());
            Ok(Answer::new(events, log.events.last().map(Event::mark)))
        })
    }

    fn run_stream(&self, request: QueryRequest) -> BoxStream<Result<Answer>> {
        request.in_pages(self.clone())
    }
}

impl Log {
    fn head(&self) -> u64 {
        self.events.len() as u64
    }

    fn at(&self, position: u64) -> Option<&Event> {
        let index = usize::try_from(position.checked_sub(1)?).ok()?;
        self.events.get(index)
    }

    /// The first result of an append that is made again; an error if only some of its ids are there, or other content.
    fn repeated(&self, events: &[NewEvent]) -> Result<Option<Appended>> {
        let Some(first) = events.iter().filter_map(|event| self.positions.get(&event.id())).min().copied() else {
            return Ok(None);
        };
        let is_a_part = first > 1 && self.following_at(first - 1) > Some(0);
        let same = events.iter().enumerate().all(|(index, event)| {
            let position = first + index as u64;
            let following = Some(events.len() - 1 - index);
            self.following_at(position) == following && self.at(position).is_some_and(|it| event.is_recorded_as(it))
        });
        if same && !is_a_part {
            Ok(Some(Appended::new(first, events).as_repeated()))
        } else {
            Err(refusal::reused(first))
        }
    }

    fn following_at(&self, position: u64) -> Option<usize> {
        let index = usize::try_from(position.checked_sub(1)?).ok()?;
        self.following.get(index).copied()
    }

    fn judge(&self, guard: &Guard) -> Result<()> {
        let after = guard.after;
        let is_there = match after {
            After::Beginning => true,
            After::Position(position) => position <= self.head(),
            After::Mark(mark) => self.at(mark.position()).is_some_and(|event| event.id() == mark.id()),
        };
        if !is_there {
            return Err(refusal::diverged(after, self.head()));
        }
        let since = usize::try_from(after.position()).unwrap_or(usize::MAX);
        let broken = self.events.iter().skip(since).find(|event| guard.filter.matches(event));
        broken.map_or(Ok(()), |event| Err(refusal::conflict(event.position(), event.event_type())))
    }

    fn write(&mut self, events: Vec<NewEvent>) -> Appended {
        let first = self.head() + 1;
        let appended = Appended::new(first, &events);
        let recorded_at = SystemTime::now();
        let amount = events.len();
        for (index, (event, position)) in events.into_iter().zip(first..).enumerate() {
            self.positions.insert(event.id(), position);
            self.following.push(amount - 1 - index);
            self.events.push(event.into_recorded(position, recorded_at));
        }
        appended
    }
}
