//! Who listens during the count: the cheapest possible listener, so that what is counted is ours.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use metrics::{Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use tracing::{Event, Subscriber, span};

use crate::Outcome;

/// Says what is to be listened to.
pub(crate) const VARIABLE: &str = "MAINSTEM_TEST_LISTEN";

/// Installs a listener for what the variable names, in this process.
pub(crate) fn listen() -> Outcome {
    match std::env::var(VARIABLE).as_deref() {
        Err(_) => {}
        Ok("metrics") => metrics::set_global_recorder(Receives)?,
        Ok("spans") => tracing::subscriber::set_global_default(Spans)?,
        Ok("log") => {
            log::set_logger(&Log).map_err(|error| error.to_string())?;
            log::set_max_level(log::LevelFilter::Debug);
        }
        Ok(other) => return Err(format!("nobody listens to {other:?}; it is metrics, spans or log").into()),
    }
    Ok(())
}

/// Each series is one number that is written to.
struct Receives;

impl Recorder for Receives {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(Arc::new(AtomicU64::new(0)))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(Arc::new(AtomicU64::new(0)))
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(Arc::new(Last(AtomicU64::new(0))))
    }
}

/// A series of values that keeps the last one.
struct Last(AtomicU64);

impl HistogramFn for Last {
    fn record(&self, value: f64) {
        self.0.store(value.to_bits(), Ordering::Relaxed);
    }
}

/// Wants every span and event up to debug, and reads none.
struct Spans;

impl Subscriber for Spans {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::DEBUG
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, _: &Event<'_>) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// Wants every record up to debug, and formats it, as any logger does.
struct Log;

impl log::Log for Log {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::Level::Debug
    }

    fn log(&self, record: &log::Record<'_>) {
        std::hint::black_box(record.args().to_string());
    }

    fn flush(&self) {}
}
