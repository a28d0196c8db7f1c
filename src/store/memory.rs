//! A log in memory.

mod snapshot;

use std::{
    collections::HashMap,
    fmt,
    hash::{BuildHasher, RandomState},
    sync::{Arc, PoisonError, RwLock},
    time::SystemTime,
};

use tokio::sync::watch;

use super::{
    Answer, AppendRequest, Appended, BoxFuture, BoxStream, EventStore, LoadStreamAnswer, LoadStreamRequest,
    QueryRequest, Snapshot, WaitRequest,
    condition::{After, Guard},
    refusal,
};
use crate::{Event, EventId, Mark, Result, StreamPlace, Token};

/// An event store in memory, with the same rules as [`PostgresEventStore`](crate::PostgresEventStore).
///
/// Use it for tests, and for programs whose log may end with them. Cloning is cheap, and all clones are the same log.
/// Every read is strong, whatever the scope says, and nothing ever waits, so time limits have no effect.
///
/// A query looks at every event after its lower bound on positions.
#[derive(Clone)]
pub struct MemoryEventStore {
    log: Arc<RwLock<Log>>,
    /// The number of this log in tokens.
    number: u64,
    /// The last event, for readers that wait for the next one.
    head: watch::Sender<Option<Mark>>,
}

impl Default for MemoryEventStore {
    fn default() -> Self {
        // Each log has a random key.
        let number = RandomState::new().hash_one(0_u8);
        Self { log: Arc::default(), number, head: watch::Sender::default() }
    }
}

#[derive(Default)]
struct Log {
    /// The event at position `n` is at index `n - 1`.
    events: Vec<Event>,
    /// How many events of the same append follow each event.
    following: Vec<usize>,
    positions: HashMap<EventId, u64>,
    /// For each fixed stream, the positions of its events: the one of version `n` is at index `n - 1`.
    streams: HashMap<Arc<str>, Vec<u64>>,
    snapshots: HashMap<snapshot::Key, Snapshot>,
}

impl MemoryEventStore {
    /// Creates an empty log.
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
        let (log, number, head) = (Arc::clone(&self.log), self.number, self.head.clone());
        Box::pin(async move {
            let with_token = |appended: Appended| {
                let token = Token::of_log(number, appended.last());
                appended.with_token(token)
            };
            // One lock for checking and writing. Nothing in here panics half-way: a poisoned log is still whole.
            let mut log = log.write().unwrap_or_else(PoisonError::into_inner);
            if let Some(appended) = log.repeated(&request)? {
                return Ok(with_token(appended));
            }
            if let Some(guard) = request.condition.guard() {
                log.judge(guard)?;
            }
            if let Some(stream) = &request.stream {
                stream.judge(log.last_of(&stream.id))?;
            }
            let appended = log.write(request);
            head.send_replace(log.events.last().map(Event::mark));
            Ok(with_token(appended))
        })
    }

    fn run_load_stream(&self, request: LoadStreamRequest) -> BoxFuture<Result<LoadStreamAnswer>> {
        let (log, number) = (Arc::clone(&self.log), self.number);
        Box::pin(async move {
            let log = log.read().unwrap_or_else(PoisonError::into_inner);
            log.holds(request.floor.marks_of(number))?;
            let positions = log.streams.get(&*request.stream).map(Vec::as_slice).unwrap_or_default();
            let answer = request.answer_from(positions.iter().filter_map(|position| log.at(*position)));
            Ok(answer.with_token(log.token(number)))
        })
    }

    fn run_query(&self, request: QueryRequest) -> BoxFuture<Result<Answer>> {
        let (log, number) = (Arc::clone(&self.log), self.number);
        Box::pin(async move {
            let log = log.read().unwrap_or_else(PoisonError::into_inner);
            log.holds(request.floor.marks_of(number))?;
            let first = request.bounds.after.map_or(0, |after| usize::try_from(after).unwrap_or(usize::MAX));
            let events = request.select_from(log.events.get(first..).unwrap_or_default().iter());
            Ok(Answer::new(events, log.events.last().map(Event::mark)).with_token(log.token(number)))
        })
    }

    fn run_query_stream(&self, request: QueryRequest) -> BoxStream<Result<Answer>> {
        request.in_pages(self.clone())
    }

    fn run_wait(&self, request: WaitRequest) -> BoxFuture<Result<()>> {
        let mut head = self.head.subscribe();
        Box::pin(async move {
            // It cannot fail: the store's own clone of the sender lives as long as the last of its handles.
            let _ = head.wait_for(|head| request.is_over(*head)).await;
            Ok(())
        })
    }
}

impl Log {
    /// Whether the log has what a token asks for. There is nothing to wait for: it is the only node.
    fn holds(&self, marks: impl Iterator<Item = Mark>) -> Result<()> {
        for mark in marks {
            if !self.has(mark) {
                return Err(refusal::lost(mark));
            }
        }
        Ok(())
    }

    fn token(&self, number: u64) -> Token {
        self.events.last().map(|event| Token::of_log(number, event.mark())).unwrap_or_default()
    }

    fn head(&self) -> u64 {
        self.events.len() as u64
    }

    fn at(&self, position: u64) -> Option<&Event> {
        let index = usize::try_from(position.checked_sub(1)?).ok()?;
        self.events.get(index)
    }

    /// Returns the first result of a repeated append; an error if only some of its ids exist, or with other content.
    fn repeated(&self, request: &AppendRequest) -> Result<Option<Appended>> {
        let events = &request.events;
        let Some(first) = events.iter().filter_map(|event| self.positions.get(&event.id())).min().copied() else {
            return Ok(None);
        };
        let is_a_part = first > 1 && self.following_at(first - 1) > Some(0);
        let is_whole = (first..)
            .zip((0..events.len()).rev())
            .all(|(position, following)| self.following_at(position) == Some(following));
        let recorded = (first..).map_while(|position| self.at(position));
        if is_whole && !is_a_part && request.is_recorded_as(recorded) {
            let version = self.at(first).and_then(Event::stream).map(StreamPlace::version);
            Ok(Some(Appended::new(first, events).as_repeated().in_stream(version)))
        } else {
            Err(refusal::reused(first))
        }
    }

    fn last_of(&self, stream: &str) -> Option<&Event> {
        self.at(*self.streams.get(stream)?.last()?)
    }

    fn version(&self, stream: &str) -> u64 {
        self.streams.get(stream).map_or(0, |positions| positions.len() as u64)
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

    fn write(&mut self, request: AppendRequest) -> Appended {
        let AppendRequest { events, stream, .. } = request;
        let first = self.head() + 1;
        let version = stream.as_ref().map(|stream| self.version(&stream.id) + 1);
        let appended = Appended::new(first, &events).in_stream(version);
        let recorded_at = SystemTime::now();
        let amount = events.len();
        for (index, (event, position)) in events.into_iter().zip(first..).enumerate() {
            self.positions.insert(event.id(), position);
            self.following.push(amount - 1 - index);
            let mut event = event.into_recorded(position, recorded_at);
            if let Some(stream) = &stream {
                event = event.in_stream(Arc::clone(&stream.id), self.version(&stream.id) + 1);
                self.streams.entry(Arc::clone(&stream.id)).or_default().push(position);
            }
            self.events.push(event);
        }
        appended
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        AppendCondition, Consistency, ErrorKind, Filter, NewEvent, SnapshotKey, SnapshotStore, Start, Subscribe,
    };

    #[tokio::test]
    async fn reads_with_a_token_contain_its_event_or_report_divergence() {
        let store = MemoryEventStore::new();
        let event = NewEvent::new("A", &1).unwrap();
        let written = store.append([event], AppendCondition::none()).await.unwrap();
        let all = Filter::any_event();
        let key = SnapshotKey::new("p", 1, &all);
        let read = async |token: &Token| {
            let level = || Consistency::AtLeast(token.clone());
            let project = store.project(&key, 0, |_, _| Ok(())).consistency(level()).without_saving();
            [
                store.query(&all).consistency(level()).await.map(|history| history.token().clone()),
                store.count(&all).consistency(level()).await.map(|count| count.token().clone()),
                store.load_stream("s").consistency(level()).await.map(|loaded| loaded.token().clone()),
                project.await.map(|projected| projected.token().clone()),
                store.fetch(&all, Start::Beginning).consistency(level()).await.map(|fetched| fetched.token().clone()),
            ]
        };
        for token in read(written.token()).await {
            assert_eq!(&token.unwrap(), written.token());
        }
        for lost in [Mark::new(2, written.last().id()), Mark::new(1, EventId::new())] {
            for read in read(&Token::of_log(store.number, lost)).await {
                assert_eq!(read.unwrap_err().kind(), ErrorKind::LogDiverged);
            }
        }
        // A token of another log does not concern this one.
        for token in read(&Token::of_log(store.number ^ 1, Mark::new(7, written.last().id()))).await {
            token.unwrap();
        }
    }
}
