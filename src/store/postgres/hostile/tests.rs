//! Server answers that lack what they must have.

use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use serde_json::json;
use tokio_postgres::types::{FromSql, PgLsn, ToSql, Type};
use uuid::Uuid;

use super::{
    Raw,
    checks::{__column, __row, ANSWER, CLAIMED, JUDGEMENT, LOADED, MARK, PARTITION, PULSE, SAVED, SKIPPED, of, row_of},
};
use crate::{
    Event, Mark, NewEvent, Payload,
    store::postgres::{
        append::{
            answer::{Answer, Answers, AppendOutcome, Sent},
            precheck::PrecheckRow,
        },
        array::Array,
        consumer::{claimed, partition, pulse, skipped},
        snapshot::Loaded,
        wire::{self, Line, Micros, Unreadable},
    },
};

const ID: Uuid = Uuid::from_u128(7);

fn row<const N: usize>(types: [Type; N], values: [&dyn ToSql; N]) -> Raw {
    Raw(types.into_iter().zip(values).map(|(ty, value)| of(ty, value)).collect())
}

impl Raw {
    fn without(mut self, columns: impl IntoIterator<Item = usize>) -> Self {
        columns.into_iter().for_each(|column| self.0[column].1 = None);
        self
    }

    fn with(mut self, column: usize, value: &dyn ToSql) -> Self {
        let ty = self.0[column].0.clone();
        self.0[column] = of(ty, value);
        self
    }
}

fn mark(position: u64) -> Mark {
    Mark::new(position, ID.into())
}

fn event(payload: Payload) -> Event {
    let event = NewEvent::from_payload("A", payload).with_tags(["a", "b"]).with_id(ID.into());
    event.into_recorded(5, SystemTime::UNIX_EPOCH).in_stream("s", 3)
}

#[test]
fn an_array_has_no_more_elements_than_its_bytes_have_room_for() {
    let array = |dimensions: i32, claimed: i32, rest: &[u8]| {
        let head = [dimensions, 0, 25, claimed, 1].map(i32::to_be_bytes).concat();
        Array::<&str>::from_sql(&Type::TEXT_ARRAY, &[&head, rest].concat()).map(|array| array.0.len())
    };
    let element = [0, 0, 0, 1, b'a'];
    assert_eq!(array(1, 1, &element).unwrap(), 1);
    assert_eq!(array(1, 2, &element.repeat(2)).unwrap(), 2);
    for claimed in [-1, 2, 1000, i32::MAX] {
        let error = array(1, claimed, &element).unwrap_err();
        assert!(matches!(error.downcast_ref(), Some(Unreadable::Array(told)) if *told == claimed), "{error}");
    }
    for dimensions in [-1, 2, i32::MAX] {
        let error = array(dimensions, 1, &element).unwrap_err();
        assert!(matches!(error.downcast_ref(), Some(Unreadable::Dimensions(_))), "{error}");
    }
    // It claims ten elements, which are missing.
    array(1, 10, &[0xff, 0, 0, 0].repeat(10)).unwrap_err();
    for cut in 0..20 {
        Array::<&str>::from_sql(&Type::TEXT_ARRAY, &[0, 0, 0, 1].repeat(5)[..cut]).unwrap_err();
    }
    assert!(!<Array<&str> as FromSql>::accepts(&Type::TEXT));
}

#[test]
fn an_event_has_all_its_columns() {
    let events = [
        event(Payload::bytes("text/plain", &b"abc"[..])),
        event(NewEvent::new("A", &json!({"b": 1})).unwrap().payload().clone()),
    ];
    for event in events {
        let all = || row_of(&event);
        assert!(matches!(wire::line(&all()), Ok(Line::Event(again)) if again == event));
        // Without the payload's content type, there are bytes that belong to nothing.
        let needed = (0..12).filter(|column| all().0[*column].1.is_some());
        for column in needed {
            let outcome = wire::line(&all().without([column]));
            assert!(outcome.is_err(), "without its column {column}: {outcome:?}");
        }
        // A row with none of these columns is not an event.
        assert!(matches!(wire::line(&all().without(2..=11)), Ok(Line::Head(head)) if head == event.mark()));
        assert!(matches!(wire::line(&all().without(2..=10)), Ok(Line::Head(_))), "the version of a stream's head");
        for column in 3..=10 {
            if all().0[column].1.is_some() {
                let rest = (2..=11).filter(|other| *other != column);
                assert!(wire::line(&all().without(rest)).is_err(), "a head with the column {column}");
            }
        }
        let both = all().with(4, &Some(wire::JsonText("{}"))).with(8, &"text/plain").with(9, &&b"abc"[..]);
        assert!(wire::line(&both).is_err());
    }
}

#[test]
fn an_answer_without_a_head_is_not_one_of_an_empty_log() {
    let events = [event(Payload::bytes("text/plain", &b"abc"[..]))];
    assert!(wire::up_to_head(None, &[]).is_ok());
    assert!(wire::up_to_head(Some(mark(5)), &events).is_ok());
    assert!(wire::up_to_head(Some(mark(4)), &events).is_err());
    assert!(wire::up_to_head(None, &events).is_err());
}

#[test]
fn half_a_mark_is_none_that_can_be_believed() {
    let all = || row(MARK, [&5_i64, &ID]);
    assert_eq!(wire::mark(&all(), 0).unwrap(), Some(mark(5)));
    assert_eq!(wire::mark(&all().without([0, 1]), 0).unwrap(), None);
    for column in [0, 1] {
        assert!(matches!(wire::mark(&all().without([column]), 0), Err(Unreadable::Half(_))));
    }
    assert!(matches!(wire::mark(&all().with(0, &-1_i64), 0), Err(Unreadable::Position(-1))));

    assert_eq!(wire::checkpoint(&all(), 0).unwrap(), Some(mark(5)));
    assert_eq!(wire::checkpoint(&all().with(0, &0_i64).without([1]), 0).unwrap(), None);
    for half in [all().without([0]), all().without([1]), all().without([0, 1]), all().with(0, &0_i64)] {
        assert!(wire::checkpoint(&half, 0).is_err(), "{half:?}");
    }
}

#[test]
fn a_forbidden_event_without_its_type_is_not_none() {
    let all = || row(JUDGEMENT, [&9_i64, &ID, &5_i64, &"A", &false, &true]);
    let judgement = PrecheckRow::read(&all()).unwrap();
    assert_eq!((judgement.head, judgement.broken), (mark(9), Some((5, "A".to_owned()))));
    assert_eq!(PrecheckRow::read(&all().without([2, 3])).unwrap().broken, None);
    for column in 0..6 {
        assert!(PrecheckRow::read(&all().without([column])).is_err(), "without its column {column}");
    }
    assert!(PrecheckRow::read(&all().without([0, 1])).is_err(), "where there is a row there is a head");
}

const PLAIN: Sent = Sent { events: 2, has_condition: false, goes_to_stream: false };
const GUARDED: Sent = Sent { has_condition: true, ..PLAIN };
const IN_STREAM: Sent = Sent { goes_to_stream: true, ..PLAIN };

type Told<'a> = (Option<&'a str>, Option<i64>, Option<&'a str>);

fn told(outcomes: &[Told<'_>], versions: Option<&[Option<i64>]>) -> Raw {
    let names: Vec<_> = outcomes.iter().map(|(name, ..)| *name).collect();
    let positions: Vec<_> = outcomes.iter().map(|(_, position, _)| *position).collect();
    let types: Vec<_> = outcomes.iter().map(|(.., event_type)| *event_type).collect();
    let (known, lsn) = (None::<Vec<Uuid>>, PgLsn::from(1));
    row(ANSWER, [&known, &10_i64, &names, &positions, &types, &versions, &lsn, &7_i64])
}

fn written() -> Raw {
    told(&[], None).without(2..=5)
}

fn read(row: &Raw, sent: &[Sent]) -> Option<Answers> {
    Answer::read(row).ok()?.read_for(sent, false)
}

#[test]
fn append_answers_with_missing_or_contradictory_columns_are_rejected() {
    let all_written = read(&written(), &[PLAIN, GUARDED]).unwrap();
    let appended = |position| AppendOutcome::Appended { position, version: None };
    assert_eq!(all_written.outcomes, [appended(11), appended(13)]);
    for column in [1, 6] {
        assert!(read(&written().without([column]), &[PLAIN]).is_none(), "without its column {column}");
    }
    // How long the lock was held decides nothing.
    let lock_time = |row: Raw| read(&row, &[PLAIN]).map(|answers| answers.lock_time);
    assert_eq!(lock_time(written()), Some(Some(Duration::from_micros(7))));
    assert_eq!(lock_time(written().with(7, &-7_i64)), Some(Some(Duration::ZERO)));
    assert_eq!(lock_time(written().without([7])), Some(None));
    // Outcomes without their positions or types, and the reverse.
    let some = || told(&[(None, None, None), (Some("conflict"), Some(5), Some("A"))], None);
    let conflict = AppendOutcome::Conflict { position: 5, event_type: "A".to_owned() };
    assert_eq!(read(&some(), &[PLAIN, GUARDED]).unwrap().outcomes, [appended(11), conflict]);
    for missing in [&[2][..], &[3], &[4], &[2, 3], &[2, 4], &[3, 4]] {
        let outcome = read(&some().without(missing.iter().copied()), &[PLAIN, GUARDED]);
        assert!(outcome.is_none(), "without {missing:?}: {outcome:?}");
    }
    for (column, shorter) in [(3, &vec![None::<i64>] as &dyn ToSql), (4, &vec![None::<&str>])] {
        assert!(read(&some().with(column, shorter), &[PLAIN, GUARDED]).is_none(), "a shorter column {column}");
    }
    // Too few, and too many.
    for sent in [&[][..], &[PLAIN], &[PLAIN, GUARDED, PLAIN]] {
        assert!(read(&some(), sent).is_none(), "{} of two", sent.len());
    }
    for lie in
        [(None, Some(5), None), (None, None, Some("A")), (Some("written"), Some(5), None), (Some(""), None, None)]
    {
        assert!(read(&told(&[lie], None), &[GUARDED]).is_none(), "{lie:?}");
    }
}

#[test]
fn an_outcome_has_what_belongs_to_it() {
    for name in ["repeated", "conflict", "diverged", "far", "reused"] {
        let whole = (Some(name), Some(5), Some("A"));
        assert!(read(&told(&[whole], None), &[GUARDED]).is_some(), "{name}");
        assert!(read(&told(&[(Some(name), None, Some("A"))], None), &[GUARDED]).is_none(), "{name} nowhere");
        assert!(read(&told(&[(Some(name), Some(-5), Some("A"))], None), &[GUARDED]).is_none(), "{name} before all");
        let needs_condition = ["conflict", "diverged", "far"].contains(&name);
        assert_eq!(read(&told(&[whole], None), &[PLAIN]).is_none(), needs_condition, "{name} of no condition");
    }
    for name in ["repeated", "conflict", "reused"] {
        assert!(read(&told(&[(Some(name), Some(0), Some("A"))], None), &[GUARDED]).is_none(), "{name} at 0");
    }
    assert!(read(&told(&[(Some("conflict"), Some(5), None)], None), &[GUARDED]).is_none());
    let version = told(&[(Some("version"), Some(0), None)], Some(&[None]));
    assert!(read(&version, &[IN_STREAM]).is_some());
    assert!(read(&version, &[PLAIN]).is_none());
}

#[test]
fn a_version_is_there_if_the_append_went_to_a_stream_and_only_then() {
    let versions = |versions: &[Option<i64>]| written().with(5, &versions);
    assert_eq!(
        read(&versions(&[Some(2), None]), &[IN_STREAM, PLAIN]).unwrap().outcomes[0],
        AppendOutcome::Appended { position: 11, version: Some(2) }
    );
    assert!(read(&written(), &[IN_STREAM]).is_none());
    for lie in [&[None][..], &[Some(1)], &[Some(-2)], &[Some(2), None], &[]] {
        assert!(read(&versions(lie), &[IN_STREAM]).is_none(), "{lie:?}");
    }
    assert!(read(&versions(&[Some(2)]), &[PLAIN]).is_none());
}

#[test]
fn ids_that_were_asked_for_and_not_told_are_not_absent() {
    let asked = |row: &Raw| Answer::read(row).ok()?.read_for(&[PLAIN], true);
    assert!(asked(&written()).is_none());
    assert_eq!(asked(&written().with(0, &vec![ID])).unwrap().known, [ID]);
    assert!(asked(&written().with(0, &Vec::<Uuid>::new())).unwrap().known.is_empty());
}

#[test]
fn positions_end_where_the_log_does() {
    let at = |head: i64| read(&written().with(1, &head), &[PLAIN]);
    assert!(at(i64::MAX - 2).is_some());
    assert!(at(i64::MAX - 1).is_none());
    assert!(at(i64::MAX).is_none());
    assert!(at(-1).is_none());
}

#[test]
fn a_consumer_is_told_whole_rows() {
    let now = Micros(5);
    let all = || {
        let values: [&dyn ToSql; 11] = [&false, &1_i32, &5_i64, &ID, &1_i64, &ID, &now, &-3_i64, &now, &now, &0_i64];
        row(PARTITION, values)
    };
    assert_eq!((partition(&all()).unwrap().checkpoint, partition(&all()).unwrap().events_behind), (Some(mark(5)), 0));
    assert_eq!(partition(&all().with(2, &0_i64).without([3])).unwrap().checkpoint, None);
    for column in [0, 1, 2, 3, 4, 6, 7, 8, 10] {
        assert!(partition(&all().without([column])).is_err(), "a partition without its column {column}");
    }
    assert!(partition(&all().with(10, &-1_i64)).is_err());

    let all = || row(CLAIMED, [&1_i32, &1_i64, &5_i64, &ID, &"[]"]);
    assert_eq!(claimed(&all()).unwrap().checkpoint, Some(mark(5)));
    for column in 0..5 {
        assert!(claimed(&all().without([column])).is_err(), "a claim without its column {column}");
    }
    for past in ["", "{}", "[1]", "[[1, 2]]", &"[".repeat(10_000)] {
        assert!(claimed(&all().with(4, &past)).is_err(), "{past:.10}");
    }

    let all = || row(SKIPPED, [&5_i64, &ID, &"why", &1_i64, &now]);
    assert_eq!(skipped(&all()).unwrap().mark, mark(5));
    for column in 0..5 {
        assert!(skipped(&all().without([column])).is_err(), "a skipped event without its column {column}");
    }
    assert!(skipped(&all().without([0, 1])).is_err());
    assert!(skipped(&all().with(3, &-1_i64)).is_err());
}

#[test]
fn a_pulse_is_of_amounts() {
    let told = |partitions: i32, [living, owned, free, before]: [i64; 4]| {
        pulse(&row(PULSE, [&true, &false, &partitions, &living, &owned, &free, &0_i64, &before]))
    };
    assert!(told(8, [3, 3, 1, 1]).unwrap().is_some_and(|pulse| !pulse.is_unfair && pulse.owned == 3));
    assert!(told(8, [3, 3, 0, 2]).unwrap().is_some_and(|pulse| pulse.is_unfair), "somebody else has too few");
    assert!(told(8, [3, 4, 0, 0]).unwrap().is_some_and(|pulse| pulse.is_unfair));
    assert!(told(9, [3, 3, 1, 2]).unwrap().is_some_and(|pulse| !pulse.is_unfair));
    for lie in [[-1, 0, 0, 0], [1, -1, 0, 0], [1, 0, -1, 0], [1, 0, 0, -1]] {
        assert!(matches!(told(1, lie), Err(Unreadable::Amount(-1))), "{lie:?}");
    }
    assert!(told(-1, [1, 0, 0, 0]).is_err());
    // No number is too large to be divided.
    for (partitions, living) in [(i32::MAX, i64::MAX), (i32::MAX, 1), (1, 0)] {
        assert!(told(partitions, [living, 0, 0, 0]).is_ok());
    }
}

#[test]
fn a_snapshot_that_is_held_has_a_state_and_a_mark() {
    let all = || row(LOADED, [&5_i64, &ID, &true, &"{}", &Micros(5), &9_i64]);
    assert_eq!(Loaded::read(&all()).unwrap().mark(), mark(5));
    for column in 0..5 {
        assert!(Loaded::read(&all().without([column])).is_err(), "without its column {column}");
    }
    assert!(Loaded::read(&all().without([0, 1])).is_err());
    assert!(Loaded::read(&all().with(2, &false).without([3])).is_ok(), "the log does not hold its mark");
}

/// As a server would send it.
fn message(kind: u8, row: &Raw) -> Vec<u8> {
    let columns = row.0.iter().flat_map(|(_, value)| match value {
        Some(value) => [&i32::try_from(value.len()).unwrap().to_be_bytes()[..], value].concat(),
        None => (-1_i32).to_be_bytes().to_vec(),
    });
    [kind].into_iter().chain(columns).collect()
}

/// Values at which sums and quotients go wrong, and usual ones.
fn number() -> impl Strategy<Value = i64> {
    prop_oneof![0..4_i64, prop::sample::select(vec![-1, i64::MIN, i64::MAX, i64::MAX - 1])]
}

proptest! {
    #[test]
    fn pulse_and_save_rows_are_accepted_only_if_complete_and_valid(
        flags in any::<(bool, bool)>(),
        partitions in prop_oneof![0..9_i32, prop::sample::select(vec![-7, i32::MIN, i32::MAX])],
        numbers in [number(), number(), number(), number(), number()],
        missing in prop::option::weighted(0.2, 0..8_usize),
    ) {
        let [living, owned, free, checkpoint, before] = numbers;
        let heard = row(PULSE, [&flags.0, &flags.1, &partitions, &living, &owned, &free, &checkpoint, &before]);
        let is_whole = missing.is_none() && partitions >= 0 && numbers.iter().all(|number| *number >= 0);
        prop_assert_eq!(__row(&message(b'h', &heard.without(missing))), is_whole);
        let saved = row(SAVED, [&flags.0, &flags.1, &checkpoint]);
        // Without its head the log is empty.
        let is_whole = match missing {
            Some(0 | 1) => false,
            Some(2) => true,
            _ => checkpoint >= 0,
        };
        prop_assert_eq!(__row(&message(b'v', &saved.without(missing.filter(|column| *column < 3)))), is_whole);
    }

    /// `tests/it/fuzz.rs` tries bytes that are close to real ones.
    #[test]
    fn any_bytes_are_a_row_or_an_error(
        kind in prop::sample::select(b"lajmpschvo".to_vec()),
        bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(0), Just(0xff), Just(8)], 0..200),
    ) {
        let _ = __row(&[&[kind], &bytes[..]].concat());
        __column(&bytes);
    }
}
