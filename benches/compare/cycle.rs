//! Workers that read what a decision is about, decide, and append: the whole cycle of a command.

use mainstem::{
    Command, CommandExecutor, Decision, Event, Filter, NewEvent, PostgresEventStore, Predicate, Projection,
};

use crate::{
    Outcome,
    bare::Bare,
    fill::LOG,
    insert::{Insert, PLAIN},
    library::{Boundary, DECISIVE, Library},
    origin::{ORIGIN, Origin},
    reads::Course,
    side::{Crew, Step, Worker},
};

/// The store's cycle: a model of two parts, each with its own filter, and an executor.
pub(crate) struct Ours {
    executor: CommandExecutor,
    next: Next,
}

/// The same by hand, as far as possible without a condition: the read, and a plain INSERT.
pub(crate) struct ByHand {
    bare: Bare,
    insert: Insert,
    next: Next,
}

/// The origin's cycle: its two statements.
pub(crate) struct Theirs {
    origin: Origin,
    next: Next,
}

/// The sequence of decisions, the same for all sides.
struct Next {
    library: Library,
    course: Course,
    number: u64,
}

impl Next {
    fn new(library: &Library) -> Self {
        Self { library: *library, course: Course::new(library), number: 0 }
    }

    fn decision(&mut self) -> (Boundary, u64) {
        self.number += 1;
        (self.course.next(), self.number)
    }
}

pub(crate) fn ours(store: &PostgresEventStore, library: &Library) -> Crew<Ours> {
    let executor = CommandExecutor::new(store.clone());
    Crew { workers: vec![Ours { executor, next: Next::new(library) }], connections: 1, table: Some(LOG) }
}

pub(crate) fn by_hand(bare: Bare, insert: Insert, library: &Library) -> Crew<ByHand> {
    Crew { workers: vec![ByHand { bare, insert, next: Next::new(library) }], connections: 2, table: Some(PLAIN) }
}

/// Begins after so many decisions: what one lane has written about lately, the other one would find at the end of the table.
pub(crate) fn theirs(origin: Origin, library: &Library, skipped: u64) -> Crew<Theirs> {
    let mut next = Next::new(library);
    for _ in 0..skipped {
        let _ = next.decision();
    }
    Crew { workers: vec![Theirs { origin, next }], connections: 1, table: Some(ORIGIN) }
}

/// A copy or a reader, and how many of it are lent.
struct Lent {
    id: Predicate,
    lent: i64,
}

impl Projection for Lent {
    fn filter(&self) -> mainstem::Result<Filter> {
        Filter::matching().any_type_of(DECISIVE).and_any_predicate_of([self.id.clone()]).finish()
    }

    fn apply(&mut self, event: &Event) -> mainstem::Result<()> {
        self.lent += match event.event_type() {
            "BookCopyLentToReader" => 1,
            "BookCopyReturnedByReader" => -1,
            _ => 0,
        };
        Ok(())
    }
}

struct Lend {
    library: Library,
    boundary: Boundary,
    number: u64,
}

impl Command for Lend {
    type Model = (Lent, Lent);
    type Refusal = &'static str;

    fn model(&self) -> (Lent, Lent) {
        let Boundary { book, reader } = self.boundary;
        (
            Lent { id: Predicate::payload("BookID", book), lent: 0 },
            Lent { id: Predicate::payload("ReaderID", reader), lent: 0 },
        )
    }

    fn decide(&self, (copy, reader): &(Lent, Lent)) -> mainstem::Result<Decision<&'static str>> {
        // Only the work matters: in a generated history anything may be lent.
        if copy.lent.saturating_add(reader.lent) == i64::MAX {
            return Ok(Decision::refuse("too many"));
        }
        let draft = self.library.next(self.boundary, self.number);
        let event = NewEvent::new(draft.event_type, &draft.payload)?.with_metadata(&draft.metadata)?;
        Ok(Decision::append([event]))
    }
}

impl Worker for Ours {
    async fn step(&mut self) -> Outcome<Step> {
        let (boundary, number) = self.next.decision();
        let executed = self.executor.execute(&Lend { library: self.next.library, boundary, number }).await?;
        match executed.attempts.decisions {
            1 => Ok(Step::WRITTEN),
            more => Err(format!("{more} decisions, and nobody was in the way").into()),
        }
    }
}

impl Worker for ByHand {
    async fn step(&mut self) -> Outcome<Step> {
        let (boundary, number) = self.next.decision();
        let read = self.bare.read(&boundary).await?;
        read.head.ok_or("no head")?;
        self.insert.put(&self.next.library.next(boundary, number)).await?;
        Ok(Step::WRITTEN)
    }
}

impl Worker for Theirs {
    async fn step(&mut self) -> Outcome<Step> {
        let (boundary, number) = self.next.decision();
        let last = self.origin.last(&boundary, 0).await?;
        let draft = self.next.library.next(boundary, number);
        let written = self.origin.append("", &boundary, last, &draft, "").await?;
        written.map(|_| Step::WRITTEN).ok_or_else(|| "the origin's guard refused an append without a reason".into())
    }
}
