//! Reading by filter.

use std::{future::IntoFuture, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;

use super::{PostgresEventStore, failure, filter_sql, wire};
use crate::{
    Consistency, Filter, History,
    error::Result,
    filter::Selection,
    router::{Deadline, Effect, Lease},
};

/// A query that is about to be made: await it, after changing where and how long if need be.
///
/// ```no_run
/// # async fn run(store: mainstem::PostgresEventStore, filter: mainstem::Filter) -> mainstem::Result<()> {
/// use std::time::Duration;
/// use mainstem::Consistency;
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
pub struct Query<S = Filter> {
    store: PostgresEventStore,
    selection: S,
    consistency: Consistency,
    timeout: Duration,
}

impl<S> Query<S> {
    pub(super) fn new(store: PostgresEventStore, selection: S, consistency: Consistency) -> Self {
        let timeout = store.router.call_timeout();
        Self { store, selection, consistency, timeout }
    }

    /// Replaces the level that the scope has given.
    pub fn consistency(mut self, consistency: Consistency) -> Self {
        self.consistency = consistency;
        self
    }

    /// Replaces the limit of this call, getting a connection included. Defaults to the router's
    /// [`call_timeout`](crate::RouterBuilder::call_timeout).
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = limit;
        self
    }
}

impl<S: Selection + 'static> IntoFuture for Query<S> {
    type Output = Result<History<S>>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let Self { store, selection, consistency, timeout } = self;
            let deadline = Deadline::after(timeout);
            let selection = Arc::new(selection);
            let read = |lease| read(store.clone(), Arc::clone(&selection), lease, deadline);
            let history = store.router.read(&consistency, deadline, read).await;
            let history = history.map_err(|error| failure::classify(error, store.name()))?;
            let History { events, head, node, role, selection: _ } = history;
            drop(store);
            match Arc::try_unwrap(selection) {
                Ok(selection) => Ok(History { selection, events, head, node, role }),
                Err(_) => unreachable!("every reader of the selection has returned"),
            }
        })
    }
}

async fn read<S: Selection>(
    store: PostgresEventStore,
    selection: Arc<S>,
    lease: Lease,
    deadline: Deadline,
) -> Result<History<()>> {
    let mut params = Vec::new();
    let filter = filter_sql::selection(&*selection, &mut params);
    let sql = store.log.query.with(&filter);
    let rows = lease.query(Effect::Read, deadline, &sql, &filter_sql::bound(&params)?).await?;
    let head = match rows.first() {
        Some(row) => wire::mark(row, 0).map_err(wire::unreadable)?,
        None => None,
    };
    let events = rows.iter().filter_map(|row| wire::event(row, 2).transpose());
    let events = events.collect::<Result<Vec<_>, _>>().map_err(wire::unreadable)?;
    let node = lease.node();
    Ok(History { selection: (), events, head, node: Arc::clone(node.name()), role: node.role() })
}
