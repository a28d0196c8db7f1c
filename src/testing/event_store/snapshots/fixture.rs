//! What the cases share.

use serde::Serialize;

pub(super) use super::super::fixture::{expect, of_type, of_types, plain, with_tags};
use crate::{Event, EventStore, Filter, Json, Mark, NewEvent, Result, Saved, Snapshot, SnapshotKey, SnapshotStore};

/// The store of a case: behind one more reference, for the methods that a trait object itself cannot have.
pub(super) type Store<'a> = &'a &'a dyn SnapshotStore;

/// A key of which only the name matters.
pub(super) fn named(name: &str) -> SnapshotKey {
    SnapshotKey::new(name, 1, &Filter::any_event())
}

/// Appends without a condition, for the mark of the last event.
pub(super) async fn append(store: Store<'_>, events: impl IntoIterator<Item = NewEvent>) -> Mark {
    let log: &dyn EventStore = *store;
    super::super::fixture::append(&log, events).await.last()
}

/// Appends one event of each type, for their marks.
pub(super) async fn append_each<const N: usize>(store: Store<'_>, types: [&str; N]) -> [Mark; N] {
    let mut marks = Vec::new();
    for event_type in types {
        marks.push(append(store, [plain(event_type)]).await);
    }
    marks.try_into().unwrap_or_else(|_| panic!("as many marks as types"))
}

/// The whole log.
pub(super) async fn log(store: Store<'_>) -> crate::History {
    let log: &dyn EventStore = *store;
    super::super::fixture::log(&log).await
}

pub(super) async fn save<T: Serialize + ?Sized>(store: Store<'_>, key: &SnapshotKey, mark: Mark, state: &T) -> Saved {
    expect(store.save_snapshot(key, mark, state).await, "a save")
}

pub(super) async fn load(store: Store<'_>, key: &SnapshotKey) -> Option<Snapshot> {
    expect(store.load_snapshot(key).await, "a load")
}

/// Position and state of the snapshot.
pub(super) async fn found(store: Store<'_>, key: &SnapshotKey) -> Option<(Mark, Json)> {
    load(store, key).await.map(|snapshot| (snapshot.mark(), snapshot.state().clone()))
}

pub(super) fn json(value: &(impl Serialize + ?Sized)) -> Json {
    expect(Json::from_serialize(value), "JSON of the test")
}

/// The projection whose state is the positions of its events.
#[expect(clippy::unnecessary_wraps, reason = "a projection may fail")]
pub(super) fn positions(state: &mut Vec<u64>, event: &Event) -> Result<()> {
    state.push(event.position());
    Ok(())
}
