//! Judging a condition that reaches far back, before the lock.

use std::sync::Arc;

use tokio_postgres::Row;
use uuid::Uuid;

use super::{
    PostgresEventStore,
    filter_sql::{self, Param},
    prepared::PreparedGuard,
    wire::{self, Unreadable},
};
use crate::{
    Filter, NewEvent,
    error::Result,
    filter::Bounds,
    router::{Deadline, Effect},
    store::{condition::After, refusal},
};

/// Judges a condition that reaches far back, without the lock; what is returned is the log's head, from where on the
/// lock's holder has to look.
///
/// If the events are there already, the condition says nothing: their first append may have broken it itself. Whether
/// the log holds what the condition is based on, the procedure has looked at before it said that it is far.
pub(super) async fn judge(
    store: &PostgresEventStore,
    guard: &PreparedGuard,
    after: After,
    events: &[NewEvent],
    deadline: Deadline,
) -> Result<After> {
    let _right = store.group.judge(deadline).await?;
    let lease = store.router.lease_primary(deadline).await?;
    let ids: Vec<Uuid> = events.iter().map(|event| event.id().into()).collect();
    let (sql, params) = store.judgement(&guard.filter, after, &ids);
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

impl PostgresEventStore {
    /// The statement that looks for an event that matches, behind this place, and for the ids of the append itself.
    pub(super) fn judgement<'a>(&self, filter: &'a Filter, after: After, ids: &'a [Uuid]) -> (String, Vec<Param<'a>>) {
        let mut params: Vec<Param<'a>> = vec![Box::new(ids)];
        // A bound that lets everything through could still tempt the planner to use the primary key for it.
        let after = (after.position() > 0).then_some(after.position());
        let bounds = Bounds { after, ..Bounds::default() };
        let mut selection = filter_sql::selection(filter, bounds, &self.log.keys, &mut params);
        if filter.items().is_none() {
            // Here the next event in the primary key is the first match; behind the fence all of them would be sorted.
            selection.push_str(" ORDER BY e.position LIMIT 1");
        }
        (self.log.judge.with(&selection), params)
    }
}
