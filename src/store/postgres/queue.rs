//! The line of those who wait to be sent, and how many work it off.

use std::collections::VecDeque;

use super::{
    GroupLimits,
    group::{GIVEN_UP, Waiting},
};

/// A batch beside another one is worth it for so many events, which take the server a millisecond or more. For fewer, a second
/// call and a second flush of the WAL cost more than is won by not waiting for the first one's answer.
const WORTH_A_BATCH: usize = 64;

/// Or for this part of what a batch may have.
const PART_WORTH_A_BATCH: usize = 2;

#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: VecDeque<Waiting>,
    /// What they are, all together.
    load: Load,
    /// The number of the next one that gets in line.
    pub(super) next: u64,
    /// How many take them out,
    pub(super) drains: usize,
    /// how many of these have a connection,
    pub(super) connected: usize,
    /// how many have a batch under way,
    under_way: usize,
    /// and how many appends to streams there are in these batches.
    streams_under_way: usize,
    /// Whether a half was left to another drain, and none has taken anything beside the first one since.
    has_a_half_left: bool,
    /// Whether a drain beside another one got no connection, since that one began its last batch.
    pub(super) no_more: bool,
    pub(super) closed: bool,
}

/// How much there is of appends.
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

    fn is_worth_a_batch(self, limits: &GroupLimits) -> bool {
        let part = |limit: usize| limit.div_ceil(PART_WORTH_A_BATCH);
        self.events >= WORTH_A_BATCH.min(limits.batch_events)
            || self.appends >= part(limits.batch_appends)
            || self.bytes >= part(limits.batch_bytes)
    }
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.load.bytes
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Waiting> {
        self.waiting.iter()
    }

    pub(super) fn push(&mut self, mut waiting: Waiting) {
        waiting.number = self.next;
        self.next += 1;
        self.load.add(&waiting);
        self.waiting.push_back(waiting);
    }

    /// They are the next ones, in their order.
    pub(super) fn put_back(&mut self, waiting: Vec<Waiting>) {
        for one in waiting.into_iter().rev() {
            self.load.add(&one);
            self.waiting.push_front(one);
        }
    }

    pub(super) fn remove_first(&mut self, amount: usize) -> Vec<Waiting> {
        let removed: Vec<Waiting> = self.waiting.drain(..amount.min(self.waiting.len())).collect();
        self.load = self.load.without(Load::of(&removed));
        removed
    }

    /// Those who got in line before this number.
    pub(super) fn remove_before(&mut self, number: u64) -> Vec<Waiting> {
        let (removed, kept) = std::mem::take(&mut self.waiting).into_iter().partition(|one| one.number < number);
        self.waiting = kept;
        let removed = Vec::from(removed);
        self.load = self.load.without(Load::of(&removed));
        removed
    }

    pub(super) fn forget_the_given_up(&mut self) {
        self.waiting.retain(|waiting| !waiting.stage.is(GIVEN_UP) && waiting.is_wanted());
        self.load = Load::of(&self.waiting);
    }

    /// Whether another one would be more than may wait. One that is larger than the limit alone still gets its turn.
    pub(super) fn is_full(&self, limits: &GroupLimits, next: &Waiting) -> bool {
        self.waiting.len() >= limits.waiting_appends
            || !self.waiting.is_empty() && self.load.bytes + next.append.len > limits.waiting_bytes
    }

    /// Whether enough wait for a batch beside another one. Not if both would have appends to streams: who goes to a stream may
    /// expect the version that one before it leaves, and which of two batches is first is settled by the server.
    pub(super) fn is_worth_a_batch(&self, limits: &GroupLimits) -> bool {
        let may_be_out_of_order = self.load.streams > 0 && self.streams_under_way > 0;
        !may_be_out_of_order && self.load.is_worth_a_batch(limits)
    }

    /// Takes those of whom a batch may be made, at most so many appends, for a drain whose batch is under way from now on. None, if
    /// they are not worth a batch beside the one that is.
    pub(super) fn take_batch(&mut self, limits: &GroupLimits, most: usize, may_be_shared: bool) -> Taken {
        if self.under_way > 0 && !self.is_worth_a_batch(limits) {
            return Taken::default();
        }
        let half = if may_be_shared { self.half(limits) } else { None };
        // It has been taken only by who takes beside another one.
        self.has_a_half_left = self.under_way == 0 && (self.has_a_half_left || half.is_some());
        let amount = half.unwrap_or_else(|| self.first_within(limits.batch_events, limits.batch_bytes)).min(most);
        let waiting = self.remove_first(amount);
        let streams = Load::of(&waiting).streams;
        self.under_way += 1;
        self.streams_under_way += streams;
        Taken { waiting, under_way: Some(UnderWay { streams }) }
    }

    /// A drain has ended.
    pub(super) fn end_drain(&mut self, had_connection: bool) {
        self.drains -= 1;
        self.connected -= usize::from(had_connection);
        self.has_a_half_left &= self.drains > 0;
    }

    /// The batch is not under way any more.
    pub(super) fn end_batch(&mut self, batch: UnderWay) {
        self.under_way -= 1;
        self.streams_under_way -= batch.streams;
    }

    /// How many are half of those who wait, if no batch is under way and each half is worth one: the server reads the second half
    /// while it writes the first. Not again before somebody has come for the last half that was left: who is to do that may
    /// have no connection.
    fn half(&self, limits: &GroupLimits) -> Option<usize> {
        if self.under_way > 0 || self.has_a_half_left || self.load.streams > 0 {
            return None;
        }
        let [events, bytes] = [self.load.events, self.load.bytes].map(|all| all.div_ceil(2));
        let amount = self.first_within(events.min(limits.batch_events), bytes.min(limits.batch_bytes));
        let first = Load::of(self.waiting.iter().take(amount));
        let rest = self.load.without(first);
        (first.is_worth_a_batch(limits) && rest.is_worth_a_batch(limits)).then_some(amount)
    }

    /// How many of the first who wait have no more than that. The very first one counts, whatever it has.
    fn first_within(&self, most_events: usize, most_bytes: usize) -> usize {
        let mut load = Load::default();
        let fits = |one: &&Waiting| {
            load.add(one);
            load.appends == 1 || load.events <= most_events && load.bytes <= most_bytes
        };
        self.waiting.iter().take_while(fits).count()
    }
}

/// Those who were taken for a batch.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub(super) waiting: Vec<Waiting>,
    pub(super) under_way: Option<UnderWay>,
}

/// What the queue has to know of a batch until it is settled.
#[derive(Debug)]
pub(super) struct UnderWay {
    streams: usize,
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::*;
    use crate::{
        AppendCondition, ExpectedVersion, NewEvent,
        router::Deadline,
        store::{AppendRequest, StreamAppend, postgres::prepared::Prepared},
    };

    /// An append of so many events, to a stream or to none.
    fn append(events: usize, stream: Option<&str>) -> Waiting {
        let events = (0..events).map(|n| NewEvent::new("A", &n).expect("it is valid")).collect();
        let stream = stream.map(|id| StreamAppend { id: id.into(), expected: ExpectedVersion::Any });
        let request = AppendRequest { events, condition: AppendCondition::none(), stream, timeout: None };
        Waiting::new(Arc::new(Prepared::new(request)), None, Deadline::after(Duration::from_secs(60))).0
    }

    fn queue(appends: impl IntoIterator<Item = Waiting>) -> Queue {
        let mut queue = Queue::default();
        appends.into_iter().for_each(|one| queue.push(one));
        queue
    }

    fn ones(amount: usize) -> impl Iterator<Item = Waiting> {
        (0..amount).map(|_| append(1, None))
    }

    fn take(queue: &mut Queue) -> Taken {
        queue.take_batch(&GroupLimits::default(), usize::MAX, true)
    }

    fn end(queue: &mut Queue, taken: Taken) {
        queue.end_batch(taken.under_way.expect("it is under way"));
    }

    #[test]
    fn of_those_who_come_at_once_half_are_left_if_each_half_is_worth_a_batch() {
        let taken = |appends: Vec<Waiting>| take(&mut queue(appends)).waiting.len();
        assert_eq!(taken(ones(128).collect()), 64);
        assert_eq!(taken(ones(127).collect()), 127, "one of the halves would be too small");
        let large_first = [append(150, None)].into_iter().chain(ones(10));
        assert_eq!(taken(large_first.collect()), 11, "the rest would be too small");
        let large_last = ones(10).chain([append(150, None)]);
        assert_eq!(taken(large_last.collect()), 11, "the first half would be too small");
        assert_eq!(queue(ones(128)).take_batch(&GroupLimits::default(), usize::MAX, false).waiting.len(), 128);
    }

    #[test]
    fn no_half_is_left_again_before_somebody_has_come_for_the_last_one() {
        let mut queue = queue(ones(128));
        let half = take(&mut queue);
        assert_eq!(half.waiting.len(), 64);
        end(&mut queue, half);
        queue.put_back(ones(64).collect());
        let alone = take(&mut queue);
        assert_eq!(alone.waiting.len(), 128, "nobody came");

        queue.put_back(ones(64).collect());
        let beside = take(&mut queue);
        assert_eq!(beside.waiting.len(), 64);
        end(&mut queue, alone);
        end(&mut queue, beside);
        queue.put_back(ones(128).collect());
        assert_eq!(take(&mut queue).waiting.len(), 64, "somebody did");

        // Who was to come is gone with all the others.
        queue.drains = 1;
        queue.end_drain(false);
        queue.under_way = 0;
        queue.put_back(ones(64).collect());
        assert_eq!(take(&mut queue).waiting.len(), 64);
    }

    #[test]
    fn who_would_be_a_small_batch_waits_for_the_one_under_way() {
        let mut queue = queue(ones(20));
        let first = take(&mut queue);
        queue.put_back(ones(63).collect());
        let none = take(&mut queue);
        assert!(none.waiting.is_empty() && none.under_way.is_none());
        end(&mut queue, first);
        assert_eq!(take(&mut queue).waiting.len(), 63);
    }

    #[test]
    fn of_two_batches_one_has_appends_to_streams() {
        let limits = GroupLimits::default();
        let mut queue = queue(ones(127).chain([append(1, Some("s"))]));
        assert!(queue.is_worth_a_batch(&limits));
        let all = take(&mut queue);
        assert_eq!(all.waiting.len(), 128, "not in halves");
        queue.put_back(ones(64).collect());
        assert!(queue.is_worth_a_batch(&limits));
        queue.push(append(1, Some("s")));
        assert!(!queue.is_worth_a_batch(&limits));
        assert!(take(&mut queue).waiting.is_empty());
        end(&mut queue, all);
        assert_eq!(take(&mut queue).waiting.len(), 65);
    }

    #[test]
    fn what_waits_is_counted_whichever_way_it_comes_and_goes() {
        let mut queue = queue([append(3, None), append(5, Some("s")), append(7, None), append(9, None)]);
        let counted = |queue: &Queue| (queue.load.appends, queue.load.events, queue.load.streams);
        assert_eq!(counted(&queue), (4, 24, 1));
        let first = queue.remove_first(1);
        assert_eq!(counted(&queue), (3, 21, 1));
        queue.put_back(first);
        assert_eq!(counted(&queue), (4, 24, 1));
        queue.remove_before(2);
        assert_eq!(counted(&queue), (2, 16, 0));
        let bytes = queue.iter().map(|one| one.append.len).sum::<usize>();
        assert_eq!(queue.bytes(), bytes);
        // Nobody listens for the answers.
        queue.forget_the_given_up();
        assert_eq!((counted(&queue), queue.bytes()), ((0, 0, 0), 0));
    }
}
