//! The seven queries: projections with snapshots, read from the node that the scope selects.

use std::collections::{BTreeMap, BTreeSet};

use mainstem::{DecisionModel, Event, Filter, Projection, Result, SnapshotStore};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::events::{CODEC, LibraryEvent, reader_tag};

/// Starts from the last snapshot. A new snapshot is saved once every hundred events.
pub(crate) async fn answer<Q: Query>(store: &impl SnapshotStore, query: Q) -> Result<Q> {
    Ok(query.resume_from(store, Q::NAME, 1)?.await?.into_state())
}

pub(crate) trait Query: Projection + Serialize + DeserializeOwned {
    const NAME: &'static str;
}

macro_rules! queries {
    ($($(#[$doc:meta])* $query:ident { $($field:ident: $type:ty),+ } = $name:literal, [$($event:literal),+];)+) => { $(
        $(#[$doc])*
        #[derive(Debug, Default, Serialize, Deserialize)]
        pub(crate) struct $query {
            $(pub(crate) $field: $type,)+
        }

        impl Query for $query {
            const NAME: &'static str = $name;
        }

        impl Projection for $query {
            fn filter(&self) -> Result<Filter> {
                let filter = Filter::matching().any_type_of([$($event),+]);
                match self.tag() {
                    Some(tag) => filter.and_all_tags_of([tag]).finish(),
                    None => filter.finish(),
                }
            }

            fn apply(&mut self, event: &Event) -> Result<()> {
                CODEC.decode(event)?.into_iter().for_each(|event| self.when(event));
                Ok(())
            }
        }
    )+ };
}

queries! {
    CopiesInCirculation { titles: BTreeMap<u32, String> } = "copies in circulation", ["CopyAdded", "CopyRemoved"];
    RemovedCopies { copies: BTreeSet<u32> } = "removed copies", ["CopyAdded", "CopyRemoved"];
    /// The copies, and who has them.
    CopiesLentOut { lent: BTreeMap<u32, u32> } = "copies lent out", ["CopyLent", "CopyReturned"];
    CopiesLentByReader { reader: u32, copies: BTreeSet<u32> } = "copies lent by reader", ["CopyLent", "CopyReturned"];
    RegisteredReaders { names: BTreeMap<u32, String> } = "registered readers", ["ReaderRegistered", "ContractCancelled"];
    CancelledReaders { readers: BTreeSet<u32> } = "cancelled readers", ["ReaderRegistered", "ContractCancelled"];
    /// How often each copy came back.
    FinishedLendings { of_copies: BTreeMap<u32, u64> } = "finished lendings", ["CopyReturned"];
}

/// How an answer changes with an event, and the tag of its events if it is about one thing.
trait When {
    fn when(&mut self, event: LibraryEvent);

    fn tag(&self) -> Option<String> {
        None
    }
}

impl When for CopiesInCirculation {
    fn when(&mut self, event: LibraryEvent) {
        match event {
            LibraryEvent::CopyAdded { copy, title } => drop(self.titles.insert(copy, title)),
            LibraryEvent::CopyRemoved { copy } => drop(self.titles.remove(&copy)),
            _ => {}
        }
    }
}

impl When for RemovedCopies {
    fn when(&mut self, event: LibraryEvent) {
        match event {
            LibraryEvent::CopyAdded { copy, .. } => drop(self.copies.remove(&copy)),
            LibraryEvent::CopyRemoved { copy } => drop(self.copies.insert(copy)),
            _ => {}
        }
    }
}

impl When for CopiesLentOut {
    fn when(&mut self, event: LibraryEvent) {
        match event {
            LibraryEvent::CopyLent { copy, reader } => drop(self.lent.insert(copy, reader)),
            LibraryEvent::CopyReturned { copy, .. } => drop(self.lent.remove(&copy)),
            _ => {}
        }
    }
}

impl When for CopiesLentByReader {
    fn when(&mut self, event: LibraryEvent) {
        match event {
            LibraryEvent::CopyLent { copy, .. } => drop(self.copies.insert(copy)),
            LibraryEvent::CopyReturned { copy, .. } => drop(self.copies.remove(&copy)),
            _ => {}
        }
    }

    fn tag(&self) -> Option<String> {
        Some(reader_tag(self.reader))
    }
}

impl When for RegisteredReaders {
    fn when(&mut self, event: LibraryEvent) {
        match event {
            LibraryEvent::ReaderRegistered { reader, name } => drop(self.names.insert(reader, name)),
            LibraryEvent::ContractCancelled { reader } => drop(self.names.remove(&reader)),
            _ => {}
        }
    }
}

impl When for CancelledReaders {
    fn when(&mut self, event: LibraryEvent) {
        match event {
            LibraryEvent::ReaderRegistered { reader, .. } => drop(self.readers.remove(&reader)),
            LibraryEvent::ContractCancelled { reader } => drop(self.readers.insert(reader)),
            _ => {}
        }
    }
}

impl When for FinishedLendings {
    fn when(&mut self, event: LibraryEvent) {
        if let LibraryEvent::CopyReturned { copy, .. } = event {
            *self.of_copies.entry(copy).or_default() += 1;
        }
    }
}
