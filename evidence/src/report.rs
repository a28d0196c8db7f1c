//! The report: from what is in `docs/evidence/data`, and nothing else.

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

What the benchmarks and the drills have measured. `scripts/evidence` has written all of this from the files in
[data](data), which the runs have left: change nothing here by hand. [Benchmarks](../benchmarks.md) says what each figure is and
how it is measured. What counts are ratios of sides that took turns in one run; figures of time and of throughput are the
machine's. A latency of an open-loop run counts from the moment at which an append arrived, whether or not anybody was free.

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
    out += &format!("{} Aims count on full runs.\n\n", provenance::sentence(told()));
    out += &provenance::failures(told());
    out += "## Where and with what\n\n";
    out += &provenance::machines(&evidence.0);
    out += "\n## The runs\n\n";
    out += &provenance::runs(told());
    out += "\nAll of it again: `scripts/evidence`, or `scripts/evidence --quick` in some minutes; one part: `scripts/evidence --only NAME`.\n";
    for entry in &evidence.0 {
        if entry.part.kind == Kind::Compare {
            out += &chapter(entry, pictures);
        }
    }
    out += "\n## Drills\n\n";
    out += "Real servers, with faults, judged after the fact. An anomaly is a promise that was broken.\n\n";
    out += &drills(evidence);
    out += "\nThe aims of each. Those beside `anomalies` are limits on time, and shares, which a drill judges by itself with `--judge`:\n\n";
    out += &aims_of_drills(evidence);
    for entry in evidence.0.iter().filter(|entry| entry.part.kind == Kind::Drill) {
        out += &shown(entry, pictures);
    }
    out
}

/// A benchmark: its figures, its plots, and the tables that they are made from.
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
        out += &table(&["figure", "seen", "aim", "", "made of"], &rows);
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
                out += &format!("\nThe whole {whose}: {} bytes on disk for each event.\n", number(disk));
            }
        }
    }
    out
}

/// Each with its aim, and how it stands to that.
pub(crate) fn figures(entry: &Entry) -> Vec<Vec<String>> {
    let rows = entry.figures().into_iter().map(|figure| {
        let mut row = judged(entry, &figure).to_vec();
        let incomplete = figure.incomplete.map(|lacks| format!("; **incomplete: {lacks}**"));
        row.push(figure.made_of.to_owned() + &incomplete.unwrap_or_default());
        row
    });
    rows.collect()
}

/// Its name, what was seen, its aim, and how the one stands to the other.
fn judged(entry: &Entry, figure: &Figure<'_>) -> [String; 4] {
    let aim = aims::of(figure.name).map_or_else(String::new, aims::Aim::shown);
    let seen = figure.value.map_or_else(|| "missing".to_owned(), number);
    [format!("`{}`", figure.name), seen, aim, entry.verdict(figure).to_owned()]
}

/// Who they are, and what their figures are worth.
fn cast(stores: &[Store<'_>]) -> String {
    let rows: Vec<_> = stores
        .iter()
        .map(|store| {
            let safe = if store.is_unsafe() { "**unsafe**" } else { "" };
            vec![store.title.to_owned(), safe.to_owned(), store.verdict(), store.note.to_owned()]
        })
        .collect();
    let told = "Unsafe is who is known to let conflicts pass, or was seen to break a promise by the oracle in any row of this run: what it \
                does is less than what the others do. Whoever was seen at it does not count in `worst_postgres_peer_ratio`.";
    format!("\n{told}\n\n{}", table(&["store", "", "oracle, over all rows", "what to know"], &rows))
}

fn shown(entry: &Entry, pictures: &[Picture]) -> String {
    let own = pictures.iter().filter(|picture| picture.part == entry.part.name);
    own.map(|picture| format!("\n![{}]({})\n", picture.plot.title, picture.file)).collect()
}

/// Throughput as median, lowest and highest round; nothing where there are no rounds.
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

/// What is counted has no digits behind the point.
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

/// Loads: as fast as they go, and at a rate.
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
        "fastest /s",
        "asked /s",
        "got /s",
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
            seen.push(format!("shown by try {tries}"));
        }
        if let Some(reason) = entry.failure() {
            seen.push(format!("**{reason}**"));
        }
        let short = if entry.is_quick() { " (**short run**)" } else { "" };
        let seed = entry.data["result"]["seed"].as_u64().map_or_else(String::new, |seed| seed.to_string());
        let name = format!("`{}`: {}{short}", entry.part.name, entry.part.title);
        rows.push(vec![name, anomalies, seen.join(", "), seed]);
    }
    table(&["drill", "anomalies", "seen", "seed"], &rows)
}

fn told_drills(evidence: &Evidence) -> impl Iterator<Item = &Entry> {
    evidence.0.iter().filter(|entry| entry.part.kind == Kind::Drill)
}

/// Each with each of its aims.
fn aims_of_drills(evidence: &Evidence) -> String {
    let mut rows = Vec::new();
    for entry in told_drills(evidence) {
        for figure in entry.figures() {
            let mut row = vec![format!("`{}`", entry.part.name)];
            row.extend(judged(entry, &figure));
            rows.push(row);
        }
    }
    table(&["drill", "figure", "seen", "aim", ""], &rows)
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
#[path = "report/tests.rs"]
mod tests;
