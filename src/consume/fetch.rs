//! Following the log by polling.

use std::{future::IntoFuture, sync::Arc, time::Duration};

use super::{Cursor, Start, reading::Plan, start::ReadLimit};
use crate::{
    Consistency, Event, EventStore, Filter, Result, Role, Token,
    router::Deadline,
    scope::current_consistency,
    store::{BoxFuture, Piece, ReadAfterRequest, event_list},
};

/// Reads the next events once: await it, after setting how many, where and how long if necessary.
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
/// [`LogDiverged`](crate::ErrorKind::LogDiverged) if the log no longer contains the event to continue after. A replica
/// that only lags returns no events. Otherwise as for a [query](crate::Query).
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

    /// Limits the number of events. Defaults to 100.
    ///
    /// Fewer events are returned if they are large: at most 4 MiB ([`Event::byte_len`]), unless a single one is larger.
    /// To find out whether there are more, use [`is_at_head`](Fetched::is_at_head), not the number of events; the
    /// [cursor](Fetched::cursor) continues after what was returned.
    pub fn limit(mut self, events: u64) -> Self {
        self.limit = events;
        self
    }

    /// Replaces the consistency level of the scope.
    pub fn consistency(mut self, consistency: Consistency) -> Self {
        self.consistency = consistency;
        self
    }

    /// Replaces the time limit of the read. Defaults to the store's own.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }

    async fn run(self) -> Result<Fetched> {
        let Self { store, filter, start, limit, consistency, timeout } = self;
        let deadline = timeout.map(Deadline::after);
        let within = deadline.map_or(ReadLimit::Each(None), ReadLimit::Together);
        let after = start.resolve(&*store, &consistency, within).await?;
        let timeout = deadline.map(|deadline| deadline.remaining());
        let mut request = ReadAfterRequest::new(filter, after, limit, consistency);
        (request.limit_bytes, request.timeout) = (Plan::BATCH_BYTES, timeout);
        let piece = store.run_read_after(request).await?;
        let is_at_head = piece.is_at_head() || piece.reached.is_none();
        let Piece { events, reached, node, role, token, .. } = piece;
        let cursor = reached.map_or_else(|| Cursor::of(after), Cursor::from);
        Ok(Fetched { events, cursor, is_at_head, node, role, token })
    }
}

/// The future owns everything it needs, so it can be spawned.
impl IntoFuture for Fetch {
    type Output = Result<Fetched>;
    type IntoFuture = BoxFuture<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

/// Events in log order, and the place to continue from. It dereferences to a slice of the events.
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
    /// Returns the events.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// Converts the result into its events.
    #[must_use]
    pub fn into_events(self) -> Vec<Event> {
        self.events
    }

    /// Returns the place after these events, to continue from.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// Returns whether the serving node had no further events.
    #[must_use]
    pub fn is_at_head(&self) -> bool {
        self.is_at_head
    }

    /// Returns the name of the serving node.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.node
    }

    /// Returns the role of that node.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// Returns a token for reads that must contain what this one has read; see
    /// [`History::token`](crate::History::token). A [`Session`](crate::Session) does not record it automatically. It is
    /// empty if the log was, or if the store provides none.
    #[must_use]
    pub fn token(&self) -> &Token {
        &self.token
    }
}

event_list!(Fetched);
