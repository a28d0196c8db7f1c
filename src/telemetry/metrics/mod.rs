//! The figures that the library gives through the [`metrics`](https://docs.rs/metrics) facade, for whatever exporter the
//! application has installed.
//!
//! [`ALL`] is the list; the manual's chapter on telemetry has it as a table, with what to alert on. Install a recorder at any
//! time: what was counted before is lost, and nothing else. [`describe`] tells it what each figure is.
//!
//! ```
//! use mainstem::telemetry::metrics;
//!
//! // The exporter first; then what there is to know of each figure, and the limits of histograms.
//! metrics::describe();
//! for figure in metrics::ALL {
//!     println!("{} ({:?}, {}): {}", figure.name, figure.kind, figure.unit, figure.description);
//! }
//! ```
//!
//! # What it costs
//!
//! A call that has succeeded takes no lock of ours, and allocates nothing but what its exporter does: the names and labels are
//! made once for each series. What has failed is labelled with its error, and allocates. Gauges are set once a second, by the task
//! that [asks each node](crate::RouterBuilder::probe_interval).

mod all;
pub(crate) mod consume;
pub(crate) mod decide;
pub(crate) mod gauges;
mod meter;
pub(crate) mod router;
pub(crate) mod store;

use metrics::Unit;

pub use self::all::*;

/// One figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Figure {
    /// Its name, with dots. Exporters write it as their receivers want it: Prometheus has underscores, and units behind them.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Its unit, in the words of [UCUM](https://ucum.org): `s`, `By`, `{event}`, `1`.
    pub unit: &'static str,
    /// The labels that it may have. Those about an error are there if there is one.
    pub labels: &'static [&'static str],
    /// What it counts or measures.
    pub description: &'static str,
}

/// What a [`Figure`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// It only grows.
    Counter,
    /// The present value. One that is not known is not a number (`NaN`).
    Gauge,
    /// A value for each time that something happens.
    Histogram,
}

/// Limits of the buckets of histograms of [times](Figure::is_time), in seconds, from a tenth of a millisecond to ten seconds: those
/// of OpenTelemetry's conventions, and some below, since a read by key takes less than their lowest.
pub const TIME_BUCKETS: &[f64] =
    &[0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Limits of the buckets of histograms of amounts.
pub const AMOUNT_BUCKETS: &[f64] = &[1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0];

impl Figure {
    const fn new(
        name: &'static str,
        kind: Kind,
        unit: &'static str,
        labels: &'static [&'static str],
        description: &'static str,
    ) -> Self {
        Self { name, kind, unit, labels, description }
    }

    /// Whether it is a time, in seconds.
    #[must_use]
    pub fn is_time(&self) -> bool {
        self.unit == "s"
    }

    /// The limits of its buckets, if it is a histogram.
    #[must_use]
    pub fn buckets(&self) -> Option<&'static [f64]> {
        match self.kind {
            Kind::Histogram if self.is_time() => Some(TIME_BUCKETS),
            Kind::Histogram => Some(AMOUNT_BUCKETS),
            Kind::Counter | Kind::Gauge => None,
        }
    }
}

/// Tells the recorder that is installed what each figure is, and its unit.
pub fn describe() {
    for figure in ALL {
        let unit = match figure.unit {
            "s" => Unit::Seconds,
            "By" => Unit::Bytes,
            _ => Unit::Count,
        };
        let (name, text) = (figure.name, figure.description);
        match figure.kind {
            Kind::Counter => metrics::describe_counter!(name, unit, text),
            Kind::Gauge => metrics::describe_gauge!(name, unit, text),
            Kind::Histogram => metrics::describe_histogram!(name, unit, text),
        }
    }
}
