//! The report: generated from `docs/evidence/data` only.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{
    aims,
    data::{Entry, Evidence, Figure},
    markdown::{number, table},
    parts::Kind,
    plots::{self, Picture, rates},
    provenance,
    stores::{self, OURS, Store},
};

const HEAD: &str = "\
# Evidence

The results of the benchmarks and the drills. `scripts/evidence` generates this page from the files in [data](data), which the
runs write: do not edit it by hand. [Benchmarks](../benchmarks.md) says what each figure is and how it is measured. Rely on the
ratios, whose sides took turns in one run; times and throughputs depend on the machine. Latencies of an open-loop run count from
the moment at which an append arrived, whether or not a writer was free.

";

/// The files of the report, by their names in `docs/evidence`.
pub(crate) fn files(evidence: &Evidence) -> BTreeMap<String, String> {
    let pictures = plots::all(evidence);
    let mut files = BTreeMap::new();
    for picture in &pictures {
        if let Some(svg) = picture.plot.svg() {
            files.insert(picture.file.to_owned(), svg);
        }
    }
    files.insert("README.md".to_owned(), page(evidence, &pictures));
    files
}

fn page(evidence: &Evidence, pictures: &[Picture]) -> String {
    let mut out = HEAD.to_owned();
    let told = || evidence.0.iter();
    out += &format!("{} Aims apply to full runs only.\n\n", provenance::sentence(told()));
    out += &provenance::failures(told());
    out += "## Environment\n\n";
    out += &provenance::machines(&evidence.0);
    out += "\n## The runs\n\n";
    out += &provenance::runs(told());
    out += "\nTo repeat all parts: `scripts/evidence`, or `scripts/evidence --quick` in some minutes. To repeat one part: `scripts/evidence --only NAME`.\n";
    for entry in &evidence.0 {
        if entry.part.kind == Kind::Compare {
            out += &chapter(entry, pictures);
        }
    }
    out += "\n## Drills\n\n";
    out += "Real servers with injected faults, checked after the fact. An anomaly is a broken guarantee.\n\n";
    out += &drills(evidence);
    out += "\nThe aims of each drill. Besides `anomalies` they are limits on times and shares, which a drill checks itself with `--judge`:\n\n";
    out += &aims_of_drills(evidence);
    for entry in evidence.0.iter().filter(|entry| entry.part.kind == Kind::Drill) {
        out += &shown(entry, pictures);
    }
    out
}

/// A benchmark: its figures, its plots, and the tables behind them.
fn chapter(entry: &Entry, pictures: &[Picture]) -> String {
    let mut out = format!("\n## {}: `{}`\n\n", entry.part.title, entry.part.name);
    if let Some(reason) = entry.failure() {
        out += &format!("**{reason}**\n\n");
    }
    if entry.is_quick() {
        out += "**A short run, for orientation only.**\n\n";
    }
    let result = &entry.data["result"];
    let list = |name: &str| result[name].as_array().map_or(&[][..], Vec::as_slice);
    let rows = figures(entry);
    if !rows.is_empty() {
        out += &table(&["figure", "measured", "aim", "verdict", "definition"], &rows);
    }
    for left_out in list("left_out") {
        let text = |name: &str| left_out[name].as_str().unwrap_or_default();
        out += &format!("\n**Left out: {}**: {}\n", text("name"), text("reason"));
    }
    let stores = stores::of(entry);
    if stores.iter().any(|store| store.name == OURS) {
        out += &cast(&stores);
    }
    out += &shown(entry, pictures);
    for one in list("tables") {
        let lanes = one["lanes"].as_array().map_or(&[][..], Vec::as_slice);
        out += &format!("\n### {}\n\n", one["title"].as_str().unwrap_or_default());
        if let Some(cache) = one["cache"].as_str() {
            out += &format!("{cache}.\n\n");
        }
        let is_load = lanes.iter().any(|lane| lane["latency"].is_object());
        out += &if is_load { loads(lanes) } else { sides(lanes, &stores) };
        for (whose, field) in [("log", "whole_bytes_per_event"), ("origin's table", "whole_origin_bytes_per_event")] {
            if let Some(disk) = one[field]["disk"].as_f64() {
                out += &format!("\nThe whole {whose}: {} bytes on disk per event.\n", number(disk));
            }
        }
    }
    out
}

/// The figures with their aims, verdicts and definitions.
pub(crate) fn figures(entry: &Entry) -> Vec<Vec<String>> {
    let rows = entry.figures().into_iter().map(|figure| {
        let mut row = judged(entry, &figure).to_vec();
        let incomplete = figure.incomplete.map(|lacks| format!("; **incomplete: {lacks}**"));
        row.push(figure.made_of.to_owned() + &incomplete.unwrap_or_default());
        row
    });
    rows.collect()
}

/// The name of a figure, its measured value, its aim, and the verdict.
fn judged(entry: &Entry, figure: &Figure<'_>) -> [String; 4] {
    let aim = aims::of(figure.name).map_or_else(String::new, aims::Aim::shown);
    let seen = figure.value.map_or_else(|| "missing".to_owned(), number);
    [format!("`{}`", figure.name), seen, aim, entry.verdict(figure).to_owned()]
}

/// The stores, and what their figures are worth.
fn cast(stores: &[Store<'_>]) -> String {
    let rows: Vec<_> = stores
        .iter()
        .map(|store| {
            let safe = if store.is_unsafe() { "**unsafe**" } else { "" };
            vec![store.title.to_owned(), safe.to_owned(), store.verdict(), store.note.to_owned()]
        })
        .collect();
    let told = "A store is unsafe if it is known to miss conflicts, or if the oracle saw it break a guarantee in any row of this run: it does \
                less than the others. A store that the oracle saw break a guarantee does not count in `worst_postgres_peer_ratio`.";
    format!("\n{told}\n\n{}", table(&["store", "safety", "oracle, all rows", "notes"], &rows))
}

fn shown(entry: &Entry, pictures: &[Picture]) -> String {
    let own = pictures.iter().filter(|picture| picture.part == entry.part.name);
    own.map(|picture| format!("\n![{}]({})\n", picture.plot.title, picture.file)).collect()
}

/// Throughput as median, lowest and highest round; empty without rounds.
fn spread(lane: &Value) -> [String; 2] {
    let all = lane["per_second"].as_array().map_or(&[][..], Vec::as_slice);
    let (low, high) = all
        .iter()
        .filter_map(Value::as_f64)
        .fold((f64::INFINITY, 0.0_f64), |(low, high), rate| (low.min(rate), high.max(rate)));
    match rates(lane) {
        Some(middle) => [number(middle), format!("{} … {}", number(low), number(high))],
        None if all.is_empty() => [String::new(), String::new()],
        None => ["missing".to_owned(), String::new()],
    }
}

/// Counts have no decimals.
fn shown_number(value: &Value) -> String {
    if let Some(count) = value.as_u64() {
        return count.to_string();
    }
    value.as_f64().map_or_else(String::new, number)
}

/// Sides that took turns, or stores.
fn sides(lanes: &[Value], stores: &[Store<'_>]) -> String {
    let judged = lanes.iter().any(|lane| lane["verdict"].is_string());
    let mut rows = Vec::new();
    for lane in lanes {
        let name = stores::name_in_table(lane, stores);
        if let Some(reason) = lane["left_out"].as_str() {
            let mut row = vec![name, format!("left out: {reason}")];
            row.resize(if judged { 9 } else { 7 }, String::new());
            rows.push(row);
            continue;
        }
        let [middle, lowest_highest] = spread(lane);
        let rounds = lane["per_second"].as_array().map_or(0, Vec::len).to_string();
        let mut row = vec![name, middle, lowest_highest, rounds];
        row.extend(["p50_us", "p99_us", "conflicts"].map(|field| shown_number(&lane[field])));
        if judged {
            let ratio = lane["ours_by_theirs"].as_f64().map_or_else(|| "missing".to_owned(), number);
            row.push(if lane["name"] == OURS { String::new() } else { ratio });
            let verdict = lane["verdict"].as_str().unwrap_or_default();
            row.push(match lane["failed"].as_str() {
                Some(reason) => format!("{verdict}; **failed: {reason}**"),
                None => verdict.to_owned(),
            });
        }
        rows.push(row);
    }
    let mut head = vec!["side", "per second", "lowest … highest", "rounds", "p50 µs", "p99 µs", "conflicts"];
    if judged {
        head.extend(["ours ÷", "oracle"]);
    }
    table(&head, &rows)
}

/// Loads: at full speed, and at a given rate.
fn loads(lanes: &[Value]) -> String {
    let mut rows = Vec::new();
    for lane in lanes {
        let paced = &lane["paced"];
        let latency = if paced.is_object() { &paced["latency"] } else { &lane["latency"] };
        let [fastest, _] = spread(lane);
        let [got, _] = spread(paced);
        let mut row =
            vec![lane["name"].as_str().unwrap_or_default().to_owned(), fastest, shown_number(&paced["rate"]), got];
        row.push(shown_number(&paced["waiting"]));
        row.extend(["p50_ms", "p99_ms", "p999_ms", "max_ms"].map(|field| shown_number(&latency[field])));
        for field in ["disk", "wal"] {
            let [ours, origin] = ["bytes_per_event", "origin_bytes_per_event"].map(|whose| {
                let left_out = lane[whose]["left_out"].as_str().filter(|_| field == "disk");
                left_out.map_or_else(|| shown_number(&lane[whose][field]), str::to_owned)
            });
            row.push(if origin.is_empty() { ours } else { format!("{ours} ({origin})") });
        }
        rows.push(row);
    }
    let head = [
        "load",
        "full speed /s",
        "offered /s",
        "achieved /s",
        "waiting",
        "p50 ms",
        "p99 ms",
        "p99.9 ms",
        "max ms",
        "disk B (origin)",
        "WAL B (origin)",
    ];
    table(&head, &rows)
}

fn drills(evidence: &Evidence) -> String {
    let mut rows = Vec::new();
    for entry in told_drills(evidence) {
        let values = entry.data["result"]["values"].as_object();
        let anomalies = values.and_then(|values| values.get("anomalies")).map_or_else(String::new, Value::to_string);
        let others = values.into_iter().flatten().filter(|(name, _)| *name != "anomalies");
        let mut seen: Vec<_> = others.map(|(name, value)| format!("{name}={}", plain(value))).collect();
        if let Some(tries) = entry.data["tries"].as_u64() {
            seen.push(format!("shown by attempt {tries}"));
        }
        if let Some(reason) = entry.failure() {
            seen.push(format!("**{reason}**"));
        }
        let short = if entry.is_quick() { " (**short run**)" } else { "" };
        let seed = entry.data["result"]["seed"].as_u64().map_or_else(String::new, |seed| seed.to_string());
        let name = format!("`{}`: {}{short}", entry.part.name, entry.part.title);
        rows.push(vec![name, anomalies, seen.join(", "), seed]);
    }
    table(&["drill", "anomalies", "measured", "seed"], &rows)
}

fn told_drills(evidence: &Evidence) -> impl Iterator<Item = &Entry> {
    evidence.0.iter().filter(|entry| entry.part.kind == Kind::Drill)
}

/// One row for each aim of each drill.
fn aims_of_drills(evidence: &Evidence) -> String {
    let mut rows = Vec::new();
    for entry in told_drills(evidence) {
        for figure in entry.figures() {
            let mut row = vec![format!("`{}`", entry.part.name)];
            row.extend(judged(entry, &figure));
            rows.push(row);
        }
    }
    table(&["drill", "figure", "measured", "aim", "verdict"], &rows)
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
#[path = "report/tests.rs"]
mod tests;
