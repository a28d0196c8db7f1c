//! Saving, loading and deleting: the calls.

use std::{future::IntoFuture, time::Duration};

use super::{
    DeleteSnapshotRequest, LoadSnapshotRequest, SaveSnapshotRequest, Saved, Snapshot, SnapshotKey, SnapshotStore,
};
use crate::{
    Consistency, Json, Mark, Result,
    scope::current_consistency,
    store::{BoxFuture, noted::Noted},
    telemetry::{Done, Operation},
};

/// The save of a snapshot: await it, after changing its limit if needed.
///
/// The primary executes it whatever the scope says. A snapshot of a lower position never replaces one of a higher
/// position; the call then succeeds and says so ([`Saved::Outdated`]). Of several concurrent saves, the highest stays.
/// A snapshot whose event the log has lost is replaced whatever its position.
///
/// # Errors
///
/// - [`InvalidInput`](crate::ErrorKind::InvalidInput): the key is not [valid](SnapshotKey::validate), or the state is
///   not what [`Json`] can hold, which is at most [`Json::MAX_LEN`] bytes. Nothing was sent.
/// - [`LogDiverged`](crate::ErrorKind::LogDiverged): the log does not hold the event up to which the state was
///   computed. Nothing was saved.
/// - [`Timeout`](crate::ErrorKind::Timeout), [`Unavailable`](crate::ErrorKind::Unavailable): nothing was saved.
/// - [`OutcomeUnknown`](crate::ErrorKind::OutcomeUnknown): the answer was lost. Saving again does no harm.
/// - [`Schema`](crate::ErrorKind::Schema): the tables do not exist.
///
/// # Cancel safety
///
/// If it is dropped before it is awaited, nothing happens. If it is dropped later, the snapshot is saved completely or
/// not at all.
#[derive(Debug)]
#[must_use = "a save does nothing until it is awaited"]
pub struct SaveSnapshot<'a> {
    store: &'a dyn SnapshotStore,
    key: SnapshotKey,
    mark: Mark,
    state: Result<Json>,
    timeout: Option<Duration>,
}

impl<'a> SaveSnapshot<'a> {
    pub(super) fn new(store: &'a dyn SnapshotStore, key: SnapshotKey, mark: Mark, state: Result<Json>) -> Self {
        Self { store, key, mark, state, timeout: None }
    }

    /// Replaces the time limit of this call, including the wait for a connection. Defaults to the store's own, which in
    /// PostgreSQL is the router's [`call_timeout`](crate::RouterBuilder::call_timeout).
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }

    fn request(self) -> Result<SaveSnapshotRequest> {
        self.key.validate()?;
        let state = self.state.map_err(|error| error.within(&format!("the state of {}", self.key)))?;
        Ok(SaveSnapshotRequest { key: self.key, mark: self.mark, state, timeout: self.timeout })
    }
}

/// The future owns all it needs, so it can be spawned.
impl IntoFuture for SaveSnapshot<'_> {
    type Output = Result<Saved>;
    type IntoFuture = BoxFuture<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        let store = self.store;
        let saved = self.request().map(|request| store.run_save_snapshot(request));
        Box::pin(Operation::SaveSnapshot.record(async move { saved?.await }, |_| Done::default()))
    }
}

/// The load of a snapshot: await it, after changing its level or limit if needed.
///
/// # Errors
///
/// - [`InvalidInput`](crate::ErrorKind::InvalidInput): the key is not [valid](SnapshotKey::validate). Nothing was sent.
/// - [`LogDiverged`](crate::ErrorKind::LogDiverged): there is a snapshot, but the log does not hold the event up to
///   which it was computed. Replication lag does not cause this: on a replica, the log and the snapshots are consistent
///   with each other.
/// - [`Timeout`](crate::ErrorKind::Timeout), [`Unavailable`](crate::ErrorKind::Unavailable): no qualified node answers
///   in time.
/// - [`Schema`](crate::ErrorKind::Schema): the tables do not exist.
///
/// # Cancel safety
///
/// Dropping it has no effect on the log. The connection is closed, since its answer is still outstanding.
#[derive(Debug)]
#[must_use = "a load does nothing until it is awaited"]
pub struct LoadSnapshot<'a> {
    store: &'a dyn SnapshotStore,
    request: LoadSnapshotRequest,
    noted: Noted,
}

impl<'a> LoadSnapshot<'a> {
    pub(super) fn new(store: &'a dyn SnapshotStore, key: SnapshotKey) -> Self {
        Self { store, request: LoadSnapshotRequest::new(key, current_consistency()), noted: Noted::current() }
    }

    /// Replaces the scope's consistency level for this call.
    pub fn consistency(mut self, consistency: Consistency) -> Self {
        self.request.consistency = consistency;
        self
    }

    /// Replaces the time limit of this call, including the wait for a connection. Defaults to the store's own, which in
    /// PostgreSQL is the router's [`call_timeout`](crate::RouterBuilder::call_timeout).
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.request.timeout = Some(limit);
        self
    }
}

/// The future owns all it needs, so it can be spawned.
impl IntoFuture for LoadSnapshot<'_> {
    type Output = Result<Option<Snapshot>>;
    type IntoFuture = BoxFuture<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        let Self { store, mut request, mut noted } = self;
        let checked = request.key.validate();
        (request.floor, request.wants_token) = noted.ask(&request.consistency);
        let loaded = checked.map(|()| store.run_load_snapshot(request));
        let load = async move {
            let loaded = loaded?.await?;
            loaded.iter().for_each(|snapshot| noted.saw(snapshot.token()));
            Ok(loaded)
        };
        Box::pin(Operation::LoadSnapshot.record(load, |loaded: &Option<Snapshot>| Done {
            served: loaded.as_ref().map(|snapshot| (snapshot.node(), snapshot.role())),
            events: 0,
        }))
    }
}

/// The deletion of a snapshot: await it, after changing its limit if needed. It returns whether there was a snapshot;
/// if there was none, that is not an error.
///
/// The primary executes it whatever the scope says.
///
/// # Errors
///
/// As [`SaveSnapshot`], except for `LogDiverged`: the snapshot may be of any history.
///
/// # Cancel safety
///
/// If it is dropped before it is awaited, nothing happens. If it is dropped later, the snapshot may or may not exist.
#[derive(Debug)]
#[must_use = "a deletion does nothing until it is awaited"]
pub struct DeleteSnapshot<'a> {
    store: &'a dyn SnapshotStore,
    request: DeleteSnapshotRequest,
}

impl<'a> DeleteSnapshot<'a> {
    pub(super) fn new(store: &'a dyn SnapshotStore, key: SnapshotKey) -> Self {
        Self { store, request: DeleteSnapshotRequest { key, timeout: None } }
    }

    /// Replaces the time limit of this call, including the wait for a connection. Defaults to the store's own, which in
    /// PostgreSQL is the router's [`call_timeout`](crate::RouterBuilder::call_timeout).
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.request.timeout = Some(limit);
        self
    }
}

/// The future owns all it needs, so it can be spawned.
impl IntoFuture for DeleteSnapshot<'_> {
    type Output = Result<bool>;
    type IntoFuture = BoxFuture<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        let deleted = self.request.key.validate().map(|()| self.store.run_delete_snapshot(self.request));
        Box::pin(Operation::DeleteSnapshot.record(async move { deleted?.await }, |_| Done::default()))
    }
}
