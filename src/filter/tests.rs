//! Grammar and rejections. What filters match is in [`matching`]; when they are equal, in [`identity`].

mod identity;
mod matching;
pub(crate) mod model;

use std::time::{Duration, SystemTime};

use serde_json::json;

use super::*;
use crate::ErrorKind;

fn time(micros: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_micros(micros)
}

/// As short as it was in Go.
fn p(key: &str, value: impl serde::Serialize) -> Predicate {
    Predicate::payload(key, value)
}

fn of_types<const N: usize>(types: [&str; N]) -> Filter {
    Filter::matching().any_type_of(types).finish().unwrap()
}

fn of_predicates(predicates: impl IntoIterator<Item = Predicate>) -> Filter {
    Filter::matching().all_predicates_of(predicates).finish().unwrap()
}

fn refusal(filter: Result<Filter>) -> String {
    let error = filter.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    error.to_string()
}

/// Every way through the grammar, and the JSON that shows what was built.
#[test]
fn the_whole_grammar() {
    let p = || [p("b", "2"), p("a", "1")];
    let start = Filter::matching;
    let cases = [
        (Ok(Filter::any_event()), json!("any_event")),
        (start().any_type_of(["B", "A"]).finish(), json!([{"any_type_of": ["A", "B"]}])),
        (start().all_tags_of(["b", "a"]).finish(), json!([{"all_tags_of": ["a", "b"]}])),
        (
            start().any_predicate_of(p()).finish(),
            json!([{"any_predicate_of": [{"payload": {"a": "1"}}, {"payload": {"b": "2"}}]}]),
        ),
        (
            start().all_predicates_of(p()).finish(),
            json!([{"all_predicates_of": [{"payload": {"a": "1"}}, {"payload": {"b": "2"}}]}]),
        ),
        (
            start().any_type_of(["A"]).and_all_tags_of(["t"]).and_any_predicate_of(p()).finish(),
            json!([{"any_type_of": ["A"], "all_tags_of": ["t"],
                "any_predicate_of": [{"payload": {"a": "1"}}, {"payload": {"b": "2"}}]}]),
        ),
        (
            start().all_predicates_of(p()).and_any_type_of(["A"]).and_all_tags_of(["t"]).finish(),
            json!([{"any_type_of": ["A"], "all_tags_of": ["t"],
                "all_predicates_of": [{"payload": {"a": "1"}}, {"payload": {"b": "2"}}]}]),
        ),
        (
            start().all_tags_of(["t"]).and_all_predicates_of(p()).finish(),
            json!([{"all_tags_of": ["t"],
                "all_predicates_of": [{"payload": {"a": "1"}}, {"payload": {"b": "2"}}]}]),
        ),
        (
            start().any_type_of(["B"]).or_matching().all_tags_of(["t"]).or_matching().any_type_of(["A"]).finish(),
            json!([{"all_tags_of": ["t"]}, {"any_type_of": ["A"]}, {"any_type_of": ["B"]}]),
        ),
    ];
    for (filter, matching) in cases {
        assert_eq!(serde_json::to_value(filter.unwrap()).unwrap(), json!({ "matching": matching }));
    }
}

#[test]
fn predicates_in_all_their_forms() {
    let forms = [
        (Predicate::payload("BookID", "1"), r#"{"payload":{"BookID":"1"}}"#),
        (Predicate::payload(String::from("n"), 1.50), r#"{"payload":{"n":1.5}}"#),
        (Predicate::payload("n", u64::MAX), r#"{"payload":{"n":18446744073709551615}}"#),
        (Predicate::payload("n", None::<u8>), r#"{"payload":{"n":null}}"#),
        (Predicate::payload("ok", true), r#"{"payload":{"ok":true}}"#),
        (Predicate::payload("", "").or_refused(), "the path has an empty key"),
        (Predicate::payload(["a", ""], 1).or_refused(), "the path has an empty key"),
        (Predicate::payload(Vec::<String>::new(), 1).or_refused(), "the path has no keys"),
        (Predicate::payload("a.b", ""), r#"{"payload":{"a.b":""}}"#),
        (Predicate::metadata(["address", "city"], "Wien"), r#"{"metadata":{"address":{"city":"Wien"}}}"#),
        (Predicate::metadata(vec!["a", "b", "c"], [2, 1, 2]), r#"{"metadata":{"a":{"b":{"c":[1,2]}}}}"#),
        (Predicate::payload("a", json!({})), r#"{"payload":{"a":{}}}"#),
        (Predicate::payload_contains(&7), r#"{"payload":7}"#),
        (Predicate::metadata_contains(&json!([{"b": 1, "a": [[]]}])), r#"{"metadata":[{"a":[[]],"b":1}]}"#),
        (Predicate::payload_contains(&json!({})).or_refused(), "{} asks for nothing"),
        (Predicate::payload_contains(&json!([])).or_refused(), "[] asks for nothing"),
        (Predicate::payload("a", "\0").or_refused(), "PostgreSQL cannot store the escape"),
        (Predicate::payload("\0", 1).or_refused(), "PostgreSQL cannot store the escape"),
        (Predicate::payload("a", "x".repeat(Filter::MAX_LEN)).or_refused(), "more than a whole filter may have"),
    ];
    for (predicate, expected) in forms {
        let shown = format!("{predicate:?}");
        match Filter::matching().any_predicate_of([predicate]).finish() {
            Ok(filter) => {
                let json = serde_json::to_string(&filter).unwrap();
                assert_eq!(json, format!(r#"{{"matching":[{{"any_predicate_of":[{expected}]}}]}}"#));
            }
            Err(error) => {
                let place = "item 0 of the filter: any_predicate_of[0]: ";
                assert!(error.to_string().starts_with(place) && error.to_string().contains(expected), "{error}");
                assert!(shown.starts_with("invalid: ") && shown.contains(expected), "{shown}");
            }
        }
    }
}

impl Predicate {
    /// Makes sure that a case of the table above is one of the rejected.
    fn or_refused(self) -> Self {
        assert!(self.clone().into_fragment().is_err(), "{self:?}");
        self
    }
}

#[test]
fn empty_and_invalid_filter_lists_are_refused_with_their_place() {
    let none: [&str; 0] = [];
    let start = Filter::matching;
    let text = refusal(start().any_type_of(["A"]).or_matching().any_type_of(none).finish());
    assert_eq!(text, "item 1 of the filter: the list given to any_type_of is empty; leave the call out to match any");
    assert!(refusal(start().all_tags_of(none).finish()).contains("all_tags_of is empty"));
    assert!(refusal(start().any_predicate_of([]).finish()).contains("any_predicate_of is empty"));
    assert!(refusal(start().all_predicates_of([]).finish()).contains("all_predicates_of is empty"));
    let lists = [
        start().any_type_of(["A"]).and_all_tags_of(none).finish(),
        start().any_type_of(["A"]).and_all_predicates_of([]).finish(),
        start().any_type_of(["A"]).and_any_predicate_of([]).finish(),
        start().all_tags_of(["t"]).and_any_type_of(none).finish(),
    ];
    for list in lists {
        assert!(refusal(list).contains("is empty"));
    }
    assert_eq!(refusal(start().any_type_of(["A", ""]).finish()), "item 0 of the filter: any_type_of: a type is empty");
    assert!(refusal(start().all_tags_of(["t", ""]).finish()).contains("all_tags_of: a tag is empty"));
    assert!(refusal(start().any_type_of(["A\0"]).finish()).contains("NUL"));
    assert!(refusal(start().all_tags_of(["t\0"]).finish()).contains("NUL"));
    let long = "x".repeat(crate::NewEvent::MAX_TAG_LEN + 1);
    assert!(refusal(start().any_type_of([long.clone()]).finish()).contains("longer than the limit of 255 bytes"));
    assert!(refusal(start().all_tags_of([long]).finish()).contains("longer than the limit of 1024 bytes"));
}

#[test]
fn repeats_and_order_do_not_count() {
    assert_eq!(of_types(["A", "B", "A"]), of_types(["B", "A"]));
    assert_eq!(of_predicates([p("a", "1"), p("a", "2"), p("a", "1")]), of_predicates([p("a", "2"), p("a", "1")]));
    assert_eq!(of_predicates([p("a", 1.0)]), of_predicates([p("a", 1)]));
    assert_eq!(of_predicates([p("a", [1, 2])]), of_predicates([p("a", [2, 1, 2])]));
    // For one predicate, any and all are the same; for two they are not.
    let any = |predicates: Vec<Predicate>| Filter::matching().any_predicate_of(predicates).finish().unwrap();
    assert_eq!(any(vec![p("a", 1)]), of_predicates([p("a", 1), p("a", 1)]));
    assert_ne!(any(vec![p("a", 1), p("b", 1)]), of_predicates([p("a", 1), p("b", 1)]));
    // The same JSON on the other side is another predicate, and so is another type of value.
    assert_ne!(of_predicates([p("a", 1)]), of_predicates([Predicate::metadata("a", 1)]));
    assert_ne!(of_predicates([p("a", 1)]), of_predicates([p("a", "1")]));
    let once = Filter::matching().any_type_of(["A"]).finish().unwrap();
    let twice = Filter::matching().any_type_of(["A"]).or_matching().any_type_of(["A"]).finish().unwrap();
    assert_eq!(once, twice);
}

#[test]
fn unions() {
    let both = Filter::matching().any_type_of(["A"]).or_matching().any_type_of(["B"]).finish().unwrap();
    assert_eq!(Filter::union([of_types(["B"]), of_types(["A"]), of_types(["B"])]).unwrap(), both);
    assert_ne!(both, of_types(["A", "B"]));
    assert_eq!(Filter::union([of_types(["A"]), Filter::any_event()]).unwrap(), Filter::any_event());
    assert_eq!(Filter::union([Filter::any_event(), of_types(["A"])]).unwrap(), Filter::any_event());
    assert!(refusal(Filter::union([])).contains("a union of no filters"));
    let half = |side: char| {
        let tags = (0..600).map(|n| format!("{side}{n:0>1000}"));
        Filter::matching().all_tags_of(tags).finish().unwrap()
    };
    half('a');
    assert!(refusal(Filter::union([half('a'), half('b')])).contains("more than the limit of 1048576"));
}

#[test]
fn bounds_are_kept_replaced_and_clamped() {
    let positions = |after, until| Bounds { after: Some(after), until, ..Bounds::default() };
    let occurred = |from, until| Bounds { occurred_from: from, occurred_until: until, ..Bounds::default() };
    let filter = of_types(["A"]);
    let bounded = filter.clone().after_position(7).after_position(3);
    assert_eq!((bounded.after(), bounded.bounds()), (3, positions(3, None)));
    let both = bounded.clone().until_position(9).until_position(5);
    assert_eq!((both.after(), both.until(), both.bounds()), (3, Some(5), positions(3, Some(5))));
    assert_eq!(both.clone().after_position(4).bounds(), positions(4, Some(5)));
    assert_eq!(filter.clone().until_position(5).after_position(3), both);
    assert_eq!(bounded.into_filter(), filter);
    let last = i64::MAX.unsigned_abs();
    let clamped = filter.clone().after_position(u64::MAX).until_position(u64::MAX);
    assert_eq!(clamped.bounds(), positions(last, Some(last)));
    assert_eq!(filter.bounds(), Bounds::default());

    // Events have whole microseconds: a bound inside of one must not let it in.
    let inside = SystemTime::UNIX_EPOCH + Duration::from_nanos(1_500);
    let before = SystemTime::UNIX_EPOCH - Duration::from_nanos(1_500);
    let bounds = |bounded: TimeBoundedFilter| (bounded.occurred_from(), bounded.occurred_until());
    assert_eq!(bounds(filter.clone().occurred_from(inside)), (Some(time(2)), None));
    assert_eq!(bounds(filter.clone().occurred_until(inside)), (None, Some(time(1))));
    let micro = Duration::from_micros(1);
    let between = filter.clone().occurred_between(before, before);
    assert_eq!(between.occurred_from(), Some(SystemTime::UNIX_EPOCH - micro));
    assert_eq!(between.occurred_until(), Some(SystemTime::UNIX_EPOCH - 2 * micro));

    let far = SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 60);
    let early = SystemTime::UNIX_EPOCH - Duration::from_secs(1 << 60);
    let (low, high) = (-210_866_803_200_000_000, i64::MAX);
    let clamped = filter.clone().occurred_between(early, far);
    assert_eq!(clamped.bounds(), occurred(Some(low), Some(high)));
    let clamped = filter.occurred_between(far, early);
    assert_eq!(clamped.bounds(), occurred(Some(high), Some(low)));
}

#[test]
fn types_are_left_out_of_every_item_and_nothing_else() {
    let start = Filter::matching;
    let two = start().any_type_of(["A", "B"]).and_all_tags_of(["t"]).or_matching().any_type_of(["B", "C"]).finish();
    let left = start().any_type_of(["A"]).and_all_tags_of(["t"]).or_matching().any_type_of(["C"]).finish();
    assert_eq!(two.clone().unwrap().without_types(["B"]).unwrap(), left.unwrap());
    // An item that has lost its last type must not become one for any type.
    let first = start().any_type_of(["A"]).and_all_tags_of(["t"]).finish().unwrap();
    assert_eq!(two.unwrap().without_types(["B", "C"]).unwrap(), first);
    assert_eq!(first.without_types(["X"]).unwrap(), first);
    assert!(refusal(first.without_types(["A"])).contains("matches nothing"));
    let any_type = Filter::union([first, start().all_tags_of(["t"]).finish().unwrap()]).unwrap();
    for filter in [Filter::any_event(), any_type] {
        assert!(refusal(filter.without_types(["A"])).contains("of any type"));
    }
}
