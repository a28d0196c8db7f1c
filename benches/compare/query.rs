//! `compare query`: the store's query, beside the same by hand and beside the origin's.

use std::time::Duration;

use mainstem::{EventStore, PostgresEventStore};
use tokio::time::Instant;

use crate::{
    Outcome,
    append::{DATABASE, databases},
    args::Args,
    bare::Bare,
    fixture,
    guarded::{self, Guarded},
    library::Library,
    origin::Origin,
    reads::{self, Course, Paced, UnderAppends},
    report::{Report, number, print_title},
    rounds::{Control, Lane, Plan, median, paired, take_turns},
    server,
    side::Sample,
    streams,
};

pub(crate) const FIGURES: &[&str] =
    &["query_vs_bare", "query_vs_origin", "stream_vs_copy", "stream_rss_mib", "query_p99_under_appends"];

/// Decisions that all sides must agree on before anything is measured.
const COMPARED: usize = 50;

/// How many append at the same time, and how much in total if the store keeps up.
const APPENDERS: u64 = 8;
const APPENDS_PER_SECOND: u64 = 500;

pub(crate) async fn run(args: &Args) -> Outcome {
    print_title("query", args);
    let saved = fixture::saved(args, "compare", &databases(args)).await?;
    let cluster = server::start(args, &saved, 0, &[]).await?;
    let url = cluster.primary().url_for(DATABASE);
    let library = Library::new(args.seed, args.events);
    let control = Control::connect(&url).await?;
    let mut report = Report::new("query");
    server::print_facts(args, &cluster, &control, &mut report).await?;
    compare(args, &url, &library, &control, &mut report).await?;
    stream(args, &url, &control, &mut report).await?;
    under_appends(args, &url, &library, &control, &mut report).await?;
    report.print(args, FIGURES)
}

async fn compare(args: &Args, url: &str, library: &Library, control: &Control, report: &mut Report) -> Outcome {
    let [vs_bare, vs_origin] = ["query_vs_bare", "query_vs_origin"];
    if !args.wants(&[vs_bare, vs_origin]) {
        return Ok(());
    }
    let store = guarded::store(url, 1).await?;
    let mut course = Course::new(library);
    let tried: Vec<_> = (0..args.pick(200, 600)).map(|_| course.next()).collect();
    let bare = Bare::best(url, &tried).await?;
    let origin = Origin::connect(url).await?;
    agree(&store, &bare, &origin, library).await?;
    let by_hand = format!("bare: {}", bare.way);
    let mut lanes = [
        Lane::new("query", reads::ours(&store, library), control),
        Lane::new("bare SQL", reads::bare(bare, library), control),
        Lane::new("origin's query", reads::origin(origin, library), control),
    ];
    let plan = Plan { rounds: args.pick(9, 21), span: args.span(300, 1000) };
    take_turns("query", &mut lanes, plan).await?;
    report.lanes("one reader, 4 types and 2 predicates", &lanes);
    let [ours, bare, origin] = &lanes;
    let p50 = |sample: &Sample| sample.percentile(50);
    let ratio = |other: &Lane| paired(ours, other, p50, |ours, other| ours / other);
    if args.wants(&[vs_bare]) {
        report.figure(vs_bare, ratio(bare), format!("p50 of a query ÷ of {by_hand}"));
    }
    if args.wants(&[vs_origin]) {
        report.figure(vs_origin, ratio(origin), "p50 of a query ÷ of the origin's, prepared for each call");
    }
    Ok(())
}

/// Checks that all sides find the same events.
async fn agree(store: &PostgresEventStore, bare: &Bare, origin: &Origin, library: &Library) -> Outcome {
    let mut course = Course::new(library);
    let mut all = 0;
    for _ in 0..COMPARED {
        let boundary = course.next();
        let history = store.query(&boundary.filter()?).await?;
        let ours: Vec<u64> = history.iter().map(mainstem::Event::position).collect();
        let by_hand = bare.read(&boundary).await?;
        let theirs = origin.read(&boundary, 0).await?;
        let positions = |positions: Vec<i64>| positions.into_iter().map(u64::try_from).collect::<Result<Vec<_>, _>>();
        let by_hand_found = positions(by_hand.events.iter().map(|event| event.position).collect())?;
        let theirs_found = positions(theirs.iter().map(|event| event.position).collect())?;
        let heads = (history.head().map(|mark| mark.position()), by_hand.head.map(|(head, _)| head.unsigned_abs()));
        if ours != by_hand_found || ours != theirs_found || heads.0 != heads.1 {
            let found = (ours.len(), by_hand_found.len(), theirs_found.len());
            return Err(format!("the sides do not find the same: {found:?} events, heads {heads:?}").into());
        }
        all += ours.len();
    }
    println!("results     {} events a query; all sides find the same in {COMPARED} queries", all / COMPARED);
    Ok(())
}

async fn stream(args: &Args, url: &str, control: &Control, report: &mut Report) -> Outcome {
    let [vs_copy, rss] = ["stream_vs_copy", "stream_rss_mib"];
    let store = guarded::store(url, 1).await?;
    // Before the rounds: memory that they leave in the allocator would hide growth.
    if args.wants(&[rss]) {
        let growth = streams::growth(&store, args.events).await?;
        report.figure(rss, growth, format!("growth of the process in MiB while it streams {} events", args.events));
    }
    if !args.wants(&[vs_copy]) {
        return Ok(());
    }
    let copied = streams::Copied { client: server::connect(url).await?, events: args.events };
    let mut lanes = [
        Lane::new("stream of all events", streams::Streamed(store), control),
        Lane::new("COPY, binary", copied, control),
    ];
    take_turns("stream", &mut lanes, Plan { rounds: args.pick(5, 7), span: Duration::ZERO }).await?;
    report.lanes("all events, one by one", &lanes);
    let [stream, copy] = &lanes;
    let value = paired(stream, copy, Sample::per_second, |stream, copy| stream / copy);
    report.figure(
        vs_copy,
        value,
        "events per second: stream ÷ COPY (the same SELECT) TO STDOUT (FORMAT binary), drained",
    );
    Ok(())
}

async fn under_appends(args: &Args, url: &str, library: &Library, control: &Control, report: &mut Report) -> Outcome {
    let name = "query_p99_under_appends";
    if !args.wants(&[name]) {
        return Ok(());
    }
    let connections = u32::try_from(APPENDERS)? + 1;
    let store = guarded::store(url, connections).await?;
    let paced = |number| {
        let guarded = Guarded::new(&store, library, number)?;
        let pause = Duration::from_secs(APPENDERS) / u32::try_from(APPENDS_PER_SECOND)?;
        Ok(Paced { guarded, pause, next: Instant::now() })
    };
    let appends = (0..APPENDERS).map(paced).collect::<Outcome<_>>()?;
    let reads = reads::ours(&store, library);
    let mut lanes = [
        Lane::new(
            "query under appends",
            UnderAppends { reads, appends, connections: connections.try_into()? },
            control,
        ),
        Lane::new("query", reads::ours(&store, library), control),
    ];
    let plan = Plan { rounds: args.pick(5, 9), span: args.span(1000, 3000) };
    take_turns("query under appends", &mut lanes, plan).await?;
    report.lanes("one reader, while others append", &lanes);
    let [under, idle] = &lanes;
    let p99 = |sample: &Sample| sample.percentile(99);
    #[expect(clippy::cast_precision_loss, reason = "three digits of it are printed")]
    let rate = median(under.each(|sample| sample.written as f64 / sample.elapsed.as_secs_f64()));
    let made_of =
        format!("p99 of a query with {} appends/s beside it (asked for: {APPENDS_PER_SECOND}) ÷ without", number(rate));
    report.figure(name, paired(under, idle, p99, |under, idle| under / idle), made_of);
    Ok(())
}
