//! The report of data that is made up.

use serde_json::{Value, json};

use super::*;
use crate::parts::PARTS;

fn evidence(data: &[(&str, Value)]) -> Evidence {
    let of = |name: &str| data.iter().find(|(found, _)| *found == name).map_or(Value::Null, |(_, data)| data.clone());
    Evidence(PARTS.iter().map(|part| Entry { part, data: of(part.name) }).collect())
}

fn append() -> Value {
    json!({
        "status": "ok", "quick": true, "command": "cargo compare append --quick", "at": 0, "seconds": 12, "load_before": 0.5,
        "commit": "abc", "machine": {"processor": "Some CPU", "processors": 2, "memory_gib": 23.5},
        "result": {
            "figures": [
                {"name": "tasks32_vs_insert", "value": 1.234, "made_of": "this ÷ that"},
                {"name": "one_writer_vs_insert", "value": 2.0, "made_of": "x"},
            ],
            "tables": [{"title": "one writer", "lanes": [
                {"name": "INSERT", "per_second": [100.0, 300.0, 200.0], "p50_us": 412.0, "p99_us": 999.0, "conflicts": 0},
            ]}],
        },
    })
}

fn page_of(data: &[(&str, Value)]) -> String {
    files(&evidence(data)).remove("README.md").unwrap()
}

#[test]
fn figures_are_told_with_their_aims() {
    let page = page_of(&[("append", append())]);
    assert!(page.contains("| `tasks32_vs_insert` | 1.23 | ≥ 2 | **missed** | this ÷ that |"), "{page}");
    assert!(page.contains("| `one_writer_vs_insert` | 2.00 |  |  | x |"), "{page}");
    assert!(page.contains("| INSERT | 200 | 100 … 300 | 3 | 412 | 999 | 0 |"), "{page}");
    assert!(
        page.contains("| append | `cargo compare append --quick` | 1970-01-01 00:00 | 12 | 0.500 | through |"),
        "{page}"
    );
}

#[test]
fn a_part_that_failed_is_named_at_the_top() {
    let failed = json!({"status": "failed", "reason": "no disk left", "quick": false});
    let page = page_of(&[("append", append()), ("query", failed)]);
    let (top, rest) = page.split_once("## Where").unwrap();
    assert!(top.contains("- **query**: no disk left\n"), "{top}");
    assert!(top.contains("- **peers**: it was not run\n"), "{top}");
    assert!(!top.contains("- **append**"), "{top}");
    assert!(rest.contains("## Queries: `query`\n\n**no disk left**"), "{rest}");
}

#[test]
fn a_quick_run_is_called_one() {
    let page = page_of(&[("append", append())]);
    assert!(page.contains(
        "**For orientation only:** of short runs (`--quick`), which show that all of it works, are: append."
    ));
    let mut full = append();
    full["quick"] = json!(false);
    assert!(!page_of(&[("append", full)]).contains("For orientation only"));
}

#[test]
fn loads_and_drills_are_told() {
    let latency = json!({"p50_ms": 1.5, "p99_ms": 9.0, "p999_ms": 20.0, "max_ms": 21.0});
    let lane = json!({
        "name": "16", "writers": 16, "payload": 200, "per_second": [5000.0], "latency": latency,
        "paced": {"rate": 2500.0, "per_second": [2499.0], "waiting": 3, "latency": latency},
        "bytes_per_event": {"disk": 900.0, "wal": 1500.0}, "origin_bytes_per_event": {"disk": 1000.0, "wal": 1400.0},
    });
    let scale = json!({"status": "ok", "result": {"tables": [{"title": "writers", "cache": "a log of 1 MiB", "lanes": [lane]}]}});
    let drill = json!({"status": "ok", "result": {"values": {"anomalies": 0, "appends": 77}}});
    let page = page_of(&[("scale", scale), ("drill-append", drill)]);
    assert!(
        page.contains("| 16 | 5 000 | 2 500 | 2 499 | 3 | 1.50 | 9.00 | 20.0 | 21.0 | 900 (1 000) | 1 500 (1 400) |"),
        "{page}"
    );
    assert!(page.contains("| `drill-append`: contended appends while things break | 0 | appends=77 |"), "{page}");
    assert!(
        page.contains("![Guarded appends as fast as they go, in one process](throughput-over-writers.svg)"),
        "{page}"
    );
}
