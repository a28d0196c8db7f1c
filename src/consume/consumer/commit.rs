//! Saving that a batch was handled: alone, or together with what it has led to.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tokio_postgres::Transaction;

use super::{
    Consumer, ConsumerBatch, ConsumerTransaction,
    telling::{BatchTelling, commit},
};
use crate::{Error, ErrorKind, Result, telemetry::Outcome};

impl Consumer {
    /// Saves that everything up to the end of this batch was handled, by a statement of its own. What was done for its events
    /// must be there already.
    ///
    /// # Errors
    ///
    /// [`Fenced`](ErrorKind::Fenced) when the partitions are another member's by now, or the consumer was reset: nothing was
    /// saved. [`OutcomeUnknown`](ErrorKind::OutcomeUnknown) when the answer was lost. After an error the consumer goes on from
    /// the checkpoint that is there: events are handed out again.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it may have been saved; as after an error, the consumer then goes on from what was.
    pub async fn commit(&self, batch: &ConsumerBatch) -> Result<()> {
        let uncommitted = Uncommitted(Some(&self.rewinds));
        let saved = Arc::clone(&self.saved);
        let mut telling = BatchTelling::begin(batch);
        // Boxed, like the others that are told of: else it is moved through the stack with each layer around it.
        let save = Box::pin(self.store.save_checkpoint(&batch.checkpoint, self.deadline()));
        let outcome = commit(self.name(), batch.len() as u64, save).await;
        telling.end(outcome.as_ref().map_or_else(Outcome::from, |_| Outcome::Succeeded));
        outcome?;
        saved.fetch_max(batch.mark().position(), Ordering::AcqRel);
        uncommitted.saved();
        Ok(())
    }

    /// Begins a transaction on the primary in which this batch is handled. Its [`commit`](ConsumerTransaction::commit) also
    /// saves the checkpoint.
    ///
    /// # Errors
    ///
    /// As for [`Router::client`](crate::Router::client).
    ///
    /// # Cancel safety
    ///
    /// Dropped, no transaction is open.
    pub async fn transaction(&self, batch: &ConsumerBatch) -> Result<ConsumerTransaction> {
        ConsumerTransaction::begin(&self.store, batch, &self.rewinds, &self.saved).await
    }

    /// Saves the checkpoint in a transaction of your own, of a connection to the same database. Commit it yourself.
    ///
    /// Whenever that transaction is not committed, or nobody knows, call [`rewind`](Self::rewind).
    ///
    /// # Errors
    ///
    /// [`Fenced`](ErrorKind::Fenced) when the partitions are another member's by now, the consumer was reset, or the batch was
    /// committed before: roll back. Else what the server says.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the checkpoint may have been saved in your transaction: roll that back. The consumer goes on from the one before.
    pub async fn commit_in(&self, batch: &ConsumerBatch, transaction: &Transaction<'_>) -> Result<()> {
        let uncommitted = Uncommitted(Some(&self.rewinds));
        let said = |error| Error::new(ErrorKind::Database, "the checkpoint could not be saved").with_source(error);
        let params = batch.checkpoint.params();
        let row = transaction.query_one(self.store.checkpoint_sql(), &params.bound()).await.map_err(said)?;
        batch.checkpoint.judge(&row, !batch.is_empty())?;
        uncommitted.saved();
        Ok(())
    }
}

/// A commit that may not be there: unless it is known to be, the consumer goes on from the checkpoint that is.
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
