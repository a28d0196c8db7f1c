mod bounds;
mod far_behind;
mod random;

use std::{sync::Arc, time::Duration};

use serde_json::json;

use super::{BatchInFlight, COMPARED, KEPT_BYTES, LocalCheck, OURS, Predecessor, ServerSession, Tail};
use crate::{
    AppendCondition, Filter, Mark, NewEvent, Predicate,
    store::{AppendRequest, condition::After, postgres::append::prepared::Prepared},
};

const SERVER: (usize, u32) = (0, 0);

/// A log whose events are written through one tail or by others, and a session that is as old as the tail.
struct Log {
    tail: Arc<Tail>,
    session: ServerSession,
    events: Vec<NewEvent>,
    /// The last call, and the head that it found.
    remembered: Option<(uuid::Uuid, Mark)>,
}

impl Log {
    fn new() -> Self {
        let session = ServerSession { server: SERVER, opened: tokio::time::Instant::now() };
        Self { tail: Arc::default(), session, events: Vec::new(), remembered: None }
    }

    fn head(&self) -> u64 {
        self.events.len() as u64
    }

    fn mark(&self, position: u64) -> Mark {
        let index = usize::try_from(position - 1).expect("a position");
        Mark::new(position, self.events.get(index).expect("an event").id())
    }

    /// Others write: the tail does not learn of it.
    fn others_write(&mut self, events: Vec<NewEvent>) {
        self.events.extend(events);
    }

    /// A batch of the tail is committed, and its answer is on the way.
    fn commit(&mut self, events: Vec<NewEvent>) -> Answer {
        let answer = self.send(events);
        self.receive(answer)
    }

    /// It is on the way to the log.
    fn send(&self, events: Vec<NewEvent>) -> Answer {
        let appends = vec![Arc::new(prepared(events, AppendCondition::none()))];
        Answer { in_flight: self.tail.send(self.session, appends.clone()), head: 0, appends }
    }

    /// It is committed.
    fn receive(&mut self, sent: Answer) -> Answer {
        let head = self.head();
        self.remembered = (head > 0).then(|| (sent.in_flight.call(), self.mark(head)));
        self.events.extend(sent.events().cloned());
        Answer { head, ..sent }
    }

    fn write(&mut self, events: Vec<NewEvent>) {
        self.commit(events).arrive();
    }

    /// The place after which a condition must be checked; `None` if nothing is known about it.
    fn judge_as(&self, session: ServerSession, filter: &Filter, after: impl Into<Option<After>>) -> Option<Mark> {
        match self.judge_all_as(session, filter, after) {
            LocalCheck::HeldUntil(head) | LocalCheck::HeldAfterPredecessor(head) => Some(head),
            LocalCheck::Unknown | LocalCheck::Broken { .. } => None,
        }
    }

    fn judge_all_as(&self, session: ServerSession, filter: &Filter, after: impl Into<Option<After>>) -> LocalCheck {
        self.judge_after_predecessor(session, filter, after).0
    }

    fn judge_after_predecessor(
        &self,
        session: ServerSession,
        filter: &Filter,
        after: impl Into<Option<After>>,
    ) -> (LocalCheck, Option<Predecessor>) {
        let condition = AppendCondition::fail_if_events_match(filter.clone());
        let append = prepared(vec![event("x")], condition);
        let (mut looked, predecessor) = self.tail.judge(session, [(after.into(), append.guard.as_ref())].into_iter());
        (looked.pop().expect("one"), predecessor)
    }

    /// The position of the event that is known to break a condition.
    fn broken(&self, name: &str, after: u64) -> Option<u64> {
        match self.judge_all_as(self.session, &boundary(name), After::Mark(self.mark(after))) {
            LocalCheck::Broken { position, .. } => Some(position),
            LocalCheck::Unknown | LocalCheck::HeldUntil(_) | LocalCheck::HeldAfterPredecessor(_) => None,
        }
    }

    fn judge(&self, name: &str, after: u64) -> Option<Mark> {
        self.judge_as(self.session, &boundary(name), After::Mark(self.mark(after)))
    }
}

struct Answer {
    in_flight: BatchInFlight,
    head: u64,
    appends: Vec<Arc<Prepared>>,
}

impl Answer {
    fn events(&self) -> impl Iterator<Item = &NewEvent> {
        self.appends.iter().flat_map(|append| &append.events)
    }

    fn arrive(self) {
        self.in_flight.has_written(self.head, self.appends);
    }
}

fn prepared(events: Vec<NewEvent>, condition: AppendCondition) -> Prepared {
    Prepared::new(AppendRequest { events, condition, stream: None, timeout: None })
}

fn boundary(name: &str) -> Filter {
    boundary_of(name)
}

fn boundary_of<T: serde::Serialize>(value: T) -> Filter {
    Filter::matching().any_predicate_of([Predicate::payload("b", value)]).finish().expect("a filter")
}

fn event(name: &str) -> NewEvent {
    NewEvent::new("A", &json!({"b": name})).expect("an event")
}

fn events(names: &[&str]) -> Vec<NewEvent> {
    names.iter().map(|name| event(name)).collect()
}

#[test]
fn events_of_the_known_tail_are_not_checked_again() {
    let mut log = Log::new();
    log.write(events(&["mine", "other"]));
    log.write(events(&["third"]));
    let head = Some(log.mark(3));
    assert_eq!(log.judge("mine", 1), head, "its own event is not after it");
    assert_eq!(log.judge("third", 1), None, "an event of it is");
    assert_eq!(log.judge("nobody's", 2), head);
    assert_eq!(log.judge_as(log.session, &boundary("nobody's"), After::Position(1)), head);
    assert_eq!(log.judge("third", 3), head, "nothing is after it");
    // Nothing can be known about these.
    assert_eq!(log.judge_as(log.session, &boundary("nobody's"), After::Position(4)), None);
    assert_eq!(log.judge_as(log.session, &boundary("nobody's"), None), None);
    // The first event is known, but not that it is the first.
    assert_eq!(log.judge_as(log.session, &boundary("nobody's"), After::Beginning), None);
    assert_eq!(log.judge_as(log.session, &boundary("nobody's"), After::Position(0)), None);
}

#[test]
fn the_first_of_its_events_that_breaks_a_condition_is_known() {
    let mut log = Log::new();
    log.write(events(&["a", "b"]));
    log.write(events(&["c", "b"]));
    log.write(events(&["b"]));
    assert_eq!(["a", "b", "c"].map(|name| log.broken(name, 1)), [None, Some(2), Some(3)]);
    assert_eq!(log.broken("b", 2), Some(4));
    // What is before an event of others is unknown, and it may be that one.
    log.others_write(events(&["b"]));
    log.write(events(&["d", "b"]));
    assert_eq!([log.broken("b", 4), log.broken("b", 6), log.broken("b", 7)], [None, None, Some(8)]);
    let other = After::Mark(Mark::new(7, event("a").id()));
    assert_eq!(log.judge_all_as(log.session, &boundary("b"), other), LocalCheck::Unknown, "another history");
}

#[test]
fn conditions_far_behind_or_with_gaps_are_left_to_the_server() {
    let mut log = Log::new();
    log.write(events(&["first"]));
    let many: Vec<NewEvent> = (1..COMPARED).map(|n| event(&n.to_string())).collect();
    log.write(many);
    log.write(events(&["hot", "hot"]));
    assert_eq!([log.broken("hot", 1), log.broken("hot", 2)], [Some(COMPARED as u64 + 1); 2]);
    log.write(events(&["late"]));
    assert_eq!([log.broken("late", 1), log.broken("late", 4)], [None, Some(COMPARED as u64 + 3)]);
    // Large ones are not kept for long.
    let large = NewEvent::new("A", &json!({"b": "large", "text": "x".repeat(KEPT_BYTES / 2)})).expect("an event");
    let before = log.head();
    log.write(vec![large.clone()]);
    assert_eq!(log.broken("large", before), Some(before + 1));
    log.write(vec![large.with_id(crate::EventId::new())]);
    log.write(events(&["after"]));
    assert_eq!([log.broken("large", before), log.broken("after", log.head() - 1)], [None, Some(log.head())]);
    assert!(log.tail.written().bytes <= KEPT_BYTES);
}

#[test]
fn a_mark_of_another_history_is_left_to_the_server() {
    let mut log = Log::new();
    log.write(events(&["a", "b"]));
    let other = Mark::new(1, event("a").id());
    assert_eq!(log.judge_as(log.session, &boundary("c"), After::Mark(other)), None);
}

#[test]
fn nothing_is_known_of_the_log_before_an_event_of_others() {
    let mut log = Log::new();
    log.write(events(&["a"]));
    log.others_write(events(&["theirs"]));
    log.write(events(&["b", "c"]));
    assert_eq!(log.judge("theirs", 1), None);
    assert_eq!(log.judge("theirs", 2), None, "nobody knows what is at this position");
    assert_eq!(log.judge("d", 3), Some(log.mark(4)));
}

#[test]
fn a_log_that_ends_earlier_than_it_did_is_begun_anew() {
    let mut log = Log::new();
    log.write(events(&["a"]));
    log.write(events(&["b", "c"]));
    log.events.truncate(1);
    log.write(events(&["d", "e"]));
    assert_eq!(log.judge("f", 2), Some(log.mark(3)));
    assert_eq!(log.judge("f", 1), None);
    log.tail.forget();
    assert_eq!(log.judge("f", 2), None);
    log.write(events(&["g", "h"]));
    assert_eq!(log.judge("f", 4), Some(log.mark(5)));
    assert_eq!(log.judge("f", 3), None);
}

/// The server may have crashed in between, and lost what it had answered.
#[test]
fn a_session_does_not_know_what_was_sent_before_it() {
    let mut log = Log::new();
    log.write(events(&["a", "b"]));
    let early = log.commit(events(&["c", "d"]));
    std::thread::sleep(Duration::from_millis(2));
    let younger = ServerSession { opened: tokio::time::Instant::now(), ..log.session };
    let as_younger = |log: &Log, after| log.judge_as(younger, &boundary("z"), After::Mark(log.mark(after)));
    early.arrive();
    assert_eq!(log.judge("z", 1), Some(log.mark(4)));
    assert_eq!([1, 3].map(|after| as_younger(&log, after)), [None; 2], "that it was answered later does not count");
    log.write(events(&["e", "f"]));
    assert_eq!([1, 3, 4].map(|after| as_younger(&log, after)), [None; 3]);
    assert_eq!(as_younger(&log, 5), Some(log.mark(6)));
}

/// Of two batches, the one that was sent first may be written second.
#[test]
fn a_batch_is_as_old_as_those_behind_it() {
    let mut log = Log::new();
    let sent_first = log.send(events(&["g", "h"]));
    std::thread::sleep(Duration::from_millis(2));
    let between = ServerSession { opened: tokio::time::Instant::now(), ..log.session };
    for name in ["a", "b", "c", "d", "e", "f"] {
        log.write(events(&[name]));
    }
    log.receive(sent_first).arrive();
    assert_eq!(log.judge("z", 1), Some(log.mark(8)));
    for after in 1..=7 {
        assert_eq!(log.judge_as(between, &boundary("z"), After::Mark(log.mark(after))), None, "after {after}");
    }
}

#[test]
fn another_server_is_another_log() {
    let mut log = Log::new();
    log.write(events(&["a", "b"]));
    for server in [(1, 0), (0, 1)] {
        let elsewhere = ServerSession { server, ..log.session };
        assert_eq!(log.judge_as(elsewhere, &boundary("z"), After::Mark(log.mark(1))), None);
    }
    log.session.server = (1, 0);
    log.write(events(&["c", "d"]));
    assert_eq!(log.judge("z", 3), Some(log.mark(4)));
    assert_eq!(log.judge("z", 1), None);
}

#[test]
fn answers_may_come_in_any_order_or_not_at_all() {
    let mut log = Log::new();
    log.write(events(&["a"]));
    let [first, second] = [&["b"], &["c"]].map(|names| log.commit(events(names)));
    second.arrive();
    assert_eq!(log.judge("z", 1), Some(log.mark(1)), "nothing is known after it yet");
    first.arrive();
    assert_eq!(log.judge("z", 1), Some(log.mark(3)));
    assert_eq!(log.judge("b", 1), None);

    let [lost, second] = [&["d"], &["e"]].map(|names| log.commit(events(names)));
    second.arrive();
    drop(lost);
    log.write(events(&["f"]));
    assert_eq!(log.judge("z", 3), None, "what was lost is not known");
    assert_eq!(log.judge("z", 5), Some(log.mark(6)));
}

/// With a batch always in flight, and foreign events before the first one that is known.
#[test]
fn nothing_is_waited_for_for_ever() {
    let mut log = Log::new();
    log.others_write(events(&["theirs"]));
    let mut in_flight = log.commit(events(&["0", "0"]));
    for name in 1..10 {
        let next = log.commit(events(&[name.to_string().as_str(); 2]));
        in_flight.arrive();
        in_flight = next;
    }
    assert_eq!(log.judge("z", 4), Some(log.mark(19)));
    assert!(log.tail.written().early.len() < 2);
}

#[test]
fn a_batch_may_be_looked_at_as_if_the_one_under_way_were_written() {
    let mut log = Log::new();
    log.write(events(&["a", "b"]));
    let head = log.mark(2);
    let judge = |log: &Log, name: &str, after: u64| {
        log.judge_after_predecessor(log.session, &boundary(name), After::Mark(log.mark(after)))
    };
    assert_eq!(judge(&log, "z", 2), (LocalCheck::HeldUntil(head), None), "nothing is under way");
    let first = log.send(events(&["c", "d"]));
    let predecessor = Some(Predecessor { call: first.in_flight.call(), head, events: 2 });
    assert_eq!(judge(&log, "z", 1), (LocalCheck::HeldAfterPredecessor(head), predecessor));
    assert_eq!(judge(&log, "z", 2), (LocalCheck::HeldAfterPredecessor(head), predecessor));
    assert_eq!(judge(&log, "d", 2), (LocalCheck::HeldUntil(head), predecessor), "it would be broken by that");
    assert!(matches!(judge(&log, "b", 1), (LocalCheck::Broken { position: 2, .. }, _)));
    // In another session nothing follows it; nor are two of them remembered.
    let other = ServerSession { opened: log.session.opened - Duration::from_nanos(1), ..log.session };
    log.session = other;
    assert_eq!(log.judge_after_predecessor(other, &boundary("z"), After::Mark(head)).1, None);
    let second = log.send(events(&["e"]));
    assert_eq!(log.judge_after_predecessor(other, &boundary("z"), After::Mark(head)).1, None);
    drop((first, second));
}

#[test]
fn a_process_that_wrote_several_batches_in_a_row_is_likely_alone() {
    let mut log = Log::new();
    for n in 0..OURS {
        assert!(!log.tail.is_ours(), "{n}");
        log.write(vec![event("a")]);
    }
    assert!(log.tail.is_ours());
    log.others_write(vec![event("b")]);
    log.write(vec![event("a")]);
    assert!(!log.tail.is_ours());
}
