//! Loading a fixed stream from the log in PostgreSQL.

use std::sync::Arc;

use super::{PostgresEventStore, failure, wire};
use crate::{
    error::Result,
    router::{Deadline, Effect, Lease},
    store::{LoadAnswer, LoadRequest},
};

/// Carries a load out, on a node that its level allows.
pub(super) async fn run(store: PostgresEventStore, request: LoadRequest, deadline: Deadline) -> Result<LoadAnswer> {
    let request = Arc::new(request);
    let load = |lease| load(store.clone(), Arc::clone(&request), lease, deadline);
    let answer = store.router.read(&request.consistency, deadline, load).await;
    answer.map_err(|error| failure::classify(error, store.name()))
}

async fn load(
    store: PostgresEventStore,
    request: Arc<LoadRequest>,
    lease: Lease,
    deadline: Deadline,
) -> Result<LoadAnswer> {
    let after = wire::position_param(request.after_version);
    let before = request.before_version.map_or(i64::MAX, wire::position_param);
    let limit = request.limit.map(wire::position_param);
    let sql = &store.log.load_stream[usize::from(request.newest_first)];
    let rows = lease.query(Effect::Read, deadline, sql, &[&&*request.stream, &after, &before, &limit]).await?;
    let version = match rows.first() {
        Some(row) => row.try_get(0).map_err(Into::into).and_then(wire::position).map_err(wire::unreadable)?,
        None => 0,
    };
    let events = rows.iter().filter_map(|row| wire::event(row, 1).transpose());
    let events = events.collect::<Result<Vec<_>, _>>().map_err(wire::unreadable)?;
    Ok(LoadAnswer::new(events, version).served_by(Arc::clone(lease.node().name()), lease.node().role()))
}
