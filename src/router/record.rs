//! The telemetry of each decision and of each call: the names are in [`telemetry`](crate::telemetry).
//!
//! A record begins when a call begins, and is emitted when it is dropped: one that was not ended was cancelled. If
//! nobody wants it, it is an empty word, and nothing is measured. With the feature `metrics` it is always wanted: then
//! it is kept in place, since counting a call should not allocate.

use std::{fmt::Write, sync::Arc, time::Duration};

use tokio::time::Instant;
use tracing::Level;

use super::{
    Effect, Lease, Role, Router,
    core::{NodeSet, Reason, Route, Want},
    nodes::node::Node,
};
#[cfg(feature = "metrics")]
use crate::telemetry::metrics;
use crate::{
    error::{Error, ErrorKind},
    scope::Consistency,
    telemetry::{
        ATTEMPTS, CALL, DURATION, EFFECT, ERROR_KIND, ERROR_TYPE, LEVEL, NAMESPACE, NODE, OUTCOME, Outcome, POSTGRESQL,
        REASON, REPLICAS, ROLE, ROUTE, SERVER_ADDRESS, SERVER_PORT, STATUS_CODE, SYSTEM, WAIT_CONNECTION,
        WAIT_FALLBACK, WAIT_REPLAY, WAIT_START,
    },
};

/// An error, and the outcome that it stands for: its kind alone does not distinguish a write that timed out from one
/// whose connection was lost.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) outcome: Outcome,
    pub(super) error: Error,
}

/// The address of a server, as far as its settings contain it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Endpoint {
    /// A name, an address, or the directory of a socket.
    pub(crate) host: Option<Box<str>>,
    pub(crate) port: Option<u16>,
    pub(crate) database: Option<Box<str>>,
}

/// What a decision waits for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wait {
    Start,
    Connection,
    Replay,
    Fallback,
}

/// Where a record is stored: see above.
#[cfg(not(feature = "metrics"))]
type Kept<T> = Box<T>;
#[cfg(feature = "metrics")]
type Kept<T> = T;

#[cfg(not(feature = "metrics"))]
fn keep<T>(record: T) -> Kept<T> {
    Box::new(record)
}
#[cfg(feature = "metrics")]
fn keep<T>(record: T) -> Kept<T> {
    record
}

/// One decision.
#[derive(Debug)]
pub(super) struct RouteRecord<'a>(Option<Kept<Decided<'a>>>);

#[derive(Debug)]
struct Decided<'a> {
    router: &'a Router,
    level: &'a Consistency,
    want: Want,
    tried: NodeSet,
    /// The last one.
    route: Option<Route>,
    waits: [Duration; 4],
    waiting: Option<(Wait, Instant)>,
    outcome: Outcome,
    error: Option<ErrorKind>,
}

/// One call.
#[derive(Debug)]
pub(super) struct CallRecord<'a>(Option<Kept<Called<'a>>>);

#[derive(Debug)]
struct Called<'a> {
    lease: &'a Lease,
    effect: Effect,
    started: Instant,
    outcome: Outcome,
    error: Option<Error>,
}

impl Failed {
    pub(super) fn refused(error: Error) -> Self {
        Self { outcome: Outcome::Refused, error }
    }

    pub(super) fn conflicted(self) -> Self {
        Self { outcome: Outcome::Conflicted, ..self }
    }

    pub(super) fn timed_out(error: Error) -> Self {
        Self { outcome: Outcome::TimedOut, error }
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self { outcome: (&error).into(), error }
    }
}

impl<'a> RouteRecord<'a> {
    pub(super) fn begin(router: &'a Router, level: &'a Consistency) -> Self {
        let is_wanted = cfg!(feature = "metrics") || tracing::enabled!(target: ROUTE, Level::DEBUG);
        Self(is_wanted.then(|| {
            keep(Decided {
                router,
                level,
                want: super::route::want(level),
                tried: NodeSet::EMPTY,
                route: None,
                waits: [Duration::ZERO; 4],
                waiting: None,
                outcome: Outcome::Cancelled,
                error: None,
            })
        }))
    }

    /// Starts a wait of this kind, until [`waited`](Self::waited).
    pub(super) fn waits(&mut self, wait: Wait) {
        if let Some(decided) = &mut self.0 {
            decided.waiting = Some((wait, Instant::now()));
        }
    }

    pub(super) fn waited(&mut self) {
        if let Some(decided) = &mut self.0 {
            decided.stop_waiting();
        }
    }

    /// This node was chosen for what the call's floor requires.
    pub(super) fn chose(&mut self, route: Route, want: Want) {
        if let Some(decided) = &mut self.0 {
            (decided.route, decided.want) = (Some(route), want);
        }
    }

    /// Ends the decision, after these nodes were tried.
    pub(super) fn end(mut self, tried: NodeSet, failed: Option<&Failed>) {
        if let Some(decided) = &mut self.0 {
            decided.tried = tried;
            decided.outcome = failed.map_or(Outcome::Succeeded, |failed| failed.outcome);
            decided.error = failed.map(|failed| failed.error.kind());
        }
    }
}

impl Decided<'_> {
    fn stop_waiting(&mut self) {
        if let Some((wait, since)) = self.waiting.take() {
            self.waits[wait as usize] += since.elapsed();
        }
    }

    fn emit(&mut self) {
        self.stop_waiting();
        with_metrics! {
            let reason = self.route.map(|route| route.reason);
            metrics::router::decision(self.outcome, self.level, reason, self.error, &self.waits);
            if !tracing::enabled!(target: ROUTE, Level::DEBUG) {
                return;
            }
        }
        let [start, connection, replay, fallback] = self.waits.map(|wait| wait.as_secs_f64());
        let node = self.route.and_then(|route| self.router.inner.nodes.get(route.node));
        let node = node.as_deref();
        let endpoint = node.map(Node::endpoint);
        // This also holds for a call that was cancelled.
        let tried = self.tried | self.route.map_or(NodeSet::EMPTY, |route| NodeSet::one(route.node));
        let replicas = self.replicas();
        let message = match self.outcome {
            Outcome::Succeeded => "routed",
            _ => "not routed",
        };
        tracing::event!(
            target: ROUTE,
            Level::DEBUG,
            {
                { OUTCOME } = self.outcome.as_str(),
                { LEVEL } = self.level.name(),
                { REASON } = self.route.map(|route| route.reason.as_str()),
                { NODE } = node.map(|node| &**node.name()),
                { ROLE } = node.map(|node| node.role().as_str()),
                { SYSTEM } = POSTGRESQL,
                { NAMESPACE } = endpoint.and_then(|endpoint| endpoint.database.as_deref()),
                { SERVER_ADDRESS } = endpoint.and_then(|endpoint| endpoint.host.as_deref()),
                { SERVER_PORT } = endpoint.and_then(|endpoint| endpoint.port),
                { ATTEMPTS } = tried.len() as u64,
                { WAIT_START } = start,
                { WAIT_CONNECTION } = connection,
                { WAIT_REPLAY } = replay,
                { WAIT_FALLBACK } = fallback,
                { REPLICAS } = replicas.as_deref(),
                { ERROR_KIND } = self.error.map(ErrorKind::as_str),
            },
            "{message}"
        );
    }

    /// Why the replicas do not serve, for a read that did not get an ordinary one.
    fn replicas(&self) -> Option<String> {
        let has_replica = self.outcome == Outcome::Succeeded
            && self.route.is_some_and(|route| matches!(route.reason, Reason::Replica | Reason::OnlyNode));
        if self.want == Want::Strong || has_replica {
            return None;
        }
        let (mut text, inner) = (String::new(), &self.router.inner);
        for node in inner.nodes.all().iter().filter(|node| node.role() == Role::Replica) {
            let separator = if text.is_empty() { "" } else { "; " };
            if let Some(exclusion) = inner.state.exclusion(node.handle().index(), self.want, self.tried) {
                let _ = write!(text, "{separator}{}: {exclusion}", node.name());
            }
        }
        Some(text).filter(|text| !text.is_empty())
    }
}

impl Drop for RouteRecord<'_> {
    fn drop(&mut self) {
        if let Some(decided) = &mut self.0 {
            decided.emit();
        }
    }
}

impl<'a> CallRecord<'a> {
    /// For a user's call: the router's own queries are not reported.
    pub(super) fn begin(lease: &'a Lease, effect: Effect) -> Self {
        let is_wanted = cfg!(feature = "metrics") || tracing::enabled!(target: CALL, Level::DEBUG);
        let is_wanted = is_wanted && lease.is_for_user();
        let started = Instant::now;
        let called = || keep(Called { lease, effect, started: started(), outcome: Outcome::Cancelled, error: None });
        Self(is_wanted.then(called))
    }

    /// Ends the call.
    pub(super) fn end(mut self, failed: Option<&Failed>) {
        if let Some(called) = &mut self.0 {
            called.outcome = failed.map_or(Outcome::Succeeded, |failed| failed.outcome);
            called.error = failed.map(|failed| failed.error.clone());
        }
    }
}

impl Called<'_> {
    fn emit(&self) {
        let node = self.lease.node();
        let endpoint = node.endpoint();
        let status = self.error.as_ref().and_then(Error::sqlstate);
        let kind = self.error.as_ref().map(|error| error.kind().as_str());
        let duration = self.started.elapsed();
        with_metrics! {
            let (role, effect, outcome, error_type) = (self.lease.role(), self.effect, self.outcome, status.or(kind));
            let call = metrics::router::Call { role, effect, outcome, error_type, status, duration };
            node.metrics().called(node.name(), endpoint, &call);
            if !tracing::enabled!(target: CALL, Level::DEBUG) {
                return;
            }
        }
        tracing::event!(
            target: CALL,
            Level::DEBUG,
            {
                { OUTCOME } = self.outcome.as_str(),
                { EFFECT } = self.effect.as_str(),
                { DURATION } = duration.as_secs_f64(),
                { NODE } = &**node.name(),
                { ROLE } = self.lease.role().as_str(),
                { SYSTEM } = POSTGRESQL,
                { NAMESPACE } = endpoint.database.as_deref(),
                { SERVER_ADDRESS } = endpoint.host.as_deref(),
                { SERVER_PORT } = endpoint.port,
                { STATUS_CODE } = status,
                { ERROR_TYPE } = status.or(kind),
                { ERROR_KIND } = kind,
            },
            "called"
        );
    }
}

impl Drop for CallRecord<'_> {
    fn drop(&mut self) {
        if let Some(called) = &self.0 {
            called.emit();
        }
    }
}

impl Lease {
    /// Reports a call that is refused before anything is sent.
    pub(super) fn refuse(&self, effect: Effect, error: Error) -> Error {
        let error = error.with_node(Arc::clone(self.node().name()));
        let failed = Failed::refused(error);
        CallRecord::begin(self, effect).end(Some(&failed));
        failed.error
    }
}

#[cfg(all(test, not(feature = "metrics")))]
mod tests {
    use super::*;

    #[tokio::test]
    async fn where_nobody_wants_it_a_record_is_empty() {
        let builder = Router::builder().primary("postgres://localhost/shop?sslmode=disable").probe_interval(None);
        let router = builder.build().unwrap();
        assert!(RouteRecord::begin(&router, &Consistency::Strong).0.is_none());
    }
}
