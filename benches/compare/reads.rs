//! Workers that read the events of one decision after another.

use std::time::Duration;

use mainstem::{EventStore, PostgresEventStore};
use tokio::time::{Instant, sleep_until};

use crate::{
    Outcome,
    bare::Bare,
    fill::LOG,
    guarded::Guarded,
    library::{Boundary, Library},
    origin::Origin,
    side::{Boxed, Crew, Sample, Side, Step, Table, Worker, begin, drive},
};

/// The decisions to read, in an order that does not help a page cache, the same for all sides.
#[derive(Clone, Copy)]
pub(crate) struct Course {
    library: Library,
    next: u64,
}

impl Course {
    /// The first decisions are the ones that `append` writes to.
    const RESERVED: u64 = 300;
    const STRIDE: u64 = 7919;

    pub(crate) fn new(library: &Library) -> Self {
        Self { library: *library, next: 0 }
    }

    pub(crate) fn next(&mut self) -> Boundary {
        self.next += 1;
        let free = self.library.boundaries() - Self::RESERVED;
        self.library.boundary(Self::RESERVED + self.next * Self::STRIDE % free)
    }
}

/// The store's query, including its filter.
pub(crate) struct OursRead {
    store: PostgresEventStore,
    course: Course,
}

pub(crate) fn ours(store: &PostgresEventStore, library: &Library) -> Crew<OursRead> {
    let workers = vec![OursRead { store: store.clone(), course: Course::new(library) }];
    Crew { workers, connections: 1, table: None }
}

impl Worker for OursRead {
    async fn step(&mut self) -> Outcome<Step> {
        let history = self.store.query(&self.course.next().filter()?).await?;
        found(history.len() as u64)
    }
}

/// The same by hand.
pub(crate) struct BareRead {
    bare: Bare,
    course: Course,
}

pub(crate) fn bare(bare: Bare, library: &Library) -> Crew<BareRead> {
    Crew { workers: vec![BareRead { bare, course: Course::new(library) }], connections: 1, table: None }
}

impl Worker for BareRead {
    async fn step(&mut self) -> Outcome<Step> {
        let read = self.bare.read(&self.course.next()).await?;
        read.head.ok_or("no head")?;
        found(read.events.len() as u64)
    }
}

/// The same with the origin.
pub(crate) struct OriginRead {
    origin: Origin,
    course: Course,
}

pub(crate) fn origin(origin: Origin, library: &Library) -> Crew<OriginRead> {
    Crew { workers: vec![OriginRead { origin, course: Course::new(library) }], connections: 1, table: None }
}

impl Worker for OriginRead {
    async fn step(&mut self) -> Outcome<Step> {
        let events = self.origin.read(&self.course.next(), 0).await?;
        found(events.len() as u64)
    }
}

fn found(events: u64) -> Outcome<Step> {
    if events == 0 { Err("a decision of the fixture has no events".into()) } else { Ok(Step::READ) }
}

/// The store's query while others append through the same store.
pub(crate) struct UnderAppends {
    pub(crate) reads: Crew<OursRead>,
    pub(crate) appends: Vec<Paced>,
    pub(crate) connections: usize,
}

impl Side for UnderAppends {
    fn connections(&self) -> usize {
        self.connections
    }

    fn table(&self) -> Option<Table> {
        Some(LOG)
    }

    fn run(&mut self, span: Duration) -> Boxed<'_, Outcome<Sample>> {
        Box::pin(async move {
            begin(&mut self.appends).await?;
            let (reads, appends) = tokio::join!(drive(&mut self.reads.workers, span), drive(&mut self.appends, span));
            let mut reads = reads?;
            reads.written = appends?.written;
            Ok(reads)
        })
    }
}

/// Appends at a fixed rate, if the store keeps up.
pub(crate) struct Paced {
    pub(crate) guarded: Guarded,
    pub(crate) pause: Duration,
    pub(crate) next: Instant,
}

impl Worker for Paced {
    async fn begin(&mut self) -> Outcome {
        self.guarded.begin().await
    }

    async fn step(&mut self) -> Outcome<Step> {
        sleep_until(self.next).await;
        self.next = (self.next + self.pause).max(Instant::now());
        self.guarded.step().await
    }
}
