//! Random events, and random filters that match some of them.

use std::time::{Duration, SystemTime};

use mainstem::{Filter, NewEvent, Payload, Predicate};
use proptest::{prelude::*, sample::select};
use serde_json::{Value, json};

use super::event;

/// Few texts, so that filters and events overlap. Each would break a statement that it is spliced into.
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

pub(crate) fn new_event() -> impl Strategy<Value = NewEvent> {
    let opaque = prop::bool::weighted(0.2);
    (text(), prop::collection::vec(text(), 0..4), document(), document(), 0..20_u64, opaque).prop_map(
        |(event_type, tags, payload, metadata, occurred, opaque)| {
            let event = match opaque {
                // Exactly what a predicate would match, if it looked into it.
                true => NewEvent::from_payload(
                    event_type,
                    Payload::bytes("application/json", payload.to_string().into_bytes()),
                ),
                false => event(&event_type, payload),
            };
            let event = event.with_tags(tags).with_occurred_at(micros(occurred));
            event.with_metadata(&metadata).unwrap()
        },
    )
}

pub(crate) fn micros(micros: u64) -> SystemTime {
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

/// Built from the JSON form, whose parts can be left out at run time.
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
        1 => (texts(), predicates())
            .prop_map(move |(types, list)| start().any_type_of(types).and_all_predicates_of(list).finish()),
        2 => (tags(), predicates())
            .prop_map(move |(tags, list)| start().all_tags_of(tags).and_all_predicates_of(list).finish()),
        1 => (tags(), predicates())
            .prop_map(move |(tags, list)| start().all_tags_of(tags).and_any_predicate_of(list).finish()),
        1 => (texts(), tags(), predicates(), any::<bool>()).prop_map(move |(types, tags, list, all)| {
            let item = start().any_type_of(types).and_all_tags_of(tags);
            if all { item.and_all_predicates_of(list).finish() } else { item.and_any_predicate_of(list).finish() }
        }),
    ]
    .prop_map(Result::unwrap)
}

pub(crate) fn filter() -> impl Strategy<Value = Filter> {
    prop_oneof![
        1 => Just(Filter::any_event()),
        20 => prop::collection::vec(item(), 1..4).prop_map(|items| Filter::union(items).unwrap()),
    ]
}
