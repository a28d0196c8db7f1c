//! Reading from the log in PostgreSQL event by event.

use std::{sync::Arc, time::Duration};

use futures_util::stream::try_unfold;
use tokio_postgres::Row;

use super::{read_sql::First, shared_reads::Request};
use crate::{
    Event, Mark, Role,
    error::{Error, ErrorKind, Result},
    router::{Deadline, Effect, Lease, Rows, Tried, may_go_elsewhere},
    store::{
        Answer, BoxStream, QueryRequest,
        postgres::{
            PostgresEventStore, failure,
            wire::{self, Line},
        },
    },
};

/// The rows decoded at a time, unless they are large: their bytes are bounded at the source.
const BATCH: usize = 256;

/// The events of one statement when any event is requested, since the primary key finds the next ones as fast as the
/// first: so many that the round trip between two statements does not matter, and so few that no snapshot is kept for
/// long.
const PIECE: u64 = 10_000;

/// The answers, each with the events that had arrived when it was requested. The first one has none: it has the head.
pub(in crate::store::postgres) fn run(store: PostgresEventStore, request: QueryRequest) -> BoxStream<Result<Answer>> {
    let limit = request.timeout.unwrap_or_else(|| store.router.call_timeout());
    let (head, tried, over) = (None, Tried::default(), false);
    let reading = Reading { store, rest: request, limit, head, tried, lease: None, running: None, over };
    Box::pin(try_unfold(reading, async |mut reading| match reading.next().await {
        Ok(answer) => Ok(answer.map(|answer| (answer, reading))),
        Err(error) => Err(failure::classify(error, reading.store.name())),
    }))
}

struct Reading {
    store: PostgresEventStore,
    /// What is still to be read.
    rest: QueryRequest,
    /// The limit of each wait.
    limit: Duration,
    /// The log's head when the stream began, once it is known.
    head: Option<Option<Mark>>,
    /// The nodes tried since the last event arrived; that of the lease is the last one.
    tried: Tried,
    lease: Option<Lease>,
    running: Option<Running>,
    over: bool,
}

/// A statement that was started on the lease.
struct Running {
    rows: Rows,
    /// How many events it may still return, if it reads only a piece.
    left: Option<u64>,
    /// Whether there can be events after those that it has returned.
    more: bool,
}

impl Reading {
    /// Returns the next answer; `None` when everything is read.
    async fn next(&mut self) -> Result<Option<Answer>> {
        let mut lost: Option<Error> = None;
        loop {
            let error = match self.try_next().await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            // If it is dropped in the middle of an answer, the connection is closed.
            self.running = None;
            let Some(lease) = self.lease.take() else {
                return Err(match lost {
                    Some(lost) => error.with_source(lost),
                    None => error,
                });
            };
            // The next node continues after what was read.
            if lease.role() != Role::Replica || !may_go_elsewhere(&error) {
                return Err(error);
            }
            self.require_head(&lease);
            tracing::debug!(error = %error.for_log(), "a replica could not serve a stream; trying another node");
            lost = Some(error);
        }
    }

    async fn try_next(&mut self) -> Result<Option<Answer>> {
        while !self.over {
            let deadline = Deadline::after(self.limit);
            let (Some(lease), Some(running)) = (&self.lease, &mut self.running) else {
                let is_first = self.head.is_none();
                self.start(deadline).await?;
                if is_first {
                    return Ok(self.answer(Vec::new()));
                }
                continue;
            };
            let rows = lease.take(Effect::Read, &mut running.rows, deadline, BATCH).await?;
            if rows.is_empty() {
                let was_piece = running.left == Some(0);
                self.over = !was_piece || !running.more;
                self.running = None;
                continue;
            }
            let events = rows.into_iter().map(event).collect::<Result<Vec<_>>>()?;
            running.left = running.left.map(|left| left.saturating_sub(events.len() as u64));
            running.more = self.rest.continue_after(&events);
            self.tried.keep_last();
            return Ok(self.answer(events));
        }
        // After the last row comes the place of what was seen, for the session.
        let last = match &self.lease {
            Some(lease) if self.rest.wants_token => {
                lease.note_place(Deadline::after(self.limit)).await?;
                self.answer(Vec::new())
            }
            _ => None,
        };
        self.lease = None;
        Ok(last)
    }

    /// Starts a statement for what is still to be read, and looks at its first row.
    async fn start(&mut self, deadline: Deadline) -> Result<()> {
        if let Some(lease) = self.lease.take() {
            if lease.is_closed() {
                // Between two pieces, when the connection was unused: no reason to avoid the node.
                self.tried = Tried::default();
                self.require_head(&lease);
            } else {
                self.lease = Some(lease);
            }
        }
        if self.lease.is_none() {
            let Self { store, rest, tried, .. } = self;
            self.lease = Some(store.lease_at(rest.asked(), deadline, tried).await?);
        }
        let Some(lease) = &self.lease else { return Ok(()) };
        let mut request = self.rest.clone();
        let is_piece = request.filter.items().is_none();
        if is_piece {
            request.limit = Some(request.limit.map_or(PIECE, |limit| limit.min(PIECE)));
        }
        let left = request.limit.filter(|_| is_piece);
        let first = self.head.flatten().map_or(First::Head, |head| First::At(head.position()));
        let statement = self.store.log.read.query(&request, first);
        let mut rows =
            lease.start(Effect::Read, statement.planning, deadline, &statement.sql, &statement.params()?).await?;
        let found = lease.take(Effect::Read, &mut rows, deadline, 1).await?;
        let has_row = !found.is_empty();
        let found = match found.first().map(wire::line).transpose().map_err(wire::unreadable)? {
            Some(Line::Head(found)) => Some(found),
            Some(Line::Event(_)) | None => None,
        };
        match (self.head, found) {
            (None, Some(head)) => {
                self.head = Some(Some(head));
                self.rest.end_at(head);
            }
            // Not an empty log: it has an event.
            (None, None) if has_row => return Err(wire::no_row()),
            (None, None) => {
                self.head = Some(None);
                self.over = true;
            }
            (Some(head), found) if head == found => {}
            (Some(Some(head)), found) => return Err(gone(head, found, lease)),
            (Some(None), _) => self.over = true,
        }
        let more = self.rest.limit != Some(0);
        self.running = Some(Running { rows, left, more });
        Ok(())
    }

    /// The node after this one must have the head of the stream's beginning, too. A replica may be ahead of the primary,
    /// where the commit still waits for its standby: then the event is not lost, and is waited for.
    fn require_head(&mut self, lease: &Lease) {
        if let (Some(Some(head)), Role::Replica) = (self.head, lease.role()) {
            let token = self.store.token(lease.system(), head, None);
            self.rest.floor = self.rest.floor.merge(&token);
        }
    }

    fn answer(&self, events: Vec<Event>) -> Option<Answer> {
        let (lease, head) = (self.lease.as_ref()?, self.head.flatten());
        let answer = Answer::new(events, head).served_by(Arc::clone(lease.node().name()), lease.role());
        Some(answer.with_token(self.store.seen(lease, head)))
    }
}

/// Each row is dropped as soon as its event exists: otherwise both would be held for all of them.
fn event(row: Row) -> Result<Event> {
    match wire::line(&row).map_err(wire::unreadable)? {
        Line::Event(event) => Ok(event),
        Line::Head(_) => Err(wire::no_row()),
    }
}

/// The error for a node that does not hold the event that was the log's head when the stream began.
fn gone(head: Mark, found: Option<Mark>, lease: &Lease) -> Error {
    let error = match (found, lease.role()) {
        (None, Role::Replica) => Error::new(
            ErrorKind::Unavailable,
            format!("the replica has not got as far as the event {head}, where the log ended when the stream began"),
        ),
        _ => Error::new(
            ErrorKind::LogDiverged,
            format!(
                "the log does not hold the event {head} any more, where it ended when the stream began: it was restored, or \
                 events were lost in a failover; read again"
            ),
        ),
    };
    error.with_node(Arc::clone(lease.node().name()))
}
