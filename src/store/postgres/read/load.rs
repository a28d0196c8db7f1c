//! Loading a fixed stream from the log in PostgreSQL.

use std::sync::Arc;

use super::shared_reads::Request;
use crate::{
    error::Result,
    router::{Deadline, Effect, Lease},
    store::{
        LoadStreamAnswer, LoadStreamRequest,
        postgres::{
            PostgresEventStore,
            wire::{self, Line},
        },
    },
};

/// Executes a load, on a node that its level allows, for this caller or for all that load the same.
pub(in crate::store::postgres) async fn run(
    store: PostgresEventStore,
    request: LoadStreamRequest,
    deadline: Deadline,
) -> Result<LoadStreamAnswer> {
    let loads = Arc::clone(&store.shared.loads);
    let read = move |request, deadline| read(store.clone(), request, deadline);
    loads.answer(request, deadline, read).await
}

async fn read(
    store: PostgresEventStore,
    request: Arc<LoadStreamRequest>,
    deadline: Deadline,
) -> Result<LoadStreamAnswer> {
    let load = |lease| load(store.clone(), Arc::clone(&request), lease, deadline);
    store.read(request.asked(), deadline, load).await
}

async fn load(
    store: PostgresEventStore,
    request: Arc<LoadStreamRequest>,
    lease: Arc<Lease>,
    deadline: Deadline,
) -> Result<LoadStreamAnswer> {
    let after = wire::position_param(request.after_version);
    let before = request.before_version.map_or(i64::MAX, wire::position_param);
    let limit = request.limit.map(wire::position_param);
    let sql = store.log.read.load(request.order);
    let rows = lease.query(Effect::Read, deadline, sql, &[&&*request.stream, &after, &before, &limit]).await?;
    let (mut last, mut version) = (None, 0);
    let mut events = Vec::with_capacity(rows.len().saturating_sub(1));
    for row in &rows {
        match wire::line(row).map_err(wire::unreadable)? {
            Line::Head(mark) => {
                (last, version) = (Some(mark.id()), wire::version(row).map_err(wire::unreadable)?);
            }
            Line::Event(event) => events.push(event),
        }
    }
    if events.iter().any(|event| event.stream().is_none_or(|stream| stream.version() > version)) {
        return Err(wire::no_row());
    }
    let answer = LoadStreamAnswer::new(events, version).served_by(Arc::clone(lease.node().name()), lease.role());
    Ok(answer.with_last(last).with_token(store.token_after_read(&lease, request.wants_token)))
}
