//! Appending to the log in PostgreSQL.

use std::sync::Arc;

use tokio_postgres::{Row, types::ToSql};
use uuid::Uuid;

use super::{
    PostgresEventStore, failure, filter_sql,
    wire::{self, JsonText, Micros, Unreadable},
};
use crate::{
    NewEvent,
    error::{Error, ErrorKind, Result},
    router::{Deadline, Effect, Lease},
    store::{
        AppendRequest, Appended,
        condition::{After, Guard},
        refusal,
    },
};

/// Carries an append out.
pub(super) async fn run(store: PostgresEventStore, request: AppendRequest, deadline: Deadline) -> Result<Appended> {
    let AppendRequest { events, condition, .. } = request;
    let appended = append(&store, &events, condition.guard(), deadline).await;
    appended.map_err(|error| failure::classify(error, store.name()))
}

async fn append(
    store: &PostgresEventStore,
    events: &[NewEvent],
    guard: Option<&Guard>,
    deadline: Deadline,
) -> Result<Appended> {
    let lease = store.router.lease_primary(deadline).await?;
    let ids: Vec<Uuid> = events.iter().map(|event| event.id().into()).collect();
    let mut after = guard.map(|guard| guard.after);
    loop {
        // A condition on the whole log would be far, unless the log is short: then this judgement is short, too.
        if let (Some(guard), Some(After::Beginning)) = (guard, after) {
            after = Some(judge(store, guard, After::Beginning, &ids, &lease, deadline).await?);
        }
        let outcome = call(store, events, &ids, guard, after, &lease, deadline).await?;
        if let Some(appended) = outcome {
            return Ok(appended.served_by(Arc::clone(lease.node().name())));
        }
        let (Some(guard), Some(from)) = (guard, after) else {
            return Err(unknown_outcome("far, without a condition"));
        };
        after = Some(judge(store, guard, from, &ids, &lease, deadline).await?);
    }
}

/// The one statement that locks, judges and writes; `None` when the condition reaches too far back to be judged there.
async fn call(
    store: &PostgresEventStore,
    events: &[NewEvent],
    ids: &[Uuid],
    guard: Option<&Guard>,
    after: Option<After>,
    lease: &Lease,
    deadline: Deadline,
) -> Result<Option<Appended>> {
    let types: Vec<&str> = events.iter().map(NewEvent::event_type).collect();
    let tags: Vec<String> = events.iter().map(|event| filter_sql::texts_json(event.tags())).collect();
    let tags: Vec<JsonText<'_>> = tags.iter().map(|tags| JsonText(tags)).collect();
    let payloads: Vec<JsonText<'_>> = events.iter().map(|event| JsonText(event.payload().as_str())).collect();
    let metadata: Vec<JsonText<'_>> = events.iter().map(|event| JsonText(event.metadata().as_str())).collect();
    let occurred_at: Vec<Micros> = events.iter().map(|event| Micros::of(event.occurred_at())).collect();
    let items = guard.map(|guard| filter_sql::items_json(&guard.filter));
    let items = items.as_deref().map(JsonText);
    let after = after.unwrap_or(After::Beginning);
    let after_position = wire::position_param(after.position());
    let after_id: Option<Uuid> = after.mark().map(|mark| mark.id().into());
    let lock_timeout = lock_timeout_ms(deadline);
    let params: [&(dyn ToSql + Sync); 10] =
        [&ids, &types, &tags, &payloads, &metadata, &occurred_at, &items, &after_position, &after_id, &lock_timeout];
    let rows = lease.query(Effect::Append, deadline, &store.log.append, &params).await?;
    let row = rows.first().ok_or_else(|| unknown_outcome("no row"))?;
    judged(row, events, after).map_err(|error| match error.node() {
        Some(_) => error,
        None => error.with_node(Arc::clone(lease.node().name())),
    })
}

fn judged(row: &Row, events: &[NewEvent], after: After) -> Result<Option<Appended>> {
    let read = |row: &Row| -> Result<_, Unreadable> {
        let outcome: &str = row.try_get(0)?;
        let position: Option<i64> = row.try_get(1)?;
        let event_type: Option<String> = row.try_get(2)?;
        Ok((outcome.to_owned(), wire::position(position.unwrap_or(0))?, event_type))
    };
    let (outcome, position, event_type) = read(row).map_err(|cause| unknown_outcome("something").with_source(cause))?;
    match outcome.as_str() {
        "appended" => Ok(Some(Appended::new(position, events))),
        "repeated" => Ok(Some(Appended::new(position, events).as_repeated())),
        "far" => Ok(None),
        "conflict" => Err(refusal::conflict(position, event_type.unwrap_or_default())),
        "diverged" => Err(refusal::diverged(after, position)),
        "reused" => Err(refusal::reused(position)),
        other => Err(unknown_outcome(other)),
    }
}

/// Judges a condition that reaches far back, without the lock; what is returned is the log's head, from where on the
/// lock's holder has to look.
///
/// If the events are there already, the condition says nothing: their first append may have broken it itself. Whether
/// the log holds what the condition is based on, the procedure has looked at before it said that it is far.
async fn judge(
    store: &PostgresEventStore,
    guard: &Guard,
    after: After,
    ids: &[Uuid],
    lease: &Lease,
    deadline: Deadline,
) -> Result<After> {
    let position = wire::position_param(after.position());
    let mut params: Vec<filter_sql::Param<'_>> = vec![Box::new(position), Box::new(ids)];
    let filter = filter_sql::filter(&guard.filter, &mut params);
    let sql = store.log.judge.with(&filter);
    let rows = lease.query(Effect::Read, deadline, &sql, &filter_sql::bound(&params)?).await?;
    let read = |row: &Row| -> Result<_, Unreadable> {
        let broken_at: Option<i64> = row.try_get(2)?;
        let broken_type: Option<String> = row.try_get(3)?;
        let repeated: bool = row.try_get(4)?;
        Ok((wire::mark(row, 0)?, broken_at.map(wire::position).transpose()?, broken_type, repeated))
    };
    let row = rows.first().map(read).transpose().map_err(wire::unreadable)?;
    let (head, broken_at, broken_type, repeated) = row.unwrap_or_default();
    match (broken_at, broken_type) {
        (Some(position), Some(event_type)) if !repeated => {
            Err(refusal::conflict(position, event_type).with_node(Arc::clone(lease.node().name())))
        }
        _ => Ok(head.map_or(After::Position(0), After::Mark)),
    }
}

/// The lock is waited for no longer than this, so that its error is there before the call's limit makes the outcome
/// unknown.
fn lock_timeout_ms(deadline: Deadline) -> i32 {
    let limit = deadline.remaining().mul_f64(0.8).as_millis();
    i32::try_from(limit).unwrap_or(i32::MAX).max(1)
}

/// The procedure has run, and perhaps committed.
fn unknown_outcome(what: &str) -> Error {
    let message = format!("the append procedure answered {what:?}, which this version does not know");
    Error::new(ErrorKind::OutcomeUnknown, message)
}
