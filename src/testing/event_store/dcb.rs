//! The specification of Dynamic Consistency Boundaries (dcb.events), clause by clause, and its leading example.
//!
//! The names use its terms; ours are `Filter` for its query, `FilterItem` for its query item, and
//! `AppendCondition::fail_if_events_match` with `after` for its append condition.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
};

use futures_util::future::{join, join_all};
use serde_json::json;

use super::concurrency::elsewhere;
use super::fixture::{
    Store, append, append_if, append_one, event, expect, log, none_of, of_type, of_types, plain, positions, read,
    refused, tagged, types, with_tags,
};
use crate::{AppendCondition, ErrorKind, Event, EventId, EventStore, Filter, Result};

pub(super) async fn a_query_item_matches_one_of_its_types_and_all_of_its_tags(store: Store<'_>) {
    let events = [
        tagged("EventType1", ["tag1"]),
        tagged("EventType2", ["tag1", "tag2"]),
        tagged("EventType3", ["tag1", "tag2", "tag3"]),
        plain("EventType2"),
    ];
    let first = append(store, events).await.first_position();
    let both = Filter::matching().any_type_of(["EventType2", "EventType3"]).and_all_tags_of(["tag1", "tag2"]).finish();
    let cases = [
        (of_types(["EventType1", "EventType2"]), vec![0, 1, 3]),
        (with_tags(["tag1", "tag2"]), vec![1, 2]),
        (expect(both, "a filter"), vec![1, 2]),
    ];
    for (filter, expected) in cases {
        let expected: Vec<u64> = expected.into_iter().map(|index: u64| first + index).collect();
        assert_eq!(positions(&read(store, &filter).await), expected, "{filter:?}");
    }
}

pub(super) async fn query_items_are_alternatives(store: Store<'_>) {
    let events = [plain("EventType1"), tagged("EventType2", ["tag1"]), tagged("EventType3", ["tag1", "tag2"])];
    append(store, events).await;
    let either = Filter::matching()
        .any_type_of(["EventType1"])
        .or_matching()
        .all_tags_of(["tag2"])
        .or_matching()
        .any_type_of(["EventType2"])
        .and_all_tags_of(["tag2"])
        .finish();
    let either = expect(either, "a filter");
    assert_eq!(types(&read(store, &either).await), ["EventType1", "EventType3"]);
    refused(store, [plain("C")], none_of(&either), ErrorKind::Conflict).await;
}

pub(super) async fn the_query_of_all_events_matches_every_event(store: Store<'_>) {
    append(store, [plain("A"), tagged("B", ["t"])]).await;
    assert_eq!(types(&log(store).await), ["A", "B"]);
    refused(store, [plain("C")], none_of(&Filter::any_event()), ErrorKind::Conflict).await;
}

pub(super) async fn reading_can_start_after_a_position(store: Store<'_>) {
    let first = append_one(store, "A").await.first_position();
    append(store, [plain("B"), plain("A")]).await;
    assert_eq!(types(&read(store, &Filter::any_event().after_position(first)).await), ["B", "A"]);
    assert_eq!(types(&read(store, &of_type("A").after_position(first)).await), ["A"]);
}

pub(super) async fn sequence_positions_are_unique_and_increase(store: Store<'_>) {
    for amount in 1..6 {
        append(store, (0..amount).map(|_| plain("A"))).await;
    }
    let history = log(store).await;
    assert_eq!(history.len(), 15);
    assert!(history[0].position() >= 1, "positions begin at 1 or higher");
    assert!(history.is_sorted_by(|a, b| a.position() < b.position()), "{:?}", positions(&history));
}

pub(super) async fn an_append_fails_if_any_event_matches_its_query(store: Store<'_>) {
    let guard = none_of(&with_tags(["t"]));
    append_if(store, [plain("A"), tagged("B", ["u"])], guard.clone()).await;
    append(store, [tagged("A", ["t"])]).await;
    refused(store, [plain("C"), plain("D")], guard, ErrorKind::Conflict).await;
    assert_eq!(types(&log(store).await), ["A", "B", "A"], "an append is atomic");
}

pub(super) async fn events_up_to_after_are_ignored(store: Store<'_>) {
    let first = append_one(store, "A").await.first_position();
    append_if(store, [plain("B")], none_of(&of_type("A")).after_position(first)).await;
    let second = append_one(store, "A").await.first_position();
    refused(store, [plain("B")], none_of(&of_type("A")).after_position(first), ErrorKind::Conflict).await;
    append_if(store, [plain("B")], none_of(&of_type("A")).after_position(second)).await;
}

pub(super) async fn after_may_be_higher_than_the_last_match(store: Store<'_>) {
    append_one(store, "A").await;
    let head = append(store, [plain("B"), plain("B")]).await.last();
    append_if(store, [plain("C")], none_of(&of_type("A")).after_position(head.position())).await;
    append_if(store, [plain("C")], none_of(&of_type("A")).after(head)).await;
    append_if(store, [plain("C")], none_of(&of_type("Never")).after_position(head.position())).await;
}

pub(super) async fn tags_are_opaque_and_always_exposed(store: Store<'_>) {
    append(store, [plain("A"), tagged("B", ["b:2", "a", "b:1", "a"])]).await;
    let history = log(store).await;
    let tags: Vec<Vec<&str>> = history.iter().map(|event| event.tags().collect()).collect();
    assert_eq!(tags, [vec![], vec!["a", "b:1", "b:2"]], "each tag once, in order");
    assert_eq!(read(store, &with_tags(["b"])).await.len(), 0, "a tag has no parts");
    assert_eq!(types(&read(store, &with_tags(["b:1"])).await), ["B"]);
}

// The checks of the specification's public suite follow: its virtual users are tasks here.

const USERS: usize = 16;
const ROUNDS: usize = 8;

/// Consistency: each event records which query its writer made, and the last match that it saw.
pub(super) async fn each_event_saw_the_last_match_before_it(store: Store<'_>) {
    let queries = || {
        let narrow = Filter::matching().any_type_of(["A"]).and_all_tags_of(["t:0"]).finish();
        let either = Filter::matching().any_type_of(["B"]).or_matching().all_tags_of(["t:0", "t:1"]).finish();
        let queries = [of_type("A"), of_types(["A", "B"]), with_tags(["t:0"]), with_tags(["t:1"])];
        queries.into_iter().chain([expect(narrow, "a filter"), expect(either, "a filter")]).collect::<Vec<_>>()
    };
    let users = (0..USERS).map(|user| async move {
        let (mut won, mut lost) = (0, 0);
        for round in 0..ROUNDS {
            let index = (user * 5 + round * 7) % 6;
            let query = queries().swap_remove(index);
            let history = expect(elsewhere(store.query(&query)).await, "a user's query");
            let saw = history.last().map_or(0, Event::position);
            let written = event(["A", "B"][(user + round) % 2], json!({"query": index, "saw": saw}));
            let written = written.with_tags([format!("t:{}", user % 2), format!("t:{}", round % 3)]);
            match elsewhere(store.append([written], history.unchanged())).await {
                Ok(_) => won += 1,
                Err(error) if error.is_conflict() => lost += 1,
                Err(error) => panic!("a user's append: {}", error.report()),
            }
        }
        (won, lost)
    });
    let scores = join_all(users).await;
    let (won, lost) = scores.into_iter().fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1));
    assert!(won >= ROUNDS && lost > 0, "{won} appends and {lost} conflicts are no contention");
    let (log, queries) = (log(store).await, queries());
    assert_eq!(log.len(), won, "as many events as appends that were acknowledged");
    for (index, written) in log.iter().enumerate() {
        let told: std::collections::HashMap<String, u64> = expect(written.decode(), "what a user saw");
        let query = &queries[usize::try_from(told["query"]).unwrap_or_default()];
        let last = log[..index].iter().rfind(|event| query.matches(event)).map_or(0, Event::position);
        assert_eq!(
            told["saw"],
            last,
            "the writer of {} has not seen the last match before it: {query:?}",
            written.mark()
        );
    }
}

/// Monotonic: the tail of the log, read repeatedly while others append.
pub(super) async fn the_tail_of_the_log_never_reorders(store: Store<'_>) {
    let done = AtomicBool::new(false);
    let writing = async {
        let users = (0..USERS).map(|user| async move {
            for round in 0..ROUNDS {
                let events: Vec<_> = (0..1 + (user + round) % 3).map(|_| plain("A")).collect();
                expect(elsewhere(store.append(events, AppendCondition::none())).await, "a user's append");
            }
        });
        join_all(users).await;
        done.store(true, Ordering::SeqCst);
    };
    let reading = async {
        let mut seen: BTreeMap<u64, EventId> = BTreeMap::new();
        loop {
            // Checked before the read, so that there is a read after the last append.
            let is_last = done.load(Ordering::SeqCst);
            let last = seen.keys().last().copied().unwrap_or_default();
            let from = last.saturating_sub(20);
            let tail = expect(elsewhere(store.query(&Filter::any_event().after_position(from))).await, "the tail");
            let now: BTreeMap<u64, EventId> = tail.iter().map(|event| (event.position(), event.id())).collect();
            let (before, again) = (seen.range(from + 1..), now.range(..=last));
            assert!(before.eq(again), "the tail after {from} is not what it was up to {last}");
            seen.extend(now);
            if is_last {
                return seen;
            }
        }
    };
    let ((), seen) = join(writing, reading).await;
    let whole = positions(&log(store).await);
    assert_eq!(seen.into_keys().collect::<Vec<_>>(), whole, "the tails together are not the log");
}

/// Parallel writes: each user has separate queries.
pub(super) async fn unrelated_appends_do_not_fail(store: Store<'_>) {
    let users = (0..USERS).map(|user| async move {
        let own = format!("user:{user}");
        for round in 0..ROUNDS {
            let query = if round % 2 == 0 { with_tags([&own]) } else { of_type(&own) };
            let history = expect(elsewhere(store.query(&query)).await, "a user's query");
            assert_eq!(history.len(), round, "{own} sees what was his");
            let appended = elsewhere(store.append([tagged(&own, [&own])], history.unchanged())).await;
            expect(appended, "an append that has nothing in common with the others");
        }
    });
    join_all(users).await;
    assert_eq!(log(store).await.len(), USERS * ROUNDS);
}

/// The leading example: a course has a capacity, and students subscribe until it is reached.
pub(super) async fn a_course_is_never_overbooked(store: Store<'_>) {
    const STUDENTS: usize = 12;
    const CAPACITY: usize = 5;
    append(store, [event("CourseDefined", json!({"capacity": CAPACITY})).with_tag("course:1")]).await;
    let students = (0..STUDENTS).map(|student| async move {
        let student = format!("student:{student}");
        // Each conflict means that another one was written, so there are never more of them than seats.
        for _ in 0..=CAPACITY {
            match subscribe(store, &student).await {
                Ok(subscribed) => return subscribed,
                Err(error) => assert!(error.is_conflict(), "{}", error.report()),
            }
        }
        panic!("{student} has had more conflicts than there are seats");
    });
    let subscribed = join_all(students).await.into_iter().filter(|subscribed| *subscribed).count();
    let history = log(store).await;
    assert_eq!((subscribed, history.len()), (CAPACITY, 1 + CAPACITY), "each seat is taken, by one student");
    let again = expect(subscribe(store, "student:late").await, "a late student");
    assert!(!again, "the course is full");
}

async fn subscribe(store: Store<'_>, student: &str) -> Result<bool> {
    let boundary = Filter::matching()
        .all_tags_of(["course:1"])
        .or_matching()
        .any_type_of(["Subscribed"])
        .and_all_tags_of([student])
        .finish()?;
    let history = store.query(&boundary).await?;
    let capacity = history.iter().rfind(|event| event.event_type() == "CourseDefined").map(|event| {
        let defined: std::collections::HashMap<String, usize> = expect(event.decode(), "the course");
        defined["capacity"]
    });
    let taken = history.iter().filter(|event| event.event_type() == "Subscribed").count();
    if capacity.is_none_or(|capacity| taken >= capacity) {
        return Ok(false);
    }
    tokio::task::yield_now().await;
    store.append([tagged("Subscribed", ["course:1", student])], history.unchanged()).await.map(|_| true)
}
