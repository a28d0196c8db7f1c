//! A second, naive interpretation of filters, and the filters and events to compare both with.

use std::time::SystemTime;

use proptest::prelude::*;
use serde_json::Value;

use super::time;
use crate::{Event, Filter, Json, NewEvent, Predicate};

/// An item as it is written, before anything is sorted.
#[derive(Clone, Debug)]
pub(super) struct ModelItem {
    types: Vec<String>,
    tags: Vec<String>,
    /// Whether all must match, and the predicates: whether on the metadata, and the fragment.
    predicates: Option<(bool, Vec<(bool, Value)>)>,
}

impl ModelItem {
    pub(super) fn matches(&self, event: &Event) -> bool {
        let tags: Vec<_> = event.tags().collect();
        (self.types.is_empty() || self.types.iter().any(|wanted| wanted == event.event_type()))
            && self.tags.iter().all(|wanted| tags.contains(&wanted.as_str()))
            && self.predicates.as_ref().is_none_or(|(all, predicates)| {
                let fulfilled = |(metadata, fragment): &(bool, Value)| {
                    let json = if *metadata { event.metadata() } else { event.payload().as_json().unwrap() };
                    model_contains(&json.decode().unwrap(), fragment)
                };
                if *all { predicates.iter().all(fulfilled) } else { predicates.iter().any(fulfilled) }
            })
    }

    /// The same item in JSON, as a user would write it, in the order of the model and with repeats.
    pub(super) fn to_json(&self) -> Value {
        let mut item = serde_json::Map::new();
        if !self.types.is_empty() {
            item.insert("any_type_of".into(), self.types.clone().into());
        }
        if !self.tags.is_empty() {
            item.insert("all_tags_of".into(), self.tags.clone().into());
        }
        if let Some((all, predicates)) = &self.predicates {
            let name = if *all { "all_predicates_of" } else { "any_predicate_of" };
            let side = |metadata: bool| if metadata { "metadata" } else { "payload" };
            let list: Vec<_> =
                predicates.iter().map(|(metadata, json)| serde_json::json!({ side(*metadata): json })).collect();
            item.insert(name.into(), list.into());
        }
        Value::Object(item)
    }

    /// The same item by the builder.
    pub(super) fn to_filter(&self) -> Filter {
        let predicates = self.predicates.clone().map(|(all, predicates)| {
            let predicate = |(metadata, json): (bool, Value)| {
                if metadata { Predicate::metadata_contains(&json) } else { Predicate::payload_contains(&json) }
            };
            (all, predicates.into_iter().map(predicate).collect::<Vec<_>>())
        });
        let (types, tags) = (self.types.clone(), self.tags.clone());
        let start = Filter::matching();
        match (types.is_empty(), tags.is_empty(), predicates) {
            (false, false, None) => start.any_type_of(types).and_all_tags_of(tags).finish(),
            (false, true, None) => start.any_type_of(types).finish(),
            (true, _, None) => start.all_tags_of(tags).finish(),
            (false, false, Some((true, list))) => {
                start.all_predicates_of(list).and_any_type_of(types).and_all_tags_of(tags).finish()
            }
            (false, false, Some((false, list))) => {
                start.all_tags_of(tags).and_any_type_of(types).and_any_predicate_of(list).finish()
            }
            (true, false, Some((true, list))) => start.all_predicates_of(list).and_all_tags_of(tags).finish(),
            (true, false, Some((false, list))) => start.any_predicate_of(list).and_all_tags_of(tags).finish(),
            (false, true, Some((true, list))) => start.any_type_of(types).and_all_predicates_of(list).finish(),
            (false, true, Some((false, list))) => start.any_type_of(types).and_any_predicate_of(list).finish(),
            (true, true, Some((true, list))) => start.all_predicates_of(list).finish(),
            (true, true, Some((false, list))) => start.any_predicate_of(list).finish(),
        }
        .unwrap()
    }
}

/// Containment over `serde_json::Value`, written according to the manual. Its numbers are small enough for floats.
fn model_contains(document: &Value, fragment: &Value) -> bool {
    if let (Value::Array(elements), false) = (document, fragment.is_array() || fragment.is_object()) {
        return elements.iter().any(|element| model_equal_or_within(element, fragment));
    }
    model_equal_or_within(document, fragment)
}

fn model_equal_or_within(document: &Value, fragment: &Value) -> bool {
    if let (Some(document), Some(fragment)) = (document.as_object(), fragment.as_object()) {
        for (key, wanted) in fragment {
            if !document.get(key).is_some_and(|found| model_equal_or_within(found, wanted)) {
                return false;
            }
        }
        return true;
    }
    if let (Some(document), Some(fragment)) = (document.as_array(), fragment.as_array()) {
        let mut missing = fragment.clone();
        missing.retain(|wanted| !document.iter().any(|element| model_equal_or_within(element, wanted)));
        return missing.is_empty();
    }
    match (document.as_f64(), fragment.as_f64()) {
        (Some(document), Some(fragment)) => document == fragment,
        _ => document == fragment && !document.is_object() && !document.is_array(),
    }
}

/// Few names, so that filters and events meet.
fn name() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["A", "B", "C", "a", "A,B", "é"]).prop_map(str::to_owned)
}

/// Texts that break encodings without lengths, and texts that break encodings without escapes.
pub(super) fn nasty() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "a",
        "b",
        ",",
        "|",
        ":",
        "=",
        "\"",
        "'",
        "\\",
        "{",
        "}",
        "[",
        "]",
        "\n",
        "\u{1}",
        "\u{7f}",
        "é",
        "😀",
        "\u{ffff}",
        "\u{10ffff}",
        "any_event",
        " ",
    ]);
    prop_oneof![
        prop::collection::vec(piece, 1..4).prop_map(|pieces| pieces.concat()),
        any::<String>().prop_filter("is a type", |text| crate::event::check_type(text).is_ok()),
    ]
}

fn json() -> impl Strategy<Value = Value> {
    crate::json::tests::texts()
        .prop_map(|text| serde_json::from_str(&text).unwrap())
        .prop_filter("floats blur large integers", |value: &Value| !value.to_string().contains("90071992547"))
}

fn object() -> impl Strategy<Value = Value> {
    prop::collection::btree_map(prop::sample::select(vec!["a", "b", "aa"]), json(), 0..3)
        .prop_map(|members| serde_json::to_value(members).unwrap())
}

fn fragment() -> impl Strategy<Value = Value> {
    let asks_for_something = |value: &Value| *value != serde_json::json!({}) && *value != serde_json::json!([]);
    prop_oneof![3 => object(), 1 => json()].prop_filter("asks for something", asks_for_something)
}

fn item() -> impl Strategy<Value = ModelItem> {
    let names =
        || prop_oneof![1 => Just(Vec::new()), 2 => prop::collection::vec(prop_oneof![4 => name(), 1 => nasty()], 1..4)];
    let predicates = prop::option::of((any::<bool>(), prop::collection::vec((any::<bool>(), fragment()), 1..4)));
    (names(), names(), predicates)
        .prop_map(|(types, tags, predicates)| ModelItem { types, tags, predicates })
        .prop_filter("asks for something", |item| {
            !item.types.is_empty() || !item.tags.is_empty() || item.predicates.is_some()
        })
}

pub(super) fn items() -> impl Strategy<Value = Vec<ModelItem>> {
    prop::collection::vec(item(), 1..4)
}

pub(crate) fn filters() -> impl Strategy<Value = Filter> {
    prop_oneof![
        1 => Just(Filter::any_event()),
        9 => items().prop_map(|items| Filter::union(items.iter().map(ModelItem::to_filter)).unwrap()),
    ]
}

pub(super) fn events() -> impl Strategy<Value = Event> {
    (new_events(), 1..100_u64).prop_map(|(event, position)| event.into_recorded(position, SystemTime::now()))
}

pub(crate) fn new_events() -> impl Strategy<Value = NewEvent> {
    let payload = || prop_oneof![3 => object(), 1 => json()];
    (name(), prop::collection::vec(name(), 0..5), payload(), payload(), 0..100_u64).prop_map(
        |(event_type, tags, payload, metadata, occurred_at)| {
            NewEvent::from_json(event_type, Json::from_serialize(&payload).unwrap())
                .with_tags(tags)
                .with_metadata_json(Json::from_serialize(&metadata).unwrap())
                .with_occurred_at(time(occurred_at))
        },
    )
}
