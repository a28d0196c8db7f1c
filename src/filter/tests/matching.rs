//! What filters match: known cases, and agreement with the model.

use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use serde_json::json;

use super::{
    model::{ModelItem, events, filters, items},
    p, time,
};
use crate::{Event, Filter, Json, NewEvent, Predicate, filter::Subject};

fn event(event_type: &str, tags: &[&str], payload: &str) -> Event {
    NewEvent::from_json(event_type, Json::from_text(payload).unwrap())
        .with_tags(tags.iter().copied())
        .with_metadata(&json!({"tenant": 4, "by": {"user": "u"}}))
        .unwrap()
        .with_occurred_at(time(50))
        .into_recorded(10, SystemTime::now())
}

#[test]
fn each_part_counts() {
    let event = event("Lent", &["book:1", "reader:2"], r#"{"BookID":"1","n":1.0,"list":[{"k":"v","w":1}]}"#);
    let start = Filter::matching;
    let matching = [
        start().any_type_of(["Returned", "Lent"]).finish(),
        start().all_tags_of(["book:1"]).finish(),
        start().all_tags_of(["reader:2", "book:1"]).finish(),
        start().any_predicate_of([p("BookID", "2"), p("n", 1)]).finish(),
        start().all_predicates_of([p("BookID", "1"), p("n", 1), p("list", json!([{"k": "v"}]))]).finish(),
        start()
            .all_predicates_of([Predicate::metadata("tenant", 4), Predicate::metadata(["by", "user"], "u")])
            .finish(),
        start().any_type_of(["Lent"]).and_all_tags_of(["book:1"]).and_all_predicates_of([p("n", 1)]).finish(),
        start().any_type_of(["X"]).or_matching().all_tags_of(["reader:2"]).finish(),
    ];
    for filter in matching {
        let filter = filter.unwrap();
        assert!(filter.matches(&event), "{filter:?}");
    }
    let others = [
        start().any_type_of(["lent", "Lent ", "Len"]).finish(),
        start().all_tags_of(["book:1", "book:2"]).finish(),
        start().all_tags_of(["book"]).finish(),
        start().any_predicate_of([p("BookID", 1), p("n", "1"), Predicate::metadata("BookID", "1")]).finish(),
        start().all_predicates_of([p("BookID", "1"), p("BookID", "2")]).finish(),
        start().any_type_of(["Lent"]).and_all_tags_of(["book:2"]).finish(),
        start().any_type_of(["X"]).and_all_tags_of(["book:1"]).finish(),
        start().any_type_of(["Lent"]).and_any_predicate_of([p("n", 2)]).finish(),
        // Items are alternatives: parts of different ones never add up.
        start()
            .any_type_of(["Lent"])
            .and_all_tags_of(["book:2"])
            .or_matching()
            .any_type_of(["X"])
            .and_all_tags_of(["book:1"])
            .finish(),
    ];
    for filter in others {
        let filter = filter.unwrap();
        assert!(!filter.matches(&event), "{filter:?}");
    }
    assert!(Filter::any_event().matches(&event));
}

#[test]
fn bounds_include_times_and_exclude_the_position() {
    let event = event("A", &[], "{}");
    let any = Filter::any_event;
    assert!(any().after_position(9).matches(&event));
    assert!(!any().after_position(10).matches(&event));
    assert!(!any().after_position(u64::MAX).matches(&event));
    assert!(any().until_position(10).matches(&event));
    assert!(!any().until_position(9).matches(&event));
    assert!(any().after_position(9).until_position(10).matches(&event));
    assert!(!any().after_position(10).until_position(9).matches(&event));
    let nano = Duration::from_nanos(1);
    assert!(any().occurred_from(time(50)).matches(&event));
    assert!(!any().occurred_from(time(50) + nano).matches(&event));
    assert!(any().occurred_until(time(50)).matches(&event));
    assert!(!any().occurred_until(time(50) - nano).matches(&event));
    assert!(any().occurred_between(time(49), time(50)).matches(&event));
    assert!(!any().occurred_between(time(51), time(49)).matches(&event));
    assert!(!any().occurred_between(time(40), time(49)).matches(&event));
    let other = || Filter::matching().any_type_of(["B"]).finish().unwrap();
    assert!(!other().after_position(9).matches(&event));
    assert!(!other().occurred_from(time(50)).matches(&event));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn matching_agrees_with_the_model(items in items(), event in events()) {
        let built = Filter::union(items.iter().map(ModelItem::to_filter)).unwrap();
        let expected = items.iter().any(|item| item.matches(&event));
        prop_assert_eq!(built.matches(&event), expected);

        // Written as JSON, backwards and twice, it is the same filter.
        let written: Vec<_> = items.iter().rev().chain(&items).map(ModelItem::to_json).collect();
        let read: Filter = serde_json::from_str(&json!({ "matching": written }).to_string()).unwrap();
        prop_assert_eq!(&read, &built);
        prop_assert_eq!(read.digest(), built.digest());
    }

    #[test]
    fn bounds_agree_with_the_model(filter in filters(), event in events(), low in 0..100_u64, high in 0..100_u64) {
        let matches = filter.matches(&event);
        let occurred_at = event.occurred_at();
        prop_assert_eq!(filter.clone().after_position(low).matches(&event), matches && event.position() > low);
        prop_assert_eq!(filter.clone().until_position(high).matches(&event), matches && event.position() <= high);
        let between = filter.clone().after_position(low).until_position(high);
        let is_between = event.position() > low && event.position() <= high;
        prop_assert_eq!(between.matches(&event), matches && is_between);
        prop_assert_eq!(filter.clone().occurred_from(time(low)).matches(&event), matches && occurred_at >= time(low));
        prop_assert_eq!(filter.clone().occurred_until(time(high)).matches(&event), matches && occurred_at <= time(high));
        let between = filter.occurred_between(time(low), time(high)).matches(&event);
        prop_assert_eq!(between, matches && (time(low)..=time(high)).contains(&occurred_at));
    }

    #[test]
    fn an_event_matches_alike_before_and_after_it_is_recorded(filter in filters(), event in events()) {
        let new = NewEvent::from_json(event.event_type(), event.payload().clone())
            .with_tags(event.tags())
            .with_metadata_json(event.metadata().clone())
            .with_occurred_at(event.occurred_at());
        prop_assert_eq!(filter.matches_subject(&Subject::from(&new)), filter.matches(&event));
    }
}
