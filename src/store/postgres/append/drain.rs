//! Working through the queue of appends: which of them go together, and when a drain is needed.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    group::{Group, Stage, Waiting},
    overtaken::Overtaken,
    patience::patient,
    queue::{BatchInFlight, Queue},
};
use crate::{
    error::{Error, ErrorKind},
    router::{Deadline, ServerSession},
    store::{
        batch::{self, Turn},
        postgres::tail::{LocalCheck, Predecessor, Tail},
    },
};

/// More appends than can be sent together are considered for a batch, since some may have to be deferred.
pub(in crate::store::postgres) const LOOK_AHEAD: usize = 2;

/// The share of a call's limit spent waiting for the log's lock, so its error arrives before the limit makes the
/// outcome unknown.
pub(in crate::store::postgres) const LOCK_SHARE: f64 = 0.8;

/// The same for a batch that follows another one of its session, which may itself have waited for the lock.
pub(in crate::store::postgres) const LOCK_SHARE_OF_SUCCESSOR: f64 = 0.1;

/// The right to work through the queue.
#[derive(Debug)]
pub(in crate::store::postgres) struct Drain {
    group: Arc<Group>,
    /// The appends whose answers are outstanding. If this is dropped before, their outcome stays unknown.
    sent: Vec<Waiting>,
    /// Whether it has a connection.
    connected: bool,
    /// Its batch.
    in_flight: Option<BatchInFlight>,
    /// Whether it has ended because it is no longer needed.
    over: bool,
}

/// What is sent next.
#[derive(Debug)]
pub(in crate::store::postgres) struct NextBatch {
    /// In order, each with the right to be sent: given-up ones are not among them.
    pub(in crate::store::postgres) appends: Vec<Waiting>,
    /// Those that need not be sent, if these are written or because of what the tail knows.
    pub(in crate::store::postgres) overtaken: Vec<Overtaken>,
    /// The batch that this one follows.
    pub(in crate::store::postgres) predecessor: Option<Predecessor>,
}

impl Drain {
    pub(in crate::store::postgres) fn new(group: Arc<Group>) -> Self {
        Self { group, sent: Vec::new(), connected: false, in_flight: None, over: false }
    }

    /// When the last waiting append gives up; `None`, and the drain is over, if none waits, or so few that they may
    /// wait for another drain.
    pub(in crate::store::postgres) fn next(&mut self) -> Option<Deadline> {
        let group = Arc::clone(&self.group);
        let mut queue = group.queue();
        self.end_batch(&mut queue);
        queue.forget_the_given_up();
        let last = queue.iter().map(|waiting| waiting.deadline).max_by_key(Deadline::at);
        let others_do = self.others_can(&queue) && !queue.is_worth_a_batch(&group.limits);
        if others_do || last.is_none() {
            self.end(&mut queue);
            drop(queue);
            group.idle.notify_waiters();
            return None;
        }
        last
    }

    /// Whether another drain has a connection, and will therefore look at the queue again.
    fn others_can(&self, queue: &Queue) -> bool {
        queue.connected > usize::from(self.connected)
    }

    fn end(&mut self, queue: &mut Queue) {
        queue.end_drain(std::mem::take(&mut self.connected));
        self.end_batch(queue);
        self.over = true;
    }

    fn end_batch(&mut self, queue: &mut Queue) {
        if let Some(batch) = self.in_flight.take() {
            queue.end_batch(batch);
        }
    }

    /// Records that it has a connection, or no longer has one.
    pub(in crate::store::postgres) fn connected(&mut self, connected: bool) {
        let group = Arc::clone(&self.group);
        let mut queue = group.queue();
        queue.connected -= usize::from(std::mem::replace(&mut self.connected, connected));
        queue.connected += usize::from(connected);
    }

    /// Leaves the queue to another drain, after failing to get a connection; returns whether there is one that has a
    /// connection.
    pub(in crate::store::postgres) fn leave(&mut self) -> bool {
        let group = Arc::clone(&self.group);
        let mut queue = group.queue();
        if self.others_can(&queue) {
            self.end(&mut queue);
        }
        self.over
    }

    /// The number of the next append to be queued.
    pub(in crate::store::postgres) fn next_number(&self) -> u64 {
        self.group.queue().next
    }

    /// How many appends wait now.
    pub(in crate::store::postgres) fn waiting(&self) -> usize {
        self.group.queue().len()
    }

    /// Refuses the appends that were queued before this number: they cannot be sent.
    pub(in crate::store::postgres) fn refuse(&self, number: u64, error: &Error) {
        let refused = self.group.queue().remove_before(number);
        refused.into_iter().for_each(|waiting| waiting.answer(Err(error.clone())));
    }

    /// Takes what is sent next.
    pub(in crate::store::postgres) fn take(&mut self, tail: &Tail, session: ServerSession) -> NextBatch {
        let mut candidates = self.candidates(!tail.is_ours());
        // An append whose caller is gone is not taken, since a deferred one would have the right to be sent again.
        candidates.retain(|waiting| waiting.is_wanted() && Stage::step(&waiting.stage, Stage::Queued, Stage::Sent));
        let (candidates, impatient) = patient(candidates);
        let is_pooled = self.group.queue().is_pooled;
        let NextBatch { appends: candidates, mut overtaken, predecessor } = look(tail, session, is_pooled, candidates);
        let most = self.group.limits.batch_appends;
        let turns = batch::plan(&candidates.iter().map(Waiting::candidate).collect::<Vec<_>>(), most);
        let numbers: Vec<u64> = candidates.iter().map(|waiting| waiting.number).collect();
        let (mut appends, mut later) = (Vec::new(), Vec::new());
        for (waiting, turn) in candidates.into_iter().zip(turns) {
            match turn {
                Turn::Now => appends.push(waiting),
                Turn::Later => later.push(waiting),
                Turn::After(rivals) => {
                    let rivals = rivals.into_iter().map(|rival| (numbers[rival.append], rival.event)).collect();
                    overtaken.push(Overtaken::by_rivals(waiting, rivals));
                }
            }
        }
        later.extend(impatient);
        later.sort_by_key(|one| (!one.is_known, one.number));
        self.put_back(later);
        NextBatch { appends, overtaken, predecessor }
    }

    /// The candidates for a batch: as many as may be sent together, and some more.
    fn candidates(&mut self, is_shared: bool) -> Vec<Waiting> {
        let limits = self.group.limits;
        let group = Arc::clone(&self.group);
        let mut queue = group.queue();
        self.end_batch(&mut queue);
        queue.is_shared = is_shared;
        let taken = queue.take_batch(&limits, limits.batch_appends * LOOK_AHEAD);
        self.in_flight = taken.in_flight;
        taken.waiting
    }

    /// Whether the remaining appends justify another drain. It is already counted: the caller must spawn it.
    #[must_use]
    pub(in crate::store::postgres) fn claim_another(&self) -> bool {
        self.group.claim_drain(&mut self.group.queue())
    }

    /// Puts back appends that were not sent, or whose sending had no effect: they are next.
    pub(in crate::store::postgres) fn put_back(&self, waiting: Vec<Waiting>) {
        for one in &waiting {
            Stage::step(&one.stage, Stage::Sent, Stage::Queued);
        }
        self.group.queue().put_back(waiting);
    }

    /// Records that these are in flight, and when they must have their lock. `first` is the time left to the first that
    /// gives up; the return value is the part of it that may be spent waiting for the lock.
    pub(in crate::store::postgres) fn send(
        &mut self,
        mut waiting: Vec<Waiting>,
        first: Duration,
    ) -> (&[Waiting], Duration) {
        let now = Instant::now();
        for one in &mut waiting {
            one.lock_until = now + one.deadline.remaining().mul_f64(LOCK_SHARE);
        }
        self.sent = waiting;
        let share = self.in_flight.as_ref().map_or(LOCK_SHARE, |batch| batch.lock_share);
        let lock_timeout = first.mul_f64(share);
        self.group.queue().waits_for_lock(lock_timeout);
        (&self.sent, lock_timeout)
    }

    /// Records whether what was sent has got the log's lock.
    pub(in crate::store::postgres) fn had_lock(&self, had: bool) {
        self.group.queue().had_no_lock = !had;
    }

    /// Returns the appends in flight, to be answered.
    pub(in crate::store::postgres) fn sent(&mut self) -> Vec<Waiting> {
        std::mem::take(&mut self.sent)
    }
}

impl Drop for Drain {
    fn drop(&mut self) {
        let unknown = "the runtime that sent the append was shut down before its answer came";
        for waiting in self.sent() {
            waiting.answer(Err(Error::new(ErrorKind::OutcomeUnknown, unknown)));
        }
        if self.over {
            return;
        }
        let left = {
            let group = Arc::clone(&self.group);
            let mut queue = group.queue();
            self.end(&mut queue);
            // Another drain, perhaps on another runtime, continues with them.
            let amount = if queue.drains == 0 { queue.len() } else { 0 };
            queue.remove_first(amount)
        };
        // Their callers notice by losing the answer, and submit again.
        drop(left);
        self.group.idle.notify_waiters();
    }
}

/// Checks against what this process itself has written: an append whose condition that breaks need not be sent. A
/// pooler's connection survives a crash of the server, which may have lost what was written: there, the server decides.
fn look(tail: &Tail, session: ServerSession, is_pooled: bool, candidates: Vec<Waiting>) -> NextBatch {
    let (judged, predecessor) = tail.judge(session, candidates.iter().map(Waiting::condition));
    let mut appends = Vec::with_capacity(candidates.len());
    let mut overtaken = Vec::new();
    for (mut waiting, judged) in candidates.into_iter().zip(judged) {
        waiting.holds_after_predecessor = matches!(judged, LocalCheck::HeldAfterPredecessor(_)) && !is_pooled;
        waiting.looked_until = match judged {
            _ if is_pooled => None,
            // Its ids decide, not its condition.
            LocalCheck::Broken { .. } if waiting.is_known => None,
            LocalCheck::Broken { position, event_type } => {
                overtaken.push(Overtaken::by_event(waiting, position, event_type));
                continue;
            }
            LocalCheck::HeldUntil(head) | LocalCheck::HeldAfterPredecessor(head) => Some(head),
            LocalCheck::Unknown => None,
        };
        appends.push(waiting);
    }
    NextBatch { appends, overtaken, predecessor }
}
