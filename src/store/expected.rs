//! Appending to a fixed stream: which one, and at which version.

use std::sync::Arc;

use super::refusal;
use crate::{Error, Event, EventId, Result, StreamPlace, event::check_stream};

/// The version that a fixed stream must have for an append to be written.
///
/// ```
/// # use mainstem::{AppendCondition, EventStore, ExpectedVersion, MemoryEventStore, NewEvent};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> mainstem::Result<()> {
/// let store = MemoryEventStore::new();
/// let opened = NewEvent::new("AccountOpened", &())?;
/// store.append([opened], AppendCondition::none()).to_stream("account-1", ExpectedVersion::NoStream).await?;
///
/// let account = store.load_stream("account-1").await?;
/// let paid = NewEvent::new("PaidIn", &100)?;
/// let expected = account.unchanged();
/// let appended = store.append([paid], AppendCondition::none()).to_stream("account-1", expected).await?;
/// assert_eq!(appended.stream_versions(), Some(2..=2));
///
/// // Whoever has decided on the same version comes too late.
/// let late = NewEvent::new("PaidOut", &100)?;
/// let error = store.append([late], AppendCondition::none()).to_stream("account-1", expected).await.unwrap_err();
/// assert_eq!(error.version_mismatch().map(|it| (it.expected, it.actual)), Some((1, 2)));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ExpectedVersion {
    /// Any version.
    #[default]
    Any,
    /// The stream must have no event yet. [`Exact(0)`](Self::Exact) means the same.
    NoStream,
    /// Exactly this version.
    ///
    /// **Unfenced**: after a failover or a restore that lost events of the stream, other events may have the same
    /// versions, and this does not detect it. [`LoadedStream::unchanged`](crate::LoadedStream::unchanged) does.
    Exact(u64),
    /// Exactly this version, with this event as the last one, which the decision was based on. If another event is
    /// there, the append fails with [`LogDiverged`](crate::ErrorKind::LogDiverged).
    Event {
        /// The version, from 1.
        version: u64,
        /// The id of the event that has it.
        id: EventId,
    },
}

impl ExpectedVersion {
    /// Returns the required version, 0 for a stream without events; `None` for any.
    #[must_use]
    pub fn version(self) -> Option<u64> {
        match self {
            Self::Any => None,
            Self::NoStream => Some(0),
            Self::Exact(version) | Self::Event { version, .. } => Some(version),
        }
    }

    /// Returns the event that must be the last one, if one is required.
    #[must_use]
    pub fn event_id(self) -> Option<EventId> {
        match self {
            Self::Event { id, .. } => Some(id),
            Self::Any | Self::NoStream | Self::Exact(_) => None,
        }
    }
}

/// The stream that an append goes to, and what must be true of it; for implementors of stores.
///
/// It is checked after the condition, with nothing between the check and the write. The events get the versions after
/// the last existing one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StreamAppend {
    /// The id of the stream, already validated.
    pub id: Arc<str>,
    /// The version that the stream must have before the append.
    pub expected: ExpectedVersion,
}

impl StreamAppend {
    pub(super) fn new(id: Arc<str>, expected: ExpectedVersion) -> Self {
        Self { id, expected }
    }

    pub(super) fn check(&self) -> Result<()> {
        check_stream(&self.id).map_err(Error::invalid_input)?;
        match self.expected {
            ExpectedVersion::Event { version: 0, .. } => {
                Err(Error::invalid_input("no event of a stream has the version 0: the first one has 1"))
            }
            _ => Ok(()),
        }
    }

    /// Checks whether the stream, given its last event, is as expected.
    ///
    /// # Errors
    ///
    /// [`Conflict`](crate::ErrorKind::Conflict) with the [mismatch](Error::version_mismatch) if it has another version,
    /// and [`LogDiverged`](crate::ErrorKind::LogDiverged) if another event has that version.
    pub fn judge(&self, last: Option<&Event>) -> Result<()> {
        let actual = last.and_then(Event::stream).map_or(0, StreamPlace::version);
        match (self.expected.version(), self.expected.event_id()) {
            (Some(expected), _) if expected != actual => Err(refusal::version(&self.id, expected, actual)),
            (_, Some(id)) if last.is_none_or(|last| last.id() != id) => Err(refusal::replaced(&self.id, actual)),
            _ => Ok(()),
        }
    }
}
