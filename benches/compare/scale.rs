//! `compare scale`: the load of `compare load`, one dimension at a time.
//!
//! The points of a dimension take turns: first as fast as they can, then all at one rate, half of what the slowest achieved,
//! so that their latencies are comparable.

use std::time::Duration;

use mainstem::testing::LocalCluster;
use serde_json::json;

use crate::{
    Outcome,
    append::databases,
    args::Args,
    fixture::{self, Database},
    growth,
    load::{Lane, Point, Shape, Site, print_points, report_worst},
    progress::Progress,
    report::{Report, number, print_title},
    server,
    stats::lowest,
};

pub(crate) const FIGURES: &[&str] = &["writers", "processes", "payload", "rate", "replicas", "events", "cache"];

/// The figures of the last line, computed from the dimensions.
const LAST: &[&str] = &[
    "writers64_vs_1",
    "processes8_vs_1",
    "disk_vs_origin",
    "wal_vs_origin",
    "replicas2_vs_0",
    "longest_log_p50",
    "small_cache_vs_usual",
    "p99_at_half_ms",
];

/// A cache too small for any of the logs.
const SMALL: &str = "16MB";

/// The distance between the boundaries of two lanes.
const APART: u64 = 64;

struct Plan {
    rounds: usize,
    span: Duration,
}

struct Found {
    report: Report,
    /// The points of all dimensions with the origin's table beside them.
    points: Vec<Point>,
}

pub(crate) async fn run(args: &Args) -> Outcome {
    print_title("scale", args);
    let databases = databases(args);
    let saved = fixture::saved(args, "compare", &databases).await?;
    let base = Site::open(args, server::start(args, &saved, 0, &[]).await?, &databases[0]).await?;
    let mut found = Found { report: Report::new("scale"), points: Vec::new() };
    server::print_facts(args, &base.cluster, &base.control, &mut found.report).await?;
    let plan = Plan { rounds: args.pick(2, 5), span: args.span(1000, 3000) };
    writers(args, &base, &plan, &mut found).await?;
    processes(args, &base, &plan, &mut found).await?;
    rates(args, &base, &plan, &mut found).await?;
    payload(args, &base, &plan, &mut found).await?;
    cache(args, base, &databases[0], &plan, &mut found).await?;
    replicas(args, &plan, &mut found).await?;
    events(args, &plan, &mut found).await?;
    let Found { mut report, points } = found;
    if !points.is_empty() {
        report_worst(&mut report, &points);
    }
    report.print(args, LAST)
}

async fn writers(args: &Args, base: &Site, plan: &Plan, found: &mut Found) -> Outcome {
    if !args.wants(&["writers"]) {
        return Ok(());
    }
    let mut lanes = Vec::new();
    for writers in args.pick(vec![1, 4, 16, 64], vec![1, 2, 4, 8, 16, 32, 64]) {
        lanes.push((writers.to_string(), Shape { writers, ..Shape::default() }));
    }
    let lanes = sweep("writers", base, lanes, plan, found).await?;
    let value = last_by_first(&lanes, |lane| lane.per_second());
    found.report.figure("writers64_vs_1", value, "appends per second of 64 writers ÷ of 1, in one process");
    Ok(())
}

async fn processes(args: &Args, base: &Site, plan: &Plan, found: &mut Found) -> Outcome {
    if !args.wants(&["processes"]) {
        return Ok(());
    }
    let shape = |processes: u64| (processes.to_string(), Shape { processes, ..Shape::default() });
    let lanes = sweep("processes", base, [1, 2, 4, 8].map(shape).into(), plan, found).await?;
    let value = last_by_first(&lanes, |lane| lane.per_second());
    found.report.figure("processes8_vs_1", value, "appends per second of 32 writers in 8 processes ÷ in 1");
    Ok(())
}

async fn payload(args: &Args, base: &Site, plan: &Plan, found: &mut Found) -> Outcome {
    if !args.wants(&["payload"]) {
        return Ok(());
    }
    let shape = |bytes: u64| (bytes.to_string(), Shape { payload: Some(bytes), ..Shape::default() });
    let usual = ("305, the library's".to_owned(), Shape::default());
    let sizes = [200, 2000, 16_000, 65_536].map(shape);
    sweep("payload", base, [usual].into_iter().chain(sizes).collect(), plan, found).await?;
    Ok(())
}

/// Latencies at fractions of the server's capacity.
async fn rates(args: &Args, base: &Site, plan: &Plan, found: &mut Found) -> Outcome {
    if !args.wants(&["rate"]) {
        return Ok(());
    }
    let shape = Shape::default();
    let mut fastest = [Lane::start(base, "fastest".to_owned(), 0, shape).await?];
    turns("rate: the fastest", &mut fastest, plan, &[None]).await?;
    let [fastest] = &fastest;
    let most = fastest.per_second();
    let (mut lanes, mut rates) = (Vec::new(), Vec::new());
    for (number, percent) in (1..).zip([10, 25, 50, 75, 90, 110]) {
        let label = format!("{percent} % of the fastest");
        lanes.push(Lane::start(base, label, number * APART, shape).await?);
        rates.push(Some(most * f64::from(percent) / 100.0));
    }
    turns("rate", &mut lanes, plan, &rates).await?;
    keep("rate", base, &lanes, found).await?;
    let half = lanes.iter().find(|lane| lane.label.starts_with("50 "));
    let value = half.map_or(f64::NAN, |lane| lane.latencies().millis(0.99));
    let made_of = format!("p99 from arrival to answer at half of the {} per second that 32 writers can", number(most));
    found.report.figure("p99_at_half_ms", value, made_of);
    Ok(())
}

/// Two servers on the same data, one with hardly any cache of its own. Both have the operating system's file cache.
async fn cache(args: &Args, base: Site, database: &Database, plan: &Plan, found: &mut Found) -> Outcome {
    if !args.wants(&["cache"]) {
        return Ok(());
    }
    // Two fresh copies: the server of the other dimensions has got all that they have written.
    drop(base);
    let saved = fixture::saved(args, "compare", &databases(args)).await?;
    let usual = Site::open(args, server::start(args, &saved, 0, &[]).await?, database).await?;
    let small = Site::open(args, server::start(args, &saved, 0, &[("shared_buffers", SMALL)]).await?, database).await?;
    let mut lanes = Vec::new();
    for site in [&usual, &small] {
        println!("cache       {}", site.cache().await?);
        let buffers = server::shown(&site.control, &["shared_buffers"]).await?;
        lanes.push(Lane::start(site, buffers, 0, Shape::default()).await?);
    }
    both("cache", &mut lanes, plan).await?;
    keep("cache", &small, &lanes, found).await?;
    let value = last_by_first(&lanes, |lane| lane.per_second());
    found.report.figure(
        "small_cache_vs_usual",
        value,
        format!("appends per second with shared_buffers={SMALL} ÷ with 1GB"),
    );
    Ok(())
}

/// Streaming replicas, which commits do not wait for. A short log is enough: replicas that are not needed are stopped, and
/// started again.
async fn replicas(args: &Args, plan: &Plan, found: &mut Found) -> Outcome {
    if !args.wants(&["replicas"]) {
        return Ok(());
    }
    let (saved, logs) = growth::logs(args, SHORT).await?;
    let short = *logs.last().ok_or("no logs")?;
    let site = Site::open(args, server::start(args, &saved, 2, &[]).await?, &short).await?;
    let mut lanes = Vec::new();
    for replicas in 0..=2 {
        lanes.push(Lane::start(&site, replicas.to_string(), replicas * APART, Shape::default()).await?);
    }
    let mut progress = Progress::new("replicas", 2 * (plan.rounds as u64 + 1) * 3);
    let mut rate = None;
    for paced in [false, true] {
        if paced {
            rate = Some(slowest(&lanes) / 2.0);
        }
        for round in 0..=plan.rounds {
            for (replicas, lane) in lanes.iter_mut().enumerate() {
                run_replicas(&site.cluster, replicas).await?;
                lane.round(plan.span, rate, round > 0).await?;
                progress.step(&format!("{replicas} replicas"));
            }
        }
    }
    progress.finish();
    keep("replicas", &site, &lanes, found).await?;
    let value = last_by_first(&lanes, |lane| lane.per_second());
    found.report.figure(
        "replicas2_vs_0",
        value,
        "appends per second with 2 streaming replicas on the same machine ÷ with none",
    );
    Ok(())
}

const SHORT: u64 = 100_000;

async fn run_replicas(cluster: &LocalCluster, wanted: usize) -> Outcome {
    for (index, replica) in cluster.replicas().enumerate() {
        match (index < wanted, replica.is_running()) {
            (true, false) => replica.start().await?,
            (false, true) => replica.stop().await?,
            _ => {}
        }
    }
    Ok(cluster.wait_until_caught_up().await?)
}

/// Appends a second that leave a log of 10000 events short.
const EARLY: f64 = 500.0;

/// Logs of all lengths on one server.
async fn events(args: &Args, plan: &Plan, found: &mut Found) -> Outcome {
    if !args.wants(&["events"]) {
        return Ok(());
    }
    let (saved, logs) = growth::logs(args, args.events.max(args.pick(SHORT, 10_000_000))).await?;
    let cluster = server::start(args, &saved, 0, &[]).await?;
    let mut sites = Vec::new();
    let cluster = std::sync::Arc::new(cluster);
    for log in &logs {
        sites.push(Site::open(args, std::sync::Arc::clone(&cluster), log).await?);
    }
    let mut lanes = Vec::new();
    for (site, log) in sites.iter().zip(&logs) {
        println!("{:>10}  {}", log.events, site.cache().await?);
        lanes.push(Lane::start(site, log.events.to_string(), 0, Shape::default()).await?);
    }
    // In this order: at full speed the short logs get many times as many events as they have.
    turns("events: at one rate", &mut lanes, plan, &vec![Some(EARLY); logs.len()]).await?;
    turns("events: as fast as it goes", &mut lanes, plan, &vec![None; logs.len()]).await?;
    if let Some(longest) = sites.last() {
        keep("events", longest, &lanes, found).await?;
    }
    let value = last_by_first(&lanes, |lane| lane.latencies().millis(0.5));
    found.report.figure(
        "longest_log_p50",
        value,
        "p50 of an append to the longest log ÷ to the shortest, at the same rate",
    );
    Ok(())
}

/// Loads on one server, as a dimension.
async fn sweep<'a>(
    title: &str,
    site: &'a Site,
    shapes: Vec<(String, Shape)>,
    plan: &Plan,
    found: &mut Found,
) -> Outcome<Vec<Lane<'a>>> {
    let mut lanes = Vec::new();
    for (number, (label, shape)) in (0..).zip(shapes) {
        lanes.push(Lane::start(site, label, number * APART, shape).await?);
    }
    both(title, &mut lanes, plan).await?;
    keep(title, site, &lanes, found).await?;
    Ok(lanes)
}

/// As fast as they can, then all at one rate.
async fn both(title: &str, lanes: &mut [Lane<'_>], plan: &Plan) -> Outcome {
    turns(&format!("{title}: as fast as it goes"), lanes, plan, &vec![None; lanes.len()]).await?;
    let rate = Some(slowest(lanes) / 2.0);
    turns(&format!("{title}: at one rate"), lanes, plan, &vec![rate; lanes.len()]).await
}

async fn turns(title: &str, lanes: &mut [Lane<'_>], plan: &Plan, rates: &[Option<f64>]) -> Outcome {
    let mut progress = Progress::new(title, ((plan.rounds + 1) * lanes.len()) as u64);
    for round in 0..=plan.rounds {
        // A different one begins each time.
        let first = round % lanes.len().max(1);
        for index in (first..lanes.len()).chain(0..first) {
            let (Some(lane), Some(rate)) = (lanes.get_mut(index), rates.get(index)) else { continue };
            lane.round(plan.span, *rate, round > 0).await?;
            progress.step(&lane.label);
        }
    }
    progress.finish();
    Ok(())
}

async fn keep(title: &str, site: &Site, lanes: &[Lane<'_>], found: &mut Found) -> Outcome {
    print_points(title, lanes);
    let rows: Vec<_> = lanes.iter().map(Lane::json).collect();
    found.points.extend(lanes.iter().filter_map(|lane| lane.point(title)));
    found.report.table(json!({ "title": title, "cache": site.cache().await?, "lanes": rows }));
    Ok(())
}

fn slowest(lanes: &[Lane<'_>]) -> f64 {
    lowest(lanes.iter().map(Lane::per_second))
}

fn last_by_first(lanes: &[Lane<'_>], figure: impl Fn(&Lane<'_>) -> f64) -> f64 {
    match (lanes.first(), lanes.last()) {
        (Some(first), Some(last)) => figure(last) / figure(first),
        _ => f64::NAN,
    }
}
