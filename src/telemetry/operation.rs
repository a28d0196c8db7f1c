//! The telemetry of a store's operations: a span for each, and its metrics.

use std::future::Future;

use tracing::{Instrument, Span, field::Empty};

use super::{
    ERROR_KIND, ERROR_TYPE, EVENTS, NODE, OPERATION, OUTCOME, Outcome, ROLE, STATUS, STATUS_ERROR, STORE,
    stopwatch::Stopwatch,
};
use crate::{Role, error::Error};

/// The operations of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Append,
    Query,
    Last,
    Count,
    Exists,
    QueryStream,
    LoadStream,
    SaveSnapshot,
    LoadSnapshot,
    DeleteSnapshot,
    Project,
}

/// What to report about a successful operation.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Done<'a> {
    /// The serving node and its role. For writes, a store reports only that it is the primary.
    pub(crate) served: Option<(&'a str, Role)>,
    /// The events that were read or written.
    pub(crate) events: u64,
}

impl<'a> Done<'a> {
    /// This many events were read from this node.
    pub(crate) fn read(node: &'a str, role: Role, events: u64) -> Self {
        Self { served: Some((node, role)), events }
    }
}

/// One operation in progress. If it is dropped before it has [ended](Self::end), it was cancelled.
#[derive(Debug)]
pub(crate) struct OperationSpan {
    operation: Operation,
    span: Span,
    /// Runs from the first poll.
    stopwatch: Stopwatch,
    is_over: bool,
}

impl Operation {
    #[cfg(feature = "metrics")]
    pub(crate) const COUNT: usize = Self::Project as usize + 1;

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Append => "append",
            Self::Query => "query",
            Self::Last => "last",
            Self::Count => "count",
            Self::Exists => "exists",
            Self::QueryStream => "query_stream",
            Self::LoadStream => "load_stream",
            Self::SaveSnapshot => "save_snapshot",
            Self::LoadSnapshot => "load_snapshot",
            Self::DeleteSnapshot => "delete_snapshot",
            Self::Project => "project",
        }
    }

    /// Its span, inside the one that is open at the call.
    pub(crate) fn span(self) -> Span {
        // Each name has to be a constant.
        macro_rules! span {
            ($name:literal) => {
                tracing::debug_span!(
                    target: STORE,
                    $name,
                    { OPERATION } = self.as_str(),
                    { OUTCOME } = Empty,
                    { NODE } = Empty,
                    { ROLE } = Empty,
                    { EVENTS } = Empty,
                    { ERROR_KIND } = Empty,
                    { ERROR_TYPE } = Empty,
                    { STATUS } = Empty,
                )
            };
        }
        match self {
            Self::Append => span!("append"),
            Self::Query => span!("query"),
            Self::Last => span!("last"),
            Self::Count => span!("count"),
            Self::Exists => span!("exists"),
            Self::QueryStream => span!("query_stream"),
            Self::LoadStream => span!("load_stream"),
            Self::SaveSnapshot => span!("save_snapshot"),
            Self::LoadSnapshot => span!("load_snapshot"),
            Self::DeleteSnapshot => span!("delete_snapshot"),
            Self::Project => span!("project"),
        }
    }

    /// Runs the operation in its span and reports it. `done` extracts what to report from its result.
    pub(crate) fn record<T>(
        self,
        future: impl Future<Output = Result<T, Error>>,
        done: impl FnOnce(&T) -> Done<'_>,
    ) -> impl Future<Output = Result<T, Error>> {
        let span = self.span();
        let within = span.clone();
        async move {
            let call_span = OperationSpan::begin(self, span);
            let outcome = future.await;
            call_span.end(outcome.as_ref().map(done));
            outcome
        }
        .instrument(within)
    }
}

impl OperationSpan {
    /// Marks the operation as in progress.
    pub(crate) fn begin(operation: Operation, span: Span) -> Self {
        Self { operation, span, stopwatch: Stopwatch::start(), is_over: false }
    }

    pub(crate) fn end(mut self, outcome: Result<Done<'_>, &Error>) {
        self.is_over = true;
        match outcome {
            Ok(done) => self.emit(Outcome::Succeeded, done, None),
            Err(error) => self.emit(error.into(), Done::default(), Some(error)),
        }
    }

    fn emit(&self, outcome: Outcome, done: Done<'_>, error: Option<&Error>) {
        if !self.span.is_disabled() {
            end_span(&self.span, outcome, error);
            if let Some(node) = done.served.map(|(node, _)| node).or_else(|| error?.node()) {
                self.span.record(NODE, node);
            }
            if let Some((_, role)) = done.served {
                self.span.record(ROLE, role.as_str());
            }
            if outcome == Outcome::Succeeded {
                self.span.record(EVENTS, done.events);
            }
        }
        with_metrics! {
            super::metrics::store::operation(self.operation, outcome, done, error, self.stopwatch.elapsed());
        }
        let _ = (self.operation, self.stopwatch);
    }
}

impl Drop for OperationSpan {
    fn drop(&mut self) {
        if !self.is_over {
            self.emit(Outcome::Cancelled, Done::default(), None);
        }
    }
}

/// Records in a span how it ended. Of an error, only its kind: messages quote values.
pub(crate) fn end_span(span: &Span, outcome: Outcome, error: Option<&Error>) {
    span.record(OUTCOME, outcome.as_str());
    if let Some(error) = error {
        span.record(ERROR_KIND, error.kind().as_str());
        span.record(ERROR_TYPE, error.sqlstate().unwrap_or_else(|| error.kind().as_str()));
    }
    if outcome.is_error() {
        span.record(STATUS, STATUS_ERROR);
    }
}
