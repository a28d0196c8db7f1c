//! Lookups: the last event of a filter, their number, and whether there is any.

use std::{fmt, future::IntoFuture, ops::Deref, sync::Arc, time::Duration};

use super::{Answer, BoxFuture, EventStore, Order, QueryRequest, query::Call, served_by::served_by};
use crate::{
    Consistency, Event, Result, Role, Token,
    filter::Selection,
    telemetry::{Done, Operation},
};

/// A lookup with one short answer: await it, after changing its level or limit if needed.
///
/// [`EventStore::last`], [`EventStore::count`] and [`EventStore::exists`] create it. Errors and cancellation are as for
/// [`Query`](crate::Query).
#[must_use = "a question is not asked until it is awaited"]
pub struct Lookup<'a, T> {
    call: Call<'a>,
    run: Run<T>,
    operation: Operation,
}

/// The store's method that answers it.
type Run<T> = fn(&dyn EventStore, QueryRequest) -> BoxFuture<Result<Served<T>>>;

/// A short answer, and the node that served it. It dereferences to the answer.
#[derive(Clone, Debug)]
pub struct Served<T> {
    value: T,
    node: Arc<str>,
    role: Role,
    token: Token,
}

impl<'a, T> Lookup<'a, T> {
    fn new(store: &'a dyn EventStore, selection: &impl Selection, operation: Operation, run: Run<T>) -> Self {
        Self { call: Call::new(store, selection), run, operation }
    }

    /// Replaces the scope's consistency level for this call.
    pub fn consistency(mut self, consistency: Consistency) -> Self {
        self.call.request.consistency = consistency;
        self
    }

    /// Replaces the time limit of this call, including the wait for a connection. Defaults to the store's own, which in
    /// PostgreSQL is the router's [`call_timeout`](crate::RouterBuilder::call_timeout).
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.call.request.timeout = Some(limit);
        self
    }
}

pub(super) fn last<'a>(store: &'a dyn EventStore, selection: &impl Selection) -> Lookup<'a, Option<Event>> {
    Lookup::new(store, selection, Operation::Last, |store, mut request| {
        (request.order, request.limit) = (Order::NewestFirst, Some(1));
        let answer = store.run_query(request);
        Box::pin(async move {
            let Answer { mut events, node, role, token, .. } = answer.await?;
            Ok(Served::new(events.pop()).served_by(node, role).with_token(token))
        })
    })
}

pub(super) fn count<'a>(store: &'a dyn EventStore, selection: &impl Selection) -> Lookup<'a, u64> {
    Lookup::new(store, selection, Operation::Count, |store, request| store.run_count(request))
}

pub(super) fn exists<'a>(store: &'a dyn EventStore, selection: &impl Selection) -> Lookup<'a, bool> {
    Lookup::new(store, selection, Operation::Exists, |store, request| store.run_exists(request))
}

served_by!(Served<T>);

impl<T> Served<T> {
    /// Creates an answer; for implementors of stores. The node is a primary named `local`, unless
    /// [`served_by`](Self::served_by) sets another.
    #[must_use]
    pub fn new(value: T) -> Self {
        Self { value, node: "local".into(), role: Role::Primary, token: Token::new() }
    }

    /// Returns the token that [`with_token`](Self::with_token) added; for implementors of stores.
    #[must_use]
    pub fn token(&self) -> &Token {
        &self.token
    }

    /// Consumes this and returns the answer.
    #[must_use]
    pub fn into_inner(self) -> T {
        self.value
    }

    /// Returns the name of the node that served it.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.node
    }

    /// Returns the role of that node.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }
}

impl<T> Deref for Served<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// The future owns all it needs, so it can be spawned.
impl<T: Send + 'static> IntoFuture for Lookup<'_, T> {
    type Output = Result<Served<T>>;
    type IntoFuture = BoxFuture<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        let Self { call, run, operation } = self;
        let Call { store, request, noted } = call.asked();
        let served = run(store, request);
        let lookup = async move {
            let served = served.await?;
            noted.saw(&served.token);
            Ok(served)
        };
        Box::pin(operation.record(lookup, |served| Done::read(&served.node, served.role, 0)))
    }
}

impl<T> fmt::Debug for Lookup<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lookup").field("call", &self.call).finish_non_exhaustive()
    }
}
