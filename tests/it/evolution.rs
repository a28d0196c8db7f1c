//! Events of every version, read as today's types.

use std::time::SystemTime;

use mainstem::{
    AppendCondition, ErrorKind, Event, EventCodec, EventStore, Filter, Json, MemoryEventStore, NewEvent, Payload,
    Predicate, UnknownEvents,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{event_store::fresh_log, support::event};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum CourseEvent {
    CourseDefined {
        title: String,
        capacity: u32,
    },
    #[serde(rename = "StudentEnrolled")]
    Enrolled(Enrolled),
    Rated(u8, String),
    Closed,
    Noted(Option<String>),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Enrolled {
    student: String,
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Kind {
    Full,
    Guest,
}

fn codec() -> EventCodec<CourseEvent> {
    EventCodec::new()
        .rename("CourseCreated", "CourseDefined")
        .upcast("CourseDefined", 1, |old: serde_json::Value| Ok(json!({"title": old["name"]})))
        .upcast("CourseDefined", 2, |mut old: serde_json::Map<String, serde_json::Value>| {
            old.insert("capacity".into(), 100.into());
            Ok(old)
        })
}

fn recorded(event: NewEvent) -> Event {
    event.validate().unwrap();
    event.into_recorded(7, SystemTime::now())
}

fn all() -> Vec<CourseEvent> {
    vec![
        CourseEvent::CourseDefined { title: "Logic".into(), capacity: 3 },
        CourseEvent::Enrolled(Enrolled { student: "ada".into(), kind: Kind::Guest }),
        CourseEvent::Rated(5, "good".into()),
        CourseEvent::Closed,
        CourseEvent::Noted(None),
    ]
}

#[test]
fn encoded_events_decode_to_the_same_value() {
    let types = ["CourseDefined", "StudentEnrolled", "Rated", "Closed", "Noted"];
    for (course_event, event_type) in all().into_iter().zip(types) {
        let event = codec().encode(&course_event).unwrap();
        assert_eq!(event.event_type(), event_type);
        assert_eq!(codec().decode(&recorded(event)).unwrap(), Some(course_event));
    }
    let closed = codec().encode(&CourseEvent::Closed).unwrap();
    assert_eq!(closed.payload().to_string(), "{}");
    let enrolled = codec().encode(&all()[1]).unwrap();
    assert_eq!(enrolled.payload().as_json(), Some(&Json::from_text(r#"{"student":"ada","kind":"Guest"}"#).unwrap()));
}

#[test]
fn old_versions_go_through_every_upcaster_on_their_way() {
    let logic = |capacity| CourseEvent::CourseDefined { title: "Logic".into(), capacity };
    let first = event("CourseCreated", json!({"name": "Logic"}));
    let explicit = event("CourseDefined", json!({"name": "Logic"})).with_schema_version(1);
    let second = event("CourseDefined", json!({"title": "Logic"})).with_schema_version(2);
    let third = event("CourseDefined", json!({"title": "Logic", "capacity": 5})).with_schema_version(3);
    for (event, capacity) in [(first, 100), (explicit, 100), (second, 100), (third, 5)] {
        assert_eq!(codec().decode(&recorded(event)).unwrap(), Some(logic(capacity)));
    }
    assert_eq!((codec().version("CourseDefined"), codec().version("Closed")), (3, 1));
}

#[test]
fn an_upcaster_is_tested_alone() {
    let json = |text: &str| Json::from_text(text).unwrap();
    let upcast = |name, version, text| codec().upcast_payload(name, version, &json(text));
    let newest = json(r#"{"title": "Logic", "capacity": 100}"#);
    assert_eq!(upcast("CourseCreated", 1, r#"{"name": "Logic"}"#).unwrap(), newest);
    assert_eq!(upcast("CourseDefined", 2, r#"{"title": "Logic"}"#).unwrap(), newest);
    assert_eq!(upcast("CourseDefined", 3, "[1]").unwrap(), json("[1]"));
    let refusals = [
        (upcast("CourseDefined", 2, "7"), "the upcaster from version 2 of \"CourseDefined\""),
        (upcast("CourseDefined", 4, "{}"), "the newest is 3"),
        (upcast("CourseDefined", 0, "{}"), "version 0"),
        (
            codec().upcast("Closed", 2, |any: Json| Ok(any)).upcast_payload("Closed", 1, &newest),
            "no upcaster from version 1",
        ),
    ];
    for (refusal, part) in refusals {
        let error = refusal.unwrap_err();
        assert!(error.kind() == ErrorKind::InvalidData && error.to_string().contains(part), "{error}");
    }
}

#[test]
fn unknown_events_are_errors_or_are_skipped_and_counted() {
    let unknown = [
        event("CourseMoved", json!({"name": "Logic"})),
        event("CourseMoved", json!({"name": "Logic"})).with_schema_version(9),
        // Of somebody who means something else by it.
        event("CourseMoved", json!({})).with_metadata(&json!({"SchemaVersion": "1.2"})).unwrap(),
        NewEvent::from_payload("CourseMoved", Payload::bytes("image/png", *b"png")),
    ];
    let skipping = codec().unknown(UnknownEvents::Skip);
    for (event, count) in unknown.into_iter().map(recorded).zip(1..) {
        let error = codec().decode(&event).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData);
        assert!(error.to_string().contains("\"CourseMoved\" at position 7 is unknown"), "{error}");
        assert_eq!((skipping.decode(&event).unwrap(), skipping.skipped()), (None, count));
    }
}

#[test]
fn known_events_that_cannot_be_decoded_are_errors_even_when_skipping() {
    let broken = [
        event("CourseDefined", json!({"title": 7, "capacity": 1})).with_schema_version(3),
        // Written by a newer program.
        event("CourseDefined", json!({"title": "Logic", "capacity": 1})).with_schema_version(4),
        // An old payload under a newer version.
        event("CourseDefined", json!({"name": "Logic"})).with_schema_version(2),
        // A word that is unknown within the payload is no type that is unknown.
        event("StudentEnrolled", json!({"student": "ada", "kind": "Ghost"})),
        event("Rated", json!([1])),
        NewEvent::from_payload("Closed", Payload::bytes("image/png", *b"png")),
        event("Closed", json!({})).with_metadata(&json!({"SchemaVersion": "1"})).unwrap(),
        event("Closed", json!({})).with_metadata(&json!({"SchemaVersion": 0})).unwrap(),
    ];
    let skipping = codec().unknown(UnknownEvents::Skip);
    for (index, event) in broken.into_iter().map(recorded).enumerate() {
        let error = skipping.decode(&event).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData, "{index}");
        assert!(error.to_string().contains("at position 7"), "{index}: {error}");
    }
    assert_eq!(skipping.skipped(), 0);
}

#[test]
fn types_that_are_not_externally_tagged_enums_are_refused() {
    #[derive(Serialize, Deserialize)]
    struct NoEnum {
        x: u8,
        y: u8,
    }
    #[derive(Serialize, Deserialize)]
    #[serde(tag = "type")]
    enum Internal {
        Closed { x: u8, y: u8 },
    }
    let closed = recorded(event("Closed", json!({"x": 1, "y": 2})));
    let told = [
        EventCodec::<NoEnum>::new().encode(&NoEnum { x: 1, y: 2 }).unwrap_err(),
        EventCodec::<NoEnum>::new().decode(&closed).err().unwrap(),
        EventCodec::<Internal>::new().encode(&Internal::Closed { x: 1, y: 2 }).unwrap_err(),
        EventCodec::<Internal>::new().decode(&closed).err().unwrap(),
    ];
    for error in told {
        assert!(
            matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::InvalidInput)
                && error.report().contains("externally tagged"),
            "{}",
            error.report()
        );
    }
}

/// What would be written is there for good, under a type that nobody reads.
#[test]
fn what_only_looks_like_a_variant_is_not_encoded() {
    #[derive(Serialize)]
    struct Seat {
        seat: u8,
    }
    #[derive(Serialize)]
    #[serde(tag = "type")]
    enum Internal {
        Closed,
    }
    #[derive(Serialize)]
    #[serde(tag = "type", content = "of")]
    enum Adjacent {
        Closed,
    }
    #[derive(Serialize)]
    #[serde(untagged)]
    enum Untagged {
        Name(String),
    }
    let map = std::collections::BTreeMap::from([("ada", 1)]);
    let told = [
        EventCodec::new().encode(&Seat { seat: 7 }).unwrap_err(),
        EventCodec::new().encode(&Internal::Closed).unwrap_err(),
        EventCodec::new().encode(&Adjacent::Closed).unwrap_err(),
        EventCodec::new().encode(&Untagged::Name("ada".into())).unwrap_err(),
        EventCodec::new().encode(&map).unwrap_err(),
        EventCodec::new().encode(&"ada").unwrap_err(),
        EventCodec::new().encode(&Some(CourseEvent::Closed)).unwrap_err(),
    ];
    for error in told {
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{}", error.report());
        assert!(error.report().contains("externally tagged"), "{}", error.report());
    }
    // What is a variant behind a pointer or a new type is one.
    #[derive(Serialize)]
    struct New(Box<CourseEvent>);
    let event = EventCodec::new().encode(&New(Box::new(CourseEvent::Closed))).unwrap();
    assert_eq!(event.event_type(), "Closed");
}

#[test]
fn a_type_that_was_renamed_again_is_read_under_its_last_name() {
    let upcaster = |old: serde_json::Value| Ok(json!({"title": old["name"], "capacity": 3}));
    let codecs = [
        EventCodec::<CourseEvent>::new()
            .rename("CourseMade", "CourseCreated")
            .rename("CourseCreated", "CourseDefined")
            .upcast("CourseDefined", 1, upcaster),
        EventCodec::new()
            .upcast("CourseMade", 1, upcaster)
            .rename("CourseCreated", "CourseDefined")
            .rename("CourseMade", "CourseCreated"),
        EventCodec::new()
            .rename("CourseCreated", "CourseDefined")
            .upcast("CourseCreated", 1, upcaster)
            .rename("CourseMade", "CourseCreated"),
    ];
    let logic = CourseEvent::CourseDefined { title: "Logic".into(), capacity: 3 };
    for (number, codec) in codecs.iter().enumerate() {
        assert_eq!(codec.version("CourseDefined"), 2, "{number}");
        for name in ["CourseMade", "CourseCreated", "CourseDefined"] {
            let old = recorded(event(name, json!({"name": "Logic"})));
            assert_eq!(codec.decode(&old).unwrap(), Some(logic.clone()), "{number} {name}");
        }
        assert_eq!(codec.encode(&logic).unwrap().event_type(), "CourseDefined");
    }
    let circle = EventCodec::<CourseEvent>::new().rename("Closed", "Opened").rename("Opened", "Closed");
    assert_eq!(circle.decode(&recorded(event("Closed", json!({})))).unwrap(), Some(CourseEvent::Closed));
}

#[test]
fn the_version_is_a_member_of_the_metadata_beside_all_others() {
    let versioned = event("A", json!({})).with_schema_version(2).with_metadata(&json!({"user": "ada"})).unwrap();
    let whole = versioned.with_correlation_id("c");
    assert_eq!(whole.metadata(), &Json::from_text(r#"{"user":"ada","CorrelationID":"c","SchemaVersion":2}"#).unwrap());
    assert_eq!(recorded(whole).schema_version().unwrap(), 2);
    assert_eq!(recorded(event("A", json!({}))).schema_version().unwrap(), 1);
    let same = event("A", json!({})).with_metadata(&json!({"SchemaVersion": 2.0})).unwrap().with_schema_version(2);
    assert!(same.validate().is_ok());
    assert_eq!(recorded(same).schema_version().unwrap(), 2);
    let other = event("A", json!({})).with_metadata(&json!({"SchemaVersion": 1})).unwrap().with_schema_version(2);
    let no_object = event("A", json!({})).with_metadata(&json!([])).unwrap().with_schema_version(2);
    for refused in [other, no_object] {
        assert!(refused.validate().unwrap_err().to_string().contains("SchemaVersion"));
    }
}

#[tokio::test]
async fn versions_are_kept_and_found_by_the_log() {
    let postgres = fresh_log().await;
    let stores: [Box<dyn EventStore>; 2] = [Box::new(MemoryEventStore::new()), Box::new(postgres)];
    for store in stores {
        let newest = codec().encode(&all()[0]).unwrap();
        let old = event("CourseCreated", json!({"name": "Logic"}));
        store.append([old, newest.clone()], AppendCondition::none()).await.unwrap();
        let third = Predicate::metadata(NewEvent::SCHEMA_VERSION, 3);
        let found = store.query(&Filter::matching().any_predicate_of([third]).finish().unwrap()).await.unwrap();
        assert_eq!(found.iter().map(Event::id).collect::<Vec<_>>(), [newest.id()]);
        let log = store.query(&Filter::any_event()).await.unwrap();
        let decoded: Vec<_> = log.iter().map(|event| codec().decode(event).unwrap().unwrap()).collect();
        assert_eq!(decoded[1], all()[0]);
        assert_eq!(decoded[0], CourseEvent::CourseDefined { title: "Logic".into(), capacity: 100 });
    }
}
