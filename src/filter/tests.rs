//! Grammar, refusals, canonical form, digest and JSON form of filters. What they match is in [`matching`].

mod matching;
mod model;

use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use serde_json::json;

use self::model::{filters, nasty};
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
    /// Makes sure that a case of the table above is one of the refused.
    fn or_refused(self) -> Self {
        assert!(self.clone().into_fragment().is_err(), "{self:?}");
        self
    }
}

#[test]
fn what_would_widen_a_filter_is_refused_with_its_place() {
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
    // Of one predicate, any is all; of two it is not.
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
    let filter = of_types(["A"]);
    let bounded = filter.clone().after_position(7).after_position(3);
    assert_eq!((bounded.position(), bounded.bounds()), (3, Bounds::AfterPosition(3)));
    assert_eq!(bounded.into_filter(), filter);
    assert_eq!(filter.clone().after_position(u64::MAX).bounds(), Bounds::AfterPosition(i64::MAX.unsigned_abs()));
    assert_eq!(filter.bounds(), Bounds::Unbounded);

    // Events have whole microseconds: a bound inside of one must not let it in.
    let inside = SystemTime::UNIX_EPOCH + Duration::from_nanos(1_500);
    let before = SystemTime::UNIX_EPOCH - Duration::from_nanos(1_500);
    let bounds = |bounded: TimeBoundedFilter| (bounded.from(), bounded.until());
    assert_eq!(bounds(filter.clone().occurred_from(inside)), (Some(time(2)), None));
    assert_eq!(bounds(filter.clone().occurred_until(inside)), (None, Some(time(1))));
    let micro = Duration::from_micros(1);
    let between = filter.clone().occurred_between(before, before);
    assert_eq!(between.from(), Some(SystemTime::UNIX_EPOCH - micro));
    assert_eq!(between.until(), Some(SystemTime::UNIX_EPOCH - 2 * micro));

    let far = SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 60);
    let early = SystemTime::UNIX_EPOCH - Duration::from_secs(1 << 60);
    let (low, high) = (-210_866_803_200_000_000, i64::MAX);
    let clamped = filter.clone().occurred_between(early, far);
    assert_eq!(clamped.bounds(), Bounds::Occurred { from: Some(low), until: Some(high) });
    let clamped = filter.occurred_between(far, early);
    assert_eq!(clamped.bounds(), Bounds::Occurred { from: Some(high), until: Some(low) });
}

/// Digests are stored in snapshots: when this fails, every stored one is lost. Change [`canonical`]'s version only
/// with that in mind.
#[test]
fn digests_are_pinned() {
    let all = Filter::matching()
        .any_type_of(["BookReturned", "BookLent"])
        .and_all_tags_of(["book:1", "naïve \"tag\", with = | : 😀"])
        .and_any_predicate_of([Predicate::payload("BookID", "\u{ffff}\n\"\\/"), Predicate::metadata(["a", "b"], 1.50)])
        .or_matching()
        .all_predicates_of([Predicate::payload("n", 1e30), Predicate::payload("x", json!([null, [true], {}]))])
        .finish()
        .unwrap();
    let pinned = [
        (Filter::any_event().digest(), "62e1e2f3a295064bec793bc04ff5e5fdb1ed91118bfa798b49d6b74066286a84"),
        (of_types(["A"]).digest(), "b10a0efc5fb57b416d980374ff76a35b3bf2ecd407170729f2b8b71847322104"),
        (all.digest(), "ccf416407f4391c481c22d5adc98f8e57892a3935fe759f2361aea4f7b6c9412"),
        (
            Filter::any_event().after_position(0).digest(),
            "0eec181fe3790a4f1a127616017e63a6da06d8bf699094790b2ad69c97e8a5d7",
        ),
        (all.clone().after_position(17).digest(), "a6c272d41b0653cc40d38c841af7b67210e7f828b5031af352646d27f1337693"),
        (
            all.clone().occurred_from(time(1)).digest(),
            "bfac3afa0efa62d2143cae2005f822478dee2a7203ffcbcd0753de406f4816be",
        ),
        (
            all.clone().occurred_until(time(1)).digest(),
            "1dc109a6065fbfc3edd7797fc704fb1b2d66450a947908509a29a352d64e7ece",
        ),
        (
            all.occurred_between(time(1), time(2)).digest(),
            "74e33fb4aa93be36f2b0b282169382acc7530b80acd0bb703a9835b312c878f4",
        ),
    ];
    for (digest, expected) in pinned {
        assert_eq!(digest.to_string(), expected);
    }
}

#[test]
fn what_looks_alike_has_another_digest() {
    let t = |types: &[&str]| Filter::matching().any_type_of(types.iter().copied()).finish().unwrap();
    let g = |tags: &[&str]| Filter::matching().all_tags_of(tags.iter().copied()).finish().unwrap();
    let p = |key: &str, value: &str| of_predicates([Predicate::payload(key, value)]);
    let or = |left: &str, right: &str| Filter::union([t(&[left]), t(&[right])]).unwrap();
    let filters = [
        Filter::any_event(),
        t(&["a,b"]),
        t(&["a", "b"]),
        t(&["a|b"]),
        t(&["ab"]),
        or("a", "b"),
        g(&["a", "b"]),
        g(&["a,b"]),
        g(&["ab"]),
        p("a", "b"),
        p("a", "b\",\"c"),
        p("a\":\"b", "c"),
        t(&["any_event"]),
        t(&["*"]),
        Filter::matching().any_type_of(["a"]).and_all_tags_of(["b"]).finish().unwrap(),
        Filter::matching().any_type_of(["b"]).and_all_tags_of(["a"]).finish().unwrap(),
    ];
    for (index, left) in filters.iter().enumerate() {
        for right in &filters[index + 1..] {
            assert_ne!(left.digest(), right.digest(), "{left:?} {right:?}");
        }
    }
}

#[test]
fn json_that_is_no_filter_is_refused() {
    let refused = [
        "{}",
        r#""any_event""#,
        r#"{"matching":[]}"#,
        r#"{"matching":null}"#,
        r#"{"matching":"any"}"#,
        r#"{"matching":[{}]}"#,
        r#"{"matching":"any_event","after_position":1}"#,
        r#"{"matching":[{"types":["A"]}]}"#,
        r#"{"matching":[{"any_type_of":["A"],"x":1}]}"#,
        r#"{"matching":[{"any_type_of":[]}]}"#,
        r#"{"matching":[{"any_type_of":["A",""]}]}"#,
        r#"{"matching":[{"any_type_of":["A"],"all_tags_of":[]}]}"#,
        r#"{"matching":[{"any_predicate_of":[{"payload":{}}]}]}"#,
        r#"{"matching":[{"any_predicate_of":[{"body":{"a":1}}]}]}"#,
        r#"{"matching":[{"any_predicate_of":[{"payload":1}],"all_predicates_of":[{"payload":1}]}]}"#,
        r#"{"matching":[{"any_predicate_of":[{"payload":{"a":"\u0000"}}]}]}"#,
    ];
    for json in refused {
        assert!(serde_json::from_str::<Filter>(json).is_err(), "{json}");
    }
    let error = serde_json::from_str::<Filter>(refused[10]).unwrap_err();
    assert!(error.to_string().contains("item 0 of the filter: any_type_of: a type is empty"), "{error}");

    let position = |json| serde_json::from_str::<PositionBoundedFilter>(json);
    assert_eq!(position(r#"{"matching":"any_event","after_position":1}"#).unwrap().position(), 1);
    assert!(position(r#"{"matching":"any_event"}"#).is_err());
    assert!(position(r#"{"matching":"any_event","after_position":-1}"#).is_err());
    assert!(position(r#"{"matching":"any_event","after_position":1,"occurred_from":1}"#).is_err());

    let times = |json| serde_json::from_str::<TimeBoundedFilter>(json);
    assert_eq!(times(r#"{"matching":"any_event","occurred_until":1}"#).unwrap().until(), Some(time(1)));
    assert!(times(r#"{"matching":"any_event"}"#).is_err());
    assert!(times(r#"{"matching":"any_event","occurred_until":null}"#).is_err());
    assert!(times(r#"{"matching":"any_event","occurred_from":-9223372036854775808}"#).is_err());
    assert!(times(r#"{"matching":"any_event","occurred_from":1,"after_position":1}"#).is_err());
}

proptest! {
    #[test]
    fn filters_survive_json(filter in filters(), position: u64, from: u32, until: u32) {
        let text = serde_json::to_string(&filter).unwrap();
        prop_assert_eq!(&serde_json::from_str::<Filter>(&text).unwrap(), &filter);
        // Canonical: as text too.
        prop_assert_eq!(serde_json::to_string(&serde_json::from_str::<Filter>(&text).unwrap()).unwrap(), text);

        let bounded = filter.clone().after_position(position);
        let text = serde_json::to_string(&bounded).unwrap();
        prop_assert_eq!(serde_json::from_str::<PositionBoundedFilter>(&text).unwrap(), bounded);

        let bounded = filter.occurred_between(time(from.into()), time(until.into()));
        let text = serde_json::to_string(&bounded).unwrap();
        prop_assert_eq!(serde_json::from_str::<TimeBoundedFilter>(&text).unwrap(), bounded);
    }

    #[test]
    fn digests_are_equal_exactly_when_filters_are(left in filters(), right in filters()) {
        prop_assert_eq!(left == right, left.digest() == right.digest());
        prop_assert_ne!(left.digest(), left.clone().after_position(0).digest());
        prop_assert_ne!(left.clone().occurred_from(time(0)).digest(), left.occurred_until(time(0)).digest());
    }

    #[test]
    fn digests_of_nasty_lists_are_equal_exactly_when_the_sets_are(
        left in prop::collection::btree_set(nasty(), 1..4),
        right in prop::collection::btree_set(nasty(), 1..4),
    ) {
        let shuffled = left.iter().rev().chain(left.iter()).cloned();
        let filter = Filter::matching().any_type_of(left.clone()).finish().unwrap();
        prop_assert_eq!(filter.digest(), Filter::matching().any_type_of(shuffled).finish().unwrap().digest());
        let other = Filter::matching().any_type_of(right.clone()).finish().unwrap();
        prop_assert_eq!(left == right, filter.digest() == other.digest());
    }
}
