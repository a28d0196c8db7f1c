//! Appenders: tasks with a boundary each, under the condition that nobody else has written there.

use mainstem::{AppendCondition, EventStore, Filter, NewEvent, PostgresEventStore};

use super::payload::Padded;
use crate::{
    Outcome,
    library::{Boundary, Library},
    side::{Step, Worker},
};

/// The numbers of one process. Another load on the same boundaries must not write the same events: the origin's index on
/// metadata would hardly grow.
const NUMBERS: u64 = 1 << 32;

pub(super) struct Appender {
    store: PostgresEventStore,
    library: Library,
    boundary: Boundary,
    filter: Filter,
    condition: AppendCondition,
    /// None for the library's own payloads.
    payload: Option<u64>,
    number: u64,
}

impl Appender {
    pub(super) fn new(
        store: &PostgresEventStore,
        library: &Library,
        number: u64,
        payload: Option<u64>,
    ) -> Outcome<Self> {
        let boundary = library.boundary(number);
        let (filter, condition) = (boundary.filter()?, AppendCondition::none());
        Ok(Self {
            store: store.clone(),
            library: *library,
            boundary,
            filter,
            condition,
            payload,
            number: NUMBERS * u64::from(std::process::id()),
        })
    }
}

impl Worker for Appender {
    /// Decides on the log's head: nobody else writes in its boundary, so its events need not be read.
    async fn begin(&mut self) -> Outcome {
        let head = self.store.query(&self.library.absent(self.number).filter()?).await?.head();
        let head = head.ok_or("the log is empty")?;
        self.condition = AppendCondition::fail_if_events_match(self.filter.clone()).after(head);
        Ok(())
    }

    async fn step(&mut self) -> Outcome<Step> {
        self.number += 1;
        let draft = self.library.next(self.boundary, self.number);
        let event = match self.payload {
            None => draft.event()?,
            Some(bytes) => {
                let padded = Padded::new(self.boundary, self.number, bytes)?;
                NewEvent::new(draft.event_type, &padded)?.with_metadata(&draft.metadata)?
            }
        };
        let appended = self.store.append([event], self.condition.clone()).await?;
        self.condition = AppendCondition::fail_if_events_match(self.filter.clone()).after(appended.last());
        Ok(Step::WRITTEN)
    }
}
