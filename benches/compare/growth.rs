//! `compare growth`: the same work on a long log and on a short one, side by side on one server.

use std::path::PathBuf;

use mainstem::PostgresEventStore;

use crate::{
    Outcome,
    args::Args,
    bare::Bare,
    fixture::{self, Database},
    guarded::{self, Ask},
    library::Library,
    reads,
    report::{Report, print_title},
    rounds::{Control, Lane, Plan, paired, take_turns},
    server,
    side::Sample,
    streams,
};

pub(crate) const FIGURES: &[&str] =
    &["append_growth", "query_growth", "bare_query_growth", "absent_guard_ms", "stream_rss_mib"];

/// The length of the short log.
const SHORT: u64 = 10_000;

/// Logs, each ten times as long as the one before, in one fixture, which `scale` uses, too.
const LENGTHS: [(u64, &str); 4] = [(SHORT, "log4"), (100_000, "log5"), (1_000_000, "log6"), (10_000_000, "log7")];

/// The saved cluster with these logs; the longest has the requested length.
pub(crate) async fn logs(args: &Args, events: u64) -> Outcome<(PathBuf, Vec<Database>)> {
    let shorter = LENGTHS.iter().filter(|(length, _)| *length < events);
    let lengths = shorter.copied().chain([(events, "longest")]);
    let databases: Vec<_> =
        lengths.map(|(events, name)| Database { name, events, peers: false, tagged: false }).collect();
    Ok((fixture::saved(args, "growth", &databases).await?, databases))
}

/// One of the two logs.
struct Log {
    url: String,
    library: Library,
    store: PostgresEventStore,
    control: Control,
}

pub(crate) async fn run(args: &Args) -> Outcome {
    print_title("growth", args);
    if args.events <= SHORT {
        return Err(format!("--events {}: use more than the {SHORT} of the short log", args.events).into());
    }
    let (saved, logs) = logs(args, args.events).await?;
    let [short, .., long] = logs[..] else { return Err("no two logs".into()) };
    let cluster = server::start(args, &saved, 0, &[]).await?;
    let open = async |Database { name, events, .. }: Database| {
        let url = cluster.primary().url_for(name);
        let (store, control) = (guarded::store(&url, 1).await?, Control::connect(&url).await?);
        Outcome::Ok(Log { library: Library::new(args.seed, events), store, control, url })
    };
    let (short, long) = (open(short).await?, open(long).await?);
    let mut report = Report::new("growth");
    server::print_facts(args, &cluster, &long.control, &mut report).await?;
    println!("compared    with {SHORT} events");
    guarded::prove(&long.store, &long.library, 100).await?;
    // First, while this process is as small as it gets.
    if args.wants(&["stream_rss_mib"]) {
        let growth = streams::growth(&long.store, args.events).await?;
        report.figure(
            "stream_rss_mib",
            growth,
            format!("growth of the process in MiB while it streams {} events", args.events),
        );
    }
    append(args, &long, &short, &mut report).await?;
    query(args, &long, &short, &mut report).await?;
    absent(args, &long, &mut report).await?;
    report.print(args, FIGURES)
}

const P50: fn(&Sample) -> f64 = |sample| sample.percentile(50);

async fn append(args: &Args, long: &Log, short: &Log, report: &mut Report) -> Outcome {
    let name = "append_growth";
    if !args.wants(&[name]) {
        return Ok(());
    }
    let lane = |name, log: &Log| -> Outcome<Lane> {
        Ok(Lane::new(name, guarded::crew(&log.store, &log.library, 0, 1, 1)?, &log.control))
    };
    let mut lanes = [lane("guarded append, long log", long)?, lane("guarded append, short log", short)?];
    let plan = Plan { rounds: args.pick(24, 80), span: args.span(100, 150) };
    take_turns("appends", &mut lanes, plan).await?;
    report.lanes("one writer", &lanes);
    let [long, short] = &lanes;
    report.figure(
        name,
        paired(long, short, P50, |long, short| long / short),
        "p50 of a guarded append: long ÷ short log",
    );
    Ok(())
}

async fn query(args: &Args, long: &Log, short: &Log, report: &mut Report) -> Outcome {
    let [name, by_hand] = ["query_growth", "bare_query_growth"];
    if !args.wants(&[name, by_hand]) {
        return Ok(());
    }
    let ours = |name, log: &Log| Lane::new(name, reads::ours(&log.store, &log.library), &log.control);
    // The server's share of it: the same by hand, in the fastest way on each log.
    let bare = async |name, log: &Log| {
        let mut course = reads::Course::new(&log.library);
        let tried: Vec<_> = (0..200).map(|_| course.next()).collect();
        let bare = Bare::best(&log.url, &tried).await?;
        Outcome::Ok(Lane::new(name, reads::bare(bare, &log.library), &log.control))
    };
    let mut lanes = [
        ours("query, long log", long),
        ours("query, short log", short),
        bare("bare SQL, long log", long).await?,
        bare("bare SQL, short log", short).await?,
    ];
    let plan = Plan { rounds: args.pick(9, 21), span: args.span(300, 1000) };
    take_turns("queries", &mut lanes, plan).await?;
    report.lanes("one reader, 4 types and 2 predicates", &lanes);
    let [long, short, bare_long, bare_short] = &lanes;
    let growth = |long, short| paired(long, short, P50, |long, short| long / short);
    report.figure(name, growth(long, short), "p50 of a query: long ÷ short log");
    report.figure(by_hand, growth(bare_long, bare_short), "p50 of the same by hand, bare: long ÷ short log");
    Ok(())
}

/// The guard costs what the append takes longer than one without a guard. Commits do not wait here: the wait is not
/// part of the guard, and varies by more than the guard takes.
async fn absent(args: &Args, long: &Log, report: &mut Report) -> Outcome {
    let name = "absent_guard_ms";
    if !args.wants(&[name]) {
        return Ok(());
    }
    let url = format!("{}?options=-c%20plan_cache_mode%3Dforce_generic_plan%20-c%20synchronous_commit%3Doff", long.url);
    let store = guarded::store(&url, 1).await?;
    let lane = |name, ask| Lane::new(name, guarded::aside(&store, &long.library, ask), &long.control);
    let mut lanes = [
        lane("guard for absent ids", Ask::Absent),
        lane("append without a guard", Ask::Nothing),
        // Not a figure, but it shows what a search that stops at an empty index would hide.
        lane("guard for present ids", Ask::Present),
    ];
    let plan = Plan { rounds: args.pick(7, 15), span: args.span(300, 1000) };
    take_turns("absent guard", &mut lanes, plan).await?;
    report.lanes("one writer, plan_cache_mode=force_generic_plan synchronous_commit=off", &lanes);
    let [guarded, unguarded, _] = &lanes;
    let value = paired(guarded, unguarded, P50, |guarded, unguarded| (guarded - unguarded) / 1000.0);
    report.figure(name, value, "p50 of an append guarded by an absent id, without after, − of one without a guard");
    Ok(())
}
