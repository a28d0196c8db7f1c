//! Telemetry of commands and of reads of models: a span for each, and its metrics.

use std::any::type_name;

use tracing::{Span, field::Empty};

use super::{
    Attempts,
    retry_state::{Retries, RetryState},
};
use crate::{
    Error, Role,
    telemetry::{
        COMMAND, CONFLICTS, DECIDE, DECISIONS, ERROR_KIND, ERROR_TYPE, EVENTS, MODEL, NODE, OUTCOME, Outcome, RETRIES,
        RETRY_DELAY, ROLE, STATUS, Stopwatch, end_span,
    },
};

/// The execution of one command. If it is dropped before it has [ended](Self::end), it was cancelled.
#[derive(Debug)]
pub(super) struct CommandSpan {
    name: &'static str,
    span: Span,
    stopwatch: Stopwatch,
    pub(super) retry: RetryState,
    is_over: bool,
}

/// The read of one model; the same applies to it.
#[derive(Debug)]
pub(super) struct ModelReadSpan {
    name: &'static str,
    span: Span,
    stopwatch: Stopwatch,
    is_over: bool,
}

/// Creates the span of a command, inside the current span.
pub(super) fn command_span<C: ?Sized>() -> Span {
    let span = tracing::debug_span!(
        target: DECIDE,
        "execute",
        { COMMAND } = Empty,
        { OUTCOME } = Empty,
        { DECISIONS } = Empty,
        { CONFLICTS } = Empty,
        { RETRIES } = Empty,
        { RETRY_DELAY } = Empty,
        { ERROR_KIND } = Empty,
        { ERROR_TYPE } = Empty,
        { STATUS } = Empty,
    );
    if !span.is_disabled() {
        span.record(COMMAND, short(type_name::<C>()));
    }
    span
}

/// Creates the span of the read of a model of this type.
pub(super) fn model_span(name: &'static str) -> Span {
    let span = tracing::debug_span!(
        target: DECIDE,
        "load_model",
        { MODEL } = Empty,
        { OUTCOME } = Empty,
        { NODE } = Empty,
        { ROLE } = Empty,
        { EVENTS } = Empty,
        { ERROR_KIND } = Empty,
        { ERROR_TYPE } = Empty,
        { STATUS } = Empty,
    );
    if !span.is_disabled() {
        span.record(MODEL, short(name));
    }
    span
}

impl CommandSpan {
    pub(super) fn begin<C: ?Sized>(retries: &Retries, span: Span) -> Self {
        let (name, retry) = (type_name::<C>(), RetryState::new(retries));
        Self { name, span, stopwatch: Stopwatch::start(), retry, is_over: false }
    }

    pub(super) fn end(mut self, outcome: Outcome, error: Option<&Error>, is_repeated: bool) -> Attempts {
        self.is_over = true;
        self.emit(outcome, error, is_repeated);
        std::mem::take(&mut self.retry.attempts)
    }

    fn emit(&self, outcome: Outcome, error: Option<&Error>, is_repeated: bool) {
        let RetryState { attempts, retries_made, limit, .. } = &self.retry;
        if !self.span.is_disabled() {
            end_span(&self.span, outcome, error);
            self.span.record(DECISIONS, attempts.decisions);
            self.span.record(CONFLICTS, attempts.conflicts);
            self.span.record(RETRIES, *retries_made);
            self.span.record(RETRY_DELAY, attempts.delay.as_secs_f64());
        }
        with_metrics! {
            use crate::telemetry::metrics::decide::{CommandEnd, commanded};
            let end = CommandEnd {
                outcome,
                error,
                is_repeated,
                conflicts: attempts.conflicts,
                retries: *retries_made,
                delay: attempts.delay,
                limit: *limit,
                duration: self.stopwatch.elapsed(),
            };
            commanded(&short(self.name), &end);
        }
        let _ = (self.name, self.stopwatch, limit, is_repeated);
    }
}

impl Drop for CommandSpan {
    fn drop(&mut self) {
        if !self.is_over {
            self.emit(Outcome::Cancelled, None, false);
        }
    }
}

impl ModelReadSpan {
    pub(super) fn begin(name: &'static str, span: Span) -> Self {
        Self { name, span, stopwatch: Stopwatch::start(), is_over: false }
    }

    /// Ends it: a node served the read, and a number of events were applied; or it failed.
    pub(super) fn end(mut self, read: Result<(&str, Role, u64), &Error>) {
        self.is_over = true;
        match read {
            Ok(read) => self.emit(Outcome::Succeeded, Some(read), None),
            Err(error) => self.emit(error.into(), None, Some(error)),
        }
    }

    fn emit(&self, outcome: Outcome, read: Option<(&str, Role, u64)>, error: Option<&Error>) {
        if !self.span.is_disabled() {
            end_span(&self.span, outcome, error);
            if let Some((node, role, events)) = read {
                self.span.record(NODE, node);
                self.span.record(ROLE, role.as_str());
                self.span.record(EVENTS, events);
            }
        }
        with_metrics! {
            use crate::telemetry::metrics::decide;
            let name = short(self.name);
            decide::read(&name, outcome, read.map(|(_, role, _)| role), error, self.stopwatch.elapsed());
            decide::applied(&name, read.map_or(0, |(_, _, events)| events));
        }
        let _ = (self.name, self.stopwatch);
    }
}

impl Drop for ModelReadSpan {
    fn drop(&mut self) {
        if !self.is_over {
            self.emit(Outcome::Cancelled, None, None);
        }
    }
}

/// A type's name without paths: `shop::stock::Lend<shop::Book>` is `Lend<Book>`.
fn short(name: &str) -> String {
    let is_of_a_path = |character: char| character.is_alphanumeric() || matches!(character, '_' | ':');
    let mut short = String::with_capacity(name.len());
    let mut rest = name;
    while !rest.is_empty() {
        let (path, after) = rest.split_at(rest.find(|it| !is_of_a_path(it)).unwrap_or(rest.len()));
        short.push_str(path.rsplit("::").next().unwrap_or(path));
        let other = after.find(is_of_a_path).unwrap_or(after.len());
        short.push_str(&after[..other]);
        rest = &after[other..];
    }
    short
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_of_types_are_told_without_their_paths() {
        let cases = [
            ("shop::stock::Lend", "Lend"),
            ("shop::Lend<shop::stock::Book>", "Lend<Book>"),
            ("(shop::Shelf, core::option::Option<shop::Reader>)", "(Shelf, Option<Reader>)"),
            ("&str", "&str"),
            ("shop::run::{{closure}}::Lend", "{{closure}}Lend"),
            ("", ""),
        ];
        for (name, expected) in cases {
            assert_eq!(super::short(name), expected);
        }
    }
}
