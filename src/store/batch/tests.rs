use proptest::prelude::*;
use serde_json::json;

use super::{Candidate, EventKeys, GuardKeys, KeyField, Turn, check::__guard, overlap::Rival, plan};
use crate::{
    EventId, Filter, NewEvent, Predicate,
    filter::tests::model::{filters, new_events},
};

fn event(event_type: &str, payload: &serde_json::Value) -> NewEvent {
    NewEvent::new(event_type, payload).expect("an event")
}

fn boundary(name: &str) -> Filter {
    Filter::matching().any_predicate_of([Predicate::payload("b", name)]).finish().expect("a filter")
}

/// An append with everything that a candidate borrows.
struct Owned {
    events: Vec<NewEvent>,
    keys: Vec<EventKeys>,
    guard: Option<(Filter, GuardKeys)>,
}

impl Owned {
    fn new(events: Vec<NewEvent>, guard: Option<Filter>) -> Self {
        let keys = events.iter().map(EventKeys::of).collect();
        let guard = guard.map(|filter| (filter.clone(), GuardKeys::of(&filter)));
        Self { events, keys, guard }
    }

    fn candidate(&self) -> Candidate<'_> {
        let guard = self.guard.as_ref().map(|(filter, keys)| (filter, keys));
        Candidate { events: &self.events, keys: &self.keys, guard, stream: None, goes_first: false }
    }
}

fn planned(appends: &[Owned], most: usize) -> Vec<Turn> {
    plan(&appends.iter().map(Owned::candidate).collect::<Vec<_>>(), most)
}

fn after<const N: usize>(rivals: [(usize, usize); N]) -> Turn {
    Turn::After(rivals.map(|(append, event)| Rival { append, event }).to_vec())
}

fn hot(guard: Option<&str>) -> Owned {
    Owned::new(vec![event("A", &json!({"b": "hot"}))], guard.map(boundary))
}

#[test]
fn an_append_goes_after_the_first_event_of_each_conflicting_append() {
    let of = |name| event("A", &json!({"b": name}));
    let appends = [
        Owned::new(vec![of("cold"), of("hot"), of("hot")], None),
        Owned::new(vec![of("hot")], Some(boundary("cold"))),
        Owned::new(vec![of("hot")], None),
        Owned::new(vec![of("hot")], Some(boundary("hot"))),
        Owned::new(vec![of("hot")], Some(boundary("elsewhere"))),
    ];
    // An append that goes after others breaks nothing.
    let expected = [Turn::Now, after([(0, 0)]), Turn::Now, after([(0, 1), (2, 0)]), Turn::Now];
    assert_eq!(planned(&appends, 9), expected);
}

#[test]
fn appends_to_one_boundary_go_after_the_first_of_them() {
    let appends: Vec<Owned> = (0..20).map(|_| hot(Some("hot"))).collect();
    let turns = planned(&appends, 9);
    assert_eq!(turns[0], Turn::Now);
    assert_eq!(turns[1..], vec![after([(0, 0)]); 19]);
}

#[test]
fn nobody_is_compared_with_all_others() {
    let mut appends: Vec<Owned> = (0..20).map(|_| hot(None)).collect();
    appends.push(hot(Some("hot")));
    assert_eq!(planned(&appends, 50)[20], after([0, 1, 2, 3, 4, 5, 6, 7].map(|append| (append, 0))));
}

#[test]
fn a_batch_has_so_many_appends_and_who_need_not_go_does_not_count() {
    let mut appends: Vec<Owned> = vec![hot(Some("hot")), hot(Some("hot")), hot(None), hot(None), hot(Some("hot"))];
    assert_eq!(planned(&appends, 2), [Turn::Now, after([(0, 0)]), Turn::Now, Turn::Later, after([(0, 0), (2, 0)])]);
    appends.truncate(1);
    assert_eq!(planned(&appends, 0), [Turn::Now]);
}

#[test]
fn an_id_is_in_a_batch_once() {
    let twice = event("A", &json!({}));
    let appends = [
        Owned::new(vec![twice.clone(), event("B", &json!({}))], None),
        Owned::new(vec![event("C", &json!({})), twice.clone()], None),
        Owned::new(vec![twice.with_id(EventId::new())], None),
    ];
    assert_eq!(planned(&appends, 9), [Turn::Now, Turn::Later, Turn::Now]);
}

#[test]
fn nobody_overtakes_another_one_of_the_same_stream() {
    let appends = [hot(None), hot(Some("hot")), hot(None), hot(None)];
    let streams = [None, Some("s"), Some("s"), Some("t")];
    let candidates = appends.iter().zip(streams).map(|(it, stream)| Candidate { stream, ..it.candidate() });
    let turns = plan(&candidates.collect::<Vec<_>>(), 9);
    assert_eq!(turns, [Turn::Now, after([(0, 0)]), Turn::Later, Turn::Now]);
}

#[test]
fn an_append_that_must_go_first_goes_first_or_waits() {
    let appends = [hot(None), hot(Some("hot"))];
    let first: Vec<_> = appends.iter().map(|it| Candidate { goes_first: true, ..it.candidate() }).collect();
    assert_eq!(plan(&first, 9), [Turn::Now, Turn::Later]);
    assert_eq!(plan(&first[1..], 9), [Turn::Now]);
}

#[test]
fn a_condition_asks_for_what_is_rarest() {
    let asks = |filter: Filter| {
        let keys = GuardKeys::of(&filter);
        keys.places().iter().map(|(place, value)| (place.clone(), value.clone())).collect::<Vec<_>>()
    };
    let path = |path: &str| KeyField::Payload(path.to_owned());
    let types = || Filter::matching().any_type_of(["A", "B"]);
    assert_eq!(asks(Filter::any_event()), [(KeyField::Anywhere, "null".to_owned())]);
    assert_eq!(asks(types().finish().unwrap()), [(KeyField::Type, "\"A\"".into()), (KeyField::Type, "\"B\"".into())]);
    assert_eq!(asks(types().and_all_tags_of(["t\"", "u"]).finish().unwrap()), [(KeyField::Tags, "\"t\\\"\"".into())]);
    let payload = |json| types().and_any_predicate_of([Predicate::payload_contains(&json)]).finish().unwrap();
    assert_eq!(asks(payload(json!({"a": {"b": 1.50}}))), [(path(r#"{"a","b"}"#), "1.5".into())]);
    // An element has no path, a bare scalar may be an element, and an empty object says nothing.
    for json in [json!({"a": ["x"]}), json!("x"), json!({"a": {}})] {
        assert_eq!(asks(payload(json)).len(), 2);
    }
    // Next to an element there is a better key.
    assert_eq!(asks(payload(json!({"a": ["x"], "c": "y"}))), [(path(r#"{"c"}"#), "\"y\"".into())]);
}

#[test]
fn entries_are_those_of_the_larger_document() {
    let entries = |payload, metadata| {
        EventKeys::of(&event("A", &payload).with_metadata(&metadata).expect("it is valid")).entries()
    };
    let (three, two) = (json!({"a": 1, "b": {"c": [2, 3]}}), json!({"a": 1, "b": 2}));
    assert_eq!(entries(three.clone(), two.clone()), 3);
    assert_eq!(entries(two.clone(), three), 3);
    assert_eq!(entries(two, json!({})), 2);
    assert_eq!(entries(json!({}), json!({})), 1, "an index has an entry for what is empty");
    let tagged = event("A", &json!({})).with_tag("a").with_tag("b");
    assert_eq!(EventKeys::of(&tagged).entries(), 1, "tags have an index of their own");
}

proptest! {
    /// The basis of batches: without a common key there is no match.
    #[test]
    fn an_event_that_matches_has_a_key_of_the_filter(filter in filters(), event in new_events()) {
        let _ = __guard(&filter, &event);
    }
}
