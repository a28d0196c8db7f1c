//! OTLP for traces, metrics and logs, and a page for Prometheus.
//!
//! The OpenTelemetry crates read their variables themselves: `OTEL_EXPORTER_OTLP_ENDPOINT` (and one for each signal), headers,
//! timeouts, `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_TRACES_SAMPLER`, `OTEL_METRIC_EXPORT_INTERVAL`. This module
//! adds one rule: a signal is exported if there is an endpoint for it, unless `OTEL_SDK_DISABLED` is `true` or its
//! `OTEL_…_EXPORTER` is `none`. So nothing complains when there is no collector.

use std::{env, net::SocketAddr};

use mainstem::telemetry::metrics::ALL;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use opentelemetry::{metrics::MeterProvider, trace::TracerProvider};
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_otlp::{LogExporter, MetricExporter, SpanExporter};
use opentelemetry_sdk::{Resource, logs::SdkLoggerProvider, metrics::SdkMeterProvider, trace::SdkTracerProvider};
use tracing_subscriber::{EnvFilter, Layer, layer::SubscriberExt, util::SubscriberInitExt};

use crate::{Failure, both::Both, lines::Lines};

/// The exporters that run until this is [shut down](Self::shut_down).
#[derive(Debug)]
pub struct Exports {
    traces: SdkTracerProvider,
    logs: Option<SdkLoggerProvider>,
    metrics: Option<SdkMeterProvider>,
}

impl Exports {
    /// Installs everything: log lines on standard output, the page of metrics at this address, and OTLP where there is an
    /// endpoint.
    ///
    /// Must be called within a runtime.
    ///
    /// # Errors
    ///
    /// When a variable is invalid, the address is in use, or it was called before.
    pub fn install(page: SocketAddr) -> Result<Self, Failure> {
        // The service's name and attributes come from the environment, too.
        let resource = Resource::builder().build();
        // Even without an exporter, spans have ids.
        let mut traces = SdkTracerProvider::builder().with_resource(resource.clone());
        if is_wanted("TRACES") {
            traces = traces.with_batch_exporter(SpanExporter::builder().with_http().build()?);
        }
        let traces = traces.build();
        let logs = match is_wanted("LOGS") {
            true => {
                let exporter = LogExporter::builder().with_http().build()?;
                Some(SdkLoggerProvider::builder().with_resource(resource.clone()).with_batch_exporter(exporter).build())
            }
            false => None,
        };
        let metrics = match is_wanted("METRICS") {
            true => {
                let exporter = MetricExporter::builder().with_http().build()?;
                Some(SdkMeterProvider::builder().with_resource(resource).with_periodic_exporter(exporter).build())
            }
            false => None,
        };

        // Lines for people at `info`; spans and logs for machines with the library's `debug` level. The exporters' own events are
        // left out: each would cause the next one.
        let lines = EnvFilter::try_from_env("RUST_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
        let machines = || EnvFilter::new("info,mainstem=debug,hyper=off,opentelemetry=off,reqwest=off");
        let spans = tracing_opentelemetry::layer().with_tracer(traces.tracer("mainstem-observability"));
        tracing_subscriber::registry()
            .with(spans.with_filter(machines()))
            .with(tracing_subscriber::fmt::layer().event_format(Lines).with_filter(lines))
            .with(logs.as_ref().map(|logs| OpenTelemetryTracingBridge::new(logs).with_filter(machines())))
            .try_init()?;

        let mut builder = PrometheusBuilder::new().with_http_listener(page);
        for metric in ALL {
            if let Some(buckets) = metric.buckets() {
                builder = builder.set_buckets_for_metric(Matcher::Full(metric.name.replace('.', "_")), buckets)?;
            }
        }
        let (prometheus, serving) = builder.build()?;
        tokio::spawn(serving);
        let meter = metrics.as_ref().map(|metrics| metrics.meter("mainstem"));
        metrics::set_global_recorder(Both::new(prometheus, meter)).map_err(|_| "metrics are recorded already")?;
        mainstem::telemetry::metrics::describe();
        Ok(Self { traces, logs, metrics })
    }

    /// Sends what is left. It blocks, so do not call it from a task.
    ///
    /// # Errors
    ///
    /// When the collector does not accept it.
    pub fn shut_down(self) -> Result<(), Failure> {
        let Self { traces, logs, metrics } = self;
        traces.shutdown()?;
        logs.map_or(Ok(()), |logs| logs.shutdown())?;
        metrics.map_or(Ok(()), |metrics| metrics.shutdown())?;
        Ok(())
    }
}

/// Whether a signal is exported.
fn is_wanted(signal: &str) -> bool {
    let set = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
    let is_off = set("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"))
        || set(&format!("OTEL_{signal}_EXPORTER")).is_some_and(|value| value == "none");
    let endpoint = set("OTEL_EXPORTER_OTLP_ENDPOINT").or_else(|| set(&format!("OTEL_EXPORTER_OTLP_{signal}_ENDPOINT")));
    !is_off && endpoint.is_some()
}
