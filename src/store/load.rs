//! Loading a fixed stream: the call, what a store gets of it, and what it gives.

use std::{future::IntoFuture, ops::Deref, sync::Arc, time::Duration};

use super::{BoxFuture, EventStore, ExpectedVersion, Order, QueryRequest, noted::Noted};
use crate::{
    Consistency, Error, Event, EventId, Filter, Result, Role, Token,
    event::check_stream,
    scope::current_consistency,
    telemetry::{Done, Operation},
};

/// The load of a fixed stream that is about to be made: await it, after changing its part, its order, where and how long if
/// need be.
///
/// A stream that nobody has appended to is empty, at version 0, and not an error.
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
/// [`InvalidInput`](crate::ErrorKind::InvalidInput) when the id cannot be that of a stream: it is empty, has more than
/// [255 bytes](crate::StreamPlace::MAX_ID_LEN), or contains a NUL character. The rest is as for a
/// [query](crate::Query).
///
/// # Cancel safety
///
/// Dropping it has no effect on the log. The connection is closed, since its answer is still to come, unless others
/// [share](crate::PostgresEventStoreBuilder::share_reads) the read.
#[derive(Debug)]
#[must_use = "a load does nothing until it is awaited"]
pub struct LoadStream<'a> {
    store: &'a dyn EventStore,
    request: LoadRequest,
    noted: Noted,
}

impl<'a> LoadStream<'a> {
    pub(super) fn new(store: &'a dyn EventStore, stream: Arc<str>) -> Self {
        let consistency = current_consistency();
        let (after_version, before_version, limit) = (0, None, None);
        let request = LoadRequest {
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

    /// Only events with a higher version, whatever the order. 0 for all, as without it.
    pub fn after_version(mut self, version: u64) -> Self {
        self.request.after_version = version;
        self
    }

    /// Only events with a lower version, whatever the order.
    pub fn before_version(mut self, version: u64) -> Self {
        self.request.before_version = Some(version);
        self
    }

    /// Only this many, the first ones in the order; none for 0.
    pub fn limit(mut self, events: u64) -> Self {
        self.request.limit = Some(events);
        self
    }

    /// From the last event towards the first.
    pub fn newest_first(mut self) -> Self {
        self.request.order = Order::NewestFirst;
        self
    }

    /// Replaces the level that the scope has given.
    pub fn consistency(mut self, consistency: Consistency) -> Self {
        self.request.consistency = consistency;
        self
    }

    /// Replaces the limit of this call, getting a connection included. Defaults to the store's own, which in PostgreSQL
    /// is the router's [`call_timeout`](crate::RouterBuilder::call_timeout).
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.request.timeout = Some(limit);
        self
    }
}

/// The future owns all that it needs: it may be spawned.
impl IntoFuture for LoadStream<'_> {
    type Output = Result<LoadedStream>;
    type IntoFuture = BoxFuture<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        if let Err(what) = check_stream(&self.request.stream) {
            let refused = async { Err(Error::invalid_input(what)) };
            return Box::pin(Operation::LoadStream.tell(refused, |_: &LoadedStream| Done::default()));
        }
        let id = Arc::clone(&self.request.stream);
        let Self { store, mut request, mut noted } = self;
        (request.floor, request.wants_token) = noted.ask(&request.consistency);
        let answer = store.run_load(request);
        let load = async move {
            let LoadAnswer { events, version, last, node, role, token } = answer.await?;
            noted.saw(&token);
            Ok(LoadedStream { id, events, version, last, node, role, token })
        };
        Box::pin(Operation::LoadStream.tell(load, |loaded| Done::read(&loaded.node, loaded.role, loaded.events.len())))
    }
}

/// A load, as a store gets it. The id is checked already.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct LoadRequest {
    /// The id of the stream.
    pub stream: Arc<str>,
    /// Only events with a higher version.
    pub after_version: u64,
    /// Only events with a lower version.
    pub before_version: Option<u64>,
    /// How many of these at most, the first ones in the order.
    pub limit: Option<u64>,
    /// Which of these come first.
    pub order: Order,
    /// How fresh.
    pub consistency: Consistency,
    /// What the answer has to contain, by its level and its session.
    pub floor: Token,
    /// Whether somebody waits for the answer's token.
    pub wants_token: bool,
    /// The limit on time that the caller has set; else the store's own.
    pub timeout: Option<Duration>,
}

impl LoadRequest {
    /// The answer, out of all events of the log in its order, or of this stream in the order of its versions.
    #[must_use]
    pub fn answer_from<'a>(&self, log: impl DoubleEndedIterator<Item = &'a Event> + Clone) -> LoadAnswer {
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
        LoadAnswer::new(events, last.and_then(version_of).unwrap_or_default()).with_last(last.map(Event::id))
    }

    /// The query that reads the whole log.
    pub(super) fn of_everything(&self) -> QueryRequest {
        let mut query = QueryRequest::new(&Filter::any_event());
        (query.consistency, query.timeout) = (self.consistency.clone(), self.timeout);
        (query.floor, query.wants_token) = (self.floor.clone(), self.wants_token);
        query
    }
}

/// What a store answers to a load.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LoadAnswer {
    /// The events that were asked for, in the order that was asked for.
    pub events: Vec<Event>,
    /// The version of the stream's last event, in the same snapshot; 0 when it has none.
    pub version: u64,
    /// The id of that event. A store that does not say leaves it to the version alone whether the stream is as it was read.
    pub last: Option<EventId>,
    /// The name of the node that has served.
    pub node: Arc<str>,
    /// What that node is.
    pub role: Role,
    /// For reads that contain what this one has seen; empty when the store gives none.
    pub token: Token,
}

impl LoadAnswer {
    /// The events that were asked for, in the order that was asked for, and the version of the stream's last event in the
    /// same snapshot, 0 when it has none.
    #[must_use]
    pub fn new(events: Vec<Event>, version: u64) -> Self {
        Self { events, version, last: None, node: "local".into(), role: Role::Primary, token: Token::new() }
    }

    /// Says which event is the stream's last one, if it has some.
    #[must_use]
    pub fn with_last(mut self, id: impl Into<Option<EventId>>) -> Self {
        self.last = id.into();
        self
    }

    /// Says which node has served. Without it, it is a primary named `local`.
    #[must_use]
    pub fn served_by(mut self, node: impl Into<Arc<str>>, role: Role) -> Self {
        (self.node, self.role) = (node.into(), role);
        self
    }

    /// Adds the token for reads that contain what this one has seen.
    #[must_use]
    pub fn with_token(mut self, token: Token) -> Self {
        self.token = token;
        self
    }
}

/// Events of a fixed stream, in the order that was asked for, with the stream's version at the moment of the read.
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
    /// The id of the stream.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The version of the stream's last event in the snapshot that these events were read in, whether it is among them or
    /// not; 0 for a stream without events.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// What an append expects that was decided on this: that nobody has appended to the stream since, and that its last event, which is that
    /// of the [version](Self::version), is the same one. It is so of the whole stream, also when a part of it was loaded: whether a decision
    /// needs the rest, such as what a snapshot stands for, is yours to know.
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

    /// The name of the node that served the read.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.node
    }

    /// The role of that node.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// A token for reads that contain what this one has seen. In PostgreSQL it is empty outside of a
    /// [`Session`](crate::Session): a load does not look where the log ends, unless somebody wants to know.
    #[must_use]
    pub fn token(&self) -> &Token {
        &self.token
    }
}

impl Deref for LoadedStream {
    type Target = [Event];

    fn deref(&self) -> &[Event] {
        &self.events
    }
}

impl IntoIterator for LoadedStream {
    type Item = Event;
    type IntoIter = std::vec::IntoIter<Event>;

    fn into_iter(self) -> Self::IntoIter {
        self.events.into_iter()
    }
}

impl<'a> IntoIterator for &'a LoadedStream {
    type Item = &'a Event;
    type IntoIter = std::slice::Iter<'a, Event>;

    fn into_iter(self) -> Self::IntoIter {
        self.events.iter()
    }
}
