//! The level of a request.

use std::task::{Context, Poll};

use http::Request;
use tower_layer::Layer;
use tower_service::Service;

use super::is_safe;
use crate::scope::{Consistency, Scope, Scoped};

/// Opens the scope of each request, at a level that depends on its method.
///
/// Put one around all routes, and others around the routes that need something else: the inner one wins.
///
/// | | safe methods | all others |
/// |---|---|---|
/// | [`by_method`](Self::by_method) | eventual | strong |
/// | [`by_method`](Self::by_method) with [`reading_at`](Self::reading_at) | what you say | strong |
/// | [`strong`](Self::strong) | strong | strong |
/// | [`at`](Self::at) | what you say | what you say |
///
/// Safe methods are `GET`, `HEAD`, `OPTIONS`, `TRACE` and `QUERY`; a method that nobody knows is not safe, and so strong.
/// The rest of the current scope stays: its session and its items.
#[derive(Clone, Debug)]
pub struct ConsistencyLayer {
    safe: Consistency,
    others: Consistency,
}

impl ConsistencyLayer {
    /// Safe methods are eventual, all others strong.
    #[must_use]
    pub fn by_method() -> Self {
        Self { safe: Consistency::Eventual, others: Consistency::Strong }
    }

    /// Every request is strong: for a `GET` that must not be stale, or one that decides or writes.
    #[must_use]
    pub fn strong() -> Self {
        Self::at(Consistency::Strong)
    }

    /// Every request is at this level: `Eventual` for a `POST` that only searches, for example.
    ///
    /// Appends go to the primary at any level. Raw connections don't: at a level below strong they may be read-only.
    #[must_use]
    pub fn at(level: Consistency) -> Self {
        Self { safe: level.clone(), others: level }
    }

    /// Sets the level of safe methods, [`Bounded`](Consistency::Bounded) for example.
    #[must_use]
    pub fn reading_at(mut self, level: Consistency) -> Self {
        self.safe = level;
        self
    }
}

impl<S> Layer<S> for ConsistencyLayer {
    type Service = ConsistencyService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        ConsistencyService { inner, levels: self.clone() }
    }
}

/// The service of a [`ConsistencyLayer`].
#[derive(Clone, Debug)]
pub struct ConsistencyService<S> {
    inner: S,
    levels: ConsistencyLayer,
}

impl<S: Service<Request<B>>, B> Service<Request<B>> for ConsistencyService<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = Scoped<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let level = if is_safe(request.method()) { &self.levels.safe } else { &self.levels.others };
        let scope = Scope::current().with_consistency(level.clone());
        // A service may do its work when it is called, and not when its future is polled.
        let response = scope.run_sync(|| self.inner.call(request));
        scope.run(response)
    }
}
