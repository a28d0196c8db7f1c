//! Loading a fixed stream: the call, the store's request, and its answer.

use std::{future::IntoFuture, sync::Arc, time::Duration};

use super::{
    BoxFuture, EventStore, ExpectedVersion, Order, QueryRequest, event_list::event_list, noted::Noted,
    served_by::served_by,
};
use crate::{
    Consistency, Error, Event, EventId, Filter, Result, Role, Token,
    event::check_stream,
    scope::current_consistency,
    telemetry::{Done, Operation},
};

/// The load of a fixed stream: await it, after changing its range, order, level or limits if needed.
///
/// A stream without any appends is empty, at version 0, and not an error.
///
/// ```no_run
/// # async fn run(store: mainstem::PostgresEventStore) -> mainstem::Result<()> {
/// use mainstem::EventStore;
///
/// let account = store.load_stream("account-1").await?;
/// println!("{} events, version {}", account.len(), account.version());
/// let news = store.load_stream("account-1").after_version(account.version()).await?;
/// let last_ten = store.load_stream("account-1").newest_first().limit(10).await?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// [`InvalidInput`](crate::ErrorKind::InvalidInput) if the stream id is invalid: it is empty, has more than [255
/// bytes](crate::StreamPlace::MAX_ID_LEN), or contains a NUL character. The rest is as for a [query](crate::Query).
///
/// # Cancel safety
///
/// Dropping it has no effect on the log. The connection is closed, since its answer is still outstanding, unless others
/// [share](crate::PostgresEventStoreBuilder::share_reads) the read.
#[derive(Debug)]
#[must_use = "a load does nothing until it is awaited"]
pub struct LoadStream<'a> {
    store: &'a dyn EventStore,
    request: LoadStreamRequest,
    noted: Noted,
}

impl<'a> LoadStream<'a> {
    pub(super) fn new(store: &'a dyn EventStore, stream: Arc<str>) -> Self {
        let consistency = current_consistency();
        let (after_version, before_version, limit) = (0, None, None);
        let request = LoadStreamRequest {
            stream,
            after_version,
            before_version,
            limit,
            order: Order::OldestFirst,
            consistency,
            floor: Token::new(),
            wants_token: false,
            timeout: None,
        };
        Self { store, request, noted: Noted::current() }
    }

    /// Loads only events with a higher version, whatever the order. 0, as without this call, loads all.
    pub fn after_version(mut self, version: u64) -> Self {
        self.request.after_version = version;
        self
    }

    /// Loads only events with a lower version, whatever the order.
    pub fn before_version(mut self, version: u64) -> Self {
        self.request.before_version = Some(version);
        self
    }

    /// Loads at most this many events, the first in the order; none for 0.
    pub fn limit(mut self, events: u64) -> Self {
        self.request.limit = Some(events);
        self
    }

    /// Loads from the last event towards the first.
    pub fn newest_first(mut self) -> Self {
        self.request.order = Order::NewestFirst;
        self
    }

    /// Replaces the scope's consistency level for this call.
    pub fn consistency(mut self, consistency: Consistency) -> Self {
        self.request.consistency = consistency;
        self
    }

    /// Replaces the time limit of this call, including the wait for a connection. Defaults to the store's own, which in
    /// PostgreSQL is the router's [`call_timeout`](crate::RouterBuilder::call_timeout).
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.request.timeout = Some(limit);
        self
    }
}

/// The future owns all it needs, so it can be spawned.
impl IntoFuture for LoadStream<'_> {
    type Output = Result<LoadedStream>;
    type IntoFuture = BoxFuture<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        if let Err(what) = check_stream(&self.request.stream) {
            let refused = async { Err(Error::invalid_input(what)) };
            return Box::pin(Operation::LoadStream.record(refused, |_: &LoadedStream| Done::default()));
        }
        let id = Arc::clone(&self.request.stream);
        let Self { store, mut request, mut noted } = self;
        (request.floor, request.wants_token) = noted.ask(&request.consistency);
        let answer = store.run_load_stream(request);
        let load = async move {
            let LoadStreamAnswer { events, version, last, node, role, token } = answer.await?;
            noted.saw(&token);
            Ok(LoadedStream { id, events, version, last, node, role, token })
        };
        Box::pin(
            Operation::LoadStream
                .record(load, |loaded| Done::read(&loaded.node, loaded.role, loaded.events.len() as u64)),
        )
    }
}

/// A load as a store receives it. The id is already validated.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct LoadStreamRequest {
    /// The id of the stream.
    pub stream: Arc<str>,
    /// Only events with a higher version.
    pub after_version: u64,
    /// Only events with a lower version.
    pub before_version: Option<u64>,
    /// The most events to return, the first ones in the order.
    pub limit: Option<u64>,
    /// The order in which they are returned.
    pub order: Order,
    /// How fresh the read must be.
    pub consistency: Consistency,
    /// What the answer must contain, by its level and its session.
    pub floor: Token,
    /// Whether the caller uses the answer's token.
    pub wants_token: bool,
    /// The time limit set by the caller; otherwise the store's own applies.
    pub timeout: Option<Duration>,
}

impl LoadStreamRequest {
    /// Returns the answer, out of all events of the log in its order, or of this stream in the order of its versions.
    #[must_use]
    pub fn answer_from<'a>(&self, log: impl DoubleEndedIterator<Item = &'a Event> + Clone) -> LoadStreamAnswer {
        let version_of = |event: &Event| event.stream().filter(|it| it.id() == &*self.stream).map(|it| it.version());
        let last = log.clone().rev().find(|event| version_of(event).is_some());
        let is_in =
            |version: u64| version > self.after_version && self.before_version.is_none_or(|before| version < before);
        let found = log.filter(|event| version_of(event).is_some_and(is_in));
        let limit = self.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
        let events = match self.order {
            Order::OldestFirst => found.take(limit).cloned().collect(),
            Order::NewestFirst => found.rev().take(limit).cloned().collect(),
        };
        LoadStreamAnswer::new(events, last.and_then(version_of).unwrap_or_default()).with_last(last.map(Event::id))
    }

    /// Returns the query that reads the whole log.
    pub(super) fn of_everything(&self) -> QueryRequest {
        let mut query = QueryRequest::new(&Filter::any_event());
        (query.consistency, query.timeout) = (self.consistency.clone(), self.timeout);
        (query.floor, query.wants_token) = (self.floor.clone(), self.wants_token);
        query
    }
}

/// A store's answer to a load.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LoadStreamAnswer {
    /// The requested events, in the requested order.
    pub events: Vec<Event>,
    /// The version of the stream's last event, in the same snapshot; 0 if it has none.
    pub version: u64,
    /// The id of that event. If a store does not report it, only the version tells whether the stream is as it was
    /// read.
    pub last: Option<EventId>,
    /// The name of the node that served the read.
    pub node: Arc<str>,
    /// The role of that node.
    pub role: Role,
    /// For reads that contain what this one has seen; empty if the store returns none.
    pub token: Token,
}

served_by!(LoadStreamAnswer);

impl LoadStreamAnswer {
    /// Creates an answer from the requested events, in the requested order, and the version of the stream's last event
    /// in the same snapshot, which is 0 if it has none.
    #[must_use]
    pub fn new(events: Vec<Event>, version: u64) -> Self {
        Self { events, version, last: None, node: "local".into(), role: Role::Primary, token: Token::new() }
    }

    /// Sets the stream's last event, if there is one.
    #[must_use]
    pub fn with_last(mut self, id: impl Into<Option<EventId>>) -> Self {
        self.last = id.into();
        self
    }
}

/// Events of a fixed stream, in the requested order, with the stream's version at the moment of the read.
///
/// It dereferences to the slice of its events.
#[derive(Clone, Debug)]
pub struct LoadedStream {
    id: Arc<str>,
    events: Vec<Event>,
    version: u64,
    last: Option<EventId>,
    node: Arc<str>,
    role: Role,
    token: Token,
}

impl LoadedStream {
    /// Returns the id of the stream.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns the version of the stream's last event in the snapshot of this read, whether that event is among them or
    /// not; 0 for a stream without events.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Returns the expected version for an append that was decided on this load: no events have been appended to the
    /// stream since, and its last event, that of the [version](Self::version), is still the same. It covers the whole
    /// stream, even if only a part was loaded. Whether the decision needs the rest, such as what a snapshot stands for,
    /// is for the application to know.
    ///
    /// ```
    /// # use mainstem::{AppendCondition, EventStore, MemoryEventStore, NewEvent};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> mainstem::Result<()> {
    /// # let store = MemoryEventStore::new();
    /// let account = store.load_stream("account-1").await?;
    /// let opened = NewEvent::new("AccountOpened", &())?;
    /// store.append([opened], AppendCondition::none()).to_stream("account-1", account.unchanged()).await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn unchanged(&self) -> ExpectedVersion {
        match (self.version, self.last) {
            (0, _) => ExpectedVersion::NoStream,
            (version, Some(id)) => ExpectedVersion::Event { version, id },
            (version, None) => ExpectedVersion::Exact(version),
        }
    }

    /// Returns the events.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// Consumes this and returns the events.
    #[must_use]
    pub fn into_events(self) -> Vec<Event> {
        self.events
    }

    /// Returns the name of the node that served the read.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.node
    }

    /// Returns the role of that node.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// Returns a token for reads that contain what this one has seen. In PostgreSQL, it is empty outside a
    /// [`Session`](crate::Session): a load does not look up where the log ends unless the token is needed.
    #[must_use]
    pub fn token(&self) -> &Token {
        &self.token
    }
}

event_list!(LoadedStream);
