//! The plots, and what they show.

use serde_json::Value;

use crate::{
    axis::Scale,
    data::{Entry, Evidence},
    stores,
    svg::{Mark, Plot, Series},
};

/// A plot, its file in `docs/evidence`, and the part that it belongs to.
#[derive(Debug)]
pub(crate) struct Picture {
    pub(crate) part: &'static str,
    pub(crate) file: &'static str,
    pub(crate) plot: Plot,
}

/// All plots that have data.
pub(crate) fn all(evidence: &Evidence) -> Vec<Picture> {
    let mut pictures = Vec::new();
    let mut add = |part: &'static str, file: &'static str, plot: &dyn Fn(&Entry) -> Plot| {
        let Some(entry) = evidence.part(part) else { return };
        let mut plot = plot(entry);
        if entry.is_quick() {
            plot.title += " (short run)";
        }
        if plot.svg().is_some() {
            pictures.push(Picture { part, file, plot });
        }
    };
    add("peers", "stores-1-event.svg", &|entry| stores(entry, 1));
    add("peers", "stores-10-events.svg", &|entry| stores(entry, 10));
    add("scale", "throughput-over-writers.svg", &|entry| throughput(entry, "writers", "writers", "in one process"));
    add("scale", "throughput-over-processes.svg", &|entry| {
        throughput(entry, "processes", "processes", "32 writers spread over processes")
    });
    add("scale", "latency-over-rate.svg", &|entry| latencies(entry, "rate", "arrivals per second", &["paced", "rate"]));
    add("scale", "latency-over-payload.svg", &|entry| {
        latencies(entry, "payload", "bytes of JSON per event", &["payload"])
    });
    add("scale", "latency-over-log.svg", &|entry| latencies(entry, "events", "events in the log", &["log_events"]));
    add("scale", "bytes-over-payload.svg", &bytes);
    add("drill-failover", "failover-reads.svg", &reads);
    add("drill-failover", "failover-staleness.svg", &staleness);
    pictures
}

fn at(value: &Value, path: &[&str]) -> Option<f64> {
    path.iter().fold(value, |value, name| &value[*name]).as_f64()
}

pub(crate) fn rates(lane: &Value) -> Option<f64> {
    median(lane["per_second"].as_array()?.iter().map(Value::as_f64).collect::<Option<_>>()?)
}

/// The middle value, or the mean of the two middle values. None if there are no values.
pub(crate) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let (lower, upper) = (values.get(values.len().checked_sub(1)? / 2)?, values.get(values.len() / 2)?);
    Some(f64::midpoint(*lower, *upper))
}

fn line(name: impl Into<String>, points: Vec<(f64, f64)>) -> Series {
    Series { name: name.into(), points, filled: false, dashed: false }
}

/// Guarded appends of all stores, by number of writers.
fn stores(entry: &Entry, events: u64) -> Plot {
    let mut series: Vec<Series> = Vec::new();
    let of_run = stores::of(entry);
    for table in entry.data["result"]["tables"].as_array().into_iter().flatten() {
        let title = table["title"].as_str().unwrap_or_default();
        if !title.starts_with("guarded append") || table["events"].as_u64() != Some(events) {
            continue;
        }
        for lane in table["lanes"].as_array().into_iter().flatten() {
            let (Some(title), Some(writers), Some(rate)) =
                (lane["title"].as_str(), table["writers"].as_f64(), rates(lane))
            else {
                continue;
            };
            // A store that does less than the others is drawn differently.
            let dashed = stores::is_unsafe(lane, &of_run);
            let name = if dashed { format!("{title} (unsafe)") } else { title.to_owned() };
            match series.iter_mut().find(|series| series.name == name) {
                Some(found) => found.points.push((writers, rate)),
                None => series.push(Series { dashed, ..line(name, vec![(writers, rate)]) }),
            }
        }
    }
    let plural = if events == 1 { "event" } else { "events" };
    Plot {
        title: format!("Guarded appends of {events} {plural}, by store"),
        x: "writers".to_owned(),
        y: "appends per second".to_owned(),
        x_scale: Scale::Linear,
        y_scale: Scale::Log,
        series,
        marks: Vec::new(),
    }
}

fn throughput(entry: &Entry, table: &str, by: &str, how: &str) -> Plot {
    let points = entry.rows(table).iter().filter_map(|lane| Some((lane[by].as_f64()?, rates(lane)?))).collect();
    Plot {
        title: format!("Guarded appends at full speed, {how}"),
        x: by.to_owned(),
        y: "appends per second".to_owned(),
        x_scale: Scale::Linear,
        y_scale: Scale::Linear,
        series: vec![line("Mainstem", points)],
        marks: Vec::new(),
    }
}

/// Latencies from arrival to answer.
fn latencies(entry: &Entry, table: &str, x: &str, by: &[&str]) -> Plot {
    // The library's own payload has no length of its own in the table.
    let place = |lane: &Value| at(lane, by);
    let series = [("p50", "p50_ms"), ("p99", "p99_ms"), ("p99.9", "p999_ms")].map(|(name, field)| {
        let point = |lane: &Value| Some((place(lane)?, at(lane, &["paced", "latency", field])?));
        line(name, entry.rows(table).iter().filter_map(point).collect())
    });
    Plot {
        title: format!("Latency from arrival to answer, by {x}"),
        x: x.to_owned(),
        y: "milliseconds".to_owned(),
        x_scale: if table == "rate" { Scale::Linear } else { Scale::Log },
        y_scale: Scale::Log,
        series: series.into(),
        marks: Vec::new(),
    }
}

fn bytes(entry: &Entry) -> Plot {
    let one = |name: &str, whose: &'static str, field: &'static str| {
        let point = |lane: &Value| {
            let counts = field != "disk" || lane[whose]["left_out"].is_null();
            Some((lane["payload"].as_f64()?, at(lane, &[whose, field]).filter(|_| counts)?))
        };
        line(name, entry.rows("payload").iter().filter_map(point).collect())
    };
    Plot {
        title: "Bytes per event".to_owned(),
        x: "bytes of JSON per event".to_owned(),
        y: "bytes".to_owned(),
        x_scale: Scale::Log,
        y_scale: Scale::Log,
        series: vec![
            one("on disk", "bytes_per_event", "disk"),
            one("on disk, the origin's table", "origin_bytes_per_event", "disk"),
            one("write-ahead log", "bytes_per_event", "wal"),
            one("write-ahead log, the origin's table", "origin_bytes_per_event", "wal"),
        ],
        marks: Vec::new(),
    }
}

/// The samples of a time line, and its marks.
fn timeline(entry: &Entry) -> (Vec<&Value>, Vec<Mark>) {
    let lines = entry.data["result"]["timeline"].as_array().map_or(&[][..], Vec::as_slice);
    let (marks, samples): (Vec<_>, Vec<_>) = lines.iter().partition(|line| line["mark"].is_string());
    let mark =
        |line: &&Value| Some(Mark { at: line["ms"].as_f64()? / 1000.0, text: line["mark"].as_str()?.to_owned() });
    (samples, marks.iter().filter_map(mark).collect())
}

fn seconds(line: &Value) -> f64 {
    line["ms"].as_f64().unwrap_or_default() / 1000.0
}

/// The reads that each node served, stacked.
fn reads(entry: &Entry) -> Plot {
    let (samples, marks) = timeline(entry);
    let mut names: Vec<&String> =
        samples.iter().filter_map(|line| line["served"].as_object()).flat_map(|served| served.keys()).collect();
    names.sort_unstable();
    names.dedup();
    let mut below = vec![0.0; samples.len()];
    let mut series = Vec::new();
    for name in names {
        let mut points = Vec::new();
        for (sum, line) in below.iter_mut().zip(&samples) {
            *sum += line["served"][name.as_str()].as_f64().unwrap_or_default();
            points.push((seconds(line), *sum));
        }
        series.push(Series { name: name.clone(), points, filled: true, dashed: false });
    }
    if !series.is_empty() {
        for (name, field) in [("of these by the primary", "by_primary"), ("failed", "errors")] {
            let points = samples.iter().filter_map(|line| Some((seconds(line), line[field].as_f64()?))).collect();
            series.push(line(name, points));
        }
    }
    Plot {
        title: "Eventual reads by serving node, while primaries are lost".to_owned(),
        x: "seconds".to_owned(),
        y: "reads per 100 ms".to_owned(),
        x_scale: Scale::Linear,
        y_scale: Scale::Linear,
        series,
        marks,
    }
}

fn staleness(entry: &Entry) -> Plot {
    let (samples, marks) = timeline(entry);
    let points = samples.iter().filter_map(|line| Some((seconds(line), line["oldest_ms"].as_f64()?))).collect();
    Plot {
        title: "Age of the newest write that an eventual read sees".to_owned(),
        x: "seconds".to_owned(),
        y: "milliseconds, the oldest per 100 ms".to_owned(),
        x_scale: Scale::Linear,
        y_scale: Scale::Log,
        series: vec![line("age; without a primary nothing is written, and it grows", points)],
        marks,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::parts::Part;

    fn entry(name: &str, result: Value) -> Entry {
        Entry { part: Part::named(name).unwrap(), data: json!({ "status": "ok", "result": result }) }
    }

    #[test]
    fn stores_are_lines_over_writers() {
        let lane = |title: &str, rate: u64| json!({ "title": title, "per_second": [rate, rate + 2, rate + 100] });
        let result = json!({ "tables": [
            { "title": "guarded append of 1 event, 1 writer", "events": 1, "writers": 1, "lanes": [lane("a", 10), lane("b", 20)] },
            { "title": "guarded append of 1 event, 16 writers", "events": 1, "writers": 16, "lanes": [lane("a", 30), json!({"title": "b", "left_out": "x"})] },
            { "title": "guarded append of 10 events, 1 writer", "events": 10, "writers": 1, "lanes": [lane("a", 1)] },
            { "title": "contended append of 1 event", "events": 1, "writers": 16, "lanes": [lane("a", 99)] },
        ]});
        let plot = stores(&entry("peers", result), 1);
        let points: Vec<_> = plot.series.iter().map(|series| (series.name.as_str(), series.points.clone())).collect();
        assert_eq!(points, [("a", vec![(1.0, 12.0), (16.0, 32.0)]), ("b", vec![(1.0, 22.0)])]);
    }

    #[test]
    fn unsafe_stores_are_marked_in_plots() {
        let lane = |name: &str, missed: u64| json!({"name": name, "title": name, "verdict": "", "per_second": [5], "conflicts_missed": missed});
        let tables = json!([
            {"title": "guarded append of 1 event, 1 writer", "events": 1, "writers": 1, "lanes": [lane("a", 0), lane("b", 0)]},
            {"title": "contended append", "events": 1, "writers": 16, "lanes": [lane("a", 0), lane("b", 9)]},
        ]);
        let plot = stores(&entry("peers", json!({ "tables": tables })), 1);
        let found: Vec<_> = plot.series.iter().map(|series| (series.name.as_str(), series.dashed)).collect();
        assert_eq!(found, [("a", false), ("b (unsafe)", true)]);
        assert_eq!(plot.svg().unwrap().matches("stroke-dasharray").count(), 1);
    }

    #[test]
    fn bytes_that_say_nothing_are_not_plotted() {
        let lane = |payload: u64, left_out: Value| json!({"payload": payload, "bytes_per_event": {"disk": 9.0, "wal": 9.0, "left_out": left_out}});
        let lanes = json!([lane(200, json!("went into room")), lane(2000, Value::Null)]);
        let plot = bytes(&entry("scale", json!({"tables": [{"title": "payload", "lanes": lanes}]})));
        assert_eq!(plot.series.iter().map(|series| series.points.len()).collect::<Vec<_>>(), [1, 0, 2, 0]);
    }

    #[test]
    fn plots_of_short_runs_say_so() {
        let mut entry =
            entry("scale", json!({"tables": [{"title": "writers", "lanes": [{"writers": 1, "per_second": [5]}]}]}));
        let title = |entry: Entry| all(&Evidence(vec![entry]))[0].plot.title.clone();
        entry.data["quick"] = json!(true);
        assert!(title(entry).ends_with(" (short run)"));
    }

    #[test]
    fn a_round_that_is_missing_is_no_median_of_the_others() {
        assert_eq!(rates(&json!({"per_second": [1.0, null, 3.0]})), None);
        assert_eq!(rates(&json!({"per_second": [1.0, 2.0, 3.0]})), Some(2.0));
    }

    #[test]
    fn shares_stand_on_each_other() {
        let result = json!({ "timeline": [
            {"ms": 0, "served": {"node_1": 2, "node_2": 3}, "by_primary": 0, "errors": 0, "oldest_ms": 5.0},
            {"ms": 50, "mark": "node_1 is killed"},
            {"ms": 100, "served": {"node_2": 4}, "by_primary": 1, "errors": 2, "oldest_ms": null},
        ]});
        let entry = entry("drill-failover", result);
        let plot = reads(&entry);
        assert_eq!(plot.series[0].points, [(0.0, 2.0), (0.1, 0.0)]);
        assert_eq!(plot.series[1].points, [(0.0, 5.0), (0.1, 4.0)]);
        assert_eq!(plot.series[3].points, [(0.0, 0.0), (0.1, 2.0)]);
        assert_eq!(plot.marks[0].text, "node_1 is killed");
        assert_eq!(staleness(&entry).series[0].points, [(0.0, 5.0)]);
    }

    #[test]
    fn medians_are_in_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(vec![]), None);
    }

    #[test]
    fn what_is_not_there_is_not_plotted() {
        let evidence = Evidence(vec![entry("scale", json!({})), entry("drill-failover", Value::Null)]);
        assert!(all(&evidence).is_empty());
    }
}
