//! A stand-in for an OpenTelemetry collector: it accepts everything, and keeps it.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
        trace::v1::ExportTraceServiceRequest,
    },
    common::v1::{AnyValue, any_value},
    resource::v1::Resource,
};
use prost::Message;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// A server that accepts OTLP over HTTP.
pub(crate) struct Collector {
    port: u16,
    told: Arc<Mutex<Told>>,
}

/// What it has received.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    pub(crate) services: BTreeSet<String>,
    pub(crate) figures: BTreeSet<String>,
    pub(crate) spans: Vec<Span>,
    pub(crate) logs: Vec<Log>,
}

/// One span; ids are in hexadecimal.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    pub(crate) name: String,
    pub(crate) trace: String,
    pub(crate) id: String,
    pub(crate) parent: String,
}

/// One log record.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    pub(crate) body: String,
    pub(crate) trace: String,
    pub(crate) span: String,
}

impl Collector {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let (port, told) = (listener.local_addr().expect("its address").port(), Arc::<Mutex<Told>>::default());
        let of_the_task = Arc::clone(&told);
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                tokio::spawn(serve(connection, Arc::clone(&of_the_task)));
            }
        });
        Self { port, told }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(crate) fn told(&self) -> Told {
        self.told.lock().expect("what it has got").clone()
    }
}

/// Serves requests that have a length, one after the other, until the program closes the connection.
async fn serve(mut connection: TcpStream, told: Arc<Mutex<Told>>) -> std::io::Result<()> {
    let mut buffer: Vec<u8> = Vec::new();
    loop {
        let end = loop {
            if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            if connection.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        };
        let head = String::from_utf8_lossy(&buffer[..end]).to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
        let length: usize = length.and_then(|length| length.trim().parse().ok()).expect("a length");
        while buffer.len() < end + length {
            if connection.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        }
        let body: Vec<u8> = buffer.drain(..end + length).skip(end).collect();
        take(head.split(' ').nth(1).unwrap_or_default(), &body, &mut told.lock().expect("what it has got"));
        connection
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n")
            .await?;
    }
}

fn take(path: &str, body: &[u8], told: &mut Told) {
    match path {
        "/v1/traces" => {
            for of_resource in ExportTraceServiceRequest::decode(body).expect("traces").resource_spans {
                told.services.extend(service(of_resource.resource.as_ref()));
                let spans = of_resource.scope_spans.into_iter().flat_map(|of_scope| of_scope.spans);
                told.spans.extend(spans.map(|span| Span {
                    name: span.name,
                    trace: hex(&span.trace_id),
                    id: hex(&span.span_id),
                    parent: hex(&span.parent_span_id),
                }));
            }
        }
        "/v1/metrics" => {
            for of_resource in ExportMetricsServiceRequest::decode(body).expect("figures").resource_metrics {
                told.services.extend(service(of_resource.resource.as_ref()));
                let figures = of_resource.scope_metrics.into_iter().flat_map(|of_scope| of_scope.metrics);
                told.figures.extend(figures.map(|figure| figure.name));
            }
        }
        "/v1/logs" => {
            for of_resource in ExportLogsServiceRequest::decode(body).expect("logs").resource_logs {
                told.services.extend(service(of_resource.resource.as_ref()));
                let logs = of_resource.scope_logs.into_iter().flat_map(|of_scope| of_scope.log_records);
                told.logs.extend(logs.map(|log| Log {
                    body: text(log.body.as_ref()).unwrap_or_default(),
                    trace: hex(&log.trace_id),
                    span: hex(&log.span_id),
                }));
            }
        }
        other => panic!("nobody sends {other}"),
    }
}

fn service(resource: Option<&Resource>) -> Option<String> {
    let name = resource?.attributes.iter().find(|attribute| attribute.key == "service.name")?;
    text(name.value.as_ref())
}

fn text(value: Option<&AnyValue>) -> Option<String> {
    match value?.value.as_ref()? {
        any_value::Value::StringValue(text) => Some(text.clone()),
        _ => None,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
