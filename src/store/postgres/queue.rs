//! The line of those who wait to be sent, and how many work it off.

use std::collections::VecDeque;

use super::{
    GroupLimits,
    group::{GIVEN_UP, Waiting},
};

/// A batch beside another one is worth it for so many events, which take the server a millisecond or two. For fewer, a second
/// call and a second flush of the WAL cost more than is won by not waiting for the first one's answer.
const WORTH_A_BATCH: usize = 64;

/// Or for this part of what a batch may have.
const PART_WORTH_A_BATCH: usize = 2;

#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: VecDeque<Waiting>,
    /// What they have, all together.
    events: usize,
    bytes: usize,
    /// The number of the next one that gets in line.
    pub(super) next: u64,
    /// How many take them out,
    pub(super) drains: usize,
    /// how many of these have a connection,
    pub(super) connected: usize,
    /// and how many have a batch under way.
    pub(super) under_way: usize,
    /// Whether a drain beside another one got no connection, since that one began its last batch.
    pub(super) no_more: bool,
    pub(super) closed: bool,
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Waiting> {
        self.waiting.iter()
    }

    pub(super) fn push(&mut self, mut waiting: Waiting) {
        waiting.number = self.next;
        self.next += 1;
        self.count(&waiting);
        self.waiting.push_back(waiting);
    }

    /// They are the next ones, in their order.
    pub(super) fn put_back(&mut self, waiting: Vec<Waiting>) {
        for one in waiting.into_iter().rev() {
            self.count(&one);
            self.waiting.push_front(one);
        }
    }

    fn count(&mut self, waiting: &Waiting) {
        self.events += waiting.append.events.len();
        self.bytes += waiting.append.len;
    }

    pub(super) fn remove_first(&mut self, amount: usize) -> Vec<Waiting> {
        let removed: Vec<Waiting> = self.waiting.drain(..amount.min(self.waiting.len())).collect();
        self.count_again();
        removed
    }

    /// Those who got in line before this number.
    pub(super) fn remove_before(&mut self, number: u64) -> Vec<Waiting> {
        let (removed, kept) = std::mem::take(&mut self.waiting).into_iter().partition(|one| one.number < number);
        self.waiting = kept;
        self.count_again();
        Vec::from(removed)
    }

    pub(super) fn forget_the_given_up(&mut self) {
        self.waiting.retain(|waiting| !waiting.stage.is(GIVEN_UP) && waiting.is_wanted());
        self.count_again();
    }

    fn count_again(&mut self) {
        self.events = self.waiting.iter().map(|waiting| waiting.append.events.len()).sum();
        self.bytes = self.waiting.iter().map(|waiting| waiting.append.len).sum();
    }

    /// Whether another one would be more than may wait. One that is larger than the limit alone still gets its turn.
    pub(super) fn is_full(&self, limits: &GroupLimits, next: &Waiting) -> bool {
        self.waiting.len() >= limits.waiting_appends
            || !self.waiting.is_empty() && self.bytes + next.append.len > limits.waiting_bytes
    }

    /// Whether enough wait for a batch beside another one.
    pub(super) fn is_worth_a_batch(&self, limits: &GroupLimits) -> bool {
        self.has_batches(limits, 1)
    }

    fn has_batches(&self, limits: &GroupLimits, amount: usize) -> bool {
        let worth = |limit: usize| amount * limit.div_ceil(PART_WORTH_A_BATCH);
        self.events >= amount * WORTH_A_BATCH.min(limits.batch_events)
            || self.waiting.len() >= worth(limits.batch_appends)
            || self.bytes >= worth(limits.batch_bytes)
    }

    /// How many of those who wait may go into a batch: as many as its limits allow. But half of them are left to a drain beside
    /// this one, if none has a batch under way and that is worth it: the server reads the second half while it writes the first.
    pub(super) fn next_batch(&self, limits: &GroupLimits, may_be_shared: bool) -> usize {
        let is_shared = may_be_shared && self.under_way == 0 && self.has_batches(limits, 2);
        let most_events =
            if is_shared { self.events.div_ceil(2).min(limits.batch_events) } else { limits.batch_events };
        let most_bytes = if is_shared { self.bytes.div_ceil(2).min(limits.batch_bytes) } else { limits.batch_bytes };
        let (mut appends, mut events, mut bytes) = (0, 0, 0);
        let fits = |waiting: &&Waiting| {
            appends += 1;
            events += waiting.append.events.len();
            bytes += waiting.append.len;
            appends == 1 || events <= most_events && bytes <= most_bytes
        };
        self.waiting.iter().take_while(fits).count()
    }
}
