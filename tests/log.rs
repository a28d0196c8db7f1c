//! The feature `log`: without a subscriber in the program, what goes to `tracing` reaches the crate `log`.
#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in what they share")]

use std::sync::Mutex;

use log::{LevelFilter, Log, Metadata, Record};
use mainstem::{AppendCondition, EventStore, Filter, MemoryEventStore, NewEvent, telemetry::STORE};

static LINES: Mutex<Vec<(String, String)>> = Mutex::new(Vec::new());

struct Keep;

impl Log for Keep {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        LINES.lock().unwrap().push((record.target().to_owned(), record.args().to_string()));
    }

    fn flush(&self) {}
}

#[tokio::test]
async fn operations_are_told_to_those_who_use_log_and_payloads_are_not() {
    log::set_logger(&Keep).unwrap();
    log::set_max_level(LevelFilter::Trace);
    let store = MemoryEventStore::new();
    let event = NewEvent::new("Started", &serde_json::json!({"secret": "hunter2"})).unwrap();
    store.append([event], AppendCondition::none()).await.unwrap();
    store.query(&Filter::any_event()).await.unwrap();
    let lines = std::mem::take(&mut *LINES.lock().unwrap());
    for name in ["append", "query"] {
        let of_it = |(target, line): &(String, String)| target == STORE && line.contains(name);
        assert!(lines.iter().any(of_it), "nothing of {name} in {lines:#?}");
    }
    assert!(lines.iter().all(|(_, line)| !line.contains("hunter2")), "{lines:#?}");
}
