//! Checking a condition that reaches far back, before the lock.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::timeout_at,
};
use uuid::Uuid;

use super::{
    prepared::{Prepared, PreparedGuard},
    queue,
};
use crate::{
    Filter, Mark,
    error::{Error, ErrorKind, Result},
    filter::Bounds,
    router::Deadline,
    store::{
        condition::After,
        postgres::{
            GroupLimits, PostgresEventStore,
            filter_sql::Param,
            read::read_sql::Statement,
            wire::{self, Columns, Unreadable},
        },
        refusal,
    },
};

/// Checks a condition that reaches far back, without the lock. Returns the log's head, after which the lock's holder
/// must look. `None` if the log does not show what the condition is based on: the procedure tells whether that is lost,
/// or only hidden while it waits for its standby.
///
/// If the events already exist, the condition says nothing: their first append may itself have broken it.
pub(in crate::store::postgres) async fn run(
    store: &PostgresEventStore,
    append: &Prepared,
    guard: &PreparedGuard,
    after: After,
    deadline: Deadline,
) -> Result<Option<After>> {
    let _right = store.group.prechecks.right(append, deadline).await?;
    let lease = store.router.lease_primary(deadline).await?;
    let ids: Vec<Uuid> = append.events.iter().map(|event| event.id().into()).collect();
    let rows = store.precheck_statement(&guard.filter, after, &ids).ask(&lease, deadline).await?;
    let Some(row) = rows.first() else {
        return Ok((after.position() == 0).then_some(After::Position(0)));
    };
    let checked = PrecheckRow::read(row).map_err(wire::unreadable)?;
    if !checked.has_after {
        return Ok(None);
    }
    match checked.broken {
        Some((position, event_type)) if !checked.repeated => {
            Err(refusal::conflict(position, event_type).with_node(Arc::clone(lease.node().name())))
        }
        _ => Ok(Some(After::Mark(checked.head))),
    }
}

/// The right to check far back takes a connection for a while. Without a bound, many such checks would take all
/// connections, and the drain would get none. Those that wait for the right have their own queue, with the bounds of
/// the queue of appends.
#[derive(Debug)]
pub(in crate::store::postgres) struct Prechecks {
    rights: Semaphore,
    line: Mutex<Line>,
    limits: GroupLimits,
}

#[derive(Clone, Copy, Debug, Default)]
struct Line {
    appends: usize,
    bytes: usize,
}

/// An append waiting for the right, with its number of bytes.
struct InLine<'a>(&'a Prechecks, usize);

impl Prechecks {
    pub(in crate::store::postgres) fn new(amount: usize, limits: GroupLimits) -> Self {
        Self { rights: Semaphore::new(amount.max(1)), line: Mutex::default(), limits }
    }

    /// Refuses all that wait.
    pub(in crate::store::postgres) fn close(&self) {
        self.rights.close();
    }

    /// Returns the right to check, held until it is dropped.
    async fn right(&self, append: &Prepared, deadline: Deadline) -> Result<SemaphorePermit<'_>> {
        if let Ok(right) = self.rights.try_acquire() {
            return Ok(right);
        }
        let _in_line = self.get_in_line(append.len)?;
        match timeout_at(deadline.at(), self.rights.acquire()).await {
            Ok(right) => right.map_err(|_| queue::closed()),
            Err(_) => {
                let message = format!(
                    "the limit of {:?} ran out before the condition was judged, after others that reach as far back; \
                     nothing was written",
                    deadline.limit()
                );
                Err(Error::new(ErrorKind::Timeout, message))
            }
        }
    }

    fn get_in_line(&self, bytes: usize) -> Result<InLine<'_>> {
        let mut line = self.line();
        let Line { appends, bytes: waiting } = *line;
        let GroupLimits { waiting_appends, waiting_bytes, .. } = self.limits;
        if !self.rights.is_closed() && (appends >= waiting_appends || appends > 0 && waiting + bytes > waiting_bytes) {
            let message = format!(
                "{appends} appends of {waiting} bytes wait already to have conditions judged that reach far back, and the limits \
                 are {waiting_appends} and {waiting_bytes}; nothing was written"
            );
            return Err(Error::new(ErrorKind::Overloaded, message));
        }
        *line = Line { appends: appends + 1, bytes: waiting + bytes };
        Ok(InLine(self, bytes))
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        let mut line = self.0.line();
        *line = Line { appends: line.appends - 1, bytes: line.bytes - self.1 };
    }
}

/// The answer of `precheck.sql`.
#[derive(Debug)]
pub(in crate::store::postgres) struct PrecheckRow {
    pub(in crate::store::postgres) head: Mark,
    /// The first event that the condition forbids.
    pub(in crate::store::postgres) broken: Option<(u64, String)>,
    /// Whether the events of the append already exist.
    repeated: bool,
    /// Whether what the condition is based on exists.
    has_after: bool,
}

impl PrecheckRow {
    pub(in crate::store::postgres) fn read(row: &impl Columns) -> Result<Self, Unreadable> {
        Ok(Self {
            head: wire::mark(row, 0)?.ok_or(Unreadable::Null("the log's head"))?,
            broken: match (row.get::<Option<i64>>(2)?, row.get::<Option<String>>(3)?) {
                (None, None) => None,
                (Some(at), Some(event_type)) => Some((wire::position(at)?, event_type)),
                // This must not read as "no conflict".
                _ => return Err(Unreadable::Half("the position or the type of a forbidden event")),
            },
            repeated: row.get(4)?,
            has_after: row.get(5)?,
        })
    }
}

impl PostgresEventStore {
    /// The statement that looks for a matching event after this place, and for the ids of the append itself.
    pub(in crate::store::postgres) fn precheck_statement<'a>(
        &self,
        filter: &'a Filter,
        after: After,
        ids: &'a [Uuid],
    ) -> Statement<'a> {
        let mark: Option<Uuid> = after.mark().map(|mark| mark.id().into());
        let mut params: Vec<Param<'a>> =
            vec![Box::new(ids), Box::new(wire::position_param(after.position())), Box::new(mark)];
        // A bound that excludes nothing could still tempt the planner to use the primary key for it.
        let after = (after.position() > 0).then_some(after.position());
        let bounds = Bounds { after, ..Bounds::default() };
        let mut search = self.log.searches.of(filter, bounds, true, &mut params);
        search.condition = format!("({})", search.condition);
        if filter.items().is_none() {
            // Here the next event in the primary key is the first match; with the fence, all of them would be sorted.
            search.condition.push_str(" ORDER BY e.position LIMIT 1");
        }
        let sql = self.log.precheck.with(&search.condition);
        Statement { sql, planning: search.planning, params, watched: search.watched }
    }
}
