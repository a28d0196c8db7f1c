//! Load, read on, apply, save.

use futures_util::future::{join, join_all};

use super::fixture::{
    Store, append, append_each, expect, found, json, load, log, of_type, of_types, plain, positions, save,
};
use crate::{
    Consistency, ErrorKind, EventId, EventStore, LoadOutcome, Mark, Projected, SaveOutcome, Saved, SnapshotKey,
    SnapshotStore, backend::ReadAfterSnapshotRequest,
};

fn key() -> SnapshotKey {
    SnapshotKey::new("positions", 1, &of_types(["A", "B"]))
}

/// Saves a snapshot after this many events.
async fn project(store: Store<'_>, save_every: u64) -> Projected<Vec<u64>> {
    expect(store.project(&key(), vec![], positions).save_every(save_every).await, "a projection")
}

fn is_stored(projected: &Projected<Vec<u64>>) -> bool {
    matches!(projected.saved(), SaveOutcome::Saved(Saved::Stored))
}

fn at(marks: &[Mark]) -> Vec<u64> {
    marks.iter().map(Mark::position).collect()
}

pub(super) async fn without_a_snapshot_all_events_are_applied(store: Store<'_>) {
    let projected = project(store, 1).await;
    assert_eq!((projected.state().len(), projected.head()), (0, None), "an empty log");
    assert!(matches!(projected.saved(), SaveOutcome::NotDue), "{:?} in an empty log", projected.saved());
    let [first, _, third, last] = append_each(store, ["A", "Other", "B", "Other"]).await;
    // A snapshot of something else does not belong to this projection.
    save(store, &SnapshotKey::new("other", 1, &of_type("A")), last, &[7]).await;
    let projected = project(store, 10).await;
    assert_eq!((projected.state(), projected.applied()), (&at(&[first, third]), 2));
    assert_eq!(projected.head(), Some(last));
    assert!(matches!(projected.loaded(), LoadOutcome::NotFound), "{:?}", projected.loaded());
}

pub(super) async fn a_projection_goes_on_from_its_snapshot(store: Store<'_>) {
    let [first, _, third, other] = append_each(store, ["A", "Other", "B", "Other"]).await;
    assert!(is_stored(&project(store, 1).await));
    let [fifth, last, _] = append_each(store, ["A", "B", "Other"]).await;
    // To distinguish it from a state that is recomputed.
    let state = [&at(&[first, third])[..], &[0]].concat();
    save(store, &key(), other, &state).await;
    let projected = project(store, 10).await;
    assert_eq!(projected.into_state(), [&state[..], &at(&[fifth, last])].concat());
    let projected = project(store, 10).await;
    assert_eq!((projected.applied(), projected.head()), (2, log(store).await.head()));
    assert!(matches!(projected.loaded(), LoadOutcome::Used(mark) if *mark == other), "{:?}", projected.loaded());
    assert!(is_stored(&project(store, 2).await));
    let projected = project(store, 1).await;
    assert_eq!((projected.applied(), projected.head()), (0, log(store).await.head()), "nothing has come since");
    assert_eq!(projected.into_state(), [&state[..], &at(&[fifth, last])].concat());
}

pub(super) async fn so_many_events_make_a_snapshot(store: Store<'_>) {
    append_each(store, ["A", "Other", "A"]).await;
    assert!(matches!(project(store, 3).await.saved(), SaveOutcome::NotDue), "two of three events");
    assert_eq!(found(store, &key()).await, None);
    let [third, head] = append_each(store, ["A", "Other"]).await;
    let without = expect(store.project(&key(), vec![], positions).save_every(1).without_saving().await, "a projection");
    assert!(matches!(without.saved(), SaveOutcome::NotDue), "saved without saving");
    assert_eq!(found(store, &key()).await, None);
    let projected = project(store, 3).await;
    assert!(is_stored(&projected), "{:?}", projected.saved());
    assert_eq!(projected.state().last(), Some(&third.position()));
    assert_eq!(found(store, &key()).await, Some((head, json(projected.state()))));
    let [fourth, fifth] = append_each(store, ["A", "A"]).await;
    assert!(matches!(project(store, 3).await.saved(), SaveOutcome::NotDue), "two since the snapshot");
    append(store, [plain("A")]).await;
    assert!(is_stored(&project(store, 3).await));
    let state = expect(load(store, &key()).await.unwrap_or_else(|| panic!("nothing found")).decode::<Vec<u64>>(), "it");
    assert_eq!(state[3..5], at(&[fourth, fifth]));
}

pub(super) async fn a_snapshot_that_does_not_decode_is_passed_over_and_replaced(store: Store<'_>) {
    let marks = append_each(store, ["A", "B"]).await;
    save(store, &key(), marks[1], "not a list of positions").await;
    let projected = project(store, 100).await;
    assert_eq!(projected.state(), &at(&marks));
    match projected.loaded() {
        LoadOutcome::Unusable(error) => assert_eq!(error.kind(), ErrorKind::InvalidData, "{error}"),
        other => panic!("{other:?}"),
    }
    assert!(is_stored(&projected), "{:?}", projected.saved());
    let projected = project(store, 100).await;
    assert!(matches!(projected.loaded(), LoadOutcome::Used(_)), "{:?}", projected.loaded());
    assert_eq!((projected.state(), projected.applied()), (&at(&marks), 0));
}

pub(super) async fn the_state_vouches_for_its_boundary(store: Store<'_>) {
    let empty = project(store, 1).await.unchanged();
    append_each(store, ["A", "B"]).await;
    let refused = async |condition| match store.append([plain("C")], condition).await {
        Ok(appended) => panic!("written at {:?}", appended.positions()),
        Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error}"),
    };
    refused(empty).await;
    // From all events, from a snapshot and some more, and from a snapshot alone.
    for save_every in [1, 10, 1, 1] {
        let projected = project(store, save_every).await;
        append(store, [plain("Other")]).await;
        expect(store.append([plain("Other")], projected.unchanged()).await, "an append that nothing has broken");
        if save_every == 10 {
            continue;
        }
        append(store, [plain("B")]).await;
        refused(projected.unchanged()).await;
    }
    let projected = project(store, 1).await;
    let projected = if projected.applied() == 0 { projected } else { project(store, 1).await };
    assert_eq!(projected.applied(), 0);
    append(store, [plain("A")]).await;
    refused(projected.unchanged()).await;
}

pub(super) async fn a_state_is_that_of_its_whole_history_while_others_append(store: Store<'_>) {
    let appending = async |event_type| {
        for _ in 0..40 {
            append(store, [plain(event_type)]).await;
            tokio::task::yield_now().await;
        }
    };
    let projecting = async |save_every| {
        let mut all = Vec::new();
        for _ in 0..20 {
            all.push(project(store, save_every).await);
            tokio::task::yield_now().await;
        }
        all
    };
    let appends = join_all(["A", "B", "Other"].map(appending));
    let (_, projected) = join(appends, join_all([1, 2, 5].map(projecting))).await;
    let log = log(store).await;
    for projected in projected.into_iter().flatten() {
        let head = projected.head().map_or(0, |head| head.position());
        let matching = log.iter().filter(|event| event.event_type() != "Other" && event.position() <= head);
        let expected: Vec<u64> = matching.map(crate::Event::position).collect();
        assert_eq!(projected.state(), &expected, "up to {head}, from {:?}", projected.loaded());
        assert!(!matches!(projected.loaded(), LoadOutcome::Unusable(_)), "{:?}", projected.loaded());
        assert!(!matches!(projected.saved(), SaveOutcome::Failed(_)), "{:?}", projected.saved());
    }
}

pub(super) async fn nothing_is_read_on_from_what_the_log_does_not_hold(store: Store<'_>) {
    let read_on = async |mark| {
        let filter = of_types(["A", "B"]);
        store.run_read_after_snapshot(ReadAfterSnapshotRequest::new(filter, mark, Consistency::Strong)).await
    };
    let refused = async |mark| match read_on(mark).await {
        Ok(answer) => panic!("{:?} is read on from {mark}", answer.events),
        Err(error) => assert_eq!(error.kind(), ErrorKind::LogDiverged, "{error}"),
    };
    refused(Mark::new(1, EventId::new())).await;
    let [first, second, third] = append_each(store, ["A", "Other", "B"]).await;
    for mark in [
        Mark::new(first.position(), EventId::new()),
        Mark::new(second.position(), first.id()),
        Mark::new(third.position(), second.id()),
        Mark::new(third.position() + 1, third.id()),
        Mark::new(u64::MAX, EventId::new()),
    ] {
        refused(mark).await;
    }
    for (mark, expected) in [(first, 1), (second, 1), (third, 0)] {
        let answer = expect(read_on(mark).await, "a read from what is there");
        assert_eq!((answer.events.len(), answer.head), (expected, Some(third)), "from {mark}");
    }
}
