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
    /// Whatever it has.
    #[default]
    Any,
    /// None: there must be no event of the stream yet. [`Exact(0)`](Self::Exact) means the same.
    NoStream,
    /// Just this one.
    ///
    /// **Unfenced**: after a failover or a restore that lost events of the stream, others may have the same versions, and this does not
    /// notice. What [`LoadedStream::unchanged`](crate::LoadedStream::unchanged) gives does.
    Exact(u64),
    /// Just this one, with this event as the last one: what a decision was made of. With another event there the append fails with
    /// [`LogDiverged`](crate::ErrorKind::LogDiverged).
    Event {
        /// The version, from 1.
        version: u64,
        /// The id of the event that has it.
        id: EventId,
    },
}

impl ExpectedVersion {
    /// The version that is asked for, 0 for a stream without events; `None` for any.
    #[must_use]
    pub fn version(self) -> Option<u64> {
        match self {
            Self::Any => None,
            Self::NoStream => Some(0),
            Self::Exact(version) | Self::Event { version, .. } => Some(version),
        }
    }

    /// The event that must be the last one, if one is asked for.
    #[must_use]
    pub fn event_id(self) -> Option<EventId> {
        match self {
            Self::Event { id, .. } => Some(id),
            Self::Any | Self::NoStream | Self::Exact(_) => None,
        }
    }
}

/// For the makers of stores: the stream that an append belongs to, and what must be true of it.
///
/// It is judged behind the condition, with nothing between it and the write. The events get the versions behind the last
/// one that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StreamAppend {
    /// The id of the stream, which is checked already.
    pub id: Arc<str>,
    /// The version that it must have before.
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

    /// Whether the stream, whose last event this is, is as expected.
    ///
    /// # Errors
    ///
    /// [`Conflict`](crate::ErrorKind::Conflict) with the [mismatch](Error::version_mismatch) when it has another version, and
    /// [`LogDiverged`](crate::ErrorKind::LogDiverged) when another event has it.
    pub fn judge(&self, last: Option<&Event>) -> Result<()> {
        let actual = last.and_then(Event::stream).map_or(0, StreamPlace::version);
        match (self.expected.version(), self.expected.event_id()) {
            (Some(expected), _) if expected != actual => Err(refusal::version(&self.id, expected, actual)),
            (_, Some(id)) if last.is_none_or(|last| last.id() != id) => Err(refusal::replaced(&self.id, actual)),
            _ => Ok(()),
        }
    }
}
