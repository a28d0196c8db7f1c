//! What a consumer delivers at a time.

use std::ops::Deref;

use super::super::Batch;
use crate::{Event, Mark, store::CheckpointRequest, telemetry::Stopwatch};

/// The next events of a consumer, in log order. It dereferences to a slice of them.
///
/// [`Consumer::commit`](crate::Consumer::commit) and [`Consumer::transaction`](crate::Consumer::transaction) save that
/// it was handled. A batch may have no events: it then says up to where the log has none for this consumer, and is
/// committed like any other.
#[derive(Clone, Debug)]
#[must_use = "a batch that is not committed is handed out again some day"]
pub struct ConsumerBatch {
    batch: Batch,
    pub(super) checkpoint: CheckpointRequest,
    after: Option<Mark>,
    pub(super) handed_out: Stopwatch,
}

impl ConsumerBatch {
    pub(super) fn new(batch: Batch, checkpoint: CheckpointRequest, after: Option<Mark>) -> Self {
        Self { batch, checkpoint, after, handed_out: Stopwatch::start() }
    }

    /// Returns the events.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        self.batch.events()
    }

    /// Returns the place up to which everything is handled once this batch is.
    #[must_use]
    pub fn mark(&self) -> Mark {
        self.batch.mark()
    }

    /// Returns the place after which it begins: everything up to there was delivered before, in each of its partitions.
    /// `None` at the start of the log.
    ///
    /// Results that are kept in another database, with the mark up to which they reach, can tell by it that they have not
    /// been where this batch continues, or have been further.
    #[must_use]
    pub fn after(&self) -> Option<Mark> {
        self.after
    }

    /// Returns how many events of the log were after this batch when it was read, whether for this consumer or not.
    #[must_use]
    pub fn events_behind(&self) -> u64 {
        self.batch.events_behind()
    }

    /// Returns the partitions that it belongs to.
    #[must_use]
    pub fn partitions(&self) -> impl ExactSizeIterator<Item = u32> + '_ {
        self.checkpoint.partitions.iter().map(|one| one.partition.unsigned_abs())
    }

    /// Returns whether it begins at the start of the log: nothing has been handled before it.
    #[must_use]
    pub fn is_first(&self) -> bool {
        self.after.is_none()
    }

    /// The events in front of this one, as a batch of their own; `None` if there are none.
    pub(in crate::consume) fn before(&self, event: Mark) -> Option<Self> {
        let count = self.iter().take_while(|before| before.position() < event.position()).count();
        let (batch, mut checkpoint) = (self.batch.first(count)?, self.checkpoint.clone());
        checkpoint.mark = batch.mark();
        Some(Self { batch, checkpoint, after: self.after, handed_out: self.handed_out })
    }

    /// Whether more than the checkpoint is saved with it: its events' effects, or the emptying of what a first batch
    /// begins with. Saving that twice would not be the same as once.
    pub(super) fn is_saved_once(&self) -> bool {
        !self.batch.events().is_empty() || self.is_first()
    }

    /// The batch that was read, and where from.
    #[must_use]
    pub fn batch(&self) -> &Batch {
        &self.batch
    }
}

impl Deref for ConsumerBatch {
    type Target = [Event];

    fn deref(&self) -> &[Event] {
        self.batch.events()
    }
}

impl<'a> IntoIterator for &'a ConsumerBatch {
    type Item = &'a Event;
    type IntoIter = std::slice::Iter<'a, Event>;

    fn into_iter(self) -> Self::IntoIter {
        self.batch.events().iter()
    }
}
