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
    assert!(before <= floor_micros(event.occurred_at()));
    assert!(event.occurred_at() <= SystemTime::now());
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
fn what_the_database_would_refuse_is_refused_before() {
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
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
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
    assert_eq!(event.occurred_at(), new.occurred_at());
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
        let kept = event().with_occurred_at(time).occurred_at();
        prop_assert_eq!(from_micros(floor_micros(kept)).unwrap(), kept);
        prop_assert!(kept <= time);
        prop_assert!(time.duration_since(kept).unwrap() < Duration::from_micros(1));
        let ceiling = from_micros(ceil_micros(time)).unwrap();
        prop_assert!(ceiling >= time);
        prop_assert!(ceiling.duration_since(time).unwrap() < Duration::from_micros(1));
    }
}
