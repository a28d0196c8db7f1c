//! The report from made-up data.

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
    assert!(page.contains("| `tasks32_vs_insert` | 1.23 | ≥ 2 | short run | this ÷ that |"), "{page}");
    assert!(page.contains("| `one_writer_vs_insert` | 2.00 |  |  | x |"), "{page}");
    assert!(page.contains("| INSERT | 200 | 100 … 300 | 3 | 412 | 999 | 0 |"), "{page}");
    assert!(
        page.contains(
            "| append | `cargo compare append --quick` | **short** | `abc` | 1970-01-01 00:00 | 12 | 0.500 | completed |"
        ),
        "{page}"
    );
}

#[test]
fn a_part_that_failed_is_named_at_the_top() {
    let failed = json!({"status": "failed", "reason": "no disk left", "quick": false});
    let page = page_of(&[("append", append()), ("query", failed)]);
    let (top, rest) = page.split_once("## Environment").unwrap();
    assert!(top.contains("- **query**: no disk left\n"), "{top}");
    assert!(top.contains("- **peers**: it was not run\n"), "{top}");
    assert!(!top.contains("- **append**"), "{top}");
    assert!(rest.contains("## Queries: `query`\n\n**no disk left**"), "{rest}");
}

#[test]
fn what_a_part_has_left_that_failed_meets_no_aim() {
    let mut data = append();
    data["quick"] = json!(false);
    data["result"]["figures"][0]["value"] = json!(9.0);
    assert!(page_of(&[("append", data.clone())]).contains("| 9.00 | ≥ 2 | met |"));
    data["status"] = json!("failed");
    assert!(page_of(&[("append", data)]).contains("| 9.00 | ≥ 2 | **open** |"));
}

#[test]
fn a_quick_run_is_called_one() {
    let page = page_of(&[("append", append())]);
    assert!(page.contains("**Short runs, for orientation only.**"), "{page}");
    let mut full = append();
    full["quick"] = json!(false);
    let page = page_of(&[("append", full), ("query", json!({"status": "ok", "quick": true, "machine": {}}))]);
    assert!(page.contains("**Short runs, for orientation only:** query."), "{page}");
    assert!(page.contains("| `tasks32_vs_insert` | 1.23 | ≥ 2 | **missed** | this ÷ that |"), "{page}");
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
    assert!(page.contains("| `drill-append`: contended appends under faults | 0 | appends=77 |  |"), "{page}");
    assert!(page.contains("![Guarded appends at full speed, in one process](throughput-over-writers.svg)"), "{page}");
}

#[test]
fn where_it_was_run_is_what_the_parts_say() {
    let mut other = append();
    other["machine"]["processor"] = json!("Other CPU");
    let page = page_of(&[("append", append()), ("query", other)]);
    let (top, _) = page.split_once("## Environment").unwrap();
    assert!(
        top.contains("**2 kinds of machine**") && top.contains("Other CPU") && top.contains("; one commit (`abc`)"),
        "{top}"
    );
    assert!(!top.contains("one kind"), "{top}");
    assert!(page_of(&[("append", append())]).contains("Measured on one kind of machine (Some CPU, 2 processors"));
}

#[test]
fn whoever_failed_keeps_its_rows() {
    let lane = |name: &str, ratio: Value| {
        json!({"name": name, "title": name.to_uppercase(), "per_second": [10.0, 30.0, 20.0], "p50_us": 5.0, "p99_us": 6.0,
            "conflicts": 0, "verdict": "exact", "ours_by_theirs": ratio})
    };
    let mut late = lane("late", json!(2.5));
    late["failed"] = json!("no answer");
    late["verdict"] = json!("not judged");
    let mut known = lane("known", Value::Null);
    known["unsafe"] = json!(true);
    known["note"] = json!("UNSAFE: no lock");
    let left_out = json!({"name": "late", "title": "LATE", "left_out": "failed at: row 1: no answer"});
    let figure = json!({"name": "worst_postgres_peer_ratio", "value": 6.0, "made_of": "x", "incomplete": "no ratio beside late in row 2"});
    let peers = json!({"status": "ok", "quick": false, "result": {"figures": [figure, {"name": "umadb_ratio", "value": null}], "tables": [
        {"title": "row 1", "lanes": [lane("mainstem", Value::Null), late, known]},
        {"title": "row 2", "lanes": [lane("mainstem", Value::Null), left_out]},
    ]}});
    let page = page_of(&[("peers", peers)]);
    for row in [
        "| LATE | 20.0 | 10.0 … 30.0 | 3 | 5.00 | 6.00 | 0 | 2.50 | not judged; **failed: no answer** |",
        "| LATE | left out: failed at: row 1: no answer |  |  |  |  |  |  |  |",
        "| MAINSTEM | 20.0 | 10.0 … 30.0 | 3 | 5.00 | 6.00 | 0 |  | exact |",
        // A missing ratio is shown as missing.
        "| KNOWN (**unsafe**) | 20.0 | 10.0 … 30.0 | 3 | 5.00 | 6.00 | 0 | missing | exact |",
        "| KNOWN | **unsafe** | exact | UNSAFE: no lock |",
        "| `worst_postgres_peer_ratio` | 6.00 | ≥ 5 | **open** | x; **incomplete: no ratio beside late in row 2** |",
        "| `umadb_ratio` | missing | ≥ 1 | **missing** |  |",
    ] {
        assert!(page.contains(row), "{row}\n{page}");
    }
}

#[test]
fn bytes_that_say_nothing_are_not_told() {
    let lane = json!({"name": "200", "per_second": [5.0], "latency": {"p50_ms": 1.0},
        "bytes_per_event": {"disk": 20.0, "wal": 500.0, "left_out": "too short to tell"}, "origin_bytes_per_event": {"disk": 800.0, "wal": 600.0}});
    let scale = json!({"status": "ok", "result": {"tables": [{"title": "payload", "lanes": [lane]}]}});
    let page = page_of(&[("scale", scale)]);
    assert!(page.contains("| too short to tell (800) | 500 (600) |"), "{page}");
}

#[test]
fn a_short_run_and_its_seed_are_told_where_they_are() {
    let soak = json!({"status": "ok", "quick": true, "result": {"seed": 3, "values": {"anomalies": 0, "runs": 9}}});
    let page = page_of(&[("drill-soak", soak)]);
    let row = "| `drill-soak`: all drills in turn, two at a time (**short run**) | 0 | runs=9 | 3 |";
    assert!(page.contains(row), "{page}");
}

#[test]
fn every_drill_stands_to_its_aims_by_what_it_has_left() {
    let drill = |values: Value| json!({"status": "ok", "quick": false, "result": {"values": values}});
    let late = drill(json!({"anomalies": 0, "longest_ms": 320.9, "heal_max_ms": 1200.0}));
    let failed = json!({"status": "failed", "reason": "this run shows nothing", "quick": false});
    let page = page_of(&[
        ("drill-append", drill(json!({"anomalies": 0}))),
        ("drill-decide", drill(json!({"anomalies": 2}))),
        ("drill-consume", failed),
        ("drill-silence", late),
        ("drill-failover", drill(json!({"anomalies": 0}))),
    ]);
    for row in [
        "| `drill-append` | `anomalies` | 0 | ≤ 0 | met |",
        "| `drill-decide` | `anomalies` | 2.00 | ≤ 0 | **missed** |",
        "| `drill-consume` | `anomalies` | missing | ≤ 0 | **missing** |",
        "| `drill-silence` | `longest_ms` | 321 | ≤ 1100 | met |",
        "| `drill-silence` | `heal_max_ms` | 1 200 | ≤ 1000 | **missed** |",
        "| `drill-failover` | `detection_median_ms` | missing | ≤ 1000 | **missing** |",
        // It was not run.
        "| `drill-http` | `anomalies` | missing | ≤ 0 | **missing** |",
    ] {
        assert!(page.contains(row), "{row}\n{page}");
    }
}
