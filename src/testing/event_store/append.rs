//! What an append writes.

use std::{future::IntoFuture, time::Duration};

use serde_json::json;

use super::fixture::{
    Store, append, append_if, append_one, event, expect, log, none_of, of_type, plain, read, recorded, refused, types,
    with_predicate,
};
use crate::{
    AppendCondition, ErrorKind, Event, EventContext, EventId, EventStore, Filter, Json, NewEvent, Payload, Predicate,
    Scope,
};

pub(super) async fn events_are_read_as_they_were_written(store: Store<'_>) {
    let metadata = json!({"user": "ada", "trace": ["t-1", {"span": 2}]});
    let first = event("BookAdded", json!({"BookID": "b-1", "pages": 120, "genres": ["a", null, 1.5, true]}))
        .with_tags(["shelf:3", "book:b-1"])
        .with_metadata(&metadata)
        .unwrap_or_else(|error| panic!("metadata of the test: {error}"))
        .with_occurred_at(std::time::SystemTime::UNIX_EPOCH + Duration::from_micros(1_234_567_890_123_456));
    // Not an object: a payload need not be one.
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

pub(super) async fn opaque_bytes_are_read_as_they_were_written(store: Store<'_>) {
    let every_byte: Vec<u8> = (0..=u8::MAX).collect();
    let long: Vec<u8> = every_byte.iter().cycle().copied().take(2 * 1024 * 1024).collect();
    let content_type = "x".repeat(Payload::MAX_CONTENT_TYPE_LEN);
    let events = [
        NewEvent::from_payload("Scanned", Payload::bytes("image/png", every_byte)),
        event("Added", json!({"n": 1})),
        NewEvent::from_payload("Scanned", Payload::bytes("text/plain; charset=\"utf-8\"", [])).with_tag("empty"),
        NewEvent::from_payload("Scanned", Payload::bytes(content_type, long)),
    ];
    let first = append(store, events.clone()).await.first_position();
    append(store, [events[0].clone().with_id(EventId::new())]).await;
    let history = log(store).await;
    assert!(history[..4] == recorded(&events, first, &history[..4]), "the bytes that were read are not those appended");
    let error = match history[0].decode::<serde_json::Value>() {
        Ok(value) => panic!("bytes were decoded, as {value}"),
        Err(error) => error,
    };
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    assert_eq!(history[4].payload(), events[0].payload(), "of an append of nothing but bytes");
}

pub(super) async fn an_event_may_occur_when_it_is_recorded(store: Store<'_>) {
    let events = [plain("A").occurred_when_recorded(), plain("B"), plain("C").occurred_when_recorded()];
    append(store, events.clone()).await;
    let history = log(store).await;
    let is_recording: Vec<bool> = history.iter().map(|event| event.occurred_at() == event.recorded_at()).collect();
    assert_eq!((is_recording[0], is_recording[2]), (true, true), "another time than that of the recording");
    assert_eq!(Some(history[1].occurred_at()), events[1].occurred_at(), "the client's own time");
    assert!(append(store, events.clone()).await.is_repeated(), "the same events are a repeat");
    let alone = append(store, [plain("D").occurred_when_recorded()]).await.first_position();
    let recorded_at = log(store).await[3].recorded_at();
    let then = read(store, &Filter::any_event().occurred_from(recorded_at)).await;
    assert!(super::fixture::positions(&then).contains(&alone), "it is not read by the time of its recording");
    // An event whose time the client has set differs from one whose time it leaves to the store.
    let [first, second, third] = events;
    let changed = [first, second.occurred_when_recorded(), third];
    refused(store, changed, AppendCondition::none(), ErrorKind::InvalidInput).await;
}

pub(super) async fn ids_of_messages_are_in_the_metadata(store: Store<'_>) {
    let context = EventContext::new().with_correlation_id("scope \"1\"").with_causation_id("cause");
    let scope = Scope::current().with_item(context);
    let with_own = expect(plain("B").with_metadata(&json!({"CorrelationID": 7})), "metadata of the test");
    let events =
        vec![plain("A"), plain("A").with_correlation_id("own"), with_own, plain("C").with_metadata_json(list_of_one())];
    // The scope in which the method is called counts.
    let call = scope.run_sync(|| store.append(events, AppendCondition::none()));
    expect(call.await, "an append from a scope");
    append(store, [plain("A").with_message_id("m-1")]).await;
    let import = scope.run_sync(|| store.import([plain("I")], AppendCondition::none()));
    expect(import.await, "an import from a scope");
    let history = log(store).await;
    let metadata: Vec<_> = history.iter().map(Event::metadata).collect();
    let expected = [
        json!({"CorrelationID": "scope \"1\"", "CausationID": "cause"}),
        json!({"CorrelationID": "own", "CausationID": "cause"}),
        json!({"CorrelationID": 7, "CausationID": "cause"}),
        json!([1]),
        json!({"MessageID": "m-1"}),
        json!({"CorrelationID": "scope \"1\"", "CausationID": "cause"}),
    ];
    let expected = expected.map(|value| expect(Json::from_serialize(&value), "metadata of the test"));
    assert_eq!(metadata, expected.iter().collect::<Vec<_>>());
    assert_eq!(history[0].correlation_id().as_deref(), Some("scope \"1\""));
    let caused = with_predicate(Predicate::metadata(EventContext::CAUSATION_ID, "cause"));
    assert_eq!(read(store, &caused).await.len(), 4);
}

fn list_of_one() -> Json {
    expect(Json::from_text("[1]"), "JSON of the test")
}

pub(super) async fn positions_follow_the_order_of_the_appends(store: Store<'_>) {
    let mut last = 0;
    for amount in [1, 3, 1, 40, 2] {
        let events: Vec<_> = (0..amount).map(|n| event("Counted", json!({"n": n}))).collect();
        let ids: Vec<_> = events.iter().map(NewEvent::id).collect();
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
    assert_eq!(log(store).await.len(), 3);
}

pub(super) async fn an_append_that_is_never_awaited_writes_nothing(store: Store<'_>) {
    drop(store.append([plain("Never")], AppendCondition::none()));
    drop(store.append([plain("Never")], AppendCondition::none()).into_future());
    // Anything that a store may have started in the background is done once these have completed.
    for _ in 0..3 {
        append_one(store, "Awaited").await;
    }
    assert_eq!(types(&log(store).await), ["Awaited"; 3]);
}
