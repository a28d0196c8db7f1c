//! Saving that a batch was handled, in one transaction with what that has led to.

use std::{
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{
    ConsumerBatch,
    telling::{BatchTelling, commit},
};
use crate::{
    Client, Error, Event, PostgresEventStore, Result,
    store::{CheckpointRequest, Skip},
    telemetry::Outcome,
};

/// A transaction on the primary in which a batch is handled: whatever is written in it, and the checkpoint, are there together
/// or not at all. It dereferences to the [`Client`] for your own statements.
///
/// Dropped without [`commit`](Self::commit), nothing of it is there, and the consumer goes on from its checkpoint: the batch is
/// handed out again.
///
/// # Cancel safety
///
/// A call that is dropped in the middle rolls the transaction back. Dropping the future of [`commit`](Self::commit) leaves
/// open whether it is there; the consumer finds out, since it then goes on from the checkpoint that is.
#[derive(Debug)]
#[must_use = "a transaction that is not committed is rolled back"]
pub struct ConsumerTransaction {
    client: Client,
    store: PostgresEventStore,
    checkpoint: CheckpointRequest,
    rewinds: Arc<AtomicU64>,
    saved: Arc<AtomicU64>,
    events: u64,
    skipped: AtomicU64,
    telling: BatchTelling,
    is_committed: bool,
}

impl ConsumerTransaction {
    pub(super) async fn begin(
        store: &PostgresEventStore,
        batch: &ConsumerBatch,
        rewinds: &Arc<AtomicU64>,
        saved: &Arc<AtomicU64>,
    ) -> Result<Self> {
        let begun = async {
            let client = store.router().client_at(crate::Consistency::Strong).await?;
            client.batch_execute("BEGIN").await?;
            Ok(client)
        };
        let mut telling = BatchTelling::begin(batch);
        let client = begun.await.inspect_err(|error: &Error| {
            telling.end(error.into());
            rewinds.fetch_add(1, Ordering::AcqRel);
        })?;
        let (store, checkpoint) = (store.clone(), batch.checkpoint.clone());
        let (rewinds, saved) = (Arc::clone(rewinds), Arc::clone(saved));
        let (events, skipped) = (batch.len() as u64, AtomicU64::new(0));
        Ok(Self { client, store, checkpoint, rewinds, saved, events, skipped, telling, is_committed: false })
    }

    /// Records that an event is passed over, and why: see [`ConsumerControl::skipped`](crate::ConsumerControl::skipped).
    ///
    /// # Errors
    ///
    /// As [`Client::query`].
    pub async fn skip(&self, event: &Event, reason: &str, attempts: u64) -> Result<()> {
        // A NUL character is no part of a text for PostgreSQL.
        let skip = Skip { mark: event.mark(), reason: reason.replace('\0', "\u{fffd}"), attempts };
        let params = skip.params(&self.checkpoint.consumer);
        self.client.execute(self.store.skip_sql(), &params.bound()).await?;
        self.skipped.fetch_add(1, Ordering::AcqRel);
        Ok(())
    }

    /// Saves the checkpoint, and commits.
    ///
    /// # Errors
    ///
    /// [`Fenced`](crate::ErrorKind::Fenced) when the partitions are another member's by now, the consumer was reset, or the batch
    /// was committed before (as when an answer was lost, and the same batch was handled again), and then nothing is written.
    /// [`OutcomeUnknown`](crate::ErrorKind::OutcomeUnknown) when the answer was lost. In either case, as for every error, the
    /// consumer goes on from the checkpoint that is there.
    pub async fn commit(mut self) -> Result<()> {
        let outcome = commit(&self.checkpoint.consumer, self.events, Box::pin(self.save())).await;
        self.telling.skipped(self.skipped.load(Ordering::Acquire));
        self.telling.end(outcome.as_ref().map_or_else(Outcome::from, |()| Outcome::Succeeded));
        outcome?;
        self.is_committed = true;
        self.saved.fetch_max(self.checkpoint.mark.position(), Ordering::AcqRel);
        Ok(())
    }
}

impl ConsumerTransaction {
    async fn save(&self) -> Result<()> {
        let row = self.client.query_one(self.store.checkpoint_sql(), &self.checkpoint.params().bound()).await?;
        self.checkpoint.judge(&row, self.events > 0)?;
        self.client.batch_execute("COMMIT").await
    }

    /// It is not committed, because of this.
    pub(in crate::consume) fn failed(mut self, error: &Error) {
        self.telling.end(error.into());
    }
}

impl Deref for ConsumerTransaction {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Drop for ConsumerTransaction {
    fn drop(&mut self) {
        if !self.is_committed {
            self.rewinds.fetch_add(1, Ordering::AcqRel);
        }
    }
}
