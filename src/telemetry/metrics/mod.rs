//! The metrics that the library reports through the [`metrics`](https://docs.rs/metrics) facade, for whatever exporter
//! the application has installed.
//!
//! [`ALL`] is the list; the manual's chapter on telemetry has it as a table, with what to alert on. A recorder can be
//! installed at any time; only what was counted before is lost. [`describe`] tells the recorder what each metric means.
//!
//! ```
//! use mainstem::telemetry::metrics;
//!
//! // The exporter first; then what there is to know of each metric, and the limits of histograms.
//! metrics::describe();
//! for metric in metrics::ALL {
//!     println!("{} ({:?}, {}): {}", metric.name, metric.kind, metric.unit, metric.description);
//! }
//! ```
//!
//! # What it costs
//!
//! A successful call takes no lock of ours, and allocates nothing except what its exporter does: names and labels are
//! created once for each series. A failed call is labelled with its error, and allocates. Gauges are set once a second,
//! by the task that [probes each node](crate::RouterBuilder::probe_interval).

mod all;
pub(crate) mod consume;
pub(crate) mod decide;
pub(crate) mod gauges;
mod meter;
pub(crate) mod router;
pub(crate) mod store;

use metrics::Unit;

pub use self::all::*;

/// The description of one metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MetricDescription {
    /// Its name, with dots. Exporters adapt it to their receivers: Prometheus uses underscores, and appends units.
    pub name: &'static str,
    /// Its kind.
    pub kind: MetricKind,
    /// Its unit, in [UCUM](https://ucum.org) notation: `s`, `By`, `{event}`, `1`.
    pub unit: &'static str,
    /// The labels that it may have. Labels about an error are present only if there is one.
    pub labels: &'static [&'static str],
    /// What it counts or measures.
    pub description: &'static str,
}

/// The kind of a [`MetricDescription`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MetricKind {
    /// A value that only grows.
    Counter,
    /// The present value. An unknown value is not a number (`NaN`).
    Gauge,
    /// A value for each occurrence.
    Histogram,
}

/// The bucket limits of histograms of [times](MetricDescription::is_time), in seconds, from a tenth of a millisecond to ten
/// seconds: those of OpenTelemetry's conventions, and some smaller ones, since a read by key takes less than their
/// lowest.
pub const TIME_BUCKETS: &[f64] =
    &[0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// The bucket limits of histograms of amounts.
pub const AMOUNT_BUCKETS: &[f64] = &[1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0];

impl MetricDescription {
    const fn new(
        name: &'static str,
        kind: MetricKind,
        unit: &'static str,
        labels: &'static [&'static str],
        description: &'static str,
    ) -> Self {
        Self { name, kind, unit, labels, description }
    }

    /// Returns whether it is a time, in seconds.
    #[must_use]
    pub fn is_time(&self) -> bool {
        self.unit == "s"
    }

    /// Returns the limits of its buckets, if it is a histogram.
    #[must_use]
    pub fn buckets(&self) -> Option<&'static [f64]> {
        match self.kind {
            MetricKind::Histogram if self.is_time() => Some(TIME_BUCKETS),
            MetricKind::Histogram => Some(AMOUNT_BUCKETS),
            MetricKind::Counter | MetricKind::Gauge => None,
        }
    }
}

/// Tells the installed recorder the meaning and unit of each metric.
pub fn describe() {
    for metric in ALL {
        let unit = match metric.unit {
            "s" => Unit::Seconds,
            "By" => Unit::Bytes,
            _ => Unit::Count,
        };
        let (name, text) = (metric.name, metric.description);
        match metric.kind {
            MetricKind::Counter => metrics::describe_counter!(name, unit, text),
            MetricKind::Gauge => metrics::describe_gauge!(name, unit, text),
            MetricKind::Histogram => metrics::describe_histogram!(name, unit, text),
        }
    }
}
