use std::{sync::Arc, time::Duration};

use super::*;
use crate::{
    AppendCondition, ExpectedVersion, NewEvent,
    router::Deadline,
    store::{AppendRequest, StreamAppend, postgres::append::prepared::Prepared},
};

/// An append of this many events, to a stream or to none.
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
    queue.take_batch(&GroupLimits::default(), usize::MAX)
}

fn share(taken: &Taken) -> f64 {
    taken.in_flight.as_ref().expect("it is under way").lock_share
}

fn end(queue: &mut Queue, taken: Taken) {
    queue.end_batch(taken.in_flight.expect("it is under way"));
}

#[test]
fn a_batch_takes_half_of_the_queue_if_each_half_is_worth_a_batch() {
    let taken = |appends: Vec<Waiting>| take(&mut queue(appends)).waiting.len();
    assert_eq!(taken(ones(32).collect()), 16);
    assert_eq!(taken(ones(31).collect()), 31, "one of the halves would be too small");
    let large_first = [append(150, None)].into_iter().chain(ones(10));
    assert_eq!(taken(large_first.collect()), 11, "the rest would be too small");
    let large_last = ones(10).chain([append(150, None)]);
    assert_eq!(taken(large_last.collect()), 11, "the first half would be too small");
}

#[test]
fn a_batch_has_no_more_events_bytes_and_appends_than_it_may_have() {
    let taken = |limits: GroupLimits, most, appends: Vec<Waiting>| {
        let mut queue = queue(appends);
        queue.has_a_half_left = true;
        queue.take_batch(&limits, most).waiting.len()
    };
    let usual = GroupLimits::default();
    let threes = |amount: usize| (0..amount).map(|_| append(3, None)).collect();
    let events = GroupLimits { batch_events: 10, ..usual };
    assert_eq!(taken(events, usize::MAX, threes(8)), 3, "a fourth would have more than ten events");
    let one = append(3, None).append.len;
    let bytes = GroupLimits { batch_bytes: 2 * one, ..usual };
    assert_eq!(taken(bytes, usize::MAX, threes(8)), 2);
    assert_eq!(taken(usual, 5, threes(8)), 5);
    assert_eq!(taken(usual, usize::MAX, threes(8)), 8);
    // An append that alone is larger goes alone.
    let large = [append(11, None), append(1, None)];
    assert_eq!(taken(events, usize::MAX, large.into()), 1);
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

    // The drain that was to come is gone with all the others.
    queue.drains = 1;
    queue.end_drain(false);
    queue.in_flight = 0;
    queue.put_back(ones(64).collect());
    assert_eq!(take(&mut queue).waiting.len(), 64);
}

#[test]
fn appends_too_few_for_a_batch_wait_for_the_one_in_flight() {
    let mut queue = queue(ones(20));
    let first = take(&mut queue);
    queue.put_back(ones(15).collect());
    let none = take(&mut queue);
    assert!(none.waiting.is_empty() && none.in_flight.is_none());
    end(&mut queue, first);
    assert_eq!(take(&mut queue).waiting.len(), 15);
}

#[test]
fn while_others_write_as_well_a_batch_behind_another_one_is_larger() {
    let limits = GroupLimits::default();
    let mut queue = queue(ones(127));
    queue.is_shared = true;
    let all = take(&mut queue);
    assert_eq!(all.waiting.len(), 127);
    queue.put_back(ones(63).collect());
    assert!(!queue.is_worth_a_batch(&limits));
    queue.push(append(1, None));
    assert!(queue.is_worth_a_batch(&limits));
}

#[tokio::test(start_paused = true)]
async fn nobody_is_sent_behind_a_batch_that_may_wait_for_its_lock_until_his_limit_runs_out() {
    let limits = GroupLimits::default();
    let with_limit = |seconds: u64| {
        let deadline = Deadline::after(Duration::from_secs(seconds));
        let mut waiting = append(1, None);
        waiting.deadline = deadline;
        waiting
    };
    let mut queue = queue(ones(20));
    let first = take(&mut queue);
    assert_eq!(share(&first), LOCK_SHARE);
    queue.lock_until = None;
    queue.waits_for_lock(Duration::from_secs(8));
    queue.put_back((0..20).map(|_| with_limit(10)).collect());
    assert!(queue.is_worth_a_batch(&limits), "there is a second left, and another one for the answer");
    queue.push(with_limit(8));
    assert!(!queue.is_worth_a_batch(&limits));
    assert!(take(&mut queue).waiting.is_empty());
    // It no longer waits for the lock.
    tokio::time::advance(Duration::from_secs(1)).await;
    end(&mut queue, first);
    let next = take(&mut queue);
    assert_eq!((next.waiting.len(), share(&next)), (21, LOCK_SHARE));
    queue.put_back((0..16).map(|_| with_limit(10)).collect());
    let successor = take(&mut queue);
    assert_eq!(
        (successor.waiting.len(), share(&successor)),
        (16, LOCK_SHARE_OF_SUCCESSOR),
        "of the one before nothing is left"
    );
}

#[test]
fn nobody_is_sent_behind_another_one_while_the_lock_is_not_to_be_had() {
    let limits = GroupLimits::default();
    let mut queue = queue(ones(20));
    let first = take(&mut queue);
    queue.put_back(ones(64).collect());
    assert!(queue.is_worth_a_batch(&limits));
    queue.had_no_lock = true;
    assert!(!queue.is_worth_a_batch(&limits) && take(&mut queue).waiting.is_empty());
    end(&mut queue, first);
    let all = take(&mut queue);
    assert_eq!((all.waiting.len(), share(&all)), (64, LOCK_SHARE), "nor in halves");
}

#[test]
fn behind_a_pooler_no_batch_is_behind_another_one() {
    let limits = GroupLimits::default();
    let mut queue = queue(ones(64));
    queue.is_pooled = true;
    assert!(!queue.is_worth_a_drain(&limits));
    let all = take(&mut queue);
    assert_eq!(all.waiting.len(), 64);
    // There may still be a second drain, from before that was known.
    queue.put_back(ones(64).collect());
    assert_eq!(share(&take(&mut queue)), LOCK_SHARE);
}

#[test]
fn only_one_of_two_batches_has_appends_to_streams() {
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
fn counts_of_waiting_appends_follow_every_change_of_the_queue() {
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

#[test]
fn the_wait_of_a_batch_behind_another_one_begins_when_that_has_ended() {
    let mut queue = queue(ones(64));
    let [first, second] = [take(&mut queue), take(&mut queue)];
    queue.waits_for_lock(Duration::from_secs(2));
    // As if all of that time had passed.
    queue.lock_until = None;
    end(&mut queue, first);
    assert!(queue.lock_until.is_some_and(|until| until > Instant::now()), "it may still wait for as long as it has");
    queue.lock_until = None;
    end(&mut queue, second);
    assert_eq!(queue.lock_until, None, "nothing waits any more");
}
