//! When filters are equal: digests, and the JSON form.

use proptest::prelude::*;
use serde_json::json;

use super::{
    model::{filters, nasty},
    of_predicates, of_types, p, time,
};
use crate::{Filter, FilterDigest, PositionBoundedFilter, Predicate, TimeBoundedFilter};

/// Digests are stored in snapshots: when this fails, every stored one is lost. Change [`canonical`]'s version only with
/// that in mind.
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
    let parts = [of_types(["A"]), Filter::any_event()];
    let of_parts = [
        (FilterDigest::of_parts(&parts, &[]), "eb81de47ce71cc870a3042507e10439673bd839a210a7fa673d9884da6d25cb3"),
        (FilterDigest::of_parts(&parts, &[1, 1]), "5843bcdaa78109462310516a39d04a4deb6ae8faf28eaf8c6132e153a8c24932"),
        (FilterDigest::of_parts(&parts[..1], &[1]), "73bbf0208e370e0be9b2523a86483b2d291af44aaccc51bff5bcb29aa85a9eae"),
        // The digest of a single one is that of the filter.
        (FilterDigest::of_parts(&parts[..1], &[]), "b10a0efc5fb57b416d980374ff76a35b3bf2ecd407170729f2b8b71847322104"),
    ];
    for (digest, expected) in pinned.into_iter().chain(of_parts) {
        assert_eq!(digest.to_string(), expected);
    }
}

#[test]
fn filters_that_look_alike_have_different_digests() {
    let t = |types: &[&str]| Filter::matching().any_type_of(types.iter().copied()).finish().unwrap();
    let g = |tags: &[&str]| Filter::matching().all_tags_of(tags.iter().copied()).finish().unwrap();
    let one = |key: &str, value: &str| of_predicates([p(key, value)]);
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
        one("a", "b"),
        one("a", "b\",\"c"),
        one("a\":\"b", "c"),
        t(&["any_event"]),
        t(&["*"]),
        t(&["a", "bc"]),
        t(&["ab", "c"]),
        of_predicates([p("a", 1), p("b", 1)]),
        of_predicates([p("a", 1), Predicate::metadata("b", 1)]),
        of_predicates([Predicate::metadata("a", 1), p("b", 1)]),
        Filter::matching().any_predicate_of([p("a", 1), p("b", 1)]).finish().unwrap(),
        Filter::matching().any_type_of(["a"]).and_all_tags_of(["b"]).finish().unwrap(),
        Filter::matching().any_type_of(["b"]).and_all_tags_of(["a"]).finish().unwrap(),
    ];
    for (index, left) in filters.iter().enumerate() {
        for right in &filters[index + 1..] {
            assert_ne!(left.digest(), right.digest(), "{left:?} {right:?}");
        }
    }
}

/// What several parts of a model ask for is searched for, and checked, once.
#[test]
fn items_that_differ_in_alternatives_only_are_one() {
    let any = |types: [&'static str; 2], tag: &'static str, key: &'static str| {
        Filter::matching().any_type_of(types).and_all_tags_of([tag]).and_any_predicate_of([p(key, 1)]).finish().unwrap()
    };
    let lent = any(["A", "B"], "t", "x");
    let both = Filter::matching()
        .any_type_of(["B", "A"])
        .and_all_tags_of(["t"])
        .and_any_predicate_of([p("y", 1), p("x", 1)])
        .finish()
        .unwrap();
    assert_eq!(Filter::union([lent.clone(), any(["B", "A"], "t", "y")]).unwrap(), both);
    // All of some plus all of others is not all of both, nor any of them.
    let all = |keys: [&'static str; 2]| of_predicates(keys.map(|key| p(key, 1)));
    let apart = [
        [lent.clone(), any(["A", "C"], "t", "y")],
        [lent, any(["A", "B"], "u", "y")],
        [all(["x", "y"]), all(["x", "z"])],
        [of_types(["A"]), of_types(["B"])],
    ];
    for filters in apart {
        assert_eq!(Filter::union(filters).unwrap().items().unwrap().len(), 2);
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
        // What a program produces from an unset variable.
        r#"{"matching":[{"any_type_of":["A"],"all_tags_of":null}]}"#,
        r#"{"matching":[{"any_type_of":null,"all_tags_of":["t"]}]}"#,
        r#"{"matching":[{"any_type_of":["A"],"any_predicate_of":null}]}"#,
        r#"{"matching":[{"any_type_of":["A"],"all_predicates_of":null}]}"#,
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

    for json in [
        r#"{"matching":"any_event","after_position":1,"until_position":null}"#,
        r#"{"matching":"any_event","after_position":null,"until_position":2}"#,
    ] {
        assert!(serde_json::from_str::<PositionBoundedFilter>(json).is_err(), "{json}");
    }
    for json in
        [r#"{"matching":"any_event","occurred_from":null}"#, r#"{"matching":"any_event","occurred_until":null}"#]
    {
        assert!(serde_json::from_str::<TimeBoundedFilter>(json).is_err(), "{json}");
    }
    let position = |json| serde_json::from_str::<PositionBoundedFilter>(json);
    assert_eq!(position(r#"{"matching":"any_event","after_position":1}"#).unwrap().after(), 1);
    let until = Filter::any_event().until_position(2);
    assert_eq!(position(r#"{"matching":"any_event","until_position":2}"#).unwrap(), until);
    assert_eq!(position(r#"{"matching":"any_event","after_position":0,"until_position":2}"#).unwrap(), until);
    assert!(position(r#"{"matching":"any_event"}"#).is_err());
    assert!(position(r#"{"matching":"any_event","until_position":-1}"#).is_err());
    assert!(position(r#"{"matching":"any_event","after_position":-1}"#).is_err());
    assert!(position(r#"{"matching":"any_event","after_position":1,"occurred_from":1}"#).is_err());

    let times = |json| serde_json::from_str::<TimeBoundedFilter>(json);
    assert_eq!(times(r#"{"matching":"any_event","occurred_until":1}"#).unwrap().occurred_until(), Some(time(1)));
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
        let bounded = filter.clone().after_position(position).until_position(from.into());
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
        prop_assert_ne!(left.clone().after_position(1).digest(), left.clone().until_position(1).digest());
        let between = left.clone().after_position(1).until_position(2);
        prop_assert_ne!(between.digest(), left.clone().after_position(2).until_position(1).digest());
        prop_assert_ne!(between.digest(), left.clone().after_position(1).digest());
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
