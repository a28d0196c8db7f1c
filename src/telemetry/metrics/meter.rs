//! Passes a metric and its labels to the installed recorder.
//!
//! What is cached is the name of a series, not the recorder's handle: a recorder may be installed at any time, and a
//! test may have its own.

use std::{sync::OnceLock, time::Duration};

use metrics::{Key, Label, Level, Metadata, SharedString, with_recorder};

use super::MetricDescription;

static METADATA: Metadata<'static> = Metadata::new("mainstem", Level::INFO, Some("mainstem"));

/// The names of `N` series of a metric, each created on first use.
#[derive(Debug)]
pub(super) struct Keys<const N: usize>([OnceLock<Key>; N]);

impl<const N: usize> Keys<N> {
    pub(super) const fn new() -> Self {
        Self([const { OnceLock::new() }; N])
    }

    pub(super) fn get(&self, index: usize, make: impl FnOnce() -> Key) -> &Key {
        self.0[index].get_or_init(make)
    }
}

impl MetricDescription {
    pub(super) fn key(&self, labels: Vec<Label>) -> Key {
        debug_assert!(labels.iter().all(|label| self.labels.contains(&label.key())), "{labels:?} of {self:?}");
        Key::from_parts(self.name, labels)
    }
}

pub(super) fn label(name: &'static str, value: impl Into<SharedString>) -> Label {
    Label::new(name, value)
}

pub(super) fn add(key: &Key, amount: u64) {
    with_recorder(|recorder| recorder.register_counter(key, &METADATA).increment(amount));
}

pub(super) fn set(key: &Key, value: f64) {
    with_recorder(|recorder| recorder.register_gauge(key, &METADATA).set(value));
}

pub(super) fn record(key: &Key, value: f64) {
    with_recorder(|recorder| recorder.register_histogram(key, &METADATA).record(value));
}

pub(super) fn time(key: &Key, duration: Duration) {
    record(key, duration.as_secs_f64());
}
