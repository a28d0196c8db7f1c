//! The telemetry of batches: spans of their handling and their commits, and metrics.

use std::future::Future;

use tracing::{Instrument, Span, field::Empty};

use super::ConsumerBatch;
use crate::{
    Error,
    telemetry::{CONSUME, CONSUMER, ERROR_KIND, ERROR_TYPE, EVENTS, OUTCOME, Outcome, STATUS, Stopwatch, end_span},
};

/// A batch that is to be committed. If this is dropped before it has [ended](Self::end), the batch was abandoned.
#[derive(Debug)]
pub(super) struct BatchSpan {
    consumer: Box<str>,
    events: u64,
    skipped: u64,
    since: Stopwatch,
    is_over: bool,
}

impl BatchSpan {
    pub(super) fn begin(batch: &ConsumerBatch) -> Self {
        let (consumer, events, since) = (batch.checkpoint.consumer.clone(), batch.len() as u64, batch.handed_out);
        Self { consumer: (*consumer).into(), events, skipped: 0, since, is_over: false }
    }

    /// Records how many of its events were skipped.
    pub(super) fn skipped(&mut self, events: u64) {
        self.skipped = events;
    }

    pub(super) fn end(&mut self, outcome: Outcome) {
        if !std::mem::replace(&mut self.is_over, true) {
            with_metrics! {
                let Self { consumer, events, skipped, since, .. } = self;
                crate::telemetry::metrics::consume::committed(consumer, outcome, *events, *skipped, since.elapsed());
            }
            let _ = (outcome, &self.consumer, self.events, self.skipped, self.since);
        }
    }
}

impl Drop for BatchSpan {
    fn drop(&mut self) {
        self.end(Outcome::Cancelled);
    }
}

/// Records in a span that its operation was cancelled, unless it has ended.
struct InSpan {
    span: Span,
    is_over: bool,
}

impl Drop for InSpan {
    fn drop(&mut self) {
        if !self.is_over {
            end_span(&self.span, Outcome::Cancelled, None);
        }
    }
}

/// A span of a batch. Its name has to be a constant.
macro_rules! span {
    ($name:literal, $consumer:expr, $events:expr) => {
        tracing::debug_span!(
            target: CONSUME,
            $name,
            { CONSUMER } = $consumer,
            { EVENTS } = $events,
            { OUTCOME } = Empty,
            { ERROR_KIND } = Empty,
            { ERROR_TYPE } = Empty,
            { STATUS } = Empty,
        )
    };
}

/// Carries this out in the span `commit`.
pub(super) fn commit<T>(
    consumer: &str,
    events: u64,
    future: impl Future<Output = Result<T, Error>>,
) -> impl Future<Output = Result<T, Error>> {
    let span = span!("commit", consumer, events);
    within(span, future, |error| error)
}

/// Carries this out in the span `handle`, which batches of read models have as well. `error` extracts what is reported
/// of a failure.
pub(in crate::consume) fn handle<T, E>(
    consumer: &str,
    events: u64,
    future: impl Future<Output = Result<T, E>>,
    error: impl FnOnce(&E) -> &Error,
) -> impl Future<Output = Result<T, E>> {
    let span = span!("handle", consumer, events);
    within(span, future, error)
}

fn within<T, E>(
    span: Span,
    future: impl Future<Output = Result<T, E>>,
    error: impl FnOnce(&E) -> &Error,
) -> impl Future<Output = Result<T, E>> {
    let mut call_span = InSpan { span: span.clone(), is_over: false };
    async move {
        let ended = future.await;
        call_span.is_over = true;
        match &ended {
            Ok(_) => end_span(&call_span.span, Outcome::Succeeded, None),
            Err(failed) => {
                let error = error(failed);
                end_span(&call_span.span, error.into(), Some(error));
            }
        }
        ended
    }
    .instrument(span)
}
