//! Appending under a condition.

use std::{collections::HashSet, future::IntoFuture, ops::RangeInclusive, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use tokio_postgres::{Row, error::SqlState, types::ToSql};
use uuid::Uuid;

use super::{
    PostgresEventStore, failure, filter_sql,
    wire::{self, JsonText, Micros, Unreadable},
};
use crate::{
    AppendCondition, Mark, NewEvent,
    error::{Conflict, Error, ErrorKind, Result},
    router::{Deadline, Effect, Lease},
    store::condition::{After, Guard},
};

/// An append that is about to be made: await it, after changing its limit if need be.
///
/// All events are written, at positions that follow each other, or none. The primary takes it whatever the scope says:
/// there is nowhere else to write.
///
/// Repeating it is safe: a second append of the same events (the same ids, content and order) writes nothing and
/// returns the positions of the first. That is what to do when the outcome is unknown.
///
/// # Errors
///
/// - [`Conflict`](ErrorKind::Conflict): the condition does not hold any more; [`Error::conflict`] says which event broke
///   it. Nothing was written.
/// - [`InvalidInput`](ErrorKind::InvalidInput): an event cannot be stored, some of the ids are taken by other events,
///   there are none to append, or [too much](Self::MAX_LEN). Nothing was written.
/// - [`LogDiverged`](ErrorKind::LogDiverged): the log does not hold the event that the condition is based on. Nothing
///   was written.
/// - [`Timeout`](ErrorKind::Timeout), [`Unavailable`](ErrorKind::Unavailable): nothing was written.
/// - [`OutcomeUnknown`](ErrorKind::OutcomeUnknown): the answer was lost. Make the same append again.
/// - [`Schema`](ErrorKind::Schema): the log's tables are not there.
///
/// # Cancel safety
///
/// Dropped before it is awaited, nothing happens. Dropped later, the events are written whole or not at all, and the same
/// append, made again, tells.
#[derive(Debug)]
#[must_use = "an append does nothing until it is awaited"]
pub struct Append {
    store: PostgresEventStore,
    events: Vec<NewEvent>,
    condition: AppendCondition,
    timeout: Duration,
}

/// What an append has written, or had written before.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Appended {
    /// The positions of the events, in their order.
    pub positions: RangeInclusive<u64>,
    /// Whether they had been there already: this append repeats an earlier one whose answer was lost.
    pub repeated: bool,
}

impl Append {
    /// The most text of one append, types, tags, payloads and metadata together, in bytes: 64 MiB.
    ///
    /// All of it is one message, written while the log is locked: a larger one would hold up every other append, and
    /// beyond a gigabyte the server drops the connection without an answer.
    pub const MAX_LEN: usize = 64 * 1024 * 1024;

    pub(super) fn new(store: PostgresEventStore, events: Vec<NewEvent>, condition: AppendCondition) -> Self {
        let timeout = store.router.call_timeout();
        Self { store, events, condition, timeout }
    }

    /// Replaces the limit of this call, getting a connection and waiting for the log's lock included. Defaults to the
    /// router's [`call_timeout`](crate::RouterBuilder::call_timeout).
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = limit;
        self
    }
}

impl IntoFuture for Append {
    type Output = Result<Appended>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            check(&self.events)?;
            let Self { store, events, condition, timeout } = self;
            let deadline = Deadline::after(timeout);
            let appended = append(&store, &events, condition.guard(), deadline).await;
            appended.map_err(|error| failure::classify(error, store.name()))
        })
    }
}

/// What can be told before anything is sent.
fn check(events: &[NewEvent]) -> Result<()> {
    if events.is_empty() {
        return Err(Error::invalid_input("there are no events to append"));
    }
    NewEvent::validate_all(events)?;
    let len = |event: &NewEvent| {
        let tags: usize = event.tags().map(str::len).sum();
        event.event_type().len() + tags + event.payload().as_str().len() + event.metadata().as_str().len()
    };
    let len: usize = events.iter().map(len).sum();
    if len > Append::MAX_LEN {
        return Err(Error::invalid_input(format!(
            "the {} events have {len} bytes, more than the limit of {} for one append",
            events.len(),
            Append::MAX_LEN
        )));
    }
    let mut ids = HashSet::with_capacity(events.len());
    match events.iter().find(|event| !ids.insert(event.id())) {
        Some(twice) => Err(Error::invalid_input(format!("two events of the append have the id {}", twice.id()))),
        None => Ok(()),
    }
}

async fn append(
    store: &PostgresEventStore,
    events: &[NewEvent],
    guard: Option<&Guard>,
    deadline: Deadline,
) -> Result<Appended> {
    let lease = store.router.lease_primary(deadline).await?;
    let mut after = guard.map(|guard| guard.after);
    loop {
        // A condition that looks at the whole log is far by definition, unless the log is short: then the judgement
        // before the lock is short, too.
        if let (Some(guard), Some(After::Beginning)) = (guard, after) {
            after = Some(judge(store, guard, After::Beginning, &lease, deadline).await?);
        }
        match call(store, events, guard, after, &lease, deadline).await? {
            Outcome::Appended(appended) => return Ok(appended),
            Outcome::Far => {
                let (Some(guard), Some(from)) = (guard, after) else {
                    return Err(unknown_outcome("far, without a condition"));
                };
                after = Some(judge(store, guard, from, &lease, deadline).await?);
            }
        }
    }
}

enum Outcome {
    Appended(Appended),
    Far,
}

/// The one statement that locks, judges and writes.
async fn call(
    store: &PostgresEventStore,
    events: &[NewEvent],
    guard: Option<&Guard>,
    after: Option<After>,
    lease: &Lease,
    deadline: Deadline,
) -> Result<Outcome> {
    let ids: Vec<Uuid> = events.iter().map(|event| event.id().into()).collect();
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
    let rows = lease.query(Effect::Write, deadline, &store.log.append, &params).await.map_err(cancelled)?;
    let row = rows.first().ok_or_else(|| unknown_outcome("no row"))?;
    judged(row, events, after).map_err(|error| match error.node() {
        Some(_) => error,
        None => error.with_node(Arc::clone(lease.node().name())),
    })
}

fn judged(row: &Row, events: &[NewEvent], after: After) -> Result<Outcome> {
    let read = |row: &Row| -> Result<_, Unreadable> {
        let outcome: &str = row.try_get(0)?;
        let position: Option<i64> = row.try_get(1)?;
        let event_type: Option<String> = row.try_get(2)?;
        Ok((outcome.to_owned(), wire::position(position.unwrap_or(0))?, event_type))
    };
    let (outcome, position, event_type) = read(row).map_err(wire::unreadable)?;
    match outcome.as_str() {
        "appended" | "repeated" => {
            let positions = position..=position + events.len() as u64 - 1;
            Ok(Outcome::Appended(Appended { positions, repeated: outcome == "repeated" }))
        }
        "far" => Ok(Outcome::Far),
        "conflict" => Err(conflict(position, event_type.unwrap_or_default())),
        "diverged" => Err(diverged(after, position)),
        "reused" => Err(Error::invalid_input(format!(
            "the log holds an event with one of these ids, at position {position}, but not these events: ids are never \
             used again, and an append is repeated whole and unchanged"
        ))),
        other => Err(unknown_outcome(other)),
    }
}

/// Judges a condition that reaches far back, without the lock; what is returned is the log's head, from where on the
/// lock's holder has to look.
async fn judge(
    store: &PostgresEventStore,
    guard: &Guard,
    after: After,
    lease: &Lease,
    deadline: Deadline,
) -> Result<After> {
    let position = wire::position_param(after.position());
    let mut params: Vec<filter_sql::Param<'_>> = vec![Box::new(position)];
    let filter = filter_sql::filter(&guard.filter, &mut params);
    let sql = store.log.judge.with(&filter);
    let rows = lease.query(Effect::Read, deadline, &sql, &filter_sql::bound(&params)?).await?;
    let read = |row: &Row| -> Result<_, Unreadable> {
        let there: Option<Uuid> = row.try_get(2)?;
        let broken_at: Option<i64> = row.try_get(3)?;
        let broken_type: Option<String> = row.try_get(4)?;
        Ok((wire::mark(row, 0)?, there, broken_at.map(wire::position).transpose()?, broken_type))
    };
    let row = rows.first().map(read).transpose().map_err(wire::unreadable)?;
    let (head, there, broken_at, broken_type) = row.unwrap_or_default();
    let head_position = head.map_or(0, |mark: Mark| mark.position());
    let expected: Option<Uuid> = after.mark().map(|mark| mark.id().into());
    let error = if after.position() > head_position || (expected.is_some() && expected != there) {
        diverged(after, head_position)
    } else if let (Some(position), Some(event_type)) = (broken_at, broken_type) {
        conflict(position, event_type)
    } else {
        return Ok(head.map_or(After::Position(0), After::Mark));
    };
    Err(error.with_node(Arc::clone(lease.node().name())))
}

/// The lock is waited for no longer than this, so that its error is there before the call's limit makes the outcome
/// unknown.
fn lock_timeout_ms(deadline: Deadline) -> i32 {
    let limit = deadline.remaining().mul_f64(0.8).as_millis();
    i32::try_from(limit).unwrap_or(i32::MAX).max(1)
}

/// A cancel can arrive behind the procedure's COMMIT, and then the error tells nothing about what was written.
fn cancelled(error: Error) -> Error {
    if error.sqlstate() != Some(SqlState::QUERY_CANCELED.code()) {
        return error;
    }
    let message =
        format!("the server was told to cancel the append, perhaps when it had committed: {}", error.message());
    error.reworded(ErrorKind::OutcomeUnknown, message)
}

fn conflict(position: u64, event_type: String) -> Error {
    let message = format!(
        "the condition does not hold any more: an event of type {event_type:?} that matches it is at position {position}"
    );
    Error::new(ErrorKind::Conflict, message).with_conflict(Conflict { position, event_type })
}

fn diverged(after: After, head: u64) -> Error {
    let expected = match after {
        After::Mark(mark) => format!("the event {mark}"),
        After::Beginning | After::Position(_) => format!("position {}", after.position()),
    };
    let message = format!(
        "the log, which ends at position {head}, does not hold {expected} that the condition is based on: it was \
         restored, or events were lost in a failover; read again"
    );
    Error::new(ErrorKind::LogDiverged, message)
}

fn unknown_outcome(what: &str) -> Error {
    let message = format!("the append procedure answered {what:?}, which this version does not know");
    Error::new(ErrorKind::Schema, message)
}
