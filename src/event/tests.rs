use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use serde_json::json;
use uuid::Uuid;

use super::{
    time::{MAX_MICROS, MIN_MICROS, ceil_micros, floor_micros, from_micros},
    *,
};
use crate::{ErrorKind, Json};

fn event() -> NewEvent {
    NewEvent::new("BookLent", &json!({"BookID": "b-1"})).unwrap()
}

fn refusal(event: &NewEvent) -> String {
    let error = event.validate().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    error.to_string()
}

#[test]
fn a_plain_event_is_valid_and_has_defaults() {
    let before = floor_micros(SystemTime::now());
    let event = event();
    event.validate().unwrap();
    assert_eq!(event.metadata(), &Json::default());
    assert_eq!(event.metadata().as_str(), "{}");
    assert_eq!(event.tags().len(), 0);
    let occurred_at = event.occurred_at().unwrap();
    assert!(before <= floor_micros(occurred_at));
    assert!(occurred_at <= SystemTime::now());
    assert_ne!(event.id(), self::event().id());
}

#[test]
fn ids_are_ordered_and_survive_text_and_json() {
    let ids: Vec<_> = std::iter::repeat_with(EventId::new).take(100).collect();
    assert!(ids.is_sorted());
    for id in ids {
        assert_eq!(Uuid::from(id).get_version_num(), 7);
        assert_eq!(id.to_string().parse::<EventId>().unwrap(), id);
        let json = serde_json::to_string(&id).unwrap();
        assert_eq!(json, format!("\"{id}\""));
        assert_eq!(serde_json::from_str::<EventId>(&json).unwrap(), id);
    }
    let error = "no uuid".parse::<EventId>().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!(error.to_string(), "event id \"no uuid\" is not a UUID");
}

#[test]
fn marks_serialise_with_names_and_refuse_others() {
    let mark = Mark::new(17, EventId::from(Uuid::from_u128(5)));
    let json = r#"{"position":17,"id":"00000000-0000-0000-0000-000000000005"}"#;
    assert_eq!(serde_json::to_string(&mark).unwrap(), json);
    assert_eq!(serde_json::from_str::<Mark>(json).unwrap(), mark);
    assert!(serde_json::from_str::<Mark>(&json.replace("17,", "17,\"log\":1,")).is_err());
    assert_eq!(mark.to_string(), "17 (00000000-0000-0000-0000-000000000005)");
}

#[test]
fn tags_are_a_set() {
    let event = event().with_tag("b").with_tags(["c", "a", "b"]).with_tag("a");
    assert_eq!(event.tags().collect::<Vec<_>>(), ["a", "b", "c"]);
    let recorded = event.into_recorded(1, SystemTime::now());
    assert_eq!(recorded.tags().collect::<Vec<_>>(), ["a", "b", "c"]);
    assert!(recorded.has_tag("c") && !recorded.has_tag("d") && !recorded.has_tag(""));
}

#[test]
fn events_the_database_would_refuse_fail_validation() {
    let of_type = |event_type: String| NewEvent::from_json(event_type, Json::default());
    let at_limit = "x".repeat(NewEvent::MAX_TYPE_LEN);
    of_type(at_limit.clone()).validate().unwrap();
    assert_eq!(refusal(&of_type(String::new())), "event of type \"\": a type is empty");
    assert!(refusal(&of_type("a\0b".into())).contains(r#"the type "a\0b" contains a NUL character"#));
    assert!(refusal(&of_type(at_limit + "x")).contains("longer than the limit of 255 bytes"));

    let tag = "t".repeat(NewEvent::MAX_TAG_LEN);
    event().with_tag(tag.clone()).validate().unwrap();
    assert_eq!(refusal(&event().with_tag("")), "event of type \"BookLent\": a tag is empty");
    assert!(refusal(&event().with_tag("t\0")).contains(r#"the tag "t\0" contains a NUL"#));
    assert!(refusal(&event().with_tag(tag + "t")).contains("longer than the limit of 1024 bytes"));

    let tags = |count: usize| event().with_tags((0..count).map(|n| n.to_string()));
    tags(NewEvent::MAX_TAGS).with_tag("0").validate().unwrap();
    assert!(refusal(&tags(NewEvent::MAX_TAGS + 1)).contains("it has 65 tags, more than the limit of 64"));

    assert!(refusal(&event().with_id(Uuid::nil().into())).contains("nil UUID"));

    let at = |micros| event().with_occurred_at(from_micros(micros).unwrap());
    at(MIN_MICROS).validate().unwrap();
    at(MAX_MICROS).validate().unwrap();
    assert!(refusal(&at(MIN_MICROS - 1)).contains("occurred_at is outside"));
    assert!(refusal(&at(MAX_MICROS + 1)).contains("occurred_at is outside"));
}

#[test]
fn bytes_have_a_content_type_and_limits() {
    let bytes =
        |content_type: &str, len: usize| NewEvent::from_payload("Scanned", Payload::bytes(content_type, vec![0; len]));
    bytes("a", Payload::MAX_BYTES_LEN).validate().unwrap();
    let too_long = refusal(&bytes("a", Payload::MAX_BYTES_LEN + 1));
    assert!(too_long.starts_with("event of type \"Scanned\": the payload of 16777217 bytes is longer"), "{too_long}");
    let longest = "x".repeat(Payload::MAX_CONTENT_TYPE_LEN);
    bytes(&longest, 0).validate().unwrap();
    assert!(refusal(&bytes(&(longest + "x"), 0)).contains("longer than the limit of 255 bytes"));
    assert!(refusal(&bytes("", 0)).contains("the content type is empty"));
    for text in ["a\0", "a\nb", "\u{7f}", "é"] {
        assert!(refusal(&bytes(text, 0)).contains("is not printable ASCII"), "{text:?}");
    }
    let scanned =
        NewEvent::from_payload("Scanned", Payload::bytes("text/html", *b"<b>")).into_recorded(4, SystemTime::now());
    let error = scanned.decode::<String>().unwrap_err();
    let expected = "payload of the event of type \"Scanned\" at position 4: 3 bytes of \"text/html\" are opaque, not JSON to decode";
    assert_eq!((error.kind(), error.to_string()), (ErrorKind::InvalidData, expected.into()));
    assert_eq!((scanned.payload().as_bytes(), scanned.payload().as_json()), (Some(("text/html", &b"<b>"[..])), None));
    assert_eq!(format!("{:?}", scanned.payload()), "3 bytes of \"text/html\"");
}

#[test]
fn ids_of_messages_are_members_of_the_metadata_in_any_order_of_calls() {
    let text = |event: &NewEvent| {
        event.validate().unwrap();
        event.metadata().as_str().to_owned()
    };
    let json = |text: &str| Json::from_text(text).unwrap();
    let with_ids = event().with_correlation_id("c\"1").with_message_id(7).with_causation_id(Uuid::nil());
    let ids = r#""MessageID":"7","CausationID":"00000000-0000-0000-0000-000000000000","CorrelationID":"c\"1""#;
    assert_eq!(text(&with_ids), format!("{{{ids}}}"));
    assert_eq!(
        text(&with_ids.clone().with_metadata_json(json(r#" {"a": {} } "#))),
        format!(r#" {{"a": {{}} ,{ids}}}"#)
    );
    assert_eq!(with_ids.correlation_id().unwrap(), "c\"1");
    assert_eq!(text(&with_ids.with_message_id(8)), format!("{{{}}}", ids.replace('7', "8")));

    // A second id with another value is a contradiction, whichever came first.
    let own = json(r#"{"CorrelationID": "mine", "CausationID": null}"#);
    let owned = event().with_metadata_json(own.clone());
    assert_eq!((owned.correlation_id().as_deref(), owned.causation_id()), (Some("mine"), None));
    assert_eq!(owned.clone().with_correlation_id("mine").metadata(), &own);
    let refused = refusal(&owned.clone().with_correlation_id("other"));
    assert!(refused.contains("the metadata has a CorrelationID of its own, which is not \"other\""), "{refused}");
    assert!(refusal(&event().with_causation_id("x").with_metadata_json(own)).contains("a CausationID of its own"));

    let list = event().with_metadata_json(json("[]"));
    assert!(
        refusal(&list.clone().with_message_id("x")).contains("is not an object, so it has no place for the MessageID")
    );
    // Ids without room are only left out if nobody set them by name.
    let scope = EventContext::new().with_message_id("scope").with_correlation_id("scope").with_causation_id("scope");
    for (mut event, expected) in [
        (list, "[]".to_owned()),
        (owned, r#"{"CorrelationID": "mine", "CausationID": null,"MessageID":"scope"}"#.to_owned()),
        (
            event().with_message_id("mine"),
            r#"{"MessageID":"mine","CausationID":"scope","CorrelationID":"scope"}"#.into(),
        ),
    ] {
        event.take_context(&scope);
        assert_eq!(text(&event), expected);
    }

    assert!(refusal(&event().with_message_id("")).contains("the MessageID is empty"));
    assert!(refusal(&event().with_message_id("a\0")).contains("contains a NUL"));
    event().with_message_id("x".repeat(EventContext::MAX_ID_LEN)).validate().unwrap();
    assert!(refusal(&event().with_message_id("x".repeat(256))).contains("longer than the limit of 255 bytes"));
}

#[test]
fn the_ids_of_messages_make_no_other_event() {
    let made = |metadata: &str| {
        event().with_id(EventId::from(Uuid::max())).with_metadata_json(Json::from_text(metadata).unwrap())
    };
    let recorded = |event: NewEvent| event.occurred_when_recorded().into_recorded(1, SystemTime::now());
    let same = |new: &str, old: &str| made(new).occurred_when_recorded().is_recorded_as(&recorded(made(old)));
    assert!(same(r#"{"a":1}"#, r#"{"a":1.0,"MessageID":"x","CausationID":{},"CorrelationID":null}"#));
    assert!(same(r#"{"a":1,"MessageID":"x"}"#, r#"{"MessageID":"y","a":1}"#));
    assert!(!same(r#"{"a":1,"MessageID":"x"}"#, r#"{"MessageID":"x","a":2}"#));
    assert!(!same(r#"{"MessageId":"x"}"#, "{}"));
    assert!(!same(r#"["MessageID"]"#, "[]") && same("[1]", "[1.0]"));
}

#[test]
fn the_error_of_an_append_names_the_event() {
    let events = [event(), event().with_tag("")];
    let error = NewEvent::validate_all(&events).unwrap_err();
    assert_eq!(error.to_string(), "events[1], event of type \"BookLent\": a tag is empty");
    NewEvent::validate_all(&events[..1]).unwrap();
}

#[test]
fn json_that_cannot_be_stored_is_refused_where_it_is_given() {
    let error = NewEvent::new("T", &json!({"a": ["x", "y\0"]})).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let text = error.to_string();
    assert!(text.starts_with(r#"event of type "T": payload: invalid JSON at byte 12, path $["a"][1]: "#), "{text}");

    let error = event().with_metadata(&json!({"m": "\0"})).unwrap_err();
    assert!(error.to_string().starts_with(r#"event of type "BookLent": metadata: invalid JSON"#), "{error}");

    let keyed_by_tuple = std::collections::HashMap::from([((1, 2), 3)]);
    let error = NewEvent::new("T", &keyed_by_tuple).unwrap_err();
    assert!(error.to_string().contains("cannot be serialised"), "{error}");
    assert!(std::error::Error::source(&error).is_some());
}

#[test]
fn decoding_says_which_event_has_another_shape() {
    let recorded = event().into_recorded(9, SystemTime::now());
    let error = recorded.decode::<Vec<u8>>().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    assert!(error.to_string().contains(r#"event of type "BookLent" at position 9"#), "{error}");
}

#[test]
fn recording_keeps_everything() {
    let new = event().with_tag("t").with_metadata(&json!({"m": 1})).unwrap();
    let recorded_at = SystemTime::UNIX_EPOCH + Duration::from_nanos(1_999);
    let event = new.clone().into_recorded(3, recorded_at);
    assert_eq!(event.mark(), Mark::new(3, new.id()));
    assert_eq!((event.position(), event.id(), event.event_type()), (3, new.id(), "BookLent"));
    assert_eq!((event.payload(), event.metadata()), (new.payload(), new.metadata()));
    assert_eq!(Some(event.occurred_at()), new.occurred_at());
    assert!(new.is_recorded_as(&event));
    let left_to_the_store = new.occurred_when_recorded();
    assert!(!left_to_the_store.is_recorded_as(&event));
    let event = left_to_the_store.clone().into_recorded(3, recorded_at);
    assert_eq!(event.occurred_at(), event.recorded_at());
    assert!(left_to_the_store.is_recorded_as(&event));
    assert_eq!(event.recorded_at(), SystemTime::UNIX_EPOCH + Duration::from_micros(1));
}

proptest! {
    #[test]
    fn a_time_that_is_set_is_a_time_that_can_be_read_back(seconds in -9_000_000_000_i64..9_000_000_000, nanos in 0..1_000_000_000_u32) {
        let distance = Duration::new(seconds.unsigned_abs(), nanos);
        let time = match seconds {
            0.. => SystemTime::UNIX_EPOCH + distance,
            _ => SystemTime::UNIX_EPOCH - distance,
        };
        let kept = event().with_occurred_at(time).occurred_at().unwrap();
        prop_assert_eq!(from_micros(floor_micros(kept)).unwrap(), kept);
        prop_assert!(kept <= time);
        prop_assert!(time.duration_since(kept).unwrap() < Duration::from_micros(1));
        let ceiling = from_micros(ceil_micros(time)).unwrap();
        prop_assert!(ceiling >= time);
        prop_assert!(ceiling.duration_since(time).unwrap() < Duration::from_micros(1));
    }
}
