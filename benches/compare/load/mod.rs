//! `compare load`: appends that arrive at a fixed rate, and the space they take.
//!
//! | file | what it holds |
//! |---|---|
//! | `options` | the options |
//! | `arrivals`, `drive` | when work arrives, and how workers are driven by it |
//! | `latencies`, `space` | what is measured: time, and bytes per event |
//! | `payload`, `appender` | what is appended, and by whom |
//! | `workers`, `lane` | the processes; one load on one server, round by round |
//!
//! `cargo test --test bench_units` runs the unit tests: the benchmark itself has no harness.

mod appender;
mod arrivals;
mod drive;
mod lane;
mod latencies;
mod options;
mod payload;
mod space;
mod workers;

use std::time::Duration;

use serde_json::json;

use self::space::{PerEvent, worst};
pub(crate) use self::{
    lane::{Lane, Site},
    options::{Options, Shape},
    space::Point,
    workers::work,
};
use crate::{
    Outcome,
    append::databases,
    args::Args,
    fixture::{self, Database},
    growth,
    progress::Progress,
    report::{Report, number, print_title},
    server,
};

pub(crate) const FIGURES: &[&str] = &[
    "per_second",
    "p50_ms",
    "p99_ms",
    "p999_ms",
    "max_ms",
    "waiting",
    "disk_bytes",
    "wal_bytes",
    "disk_vs_origin",
    "wal_vs_origin",
];

/// Beyond this length there is only the log: the other tables would take as much space again.
const WITH_ORIGIN: u64 = 1_000_000;

pub(crate) async fn run(args: &Args) -> Outcome {
    print_title("load", args);
    let options = &args.load;
    let (saved, database) = saved(args).await?;
    let buffers = options.shared_buffers.as_deref();
    let settings: Vec<(&str, &str)> = buffers.iter().map(|size| ("shared_buffers", *size)).collect();
    let cluster = server::start(args, &saved, options.replicas, &settings).await?;
    let site = Site::open(args, cluster, &database).await?;
    let mut report = Report::new("load");
    server::print_facts(args, &site.cluster, &site.control, &mut report).await?;
    println!("cache       {}", site.cache().await?);
    let seconds = Duration::from_secs(options.seconds);
    let (mut lane, rate) = (Lane::start(&site, "load".to_owned(), 0, options.shape).await?, options.rate);
    lane.round(Duration::from_secs(1), rate, false).await?;
    counted(seconds, lane.round(seconds, rate, true)).await?;
    print_points("load", std::slice::from_ref(&lane));
    let wholes = lane.wholes().await?;
    print_wholes(wholes);
    let [whole, origin] = wholes.map(|each| each.map(PerEvent::json));
    report.table(json!({
        "title": "load", "cache": site.cache().await?, "replicas": options.replicas, "lanes": [lane.json()],
        "whole_bytes_per_event": whole, "whole_origin_bytes_per_event": origin,
    }));
    let (achieved, waiting) =
        lane.achieved().map_or_else(|| (lane.per_second(), 0), |(_, achieved, left)| (achieved, left));
    let asked = rate.map_or_else(|| "as fast as it goes".to_owned(), |rate| format!("asked for: {}", number(rate)));
    report.figure("per_second", achieved, format!("appends per second; {asked}"));
    for (name, quantile) in [("p50_ms", 0.5), ("p99_ms", 0.99), ("p999_ms", 0.999), ("max_ms", 1.0)] {
        report.figure(name, lane.latencies().millis(quantile), "from an arrival to its answer");
    }
    report.figure("waiting", waiting as f64, "had arrived and were not begun at the end");
    figures_of_space(&mut report, &lane);
    report.print(args, FIGURES)
}

/// A load's fixture, which other subcommands use as well.
async fn saved(args: &Args) -> Outcome<(std::path::PathBuf, Database)> {
    if args.events > WITH_ORIGIN {
        let (saved, logs) = growth::logs(args, args.events).await?;
        return Ok((saved, *logs.last().ok_or("no logs")?));
    }
    let databases = databases(args);
    Ok((fixture::saved(args, "compare", &databases).await?, databases[0]))
}

fn figures_of_space(report: &mut Report, lane: &Lane<'_>) {
    let Some(ours) = lane.growth() else { return };
    let told = |value: f64| if ours.fault().is_some() { f64::NAN } else { value };
    let why = ours.fault().map_or_else(String::new, |fault| format!(": {fault}"));
    report.figure(
        "disk_bytes",
        told(ours.disk()),
        format!("bytes of table and indexes for each event of the run{why}"),
    );
    report.figure("wal_bytes", ours.wal, "… of the write-ahead log");
    if let Some(point) = lane.point("the") {
        report_worst(report, &[point]);
    }
}

/// Reports `disk_vs_origin` and `wal_vs_origin`.
pub(crate) fn report_worst(report: &mut Report, points: &[Point]) {
    let [disk, wal] = worst(points);
    let [alike, same] = ["for such events, at all loads", "for the same events"];
    for (name, what, of, figure) in
        [("disk_vs_origin", "bytes on disk", alike, disk), ("wal_vs_origin", "bytes of the write-ahead log", same, wal)]
    {
        let same = format!("for each event ÷ of the origin's table with its four indexes, {of}");
        report.incomplete_figure(name, figure.value, format!("{what} {same}: {}", figure.of), figure.incomplete);
    }
}

/// Shows the progress of a long round.
async fn counted<T>(span: Duration, round: impl Future<Output = T>) -> T {
    let mut progress = Progress::new("load: seconds", span.as_secs());
    let mut round = std::pin::pin!(round);
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    let mut seconds = 0;
    let done = loop {
        tokio::select! {
            done = &mut round => break done,
            _ = ticks.tick() => {
                progress.set(seconds.min(span.as_secs()), "");
                seconds += 1;
            }
        }
    };
    progress.finish();
    done
}

/// Prints the loads.
pub(crate) fn print_points(title: &str, lanes: &[Lane<'_>]) {
    println!("\n{title}");
    println!(
        "  {:<22} {:>10} {:>10} {:>10} {:>8} {:>9} {:>9} {:>9} {:>9} {:>10} {:>10}",
        "load",
        "fastest /s",
        "asked /s",
        "got /s",
        "waiting",
        "p50 ms",
        "p99 ms",
        "p99.9 ms",
        "max ms",
        "disk B",
        "WAL B"
    );
    for lane in lanes {
        let (asked, got, waiting) = lane.achieved().unwrap_or((f64::NAN, f64::NAN, 0));
        let each = |figure: fn(PerEvent) -> f64| lane.growth().map_or(f64::NAN, figure);
        let at = |quantile| number(lane.latencies().millis(quantile));
        println!(
            "  {:<22} {:>10} {:>10} {:>10} {waiting:>8} {:>9} {:>9} {:>9} {:>9} {:>10} {:>10}",
            lane.label,
            number(lane.per_second()),
            number(asked),
            number(got),
            at(0.5),
            at(0.99),
            at(0.999),
            at(1.0),
            number(each(PerEvent::disk)),
            number(each(|of| of.wal)),
        );
        if let Some(origin) = lane.origin() {
            println!(
                "  {:<22} {:>10} {:>10} {:>10} {:>8} {:>9} {:>9} {:>9} {:>9} {:>10} {:>10}",
                "  origin's table",
                "",
                "",
                "",
                "",
                "",
                "",
                "",
                "",
                number(origin.disk()),
                number(origin.wal)
            );
        }
    }
}

fn print_wholes([ours, origin]: [Option<PerEvent>; 2]) {
    for (whose, whole) in [("the whole log", ours), ("the origin's whole table", origin)] {
        let Some(whole) = whole else { continue };
        let [table, indexes, disk] = [whole.table, whole.indexes, whole.disk()].map(number);
        println!("  {whose}: {disk} bytes for each event, {table} of the table and {indexes} of indexes");
    }
}
