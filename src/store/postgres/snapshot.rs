//! Snapshots in PostgreSQL.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use uuid::Uuid;

use super::{
    PostgresEventStore, failure, filter_sql,
    names::LogName,
    read::{floor::ReadNeeds, read_sql::Statement},
    wire::{self, Columns, Line, Micros, Unreadable},
};
use crate::{
    Json, Mark, Role,
    error::{Error, ErrorKind, Result},
    router::{Deadline, Effect, Lease},
    store::{
        Answer, BoxFuture, DeleteSnapshotRequest, LoadSnapshotRequest, ReadAfterSnapshotRequest, SaveSnapshotRequest,
        Saved, Snapshot, SnapshotKey, SnapshotStore,
    },
};

/// The statements.
#[derive(Debug)]
pub(super) struct Statements {
    save: String,
    load: String,
    delete: String,
    read_on: super::FilterStatement,
}

impl Statements {
    pub(super) fn new(name: &LogName) -> Self {
        Self {
            save: name.put_into(include_str!("sql/save_snapshot.sql")),
            load: name.put_into(include_str!("sql/load_snapshot.sql")),
            delete: name.put_into(include_str!("sql/delete_snapshot.sql")),
            read_on: super::FilterStatement::new(name, include_str!("sql/read_on.sql")),
        }
    }
}

impl SnapshotStore for PostgresEventStore {
    fn run_save_snapshot(&self, request: SaveSnapshotRequest) -> BoxFuture<Result<Saved>> {
        let (store, deadline) = (self.clone(), self.deadline(request.timeout));
        Box::pin(async move {
            let saved = save(&store, &request, deadline).await;
            saved.map_err(|error| failure::classify(error, store.name()))
        })
    }

    fn run_load_snapshot(&self, request: LoadSnapshotRequest) -> BoxFuture<Result<Option<Snapshot>>> {
        let (store, deadline) = (self.clone(), self.deadline(request.timeout));
        Box::pin(async move {
            let request = Arc::new(request);
            let load = |lease| load(store.clone(), Arc::clone(&request), lease, deadline);
            let LoadSnapshotRequest { consistency, floor, wants_token, .. } = &*request;
            store.read(ReadNeeds { consistency, floor, wants_token: *wants_token }, deadline, load).await
        })
    }

    fn run_delete_snapshot(&self, request: DeleteSnapshotRequest) -> BoxFuture<Result<bool>> {
        let (store, deadline) = (self.clone(), self.deadline(request.timeout));
        Box::pin(async move {
            let deleted = delete(&store, &request.key, deadline).await;
            deleted.map_err(|error| failure::classify(error, store.name()))
        })
    }

    fn run_read_after_snapshot(&self, request: ReadAfterSnapshotRequest) -> BoxFuture<Result<Answer>> {
        let (store, deadline) = (self.clone(), self.deadline(request.timeout));
        Box::pin(async move {
            let request = Arc::new(request);
            let read = |lease| read_on(store.clone(), Arc::clone(&request), lease, deadline);
            let ReadAfterSnapshotRequest { consistency, floor, wants_token, .. } = &*request;
            store.read(ReadNeeds { consistency, floor, wants_token: *wants_token }, deadline, read).await
        })
    }
}

/// The statement's answer: whether the mark exists, whether the snapshot is saved, and the log's head.
#[derive(Debug)]
pub(super) struct SaveAnswer {
    pub(super) held: bool,
    pub(super) saved: bool,
    pub(super) head: u64,
}

impl SaveAnswer {
    pub(super) fn read(row: &impl Columns) -> Result<Self, Unreadable> {
        let head: Option<i64> = row.get(2)?;
        Ok(Self { held: row.get(0)?, saved: row.get(1)?, head: wire::position(head.unwrap_or(0))? })
    }
}

async fn save(store: &PostgresEventStore, request: &SaveSnapshotRequest, deadline: Deadline) -> Result<Saved> {
    let lease = store.router.lease_primary(deadline).await?;
    let mut judged = try_save(store, request, &lease, deadline).await?;
    // A replica can be ahead: it shows a commit that still waits for its standby here. That append holds the log's lock.
    if !judged.held && request.mark.position() > judged.head {
        store.wait_for_appends(&lease, deadline, Duration::MAX).await?;
        judged = try_save(store, request, &lease, deadline).await?;
    }
    match judged {
        SaveAnswer { held: true, saved: true, .. } => Ok(Saved::Stored),
        SaveAnswer { held: true, saved: false, .. } => Ok(Saved::Outdated),
        SaveAnswer { head, .. } => Err(request.diverged(head).with_node(Arc::clone(lease.node().name()))),
    }
}

async fn try_save(
    store: &PostgresEventStore,
    request: &SaveSnapshotRequest,
    lease: &Lease,
    deadline: Deadline,
) -> Result<SaveAnswer> {
    let SaveSnapshotRequest { key, mark, state, .. } = request;
    let (position, id) = bound(*mark);
    let (version, digest) = (i64::from(key.version()), key.digest());
    let rows = lease
        .query(
            Effect::Write,
            deadline,
            &store.log.snapshots.save,
            &[&key.projection(), &version, &&digest.as_bytes()[..], &position, &id, &state.as_str()],
        )
        .await?;
    // It has been executed, and perhaps saved.
    let unknown = || Error::new(ErrorKind::OutcomeUnknown, "the answer to the save cannot be read");
    let row = rows.first().ok_or_else(unknown)?;
    match SaveAnswer::read(row).map_err(|cause| unknown().with_source(cause))? {
        // A snapshot is saved where the event exists, and nowhere else.
        SaveAnswer { held: false, saved: true, .. } => Err(unknown()),
        judged => Ok(judged),
    }
}

async fn load(
    store: PostgresEventStore,
    request: Arc<LoadSnapshotRequest>,
    lease: Arc<Lease>,
    deadline: Deadline,
) -> Result<Option<Snapshot>> {
    let key = &request.key;
    let (version, digest) = (i64::from(key.version()), key.digest());
    let rows = lease
        .query(
            Effect::Read,
            deadline,
            &store.log.snapshots.load,
            &[&key.projection(), &version, &&digest.as_bytes()[..]],
        )
        .await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let node = lease.node();
    match Loaded::read(row).map_err(wire::unreadable)? {
        Loaded { mark, state: Some(state), saved_at, .. } => {
            let snapshot = Snapshot::new(mark, Json::from_stored(state), saved_at);
            let snapshot = snapshot.served_by(Arc::clone(node.name()), lease.role());
            Ok(Some(snapshot.with_token(store.token_after_read(&lease, request.wants_token))))
        }
        Loaded { mark, head, .. } => Err(request.diverged(mark, head).with_node(Arc::clone(node.name()))),
    }
}

/// The statement's columns of a snapshot.
#[derive(Debug)]
pub(super) struct Loaded<'a> {
    mark: Mark,
    /// If the log holds the mark.
    state: Option<&'a str>,
    saved_at: SystemTime,
    head: u64,
}

impl<'a> Loaded<'a> {
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn mark(&self) -> Mark {
        self.mark
    }

    pub(super) fn read(row: &'a impl Columns) -> Result<Self, Unreadable> {
        let head: Option<i64> = row.get(5)?;
        let held: bool = row.get(2)?;
        let state: Option<&str> = row.get(3)?;
        if held != state.is_some() {
            return Err(Unreadable::Half("the state of a snapshot"));
        }
        Ok(Self {
            mark: wire::mark(row, 0)?.ok_or(Unreadable::Null("the mark of a snapshot"))?,
            state,
            saved_at: row.get::<Micros>(4)?.time()?,
            head: wire::position(head.unwrap_or(0))?,
        })
    }
}

async fn delete(store: &PostgresEventStore, key: &SnapshotKey, deadline: Deadline) -> Result<bool> {
    let lease = store.router.lease_primary(deadline).await?;
    let (version, digest) = (i64::from(key.version()), key.digest());
    let deleted = lease
        .execute(
            Effect::Write,
            deadline,
            &store.log.snapshots.delete,
            &[&key.projection(), &version, &&digest.as_bytes()[..]],
        )
        .await?;
    Ok(deleted > 0)
}

async fn read_on(
    store: PostgresEventStore,
    request: Arc<ReadAfterSnapshotRequest>,
    lease: Arc<Lease>,
    deadline: Deadline,
) -> Result<Answer> {
    let (position, id) = bound(request.mark);
    let mut params: Vec<filter_sql::Param<'_>> = vec![Box::new(position), Box::new(id)];
    let search = store.log.searches.bounded(&request.filter, &mut params);
    let sql = store.log.snapshots.read_on.with(&search.condition);
    let rows = Statement { sql, planning: search.planning, params, watched: None }.ask(&lease, deadline).await?;
    let (mut head, mut held, mut events) = (None, false, Vec::with_capacity(rows.len().saturating_sub(1)));
    for row in &rows {
        match wire::line(row).map_err(wire::unreadable)? {
            Line::Head(mark) => {
                head = Some(mark);
                held = row.try_get(12).map_err(|error| wire::unreadable(error.into()))?;
            }
            Line::Event(event) => events.push(event),
        }
    }
    wire::up_to_head(head, &events)?;
    let node = lease.node();
    let end = head.map_or(0, |head: Mark| head.position());
    let behind = lease.role() == Role::Replica && end < request.mark.position();
    if !held && !behind {
        return Err(request.diverged(end).with_node(Arc::clone(node.name())));
    }
    let answer = Answer::new(events, head).served_by(Arc::clone(node.name()), lease.role());
    // On a node that lags behind it, the state has still seen the snapshot's event.
    let token = if held { store.seen(&lease, head) } else { store.token(lease.system(), request.mark, None) };
    Ok(answer.with_token(token))
}

fn bound(mark: Mark) -> (i64, Uuid) {
    (wire::position_param(mark.position()), mark.id().into())
}
