//! The store's side: guarded appends through its public API.

use std::time::Duration;

use mainstem::{AppendCondition, EventStore, Filter, Mark, PostgresEventStore, Predicate, Router};

use crate::{
    Outcome,
    fill::LOG,
    library::{Boundary, Library},
    side::{Crew, Step, Worker},
};

/// A store with its own pool.
pub(crate) async fn store(url: &str, connections: u32) -> Outcome<PostgresEventStore> {
    let builder = Router::builder().primary(url).max_connections(connections).acquire_timeout(Duration::from_secs(30));
    Ok(PostgresEventStore::new(&builder.connect().await?))
}

/// Tasks with one boundary each, starting with boundary `first`.
pub(crate) fn crew(
    store: &PostgresEventStore,
    library: &Library,
    first: u64,
    tasks: u64,
    connections: u32,
) -> Outcome<Crew<Guarded>> {
    crew_of_many(store, library, first, tasks, connections, 1)
}

/// The same, with this number of events in each append.
pub(crate) fn crew_of_many(
    store: &PostgresEventStore,
    library: &Library,
    first: u64,
    tasks: u64,
    connections: u32,
    events: u64,
) -> Outcome<Crew<Guarded>> {
    let worker = |number| Ok(Guarded { events, ..Guarded::new(store, library, number)? });
    let workers = (first..first + tasks).map(worker).collect::<Outcome<_>>()?;
    Ok(Crew { workers, connections: usize::try_from(connections)?, table: Some(LOG) })
}

/// A task that repeatedly decides on its boundary. Nobody else writes there, so what it knows after its own append is
/// what it would read.
pub(crate) struct Guarded {
    store: PostgresEventStore,
    library: Library,
    boundary: Boundary,
    filter: Filter,
    condition: AppendCondition,
    events: u64,
    number: u64,
}

impl Guarded {
    pub(crate) fn new(store: &PostgresEventStore, library: &Library, number: u64) -> Outcome<Self> {
        let boundary = library.boundary(number);
        let filter = boundary.filter()?;
        let condition = AppendCondition::none();
        Ok(Self { store: store.clone(), library: *library, boundary, filter, condition, events: 1, number: 0 })
    }
}

impl Worker for Guarded {
    /// Others have written since its last round.
    async fn begin(&mut self) -> Outcome {
        self.condition = self.store.query(&self.filter).await?.unchanged();
        Ok(())
    }

    async fn step(&mut self) -> Outcome<Step> {
        let numbers = self.number + 1..=self.number + self.events;
        self.number += self.events;
        let events =
            numbers.map(|number| self.library.next(self.boundary, number).event()).collect::<Outcome<Vec<_>>>()?;
        let appended = self.store.append(events, self.condition.clone()).await?;
        self.condition = still(&self.filter, appended.last());
        Ok(Step { written: self.events, ..Step::WRITTEN })
    }
}

fn still(filter: &Filter, mark: Mark) -> AppendCondition {
    AppendCondition::fail_if_events_match(filter.clone()).after(mark)
}

/// What the condition of an [`Aside`] asks for.
#[derive(Clone, Copy)]
pub(crate) enum Ask {
    Nothing,
    /// Ids that no event has.
    Absent,
    /// Ids that some events have, but none of these types: the index on payloads finds the events, and none of them
    /// matches.
    Present,
    /// As `Absent`, with `after` 0.
    FromZero,
}

/// Types that no event has.
const UNKNOWN: [&str; 4] = ["BookCopyLost", "BookCopyReserved", "BookCopySold", "BookCopyStolen"];

/// A task whose condition holds because no event matches it. It writes events of a type that the condition does not
/// cover.
pub(crate) struct Aside {
    store: PostgresEventStore,
    library: Library,
    ask: Ask,
    number: u64,
}

impl Aside {
    fn new(store: &PostgresEventStore, library: &Library, ask: Ask) -> Self {
        // A separate range of numbers; otherwise another task's events would have the ids that must be absent.
        Self { store: store.clone(), library: *library, ask, number: (ask as u64) << 32 }
    }

    fn condition(&self, absent: Boundary) -> Outcome<AppendCondition> {
        Ok(match self.ask {
            Ask::Nothing => AppendCondition::none(),
            Ask::Absent => AppendCondition::fail_if_events_match(absent.filter()?),
            Ask::FromZero => AppendCondition::fail_if_events_match(absent.filter()?).after_position(0),
            Ask::Present => {
                let there = self.library.boundary(self.number);
                let ids = [Predicate::payload("BookID", there.book), Predicate::payload("ReaderID", there.reader)];
                let filter = Filter::matching().any_type_of(UNKNOWN).and_any_predicate_of(ids).finish()?;
                AppendCondition::fail_if_events_match(filter)
            }
        })
    }
}

impl Worker for Aside {
    async fn step(&mut self) -> Outcome<Step> {
        self.number += 1;
        let boundary = self.library.absent(self.number);
        let event = self.library.aside(boundary, self.number).event()?;
        self.store.append([event], self.condition(boundary)?).await?;
        Ok(Step { counts: !matches!(self.ask, Ask::FromZero), ..Step::WRITTEN })
    }
}

/// One such task.
pub(crate) fn aside(store: &PostgresEventStore, library: &Library, ask: Ask) -> Crew<Aside> {
    Crew { workers: vec![Aside::new(store, library, ask)], connections: 1, table: Some(LOG) }
}

/// The tasks of `old_after_slowdown`.
pub(crate) enum Mixed {
    Guarded(Guarded),
    FromZero(Aside),
}

impl Worker for Mixed {
    async fn begin(&mut self) -> Outcome {
        match self {
            Self::Guarded(guarded) => guarded.begin().await,
            Self::FromZero(from_zero) => from_zero.begin().await,
        }
    }

    async fn step(&mut self) -> Outcome<Step> {
        match self {
            Self::Guarded(guarded) => guarded.step().await,
            Self::FromZero(from_zero) => from_zero.step().await,
        }
    }
}

/// The usual tasks, and one more, which sends `after` 0.
pub(crate) fn mixed(usual: Crew<Guarded>, store: &PostgresEventStore, library: &Library) -> Crew<Mixed> {
    let mut workers: Vec<Mixed> = usual.workers.into_iter().map(Mixed::Guarded).collect();
    let old = Aside::new(store, library, Ask::FromZero);
    workers.push(Mixed::FromZero(old));
    Crew { workers, connections: usual.connections, table: usual.table }
}

/// Checks that the guard works: a decision on the past of a boundary is refused, and only decisions on its present are
/// written.
pub(crate) async fn prove(store: &PostgresEventStore, library: &Library, number: u64) -> Outcome {
    let boundary = library.boundary(number);
    let history = store.query(&boundary.filter()?).await?;
    if history.is_empty() {
        return Err("the log has no event of a boundary of the fixture".into());
    }
    store.append([library.next(boundary, 1).event()?], history.unchanged()).await?;
    let stale = store.append([library.next(boundary, 2).event()?], history.unchanged()).await;
    match stale {
        Err(error) if error.is_conflict() => Ok(()),
        Err(error) => Err(error.into()),
        Ok(_) => Err("a decision on the past was written: these appends are not guarded".into()),
    }
}
