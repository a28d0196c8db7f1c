//! Metrics for Prometheus and for OpenTelemetry: the facade allows one recorder, and this one forwards to both.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use mainstem::telemetry::metrics::{ALL, MetricDescription, TIME_BUCKETS};
use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};
use metrics_exporter_prometheus::PrometheusRecorder;
use opentelemetry::{KeyValue, metrics as otel};

/// Forwards to Prometheus, and to OpenTelemetry if there is a meter.
pub struct Both {
    prometheus: PrometheusRecorder,
    meter: Option<otel::Meter>,
    /// The instruments by name.
    instruments: Mutex<HashMap<String, Instrument>>,
}

#[derive(Clone)]
enum Instrument {
    Counter(otel::Counter<u64>),
    Gauge(otel::Gauge<f64>),
    Histogram(otel::Histogram<f64>),
}

impl fmt::Debug for Both {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Both").field("meter", &self.meter.is_some()).finish_non_exhaustive()
    }
}

impl Both {
    /// A recorder that forwards to both.
    #[must_use]
    pub fn new(prometheus: PrometheusRecorder, meter: Option<otel::Meter>) -> Self {
        Self { prometheus, meter, instruments: Mutex::default() }
    }

    fn instrument(
        &self,
        key: &Key,
        make: impl FnOnce(&otel::Meter, Option<&MetricDescription>) -> Instrument,
    ) -> Option<Told> {
        let meter = self.meter.as_ref()?;
        let mut instruments = self.instruments.lock().unwrap_or_else(PoisonError::into_inner);
        let instrument = match instruments.get(key.name()) {
            Some(instrument) => instrument.clone(),
            None => {
                let made = make(meter, ALL.iter().find(|metric| metric.name == key.name()));
                instruments.insert(key.name().to_owned(), made.clone());
                made
            }
        };
        let label = |label: &metrics::Label| KeyValue::new(label.key().to_owned(), label.value().to_owned());
        Some(Told { instrument, labels: key.labels().map(label).collect() })
    }
}

/// The OpenTelemetry instrument that is recorded to.
struct Told {
    instrument: Instrument,
    labels: Vec<KeyValue>,
}

struct CounterOfBoth(Counter, Option<Told>);
struct GaugeOfBoth(Gauge, Option<Told>);
struct HistogramOfBoth(Histogram, Option<Told>);

impl CounterFn for CounterOfBoth {
    fn increment(&self, amount: u64) {
        self.0.increment(amount);
        if let Some(Told { instrument: Instrument::Counter(counter), labels }) = &self.1 {
            counter.add(amount, labels);
        }
    }

    /// OpenTelemetry's counters can only be added to.
    fn absolute(&self, amount: u64) {
        self.0.absolute(amount);
    }
}

impl GaugeFn for GaugeOfBoth {
    fn increment(&self, by: f64) {
        self.0.increment(by);
    }

    fn decrement(&self, by: f64) {
        self.0.decrement(by);
    }

    fn set(&self, value: f64) {
        self.0.set(value);
        if let Some(Told { instrument: Instrument::Gauge(gauge), labels }) = &self.1 {
            gauge.record(value, labels);
        }
    }
}

impl HistogramFn for HistogramOfBoth {
    fn record(&self, value: f64) {
        self.0.record(value);
        if let Some(Told { instrument: Instrument::Histogram(histogram), labels }) = &self.1 {
            histogram.record(value, labels);
        }
    }
}

impl Recorder for Both {
    fn describe_counter(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.prometheus.describe_counter(key, unit, description);
    }

    fn describe_gauge(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.prometheus.describe_gauge(key, unit, description);
    }

    fn describe_histogram(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.prometheus.describe_histogram(key, unit, description);
    }

    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        let told = self.instrument(key, |meter, metric| {
            let builder = meter.u64_counter(key.name().to_owned());
            let builder = builder.with_unit(metric.map_or("1", |metric| metric.unit));
            Instrument::Counter(builder.with_description(metric.map_or("", |metric| metric.description)).build())
        });
        let counter = self.prometheus.register_counter(key, metadata);
        Counter::from_arc(Arc::new(CounterOfBoth(counter, told)))
    }

    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        let told = self.instrument(key, |meter, metric| {
            let builder = meter.f64_gauge(key.name().to_owned());
            let builder = builder.with_unit(metric.map_or("1", |metric| metric.unit));
            Instrument::Gauge(builder.with_description(metric.map_or("", |metric| metric.description)).build())
        });
        Gauge::from_arc(Arc::new(GaugeOfBoth(self.prometheus.register_gauge(key, metadata), told)))
    }

    fn register_histogram(&self, key: &Key, metadata: &Metadata<'_>) -> Histogram {
        let told = self.instrument(key, |meter, metric| {
            let builder = meter.f64_histogram(key.name().to_owned());
            let builder = builder.with_unit(metric.map_or("1", |metric| metric.unit));
            let builder = builder.with_description(metric.map_or("", |metric| metric.description));
            let buckets = metric.and_then(MetricDescription::buckets).unwrap_or(TIME_BUCKETS);
            Instrument::Histogram(builder.with_boundaries(buckets.to_vec()).build())
        });
        let histogram = self.prometheus.register_histogram(key, metadata);
        Histogram::from_arc(Arc::new(HistogramOfBoth(histogram, told)))
    }
}
