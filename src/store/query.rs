//! Reading by filter: the call.

use std::{future::IntoFuture, time::Duration};

use super::{Answer, BoxFuture, EventStore, History, QueryRequest};
use crate::{Consistency, Filter, Result, filter::Selection, scope::current_consistency};

/// A query that is about to be made: await it, after changing where and how long if need be.
///
/// ```no_run
/// # async fn run(store: mainstem::PostgresEventStore, filter: mainstem::Filter) -> mainstem::Result<()> {
/// use std::time::Duration;
/// use mainstem::{Consistency, EventStore};
///
/// let history = store.query(&filter).consistency(Consistency::Eventual).timeout(Duration::from_secs(1)).await?;
/// println!("{} events from {}", history.len(), history.node());
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// [`Unavailable`](crate::ErrorKind::Unavailable) and [`Timeout`](crate::ErrorKind::Timeout) when no node that
/// qualifies answers in time (a replica that is lost on the way is replaced by another node), and
/// [`Schema`](crate::ErrorKind::Schema) when the log's tables are not there.
///
/// # Cancel safety
///
/// Dropping it has no effect on the log. The connection is closed, since its answer is still to come.
#[derive(Debug)]
#[must_use = "a query does nothing until it is awaited"]
pub struct Query<'a, S = Filter> {
    store: &'a dyn EventStore,
    selection: S,
    consistency: Consistency,
    timeout: Option<Duration>,
}

impl<'a, S> Query<'a, S> {
    pub(super) fn new(store: &'a dyn EventStore, selection: S) -> Self {
        Self { store, selection, consistency: current_consistency(), timeout: None }
    }

    /// Replaces the level that the scope has given.
    pub fn consistency(mut self, consistency: Consistency) -> Self {
        self.consistency = consistency;
        self
    }

    /// Replaces the limit of this call, getting a connection included. Defaults to the store's own, which in PostgreSQL
    /// is the router's [`call_timeout`](crate::RouterBuilder::call_timeout).
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }
}

/// The future owns all that it needs: it may be spawned.
impl<S: Selection + 'static> IntoFuture for Query<'_, S> {
    type Output = Result<History<S>>;
    type IntoFuture = BoxFuture<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        let Self { store, selection, consistency, timeout } = self;
        let (filter, bounds) = (selection.filter().clone(), selection.bounds());
        let answer = store.run_query(QueryRequest { filter, bounds, consistency, timeout });
        Box::pin(async move {
            let Answer { events, head, node, role } = answer.await?;
            Ok(History { selection, events, head, node, role })
        })
    }
}
