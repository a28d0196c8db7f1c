//! The report: from what is in `docs/evidence/data`, and nothing else.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{
    aims,
    data::{Entry, Evidence},
    machine::date,
    markdown::{number, table},
    parts::Kind,
    plots::{self, Picture, median},
};

const HEAD: &str = "\
# Evidence

What the benchmarks and the drills have measured, on one machine. `scripts/evidence` has written all of this from the files in
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
    let quick: Vec<_> =
        evidence.0.iter().filter(|entry| entry.data["quick"] == true).map(|entry| entry.part.name).collect();
    if !quick.is_empty() {
        out += &format!(
            "**For orientation only:** of short runs (`--quick`), which show that all of it works, are: {}. Aims count on full runs.\n\n",
            quick.join(", ")
        );
    }
    out += &failures(evidence);
    out += "## Where and with what\n\n";
    out += &machines(evidence);
    out += "\n## The runs\n\n";
    out += &runs(evidence);
    out += "\nAll of it again: `scripts/evidence`, or `scripts/evidence --quick` in some minutes; one part: `scripts/evidence --only NAME`.\n";
    for entry in &evidence.0 {
        if entry.part.kind == Kind::Compare {
            out += &chapter(entry, pictures);
        }
    }
    out += "\n## Drills\n\n";
    out += "Real servers, with faults, judged after the fact. An anomaly is a promise that was broken.\n\n";
    out += &drills(evidence);
    for entry in evidence.0.iter().filter(|entry| entry.part.kind == Kind::Drill) {
        out += &shown(entry, pictures);
    }
    out
}

fn failures(evidence: &Evidence) -> String {
    let failed =
        evidence.0.iter().filter_map(|entry| Some(format!("- **{}**: {}\n", entry.part.name, entry.failure()?)));
    let list: String = failed.collect();
    if list.is_empty() {
        list
    } else {
        format!("**Missing or failed**, and so without figures here or with those that it left:\n\n{list}\n")
    }
}

/// Each machine once, with the parts that ran on it.
fn machines(evidence: &Evidence) -> String {
    let mut groups: Vec<(Vec<String>, Vec<&str>)> = Vec::new();
    for entry in evidence.0.iter().filter(|entry| entry.data.is_object()) {
        let machine = &entry.data["machine"];
        let text = |name: &str| machine[name].as_str().unwrap_or_default().to_owned();
        let facts = vec![
            text("processor"),
            machine["processors"].to_string(),
            format!("{} GiB", machine["memory_gib"]),
            format!("{}, Linux {}", text("system"), text("kernel")),
            text("rust"),
            text("postgresql"),
            entry.text("commit").to_owned(),
        ];
        match groups.iter_mut().find(|(found, _)| *found == facts) {
            Some((_, parts)) => parts.push(entry.part.name),
            None => groups.push((facts, vec![entry.part.name])),
        }
    }
    let only = groups.len() == 1;
    let rows: Vec<_> = groups
        .into_iter()
        .map(|(mut facts, parts)| {
            facts.push(if only { "all".to_owned() } else { parts.join(", ") });
            facts
        })
        .collect();
    let mut out =
        table(&["processor", "processors", "memory", "system", "Rust", "PostgreSQL", "commit", "parts"], &rows);
    let mut disks: Vec<(&str, &str)> = Vec::new();
    for entry in &evidence.0 {
        let facts = &entry.data["result"]["facts"];
        if let (Some(disk), Some(settings)) = (facts["disk"].as_str(), facts["settings"].as_str()) {
            disks.push((entry.part.name, disk));
            if disks.len() == 1 {
                out += &format!("\nServers of the benchmarks: `{settings}`.\n");
            }
        }
    }
    if !disks.is_empty() {
        out += "\nAn fdatasync before each part, on the disk of the servers' files:\n\n";
        let rows: Vec<_> = disks.iter().map(|(part, disk)| vec![(*part).to_owned(), (*disk).to_owned()]).collect();
        out += &table(&["part", "fdatasync"], &rows);
    }
    out
}

fn runs(evidence: &Evidence) -> String {
    let mut rows = Vec::new();
    for entry in &evidence.0 {
        let data = &entry.data;
        let came_of = entry.failure().map_or_else(|| "through".to_owned(), |reason| format!("**{reason}**"));
        if data.is_null() {
            rows.push(vec![
                entry.part.name.to_owned(),
                String::new(),
                String::new(),
                String::new(),
                String::new(),
                came_of,
            ]);
            continue;
        }
        rows.push(vec![
            entry.part.name.to_owned(),
            format!("`{}`", entry.text("command")),
            date(data["at"].as_u64().unwrap_or_default()),
            data["seconds"].to_string(),
            data["load_before"].as_f64().map_or_else(String::new, number),
            came_of,
        ]);
    }
    let note = "The load is the mean number of those that wanted to run in the minute before: what is much above 0 at the beginning, \
                or above that of the part before it, is other work on the machine.\n\n";
    note.to_owned() + &table(&["part", "command", "UTC", "seconds", "load before", "outcome"], &rows)
}

/// A benchmark: its figures, its plots, and the tables that they are made from.
fn chapter(entry: &Entry, pictures: &[Picture]) -> String {
    let mut out = format!("\n## {}: `{}`\n\n", entry.part.title, entry.part.name);
    if let Some(reason) = entry.failure() {
        out += &format!("**{reason}**\n\n");
    }
    let result = &entry.data["result"];
    let list = |name: &str| result[name].as_array().map_or(&[][..], Vec::as_slice);
    let rows: Vec<_> = list("figures").iter().map(figure).collect();
    if !rows.is_empty() {
        out += &table(&["figure", "seen", "aim", "", "made of"], &rows);
    }
    for left_out in list("left_out") {
        let text = |name: &str| left_out[name].as_str().unwrap_or_default();
        out += &format!("\n**Left out: {}**: {}\n", text("name"), text("reason"));
    }
    out += &shown(entry, pictures);
    for one in list("tables") {
        let lanes = one["lanes"].as_array().map_or(&[][..], Vec::as_slice);
        out += &format!("\n### {}\n\n", one["title"].as_str().unwrap_or_default());
        if let Some(cache) = one["cache"].as_str() {
            out += &format!("{cache}.\n\n");
        }
        let is_load = lanes.iter().any(|lane| lane["latency"].is_object());
        out += &if is_load { loads(lanes) } else { sides(lanes) };
        for (whose, field) in [("log", "whole_bytes_per_event"), ("origin's table", "whole_origin_bytes_per_event")] {
            if let Some(disk) = one[field]["disk"].as_f64() {
                out += &format!("\nThe whole {whose}: {} bytes on disk for each event.\n", number(disk));
            }
        }
    }
    out
}

fn figure(figure: &Value) -> Vec<String> {
    let name = figure["name"].as_str().unwrap_or_default();
    let value = figure["value"].as_f64().unwrap_or(f64::NAN);
    let (aim, verdict) = match aims::of(name) {
        Some(aim) => (aim.shown(), if aim.is_met(value) { "met" } else { "**missed**" }),
        None => (String::new(), ""),
    };
    let made_of = figure["made_of"].as_str().unwrap_or_default().to_owned();
    vec![format!("`{name}`"), number(value), aim, verdict.to_owned(), made_of]
}

fn shown(entry: &Entry, pictures: &[Picture]) -> String {
    let own = pictures.iter().filter(|picture| picture.part == entry.part.name);
    own.map(|picture| format!("\n![{}]({})\n", picture.plot.title, picture.file)).collect()
}

/// Throughput as median, lowest and highest round.
fn spread(lane: &Value) -> [String; 2] {
    let rates: Vec<f64> = lane["per_second"].as_array().into_iter().flatten().filter_map(Value::as_f64).collect();
    let (low, high) =
        rates.iter().fold((f64::INFINITY, 0.0_f64), |(low, high), rate| (low.min(*rate), high.max(*rate)));
    match median(rates) {
        Some(middle) => [number(middle), format!("{} … {}", number(low), number(high))],
        None => [String::new(), String::new()],
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
fn sides(lanes: &[Value]) -> String {
    let judged = lanes.iter().any(|lane| lane["verdict"].is_string());
    let mut rows = Vec::new();
    for lane in lanes {
        let name = lane["title"].as_str().or_else(|| lane["name"].as_str()).unwrap_or_default().to_owned();
        let last = |judged: bool| if judged { 8 } else { 7 };
        if let Some(reason) = lane["left_out"].as_str() {
            let mut row = vec![name, format!("left out: {reason}")];
            row.resize(last(judged), String::new());
            rows.push(row);
            continue;
        }
        let [middle, lowest_highest] = spread(lane);
        let rounds = lane["per_second"].as_array().map_or(0, Vec::len).to_string();
        let mut row = vec![name, middle, lowest_highest, rounds];
        row.extend(["p50_us", "p99_us", "conflicts"].map(|field| shown_number(&lane[field])));
        if judged {
            row.push(format!(
                "{} {}",
                shown_number(&lane["ours_by_theirs"]),
                lane["verdict"].as_str().unwrap_or_default()
            ));
        }
        rows.push(row);
    }
    let mut head = vec!["side", "per second", "lowest … highest", "rounds", "p50 µs", "p99 µs", "conflicts"];
    if judged {
        head.push("ours ÷, oracle");
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
            let [ours, origin] =
                ["bytes_per_event", "origin_bytes_per_event"].map(|whose| shown_number(&lane[whose][field]));
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
    for entry in evidence.0.iter().filter(|entry| entry.part.kind == Kind::Drill) {
        let values = entry.data["result"]["values"].as_object();
        let anomalies = values.and_then(|values| values.get("anomalies")).map_or_else(String::new, Value::to_string);
        let others = values.into_iter().flatten().filter(|(name, _)| *name != "anomalies");
        let mut seen: Vec<_> = others.map(|(name, value)| format!("{name}={}", plain(value))).collect();
        if let Some(reason) = entry.failure() {
            seen.push(format!("**{reason}**"));
        }
        rows.push(vec![format!("`{}`: {}", entry.part.name, entry.part.title), anomalies, seen.join(", ")]);
    }
    table(&["drill", "anomalies", "seen"], &rows)
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
#[path = "report/tests.rs"]
mod tests;
