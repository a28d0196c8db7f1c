//! A small log, and filters of every shape with the events that each matches.

use serde_json::json;

use super::fixture::{event, expect, of_type, of_types, with_predicate, with_tags};
use crate::{Filter, NewEvent, Predicate, Result};

/// The events that the filters are about.
pub(super) fn events() -> Vec<NewEvent> {
    let metadata = |event: NewEvent, value| expect(event.with_metadata(&value), "metadata of the test");
    vec![
        event("Added", json!({"BookID": "b-1", "copies": 2})).with_tags(["book:1"]),
        event("Added", json!({"BookID": "b-2", "copies": "2"})).with_tags(["book:2"]),
        event("Lent", json!({"BookID": "b-1", "ReaderID": "r-1"})).with_tags(["book:1", "reader:1"]),
        event("Lent", json!({"BookID": "b-2", "ReaderID": "r-1"})).with_tags(["book:2", "reader:1"]),
        metadata(
            event("Returned", json!({"BookID": "b-1", "ReaderID": "r-1"})).with_tags(["book:1", "reader:1"]),
            json!({"tenant": 4, "BookID": "b-9"}),
        ),
        event("Moved", json!({"place": {"shelf": 3, "room": null}, "genres": ["crime", "poetry"]})),
        event("Measured", json!({"big": 9_007_199_254_740_993_u64, "half": 0.5, "on": true, "none": null})),
        event("Listed", json!(["b-1", {"sku": "x", "gift": true}, 7])),
        event("Empty", json!({})),
    ]
}

/// Filters, and the indexes of the events that they match.
pub(super) fn filters() -> Vec<(Vec<u64>, Filter)> {
    let filters = [plain(), predicates(), containment(), items()].concat();
    let filters = filters.into_iter();
    filters.map(|(expected, filter)| (expected, expect(filter, "a filter of the test"))).collect()
}

type Case = (Vec<u64>, Result<Filter>);

fn plain() -> Vec<Case> {
    let matching = Filter::matching;
    vec![
        (vec![0, 1, 2, 3, 4, 5, 6, 7, 8], Ok(Filter::any_event())),
        (vec![0, 1], Ok(of_type("Added"))),
        (vec![0, 1, 4], Ok(of_types(["Returned", "Added"]))),
        (vec![2, 3], Ok(of_types(["Lent", "Unknown"]))),
        (vec![], Ok(of_type("Unknown"))),
        (vec![0, 2, 4], Ok(with_tags(["book:1"]))),
        (vec![2, 4], Ok(with_tags(["reader:1", "book:1"]))),
        (vec![], Ok(with_tags(["book:1", "book:2"]))),
        (vec![], Ok(with_tags(["book:1", "reader:1", "reader:2"]))),
        (vec![3], matching().any_type_of(["Lent"]).and_all_tags_of(["book:2"]).finish()),
        (vec![2, 4], matching().all_tags_of(["book:1", "reader:1"]).and_any_type_of(["Lent", "Returned"]).finish()),
        (vec![], matching().any_type_of(["Added"]).and_all_tags_of(["reader:1"]).finish()),
    ]
}

fn predicates() -> Vec<Case> {
    let book = |id: &str| Predicate::payload("BookID", id);
    let reader = |id: &str| Predicate::payload("ReaderID", id);
    let matching = Filter::matching;
    vec![
        (vec![0, 2, 4], matching().any_predicate_of([book("b-1")]).finish()),
        (vec![0, 1, 2, 3, 4], matching().any_predicate_of([book("b-1"), book("b-2")]).finish()),
        (vec![0, 2, 3, 4], matching().any_predicate_of([book("b-1"), reader("r-1")]).finish()),
        (vec![2, 4], matching().all_predicates_of([book("b-1"), reader("r-1")]).finish()),
        (vec![], matching().all_predicates_of([book("b-1"), book("b-2")]).finish()),
        (vec![2], matching().any_type_of(["Lent"]).and_any_predicate_of([book("b-1")]).finish()),
        (vec![2, 3], matching().any_type_of(["Lent"]).and_any_predicate_of([book("b-1"), reader("r-1")]).finish()),
        (vec![3], matching().any_type_of(["Lent"]).and_all_predicates_of([book("b-2"), reader("r-1")]).finish()),
        (vec![0, 2], matching().any_type_of(["Added", "Lent"]).and_any_predicate_of([book("b-1")]).finish()),
        (
            vec![2, 4],
            matching().all_predicates_of([reader("r-1"), book("b-1")]).and_any_type_of(["Lent", "Returned"]).finish(),
        ),
        (
            vec![4],
            matching()
                .any_type_of(["Lent", "Returned"])
                .and_all_tags_of(["book:1"])
                .and_any_predicate_of([Predicate::metadata("tenant", 4)])
                .finish(),
        ),
        // The two sides are separate.
        (vec![4], Ok(with_predicate(Predicate::metadata("BookID", "b-9")))),
        (vec![], Ok(with_predicate(Predicate::payload("tenant", 4)))),
        (vec![], Ok(with_predicate(Predicate::metadata("BookID", "b-1")))),
    ]
}

/// What containment means in `jsonb`.
fn containment() -> Vec<Case> {
    let payload = |fragment: serde_json::Value| Ok(with_predicate(Predicate::payload_contains(&fragment)));
    let digits = |number: u64| payload(json!({"big": number}));
    vec![
        (vec![0], payload(json!({"copies": 2}))),
        (vec![0], payload(json!({"copies": 2.0}))),
        (vec![1], payload(json!({"copies": "2"}))),
        (vec![5], payload(json!({"place": {"shelf": 3}}))),
        (vec![5], payload(json!({"place": {"room": null}}))),
        (vec![5], Ok(with_predicate(Predicate::payload(["place", "shelf"], 3)))),
        (vec![], payload(json!({"shelf": 3}))),
        (vec![], Ok(with_predicate(Predicate::payload("place.shelf", 3)))),
        (vec![5], payload(json!({"genres": ["poetry"]}))),
        (vec![5], payload(json!({"genres": ["poetry", "crime", "poetry"]}))),
        (vec![], payload(json!({"genres": ["poetry", "prose"]}))),
        (vec![], payload(json!({"genres": "poetry"}))),
        (vec![6], digits(9_007_199_254_740_993)),
        // One less: equal as a double.
        (vec![], digits(9_007_199_254_740_992)),
        (vec![6], payload(json!({"half": 0.5, "on": true}))),
        (vec![6], payload(json!({"none": null}))),
        (vec![], payload(json!({"on": 1}))),
        (vec![], payload(json!({"on": "true"}))),
        (vec![7], payload(json!([7]))),
        (vec![7], payload(json!(7))),
        (vec![7], payload(json!([{"sku": "x"}]))),
        (vec![], payload(json!({"sku": "x"}))),
    ]
}

fn items() -> Vec<Case> {
    let book = |id: &str| Predicate::payload("BookID", id);
    let matching = Filter::matching;
    vec![
        (vec![0, 1, 2, 4], matching().any_type_of(["Added"]).or_matching().all_tags_of(["book:1"]).finish()),
        (
            vec![0, 3, 8],
            matching()
                .any_type_of(["Added"])
                .and_all_tags_of(["book:1"])
                .or_matching()
                .any_type_of(["Lent"])
                .and_any_predicate_of([book("b-2")])
                .or_matching()
                .any_type_of(["Empty"])
                .finish(),
        ),
        // An item is a unit: the type of one and the tag of another are no match.
        (
            vec![],
            matching()
                .any_type_of(["Added"])
                .and_all_tags_of(["reader:1"])
                .or_matching()
                .any_type_of(["Unknown"])
                .and_all_tags_of(["book:1"])
                .finish(),
        ),
        (
            vec![4],
            matching()
                .any_type_of(["Returned"])
                .and_any_predicate_of([book("b-1")])
                .or_matching()
                .any_type_of(["Moved"])
                .and_any_predicate_of([book("b-2")])
                .finish(),
        ),
        (vec![2, 3], matching().any_type_of(["Lent"]).or_matching().any_type_of(["Lent"]).finish()),
    ]
}
