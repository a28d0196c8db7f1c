//! Saving that a batch was handled: alone, or together with its effects.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tokio_postgres::Transaction;

use super::{
    Consumer, ConsumerBatch, ConsumerTransaction,
    telemetry::{BatchSpan, commit},
};
use crate::{Error, ErrorKind, Result, telemetry::Outcome};

impl Consumer {
    /// Saves that everything up to the end of this batch was handled, in its own statement. The effects of its events
    /// must be stored already.
    ///
    /// # Errors
    ///
    /// [`OwnershipLost`](ErrorKind::OwnershipLost) if another member owns the partitions by now, or the consumer was reset: nothing
    /// was saved. [`OutcomeUnknown`](ErrorKind::OutcomeUnknown) if the answer was lost. After an error the consumer
    /// continues from the stored checkpoint: events are delivered again.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the checkpoint may have been saved; as after an error, the consumer continues from the
    /// stored one.
    pub async fn commit(&self, batch: &ConsumerBatch) -> Result<()> {
        let uncommitted = Uncommitted(Some(&self.rewinds));
        let saved = Arc::clone(&self.saved);
        let mut call_span = BatchSpan::begin(batch);
        // Boxed, like the other instrumented calls: otherwise each layer around it moves it through the stack.
        let save = Box::pin(self.store.save_checkpoint(&batch.checkpoint, self.deadline()));
        let outcome = commit(self.name(), batch.len() as u64, save).await;
        call_span.end(outcome.as_ref().map_or_else(Outcome::from, |_| Outcome::Succeeded));
        outcome?;
        saved.fetch_max(batch.mark().position(), Ordering::AcqRel);
        uncommitted.saved();
        Ok(())
    }

    /// Begins a transaction on the primary in which this batch is handled. Its [`commit`](ConsumerTransaction::commit)
    /// also saves the checkpoint.
    ///
    /// # Errors
    ///
    /// As for [`Router::client`](crate::Router::client).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, no transaction is open.
    pub async fn transaction(&self, batch: &ConsumerBatch) -> Result<ConsumerTransaction> {
        ConsumerTransaction::begin(&self.store, batch, &self.rewinds, &self.saved).await
    }

    /// Saves the checkpoint in your own transaction, on any connection to the same database. Commit the transaction
    /// yourself.
    ///
    /// If that transaction is not committed, or its outcome is unknown, call [`rewind`](Self::rewind).
    ///
    /// # Errors
    ///
    /// [`OwnershipLost`](ErrorKind::OwnershipLost) if another member owns the partitions by now, the consumer was reset, or the batch
    /// was committed before: roll back. Otherwise the server's error.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the checkpoint may have been saved in your transaction: roll it back. The consumer
    /// continues from the previous checkpoint.
    pub async fn commit_in(&self, batch: &ConsumerBatch, transaction: &Transaction<'_>) -> Result<()> {
        let uncommitted = Uncommitted(Some(&self.rewinds));
        let said = |error| Error::new(ErrorKind::Database, "the checkpoint could not be saved").with_source(error);
        let params = batch.checkpoint.params();
        let row = transaction.query_one(self.store.checkpoint_sql(), &params.bound()).await.map_err(said)?;
        batch.checkpoint.judge(&row, batch.is_saved_once())?;
        uncommitted.saved();
        Ok(())
    }
}

/// A commit whose outcome is open: unless it is known to have succeeded, the consumer continues from the stored
/// checkpoint.
struct Uncommitted<'a>(Option<&'a AtomicU64>);

impl Uncommitted<'_> {
    fn saved(mut self) {
        self.0 = None;
    }
}

impl Drop for Uncommitted<'_> {
    fn drop(&mut self) {
        if let Some(rewinds) = self.0 {
            rewinds.fetch_add(1, Ordering::AcqRel);
        }
    }
}
