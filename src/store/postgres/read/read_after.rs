//! Reading on after a place in the log in PostgreSQL: one statement for the events, the head and what they follow.

use std::{
    ops::ControlFlow::{Break, Continue},
    sync::Arc,
    time::Duration,
};

use tokio_postgres::Row;

use super::{floor::ReadNeeds, read_sql::NEAR};
use crate::{
    Mark, Role,
    error::Result,
    router::{Deadline, Lease, asked},
    store::{
        Answer, Piece, ReadAfterRequest,
        postgres::{
            PostgresEventStore,
            wire::{self, Line},
        },
    },
};

/// Executes the read, on a node that its level allows.
pub(in crate::store::postgres) async fn run(
    store: PostgresEventStore,
    request: ReadAfterRequest,
    deadline: Deadline,
) -> Result<Piece> {
    let request = Arc::new(request);
    let read = |lease| read(store.clone(), Arc::clone(&request), lease, deadline);
    let floor = asked(&request.consistency, None);
    let ask = ReadNeeds { consistency: &request.consistency, floor: &floor, wants_token: false };
    store.read(ask, deadline, read).await
}

async fn read(
    store: PostgresEventStore,
    request: Arc<ReadAfterRequest>,
    lease: Arc<Lease>,
    deadline: Deadline,
) -> Result<Piece> {
    let piece = try_read(&store, &request, &lease, deadline).await;
    // A replica can be ahead: it has shown a commit that still waits for its standby here. That append holds the log's
    // lock.
    let is_beyond = |head: Option<Mark>| {
        let head = Mark::position_or_zero(head);
        request.after.mark().is_some_and(|mark| mark.position() > head)
    };
    match piece {
        Ok((_, head)) if lease.role() == Role::Primary && is_beyond(head) => {
            store.wait_for_appends(&lease, deadline, Duration::MAX).await?;
            try_read(&store, &request, &lease, deadline).await?.0
        }
        Ok((piece, _)) => piece,
        Err(error) => Err(error),
    }
}

/// Returns the piece, or why there is none, and the head against which it was checked.
async fn try_read(
    store: &PostgresEventStore,
    request: &ReadAfterRequest,
    lease: &Lease,
    deadline: Deadline,
) -> Result<(Result<Piece>, Option<Mark>)> {
    let mut request = request.clone();
    let after = request.after.position();
    let far = request.until.map_or(u64::MAX, |until| until.saturating_sub(after));
    let is_near = far <= NEAR || store.known.seen.is_within(after, NEAR);
    if is_near {
        request.until = Some(request.until.unwrap_or(u64::MAX).min(after.saturating_add(NEAR)));
    }
    if request.limit == 0 {
        request.until = Some(after);
    }
    let query = request.query();
    let statement = store.log.read.read_after(&request, &query, is_near);
    let reader = || {
        let mut room = request.room();
        move |row: Row| match wire::line(&row) {
            // The event that does not fit is the last one, and shows that there is more; nothing after it is held.
            Ok(Line::Event(event)) if !room.takes(event.byte_len()) => Break(Ok(Line::Event(event))),
            line => Continue(line),
        }
    };
    let lines = statement.ask_until(lease, deadline, reader).await?;
    let (mut landmarks, mut events) = (Vec::new(), Vec::with_capacity(lines.len()));
    for line in lines {
        match line {
            Line::Head(mark) => landmarks.push(mark),
            Line::Event(event) => events.push(event),
        }
    }
    let head = landmarks.iter().copied().max_by_key(Mark::position);
    wire::up_to_head(head, &events)?;
    store.known.seen.head(head);
    let at = |position: u64| landmarks.iter().copied().find(|mark| mark.position() == position);
    let at_mark = at(after);
    let at_until = request.until.and_then(at);
    let answer = Answer::new(events, head).served_by(Arc::clone(lease.node().name()), lease.role());
    let answer = answer.with_token(store.seen(lease, head));
    Ok((request.piece(answer, at_mark, at_until), head))
}
