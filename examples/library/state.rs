//! What decisions are based on: a copy, a reader.

use std::collections::BTreeSet;

use mainstem::{Event, Filter, Projection, Result};

use super::events::{CODEC, LibraryEvent, copy_tag, reader_tag};

#[derive(Debug, Default)]
pub(crate) struct Copy {
    id: u32,
    pub(crate) is_in_circulation: bool,
    pub(crate) lent_to: Option<u32>,
}

#[derive(Debug, Default)]
pub(crate) struct Reader {
    id: u32,
    pub(crate) has_contract: bool,
    pub(crate) copies: BTreeSet<u32>,
}

impl Copy {
    pub(crate) fn with_id(id: u32) -> Self {
        Self { id, ..Self::default() }
    }
}

impl Reader {
    pub(crate) fn with_id(id: u32) -> Self {
        Self { id, ..Self::default() }
    }
}

impl Projection for Copy {
    fn filter(&self) -> Result<Filter> {
        let types = ["CopyAdded", "CopyRemoved", "CopyLent", "CopyReturned"];
        Filter::matching().any_type_of(types).and_all_tags_of([copy_tag(self.id)]).finish()
    }

    fn apply(&mut self, event: &Event) -> Result<()> {
        match CODEC.decode(event)? {
            Some(LibraryEvent::CopyAdded { .. }) => self.is_in_circulation = true,
            Some(LibraryEvent::CopyRemoved { .. }) => self.is_in_circulation = false,
            Some(LibraryEvent::CopyLent { reader, .. }) => self.lent_to = Some(reader),
            Some(LibraryEvent::CopyReturned { .. }) => self.lent_to = None,
            _ => {}
        }
        Ok(())
    }
}

impl Projection for Reader {
    fn filter(&self) -> Result<Filter> {
        let types = ["ReaderRegistered", "ContractCancelled", "CopyLent", "CopyReturned"];
        Filter::matching().any_type_of(types).and_all_tags_of([reader_tag(self.id)]).finish()
    }

    fn apply(&mut self, event: &Event) -> Result<()> {
        match CODEC.decode(event)? {
            Some(LibraryEvent::ReaderRegistered { .. }) => self.has_contract = true,
            Some(LibraryEvent::ContractCancelled { .. }) => self.has_contract = false,
            Some(LibraryEvent::CopyLent { copy, .. }) => drop(self.copies.insert(copy)),
            Some(LibraryEvent::CopyReturned { copy, .. }) => drop(self.copies.remove(&copy)),
            _ => {}
        }
        Ok(())
    }
}
