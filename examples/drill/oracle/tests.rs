//! The oracle on hand-written histories: each rule, broken alone.

use std::time::SystemTime;

use mainstem::{Event, Filter, Mark};
use serde_json::json;

use super::{Rule, Verdict, judge};
use crate::{
    journal::{Answer, Condition, Entry, Read, Written},
    readers::Seen,
};

fn written(event_type: &str) -> Written {
    Written {
        id: mainstem::EventId::new(),
        event_type: event_type.to_owned(),
        tags: vec!["t".to_owned()],
        payload: json!({"n": 1}),
        metadata: json!({}),
        occurred: 1,
    }
}

fn of_type(event_type: &str) -> Filter {
    Filter::matching().any_type_of([event_type]).finish().unwrap()
}

/// The log of these events, at positions 1, 2, 3 …
fn log<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Vec<Event> {
    let events = entries.into_iter().flat_map(|entry| &entry.events);
    events.zip(1..).map(|(event, position)| event.event().unwrap().into_recorded(position, SystemTime::now())).collect()
}

fn appended(first: u64, last: u64) -> Answer {
    Answer::Appended { first, last, repeated: false }
}

fn conflict(position: u64, event_type: &str) -> Answer {
    Answer::Conflict { position, event_type: event_type.to_owned() }
}

/// An append of one event without a condition.
fn plain(event_type: &str, answer: Answer) -> Entry {
    Entry { writer: 0, events: vec![written(event_type)], condition: None, answers: vec![answer], lost: 0 }
}

/// The same under the condition that no event of the type follows `after`; `positions` are those that were read.
fn guarded(event_type: &str, after: &Entry, position: u64, positions: Vec<u64>, answer: Answer) -> Entry {
    let after = Some(Mark::new(position, after.events.last().unwrap().id));
    let read = Some(Read { from: 0, positions });
    let condition = Some(Condition { filter: of_type(event_type), after, read });
    Entry { condition, ..plain(event_type, answer) }
}

fn broken(verdict: &Verdict) -> Vec<Rule> {
    let mut rules: Vec<Rule> = verdict.broken.iter().map(|broken| broken.rule).collect();
    rules.dedup();
    rules
}

fn judged(entries: &[&Entry], log: &[Event], seen: &[Seen]) -> Verdict {
    judge(&[entries.iter().copied().cloned().collect()], log, seen).unwrap()
}

fn seen(log: &[Event]) -> Seen {
    Seen { by: "primary", events: log.iter().map(|event| (event.position(), event.id())).collect() }
}

#[test]
fn a_history_without_a_fault_breaks_no_rule() {
    let one = plain("A", appended(1, 1));
    let mut two = guarded("A", &one, 1, vec![1], appended(2, 2));
    two.answers.push(Answer::Appended { first: 2, last: 2, repeated: true });
    let late = guarded("A", &one, 1, vec![1], conflict(2, "A"));
    let other = guarded("B", &one, 1, vec![], appended(3, 3));
    let log = log([&one, &two, &other]);
    let verdict = judge(&[vec![one, two], vec![late, other]], &log, &[seen(&log), seen(&log[..1])]).unwrap();
    assert_eq!(verdict.broken, []);
    assert_eq!((verdict.appends, verdict.conflicts, verdict.across), (3, 1, 1));
}

#[test]
fn two_who_saw_the_same_cannot_both_win() {
    let one = plain("A", appended(1, 1));
    let (two, three) = (guarded("A", &one, 1, vec![1], appended(2, 2)), guarded("A", &one, 1, vec![1], appended(3, 3)));
    let verdict = judged(&[&one, &two, &three], &log([&one, &two, &three]), &[]);
    assert_eq!(broken(&verdict), [Rule::TruePredecessor, Rule::OneWinner]);
}

#[test]
fn a_winner_is_based_on_an_event_that_is_there() {
    let (one, gone) = (plain("A", appended(1, 1)), plain("A", appended(1, 1)));
    let two = guarded("B", &gone, 1, vec![], appended(2, 2));
    assert_eq!(broken(&judged(&[&one, &two], &log([&one, &two]), &[])), [Rule::TruePredecessor]);
}

#[test]
fn a_read_misses_nothing_below_its_head() {
    let (one, two) = (plain("A", appended(1, 1)), plain("B", appended(2, 2)));
    let three = guarded("A", &two, 2, vec![], appended(3, 3));
    let verdict = judged(&[&one, &two, &three], &log([&one, &two, &three]), &[]);
    assert_eq!(broken(&verdict), [Rule::CompleteRead]);
}

#[test]
fn what_was_acknowledged_is_there_whole_and_in_its_place() {
    let (one, mut two) = (plain("A", appended(1, 1)), plain("A", appended(1, 1)));
    assert_eq!(broken(&judged(&[&one, &two], &log([&one]), &[])), [Rule::Acknowledged]);
    two.events.push(written("B"));
    two.answers = vec![appended(2, 3)];
    let log = log([&one, &two]);
    assert_eq!(broken(&judged(&[&one, &two], &log, &[])), []);
    assert_eq!(broken(&judged(&[&one, &two], &log[..2], &[])), [Rule::Whole, Rule::Acknowledged]);
    two.events[1].payload = json!({"n": 2});
    assert_eq!(broken(&judged(&[&one, &two], &log, &[])), [Rule::Whole]);
}

#[test]
fn what_was_refused_is_not_there_and_nobody_elses_either() {
    let one = plain("A", appended(1, 1));
    let two =
        Entry { condition: guarded("A", &one, 0, vec![], appended(0, 0)).condition, ..plain("A", conflict(1, "A")) };
    assert_eq!(broken(&judged(&[&one, &two], &log([&one]), &[])), []);
    let verdict = judged(&[&one, &two], &log([&one, &two]), &[]);
    assert!(broken(&verdict).contains(&Rule::Refused), "{:?}", verdict.broken);
    assert_eq!(broken(&judged(&[&one], &log([&one, &plain("A", appended(2, 2))]), &[])), [Rule::NobodysEvent]);
}

#[test]
fn an_append_has_one_outcome() {
    let mut one = plain("A", appended(1, 1));
    one.answers.push(appended(1, 1));
    assert_eq!(broken(&judged(&[&one], &log([&one]), &[])), [Rule::OneOutcome]);
}

#[test]
fn a_conflict_names_a_match() {
    let (one, two, three) = (plain("A", appended(1, 1)), plain("A", appended(2, 2)), plain("A", appended(3, 3)));
    let log = log([&one, &two, &three]);
    for (position, event_type, right) in
        [(2, "A", true), (3, "A", true), (2, "B", false), (1, "A", false), (4, "A", false)]
    {
        let refused = guarded("A", &one, 1, vec![1], conflict(position, event_type));
        let rules: &[Rule] = if right { &[] } else { &[Rule::TrueConflict] };
        assert_eq!(broken(&judged(&[&one, &two, &three, &refused], &log, &[])), rules, "{position} {event_type}");
    }
}

#[test]
fn readers_see_the_log_grow_at_its_end_only() {
    let entries = [plain("A", appended(1, 1)), plain("A", appended(2, 2)), plain("A", appended(3, 3))];
    let log = log(&entries);
    let entries: Vec<&Entry> = entries.iter().collect();
    let with = |change: fn(&mut Seen)| {
        let mut seen = seen(&log);
        change(&mut seen);
        broken(&judged(&entries, &log, &[seen]))
    };
    assert_eq!(with(|seen| seen.events.truncate(2)), []);
    assert_eq!(with(|seen| seen.events.retain(|(position, _)| *position != 2)), [Rule::CommitOrder]);
    assert_eq!(with(|seen| seen.events.swap(0, 1)), [Rule::CommitOrder]);
    assert_eq!(with(|seen| seen.events[1].1 = mainstem::EventId::new()), [Rule::CommitOrder]);
    assert_eq!(with(|seen| seen.events.push((4, mainstem::EventId::new()))), [Rule::CommitOrder]);
}

#[test]
fn an_answer_that_nobody_expects_is_told() {
    let one = plain("A", Answer::Other("the disk is full".to_owned()));
    assert_eq!(judged(&[&one], &[], &[]).unexplained.len(), 1);
}
