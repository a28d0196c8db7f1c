//! What is told of batches: spans of their handling and their commits, and figures.

use std::future::Future;

use tracing::{Instrument, Span, field::Empty};

use super::ConsumerBatch;
use crate::{
    Error,
    telemetry::{CONSUME, CONSUMER, ERROR_KIND, ERROR_TYPE, EVENTS, OUTCOME, Outcome, STATUS, Stopwatch, end_span},
};

/// One batch that is to be committed. Dropped before it has [ended](Self::end), that was given up.
#[derive(Debug)]
pub(super) struct BatchTelling {
    consumer: Box<str>,
    events: u64,
    skipped: u64,
    since: Stopwatch,
    is_over: bool,
}

impl BatchTelling {
    pub(super) fn begin(batch: &ConsumerBatch) -> Self {
        let (consumer, events, since) = (batch.checkpoint.consumer.clone(), batch.len() as u64, batch.handed_out);
        Self { consumer: (*consumer).into(), events, skipped: 0, since, is_over: false }
    }

    /// So many of its events were passed over.
    pub(super) fn skipped(&mut self, events: u64) {
        self.skipped = events;
    }

    pub(super) fn end(&mut self, outcome: Outcome) {
        if !std::mem::replace(&mut self.is_over, true) {
            figures! {
                let Self { consumer, events, skipped, since, .. } = self;
                crate::telemetry::metrics::consume::committed(consumer, outcome, *events, *skipped, since.elapsed());
            }
            let _ = (outcome, &self.consumer, self.events, self.skipped, self.since);
        }
    }
}

impl Drop for BatchTelling {
    fn drop(&mut self) {
        self.end(Outcome::Cancelled);
    }
}

/// Notes in a span that what it stands for was given up, unless it has ended.
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

/// The span `commit`, in which this is carried out.
pub(super) fn commit<T>(
    consumer: &str,
    events: u64,
    future: impl Future<Output = Result<T, Error>>,
) -> impl Future<Output = Result<T, Error>> {
    let span = span!("commit", consumer, events);
    within(span, future, |error| error)
}

/// The span `handle`, the same for a batch of a read model. `error` is what of a failure is told.
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
    let mut telling = InSpan { span: span.clone(), is_over: false };
    async move {
        let ended = future.await;
        telling.is_over = true;
        match &ended {
            Ok(_) => end_span(&telling.span, Outcome::Succeeded, None),
            Err(failed) => {
                let error = error(failed);
                end_span(&telling.span, error.into(), Some(error));
            }
        }
        ended
    }
    .instrument(span)
}
