//! Boundaries by a name in the payload of their events.

use mainstem::{AppendCondition, Filter, NewEvent, Predicate};
use serde_json::json;

use super::event;

pub(crate) fn boundary(name: &str) -> Filter {
    Filter::matching().any_predicate_of([Predicate::payload("b", name)]).finish().unwrap()
}

pub(crate) fn in_boundary(name: &str) -> Vec<NewEvent> {
    vec![event("A", json!({"b": name}))]
}

/// The condition that nothing in it comes after the log's beginning.
pub(crate) fn unless(filter: &Filter) -> AppendCondition {
    AppendCondition::fail_if_events_match(filter.clone()).after_position(0)
}
