//! A small store that can be broken in many ways, one at a time.
//!
//! Without a flaw it passes the suite, so a flawed one can only fail because of its flaw.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, SystemTime},
};

use mainstem::{
    Appended, Error, ErrorKind, Event, EventId, EventStore, Filter, NewEvent, Result, Served, StreamPlace,
    backend::{
        After, Answer, AppendRequest, BoxFuture, BoxStream, Guard, LoadStreamAnswer, LoadStreamRequest, Piece,
        QueryRequest, ReadAfterRequest, WaitRequest,
    },
};

use super::flaws::{Flaw, as_text, comes_from_the_same, matches, stored};

#[derive(Clone, Debug)]
pub(super) struct FlawedStore {
    pub(super) flaw: Option<Flaw>,
    log: Arc<Mutex<Log>>,
    /// Locks that are held while others run: for the flaws that take too few of them.
    locks: Arc<Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>>,
}

#[derive(Debug, Default)]
pub(super) struct Log {
    pub(super) events: Vec<Event>,
    /// The ids of each append.
    appends: Vec<Vec<EventId>>,
    unguarded: Vec<EventId>,
    refused: Vec<EventId>,
    drawn: u64,
    /// By the id of the first event, the versions that were drawn too early.
    pub(super) numbered: HashMap<EventId, u64>,
    pub(super) before: Vec<Event>,
}

impl FlawedStore {
    pub(super) fn new(flaw: Option<Flaw>) -> Self {
        Self { flaw, log: Arc::default(), locks: Arc::default() }
    }

    pub(super) fn has(&self, flaw: Flaw) -> bool {
        self.flaw == Some(flaw)
    }

    pub(super) fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().expect("no panic while it is held")
    }

    async fn append(self, request: AppendRequest) -> Result<Appended> {
        let drawn = self.has(Flaw::DrawsPositionsFirst).then(|| self.log().draw(request.events.len()));
        let lock = match (self.flaw, request.condition.guard()) {
            (Some(Flaw::LocksByFilter), Some(guard)) => Some(self.lock(&format!("{:?}", guard.filter))),
            (Some(Flaw::LocksOnlyConditions), Some(_)) => Some(self.lock("")),
            _ => None,
        };
        let _locked = match &lock {
            Some(lock) => Some(lock.lock().await),
            None => None,
        };
        if drawn.is_some() {
            self.others_run().await;
        }
        if let (Some(Flaw::NumbersThenWrites), Some(stream)) = (self.flaw, &request.stream) {
            let version = self.version(&self.log(), &stream.id);
            self.log().numbered.insert(request.events[0].id(), version);
            self.others_run().await;
        }
        if let Some(appended) = self.judge(&request)? {
            return Ok(appended);
        }
        if self.has(Flaw::JudgesThenWrites) || lock.is_some() {
            self.others_run().await;
        }
        let appended = self.write(&request, drawn).await;
        match request.timeout {
            Some(_) if self.has(Flaw::WritesAndSaysTimeout) => Err(Error::new(ErrorKind::Timeout, "too late")),
            _ => Ok(appended),
        }
    }

    /// Judges, and unless it must let others run before it writes, writes under the same lock.
    fn judge(&self, request: &AppendRequest) -> Result<Option<Appended>> {
        let mut log = self.log();
        let judged = self.judge_in(&log, request);
        if judged.is_err() {
            if self.has(Flaw::WritesBeforeJudging) {
                log.push(&request.events[..1], None, SystemTime::now());
            }
            log.refused.extend(request.events.iter().map(NewEvent::id));
        }
        if let Some(appended) = judged? {
            return Ok(Some(appended));
        }
        let waits = [Flaw::JudgesThenWrites, Flaw::DrawsPositionsFirst, Flaw::WritesOneByOne, Flaw::LocksByFilter];
        if waits.iter().any(|flaw| self.has(*flaw))
            || (self.has(Flaw::LocksOnlyConditions) && request.condition.guard().is_some())
            || (self.has(Flaw::WritesAndSaysTimeout) && request.timeout.is_some())
        {
            return Ok(None);
        }
        Ok(Some(self.write_in(&mut log, request, None)))
    }

    fn judge_in(&self, log: &Log, request: &AppendRequest) -> Result<Option<Appended>> {
        let large = request
            .events
            .iter()
            .any(|event| event.payload().as_json().is_some_and(|json| json.as_str().len() > 1024 * 1024));
        if (self.has(Flaw::TakesNoLargeEvents) && large)
            || (self.has(Flaw::TakesFewEvents) && request.events.len() > 500)
        {
            return Err(Error::new(ErrorKind::InvalidInput, "too much"));
        }
        if self.has(Flaw::JudgesBeforeRepeats) {
            self.judge_condition(log, request)?;
        }
        if self.has(Flaw::JudgesVersionsBeforeRepeats) {
            self.judge_stream(log, request)?;
        }
        if let Some(appended) = self.repeated(log, request)? {
            return Ok(Some(appended));
        }
        if self.has(Flaw::TellsVersionsFirst) {
            self.judge_stream(log, request)?;
        }
        self.judge_condition(log, request)?;
        self.judge_stream(log, request).map(|()| None)
    }

    fn repeated(&self, log: &Log, request: &AppendRequest) -> Result<Option<Appended>> {
        let events = &request.events;
        if self.has(Flaw::WritesRepeatsAgain) {
            return Ok(None);
        }
        if self.has(Flaw::KeepsIdsOfTheRefused) && events.iter().any(|event| log.refused.contains(&event.id())) {
            return Err(AppendRequest::reused_ids(0));
        }
        if self.has(Flaw::TakesEqualContentForRepeats) {
            let equal = |recorded: &&Event| {
                as_text(&events[0].clone().into_recorded(0, SystemTime::now())) == as_text(recorded)
            };
            if let Some(recorded) = log.events.iter().find(equal) {
                return Ok(Some(Appended::new(recorded.position(), events).as_repeated()));
            }
        }
        let taken = log.events.iter().position(|recorded| events.iter().any(|event| event.id() == recorded.id()));
        let Some(index) = taken else { return Ok(None) };
        let first = log.events[index].position();
        let same = log.events[index..].iter().zip(events).all(|(recorded, event)| match self.flaw {
            Some(Flaw::ComparesOnlyIds) => event.id() == recorded.id(),
            Some(Flaw::ComparesJsonAsText) => {
                event.is_recorded_as(recorded) && event.payload().to_string() == recorded.payload().to_string()
            }
            Some(Flaw::ComparesBytesByLength) => {
                event.id() == recorded.id() && event.payload().to_string() == recorded.payload().to_string()
            }
            Some(Flaw::ComparesWhereEventsComeFrom) => {
                event.is_recorded_as(recorded) && comes_from_the_same(event, recorded)
            }
            _ => stored(self.flaw, event.clone()).is_recorded_as(recorded),
        });
        let ids: Vec<_> = events.iter().map(NewEvent::id).collect();
        let whole = log.appends.contains(&ids) || self.has(Flaw::TakesAPartForARepeat);
        match same && whole && self.is_in_its_stream(&log.events[index], request) {
            true => {
                let version = log.events[index].stream().map(StreamPlace::version);
                Ok(Some(Appended::new(first, events).as_repeated().in_stream(version)))
            }
            false => Err(AppendRequest::reused_ids(first)),
        }
    }

    fn judge_condition(&self, log: &Log, request: &AppendRequest) -> Result<()> {
        let Some(guard) = request.condition.guard() else { return Ok(()) };
        let own = || request.events.iter().map(|event| event.clone().into_recorded(u64::MAX, SystemTime::now()));
        if self.has(Flaw::GuardsOnlyItsOwnKind) && !own().any(|event| guard.filter.matches(&event)) {
            return Ok(());
        }
        let conflict = self.first_match(log, guard, own().collect());
        let diverged = self.diverged(log, guard);
        match (diverged, conflict) {
            _ if self.has(Flaw::IgnoresConditions) => Ok(()),
            (Some(_), Some(conflict)) if self.has(Flaw::TellsConflictFirst) => Err(conflict),
            (Some(error), _) | (None, Some(error)) => Err(error),
            (None, None) => Ok(()),
        }
    }

    fn diverged(&self, log: &Log, guard: &Guard) -> Option<Error> {
        let there = match guard.after {
            After::Mark(mark) if !self.has(Flaw::IgnoresTheIdOfAfter) => {
                let at = log.events.iter().find(|event| event.position() == mark.position());
                at.map_or_else(|| self.has(Flaw::PassesBeyondTheHead), |event| event.id() == mark.id())
            }
            after => after.position() <= log.head() || self.has(Flaw::PassesBeyondTheHead),
        };
        (!there).then(|| guard.diverged(log.head()))
    }

    fn first_match(&self, log: &Log, guard: &Guard, own: Vec<Event>) -> Option<Error> {
        let after = match guard.after {
            After::Beginning if self.has(Flaw::BeginsAtTheHead) => log.head(),
            after => after.position(),
        };
        let is_seen = |event: &&Event| match self.flaw {
            Some(Flaw::CountsTheEventAtAfter) => event.position() >= after,
            Some(Flaw::LooksAtTheLastThousand) => event.position() > after.max(log.head().saturating_sub(1_000)),
            Some(Flaw::OverlooksUnconditional) => event.position() > after && !log.unguarded.contains(&event.id()),
            Some(Flaw::ComparesTheLastMatch) => true,
            _ => event.position() > after,
        };
        let breaks = |event: &&Event| match self.flaw {
            Some(Flaw::BreaksOnAnyEvent) => true,
            Some(Flaw::FlattensItemsInConditions) => matches(Some(Flaw::FlattensItems), &guard.filter, event),
            flaw => matches(flaw, &guard.filter, event),
        };
        let own = own.iter().filter(|_| self.has(Flaw::CountsItsOwnEvents));
        let mut found = log.events.iter().filter(is_seen).chain(own).filter(breaks);
        let found = match self.flaw {
            Some(Flaw::NamesTheLastMatch) => found.next_back(),
            // The version that was expected is compared with the one that is there.
            Some(Flaw::ComparesTheLastMatch) => found.next_back().filter(|event| event.position() != after),
            _ => found.next(),
        };
        found.map(|event| guard.conflict(event.position(), event.event_type()))
    }

    async fn write(&self, request: &AppendRequest, drawn: Option<u64>) -> Appended {
        if !self.has(Flaw::WritesOneByOne) {
            return self.write_in(&mut self.log(), request, drawn);
        }
        let mut first = None;
        for event in &request.events {
            let position = self.log().push(std::slice::from_ref(event), None, SystemTime::now());
            first.get_or_insert(position);
            self.others_run().await;
        }
        self.log().appends.push(request.events.iter().map(NewEvent::id).collect());
        Appended::new(first.expect("an event"), &request.events)
    }

    fn write_in(&self, log: &mut Log, request: &AppendRequest, drawn: Option<u64>) -> Appended {
        log.before = log.events.clone();
        let events: Vec<_> = request.events.iter().map(|event| stored(self.flaw, event.clone())).collect();
        if request.condition.guard().is_none() {
            log.unguarded.extend(events.iter().map(NewEvent::id));
        }
        log.appends.push(events.iter().map(NewEvent::id).collect());
        let first = drawn.unwrap_or_else(|| log.head() + 1);
        for (index, event) in events.iter().enumerate() {
            let position = match self.flaw {
                Some(Flaw::LeavesGapsInAnAppend) => first + 2 * index as u64,
                Some(Flaw::UsesOnePositionForAll) => first,
                _ => first + index as u64,
            };
            log.push(std::slice::from_ref(event), Some(position), SystemTime::now());
        }
        self.place(log, request, Appended::new(first, &request.events))
    }

    fn lock(&self, key: &str) -> Arc<tokio::sync::Mutex<()>> {
        Arc::clone(self.locks.lock().expect("no panic").entry(key.to_owned()).or_default())
    }

    /// Long enough for what is waiting to get its turn.
    async fn others_run(&self) {
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
}

impl Log {
    fn head(&self) -> u64 {
        self.events.last().map_or(0, Event::position)
    }

    fn draw(&mut self, amount: usize) -> u64 {
        let first = self.drawn + 1;
        self.drawn += amount as u64;
        first
    }

    fn push(&mut self, events: &[NewEvent], at: Option<u64>, recorded_at: SystemTime) -> u64 {
        let first = at.unwrap_or_else(|| self.head() + 1);
        for (event, position) in events.iter().zip(first..) {
            self.events.push(event.clone().into_recorded(position, recorded_at));
        }
        self.events.sort_by_key(Event::position);
        first
    }
}

impl EventStore for FlawedStore {
    fn run_append(&self, request: AppendRequest) -> BoxFuture<Result<Appended>> {
        if self.has(Flaw::WritesWhenCalled) {
            let judged = self.judge(&request).map(|appended| appended.expect("written under the lock"));
            return Box::pin(async { judged });
        }
        Box::pin(self.clone().append(request))
    }

    fn run_query(&self, request: QueryRequest) -> BoxFuture<Result<Answer>> {
        let store = self.clone();
        Box::pin(async move {
            let mut answer = store.read(&request)?;
            if store.has(Flaw::TakesANewerHead) {
                store.others_run().await;
                answer.head = store.log().events.last().map(Event::mark);
            }
            Ok(answer)
        })
    }

    fn run_load_stream(&self, request: LoadStreamRequest) -> BoxFuture<Result<LoadStreamAnswer>> {
        let store = self.clone();
        Box::pin(async move { Ok(store.load(&request)) })
    }

    fn run_count(&self, request: QueryRequest) -> BoxFuture<Result<Served<u64>>> {
        let store = self.clone();
        Box::pin(async move { store.count(request) })
    }

    fn run_exists(&self, request: QueryRequest) -> BoxFuture<Result<Served<bool>>> {
        let store = self.clone();
        Box::pin(async move { store.exists(request) })
    }

    fn run_query_stream(&self, request: QueryRequest) -> BoxStream<Result<Answer>> {
        self.pages(request)
    }

    fn run_read_after(&self, request: ReadAfterRequest) -> BoxFuture<Result<Piece>> {
        let store = self.clone();
        Box::pin(async move { store.read_on(&request) })
    }

    fn run_wait(&self, request: WaitRequest) -> BoxFuture<Result<()>> {
        let store = self.clone();
        Box::pin(async move { store.wait(&request).await })
    }
}

/// A store for what never reaches one.
#[derive(Debug)]
pub(super) struct NeverAsked;

impl EventStore for NeverAsked {
    fn run_append(&self, request: AppendRequest) -> BoxFuture<Result<Appended>> {
        panic!("the store was asked to append {:?}", request.events);
    }

    fn run_query(&self, request: QueryRequest) -> BoxFuture<Result<Answer>> {
        let _: Filter = request.filter;
        Box::pin(async { Ok(Answer::new(Vec::new(), None)) })
    }
}
