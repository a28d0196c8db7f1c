//! One hot boundary: read what is new, append, and on a conflict do so again.
//!
//! Both sides read only what was added since their last read, as a caller with a snapshot does. The whole boundary
//! would be longer for the faster side.

use mainstem::{AppendCondition, EventStore, Filter, Mark, PostgresEventStore};

use crate::{
    Outcome,
    fill::LOG,
    library::{Boundary, Library},
    origin::{ORIGIN, Origin},
    side::{Crew, Step, Worker},
};

/// Makes the origin's statement safe: a lock taken before the statement, whose snapshot must be newer than the lock.
/// All of it is one message, which is a transaction of its own.
const LOCKED: (&str, &str) = ("BEGIN; SELECT pg_advisory_xact_lock(1); ", "; COMMIT");

/// A task of the store's side.
pub(crate) struct Ours {
    store: PostgresEventStore,
    library: Library,
    boundary: Boundary,
    filter: Filter,
    known: Option<Mark>,
    number: u64,
}

pub(crate) fn ours(
    store: &PostgresEventStore,
    library: &Library,
    hot: u64,
    tasks: u64,
    connections: u32,
) -> Outcome<Crew<Ours>> {
    let boundary = library.boundary(hot);
    let ours = |task| {
        let number = task << 32;
        let filter = boundary.filter()?;
        Ok(Ours { store: store.clone(), library: *library, boundary, filter, known: None, number })
    };
    let workers = (0..tasks).map(ours).collect::<Outcome<_>>()?;
    Ok(Crew { workers, connections: usize::try_from(connections)?, table: Some(LOG) })
}

impl Worker for Ours {
    async fn begin(&mut self) -> Outcome {
        self.known = self.store.query(&self.filter).await?.head();
        Ok(())
    }

    async fn step(&mut self) -> Outcome<Step> {
        self.number += 1;
        let draft = self.library.next(self.boundary, self.number);
        let mut conflicts = 0;
        loop {
            let after = self.known.map_or(0, |mark| mark.position());
            let news = self.store.query(&self.filter.clone().after_position(after)).await?;
            let head = news.head().ok_or("the log is empty")?;
            self.known = Some(head);
            let condition = AppendCondition::fail_if_events_match(self.filter.clone()).after(head);
            match self.store.append([draft.event()?], condition).await {
                Ok(_) => return Ok(Step { conflicts, ..Step::WRITTEN }),
                Err(error) if error.is_conflict() => conflicts += 1,
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// A task of the origin's side.
pub(crate) struct Theirs {
    origin: Origin,
    library: Library,
    boundary: Boundary,
    known: i64,
    number: u64,
}

pub(crate) async fn theirs(url: &str, library: &Library, hot: u64, tasks: u64) -> Outcome<Crew<Theirs>> {
    let boundary = library.boundary(hot);
    let mut workers = Vec::new();
    for task in 0..tasks {
        let origin = Origin::connect(url).await?;
        workers.push(Theirs { origin, library: *library, boundary, known: 0, number: task << 32 });
    }
    Ok(Crew { connections: workers.len(), workers, table: Some(ORIGIN) })
}

impl Worker for Theirs {
    async fn begin(&mut self) -> Outcome {
        self.known = self.origin.last(&self.boundary, 0).await?;
        Ok(())
    }

    async fn step(&mut self) -> Outcome<Step> {
        self.number += 1;
        let draft = self.library.next(self.boundary, self.number);
        let mut conflicts = 0;
        loop {
            self.known = self.origin.last(&self.boundary, self.known).await?;
            let (before, behind) = LOCKED;
            let written = self.origin.append(before, &self.boundary, self.known, &draft, behind).await?;
            if written.is_some() {
                return Ok(Step { conflicts, ..Step::WRITTEN });
            }
            conflicts += 1;
        }
    }
}
