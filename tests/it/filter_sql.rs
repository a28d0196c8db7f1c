//! A filter means the same in three places: in the one matching function, in the statements that read and check by
//! index, and in the procedure that checks under the lock. Random filters go to all three, over one log of random
//! events.

use std::cell::Cell;

use futures_util::TryStreamExt;
use mainstem::{
    AppendCondition, Event, EventStore, Filter, PostgresEventStore, Router, Selection,
    schema::{HotKey, IndexCreated, LogIndex},
    testing::TestDatabase,
};
use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, TestRunner},
};
use tokio::runtime::{Builder, Runtime};

use crate::support::{
    broken_by,
    random::{filter, micros, new_event},
    refuse_probes, router, store,
};

const EVENTS: usize = 150;
const FILTERS: u32 = 200;

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
    let streamed: Vec<Event> = store.query_stream(selection).try_collect().await.map_err(reported)?;
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
    let (database, router, store) = runtime.block_on(store());
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
    let by_hot_keys = runtime.block_on(with_hot_keys(&database, &store));
    compare(&runtime, &by_hot_keys, &log, true);
}

/// A store of the same log that finds what it can by the indexes of hot keys, and has no other on payloads.
async fn with_hot_keys(database: &TestDatabase<'_>, store: &PostgresEventStore) -> PostgresEventStore {
    let admin = router(database).await;
    let force = format!("ALTER DATABASE {} SET enable_seqscan = off", database.name());
    admin.client().await.unwrap().batch_execute(&force).await.unwrap();
    assert!(store.drop_index(&LogIndex::payload()).await.unwrap());
    let keys = ["A", "B", "O'Reilly"].into_iter().flat_map(|key| [HotKey::payload(key), HotKey::metadata(key)]);
    let keys: Vec<HotKey> = keys.chain([HotKey::payload(["A", "B"])]).collect::<Result<_, _>>().unwrap();
    for key in &keys {
        assert_eq!(store.create_index(&LogIndex::key(key.clone())).await.unwrap(), IndexCreated::New, "{key}");
    }
    PostgresEventStore::builder(&router(database).await).hot_keys(keys).build()
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
