//! Saving that a batch was handled, in one transaction with what that has led to.

use std::{
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{
    ConsumerBatch,
    telling::{BatchTelling, commit},
};
use crate::{
    Error, ErrorKind, Event, PostgresEventStore, Result, Transaction,
    router::NO_TRANSACTION,
    store::{CheckpointRequest, Skip},
    telemetry::Outcome,
};

/// Refused outside of a transaction. The checkpoint, which is a statement like others, would be saved there by itself.
const INSIDE: &str = "SAVEPOINT mainstem_checkpoint";

/// A transaction on the primary in which a batch is handled: whatever is written in it, and the checkpoint, are there together
/// or not at all. It dereferences to the [`Transaction`] for your own statements.
///
/// Each statement has the router's [call timeout](crate::RouterBuilder::call_timeout); all of them together have no limit, and neither has
/// the time between them but the server's `idle_in_transaction_session_timeout`.
///
/// End it by [`commit`](Self::commit), and not in SQL: the checkpoint would be there without what belongs to it, or the other way round. That is
/// refused. Dropped without [`commit`](Self::commit), nothing of it is there, and the consumer goes on from its checkpoint: the batch is
/// handed out again.
///
/// # Cancel safety
///
/// A call that is dropped in the middle rolls the transaction back. Dropping the future of [`commit`](Self::commit) leaves
/// open whether it is there; the consumer finds out, since it then goes on from the checkpoint that is.
#[derive(Debug)]
#[must_use = "a transaction that is not committed is rolled back"]
pub struct ConsumerTransaction {
    transaction: Transaction,
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
            let transaction = store.router().transaction().consistency(crate::Consistency::Strong);
            transaction.timeout(Duration::MAX).await
        };
        let mut telling = BatchTelling::begin(batch);
        let transaction = begun.await.inspect_err(|error: &Error| {
            telling.end(error.into());
            rewinds.fetch_add(1, Ordering::AcqRel);
        })?;
        let (store, checkpoint) = (store.clone(), batch.checkpoint.clone());
        let (rewinds, saved) = (Arc::clone(rewinds), Arc::clone(saved));
        let (events, skipped) = (batch.len() as u64, AtomicU64::new(0));
        Ok(Self { transaction, store, checkpoint, rewinds, saved, events, skipped, telling, is_committed: false })
    }

    /// Records that an event is passed over, and why: see [`ConsumerControl::skipped`](crate::ConsumerControl::skipped).
    ///
    /// # Errors
    ///
    /// As [`Transaction::query`].
    pub async fn skip(&self, event: &Event, reason: &str, attempts: u64) -> Result<()> {
        // A NUL character is no part of a text for PostgreSQL.
        let skip = Skip { mark: event.mark(), reason: reason.replace('\0', "\u{fffd}"), attempts };
        let params = skip.params(&self.checkpoint.consumer);
        self.transaction.execute(self.store.skip_sql(), &params.bound()).await?;
        self.skipped.fetch_add(1, Ordering::AcqRel);
        Ok(())
    }

    /// Saves the checkpoint, and commits.
    ///
    /// # Errors
    ///
    /// [`Fenced`](crate::ErrorKind::Fenced) when the partitions are another member's by now, the consumer was reset, or the batch
    /// was committed before (as when an answer was lost, and the same batch was handled again), and then nothing is written.
    /// [`OutcomeUnknown`](crate::ErrorKind::OutcomeUnknown) when the answer was lost.
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) when SQL of your own has ended the transaction:
    /// the checkpoint is not saved then. In each case, as for every error, the consumer goes on from the checkpoint that is there.
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
        self.transaction.batch_execute(INSIDE).await.map_err(|error| match error.sqlstate() {
            Some(NO_TRANSACTION) => {
                let message = "the transaction of a batch was ended by its own SQL, so the checkpoint is not saved, and the batch is \
                               handed out again, whatever has become of what was written; leave the end to commit()";
                error.reworded(ErrorKind::InvalidInput, message)
            }
            _ => error,
        })?;
        let row = self.transaction.query_one(self.store.checkpoint_sql(), &self.checkpoint.params().bound()).await?;
        self.checkpoint.judge(&row, self.events > 0)?;
        self.transaction.finish().await
    }

    /// It is not committed, because of this.
    pub(in crate::consume) fn failed(mut self, error: &Error) {
        self.telling.end(error.into());
    }
}

impl Deref for ConsumerTransaction {
    type Target = Transaction;

    fn deref(&self) -> &Transaction {
        &self.transaction
    }
}

impl Drop for ConsumerTransaction {
    fn drop(&mut self) {
        if !self.is_committed {
            self.rewinds.fetch_add(1, Ordering::AcqRel);
        }
    }
}
