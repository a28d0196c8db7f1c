//! Appending to a fixed stream: which one, and at which version.

use std::sync::Arc;

use super::refusal;
use crate::{Error, Result, event::check_stream};

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
/// let expected = ExpectedVersion::Exact(account.version());
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
    Exact(u64),
}

impl ExpectedVersion {
    /// The version that is asked for, 0 for a stream without events; `None` for any.
    #[must_use]
    pub fn version(self) -> Option<u64> {
        match self {
            Self::Any => None,
            Self::NoStream => Some(0),
            Self::Exact(version) => Some(version),
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
        check_stream(&self.id).map_err(Error::invalid_input)
    }

    /// Whether the stream, whose last event has the version `actual`, 0 for none, is as expected.
    ///
    /// # Errors
    ///
    /// [`Conflict`](crate::ErrorKind::Conflict) with the [mismatch](Error::version_mismatch), when it is not.
    pub fn judge(&self, actual: u64) -> Result<()> {
        match self.expected.version() {
            Some(expected) if expected != actual => Err(refusal::version(&self.id, expected, actual)),
            _ => Ok(()),
        }
    }
}
