//! An append can be repeated, and its ids can never be used for anything else.

use std::{future::IntoFuture, time::Duration};

use serde_json::json;

use super::fixture::{
    Store, append, append_if, append_one, event, expect, log, none_of, of_type, plain, read, refused, with_tags,
};
use crate::{AppendCondition, ErrorKind, EventContext, EventId, EventStore, Json, Mark, NewEvent, Payload, Scope};

pub(super) async fn a_repeated_append_returns_the_first_ones_positions(store: Store<'_>) {
    append_one(store, "Before").await;
    let events = [event("A", json!({"n": 1})).with_tag("t"), event("A", json!({"n": 2}))];
    let first = append(store, events.clone()).await;
    append_one(store, "A").await;
    for _ in 0..2 {
        let again = append(store, events.clone()).await;
        assert_eq!((again.positions(), again.last()), (first.positions(), first.last()));
        assert!(again.is_repeated(), "a repeat says that it is one");
    }
    assert_eq!(log(store).await.len(), 4, "a repeated append was written again");
}

pub(super) async fn a_repeat_is_answered_whatever_its_condition_says_now(store: Store<'_>) {
    let history = read(store, &of_type("A")).await;
    let events = [plain("A"), plain("A")];
    let first = append_if(store, events.clone(), history.unchanged()).await;
    append_one(store, "A").await;
    let guard = none_of(&of_type("A"));
    let elsewhere = Mark::new(first.first_position(), EventId::new());
    let conditions = [
        history.unchanged(),
        // Its own events violate this one.
        guard.clone(),
        guard.clone().after(elsewhere),
        guard.after_position(9_999),
        AppendCondition::none(),
    ];
    for condition in conditions {
        let again = append_if(store, events.clone(), condition.clone()).await;
        assert_eq!((again.positions(), again.is_repeated()), (first.positions(), true), "under {condition:?}");
    }
    assert_eq!(log(store).await.len(), 3);
}

pub(super) async fn an_event_of_the_same_value_is_the_same_event(store: Store<'_>) {
    let json = |text: &str| expect(Json::from_text(text), "JSON of the test");
    let id = EventId::new();
    let made = |payload, metadata| {
        let event = NewEvent::from_json("A", json(payload)).with_metadata_json(json(metadata));
        event.with_id(id).with_tags(["b", "a"]).with_occurred_at(std::time::SystemTime::UNIX_EPOCH)
    };
    let first = append(store, [made(r#"{"a": 1, "b": [1.0, "x"]}"#, r#"{"m": 100}"#)]).await;
    let again = append(store, [made(r#"{"b":[1,"\u0078"],"a":1.00}"#, r#"{"m":1e2}"#).with_tag("a")]).await;
    assert_eq!((again.positions(), again.is_repeated()), (first.positions(), true));
    assert_eq!(log(store).await.len(), 1);
}

pub(super) async fn ids_of_other_events_are_refused(store: Store<'_>) {
    let first = event("A", json!({"n": 1})).with_tag("t");
    let second = plain("B");
    append(store, [first.clone(), second.clone()]).await;
    let alone = plain("Alone");
    append(store, [alone.clone()]).await;
    let before = log(store).await;
    let new = plain("C");
    let at = first.occurred_at().unwrap_or(std::time::UNIX_EPOCH);
    let as_first = |event: NewEvent| event.with_id(first.id()).with_occurred_at(at);
    let cases = [
        ("the first part of an append", vec![first.clone()]),
        ("the second part of an append", vec![second.clone()]),
        ("another order", vec![second.clone(), first.clone()]),
        ("an append and a new event", vec![first.clone(), second.clone(), new.clone()]),
        ("a new event and an append", vec![new.clone(), first.clone(), second.clone()]),
        ("two appends at once", vec![first.clone(), second.clone(), alone.clone()]),
        ("another type", vec![as_first(event("X", json!({"n": 1})).with_tag("t")), second.clone()]),
        ("another payload", vec![as_first(event("A", json!({"n": 2})).with_tag("t")), second.clone()]),
        ("one more tag", vec![first.clone().with_tag("u"), second.clone()]),
        ("one tag less", vec![as_first(event("A", json!({"n": 1}))), second.clone()]),
        (
            "metadata where there was none",
            vec![expect(first.clone().with_metadata(&json!({"m": 1})), "metadata of the test"), second.clone()],
        ),
        ("another time", vec![first.clone().with_occurred_at(at + Duration::from_secs(1)), second.clone()]),
    ];
    for (what, events) in cases {
        let error = match store.append(events, AppendCondition::none()).await {
            Ok(appended) => panic!("{what}: taken, at {:?}", appended.positions()),
            Err(error) => error,
        };
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{what}: {error}");
    }
    assert_eq!(log(store).await.events(), before.events());
}

pub(super) async fn opaque_bytes_are_compared_byte_by_byte(store: Store<'_>) {
    let id = EventId::new();
    let made = |content_type: &str, bytes: &[u8]| {
        NewEvent::from_payload("A", Payload::bytes(content_type, bytes))
            .with_id(id)
            .with_occurred_at(std::time::SystemTime::UNIX_EPOCH)
    };
    let first = append(store, [made("text/plain", b"{}")]).await;
    let again = append(store, [made("text/plain", b"{}")]).await;
    assert_eq!((again.positions(), again.is_repeated()), (first.positions(), true));
    let json =
        NewEvent::from_json("A", Json::default()).with_id(id).with_occurred_at(std::time::SystemTime::UNIX_EPOCH);
    let others = [
        ("other bytes", made("text/plain", b"{]")),
        ("more bytes", made("text/plain", b"{} ")),
        ("another content type", made("text/html", b"{}")),
        ("JSON of the same text", json),
    ];
    for (what, event) in others {
        match store.append([event], AppendCondition::none()).await {
            Ok(appended) => panic!("{what}: taken, at {:?}", appended.positions()),
            Err(error) => assert_eq!(error.kind(), ErrorKind::InvalidInput, "{what}: {error}"),
        }
    }
    assert_eq!(log(store).await.len(), 1);
}

pub(super) async fn a_repeat_from_elsewhere_is_the_same_event(store: Store<'_>) {
    let made = expect(plain("A").with_metadata(&json!({"user": "ada"})), "metadata of the test");
    let from = |id: &str| Scope::current().with_item(EventContext::new().with_correlation_id(id).with_message_id(id));
    let first = from("first").run(async { append(store, [made.clone()]).await }).await;
    // Repeated by another request, without a user, and with its own ids.
    let again = [
        from("second").run(async { append(store, [made.clone()]).await }).await,
        append(store, [made.clone()]).await,
        append(store, [made.clone().with_correlation_id("third").with_causation_id("third")]).await,
    ];
    for again in again {
        assert_eq!((again.positions(), again.is_repeated()), (first.positions(), true));
    }
    let history = log(store).await;
    let [recorded] = history.events() else { panic!("{} events instead of one", history.len()) };
    let ids = [recorded.message_id(), recorded.causation_id(), recorded.correlation_id()];
    assert_eq!(ids.map(|id| id.map(String::from)), [Some("first".into()), None, Some("first".into())]);
    // The rest of the metadata does count.
    let other = expect(made.with_metadata(&json!({"user": "bob"})), "metadata of the test");
    refused(store, [other], AppendCondition::none(), ErrorKind::InvalidInput).await;
    // If it is not an object, no part of it is an id.
    let list = |text: &str| plain("B").with_metadata_json(expect(Json::from_text(text), "JSON of the test"));
    let of_one = list(r#"["MessageID"]"#);
    append(store, [of_one.clone()]).await;
    let of_none = of_one.clone().with_metadata_json(expect(Json::from_text("[]"), "JSON of the test"));
    refused(store, [of_none], AppendCondition::none(), ErrorKind::InvalidInput).await;
    assert!(append(store, [of_one]).await.is_repeated());
}

pub(super) async fn a_refused_append_leaves_its_ids_free(store: Store<'_>) {
    append_one(store, "A").await;
    let events = [plain("B"), plain("B")];
    refused(store, events.clone(), none_of(&of_type("A")), ErrorKind::Conflict).await;
    let head = log(store).await[0].position();
    let beyond = none_of(&of_type("Z")).after_position(head + 1);
    refused(store, events.clone(), beyond, ErrorKind::LogDiverged).await;
    let appended = append(store, events.clone()).await;
    assert!(!appended.is_repeated(), "the refused append has left its ids behind");
    assert_eq!(log(store).await.len(), 3);
}

pub(super) async fn an_abandoned_append_is_whole_or_not_there_and_can_be_made_again(store: Store<'_>) {
    for polls in 0..12 {
        let tag = format!("try:{polls}");
        let events: Vec<_> = (0..5).map(|_| plain("A").with_tag(&*tag)).collect();
        let append = store.append(events.clone(), AppendCondition::none()).into_future();
        abandon(append, polls).await;
        let read_back = || async { read(store, &with_tags([&tag])).await.len() };
        let found = read_back().await;
        assert!(found == 0 || found == 5, "{found} of 5 events are there, {polls} polls after the append began");
        let again = append_if(store, events, AppendCondition::none()).await;
        assert_eq!((again.positions().count(), read_back().await), (5, 5), "made again after {polls} polls");
    }
}

/// Polls the future at most this often, and drops it.
async fn abandon<T>(future: crate::backend::BoxFuture<T>, polls: usize) {
    let mut future = future;
    let mut left = polls;
    std::future::poll_fn(|context| {
        if left == 0 || future.as_mut().poll(context).is_ready() {
            return std::task::Poll::Ready(());
        }
        left -= 1;
        std::task::Poll::Pending
    })
    .await;
}
