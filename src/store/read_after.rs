//! Reading on after a place in the log, piece by piece, and waiting for new events there: the basis of subscriptions.

use std::{sync::Arc, time::Duration};

use super::{After, Answer, BoxFuture, EventStore, Order, QueryRequest, served_by::served_by};
use crate::{
    Consistency, Error, ErrorKind, Event, Filter, Mark, Result, Role, Token, filter::Bounds, router::asked, runtime,
};

/// A read of the next events after a place, as a store receives it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ReadAfterRequest {
    /// The filter: which events.
    pub filter: Filter,
    /// The place after which to read. An event that it names must exist.
    pub after: After,
    /// The last position to look at, if set. A store may stop earlier.
    pub until: Option<u64>,
    /// The most events to return. 0 returns none, and only asks whether the log holds what [`after`](Self::after)
    /// specifies.
    pub limit: u64,
    /// The most bytes of events ([`Event::byte_len`]), except for the first event: it is in the piece whatever its
    /// size, so a reader always makes progress.
    pub limit_bytes: usize,
    /// How fresh the read must be.
    pub consistency: Consistency,
    /// The time limit set by the caller; otherwise the store's own applies.
    pub timeout: Option<Duration>,
}

/// A store's answer to a read after a place: a piece of the log without a gap.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Piece {
    /// The matching events, lowest position first.
    pub events: Vec<Event>,
    /// The place up to which there are no other matching events; the next read continues there. `None` if there is
    /// nothing after the requested place.
    pub reached: Option<Mark>,
    /// The last event of the whole log, in the same snapshot.
    pub head: Option<Mark>,
    /// The name of the node that served the read.
    pub node: Arc<str>,
    /// The role of that node.
    pub role: Role,
    /// For reads that contain what this one has seen; empty if the store returns none.
    pub token: Token,
}

/// A wait for new events in the log, as a store receives it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WaitRequest {
    /// The place after which to wait.
    pub after: After,
    /// How fresh the reads are that must see the new events.
    pub consistency: Consistency,
}

impl ReadAfterRequest {
    /// Creates a request for the next matching events, up to the limit, at this level, whatever their size.
    #[must_use]
    pub fn new(filter: Filter, after: After, limit: u64, consistency: Consistency) -> Self {
        Self { filter, after, until: None, limit, limit_bytes: usize::MAX, consistency, timeout: None }
    }

    /// Creates the error for a log, whose last event is at `head`, that does not hold what [`after`](Self::after)
    /// specifies. An empty log ends at 0.
    #[must_use]
    pub fn diverged(&self, head: u64) -> Error {
        let place = match self.after.mark() {
            Some(mark) => format!("the event {mark}"),
            None => format!("position {}", self.after.position()),
        };
        let message = format!(
            "the log, which ends at position {head}, does not hold {place} that the read was to go on from: the log was \
             restored, or events were lost in a failover"
        );
        Error::new(ErrorKind::LogDiverged, message)
    }

    /// Returns how many of the first of these events, which are the matching ones, lowest position first, are in the
    /// piece.
    ///
    /// If it is not all of them, the piece ends there: [`reached`](Piece::reached) is the last event in it.
    #[must_use]
    pub fn fitting<'a>(&self, events: impl IntoIterator<Item = &'a Event>) -> usize {
        let mut room = self.room();
        events.into_iter().take_while(|event| room.takes(event.byte_len())).count()
    }

    /// The room in a piece without events.
    pub(super) fn room(&self) -> Room {
        Room { events: self.limit, bytes: self.limit_bytes, is_empty: true }
    }

    /// The query for the events.
    pub(super) fn query(&self) -> QueryRequest {
        let bounds = Bounds { after: Some(self.after.position()), until: self.until, ..Bounds::default() };
        self.ask(self.filter.clone(), bounds, Order::OldestFirst, self.limit)
    }

    /// The query for the last event up to a position.
    fn last_until(&self, position: u64) -> QueryRequest {
        let bounds = Bounds { until: Some(position), ..Bounds::default() };
        self.ask(Filter::any_event(), bounds, Order::NewestFirst, 1)
    }

    fn ask(&self, filter: Filter, bounds: Bounds, order: Order, limit: u64) -> QueryRequest {
        let (consistency, timeout, floor) = (self.consistency.clone(), self.timeout, asked(&self.consistency, None));
        QueryRequest { filter, bounds, order, limit: Some(limit), consistency, floor, wants_token: false, timeout }
    }

    /// Returns the piece, out of what was read: the events, the log's head, and the last events up to the mark and up
    /// to [`until`](Self::until), each if it exists.
    pub(super) fn piece(&self, answer: Answer, at_mark: Option<Mark>, at_until: Option<Mark>) -> Result<Piece> {
        let Answer { mut events, head, node, role, token } = answer;
        let end = Mark::position_or_zero(head);
        let after = self.after.position();
        if let Some(mark) = self.after.mark()
            && at_mark != Some(mark)
        {
            if role == Role::Primary || end >= mark.position() {
                return Err(self.diverged(end).with_node(node));
            }
            // A replica that has not replayed that far yet.
            events.clear();
        }
        let fitting = self.fitting(&events);
        let is_full = fitting < events.len() || fitting as u64 >= self.limit;
        events.truncate(fitting);
        let reached = match self.until {
            _ if is_full => events.last().map(Event::mark),
            Some(until) if until < end => at_until,
            _ => head,
        };
        let reached = reached.filter(|reached| reached.position() > after);
        Ok(Piece::new(events, head).reached(reached).served_by(node, role).with_token(token))
    }
}

/// How much still fits into a piece.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    events: u64,
    bytes: usize,
    is_empty: bool,
}

impl Room {
    /// Admits an event of this many bytes, if there is room for it. After one that did not fit, none is admitted.
    pub(super) fn takes(&mut self, bytes: usize) -> bool {
        if self.events == 0 || bytes > self.bytes && !self.is_empty {
            self.events = 0;
            return false;
        }
        *self = Self { events: self.events - 1, bytes: self.bytes.saturating_sub(bytes), is_empty: false };
        true
    }
}

served_by!(Piece);

impl Piece {
    /// Creates a piece from the matching events and the last event of the whole log in the same snapshot, which is
    /// `None` for an empty log. The piece reaches up to there; if it does not, say so with
    /// [`reached`](Self::reached).
    #[must_use]
    pub fn new(events: Vec<Event>, head: Option<Mark>) -> Self {
        Self { events, reached: head, head, node: "local".into(), role: Role::Primary, token: Token::new() }
    }

    /// Replaces the place up to which there are no other matching events. The field of that name says when it is
    /// `None`.
    #[must_use]
    pub fn reached(mut self, reached: Option<Mark>) -> Self {
        self.reached = reached;
        self
    }

    /// Whether the log had nothing more after this piece when it was read.
    #[must_use]
    pub fn is_at_head(&self) -> bool {
        self.reached == self.head
    }
}

impl WaitRequest {
    /// Creates a wait for new events after this place, at this level.
    #[must_use]
    pub fn new(after: After, consistency: Consistency) -> Self {
        Self { after, consistency }
    }

    /// Whether a log with this head ends the wait: it has new events, or it has lost what the waiting reader has read.
    #[must_use]
    pub fn is_over(&self, head: Option<Mark>) -> bool {
        let position = Mark::position_or_zero(head);
        position > self.after.position()
            || self.after.mark().is_some_and(|mark| mark.position() == position && Some(mark) != head)
    }
}

/// Builds a piece out of queries: the events first, then what they must come after. If that exists then, it existed
/// when the events were read: a log that has lost it does not get it back.
pub(super) fn of_queries(store: &(impl EventStore + ?Sized), request: ReadAfterRequest) -> BoxFuture<Result<Piece>> {
    let events = store.run_query(request.query());
    let at_mark = request.after.mark().map(|mark| store.run_query(request.last_until(mark.position())));
    let at_until = request.until.map(|until| store.run_query(request.last_until(until)));
    Box::pin(async move {
        let answer = events.await?;
        let mut marks = [None, None];
        for (mark, query) in marks.iter_mut().zip([at_mark, at_until]) {
            if let Some(query) = query {
                *mark = query.await?.events.last().map(Event::mark);
            }
        }
        let [at_mark, at_until] = marks;
        request.piece(answer, at_mark, at_until)
    })
}

/// Waits by querying the head.
pub(super) fn by_polling(store: &(impl EventStore + ?Sized), request: WaitRequest) -> BoxFuture<Result<()>> {
    let mut head = QueryRequest::new(&Filter::any_event());
    (head.order, head.limit, head.consistency) = (Order::NewestFirst, Some(1), request.consistency.clone());
    let answer = store.run_query(head);
    Box::pin(async move {
        if !request.is_over(answer.await?.head) {
            runtime::current()?;
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    })
}

/// How long to wait before asking a store again that cannot report new events.
const POLL: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of the events with these sizes are in a piece.
    fn fitting(limit: u64, limit_bytes: usize, events: &[usize]) -> usize {
        let mut room = Room { events: limit, bytes: limit_bytes, is_empty: true };
        // Not only those up to the first that does not fit: none is admitted after it.
        events.iter().filter(|bytes| room.takes(**bytes)).count()
    }

    #[test]
    fn a_piece_has_room_for_its_events_and_bytes_and_always_for_one() {
        for (limit, limit_bytes, events, expected) in [
            (3, 100, &[10, 10, 10, 10][..], 3),
            (3, 100, &[60, 40, 1], 2),
            (3, 100, &[60, 41, 1], 1),
            (3, 100, &[101, 0, 1], 2),
            (3, 100, &[101, 1, 1], 1),
            (3, 100, &[1, 101, 1], 1),
            (3, 0, &[0, 0, 1, 0], 2),
            (3, 0, &[usize::MAX, 1], 1),
            (3, usize::MAX, &[usize::MAX, 1], 1),
            (0, 100, &[1], 0),
            (9, 100, &[], 0),
        ] {
            let what = format!("{limit} events and {limit_bytes} bytes, of {events:?}");
            assert_eq!(fitting(limit, limit_bytes, events), expected, "{what}");
        }
    }
}
