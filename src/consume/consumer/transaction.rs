//! Saving that a batch was handled, in one transaction with its effects.

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
    telemetry::{BatchSpan, commit},
};
use crate::{
    Error, ErrorKind, Event, PostgresEventStore, Result, Transaction,
    router::NO_TRANSACTION,
    store::{CheckpointRequest, Skip},
    telemetry::Outcome,
};

/// Refused outside of a transaction. The checkpoint, an ordinary statement, would be saved on its own there.
const INSIDE: &str = "SAVEPOINT mainstem_checkpoint";

/// A transaction on the primary in which a batch is handled: everything written in it is committed together with the
/// checkpoint, or not at all. It dereferences to the [`Transaction`] for your own statements.
///
/// Each statement is limited by the router's [call timeout](crate::RouterBuilder::call_timeout). There is no limit for
/// all of them together, and none for the time between them except the server's `idle_in_transaction_session_timeout`.
///
/// End it with [`commit`](Self::commit), not in SQL: that would store the checkpoint without what belongs to it, or the
/// other way round, and is refused. If it is dropped without a commit, nothing of it is stored. The consumer then
/// continues from its checkpoint, and the batch is delivered again.
///
/// # Cancel safety
///
/// A call that is dropped midway rolls the transaction back. If the future of [`commit`](Self::commit) is dropped, the
/// outcome is open; the consumer finds out, since it then continues from the stored checkpoint.
#[derive(Debug)]
#[must_use = "a transaction that is not committed is rolled back"]
pub struct ConsumerTransaction {
    transaction: Transaction,
    store: PostgresEventStore,
    checkpoint: CheckpointRequest,
    rewinds: Arc<AtomicU64>,
    saved: Arc<AtomicU64>,
    events: u64,
    /// Whether it is saved once only: with events, or what a first batch clears.
    once: bool,
    skipped: AtomicU64,
    call_span: BatchSpan,
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
        let mut call_span = BatchSpan::begin(batch);
        let transaction = begun.await.inspect_err(|error: &Error| {
            call_span.end(error.into());
            rewinds.fetch_add(1, Ordering::AcqRel);
        })?;
        let (store, checkpoint) = (store.clone(), batch.checkpoint.clone());
        let (rewinds, saved) = (Arc::clone(rewinds), Arc::clone(saved));
        let (events, skipped) = (batch.len() as u64, AtomicU64::new(0));
        let once = batch.is_saved_once();
        Ok(Self {
            transaction,
            store,
            checkpoint,
            rewinds,
            saved,
            events,
            once,
            skipped,
            call_span,
            is_committed: false,
        })
    }

    /// Records that an event is skipped, and why: see [`ConsumerControl::skipped`](crate::ConsumerControl::skipped).
    ///
    /// # Errors
    ///
    /// As [`Transaction::query`].
    pub async fn skip(&self, event: &Event, reason: &str, attempts: u64) -> Result<()> {
        // PostgreSQL allows no NUL character in a text.
        let skip = Skip { mark: event.mark(), reason: reason.replace('\0', "\u{fffd}"), attempts };
        let params = skip.params(&self.checkpoint.consumer);
        self.transaction.execute(self.store.skip_sql(), &params.bound()).await?;
        self.skipped.fetch_add(1, Ordering::AcqRel);
        Ok(())
    }

    /// Saves the checkpoint and commits.
    ///
    /// # Errors
    ///
    /// [`OwnershipLost`](crate::ErrorKind::OwnershipLost) if another member owns the partitions by now, the consumer was reset, or
    /// the batch was committed before (as when an answer was lost and the same batch was handled again); nothing is
    /// written then. [`OutcomeUnknown`](crate::ErrorKind::OutcomeUnknown) if the answer was lost.
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) if your own SQL has ended the transaction; the checkpoint is
    /// then not saved. In each case, as after every error, the consumer continues from the stored checkpoint.
    pub async fn commit(mut self) -> Result<()> {
        let outcome = commit(&self.checkpoint.consumer, self.events, Box::pin(self.save())).await;
        self.call_span.skipped(self.skipped.load(Ordering::Acquire));
        self.call_span.end(outcome.as_ref().map_or_else(Outcome::from, |()| Outcome::Succeeded));
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
        self.checkpoint.judge(&row, self.once)?;
        self.transaction.finish().await
    }

    /// Records that it is not committed because of this error.
    pub(in crate::consume) fn failed(mut self, error: &Error) {
        self.call_span.end(error.into());
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
