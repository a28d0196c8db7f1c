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
use tokio::{
    runtime::Handle,
    time::{Instant, sleep_until},
};

use super::{
    ConsumerBatch,
    claim::{News, Owned},
    heartbeat::Heartbeat,
    partitions::Partitions,
};
use crate::{
    Error, ErrorKind, PostgresEventStore, Result,
    consume::{
        Batch, Start, StopHandle, Subscription,
        reading::{Plan, is_final},
    },
    router::Deadline,
    store::{CheckpointRequest, Member},
};

/// A step forward without events waits so long for the next one: on a busy log with little for this consumer, not every append
/// is worth a checkpoint.
const QUIET: Duration = Duration::from_millis(20);

/// In a long part of the log without anything for this consumer there is a checkpoint so often.
const PROGRESS: Duration = Duration::from_secs(1);

/// The pause behind a claim that has failed, at first and at most.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// For giving up what a consumer has that was dropped. Others take it in any case, a little later.
const LEAVE: Duration = Duration::from_secs(1);

/// A named consumer, of which this is one member: it hands out the events behind its checkpoint, and saves how far it has
/// got. [`PostgresEventStore::consumer`] makes it.
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
/// Every event is handed out at least once, in the order of the log, or of its key when there are
/// [partitions](super::ConsumerBuilder::partitions). What is written in a [`transaction`](Self::transaction) is written exactly
/// once. What is done elsewhere, before [`commit`](Self::commit), may be done again: when this process ends in between, when the
/// answer of a commit is lost, when another member takes over.
///
/// # Members
///
/// Consumers of the same name, in any number of processes, are members of one group. Each has a fair share of the partitions,
/// which it keeps as long as it lives; when one dies, others [take over](super::ConsumerBuilder::takeover) from its last
/// checkpoint. A checkpoint that comes late from one who was taken for dead is refused ([`Fenced`](ErrorKind::Fenced)), and in a
/// transaction with it everything else.
///
/// A member says by itself that it lives, in a task, as long as it is not dropped; but what it gives up, and takes, it does
/// when it is asked for the next batch. One that is not asked any more keeps what it has: drop it, or [close](Self::close) it.
///
/// # Errors
///
/// An error is an item. As for a [`Subscription`], the next call goes on where time can mend it, and otherwise `None` follows.
/// That is also so for [`LogDiverged`](ErrorKind::LogDiverged): the log has lost events that were handled.
/// [`Error::last_common`] says up to where the two agree; [`ConsumerControl::reset`](crate::ConsumerControl::reset) is for
/// starting anew there, or from the beginning.
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
    /// Whether it has to ask again what it has.
    pub(super) must_claim: bool,
    /// How often it was told to go on from its checkpoint, whatever it has handed out, and how often it has.
    pub(super) rewinds: Arc<AtomicU64>,
    pub(super) rewound: u64,
    /// Up to where this member has saved what it has now.
    pub(super) saved: Arc<AtomicU64>,
    /// Whether the log is known to hold the checkpoints.
    pub(super) is_checked: bool,
    pub(super) has_joined: bool,
    pub(super) has_ended: bool,
    /// Whether it has gone back to its checkpoint since the log had lost what it has handed out.
    pub(super) has_diverged: bool,
    pub(super) claim_pause: Duration,
    pub(super) claim_at: Option<Instant>,
    pub(super) subscription: Option<Subscription>,
    /// A step forward without events, and until when it waits for one with some.
    pub(super) quiet: Option<(Batch, Instant)>,
    handed_out: Instant,
    pub(super) stop: StopHandle,
}

/// What there is to do next.
enum Next {
    Read(Option<Result<Batch>>),
    /// Something was heard from the group.
    Heard,
    /// Nothing has come that would be worth waiting for.
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

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.member.consumer
    }

    /// The partitions that this member has, as far as it knows.
    #[must_use]
    pub fn partitions(&self) -> impl ExactSizeIterator<Item = u32> + '_ {
        self.owned.iter().map(|owned| owned.partition.unsigned_abs())
    }

    /// What ends it, also while somebody waits for the next batch.
    #[must_use]
    pub fn stop_handle(&self) -> StopHandle {
        self.stop.clone()
    }

    /// The next events that are this member's, as soon as there are some, or a step forward without any; `None` when it has
    /// ended.
    ///
    /// # Errors
    ///
    /// See [`Consumer`]. [`Configuration`](ErrorKind::Configuration) when the consumer has another number of partitions, or was
    /// deleted while it ran.
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

    /// As [`next_batch`](Self::next_batch), and what this member has whenever that changes.
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
                // What was handed out and not committed may be lost with a primary. The checkpoint tells whether more is.
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

    /// Goes on from the checkpoint that is saved, whatever has been handed out behind it: for when handling has failed. It also
    /// lets a consumer go on that has ended with an error, once the reason is mended.
    pub fn rewind(&self) {
        self.rewinds.fetch_add(1, Ordering::AcqRel);
    }

    /// Gives up what it has, so that others need not wait until it counts as dead.
    ///
    /// # Errors
    ///
    /// When the primary cannot be reached. Others then take over as if it had died.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it is as dead.
    pub async fn close(mut self) -> Result<()> {
        self.heartbeat = None;
        if std::mem::take(&mut self.has_joined) {
            self.store.leave(&self.member, self.deadline()).await?;
        }
        Ok(())
    }

    pub(super) fn deadline(&self) -> Deadline {
        self.store.deadline(self.plan.timeout)
    }

    fn failed(&mut self, error: Error) -> Error {
        self.has_ended = is_final(&error);
        self.claim_at = Some(Instant::now() + self.claim_pause);
        self.claim_pause = (self.claim_pause * 2).min(LONGEST_PAUSE);
        error
    }

    /// Waits for what comes first: events, news of the group, an end.
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
        let start = self.owned.iter().map(|owned| owned.mark).min_by_key(|mark| mark.map_or(0, |it| it.position()));
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

    /// What of a batch is this member's, if it is to be handed out now.
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
        let is_first = self.owned.iter().any(|owned| owned.mark.is_none());
        let needs = self.owned.iter().map(|owned| owned.needs).collect();
        let bases = self.owned.iter().map(|owned| owned.mark.map_or(0, |mark| mark.position())).collect();
        for owned in &mut self.owned {
            if owned.mark.is_none_or(|before| before.position() < mark.position()) {
                if let Some(before) = owned.mark.replace(mark) {
                    owned.trail.push(before);
                }
                if !batch.is_empty() {
                    owned.needs = mark.position();
                }
            }
        }
        (self.handed_out, self.has_diverged) = (Instant::now(), false);
        let checkpoint = CheckpointRequest {
            consumer: self.member.consumer.clone(),
            member: self.member.id,
            partitions: self.owned.iter().map(|owned| owned.partition).collect(),
            epochs: self.owned.iter().map(|owned| owned.epoch).collect(),
            past: self.owned.iter().map(|owned| owned.trail.to_text()).collect(),
            needs,
            bases,
            mark,
        };
        figures! { crate::telemetry::metrics::consume::handed_out(&self.member.consumer, batch.events_behind()); }
        ConsumerBatch::new(batch, checkpoint, is_first)
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        if self.has_joined
            && let Ok(runtime) = Handle::try_current()
        {
            let (store, member) = (self.store.clone(), self.member.clone());
            runtime.spawn(async move { store.leave(&member, Deadline::after(LEAVE)).await });
        }
    }
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").field("member", &self.member).field("owned", &self.owned).finish_non_exhaustive()
    }
}
