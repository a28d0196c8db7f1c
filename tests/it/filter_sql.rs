//! A filter means the same three times: in the one matching function, in the statements that read and judge by index,
//! and in the procedure that judges under the lock. Random filters are put to all three, over one log of random events.

use std::{
    cell::Cell,
    time::{Duration, SystemTime},
};

use futures_util::TryStreamExt;
use mainstem::{
    AppendCondition, Event, EventStore, Filter, NewEvent, PostgresEventStore, Predicate, Router, Selection,
};
use proptest::{
    prelude::*,
    sample::select,
    strategy::ValueTree,
    test_runner::{Config, TestRunner},
};
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};

use crate::support::{broken_by, event, refuse_probes, store};

const EVENTS: usize = 150;
const FILTERS: u32 = 200;

/// Few, so that filters and events meet, and each would break a statement that it is spliced into.
const TEXTS: [&str; 12] = [
    "A",
    "B",
    "O'Reilly",
    "{A,B}",
    "NULL",
    "$1",
    "a\\b\"",
    "%_",
    "'; DROP TABLE events; --",
    "\"}' or true --",
    "😀\u{301}\u{202e}",
    "\u{ffff}\n\t",
];

fn text() -> impl Strategy<Value = String> {
    prop_oneof![3 => select(&TEXTS[..3]), 1 => select(&TEXTS[..])].prop_map(str::to_owned)
}

fn document() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        3 => select(vec![json!(1), json!(1.0), json!("1"), json!(true), json!(null), json!(-0.0), json!(1e30), json!([]), json!({})]),
        2 => text().prop_map(Value::from),
    ];
    let inner = scalar.prop_recursive(2, 6, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..3).prop_map(Value::from),
            prop::collection::btree_map(text(), inner, 1..3).prop_map(|members| json!(members)),
        ]
    });
    let object = prop::collection::btree_map(text(), inner.clone(), 1..4).prop_map(|members| json!(members));
    prop_oneof![4 => object, 1 => inner]
}

fn new_event() -> impl Strategy<Value = NewEvent> {
    (text(), prop::collection::vec(text(), 0..4), document(), document(), 0..20_u64).prop_map(
        |(event_type, tags, payload, metadata, occurred)| {
            let event = event(&event_type, payload).with_tags(tags).with_occurred_at(micros(occurred));
            event.with_metadata(&metadata).unwrap()
        },
    )
}

fn micros(micros: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_micros(micros)
}

fn predicate() -> impl Strategy<Value = Predicate> {
    let asks = document().prop_filter("asks for something", |json| *json != json!([]) && *json != json!({}));
    let contains = (any::<bool>(), asks).prop_map(|(payload, json)| match payload {
        true => Predicate::payload_contains(&json),
        false => Predicate::metadata_contains(&json),
    });
    let at =
        (any::<bool>(), prop::collection::vec(text(), 1..3), document()).prop_map(
            |(payload, path, json)| match payload {
                true => Predicate::payload(path, json),
                false => Predicate::metadata(path, json),
            },
        );
    prop_oneof![contains, at]
}

/// As the JSON form, because its parts can be left out at run time.
fn item() -> impl Strategy<Value = Filter> {
    let texts = || prop::collection::vec(text(), 1..4);
    let tags = || prop::collection::vec(text(), 1..3);
    let predicates = || prop::collection::vec(predicate(), 1..4);
    let start = Filter::matching;
    prop_oneof![
        1 => texts().prop_map(move |types| start().any_type_of(types).finish()),
        1 => tags().prop_map(move |tags| start().all_tags_of(tags).finish()),
        2 => predicates().prop_map(move |list| start().any_predicate_of(list).finish()),
        2 => predicates().prop_map(move |list| start().all_predicates_of(list).finish()),
        1 => (texts(), tags()).prop_map(move |(types, tags)| start().any_type_of(types).and_all_tags_of(tags).finish()),
        2 => (texts(), predicates())
            .prop_map(move |(types, list)| start().any_type_of(types).and_any_predicate_of(list).finish()),
        2 => (tags(), predicates())
            .prop_map(move |(tags, list)| start().all_tags_of(tags).and_all_predicates_of(list).finish()),
    ]
    .prop_map(Result::unwrap)
}

fn filter() -> impl Strategy<Value = Filter> {
    prop_oneof![
        1 => Just(Filter::any_event()),
        20 => prop::collection::vec(item(), 1..4).prop_map(|items| Filter::union(items).unwrap()),
    ]
}

/// A filter, and where to look: behind a position, and in a span of time whose ends may be open or the wrong way round.
fn question() -> impl Strategy<Value = (Filter, u64, [u64; 2])> {
    (filter(), 0..=EVENTS as u64, [0..20_u64, 0..20_u64])
}

/// How often the answers were yes and no: a test whose answers are all the same shows nothing.
#[derive(Default)]
struct Tally {
    read: Cell<usize>,
    conflict_or_not: [Cell<usize>; 2],
}

fn count(cell: &Cell<usize>) {
    cell.set(cell.get() + 1);
}

async fn ask(
    store: &PostgresEventStore,
    log: &[Event],
    tally: &Tally,
    (filter, after, [from, until]): (Filter, u64, [u64; 2]),
) -> Result<(), String> {
    let matching: Vec<&Event> = log.iter().filter(|event| filter.matches(event)).collect();
    if !matching.is_empty() && matching.len() < log.len() {
        count(&tally.read);
    }
    read(store, log, &filter, |event| filter.matches(event)).await?;
    let behind = filter.clone().after_position(after);
    read(store, log, &behind, |event| behind.matches(event)).await?;
    let between = behind.until_position(after + EVENTS as u64 / 3);
    read(store, log, &between, |event| between.matches(event)).await?;
    let (from, until) = (micros(from), micros(until));
    for span in [
        filter.clone().occurred_from(from),
        filter.clone().occurred_until(until),
        filter.clone().occurred_between(from, until),
    ] {
        read(store, log, &span, |event| span.matches(event)).await?;
    }

    let guard = AppendCondition::fail_if_events_match(filter);
    let behind = matching.iter().find(|event| event.position() > after);
    judge(store, guard.clone().after_position(after), behind.copied(), &tally.conflict_or_not).await?;
    judge(store, guard, matching.first().copied(), &tally.conflict_or_not).await
}

/// From now on the lock's holder looks at no event: whatever a condition does not know is judged before the lock.
async fn judge_nothing_under_the_lock(router: &Router) {
    let near = "near CONSTANT  bigint := 1000;";
    let sql = include_str!("../../migrations/V2__append.sql");
    assert!(sql.contains(near));
    let sql =
        sql.replace(near, "near CONSTANT  bigint := 0;").replace("CREATE PROCEDURE", "CREATE OR REPLACE PROCEDURE");
    router.client().await.unwrap().batch_execute(&sql).await.unwrap();
}

async fn read<S: Selection>(
    store: &PostgresEventStore,
    log: &[Event],
    selection: &S,
    matches: impl Fn(&Event) -> bool,
) -> Result<(), String> {
    let found = store.query(selection).await.map_err(|error| error.report())?;
    let positions = |events: Vec<&Event>| events.into_iter().map(Event::position).collect::<Vec<_>>();
    let found = positions(found.iter().collect());
    let expected = positions(log.iter().filter(|event| matches(event)).collect());
    // The same question in the other ways that have statements of their own.
    let reported = |error: mainstem::Error| error.report();
    let last = store.query(selection).newest_first().limit(3).await.map_err(reported)?;
    let last_expected: Vec<u64> = expected.iter().rev().take(3).copied().collect();
    let counted = store.count(selection).await.map_err(reported)?.into_inner();
    let exists = store.exists(selection).await.map_err(reported)?.into_inner();
    let streamed: Vec<Event> = store.stream(selection).try_collect().await.map_err(reported)?;
    let last = positions(last.iter().collect());
    let streamed = positions(streamed.iter().collect());
    let alike = last == last_expected
        && counted == expected.len() as u64
        && exists != expected.is_empty()
        && streamed == expected;
    match found == expected && alike {
        true => Ok(()),
        false => Err(format!(
            "read {:?}: PostgreSQL finds {found:?}, the last {last:?}, {counted}, {exists}, {streamed:?}; we {expected:?}",
            selection.bounds()
        )),
    }
}

async fn judge(
    store: &PostgresEventStore,
    condition: AppendCondition,
    expected: Option<&Event>,
    tally: &[Cell<usize>; 2],
) -> Result<(), String> {
    let shown = format!("{condition:?}");
    let found = broken_by(store, condition).await.map_err(|error| format!("{shown}: {error}"))?;
    count(&tally[usize::from(found.is_none())]);
    let expected = expected.map(|event| (event.position(), event.event_type().to_owned()));
    match found == expected {
        true => Ok(()),
        false => Err(format!("{shown}: found {found:?}, expected {expected:?}")),
    }
}

#[test]
fn the_three_readings_of_a_filter_agree() {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let events = prop::collection::vec(new_event(), EVENTS).new_tree(&mut TestRunner::default()).unwrap().current();
    let (_database, router, store) = runtime.block_on(store());
    let log = runtime.block_on(async {
        store.append(events.clone(), AppendCondition::none()).await.unwrap();
        refuse_probes(&router).await;
        store.query(&Filter::any_event()).await.unwrap().into_events()
    });
    let appended = events.into_iter().zip(1..).zip(&log);
    let appended: Vec<_> =
        appended.map(|((event, position), read)| event.into_recorded(position, read.recorded_at())).collect();
    assert_eq!(log, appended);

    for far in [false, true] {
        if far {
            runtime.block_on(judge_nothing_under_the_lock(&router));
        }
        compare(&runtime, &store, &log, far);
    }
}

fn compare(runtime: &Runtime, store: &PostgresEventStore, log: &[Event], far: bool) {
    let tally = Tally::default();
    let config = Config { cases: FILTERS, failure_persistence: None, ..Config::default() };
    let run = TestRunner::new(config).run(&question(), |question| {
        let answer = runtime.block_on(ask(store, log, &tally, question));
        answer.map_err(TestCaseError::fail)
    });
    run.unwrap_or_else(|failure| panic!("far: {far}: {failure}\nover {log:#?}"));
    let [conflicts, passed] = &tally.conflict_or_not;
    let counts = [tally.read.get(), conflicts.get(), passed.get()];
    println!(
        "of {FILTERS} filters {} matched some events and not all; {} conflicts, {} none",
        counts[0], counts[1], counts[2]
    );
    assert!(counts.iter().all(|count| *count > FILTERS as usize / 10), "hardly anything was asked: {counts:?}");
}
