//! Reading from the log in PostgreSQL in one answer: events, their number, their existence.

use std::sync::Arc;

use tokio_postgres::types::FromSqlOwned;

use super::{
    read_sql::{First, NEAR, Statement},
    shared_reads::Request,
};
use crate::{
    error::Result,
    router::{Deadline, Lease},
    store::{
        Answer, QueryRequest, Served,
        postgres::{
            PostgresEventStore,
            wire::{self, Line},
        },
    },
};

/// Executes a query, on a node that its level allows, for this caller or for all that request the same.
pub(in crate::store::postgres) async fn run(
    store: PostgresEventStore,
    request: QueryRequest,
    deadline: Deadline,
) -> Result<Answer> {
    let queries = Arc::clone(&store.shared.queries);
    let query = move |request, deadline| query(store.clone(), request, deadline);
    queries.answer(request, deadline, query).await
}

async fn query(store: PostgresEventStore, request: Arc<QueryRequest>, deadline: Deadline) -> Result<Answer> {
    let read = |lease| read(store.clone(), Arc::clone(&request), lease, deadline);
    store.read(request.asked(), deadline, read).await
}

async fn read(
    store: PostgresEventStore,
    request: Arc<QueryRequest>,
    lease: Arc<Lease>,
    deadline: Deadline,
) -> Result<Answer> {
    if let Some(after) = store.known.seen.is_near(&request) {
        let answer = answer(&store, &lease, &store.log.read.near(&request, after), deadline).await?;
        store.known.seen.head(answer.head);
        if answer.head.is_none_or(|head| head.position() <= after.saturating_add(NEAR)) {
            return Ok(answer);
        }
    }
    let answer = answer(&store, &lease, &store.log.read.query(&request, First::Head), deadline).await?;
    store.known.seen.head(answer.head);
    Ok(answer)
}

async fn answer(
    store: &PostgresEventStore,
    lease: &Lease,
    statement: &Statement<'_>,
    deadline: Deadline,
) -> Result<Answer> {
    let lines = statement.ask_for(lease, deadline, wire::line).await?;
    let (mut head, mut events) = (None, Vec::with_capacity(lines.len()));
    for line in lines {
        match line {
            Line::Head(mark) => head = Some(mark),
            Line::Event(event) => events.push(event),
        }
    }
    wire::up_to_head(head, &events)?;
    let answer = Answer::new(events, head).served_by(Arc::clone(lease.node().name()), lease.role());
    Ok(answer.with_token(store.seen(lease, head)))
}

pub(in crate::store::postgres) async fn count(
    store: PostgresEventStore,
    request: QueryRequest,
    deadline: Deadline,
) -> Result<Served<u64>> {
    let counts = Arc::clone(&store.shared.counts);
    let count = move |request, deadline| {
        let counted = ask(store.clone(), request, deadline, |store, request| store.log.read.count(request));
        async move {
            let served = counted.await?;
            let counted = wire::position(*served).map_err(wire::unreadable)?;
            let token = served.token().clone();
            Ok(Served::new(counted).served_by(served.node(), served.role()).with_token(token))
        }
    };
    counts.answer(request, deadline, count).await
}

pub(in crate::store::postgres) async fn exists(
    store: PostgresEventStore,
    request: QueryRequest,
    deadline: Deadline,
) -> Result<Served<bool>> {
    let reads = Arc::clone(&store.shared.exists);
    let exists =
        move |request, deadline| ask(store.clone(), request, deadline, |store, request| store.log.read.exists(request));
    reads.answer(request, deadline, exists).await
}

/// Queries one value.
async fn ask<T: FromSqlOwned>(
    store: PostgresEventStore,
    request: Arc<QueryRequest>,
    deadline: Deadline,
    statement: for<'a> fn(&PostgresEventStore, &'a QueryRequest) -> Statement<'a>,
) -> Result<Served<T>> {
    let (store, request) = (&store, &*request);
    let ask = |lease: Arc<Lease>| async move {
        let rows = statement(store, request).ask(&lease, deadline).await?;
        let value = rows.first().map(|row| row.try_get::<_, T>(0)).transpose();
        let value = value.map_err(|error| wire::unreadable(error.into()))?.ok_or_else(wire::no_row)?;
        let served = Served::new(value).served_by(Arc::clone(lease.node().name()), lease.role());
        Ok(served.with_token(store.token_after_read(&lease, request.wants_token)))
    };
    store.read(request.asked(), deadline, ask).await
}
