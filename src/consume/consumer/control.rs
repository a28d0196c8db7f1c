//! What is done to a consumer from outside.

use std::time::Duration;

use super::{Awaited, ConsumerStatus, SkippedEvent, WaitUntilHandled};
use crate::{
    Consistency, PostgresEventStore, Result, Start, router::Deadline, scope::current_consistency, store::no_consumer,
};

/// A consumer as an operator sees it, whether members of it run or not. [`PostgresEventStore::consumer_control`] makes it.
///
/// Each call has the router's [`call_timeout`](crate::RouterBuilder::call_timeout) as its limit, unless
/// [`timeout`](Self::timeout) sets another.
///
/// # Errors
///
/// [`Configuration`](crate::ErrorKind::Configuration) when there is no such consumer: it has never run, or was deleted. The rest is
/// as for any write.
///
/// # Cancel safety
///
/// Each change is one statement: dropped, it is made or not.
#[derive(Clone, Debug)]
pub struct ConsumerControl {
    store: PostgresEventStore,
    name: String,
    timeout: Option<Duration>,
}

impl PostgresEventStore {
    /// A consumer as an operator sees it: pausing, resetting, deleting, and what is known of it. Nothing is sent.
    #[must_use]
    pub fn consumer_control(&self, name: impl Into<String>) -> ConsumerControl {
        ConsumerControl { store: self.clone(), name: name.into(), timeout: None }
    }
}

impl ConsumerControl {
    /// Replaces the limit of each call.
    #[must_use]
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }

    /// Lets its members stop handing out events, within a third of their lease: a fifth of
    /// [`takeover`](super::ConsumerBuilder::takeover). What they have handed out they can still commit.
    ///
    /// # Errors
    ///
    /// See [`ConsumerControl`].
    pub async fn pause(&self) -> Result<()> {
        self.expect(self.store.pause_consumer(&self.name, true, self.deadline()).await?)
    }

    /// Lets its members go on.
    ///
    /// # Errors
    ///
    /// See [`ConsumerControl`].
    pub async fn resume(&self) -> Result<()> {
        self.expect(self.store.pause_consumer(&self.name, false, self.deadline()).await?)
    }

    /// Begins anew: from the beginning to rebuild, or from a place such as [`Error::last_common`](crate::Error::last_common).
    ///
    /// Running members notice as soon as they commit, or within a fifth of the time for a takeover; what they have handled
    /// and not committed by then is refused. The events that were passed over behind the place are forgotten. What the
    /// consumer has written elsewhere is your matter.
    ///
    /// # Errors
    ///
    /// See [`ConsumerControl`]. [`InvalidInput`](crate::ErrorKind::InvalidInput) when there is no event at the position.
    pub async fn reset(&self, to: impl Into<Start>) -> Result<()> {
        let to = to.into().resolve_to_mark(&self.store).await?;
        self.expect(self.store.reset_consumer(&self.name, to, self.deadline()).await?)
    }

    /// Forgets it: its checkpoints, its members, and what it has passed over. Members that run end with an error.
    ///
    /// # Errors
    ///
    /// See [`ConsumerControl`].
    pub async fn delete(&self) -> Result<()> {
        self.expect(self.store.delete_consumer(&self.name, self.deadline()).await?)
    }

    /// What is known of it, on the primary.
    ///
    /// # Errors
    ///
    /// See [`ConsumerControl`].
    pub async fn status(&self) -> Result<ConsumerStatus> {
        let status = self.status_at(&Consistency::Strong, self.deadline()).await?;
        status.ok_or_else(|| no_consumer(&self.name))
    }

    /// The events that it has passed over, lowest position first, so many at most.
    ///
    /// # Errors
    ///
    /// See [`ConsumerControl`]. None when there is no such consumer.
    pub async fn skipped(&self, limit: u64) -> Result<Vec<SkippedEvent>> {
        let rows = self.store.skipped_rows(&self.name, limit, self.deadline()).await?;
        Ok(rows.into_iter().map(SkippedEvent::new).collect())
    }

    /// Waits until it has handled this event, or all that a [`Token`](crate::Token) speaks of: await what it returns; see [`WaitUntilHandled`]. Where that must be seen is the
    /// scope's matter, which is read when this method is called.
    pub fn handled(&self, awaited: impl Into<Awaited>) -> WaitUntilHandled {
        WaitUntilHandled::new(self.clone(), awaited.into(), current_consistency())
    }

    pub(super) fn store(&self) -> &PostgresEventStore {
        &self.store
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// `None` when there is no such consumer.
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
