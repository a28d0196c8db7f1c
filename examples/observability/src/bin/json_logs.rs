//! Logs as JSON lines, one for each event, without OpenTelemetry: `tracing-subscriber` alone.
//!
//! ```text
//! cargo run -p mainstem-observability --bin json-logs
//! RUST_LOG=info,mainstem=debug cargo run -p mainstem-observability --bin json-logs
//! ```

use mainstem::{AppendCondition, EventStore, Filter, MemoryEventStore, NewEvent, Result};
use tracing::Instrument;
use tracing_subscriber::{EnvFilter, fmt::format::FmtSpan};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    // A span is logged when it ends, with its outcome; each line has the fields of its enclosing spans.
    tracing_subscriber::fmt().json().with_span_events(FmtSpan::CLOSE).with_env_filter(filter).init();

    let store = MemoryEventStore::new();
    let request = tracing::info_span!("request", id = 17);
    async {
        let greeted = NewEvent::new("Greeted", &serde_json::json!({"whom": "world"}))?;
        let appended = store.append([greeted], AppendCondition::none()).await?;
        tracing::info!(position = appended.first_position(), "greeted");
        let history = store.query(&Filter::any_event()).await?;
        tracing::info!(events = history.len(), "looked");
        Ok(())
    }
    .instrument(request)
    .await
}
