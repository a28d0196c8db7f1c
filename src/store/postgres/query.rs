//! Reading from the log in PostgreSQL at once: events, their number, their existence.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tokio_postgres::types::FromSqlOwned;

use super::{
    PostgresEventStore,
    floor::Asked,
    read_sql::{First, NEAR, Statement},
    wire::{self, Line},
};
use crate::{
    Mark,
    error::Result,
    router::{Deadline, Effect, Lease},
    store::{Answer, Order, QueryRequest, Served},
};

/// Carries a query out, on a node that its level allows.
pub(super) async fn run(store: PostgresEventStore, request: QueryRequest, deadline: Deadline) -> Result<Answer> {
    let request = Arc::new(request);
    let read = |lease| read(store.clone(), Arc::clone(&request), lease, deadline);
    store.read(asked(&request), deadline, read).await
}

/// What the query asks for besides its events.
pub(super) fn asked(request: &QueryRequest) -> Asked<'_> {
    let QueryRequest { consistency, floor, wants_token, .. } = request;
    Asked { consistency, floor, wants_token: *wants_token }
}

async fn read(
    store: PostgresEventStore,
    request: Arc<QueryRequest>,
    lease: Arc<Lease>,
    deadline: Deadline,
) -> Result<Answer> {
    if let Some(after) = store.seen.is_near(&request) {
        let answer = answer(&store, &lease, &store.log.read.near(&request, after), deadline).await?;
        store.seen.head(answer.head);
        if answer.head.is_none_or(|head| head.position() <= after.saturating_add(NEAR)) {
            return Ok(answer);
        }
    }
    let answer = answer(&store, &lease, &store.log.read.query(&request, First::Head), deadline).await?;
    store.seen.head(answer.head);
    Ok(answer)
}

async fn answer(
    store: &PostgresEventStore,
    lease: &Lease,
    statement: &Statement<'_>,
    deadline: Deadline,
) -> Result<Answer> {
    let rows = match statement.planned_once {
        true => lease.query_planned_once(deadline, &statement.sql, &statement.params()?).await?,
        false => lease.query(Effect::Read, deadline, &statement.sql, &statement.params()?).await?,
    };
    let (mut head, mut events) = (None, Vec::with_capacity(rows.len().saturating_sub(1)));
    for row in &rows {
        match wire::line(row).map_err(wire::unreadable)? {
            Line::Head(mark) => head = Some(mark),
            Line::Event(event) => events.push(event),
        }
    }
    let answer = Answer::new(events, head).served_by(Arc::clone(lease.node().name()), lease.role());
    Ok(answer.with_token(store.seen(lease, head)))
}

/// Where the log has been seen to end. It may end further on by now, or have lost what was seen: this only chooses between
/// statements that give the same answer.
#[derive(Debug, Default)]
pub(super) struct Seen(AtomicU64);

impl Seen {
    pub(super) fn head(&self, head: Option<Mark>) {
        self.0.fetch_max(head.map_or(0, |head| head.position()), Ordering::Relaxed);
    }

    /// Behind which position all is asked for, if few events seem to be there.
    fn is_near(&self, request: &QueryRequest) -> Option<u64> {
        let whole = request.limit.is_none() && request.order == Order::OldestFirst;
        let head = self.0.load(Ordering::Relaxed);
        request.bounds.after.filter(|after| whole && head > 0 && head.saturating_sub(*after) <= NEAR)
    }
}

pub(super) async fn count(store: PostgresEventStore, request: QueryRequest, deadline: Deadline) -> Result<Served<u64>> {
    let served = ask(&store, &request, deadline, |store, request| store.log.read.count(request)).await?;
    let counted = wire::position(*served).map_err(wire::unreadable)?;
    let token = served.token().clone();
    Ok(Served::new(counted).served_by(served.node(), served.role()).with_token(token))
}

pub(super) async fn exists(
    store: PostgresEventStore,
    request: QueryRequest,
    deadline: Deadline,
) -> Result<Served<bool>> {
    ask(&store, &request, deadline, |store, request| store.log.read.exists(request)).await
}

/// Asks for one value.
async fn ask<T: FromSqlOwned>(
    store: &PostgresEventStore,
    request: &QueryRequest,
    deadline: Deadline,
    statement: for<'a> fn(&PostgresEventStore, &'a QueryRequest) -> Statement<'a>,
) -> Result<Served<T>> {
    let ask = |lease: Arc<Lease>| async move {
        let statement = statement(store, request);
        let rows = lease.query(Effect::Read, deadline, &statement.sql, &statement.params()?).await?;
        let value = rows.first().map(|row| row.try_get::<_, T>(0)).transpose();
        let value = value.map_err(|error| wire::unreadable(error.into()))?.ok_or_else(wire::no_row)?;
        let served = Served::new(value).served_by(Arc::clone(lease.node().name()), lease.role());
        Ok(served.with_token(store.seen_behind(&lease)))
    };
    store.read(asked(request), deadline, ask).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Filter;

    #[test]
    fn few_events_behind_a_position_are_near() {
        let seen = Seen::default();
        let request = |after| QueryRequest::new(&Filter::any_event().after_position(after));
        assert_eq!(seen.is_near(&request(5)), None, "nothing has been seen");
        seen.0.store(1000, Ordering::Relaxed);
        assert_eq!(seen.is_near(&request(1000 - NEAR)), Some(1000 - NEAR));
        assert_eq!(seen.is_near(&request(5000)), Some(5000));
        assert_eq!(seen.is_near(&request(999 - NEAR)), None);
        assert_eq!(seen.is_near(&QueryRequest::new(&Filter::any_event())), None);
        assert_eq!(seen.is_near(&QueryRequest { limit: Some(1), ..request(1000) }), None);
        assert_eq!(seen.is_near(&QueryRequest { order: Order::NewestFirst, ..request(1000) }), None);
    }
}
