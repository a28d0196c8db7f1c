//! Judging a condition that reaches far back, before the lock.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::timeout_at,
};
use tokio_postgres::Row;
use uuid::Uuid;

use super::{
    PostgresEventStore,
    filter_sql::{self, Param},
    prepared::PreparedGuard,
    read_sql::{self, Statement},
    wire::{self, Unreadable},
};
use crate::{
    Filter, Mark, NewEvent,
    error::{Error, ErrorKind, Result},
    filter::Bounds,
    router::{Deadline, Planning},
    store::{condition::After, refusal},
};

/// Judges a condition that reaches far back, without the lock; what is returned is the log's head, from where on the
/// lock's holder has to look. `None` if the log does not show what the condition is based on: whether that is lost, or only
/// hidden while it waits for its standby, the procedure tells.
///
/// If the events are there already, the condition says nothing: their first append may have broken it itself.
pub(super) async fn judge(
    store: &PostgresEventStore,
    guard: &PreparedGuard,
    after: After,
    events: &[NewEvent],
    deadline: Deadline,
) -> Result<Option<After>> {
    store.group.is_open()?;
    let _right = store.group.judges.right(deadline).await?;
    let lease = store.router.lease_primary(deadline).await?;
    let ids: Vec<Uuid> = events.iter().map(|event| event.id().into()).collect();
    let rows = store.judgement(&guard.filter, after, &ids).ask(&lease, deadline).await?;
    let Some(row) = rows.first() else {
        return Ok((after.position() == 0).then_some(After::Position(0)));
    };
    let judgement = Judgement::read(row).map_err(wire::unreadable)?;
    if !judgement.has_after {
        return Ok(None);
    }
    match judgement.broken {
        Some((position, event_type)) if !judgement.repeated => {
            Err(refusal::conflict(position, event_type).with_node(Arc::clone(lease.node().name())))
        }
        _ => Ok(judgement.head.map(After::Mark)),
    }
}

/// The right to judge far back takes a connection for a while. Without a bound, many who do would take all, and the drain would get
/// none; and as many may wait for it as in the line of appends.
#[derive(Debug)]
pub(super) struct Judges {
    rights: Semaphore,
    waiting: AtomicUsize,
    most_waiting: usize,
}

/// Who waits for the right.
struct InLine<'a>(&'a AtomicUsize);

impl Judges {
    pub(super) fn new(amount: usize, most_waiting: usize) -> Self {
        Self { rights: Semaphore::new(amount.max(1)), waiting: AtomicUsize::new(0), most_waiting }
    }

    /// The right to judge, held until it is dropped.
    async fn right(&self, deadline: Deadline) -> Result<SemaphorePermit<'_>> {
        if let Ok(right) = self.rights.try_acquire() {
            return Ok(right);
        }
        let waiting = self.waiting.fetch_add(1, Ordering::AcqRel);
        let _in_line = InLine(&self.waiting);
        if waiting >= self.most_waiting {
            let message = format!(
                "{waiting} appends wait already to have conditions judged that reach far back, and the limit is {}; nothing was sent",
                self.most_waiting
            );
            return Err(Error::new(ErrorKind::Overloaded, message));
        }
        match timeout_at(deadline.at(), self.rights.acquire()).await {
            Ok(Ok(right)) => Ok(right),
            // Nobody closes it.
            Ok(Err(_)) => Err(Error::new(ErrorKind::Closed, "the store has been closed; nothing was sent")),
            Err(_) => {
                let message = format!(
                    "the limit of {:?} ran out before the condition was judged, behind others that reach as far back; \
                     nothing was sent",
                    deadline.limit()
                );
                Err(Error::new(ErrorKind::Timeout, message))
            }
        }
    }
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What `judge.sql` says.
struct Judgement {
    head: Option<Mark>,
    /// The first event that the condition forbids.
    broken: Option<(u64, String)>,
    /// Whether the events of the append are there already.
    repeated: bool,
    /// Whether what the condition is based on is there.
    has_after: bool,
}

impl Judgement {
    fn read(row: &Row) -> Result<Self, Unreadable> {
        let broken_at: Option<i64> = row.try_get(2)?;
        let broken_type: Option<String> = row.try_get(3)?;
        Ok(Self {
            head: wire::mark(row, 0)?,
            broken: broken_at.map(wire::position).transpose()?.zip(broken_type),
            repeated: row.try_get(4)?,
            has_after: row.try_get(5)?,
        })
    }
}

impl PostgresEventStore {
    /// The statement that looks for an event that matches, behind this place, and for the ids of the append itself.
    pub(super) fn judgement<'a>(&self, filter: &'a Filter, after: After, ids: &'a [Uuid]) -> Statement<'a> {
        let mark: Option<Uuid> = after.mark().map(|mark| mark.id().into());
        let mut params: Vec<Param<'a>> =
            vec![Box::new(ids), Box::new(wire::position_param(after.position())), Box::new(mark)];
        // A bound that lets everything through could still tempt the planner to use the primary key for it.
        let after = (after.position() > 0).then_some(after.position());
        let bounds = Bounds { after, ..Bounds::default() };
        let planning = read_sql::planning(filter, after.is_none());
        let mut selection = match planning {
            Planning::Once => filter_sql::planned_once(filter, &self.log.keys, &mut params),
            _ => filter_sql::selection(filter, bounds, &self.log.keys, &mut params),
        };
        if filter.items().is_none() {
            // Here the next event in the primary key is the first match; behind the fence all of them would be sorted.
            selection.push_str(" ORDER BY e.position LIMIT 1");
        }
        Statement { sql: self.log.judge.with(&selection), planning, params }
    }
}
