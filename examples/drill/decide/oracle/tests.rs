//! The oracle on hand-written histories: each rule, broken alone.

use std::{collections::BTreeSet, time::SystemTime};

use mainstem::{CommandRecord, Event, NewEvent};
use serde_json::json;

use super::{Rule, Verdict, judge};
use crate::{
    decide::{
        deciders::{Answer, Entry, Told},
        deed::{Deed, Fact, Seen, TOLD, What},
    },
    readers,
};

const BOOK: What = What::Book { seat: 1 };

fn entry(id: &str, what: What, answers: Vec<Answer>) -> Entry {
    let deed = Deed { id: id.to_owned(), period: 7, what, tell: false };
    Entry { deed, is_recorded: false, reads_replica: false, answers, conflicts: 0, confirmations: 0, repeats: 0 }
}

fn recorded(id: &str, what: What, answers: Vec<Answer>) -> Entry {
    Entry { is_recorded: true, ..entry(id, what, answers) }
}

fn answer(told: Told, positions: Option<(u64, u64)>) -> Answer {
    Answer { told, positions, is_repeated: false }
}

fn decided(first: u64, last: u64) -> Answer {
    answer(Told::Decided, Some((first, last)))
}

fn repeated(answer: Answer) -> Answer {
    Answer { is_repeated: true, ..answer }
}

fn fact(entry: &Entry, event_type: &str, seen: Seen) -> NewEvent {
    NewEvent::new(event_type, &Fact { deed: entry.deed.clone(), seen }).unwrap().with_tag("t")
}

fn booked(entry: &Entry) -> NewEvent {
    fact(entry, "Booked", Seen::default())
}

fn record(entry: &Entry, outcome: &str, refusal: Option<&Seen>) -> NewEvent {
    let events = u64::from(outcome == "Decided");
    let body = json!({
        "CommandID": entry.deed.id, "CommandType": "Deed", "Data": null, "Outcome": outcome, "Refusal": refusal,
        "Events": events,
    });
    NewEvent::new(CommandRecord::EVENT_TYPE, &body).unwrap()
}

fn log(events: impl IntoIterator<Item = NewEvent>) -> Vec<Event> {
    events.into_iter().zip(1..).map(|(event, position)| event.into_recorded(position, SystemTime::now())).collect()
}

/// The rules that are broken, each once.
fn broken(entries: &[&Entry], events: Vec<NewEvent>) -> Vec<Rule> {
    let journals = vec![entries.iter().copied().cloned().collect()];
    rules(&judge(&journals, &log(events), &[]).unwrap())
}

fn rules(verdict: &Verdict) -> Vec<Rule> {
    verdict.broken.iter().map(|(rule, _)| *rule).collect::<BTreeSet<_>>().into_iter().collect()
}

fn taken() -> Seen {
    Seen { bookings: 1, ..Seen::default() }
}

#[test]
fn a_history_as_it_should_be_breaks_nothing() {
    let one = recorded("1", BOOK, vec![decided(1, 2), repeated(decided(1, 2))]);
    let two = entry("2", BOOK, vec![answer(Told::Refused(taken()), None)]);
    let mut three = recorded("3", BOOK, vec![answer(Told::Refused(taken()), Some((3, 4)))]);
    three.deed.tell = true;
    let four = recorded("4", What::Leave { course: 1, student: 1 }, vec![answer(Told::Nothing, Some((5, 5)))]);
    let five = entry("5", What::Transfer { from: 1, to: 2, amount: 60 }, vec![answer(Told::Unknown, None)]);
    let seen = Seen { from: 100, to: 100, ..Seen::default() };
    let events = vec![
        booked(&one),
        record(&one, "Decided", None),
        fact(&three, TOLD, taken()),
        record(&three, "Refused", Some(&taken())),
        record(&four, "Nothing", None),
        fact(&five, "Transferred", seen),
    ];
    let journals = [vec![one, two], vec![three, four, five, entry("6", BOOK, vec![answer(Told::GaveUp, None)])]];
    let log = log(events);
    let marks: Vec<_> = log.iter().map(|event| (event.position(), event.id())).collect();
    let verdict = judge(&journals, &log, &[readers::Seen { by: "replica", events: marks.clone() }]).unwrap();
    assert_eq!(rules(&verdict), []);
    let figures = verdict.figures;
    assert_eq!((figures.decided, figures.refused, figures.nothing, figures.repeated, figures.unknown), (1, 2, 1, 1, 1));
    let skipped = readers::Seen { by: "replica", events: marks[1..].to_vec() };
    assert_eq!(rules(&judge(&journals, &log, &[skipped]).unwrap()), [Rule::CommitOrder]);
}

#[test]
fn what_was_not_true_is_found_even_if_no_rule_of_the_business_is_broken() {
    let one = entry("1", What::Enrol { course: 1, student: 1 }, vec![decided(1, 1)]);
    let two = entry("2", What::Enrol { course: 1, student: 2 }, vec![decided(2, 2)]);
    let events = vec![fact(&one, "Enrolled", Seen::default()), fact(&two, "Enrolled", Seen::default())];
    assert_eq!(broken(&[&one, &two], events), [Rule::TrueState]);
    // This includes refusals, and commands with nothing to do.
    let refused = recorded("1", BOOK, vec![answer(Told::Refused(taken()), Some((1, 1)))]);
    assert_eq!(broken(&[&refused], vec![record(&refused, "Refused", Some(&taken()))]), [Rule::TrueState]);
    let nothing = recorded("1", BOOK, vec![answer(Told::Nothing, Some((1, 1)))]);
    assert_eq!(broken(&[&nothing], vec![record(&nothing, "Nothing", None)]), [Rule::TrueState]);
}

#[test]
fn what_breaks_a_rule_of_the_business_is_named() {
    let one = entry("1", BOOK, vec![decided(1, 1)]);
    let two = entry("2", BOOK, vec![decided(2, 2)]);
    assert_eq!(broken(&[&one, &two], vec![booked(&one), fact(&two, "Booked", taken())]), [Rule::OneBooking]);
    let seen = Seen { from: 100, to: 100, ..Seen::default() };
    let much = entry("1", What::Transfer { from: 1, to: 2, amount: 101 }, vec![decided(1, 1)]);
    assert_eq!(broken(&[&much], vec![fact(&much, "Transferred", seen)]), [Rule::NothingOverdrawn]);
    let students: Vec<Entry> = (0..5)
        .map(|student| {
            entry(&student.to_string(), What::Enrol { course: 1, student }, vec![decided(student + 1, student + 1)])
        })
        .collect();
    let events = students
        .iter()
        .zip(0..)
        .map(|(one, before)| fact(one, "Enrolled", Seen { in_course: (0..before).collect(), ..Seen::default() }));
    assert_eq!(broken(&students.iter().collect::<Vec<_>>(), events.collect()), [Rule::CapacityKept]);
}

#[test]
fn what_was_told_and_is_not_so_is_found() {
    let one = entry("1", BOOK, vec![decided(1, 1)]);
    assert_eq!(broken(&[&one], vec![]), [Rule::Acknowledged]);
    let elsewhere = entry("1", BOOK, vec![decided(2, 2)]);
    assert_eq!(broken(&[&elsewhere], vec![booked(&elsewhere)]), [Rule::Acknowledged]);
    let refused = entry("1", BOOK, vec![answer(Told::Refused(Seen::default()), None)]);
    assert!(broken(&[&refused], vec![booked(&refused)]).contains(&Rule::NotThere));
    let given_up = entry("1", BOOK, vec![answer(Told::GaveUp, None)]);
    assert_eq!(broken(&[&given_up], vec![booked(&given_up)]), [Rule::NotThere]);
}

#[test]
fn a_command_that_was_carried_out_twice_or_half_is_found() {
    let twice = recorded("1", BOOK, vec![decided(1, 2)]);
    let events = vec![booked(&twice), record(&twice, "Decided", None), record(&twice, "Decided", None)];
    assert!(broken(&[&twice], events).contains(&Rule::OneResult));
    let differs = recorded("1", BOOK, vec![decided(1, 2), repeated(answer(Told::Nothing, Some((2, 2))))]);
    let events = vec![booked(&differs), record(&differs, "Decided", None)];
    assert!(broken(&[&differs], events.clone()).contains(&Rule::OneResult));
    let both_first = recorded("1", BOOK, vec![decided(1, 2), decided(1, 2)]);
    assert_eq!(broken(&[&both_first], events), [Rule::OneResult]);
    let half = recorded("1", BOOK, vec![answer(Told::Unknown, None)]);
    assert_eq!(broken(&[&half], vec![booked(&half)]), [Rule::Whole]);
}

#[test]
fn what_nobody_asked_for_is_found() {
    let one = entry("1", BOOK, vec![decided(1, 1)]);
    let stranger = entry("2", What::Book { seat: 2 }, vec![]);
    assert_eq!(broken(&[&one], vec![booked(&one), booked(&stranger)]), [Rule::NobodysEvent]);
    assert_eq!(broken(&[&one], vec![booked(&one), record(&stranger, "Nothing", None)]), [Rule::NobodysEvent]);
}
