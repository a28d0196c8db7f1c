//! Reading by filter: the calls.

use std::{future::IntoFuture, time::Duration};

use super::{Answer, BoxFuture, EventStore, History, Order, Page, PageStream, QueryRequest, QueryStream, noted::Noted};
use crate::{
    Consistency, Filter, Result,
    filter::Selection,
    telemetry::{Done, Operation},
};

/// A query: await it, after changing its level or limits if needed.
///
/// ```no_run
/// # async fn run(store: mainstem::PostgresEventStore, filter: mainstem::Filter) -> mainstem::Result<()> {
/// use std::time::Duration;
/// use mainstem::{Consistency, EventStore};
///
/// let history = store.query(&filter).consistency(Consistency::Eventual).timeout(Duration::from_secs(1)).await?;
/// println!("{} events from {}", history.len(), history.node());
///
/// // Only some of them, or from the end: that is a page, which vouches for nothing.
/// let page = store.query(&filter).newest_first().limit(10).await?;
/// println!("the last {}, back to {:?}", page.len(), page.last_read());
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// [`Unavailable`](crate::ErrorKind::Unavailable) and [`Timeout`](crate::ErrorKind::Timeout) if no qualified node
/// answers in time (a replica that is lost during the read is replaced by another node), and
/// [`Schema`](crate::ErrorKind::Schema) if the log's tables do not exist.
///
/// # Cancel safety
///
/// Dropping it has no effect on the log. The connection is closed, since its answer is still outstanding, unless others
/// [share](crate::PostgresEventStoreBuilder::share_reads) the read.
#[derive(Debug)]
#[must_use = "a query does nothing until it is awaited"]
pub struct Query<'a, S = Filter> {
    call: Call<'a>,
    selection: S,
}

/// A query for part of the matching events, or from the end: await it, for a [`Page`].
///
/// [`Query::limit`] and [`Query::newest_first`] create it. Errors and cancellation are as for [`Query`].
#[derive(Debug)]
#[must_use = "a query does nothing until it is awaited"]
pub struct PageQuery<'a, S = Filter> {
    call: Call<'a>,
    selection: S,
}

/// A store, and the call that is about to be made.
#[derive(Debug)]
pub(super) struct Call<'a> {
    pub(super) store: &'a dyn EventStore,
    pub(super) request: QueryRequest,
    pub(super) noted: Noted,
}

impl<'a> Call<'a> {
    /// Creates a call at the level of the current scope, and within its session.
    pub(super) fn new(store: &'a dyn EventStore, selection: &impl Selection) -> Self {
        Self { store, request: QueryRequest::new(selection), noted: Noted::current() }
    }

    /// Returns the call as it is made now: its session may have advanced since the call was created.
    pub(super) fn asked(mut self) -> Self {
        (self.request.floor, self.request.wants_token) = self.noted.ask(&self.request.consistency);
        self
    }
}

impl<'a, S: Selection> Query<'a, S> {
    pub(crate) fn new(store: &'a dyn EventStore, selection: S) -> Self {
        Self { call: Call::new(store, &selection), selection }
    }

    /// Replaces the scope's consistency level for this call.
    pub fn consistency(mut self, consistency: Consistency) -> Self {
        self.call.request.consistency = consistency;
        self
    }

    /// Replaces the time limit of this call, including the wait for a connection. Defaults to the store's own, which in
    /// PostgreSQL is the router's [`call_timeout`](crate::RouterBuilder::call_timeout).
    ///
    /// For a [stream](Self::stream), it is the limit of each wait for events, and never counts time in which none is
    /// requested.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.call.request.timeout = Some(limit);
        self
    }

    /// Reads at most this many events, the first in the order.
    ///
    /// In PostgreSQL, a limited read of [any event](Filter::any_event), or by types alone, looks at no more events than
    /// it returns (of each type). With tags or predicates, it first finds all matches, by their index.
    pub fn limit(self, events: u64) -> PageQuery<'a, S> {
        self.page().limit(events)
    }

    /// Reads from the end of the log towards its beginning.
    pub fn newest_first(self) -> PageQuery<'a, S> {
        self.page().newest_first()
    }

    /// Reads the events one by one, without holding them all: see [`QueryStream`].
    pub fn stream(self) -> QueryStream<S> {
        let Call { store, request, noted } = self.call.asked();
        QueryStream::new(store.run_query_stream(request), self.selection, noted)
    }

    fn page(self) -> PageQuery<'a, S> {
        PageQuery { call: self.call, selection: self.selection }
    }
}

impl<S: Selection> PageQuery<'_, S> {
    /// Replaces the scope's consistency level for this call.
    pub fn consistency(mut self, consistency: Consistency) -> Self {
        self.call.request.consistency = consistency;
        self
    }

    /// Replaces the time limit; see [`Query::timeout`].
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.call.request.timeout = Some(limit);
        self
    }

    /// Reads at most this many events; see [`Query::limit`].
    pub fn limit(mut self, events: u64) -> Self {
        self.call.request.limit = Some(events);
        self
    }

    /// Reads from the end of the log towards its beginning.
    pub fn newest_first(mut self) -> Self {
        self.call.request.order = Order::NewestFirst;
        self
    }

    /// Reads the events one by one, without holding them all: see [`PageStream`].
    pub fn stream(self) -> PageStream<S> {
        let Call { store, request, noted } = self.call.asked();
        PageStream::new(QueryStream::new(store.run_query_stream(request), self.selection, noted))
    }
}

/// The future owns all it needs, so it can be spawned.
impl<S: Selection> IntoFuture for Query<'_, S> {
    type Output = Result<History<S>>;
    type IntoFuture = BoxFuture<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        let Self { call, selection } = self;
        let Call { store, request, noted } = call.asked();
        let answer = store.run_query(request);
        let query = async move {
            let Answer { events, head, node, role, token } = answer.await?;
            noted.saw(&token);
            Ok(History { selection, events, head, node, role, token })
        };
        Box::pin(
            Operation::Query.record(query, |history| Done::read(history.node(), history.role(), history.len() as u64)),
        )
    }
}

/// The future owns all it needs, so it can be spawned.
impl<S: Selection> IntoFuture for PageQuery<'_, S> {
    type Output = Result<Page<S>>;
    type IntoFuture = BoxFuture<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        let Self { call, selection } = self;
        let Call { store, request, noted } = call.asked();
        let answer = store.run_query(request);
        let query = async move {
            let answer = answer.await?;
            noted.saw(&answer.token);
            Ok(Page::new(answer, selection))
        };
        Box::pin(Operation::Query.record(query, |page| Done::read(page.node(), page.role(), page.len() as u64)))
    }
}
