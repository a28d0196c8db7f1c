//! What a condition allows, and what it prevents.

use serde_json::json;

use super::{
    fixture::{
        Store, append, append_if, append_one, event, log, none_of, of_type, of_types, plain, read, refused, types,
    },
    shapes,
};
use crate::{AppendCondition, Error, ErrorKind, EventStore, Filter, Mark};

fn broken_at(error: &Error) -> Option<(u64, &str)> {
    error.conflict().map(|conflict| (conflict.position, &*conflict.event_type))
}

pub(super) async fn an_unchanged_boundary_takes_the_append(store: Store<'_>) {
    // The log's head at the time of the read is not the last match, as is usual.
    append(store, [plain("A"), plain("B")]).await;
    let history = read(store, &of_type("A")).await;
    append_one(store, "B").await;
    append_if(store, [plain("C")], history.unchanged()).await;
    assert_eq!(types(&log(store).await), ["A", "B", "B", "C"]);
}

pub(super) async fn a_matching_event_after_the_read_is_a_conflict(store: Store<'_>) {
    append_one(store, "A").await;
    let history = read(store, &of_types(["A", "X"])).await;
    append_one(store, "B").await;
    let first = append_one(store, "X").await.first_position();
    append_one(store, "A").await;
    let error = refused(store, [plain("C")], history.unchanged(), ErrorKind::Conflict).await;
    assert_eq!(broken_at(&error), Some((first, "X")), "the conflict is the first event that broke it: {error}");
    assert!(error.is_conflict() && !error.is_retryable(), "a conflict asks for a new decision, not a new try");
    assert_eq!(types(&log(store).await), ["A", "B", "X", "A"], "a refused append was written");
}

pub(super) async fn a_read_of_an_empty_log_is_broken_by_the_first_match(store: Store<'_>) {
    let history = read(store, &of_type("A")).await;
    append_one(store, "B").await;
    append_if(store, [plain("A")], history.unchanged()).await;
    refused(store, [plain("A")], history.unchanged(), ErrorKind::Conflict).await;
}

pub(super) async fn a_read_that_found_nothing_is_broken_by_the_first_match(store: Store<'_>) {
    append_one(store, "B").await;
    let history = read(store, &of_type("A")).await;
    append_one(store, "B").await;
    append_if(store, [plain("A")], history.unchanged()).await;
    let error = refused(store, [plain("A")], history.unchanged(), ErrorKind::Conflict).await;
    assert_eq!(broken_at(&error), Some((log(store).await[2].position(), "A")));
}

pub(super) async fn a_condition_without_after_counts_every_event(store: Store<'_>) {
    let guard = none_of(&of_type("A"));
    append_if(store, [plain("B")], guard.clone()).await;
    let first = append_one(store, "A").await.first_position();
    append_one(store, "B").await;
    append_one(store, "A").await;
    let error = refused(store, [plain("C")], guard, ErrorKind::Conflict).await;
    assert_eq!(broken_at(&error), Some((first, "A")));
}

pub(super) async fn only_events_behind_after_count(store: Store<'_>) {
    let first = append_one(store, "A").await.last();
    let second = append_one(store, "A").await.last();
    let third = append_one(store, "B").await.last();
    let guard = || none_of(&of_type("A"));
    let broken_by_second = [guard().after(first), guard().after_position(first.position())];
    for condition in broken_by_second {
        let error = refused(store, [plain("C")], condition, ErrorKind::Conflict).await;
        assert_eq!(broken_at(&error), Some((second.position(), "A")));
    }
    let holds = [
        guard().after(second),
        guard().after(third),
        guard().after_position(second.position()),
        guard().after_position(third.position()),
    ];
    for condition in holds {
        append_if(store, [plain("C")], condition).await;
    }
    for condition in [guard().after_position(0), guard().after_position(first.position() - 1)] {
        let error = refused(store, [plain("C")], condition, ErrorKind::Conflict).await;
        assert_eq!(broken_at(&error), Some((first.position(), "A")));
    }
}

pub(super) async fn an_append_need_not_match_its_own_condition(store: Store<'_>) {
    let history = read(store, &of_type("A")).await;
    append_if(store, [plain("B")], history.unchanged()).await;
    append_if(store, [plain("B")], history.unchanged()).await;
    append_if(store, [plain("A"), plain("B")], history.unchanged()).await;
    refused(store, [plain("B")], history.unchanged(), ErrorKind::Conflict).await;
}

pub(super) async fn any_event_guards_the_whole_log(store: Store<'_>) {
    append_if(store, [plain("A")], none_of(&Filter::any_event())).await;
    let history = log(store).await;
    append_if(store, [plain("B")], history.unchanged()).await;
    refused(store, [plain("C")], history.unchanged(), ErrorKind::Conflict).await;
    refused(store, [plain("C")], none_of(&Filter::any_event()), ErrorKind::Conflict).await;
}

pub(super) async fn each_shape_of_filter_guards_what_it_reads(store: Store<'_>) {
    // An event that only the filters for any event match, so that an accepted append changes little.
    let probe = || plain("Probe");
    let lowest = append_one(store, "Base").await.first_position();
    let base = append_one(store, "Base").await.last();
    let first = append(store, shapes::events()).await.first_position();
    for (expected, filter) in shapes::filters() {
        let guard = none_of(&filter);
        let reach = [guard.clone().after(base), guard.clone().after_position(base.position()), guard];
        for condition in reach {
            let outcome = store.append([probe()], condition.clone()).await;
            let broken = match &outcome {
                Ok(_) => None,
                Err(error) if error.is_conflict() => broken_at(error).map(|(position, _)| position),
                Err(error) => panic!("neither written nor a conflict under {condition:?}: {}", error.report()),
            };
            let everything = filter == Filter::any_event() && condition == none_of(&filter);
            let expected = if everything { Some(lowest) } else { expected.first().map(|it| first + it) };
            assert_eq!(broken, expected, "the first event that broke {condition:?}");
        }
    }
}

pub(super) async fn a_condition_from_far_back_is_judged_like_a_near_one(store: Store<'_>) {
    let base = append_one(store, "Base").await.last();
    let needle = append_one(store, "Needle").await.last();
    let before = read(store, &of_type("Needle")).await;
    for _ in 0..3 {
        let hay: Vec<_> = (0..500).map(|n| event("Hay", json!({"n": n}))).collect();
        append(store, hay).await;
    }
    append_if(store, [plain("C")], before.unchanged()).await;
    let guard = none_of(&of_type("Needle"));
    let broken = [guard.clone(), guard.clone().after(base), guard.clone().after_position(base.position())];
    for condition in broken {
        let error = refused(store, [plain("C")], condition, ErrorKind::Conflict).await;
        assert_eq!(broken_at(&error), Some((needle.position(), "Needle")));
    }
    let gone = guard.after(Mark::new(base.position(), plain("X").id()));
    refused(store, [plain("C")], gone, ErrorKind::LogDiverged).await;
}

pub(super) async fn a_condition_is_judged_anew_each_time(store: Store<'_>) {
    let condition: AppendCondition = read(store, &of_type("A")).await.unchanged();
    for _ in 0..3 {
        append_if(store, [plain("B")], condition.clone()).await;
    }
    append_one(store, "A").await;
    for _ in 0..3 {
        refused(store, [plain("B")], condition.clone(), ErrorKind::Conflict).await;
    }
    append_if(store, [plain("B")], read(store, &of_type("A")).await.unchanged()).await;
}
