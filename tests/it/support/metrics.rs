//! The library's metrics, on this thread.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use mainstem::telemetry::metrics::{MetricDescription, MetricKind};
use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, LocalRecorderGuard, Metadata, Recorder,
    SharedString, Unit, set_default_local_recorder,
};

/// A recorder that keeps everything.
#[derive(Clone, Default)]
pub(crate) struct RecordedMetrics(Arc<Mutex<BTreeMap<Series, Value>>>);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Series {
    name: String,
    labels: BTreeMap<String, String>,
}

/// How often a metric was recorded, and the sum of its values, or the last value of a gauge.
#[derive(Clone, Copy, Debug)]
struct Value {
    kind: MetricKind,
    times: u64,
    sum: f64,
}

/// Where a series is recorded.
struct Cell(RecordedMetrics, Series, MetricKind);

impl RecordedMetrics {
    /// Keeps what is recorded on this thread until the guard is dropped.
    pub(crate) fn keep() -> (Self, LocalRecorderGuard<'static>) {
        let metrics = Self::default();
        // Lives as long as the process, which is that of one test.
        let recorder: &'static Self = Box::leak(Box::new(metrics.clone()));
        (metrics, set_default_local_recorder(recorder))
    }

    fn matching(&self, figure: &MetricDescription, labels: &[(&str, &str)]) -> Vec<Value> {
        let kept = self.0.lock().unwrap();
        let has =
            |series: &Series| labels.iter().all(|(name, value)| series.labels.get(*name).is_some_and(|it| it == value));
        kept.iter().filter(|(series, _)| series.name == figure.name && has(series)).map(|(_, value)| *value).collect()
    }

    /// The sum of a counter, over all series with these labels.
    pub(crate) fn sum(&self, figure: &MetricDescription, labels: &[(&str, &str)]) -> f64 {
        self.matching(figure, labels).iter().map(|value| value.sum).sum()
    }

    /// How often a histogram recorded a value.
    pub(crate) fn times(&self, figure: &MetricDescription, labels: &[(&str, &str)]) -> u64 {
        self.matching(figure, labels).iter().map(|value| value.times).sum()
    }

    /// The recorded outcomes of a histogram, each with its count.
    pub(crate) fn outcomes(&self, figure: &MetricDescription, labels: &[(&str, &str)]) -> Vec<(String, u64)> {
        let mut outcomes: BTreeMap<String, u64> = BTreeMap::new();
        let has =
            |series: &Series| labels.iter().all(|(name, value)| series.labels.get(*name).is_some_and(|it| it == value));
        for (series, value) in self.0.lock().unwrap().iter().filter(|(it, _)| it.name == figure.name && has(it)) {
            *outcomes.entry(series.labels["mainstem.outcome"].clone()).or_default() += value.times;
        }
        outcomes.into_iter().collect()
    }

    /// The names of all recorded metrics.
    pub(crate) fn names(&self) -> BTreeSet<String> {
        self.0.lock().unwrap().keys().map(|series| series.name.clone()).collect()
    }

    /// Each name with its kind and its labels.
    pub(crate) fn shapes(&self) -> Vec<(String, MetricKind, Vec<String>)> {
        let kept = self.0.lock().unwrap();
        let shape = |(series, value): (&Series, &Value)| {
            (series.name.clone(), value.kind, series.labels.keys().cloned().collect())
        };
        kept.iter().map(shape).collect()
    }

    /// The values of all labels.
    pub(crate) fn label_values(&self) -> BTreeSet<String> {
        self.0.lock().unwrap().keys().flat_map(|series| series.labels.values().cloned()).collect()
    }

    /// Forgets everything recorded so far.
    pub(crate) fn clear(&self) {
        self.0.lock().unwrap().clear();
    }

    fn cell(&self, key: &Key, kind: MetricKind) -> Arc<Cell> {
        let labels = key.labels().map(|label| (label.key().to_owned(), label.value().to_owned())).collect();
        Arc::new(Cell(self.clone(), Series { name: key.name().to_owned(), labels }, kind))
    }
}

impl Cell {
    fn tell(&self, change: impl FnOnce(&mut Value)) {
        let mut kept = self.0.0.lock().unwrap();
        let value = kept.entry(self.1.clone()).or_insert(Value { kind: self.2, times: 0, sum: 0.0 });
        value.times += 1;
        change(value);
    }
}

impl CounterFn for Cell {
    fn increment(&self, amount: u64) {
        self.tell(|value| value.sum += amount as f64);
    }

    fn absolute(&self, _: u64) {
        unreachable!("nobody sets a counter");
    }
}

impl GaugeFn for Cell {
    fn increment(&self, _: f64) {
        unreachable!("gauges are set");
    }

    fn decrement(&self, _: f64) {
        unreachable!("gauges are set");
    }

    fn set(&self, now: f64) {
        self.tell(|value| value.sum = now);
    }
}

impl HistogramFn for Cell {
    fn record(&self, one: f64) {
        self.tell(|value| value.sum += one);
    }
}

impl Recorder for RecordedMetrics {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.cell(key, MetricKind::Counter))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.cell(key, MetricKind::Gauge))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.cell(key, MetricKind::Histogram))
    }
}
