//! The queue of appends that wait to be sent, and the number of drains.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use super::{
    drain::{LOCK_SHARE, LOCK_SHARE_OF_SUCCESSOR, LOOK_AHEAD},
    group::{Stage, Waiting},
};
use crate::{
    error::{Error, ErrorKind},
    store::postgres::GroupLimits,
};

/// The number of batches in flight at a time: one holds the log's lock, and the next is ready for the server. A third
/// would only wait longer.
const BATCHES: usize = 2;

/// The number of events that justify a batch after another one. For fewer, a call and a flush of the WAL cost more than
/// is gained by not waiting for the first one's answer.
const WORTH_A_BATCH: usize = 16;

/// While other processes write as well, each batch waits for theirs: then it takes more to justify one.
const WORTH_A_TURN: usize = 64;

/// A batch is also worth sending once it has reached this part of any of its limits: a half.
const PART_WORTH_A_BATCH: usize = 2;

/// The error of a closed store.
pub(in crate::store::postgres) fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the store has been closed; nothing was sent")
}

#[derive(Debug, Default)]
pub(in crate::store::postgres) struct Queue {
    waiting: VecDeque<Waiting>,
    /// Their total load.
    load: Load,
    /// The number of the next append to be queued.
    pub(in crate::store::postgres) next: u64,
    /// How many drains there are.
    pub(in crate::store::postgres) drains: usize,
    /// How many of these have a connection.
    pub(in crate::store::postgres) connected: usize,
    /// How many have a batch in flight.
    in_flight: usize,
    /// How many appends to streams there are in these batches.
    streams_in_flight: usize,
    /// Whether a half was left to another drain, and none has taken anything next to the first one since.
    has_a_half_left: bool,
    /// Whether other processes write as well, as far as can be told.
    pub(in crate::store::postgres) is_shared: bool,
    /// Whether each drain has its own connection, since a pooler takes a session back between two statements.
    pub(in crate::store::postgres) is_pooled: bool,
    /// Until when batches in flight may wait for the log's lock.
    lock_until: Option<Instant>,
    /// How long the last one of them may wait.
    lock_timeout: Duration,
    /// Whether the last answered batch did not get the lock.
    pub(in crate::store::postgres) had_no_lock: bool,
    /// When the last limit ends, of all appends that have arrived since the queue was empty and nothing was in flight.
    pub(in crate::store::postgres) last_limit: Option<Instant>,
    pub(in crate::store::postgres) closed: bool,
}

/// The size of a set of appends.
#[derive(Clone, Copy, Debug, Default)]
struct Load {
    appends: usize,
    events: usize,
    bytes: usize,
    /// How many of them go to a stream.
    streams: usize,
}

impl Load {
    fn add(&mut self, one: &Waiting) {
        self.appends += 1;
        self.events += one.append.events.len();
        self.bytes += one.append.len;
        self.streams += usize::from(one.append.stream.is_some());
    }

    fn of<'a>(waiting: impl IntoIterator<Item = &'a Waiting>) -> Self {
        let mut load = Self::default();
        waiting.into_iter().for_each(|one| load.add(one));
        load
    }

    fn without(self, part: Self) -> Self {
        Self {
            appends: self.appends - part.appends,
            events: self.events - part.events,
            bytes: self.bytes - part.bytes,
            streams: self.streams - part.streams,
        }
    }

    fn is_worth_a_batch(self, limits: &GroupLimits, worth: usize) -> bool {
        let part = |limit: usize| limit.div_ceil(PART_WORTH_A_BATCH);
        self.events >= worth.min(limits.batch_events)
            || self.appends >= part(limits.batch_appends)
            || self.bytes >= part(limits.batch_bytes)
    }
}

impl Queue {
    pub(in crate::store::postgres) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(in crate::store::postgres) fn bytes(&self) -> usize {
        self.load.bytes
    }

    pub(in crate::store::postgres) fn iter(&self) -> impl Iterator<Item = &Waiting> {
        self.waiting.iter()
    }

    pub(in crate::store::postgres) fn push(&mut self, mut waiting: Waiting) {
        waiting.number = self.next;
        self.next += 1;
        self.last_limit = self.last_limit.max(Some(waiting.deadline.at()));
        self.load.add(&waiting);
        self.waiting.push_back(waiting);
    }

    /// Puts them back as the next ones, in order.
    pub(in crate::store::postgres) fn put_back(&mut self, waiting: Vec<Waiting>) {
        for one in waiting.into_iter().rev() {
            self.load.add(&one);
            self.waiting.push_front(one);
        }
    }

    pub(in crate::store::postgres) fn remove_first(&mut self, amount: usize) -> Vec<Waiting> {
        let removed: Vec<Waiting> = self.waiting.drain(..amount.min(self.waiting.len())).collect();
        self.load = self.load.without(Load::of(&removed));
        removed
    }

    /// Removes those that were queued before this number.
    pub(in crate::store::postgres) fn remove_before(&mut self, number: u64) -> Vec<Waiting> {
        let (removed, kept) = std::mem::take(&mut self.waiting).into_iter().partition(|one| one.number < number);
        self.waiting = kept;
        let removed = Vec::from(removed);
        self.load = self.load.without(Load::of(&removed));
        removed
    }

    pub(in crate::store::postgres) fn forget_the_given_up(&mut self) {
        self.waiting.retain(|waiting| waiting.stage.load() != Stage::GivenUp && waiting.is_wanted());
        self.load = Load::of(&self.waiting);
    }

    /// Whether another one would exceed what may wait. One that alone is larger than the limit still gets its turn.
    pub(in crate::store::postgres) fn is_full(&self, limits: &GroupLimits, next: &Waiting) -> bool {
        self.waiting.len() >= limits.waiting_appends
            || !self.waiting.is_empty() && self.load.bytes + next.append.len > limits.waiting_bytes
    }

    /// Whether there is room for another drain, and enough appends wait for a batch after the one in flight.
    pub(in crate::store::postgres) fn is_worth_a_drain(&self, limits: &GroupLimits) -> bool {
        self.drains < BATCHES && !self.is_pooled && self.is_worth_a_batch(limits)
    }

    /// Whether enough wait for a batch after another one. Not if both would have appends to streams: an append to a
    /// stream may expect the version that an earlier one leaves, and the order in which two batches are sent is
    /// undefined. Nor if an append's limit would run out while the one before still waits for the log's lock: an append
    /// that has not been sent can time out cleanly, and one that has been sent cannot. Nor when the lock cannot be had.
    pub(in crate::store::postgres) fn is_worth_a_batch(&self, limits: &GroupLimits) -> bool {
        let may_be_out_of_order = self.load.streams > 0 && self.streams_in_flight > 0;
        !may_be_out_of_order
            && !self.had_no_lock
            && self.load.is_worth_a_batch(limits, self.worth())
            && self.all_have_time(limits)
    }

    fn worth(&self) -> usize {
        if self.is_shared || self.is_pooled { WORTH_A_TURN } else { WORTH_A_BATCH }
    }

    /// Whether those that would be taken have time.
    fn all_have_time(&self, limits: &GroupLimits) -> bool {
        let Some(until) = self.lock_until.filter(|_| self.in_flight > 0 && !self.is_pooled) else { return true };
        let next = self.waiting.iter().take(limits.batch_appends * LOOK_AHEAD);
        next.filter(|one| one.stage.load() != Stage::GivenUp)
            .all(|one| until + one.deadline.remaining().mul_f64(LOCK_SHARE_OF_SUCCESSOR) < one.deadline.at())
    }

    /// Records that something is sent that may wait this long for the log's lock.
    pub(in crate::store::postgres) fn waits_for_lock(&mut self, lock_timeout: Duration) {
        self.lock_timeout = lock_timeout;
        self.lock_until = self.lock_until.max(Some(Instant::now() + lock_timeout));
    }

    /// Takes the candidates for a batch, at most so many appends, for a drain whose batch is in flight from now on.
    /// Takes none if they do not justify a batch next to the one in flight.
    pub(in crate::store::postgres) fn take_batch(&mut self, limits: &GroupLimits, most: usize) -> Taken {
        if self.in_flight > 0 && !self.is_worth_a_batch(limits) {
            return Taken::default();
        }
        let half = self.half(limits);
        // Only a drain that takes next to another one has taken that half.
        self.has_a_half_left = self.in_flight == 0 && (self.has_a_half_left || half.is_some());
        let amount = half.unwrap_or_else(|| self.first_within(limits.batch_events, limits.batch_bytes)).min(most);
        let waiting = self.remove_first(amount);
        let streams = Load::of(&waiting).streams;
        let is_successor = self.in_flight > 0 && !self.is_pooled;
        if self.in_flight == 0 {
            self.lock_until = None;
        }
        let lock_share = if is_successor { LOCK_SHARE_OF_SUCCESSOR } else { LOCK_SHARE };
        // What is sent, and how long it waits, is decided in a moment; until then nothing may rely on less.
        let longest = waiting.iter().map(|one| one.deadline.remaining()).max().unwrap_or_default();
        self.waits_for_lock(longest.mul_f64(lock_share));
        self.in_flight += 1;
        self.streams_in_flight += streams;
        Taken { waiting, in_flight: Some(BatchInFlight { streams, lock_share }) }
    }

    /// Records that a drain has ended.
    pub(in crate::store::postgres) fn end_drain(&mut self, had_connection: bool) {
        self.drains -= 1;
        self.connected -= usize::from(had_connection);
        self.has_a_half_left &= self.drains > 0;
        if self.drains == 0 && self.waiting.is_empty() {
            self.last_limit = None;
        }
    }

    /// Records that the batch is no longer in flight.
    pub(in crate::store::postgres) fn end_batch(&mut self, batch: BatchInFlight) {
        self.in_flight -= 1;
        self.streams_in_flight -= batch.streams;
        if self.in_flight > 0 {
            // It begins to wait only now.
            self.waits_for_lock(self.lock_timeout);
        }
    }

    /// Half of the waiting appends, if no batch is in flight and each half justifies one: the second half arrives when
    /// the server has written the first. Not again before a drain has taken the last half that was left: that drain may
    /// not run any more.
    fn half(&self, limits: &GroupLimits) -> Option<usize> {
        if self.in_flight > 0 || self.has_a_half_left || self.load.streams > 0 || self.had_no_lock {
            return None;
        }
        let [events, bytes] = [self.load.events, self.load.bytes].map(|all| all.div_ceil(2));
        let amount = self.first_within(events.min(limits.batch_events), bytes.min(limits.batch_bytes));
        let first = Load::of(self.waiting.iter().take(amount));
        let rest = self.load.without(first);
        let worth = self.worth();
        (first.is_worth_a_batch(limits, worth) && rest.is_worth_a_batch(limits, worth)).then_some(amount)
    }

    /// How many of the first waiting appends have at most this much. The very first one counts, whatever it has.
    fn first_within(&self, most_events: usize, most_bytes: usize) -> usize {
        let mut load = Load::default();
        let fits = |one: &&Waiting| {
            load.add(one);
            load.appends == 1 || load.events <= most_events && load.bytes <= most_bytes
        };
        self.waiting.iter().take_while(fits).count()
    }
}

/// The appends that were taken for a batch.
#[derive(Debug, Default)]
pub(in crate::store::postgres) struct Taken {
    pub(in crate::store::postgres) waiting: Vec<Waiting>,
    pub(in crate::store::postgres) in_flight: Option<BatchInFlight>,
}

/// What the queue must know of a batch until it is settled.
#[derive(Debug)]
pub(in crate::store::postgres) struct BatchInFlight {
    streams: usize,
    /// The share of a limit that it may wait for the log's lock.
    pub(in crate::store::postgres) lock_share: f64,
}

#[cfg(test)]
mod tests;
