//! The consistency level of a request.

use std::task::{Context, Poll};

use http::Request;
use tower_layer::Layer;
use tower_service::Service;

use super::is_safe;
use crate::scope::{Consistency, Scope, Scoped};

/// Opens the scope of each request, at a level that depends on its method.
///
/// Put one around all routes, and others around the routes that need a different level: the innermost one wins.
///
/// | | safe methods | all others |
/// |---|---|---|
/// | [`by_method`](Self::by_method) | eventual | strong |
/// | [`by_method`](Self::by_method) with [`reading_at`](Self::reading_at) | the given level | strong |
/// | [`strong`](Self::strong) | strong | strong |
/// | [`at`](Self::at) | the given level | the given level |
///
/// Safe methods are `GET`, `HEAD`, `OPTIONS`, `TRACE` and `QUERY`; an unknown method is not safe, and therefore strong.
/// The rest of the current scope stays: its session and its items.
#[derive(Clone, Debug)]
pub struct ConsistencyLayer {
    safe: Consistency,
    others: Consistency,
}

impl ConsistencyLayer {
    /// Makes safe methods eventual, and all others strong.
    #[must_use]
    pub fn by_method() -> Self {
        Self { safe: Consistency::Eventual, others: Consistency::Strong }
    }

    /// Makes every request strong: for a `GET` that must not be stale, or one that decides or writes.
    #[must_use]
    pub fn strong() -> Self {
        Self::at(Consistency::Strong)
    }

    /// Sets one level for every request: `Eventual` for a `POST` that only searches, for example.
    ///
    /// Appends go to the primary at any level. Raw connections do not: at a level below strong they may be read-only.
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

/// The service created by a [`ConsistencyLayer`].
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
        // A service may do its work when it is called, not only when its future is polled.
        let response = scope.run_sync(|| self.inner.call(request));
        scope.run(response)
    }
}
