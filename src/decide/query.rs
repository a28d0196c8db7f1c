//! Reading a decision model: one query for all of its parts.

use std::{
    fmt,
    future::{Future, IntoFuture},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use tracing::Instrument;

use super::{
    boundary::Boundary,
    limit::Limit,
    projection::{DecisionModel, Parts},
    telemetry::{ModelReadSpan, model_span},
};
use crate::{
    AppendCondition, Consistency, Filter, Mark, Result, Role, Scope, Token,
    store::{EventStore, Query, QueryStream},
};

/// The read of a decision model: await it, for a [`ModelState`], after setting its level and limits if needed.
///
/// It is one query, whatever the number of parts.
///
/// # Errors
///
/// As [`Query`](crate::Query); whatever a part's [`filter`](crate::Projection::filter) and
/// [`apply`](crate::Projection::apply) return; and [`InvalidInput`](crate::ErrorKind::InvalidInput) for a model without parts.
///
/// # Panics
///
/// If a part's `apply` panics.
///
/// # Cancel safety
///
/// Dropping it has no effect on the log.
#[must_use = "a model is not read until this is awaited"]
pub struct ModelQuery<'a, M> {
    model: M,
    store: &'a dyn EventStore,
    consistency: Consistency,
    timeout: Option<Duration>,
    streaming: bool,
    limit: Option<Limit>,
    /// The name of the model's type, for telemetry.
    name: &'static str,
    /// The scope of the call; its session is the one of the read.
    scope: Scope,
}

impl<'a, M> ModelQuery<'a, M> {
    pub(super) fn new(model: M, store: &'a dyn EventStore) -> Self {
        let scope = Scope::current();
        let consistency = scope.consistency().clone();
        let name = std::any::type_name::<M>();
        Self { model, store, consistency, timeout: None, streaming: false, limit: None, name, scope }
    }

    /// Replaces the scope's consistency level for this call.
    pub fn consistency(mut self, consistency: Consistency) -> Self {
        self.consistency = consistency;
        self
    }

    /// Replaces the time limit of this call, including the wait for a connection. Defaults to the store's own, which in
    /// PostgreSQL is the router's [`call_timeout`](crate::RouterBuilder::call_timeout). With
    /// [`streaming`](Self::streaming), it is the limit of each wait for events.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }

    /// Applies the events as they arrive, without holding them all: for large histories. See
    /// [`QueryStream`](crate::QueryStream) for what it costs; short histories are read faster without it.
    pub fn streaming(mut self) -> Self {
        self.streaming = true;
        self
    }

    /// Reports it as a read of this type.
    pub(super) fn called(mut self, name: &'static str) -> Self {
        self.name = name;
        self
    }

    /// Fails at once if too many of its kind are in flight.
    pub(super) fn limited(mut self, limit: Limit) -> Self {
        self.limit = Some(limit);
        self
    }
}

/// The future borrows the store; to spawn it, move that into the task.
impl<'a, M: DecisionModel + 'a> IntoFuture for ModelQuery<'a, M> {
    type Output = Result<ModelState<M>>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        let (scope, span, name) = (self.scope.clone(), model_span(self.name), self.name);
        let within = span.clone();
        let read = async move {
            let call_span = ModelReadSpan::begin(name, span);
            let read = Box::pin(self.run()).await;
            call_span.end(read.as_ref().map(|read| (read.node(), read.role(), read.applied())));
            read
        };
        Box::pin(scope.run(read.instrument(within)))
    }
}

impl<M: DecisionModel> ModelQuery<'_, M> {
    async fn run(self) -> Result<ModelState<M>> {
        let Self { mut model, store, consistency, timeout, streaming, limit, .. } = self;
        let _place = limit.as_ref().map(Limit::enter).transpose()?;
        let boundary = Boundary::of(&mut model)?;
        let call = Query::new(store, boundary.filter().clone()).consistency(consistency);
        let call = match timeout {
            Some(limit) => call.timeout(limit),
            None => call,
        };
        if streaming { stream(model, &boundary, call.stream()).await } else { whole(model, &boundary, call).await }
    }
}

async fn whole<M: DecisionModel>(mut model: M, boundary: &Boundary, call: Query<'_>) -> Result<ModelState<M>> {
    let history = call.await?;
    boundary.apply_all(&mut model, &history)?;
    let (applied, head, role) = (history.len() as u64, history.head(), history.role());
    let (node, token) = (history.node().into(), history.token().clone());
    Ok(ModelState { model, filter: boundary.filter().clone(), head, applied, node, role, token })
}

async fn stream<M: DecisionModel>(mut model: M, boundary: &Boundary, mut events: QueryStream) -> Result<ModelState<M>> {
    let mut applied = 0;
    let mut parts = Parts::of(&mut model);
    while let Some(event) = events.next().await {
        boundary.apply_to(&mut parts, &event?)?;
        applied += 1;
    }
    // A stream that ended without an error has an end, and was served by a node.
    let head = events.end().and_then(crate::QueryEnd::head);
    let node = events.node().unwrap_or_default().into();
    let role = events.role().unwrap_or(Role::Primary);
    let token = events.end().map(|end| end.token().clone()).unwrap_or_default();
    Ok(ModelState { model, filter: boundary.filter().clone(), head, applied, node, role, token })
}

impl<M: fmt::Debug> fmt::Debug for ModelQuery<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModelQuery").field("model", &self.model).finish_non_exhaustive()
    }
}

/// A decision model with all events of its filters applied, and the log's head at the moment of the read.
#[derive(Clone, Debug)]
pub struct ModelState<M> {
    model: M,
    filter: Filter,
    head: Option<Mark>,
    applied: u64,
    node: Arc<str>,
    role: Role,
    token: Token,
}

impl<M> ModelState<M> {
    /// Returns the state.
    #[must_use]
    pub fn state(&self) -> &M {
        &self.model
    }

    /// Consumes this and returns the state.
    #[must_use]
    pub fn into_state(self) -> M {
        self.model
    }

    /// Returns the union of the parts' filters: what was read.
    #[must_use]
    pub fn filter(&self) -> &Filter {
        &self.filter
    }

    /// Returns the last event of the whole log in the snapshot of the read, whether it matched or not. `None` if the
    /// log was empty.
    #[must_use]
    pub fn head(&self) -> Option<Mark> {
        self.head
    }

    /// Returns the condition that guards this state: no event that matches any part's filter has been appended since.
    ///
    /// It covers a read that found nothing, too. As with [`History::unchanged`](crate::History::unchanged), it also
    /// holds for a state from a replica.
    pub fn unchanged(&self) -> AppendCondition {
        self.unchanged_for(self.filter.clone())
    }

    /// Returns the same condition for another filter than the model's: see
    /// [`History::unchanged_for`](crate::History::unchanged_for).
    pub fn unchanged_for(&self, filter: Filter) -> AppendCondition {
        AppendCondition::since(self.head, filter)
    }

    /// Returns a token for reads that contain what this one has seen; see [`History::token`](crate::History::token).
    #[must_use]
    pub fn token(&self) -> &Token {
        &self.token
    }

    /// Returns how many events were read. An event that concerns several parts counts once.
    #[must_use]
    pub fn applied(&self) -> u64 {
        self.applied
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
}
