//! Operating a consumer from outside.

use std::time::Duration;

use super::{Awaited, ConsumerStatus, SkippedEvent, WaitUntilHandled};
use crate::{
    Consistency, PostgresEventStore, Result, Start, consume::start::ReadLimit, router::Deadline,
    scope::current_consistency, store::no_consumer,
};

/// Controls and inspects a consumer, whether members of it run or not. [`PostgresEventStore::consumer_control`] creates
/// it.
///
/// Each call is limited by the router's [`call_timeout`](crate::RouterBuilder::call_timeout), unless
/// [`timeout`](Self::timeout) sets another limit.
///
/// # Errors
///
/// [`Configuration`](crate::ErrorKind::Configuration) if there is no such consumer: it has never run, or was deleted.
/// Otherwise as for any write.
///
/// # Cancel safety
///
/// Each change is made completely or not at all: if its future is dropped, it may have been made.
#[derive(Clone, Debug)]
pub struct ConsumerControl {
    store: PostgresEventStore,
    name: String,
    timeout: Option<Duration>,
}

impl PostgresEventStore {
    /// Returns the control of a consumer: pausing, resetting, deleting, status. Nothing is sent yet.
    #[must_use]
    pub fn consumer_control(&self, name: impl Into<String>) -> ConsumerControl {
        ConsumerControl { store: self.clone(), name: name.into(), timeout: None }
    }
}

impl ConsumerControl {
    /// Replaces the time limit of each call.
    #[must_use]
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }

    /// Pauses the consumer: its members stop delivering events within a third of their lease, a fifth of
    /// [`takeover`](super::ConsumerBuilder::takeover). They can still commit what they have delivered.
    ///
    /// # Errors
    ///
    /// See [`ConsumerControl`].
    pub async fn pause(&self) -> Result<()> {
        self.expect(self.store.pause_consumer(&self.name, true, self.deadline()).await?)
    }

    /// Resumes the consumer.
    ///
    /// # Errors
    ///
    /// See [`ConsumerControl`].
    pub async fn resume(&self) -> Result<()> {
        self.expect(self.store.pause_consumer(&self.name, false, self.deadline()).await?)
    }

    /// Restarts the consumer from the beginning, to rebuild, or from a place such as
    /// [`Error::last_common`](crate::Error::last_common).
    ///
    /// Running members notice when they next commit, or within a fifth of the takeover time; what they have handled but
    /// not committed by then is refused. The filter and the [version](super::ConsumerBuilder::version) of the consumer are
    /// those of the member that joins next, so end the members of an old version before. The records of skipped events
    /// after the place are deleted. What the consumer
    /// has written elsewhere is your responsibility.
    ///
    /// # Errors
    ///
    /// See [`ConsumerControl`]. [`InvalidInput`](crate::ErrorKind::InvalidInput) if there is no event at the position.
    pub async fn reset(&self, to: impl Into<Start>) -> Result<()> {
        let deadline = self.deadline();
        let to = to.into().resolve_to_mark(&self.store, ReadLimit::Together(deadline)).await?;
        self.expect(self.store.reset_consumer(&self.name, to, deadline).await?)
    }

    /// Deletes the consumer: its checkpoints, its members, and the records of skipped events. Running members end with
    /// an error.
    ///
    /// # Errors
    ///
    /// See [`ConsumerControl`].
    pub async fn delete(&self) -> Result<()> {
        self.expect(self.store.delete_consumer(&self.name, self.deadline()).await?)
    }

    /// Returns its status, as stored on the primary.
    ///
    /// # Errors
    ///
    /// See [`ConsumerControl`].
    pub async fn status(&self) -> Result<ConsumerStatus> {
        let status = self.status_at(&Consistency::Strong, self.deadline()).await?;
        status.ok_or_else(|| no_consumer(&self.name))
    }

    /// Returns the events that it has skipped, lowest position first, at most `limit`.
    ///
    /// # Errors
    ///
    /// See [`ConsumerControl`]. If there is no such consumer, the result is empty.
    pub async fn skipped(&self, limit: u64) -> Result<Vec<SkippedEvent>> {
        let rows = self.store.skipped_rows(&self.name, limit, self.deadline()).await?;
        Ok(rows.into_iter().map(SkippedEvent::new).collect())
    }

    /// Waits until the consumer has handled this event, or everything that a [`Token`](crate::Token) refers to: await
    /// what it returns; see [`WaitUntilHandled`]. The scope decides where that must be visible; it is read when this
    /// method is called.
    pub fn wait_until_handled(&self, awaited: impl Into<Awaited>) -> WaitUntilHandled {
        WaitUntilHandled::new(self.clone(), awaited.into(), current_consistency())
    }

    pub(super) fn store(&self) -> &PostgresEventStore {
        &self.store
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// `None` if there is no such consumer.
    pub(in crate::consume) async fn status_at(
        &self,
        consistency: &Consistency,
        deadline: Deadline,
    ) -> Result<Option<ConsumerStatus>> {
        let (rows, node, role) = self.store.consumer_rows(&self.name, consistency, deadline).await?;
        Ok(ConsumerStatus::new(rows, node, role))
    }

    fn deadline(&self) -> Deadline {
        self.store.deadline(self.timeout)
    }

    fn expect(&self, is_there: bool) -> Result<()> {
        if is_there { Ok(()) } else { Err(no_consumer(&self.name)) }
    }
}
