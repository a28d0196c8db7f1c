//! What can happen. Refusals are events, too: the library wants to know what its readers could not get.

use std::sync::LazyLock;

use mainstem::{EventCodec, NewEvent, Result};
use serde::{Deserialize, Serialize};

use super::commands::Refusal;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum LibraryEvent {
    CopyAdded { copy: u32, title: String },
    CopyRemoved { copy: u32 },
    CopyRemovalRefused { copy: u32, reason: Refusal },
    ReaderRegistered { reader: u32, name: String },
    ContractCancelled { reader: u32 },
    CancellationRefused { reader: u32, reason: Refusal },
    CopyLent { copy: u32, reader: u32 },
    LendingRefused { copy: u32, reader: u32, reason: Refusal },
    CopyReturned { copy: u32, reader: u32 },
    ReturnRefused { copy: u32, reader: u32, reason: Refusal },
}

pub(crate) static CODEC: LazyLock<EventCodec<LibraryEvent>> = LazyLock::new(EventCodec::new);

impl LibraryEvent {
    /// The event to append, with the tags of its copy and its reader.
    pub(crate) fn into_event(self) -> Result<NewEvent> {
        let (copy, reader) = match self {
            Self::CopyAdded { copy, .. } | Self::CopyRemoved { copy } | Self::CopyRemovalRefused { copy, .. } => {
                (Some(copy), None)
            }
            Self::ReaderRegistered { reader, .. }
            | Self::ContractCancelled { reader }
            | Self::CancellationRefused { reader, .. } => (None, Some(reader)),
            Self::CopyLent { copy, reader }
            | Self::LendingRefused { copy, reader, .. }
            | Self::CopyReturned { copy, reader }
            | Self::ReturnRefused { copy, reader, .. } => (Some(copy), Some(reader)),
        };
        let event = CODEC.encode(&self)?;
        Ok(event.with_tags(copy.map(copy_tag)).with_tags(reader.map(reader_tag)))
    }
}

pub(crate) fn copy_tag(copy: u32) -> String {
    format!("copy:{copy}")
}

pub(crate) fn reader_tag(reader: u32) -> String {
    format!("reader:{reader}")
}
