//! The six commands. A command is decided on its model; the result is its decision.

use mainstem::{Command, Decision, Result};
use serde::{Deserialize, Serialize};

use super::{
    events::LibraryEvent,
    state::{Copy, Reader},
};

/// How many copies a reader may have at the same time.
pub(crate) const MOST_COPIES: usize = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("the copy is not in circulation")]
    NotInCirculation,
    #[error("the copy is lent out")]
    LentOut,
    #[error("the copy is lent to somebody else")]
    LentToAnother,
    #[error("the reader has no contract")]
    NoContract,
    #[error("the reader has copies")]
    HasCopies,
    #[error("the reader has as many copies as are allowed")]
    TooManyCopies,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct AddCopy {
    pub(crate) copy: u32,
    pub(crate) title: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RemoveCopy {
    pub(crate) copy: u32,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RegisterReader {
    pub(crate) reader: u32,
    pub(crate) name: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct CancelContract {
    pub(crate) reader: u32,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct LendCopy {
    pub(crate) copy: u32,
    pub(crate) reader: u32,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ReturnCopy {
    pub(crate) copy: u32,
    pub(crate) reader: u32,
}

fn happens(event: LibraryEvent) -> Result<Decision<Refusal>> {
    Ok(Decision::append([event.into_event()?]))
}

fn refused(reason: Refusal, event: LibraryEvent) -> Result<Decision<Refusal>> {
    Ok(Decision::refuse_and_append(reason, [event.into_event()?]))
}

impl Command for AddCopy {
    type Model = Copy;
    type Refusal = Refusal;

    fn model(&self) -> Copy {
        Copy::with_id(self.copy)
    }

    fn decide(&self, copy: &Copy) -> Result<Decision<Refusal>> {
        if copy.is_in_circulation {
            return Ok(Decision::nothing());
        }
        happens(LibraryEvent::CopyAdded { copy: self.copy, title: self.title.clone() })
    }
}

impl Command for RemoveCopy {
    type Model = Copy;
    type Refusal = Refusal;

    fn model(&self) -> Copy {
        Copy::with_id(self.copy)
    }

    fn decide(&self, copy: &Copy) -> Result<Decision<Refusal>> {
        if !copy.is_in_circulation {
            Ok(Decision::nothing())
        } else if copy.lent_to.is_some() {
            let reason = Refusal::LentOut;
            refused(reason, LibraryEvent::CopyRemovalRefused { copy: self.copy, reason })
        } else {
            happens(LibraryEvent::CopyRemoved { copy: self.copy })
        }
    }
}

impl Command for RegisterReader {
    type Model = Reader;
    type Refusal = Refusal;

    fn model(&self) -> Reader {
        Reader::with_id(self.reader)
    }

    fn decide(&self, reader: &Reader) -> Result<Decision<Refusal>> {
        if reader.has_contract {
            return Ok(Decision::nothing());
        }
        happens(LibraryEvent::ReaderRegistered { reader: self.reader, name: self.name.clone() })
    }
}

impl Command for CancelContract {
    type Model = Reader;
    type Refusal = Refusal;

    fn model(&self) -> Reader {
        Reader::with_id(self.reader)
    }

    fn decide(&self, reader: &Reader) -> Result<Decision<Refusal>> {
        if !reader.has_contract {
            Ok(Decision::nothing())
        } else if !reader.copies.is_empty() {
            let reason = Refusal::HasCopies;
            refused(reason, LibraryEvent::CancellationRefused { reader: self.reader, reason })
        } else {
            happens(LibraryEvent::ContractCancelled { reader: self.reader })
        }
    }
}

impl Command for LendCopy {
    type Model = (Copy, Reader);
    type Refusal = Refusal;

    fn model(&self) -> (Copy, Reader) {
        (Copy::with_id(self.copy), Reader::with_id(self.reader))
    }

    fn decide(&self, (of_copy, of_reader): &(Copy, Reader)) -> Result<Decision<Refusal>> {
        let Self { copy, reader } = *self;
        let reason = match of_copy.lent_to {
            Some(holder) if holder == reader => return Ok(Decision::nothing()),
            Some(_) => Refusal::LentOut,
            None if !of_copy.is_in_circulation => Refusal::NotInCirculation,
            None if !of_reader.has_contract => Refusal::NoContract,
            None if of_reader.copies.len() >= MOST_COPIES => Refusal::TooManyCopies,
            None => return happens(LibraryEvent::CopyLent { copy, reader }),
        };
        refused(reason, LibraryEvent::LendingRefused { copy, reader, reason })
    }
}

impl Command for ReturnCopy {
    /// Only who has the copy counts, and only that must not change in the meantime.
    type Model = Copy;
    type Refusal = Refusal;

    fn model(&self) -> Copy {
        Copy::with_id(self.copy)
    }

    fn decide(&self, of_copy: &Copy) -> Result<Decision<Refusal>> {
        let Self { copy, reader } = *self;
        let reason = match of_copy.lent_to {
            Some(holder) if holder == reader => return happens(LibraryEvent::CopyReturned { copy, reader }),
            Some(_) => Refusal::LentToAnother,
            None if of_copy.is_in_circulation => return Ok(Decision::nothing()),
            None => Refusal::NotInCirculation,
        };
        refused(reason, LibraryEvent::ReturnRefused { copy, reader, reason })
    }
}
