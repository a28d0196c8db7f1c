//! Appending and reading: what is written, what is refused, and what a condition sees.

use mainstem::{
    AppendCondition, ErrorKind, EventStore, Filter, History, Mark, NewEvent, PostgresEventStore, Predicate, Role,
    Scope, with_eventual_consistency,
};
use serde_json::json;

use crate::support::{cluster, event, store};

fn of_type(event_type: &str) -> Filter {
    Filter::matching().any_type_of([event_type]).finish().unwrap()
}

async fn append(store: &PostgresEventStore, event_type: &str) -> Mark {
    store.append([event(event_type, json!({}))], AppendCondition::none()).await.unwrap().last()
}

#[tokio::test]
async fn what_is_appended_is_read_as_it_was_with_positions_in_order() {
    let (_database, _router, store) = store().await;
    let first = event("BookAdded", json!({"BookID": "b-1", "pages": 120, "tags": ["a", null, 1.5]}))
        .with_tags(["shelf:3", "book:b-1"])
        .with_metadata(&json!({"user": "ada"}))
        .unwrap();
    let second = event("BookLent", json!({"BookID": "b-1"}));
    let appended = store.append([first.clone(), second.clone()], AppendCondition::none()).await.unwrap();
    assert_eq!((appended.positions(), appended.is_repeated()), (1..=2, false));

    let history = store.query(&Filter::any_event()).await.unwrap();
    let expected: Vec<_> = [first, second]
        .into_iter()
        .zip(1..)
        .zip(&history)
        .map(|((event, position), read)| event.into_recorded(position, read.recorded_at()))
        .collect();
    assert_eq!(history.events(), expected);
    assert_eq!(history.head(), Some(expected[1].mark()));
    assert_eq!(history.role(), Role::Primary);
}

#[tokio::test]
async fn an_empty_log_has_no_head_and_takes_a_guarded_append() {
    let (_database, _router, store) = store().await;
    let history = store.query(&of_type("A")).await.unwrap();
    assert_eq!((history.len(), history.head()), (0, None));
    store.append([event("A", json!({}))], history.unchanged()).await.unwrap();
    let late = store.append([event("A", json!({}))], history.unchanged()).await.unwrap_err();
    assert!(late.is_conflict(), "{late:?}");
    let conflict = late.conflict().unwrap();
    assert_eq!((conflict.position, &*conflict.event_type), (1, "A"));
    assert!(late.node().is_some());
}

#[tokio::test]
async fn a_condition_sees_matching_events_behind_its_read_and_no_others() {
    let (_database, _router, store) = store().await;
    append(&store, "A").await;
    let history = store.query(&of_type("A")).await.unwrap();
    append(&store, "B").await;
    store.append([event("C", json!({}))], history.unchanged()).await.unwrap();
    append(&store, "A").await;
    let error = store.append([event("C", json!({}))], history.unchanged()).await.unwrap_err();
    assert_eq!(error.conflict().map(|conflict| conflict.position), Some(4));
    assert_eq!(store.query(&Filter::any_event()).await.unwrap().len(), 4);
}

#[tokio::test]
async fn each_part_of_a_filter_guards_and_reads_the_same() {
    let (_database, _router, store) = store().await;
    let lent = event("BookLent", json!({"BookID": "b-1", "copies": 2, "place": {"shelf": 3}}))
        .with_tags(["book:b-1", "reader:r-7"])
        .with_metadata(&json!({"tenant": 4}))
        .unwrap();
    store.append([lent], AppendCondition::none()).await.unwrap();
    let matching = || Filter::matching();
    let cases = [
        (true, Filter::any_event()),
        (true, of_type("BookLent")),
        (false, of_type("BookReturned")),
        (false, of_type("booklent")),
        (true, matching().any_type_of(["X", "BookLent"]).finish().unwrap()),
        (true, matching().all_tags_of(["reader:r-7", "book:b-1"]).finish().unwrap()),
        (false, matching().all_tags_of(["reader:r-7", "book:b-2"]).finish().unwrap()),
        (true, matching().any_predicate_of([Predicate::payload("BookID", "b-1")]).finish().unwrap()),
        (
            true,
            matching()
                .any_predicate_of([Predicate::payload("BookID", "b-2"), Predicate::payload("copies", 2)])
                .finish()
                .unwrap(),
        ),
        (
            false,
            matching()
                .all_predicates_of([Predicate::payload("BookID", "b-2"), Predicate::payload("copies", 2)])
                .finish()
                .unwrap(),
        ),
        (
            true,
            matching()
                .all_predicates_of([Predicate::payload("BookID", "b-1"), Predicate::payload("copies", 2.0)])
                .finish()
                .unwrap(),
        ),
        (false, matching().any_predicate_of([Predicate::payload("copies", "2")]).finish().unwrap()),
        (true, matching().any_predicate_of([Predicate::payload(["place", "shelf"], 3)]).finish().unwrap()),
        (true, matching().any_predicate_of([Predicate::metadata("tenant", 4)]).finish().unwrap()),
        (false, matching().any_predicate_of([Predicate::payload("tenant", 4)]).finish().unwrap()),
        (
            false,
            matching()
                .any_type_of(["BookLent"])
                .and_any_predicate_of([Predicate::payload("BookID", "b-2")])
                .finish()
                .unwrap(),
        ),
        (true, matching().any_type_of(["X"]).or_matching().all_tags_of(["book:b-1"]).finish().unwrap()),
        // An item is a whole: the type of one and the tag of another are not a match.
        (
            false,
            matching()
                .any_type_of(["BookLent"])
                .and_all_tags_of(["book:b-2"])
                .or_matching()
                .any_type_of(["X"])
                .and_all_tags_of(["book:b-1"])
                .finish()
                .unwrap(),
        ),
    ];
    for (expected, filter) in cases {
        let read = store.query(&filter).await.unwrap();
        assert_eq!(read.len() == 1, expected, "read by {filter:?}");
        assert_eq!(filter.matches(&store.query(&Filter::any_event()).await.unwrap()[0]), expected, "{filter:?}");
        let from_start = AppendCondition::fail_if_events_match(filter.clone());
        // Near is judged under the lock, from the beginning before it: both must say the same.
        for condition in [from_start.clone(), from_start.after_position(0)] {
            let outcome = store.append([event("Probe", json!({}))], condition).await;
            assert_eq!(outcome.is_err_and(|error| error.is_conflict()), expected, "guarded by {filter:?}");
        }
    }
}

#[tokio::test]
async fn a_repeated_append_returns_the_first_ones_positions_whatever_its_condition_says_now() {
    let (_database, _router, store) = store().await;
    let history = store.query(&of_type("A")).await.unwrap();
    let events = [event("A", json!({"n": 1})).with_tag("t"), event("A", json!({"n": 2}))];
    let first = store.append(events.clone(), history.unchanged()).await.unwrap();
    append(&store, "A").await;
    let second = store.append(events.clone(), history.unchanged()).await.unwrap();
    assert_eq!((second.positions(), second.is_repeated()), (first.positions(), true));
    // Also when the condition is judged before the lock, where its own first events break it.
    let none_at_all = AppendCondition::fail_if_events_match(of_type("A"));
    let third = store.append(events, none_at_all).await.unwrap();
    assert_eq!((third.positions(), third.is_repeated()), (first.positions(), true));
    assert_eq!(store.query(&Filter::any_event()).await.unwrap().len(), 3);
}

#[tokio::test]
async fn ids_that_are_taken_by_anything_else_are_refused_and_nothing_is_written() {
    let (_database, _router, store) = store().await;
    let first = event("A", json!({"n": 1})).with_tag("t");
    let second = event("B", json!({}));
    store.append([first.clone(), second.clone()], AppendCondition::none()).await.unwrap();
    let new = event("C", json!({}));
    let other = |event: NewEvent| event.with_id(first.id());
    let cases = [
        vec![first.clone()],
        vec![second.clone()],
        vec![second.clone(), first.clone()],
        vec![first.clone(), second.clone(), new.clone()],
        vec![new.clone(), first.clone()],
        vec![other(event("X", json!({"n": 1})).with_tag("t")), second.clone()],
        vec![other(event("A", json!({"n": 2})).with_tag("t")), second.clone()],
        vec![first.clone().with_tag("u"), second.clone()],
        vec![first.clone().with_metadata(&json!({"m": 1})).unwrap(), second.clone()],
    ];
    for (index, events) in cases.into_iter().enumerate() {
        let outcome = store.append(events, AppendCondition::none()).await;
        let error = outcome.expect_err(&format!("case {index}"));
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "case {index}: {error}");
    }
    let twice = store.append([new.clone(), new], AppendCondition::none()).await.unwrap_err();
    assert_eq!(twice.kind(), ErrorKind::InvalidInput);
    assert_eq!(store.query(&Filter::any_event()).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_condition_based_on_an_event_that_is_not_there_has_diverged() {
    let (_database, _router, store) = store().await;
    append(&store, "A").await;
    let head = append(&store, "A").await;
    append(&store, "B").await;
    let other = NewEvent::new("X", &()).unwrap().id();
    let guard = || AppendCondition::fail_if_events_match(of_type("Z"));
    let diverged = [
        guard().after(Mark::new(2, other)),
        guard().after(Mark::new(3, other)),
        guard().after(Mark::new(4, other)),
        guard().after(Mark::new(9000, other)),
        guard().after_position(4),
        guard().after_position(u64::MAX),
    ];
    for condition in diverged {
        let error = store.append([event("C", json!({}))], condition.clone()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LogDiverged, "{condition:?}: {error}");
    }
    store.append([event("C", json!({}))], guard().after(head)).await.unwrap();
    store.append([event("C", json!({}))], guard().after_position(2)).await.unwrap();
}

#[tokio::test]
async fn a_condition_from_far_back_is_judged_like_a_near_one() {
    let (_database, _router, store) = store().await;
    let base = append(&store, "Base").await;
    append(&store, "Needle").await;
    let before = store.query(&of_type("Needle")).await.unwrap();
    for _ in 0..3 {
        let hay: Vec<_> = (0..500).map(|n| event("Hay", json!({"n": n}))).collect();
        store.append(hay, AppendCondition::none()).await.unwrap();
    }
    // 1500 events since: further than the lock's holder looks.
    store.append([event("C", json!({}))], before.unchanged()).await.unwrap();
    let guard = AppendCondition::fail_if_events_match(of_type("Needle"));
    for condition in [guard.clone(), guard.clone().after(base), guard.clone().after_position(1)] {
        let error = store.append([event("C", json!({}))], condition).await.unwrap_err();
        assert_eq!(error.conflict().map(|conflict| conflict.position), Some(2));
    }
    let gone = Mark::new(1, event("X", json!({})).id());
    let error = store.append([event("C", json!({}))], guard.after(gone)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LogDiverged);
}

#[tokio::test]
async fn the_log_only_grows() {
    let (_database, router, store) = store().await;
    append(&store, "A").await;
    let client = router.client().await.unwrap();
    for sql in ["UPDATE mainstem.events SET type = 'B'", "DELETE FROM mainstem.events", "TRUNCATE mainstem.events"] {
        let error = client.execute(sql, &[]).await.unwrap_err();
        assert!(error.to_string().contains("append-only"), "{sql}: {error}");
    }
    assert_eq!(store.query(&of_type("A")).await.unwrap().len(), 1);
}

#[tokio::test]
async fn an_append_of_nothing_is_refused() {
    let (_database, _router, store) = store().await;
    let error = store.append([], AppendCondition::none()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[tokio::test]
async fn a_log_without_tables_says_what_to_do() {
    let database = crate::support::database().await;
    let router = crate::support::router(&database).await;
    let store = PostgresEventStore::new(&router);
    let appended = store.append([event("A", json!({}))], AppendCondition::none()).await.unwrap_err();
    let read = store.query(&Filter::any_event()).await.unwrap_err();
    for error in [appended, read] {
        assert_eq!(error.kind(), ErrorKind::Schema);
        assert!(error.to_string().contains("migrations"), "{error}");
    }
}

#[tokio::test]
async fn queries_go_where_the_scope_says_and_appends_always_to_the_primary() {
    let (_database, _router, store) = store().await;
    with_eventual_consistency(async { store.append([event("A", json!({}))], AppendCondition::none()).await })
        .await
        .unwrap();
    cluster().await.wait_until_caught_up().await.unwrap();
    let all = Filter::any_event();
    let roles = |history: History| (history.role(), history.len());
    assert_eq!(roles(store.query(&all).await.unwrap()), (Role::Primary, 1));
    let eventual = with_eventual_consistency(async { store.query(&all).await }).await.unwrap();
    assert_eq!(roles(eventual), (Role::Replica, 1));
    let explicit = store.query(&all).consistency(mainstem::Consistency::Eventual).await.unwrap();
    assert_eq!(roles(explicit), (Role::Replica, 1));
}

#[tokio::test]
async fn the_scope_counts_where_the_method_is_called_not_where_the_future_is_polled() {
    let (_database, _router, store) = store().await;
    let all = Filter::any_event();
    let eventual = Scope::new().with_consistency(mainstem::Consistency::Eventual);
    let outside = store.query(&all);
    let inside = eventual.run_sync(|| store.query(&all));
    cluster().await.wait_until_caught_up().await.unwrap();
    let from_outside = with_eventual_consistency(async { outside.await }).await.unwrap();
    assert_eq!(from_outside.role(), Role::Primary);
    assert_eq!(inside.await.unwrap().role(), Role::Replica);
}
