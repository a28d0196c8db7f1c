//! What an append writes.

use std::{future::IntoFuture, time::Duration};

use serde_json::json;

use super::fixture::{
    Store, append, append_if, append_one, event, log, none_of, of_type, plain, recorded, refused, types,
};
use crate::{AppendCondition, ErrorKind, EventStore, Json};

pub(super) async fn events_are_read_as_they_were_written(store: Store<'_>) {
    let metadata = json!({"user": "ada", "trace": ["t-1", {"span": 2}]});
    let first = event("BookAdded", json!({"BookID": "b-1", "pages": 120, "genres": ["a", null, 1.5, true]}))
        .with_tags(["shelf:3", "book:b-1"])
        .with_metadata(&metadata)
        .unwrap_or_else(|error| panic!("metadata of the test: {error}"))
        .with_occurred_at(std::time::SystemTime::UNIX_EPOCH + Duration::from_micros(1_234_567_890_123_456));
    // Not an object, which a payload need not be.
    let second = event("BookLent", json!([1, "two"])).with_metadata_json(Json::default());
    let events = [first, second];
    let appended = append(store, events.clone()).await;
    assert!(!appended.is_repeated(), "a first append is no repeat");

    let history = log(store).await;
    let expected = recorded(&events, appended.first_position(), &history);
    assert_eq!(history.events(), expected, "the events are not what was appended");
    assert_eq!(history.head(), Some(appended.last()), "the head is not the last event");
    assert_eq!(log(store).await.events(), history.events(), "a second read gives something else");
}

pub(super) async fn positions_follow_the_order_of_the_appends(store: Store<'_>) {
    let mut last = 0;
    for amount in [1, 3, 1, 40, 2] {
        let events: Vec<_> = (0..amount).map(|n| event("Counted", json!({"n": n}))).collect();
        let ids: Vec<_> = events.iter().map(crate::NewEvent::id).collect();
        let appended = append(store, events).await;
        let positions = appended.positions();
        assert!(*positions.start() > last, "{positions:?} begin below {last}, which was there already");
        assert_eq!(positions.clone().count(), amount, "one position for each event");
        let history = log(store).await;
        let read: Vec<_> =
            history[history.len() - amount..].iter().map(|event| (event.position(), event.id())).collect();
        let expected: Vec<_> = positions.clone().zip(ids).collect();
        assert_eq!(read, expected, "the events of one append are not at positions that follow each other");
        last = *positions.end();
    }
}

pub(super) async fn an_append_is_whole_or_not_there(store: Store<'_>) {
    let taken = plain("Taken");
    append(store, [taken.clone()]).await;
    let before = log(store).await;
    let three = || [plain("A"), plain("B"), plain("C")];
    let with_taken_id = [plain("A"), plain("B"), plain("C").with_id(taken.id())];
    let beyond = none_of(&of_type("Other")).after_position(before[0].position() + 1);
    let cases = [
        (three(), none_of(&of_type("Taken")), ErrorKind::Conflict),
        (three(), beyond, ErrorKind::LogDiverged),
        (with_taken_id, AppendCondition::none(), ErrorKind::InvalidInput),
    ];
    for (events, condition, kind) in cases {
        refused(store, events, condition, kind).await;
        let after = log(store).await;
        assert_eq!(types(&after), ["Taken"], "something was written by an append that was refused as {kind:?}");
        assert_eq!(after.head(), before.head());
    }
}

pub(super) async fn an_append_does_not_break_its_own_condition(store: Store<'_>) {
    let filter = of_type("Opened");
    append_if(store, [plain("Opened"), plain("Opened")], none_of(&filter)).await;
    refused(store, [plain("Opened")], none_of(&filter), ErrorKind::Conflict).await;
    assert_eq!(log(store).await.len(), 2);
}

pub(super) async fn an_append_without_a_condition_is_written_whatever_the_log_holds(store: Store<'_>) {
    for _ in 0..3 {
        append_one(store, "Same").await;
    }
    // A place to go on from means nothing without a filter.
    append_if(store, [plain("Same")], AppendCondition::none().after_position(9_999)).await;
    assert_eq!(log(store).await.len(), 4);
}

pub(super) async fn an_append_that_is_never_awaited_writes_nothing(store: Store<'_>) {
    drop(store.append([plain("Never")], AppendCondition::none()));
    drop(store.append([plain("Never")], AppendCondition::none()).into_future());
    // What a store might have set going has had its time when these are through.
    for _ in 0..3 {
        append_one(store, "Awaited").await;
    }
    assert_eq!(types(&log(store).await), ["Awaited"; 3]);
}
