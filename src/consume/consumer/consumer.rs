//! The next batch of a consumer.

use std::{
    fmt,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::future::{Either, select};
use tokio::time::{Instant, sleep_until};

use super::{
    ConsumerBatch,
    claim::{News, Owned},
    heartbeat::Heartbeat,
    partitions::Partitions,
};
use crate::{
    Error, ErrorKind, Mark, PostgresEventStore, Result,
    consume::{
        Batch, Start, StopHandle, Subscription,
        reading::{Plan, is_final},
    },
    router::Deadline,
    store::{CheckpointRequest, Member, PartitionCheckpoint},
};

/// How long a step forward without events waits for the next one: on a busy log with little for this consumer, not every append
/// is worth a checkpoint.
const QUIET: Duration = Duration::from_millis(20);

/// How often a checkpoint is saved in a long part of the log without anything for this consumer.
const PROGRESS: Duration = Duration::from_secs(1);

/// The first and the longest pause after a failed claim.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// A named consumer, or one member of it: it delivers the events after its checkpoint, and saves its progress.
/// [`PostgresEventStore::consumer`] creates it.
///
/// ```no_run
/// # async fn run(store: mainstem::PostgresEventStore) -> mainstem::Result<()> {
/// use mainstem::Filter;
///
/// let lent = Filter::matching().any_type_of(["BookLent"]).finish()?;
/// let mut consumer = store.consumer("reminders", &lent).build()?;
/// while let Some(batch) = consumer.next_batch().await {
///     let batch = match batch {
///         Ok(batch) => batch,
///         Err(error) => {
///             eprintln!("{}", error.report());
///             continue;
///         }
///     };
///     // What is written in this transaction is there exactly once.
///     let transaction = consumer.transaction(&batch).await?;
///     for event in &batch {
///         transaction.execute("INSERT INTO reminders VALUES ($1)", &[&event.id().to_string()]).await?;
///     }
///     transaction.commit().await?;
/// }
/// # Ok(())
/// # }
/// ```
///
/// # What is promised
///
/// Every event is delivered at least once, in log order, or in the order of its key if there are
/// [partitions](super::ConsumerBuilder::partitions). Writes in a [`transaction`](Self::transaction) take effect exactly once.
/// Effects elsewhere, before [`commit`](Self::commit), may be repeated: if this process ends in between, if the answer to a
/// commit is lost, or if another member takes over.
///
/// # Members
///
/// Consumers of the same name, in any number of processes, are members of one group. Each owns a fair share of the partitions as
/// long as it lives; when one dies, others [take over](super::ConsumerBuilder::takeover) from its last checkpoint. A late
/// checkpoint of a member presumed dead is refused ([`OwnershipLost`](ErrorKind::OwnershipLost)), with the rest of its transaction.
///
/// Until it is dropped, a member sends heartbeats from a background task. But it releases and claims partitions only when asked
/// for the next batch. A member that is no longer asked keeps its partitions: drop or [close](Self::close) it.
///
/// # Errors
///
/// An error is an item. As with a [`Subscription`], the next call continues if time can resolve the error; otherwise `None`
/// follows. That includes [`LogDiverged`](ErrorKind::LogDiverged): the log has lost events that were handled.
/// [`Error::last_common`] says up to where the two agree. Use [`ConsumerControl::reset`](crate::ConsumerControl::reset) to
/// restart there, or from the beginning.
///
/// # Cancel safety
///
/// Dropping the future of [`next_batch`](Self::next_batch) loses no event.
#[must_use = "a consumer reads nothing until it is asked"]
pub struct Consumer {
    pub(super) store: PostgresEventStore,
    pub(super) member: Member,
    pub(super) plan: Plan,
    pub(super) start: Start,
    pub(super) partitions: Partitions,
    pub(super) owned: Vec<Owned>,
    /// `None` before it has joined.
    pub(super) heartbeat: Option<Heartbeat>,
    pub(super) is_paused: bool,
    /// Whether it has to ask again which partitions it owns.
    pub(super) must_claim: bool,
    /// How often it was told to go back to its checkpoint, and how often it has done so.
    pub(super) rewinds: Arc<AtomicU64>,
    pub(super) rewound: u64,
    /// The place up to which this member has saved its current partitions.
    pub(super) saved: Arc<AtomicU64>,
    /// Whether the log is known to contain the checkpoints.
    pub(super) is_checked: bool,
    pub(super) has_joined: bool,
    /// Whether it has ever asked to join: the server may know it as a member, whatever has become of the answer.
    pub(super) may_be_member: bool,
    pub(super) has_ended: bool,
    /// Whether it has gone back to its checkpoint since the log lost what was delivered.
    pub(super) has_diverged: bool,
    pub(super) claim_pause: Duration,
    pub(super) claim_at: Option<Instant>,
    pub(super) subscription: Option<Subscription>,
    /// A step forward without events, and until when it waits for one with events.
    pub(super) quiet: Option<(Batch, Instant)>,
    handed_out: Instant,
    pub(super) stop: StopHandle,
}

/// What to do next.
enum Next {
    Read(Option<Result<Batch>>),
    /// News from the group.
    Heard,
    /// The wait for further events is over.
    Quiet,
    Stopped,
}

impl Consumer {
    pub(super) fn new(
        store: PostgresEventStore,
        member: Member,
        plan: Plan,
        start: Start,
        partitions: Partitions,
    ) -> Self {
        Self {
            store,
            member,
            plan,
            start,
            partitions,
            owned: Vec::new(),
            heartbeat: None,
            is_paused: false,
            must_claim: true,
            rewinds: Arc::default(),
            rewound: 0,
            saved: Arc::default(),
            is_checked: false,
            has_joined: false,
            may_be_member: false,
            has_ended: false,
            has_diverged: false,
            claim_pause: FIRST_PAUSE,
            claim_at: None,
            subscription: None,
            quiet: None,
            handed_out: Instant::now(),
            stop: StopHandle::new(),
        }
    }

    /// Returns its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.member.consumer
    }

    /// Returns the partitions that this member owns, as far as it knows.
    #[must_use]
    pub fn partitions(&self) -> impl ExactSizeIterator<Item = u32> + '_ {
        self.owned.iter().map(|owned| owned.partition.unsigned_abs())
    }

    /// Returns a handle that ends it, even while a call waits for the next batch.
    #[must_use]
    pub fn stop_handle(&self) -> StopHandle {
        self.stop.clone()
    }

    /// Waits for the next events of this member, or for a step forward without events; `None` when the consumer has ended.
    ///
    /// # Errors
    ///
    /// See [`Consumer`]. [`Configuration`](ErrorKind::Configuration) if the consumer has a different number of partitions,
    /// another filter or another [version](super::ConsumerBuilder::version), or was deleted while it ran.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no event.
    pub async fn next_batch(&mut self) -> Option<Result<ConsumerBatch>> {
        loop {
            match self.news().await {
                Some(Ok(News::Batch(batch))) => return Some(Ok(*batch)),
                Some(Ok(News::Claim(_))) => {}
                Some(Err(error)) => return Some(Err(error)),
                None => return None,
            }
        }
    }

    /// As [`next_batch`](Self::next_batch), and reports this member's partitions whenever they change.
    pub(in crate::consume) async fn news(&mut self) -> Option<Result<News>> {
        loop {
            if self.stop.is_stopped() || self.has_ended && !self.must_rewind() {
                return None;
            }
            match self.keep_claim().await {
                Ok(None) => {}
                Ok(Some(claim)) => return Some(Ok(News::Claim(claim))),
                Err(error) => return Some(Err(self.failed(error))),
            }
            if self.stop.is_stopped() {
                return None;
            }
            match self.next().await {
                Next::Stopped => return None,
                Next::Heard => {}
                Next::Quiet => {
                    if let Some((batch, _)) = self.quiet.take() {
                        return Some(Ok(News::Batch(Box::new(self.hand_out(batch)))));
                    }
                }
                Next::Read(Some(Ok(batch))) => {
                    if let Some(batch) = self.take(batch) {
                        return Some(Ok(News::Batch(Box::new(self.hand_out(batch)))));
                    }
                }
                // What was delivered but not committed may be lost with a primary. The checkpoint tells whether more is lost.
                Next::Read(Some(Err(error))) if error.kind() == ErrorKind::LogDiverged && !self.has_diverged => {
                    tracing::debug!(consumer = %self.member.consumer, error = %error.for_log(), "going on from the checkpoint");
                    self.has_diverged = true;
                    self.rewind();
                }
                Next::Read(Some(Err(error))) if error.kind() == ErrorKind::LogDiverged => {
                    let error = self.with_last_common(error).await;
                    return Some(Err(self.failed(error)));
                }
                Next::Read(Some(Err(error))) => {
                    self.has_ended = is_final(&error);
                    return Some(Err(error));
                }
                Next::Read(None) => self.subscription = None,
            }
        }
    }

    /// Goes back to the saved checkpoint, whatever has been delivered after it: for use after handling has failed. It also
    /// resumes a consumer that has ended with an error, once the cause is fixed.
    pub fn rewind(&self) {
        self.rewinds.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn deadline(&self) -> Deadline {
        self.store.deadline(self.plan.timeout)
    }

    fn failed(&mut self, error: Error) -> Error {
        self.has_ended = is_final(&error);
        if self.has_ended {
            // What it would have gone back for is over, too: only a rewind from now on resumes it, and is one.
            self.rewound = self.rewinds.load(Ordering::Acquire);
        }
        self.claim_at = Some(Instant::now() + self.claim_pause);
        self.claim_pause = (self.claim_pause * 2).min(LONGEST_PAUSE);
        error
    }

    /// Waits for the first of: events, news from the group, an end.
    async fn next(&mut self) -> Next {
        let stopped = self.stop.stopped();
        let Some(heartbeat) = &mut self.heartbeat else { return Next::Heard };
        let heard = pin!(heartbeat.changed(self.member.lease));
        if self.is_paused || self.owned.is_empty() {
            return match select(heard, stopped).await {
                Either::Left(_) => Next::Heard,
                Either::Right(_) => Next::Stopped,
            };
        }
        let start = self.owned.iter().map(|owned| owned.mark).min_by_key(|mark| Mark::position_or_zero(*mark));
        let start = start.flatten().map_or(Start::Beginning, Start::After);
        let plan = &self.plan;
        let subscription = self.subscription.get_or_insert_with(|| Subscription::new(plan.clone(), start));
        let until = self.quiet.as_ref().map(|(_, until)| *until);
        let read = pin!(async {
            let read = pin!(subscription.next_batch());
            let quiet = pin!(async {
                match until {
                    Some(until) => sleep_until(until).await,
                    None => std::future::pending().await,
                }
            });
            match select(read, quiet).await {
                Either::Left((batch, _)) => Next::Read(batch),
                Either::Right(_) => Next::Quiet,
            }
        });
        match select(read, select(heard, stopped)).await {
            Either::Left((next, _)) => next,
            Either::Right((Either::Left(_), _)) => Next::Heard,
            Either::Right((Either::Right(_), _)) => Next::Stopped,
        }
    }

    /// The part of a batch that belongs to this member, if it is to be delivered now.
    fn take(&mut self, mut batch: Batch) -> Option<Batch> {
        let (owned, partitions) = (&self.owned, &self.partitions);
        batch.retain(|event| {
            let partition = partitions.of(event);
            let owned = owned.iter().find(|owned| owned.partition == partition);
            owned.is_some_and(|owned| owned.mark.is_none_or(|mark| mark.position() < event.position()))
        });
        if !batch.is_empty() || self.handed_out.elapsed() >= PROGRESS && batch.events_behind() > 0 {
            self.quiet = None;
            return Some(batch);
        }
        let until = self.quiet.as_ref().map_or_else(|| Instant::now() + QUIET, |(_, until)| *until);
        self.quiet = Some((batch, until));
        None
    }

    fn hand_out(&mut self, batch: Batch) -> ConsumerBatch {
        let mark = batch.mark();
        let after = self.owned.iter().map(|owned| owned.mark).min_by_key(|mark| Mark::position_or_zero(*mark));
        // Also what was saved without events: it may have cleared what a lost checkpoint brings back.
        let saved = self.saved.load(Ordering::Acquire);
        let mut partitions = Vec::with_capacity(self.owned.len());
        for owned in &mut self.owned {
            let (needs, base) = (owned.needs.max(saved), Mark::position_or_zero(owned.mark));
            if owned.mark.is_none_or(|before| before.position() < mark.position()) {
                if let Some(before) = owned.mark.replace(mark) {
                    owned.trail.push(before);
                }
                if !batch.is_empty() {
                    owned.needs = mark.position();
                }
            }
            let Owned { partition, epoch, .. } = *owned;
            partitions.push(PartitionCheckpoint { partition, epoch, past: owned.trail.to_text(), needs, base });
        }
        (self.handed_out, self.has_diverged) = (Instant::now(), false);
        let checkpoint =
            CheckpointRequest { consumer: self.member.consumer.clone(), member: self.member.id, partitions, mark };
        with_metrics! { crate::telemetry::metrics::consume::handed_out(&self.member.consumer, batch.events_behind()); }
        ConsumerBatch::new(batch, checkpoint, after.flatten())
    }
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").field("member", &self.member).field("owned", &self.owned).finish_non_exhaustive()
    }
}
