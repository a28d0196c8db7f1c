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

/// A save that is about to be made: await it, after changing its limit if need be.
///
/// The primary takes it whatever the scope says. A snapshot of a lower position never replaces one of a higher, which is a
/// success that says so ([`Saved::Outdated`]): of several who save at once, the highest stays. One whose event the log has
/// lost is replaced whatever its position.
///
/// # Errors
///
/// - [`InvalidInput`](crate::ErrorKind::InvalidInput): the key is not [valid](SnapshotKey::validate), or the state is not
///   what [`Json`] can hold, which has at most [`Json::MAX_LEN`] bytes. Nothing was sent.
/// - [`LogDiverged`](crate::ErrorKind::LogDiverged): the log does not hold the event that the state was computed up to.
///   Nothing was saved.
/// - [`Timeout`](crate::ErrorKind::Timeout), [`Unavailable`](crate::ErrorKind::Unavailable): nothing was saved.
/// - [`OutcomeUnknown`](crate::ErrorKind::OutcomeUnknown): the answer was lost. Saving again does no harm.
/// - [`Schema`](crate::ErrorKind::Schema): the tables are not there.
///
/// # Cancel safety
///
/// Dropped before it is awaited, nothing happens. Dropped later, it is saved whole or not at all.
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

    /// Replaces the limit of this call, getting a connection included. Defaults to the store's own, which in PostgreSQL is
    /// the router's [`call_timeout`](crate::RouterBuilder::call_timeout).
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

/// The future owns all that it needs: it may be spawned.
impl IntoFuture for SaveSnapshot<'_> {
    type Output = Result<Saved>;
    type IntoFuture = BoxFuture<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        let store = self.store;
        let saved = self.request().map(|request| store.run_save_snapshot(request));
        Box::pin(Operation::SaveSnapshot.tell(async move { saved?.await }, |_| Done::default()))
    }
}

/// A load that is about to be made: await it, after changing where and how long if need be.
///
/// # Errors
///
/// - [`InvalidInput`](crate::ErrorKind::InvalidInput): the key is not [valid](SnapshotKey::validate). Nothing was sent.
/// - [`LogDiverged`](crate::ErrorKind::LogDiverged): there is a snapshot, and the log does not hold the event that it was
///   computed up to. This is no matter of a replica that is behind: what it shows of the log and of the snapshots belongs
///   together.
/// - [`Timeout`](crate::ErrorKind::Timeout), [`Unavailable`](crate::ErrorKind::Unavailable): no node that qualifies
///   answers in time.
/// - [`Schema`](crate::ErrorKind::Schema): the tables are not there.
///
/// # Cancel safety
///
/// Dropping it has no effect on the log. The connection is closed, since its answer is still to come.
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

    /// Replaces the level that the scope has given.
    pub fn consistency(mut self, consistency: Consistency) -> Self {
        self.request.consistency = consistency;
        self
    }

    /// Replaces the limit of this call, getting a connection included. Defaults to the store's own, which in PostgreSQL is
    /// the router's [`call_timeout`](crate::RouterBuilder::call_timeout).
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.request.timeout = Some(limit);
        self
    }
}

/// The future owns all that it needs: it may be spawned.
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
        Box::pin(Operation::LoadSnapshot.tell(load, |loaded: &Option<Snapshot>| Done {
            served: loaded.as_ref().map(|snapshot| (snapshot.node(), snapshot.role())),
            events: 0,
        }))
    }
}

/// A deletion that is about to be made: await it, after changing its limit if need be. It says whether there was a snapshot;
/// that there was none is no error.
///
/// The primary takes it whatever the scope says.
///
/// # Errors
///
/// As [`SaveSnapshot`], but for `LogDiverged`: what is to be deleted may be of any history.
///
/// # Cancel safety
///
/// Dropped before it is awaited, nothing happens. Dropped later, the snapshot may be there or not.
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

    /// Replaces the limit of this call, getting a connection included. Defaults to the store's own, which in PostgreSQL is
    /// the router's [`call_timeout`](crate::RouterBuilder::call_timeout).
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.request.timeout = Some(limit);
        self
    }
}

/// The future owns all that it needs: it may be spawned.
impl IntoFuture for DeleteSnapshot<'_> {
    type Output = Result<bool>;
    type IntoFuture = BoxFuture<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        let deleted = self.request.key.validate().map(|()| self.store.run_delete_snapshot(self.request));
        Box::pin(Operation::DeleteSnapshot.tell(async move { deleted?.await }, |_| Done::default()))
    }
}
