use proptest::prelude::*;
use serde_json::json;

use super::{Candidate, Edge, EventKeys, GuardKeys, Place, plan};
use crate::{
    EventId, Filter, NewEvent, Predicate,
    filter::{
        Subject,
        tests::model::{filters, new_events},
    },
};

fn event(event_type: &str, payload: &serde_json::Value) -> NewEvent {
    NewEvent::new(event_type, payload).expect("an event")
}

fn boundary(name: &str) -> Filter {
    Filter::matching().any_predicate_of([Predicate::payload("b", name)]).finish().expect("a filter")
}

/// An append with all that a candidate borrows from.
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
        Candidate { events: &self.events, keys: &self.keys, guard }
    }
}

fn planned(appends: &[Owned]) -> super::overlap::Plan {
    plan(&appends.iter().map(Owned::candidate).collect::<Vec<_>>())
}

#[test]
fn an_append_has_an_edge_to_the_first_event_of_each_append_that_breaks_its_condition() {
    let hot = || event("A", &json!({"b": "hot"}));
    let appends = [
        Owned::new(vec![event("A", &json!({"b": "cold"})), hot(), hot()], None),
        Owned::new(vec![hot()], Some(boundary("cold"))),
        Owned::new(vec![hot()], Some(boundary("hot"))),
        Owned::new(vec![hot()], Some(boundary("elsewhere"))),
    ];
    let plan = planned(&appends);
    assert_eq!(plan.included, [true; 4]);
    let edge = |append, event| Edge { append, event: Some(event) };
    assert_eq!(plan.edges, [edge(1, 0), edge(2, 1), edge(2, 3)]);
}

#[test]
fn who_stands_behind_many_others_has_a_few_edges_and_a_last_one_that_says_so() {
    let appends: Vec<Owned> =
        (0..20).map(|_| Owned::new(vec![event("A", &json!({"b": "hot"}))], Some(boundary("hot")))).collect();
    let plan = planned(&appends);
    assert_eq!(plan.included, [true; 20]);
    let edges_of = |append| plan.edges.iter().filter(|edge| edge.append == append).map(|edge| edge.event).collect();
    for append in 0..20 {
        let behind: Vec<Option<usize>> = edges_of(append);
        let expected = (0..append.min(8)).map(Some).chain((append > 8).then_some(None));
        assert_eq!(behind, expected.collect::<Vec<_>>(), "of append {append}");
    }
    assert!(plan.edges.is_sorted_by_key(|edge| edge.append));
}

#[test]
fn an_id_is_in_a_batch_once() {
    let twice = event("A", &json!({}));
    let appends = [
        Owned::new(vec![twice.clone(), event("B", &json!({}))], None),
        Owned::new(vec![event("C", &json!({})), twice.clone()], None),
        Owned::new(vec![twice.with_id(EventId::new())], None),
    ];
    assert_eq!(planned(&appends).included, [true, false, true]);
}

#[test]
fn a_condition_asks_for_what_is_rarest() {
    let asks = |filter: Filter| {
        let keys = GuardKeys::of(&filter);
        keys.places().iter().map(|(place, value)| (place.clone(), value.clone())).collect::<Vec<_>>()
    };
    let path = |path: &str| Place::Path(path.to_owned());
    let types = || Filter::matching().any_type_of(["A", "B"]);
    assert_eq!(asks(Filter::any_event()), [(Place::Anywhere, "null".to_owned())]);
    assert_eq!(asks(types().finish().unwrap()), [(Place::Type, "\"A\"".into()), (Place::Type, "\"B\"".into())]);
    assert_eq!(asks(types().and_all_tags_of(["t\"", "u"]).finish().unwrap()), [(Place::Tags, "\"t\\\"\"".into())]);
    let payload = |json| types().and_any_predicate_of([Predicate::payload_contains(&json)]).finish().unwrap();
    assert_eq!(asks(payload(json!({"a": {"b": 1.50}}))), [(path(r#"["payload","a","b"]"#), "1.5".into())]);
    // An element has no path, a bare scalar may be an element, and an empty object says nothing.
    for json in [json!({"a": ["x"]}), json!("x"), json!({"a": {}})] {
        assert_eq!(asks(payload(json)).len(), 2);
    }
    // Beside an element there is something better.
    assert_eq!(asks(payload(json!({"a": ["x"], "c": "y"}))), [(path(r#"["payload","c"]"#), "\"y\"".into())]);
}

proptest! {
    /// What the whole batch stands on: without a common key there is no match.
    #[test]
    fn an_event_that_matches_has_a_key_of_the_filter(filter in filters(), event in new_events()) {
        if filter.matches_subject(&Subject::from(&event)) {
            let (keys, wanted) = (EventKeys::of(&event), GuardKeys::of(&filter));
            prop_assert!(wanted.hashes().iter().any(|key| keys.hashes().contains(key)), "{filter:?} {event:?}");
        }
    }
}
