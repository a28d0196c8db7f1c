//! Reading from the log in PostgreSQL.

use std::sync::Arc;

use super::{PostgresEventStore, failure, filter_sql, wire};
use crate::{
    error::Result,
    router::{Deadline, Effect, Lease},
    store::{Answer, QueryRequest},
};

/// Carries a query out, on a node that its level allows.
pub(super) async fn run(store: PostgresEventStore, request: QueryRequest, deadline: Deadline) -> Result<Answer> {
    let request = Arc::new(request);
    let read = |lease| read(store.clone(), Arc::clone(&request), lease, deadline);
    let answer = store.router.read(&request.consistency, deadline, read).await;
    answer.map_err(|error| failure::classify(error, store.name()))
}

async fn read(
    store: PostgresEventStore,
    request: Arc<QueryRequest>,
    lease: Lease,
    deadline: Deadline,
) -> Result<Answer> {
    let mut params = Vec::new();
    let filter = filter_sql::selection(&request.filter, request.bounds, &mut params);
    let sql = store.log.query.with(&filter);
    let rows = lease.query(Effect::Read, deadline, &sql, &filter_sql::bound(&params)?).await?;
    let head = match rows.first() {
        Some(row) => wire::mark(row, 0).map_err(wire::unreadable)?,
        None => None,
    };
    let events = rows.iter().filter_map(|row| wire::event(row, 2).transpose());
    let events = events.collect::<Result<Vec<_>, _>>().map_err(wire::unreadable)?;
    Ok(Answer::new(events, head).served_by(Arc::clone(lease.node().name()), lease.node().role()))
}
