//! Following the log by polling.

use std::{future::IntoFuture, ops::Deref, sync::Arc, time::Duration};

use super::{Cursor, Start, reading::Plan};
use crate::{
    Consistency, Event, EventStore, Filter, Result, Role, Token,
    scope::current_consistency,
    store::{BoxFuture, Piece, ReadBehindRequest},
};

/// A read of the next events that is about to be made: await it, after changing how many, where and how long if need be.
///
/// ```
/// # use mainstem::{AppendCondition, EventStore, Filter, MemoryEventStore, NewEvent, Start, Subscribe};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> mainstem::Result<()> {
/// # let store = MemoryEventStore::new();
/// # let events = (0..5).map(|_| NewEvent::new("A", &())).collect::<Result<Vec<_>, _>>()?;
/// # store.append(events, AppendCondition::none()).await?;
/// let first = store.fetch(&Filter::any_event(), Start::Beginning).limit(3).await?;
/// // The cursor can be kept as text.
/// let text = first.cursor().to_string();
/// let rest = store.fetch(&Filter::any_event(), text.parse::<mainstem::Cursor>()?).limit(3).await?;
/// assert_eq!((first.len(), rest.len(), rest.is_at_head()), (3, 2, true));
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// [`LogDiverged`](crate::ErrorKind::LogDiverged) when the log does not hold the event that it was to go on behind. A replica
/// that is only behind answers with no events. The rest is as for a [query](crate::Query).
///
/// # Cancel safety
///
/// It only reads.
#[derive(Debug)]
#[must_use = "nothing is read until it is awaited"]
pub struct Fetch {
    store: Arc<dyn EventStore>,
    filter: Filter,
    start: Start,
    limit: u64,
    consistency: Consistency,
    timeout: Option<Duration>,
}

impl Fetch {
    pub(super) fn new(store: Arc<dyn EventStore>, filter: Filter, start: Start) -> Self {
        Self { store, filter, start, limit: 100, consistency: current_consistency(), timeout: None }
    }

    /// So many events at most. Defaults to 100.
    ///
    /// Of large ones fewer come: no more than 4 MiB ([`Event::byte_len`]), unless one alone is more. So it is
    /// [`is_at_head`](Fetched::is_at_head) that says whether there are more, and not their number; the
    /// [cursor](Fetched::cursor) goes on behind what came.
    pub fn limit(mut self, events: u64) -> Self {
        self.limit = events;
        self
    }

    /// Replaces the level that the scope has given.
    pub fn consistency(mut self, consistency: Consistency) -> Self {
        self.consistency = consistency;
        self
    }

    /// Replaces the limit of the read. Defaults to the store's own.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }

    async fn run(self) -> Result<Fetched> {
        let Self { store, filter, start, limit, consistency, timeout } = self;
        let after = start.resolve(&*store, &consistency).await?;
        let mut request = ReadBehindRequest::new(filter, after, limit, consistency);
        (request.limit_bytes, request.timeout) = (Plan::BATCH_BYTES, timeout);
        let piece = store.run_read_behind(request).await?;
        let is_at_head = piece.is_at_head() || piece.reached.is_none();
        let Piece { events, reached, node, role, token, .. } = piece;
        let cursor = reached.map_or_else(|| Cursor::of(after), Cursor::from);
        Ok(Fetched { events, cursor, is_at_head, node, role, token })
    }
}

/// The future owns all that it needs: it may be spawned.
impl IntoFuture for Fetch {
    type Output = Result<Fetched>;
    type IntoFuture = BoxFuture<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

/// Some events in the order of the log, and the place to go on from. It dereferences to the slice of the events.
#[derive(Clone, Debug)]
pub struct Fetched {
    events: Vec<Event>,
    cursor: Cursor,
    is_at_head: bool,
    node: Arc<str>,
    role: Role,
    token: Token,
}

impl Fetched {
    /// The events.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// The events themselves.
    #[must_use]
    pub fn into_events(self) -> Vec<Event> {
        self.events
    }

    /// The place behind these events, to go on from.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// Whether the node that served had nothing more.
    #[must_use]
    pub fn is_at_head(&self) -> bool {
        self.is_at_head
    }

    /// The name of the node that served.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.node
    }

    /// The role of that node.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// A token for reads that contain what this one has seen; see [`History::token`](crate::History::token). A
    /// [`Session`](crate::Session) does not take it in by itself. It is empty when the log was, and when the store gives none.
    #[must_use]
    pub fn token(&self) -> &Token {
        &self.token
    }
}

impl Deref for Fetched {
    type Target = [Event];

    fn deref(&self) -> &[Event] {
        &self.events
    }
}
