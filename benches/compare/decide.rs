//! `compare decide`: the whole cycle of a command, beside the same by hand and beside the origin's.

use crate::{
    Outcome,
    append::{DATABASE, databases},
    args::Args,
    bare::Bare,
    cycle, fixture, guarded,
    insert::Insert,
    library::Library,
    origin::Origin,
    reads::Course,
    report::{Report, print_title},
    rounds::{Control, Lane, Plan, paired, take_turns},
    server,
    side::Sample,
};

pub(crate) const FIGURES: &[&str] = &["cycle_vs_bare", "cycle_vs_origin"];

/// More decisions than one lane makes.
const APART: u64 = 100_000;

pub(crate) async fn run(args: &Args) -> Outcome {
    print_title("decide", args);
    let saved = fixture::saved(args, "compare", &databases(args)).await?;
    let cluster = server::start(args, &saved, 0, &[]).await?;
    let url = cluster.primary().url_for(DATABASE);
    let library = Library::new(args.seed, args.events);
    let control = Control::connect(&url).await?;
    let mut report = Report::new("decide");
    server::print_facts(args, &cluster, &control, &mut report).await?;

    // One connection for reads and one for appends, as by hand.
    let store = guarded::store(&url, 2).await?;
    let mut course = Course::new(&library);
    let tried: Vec<_> = (0..args.pick(200, 600)).map(|_| course.next()).collect();
    let bare = Bare::best(&url, &tried).await?;
    let way = format!("bare: {}", bare.way);
    let insert = Insert::connect(&url, &library, 0).await?;
    let mut lanes = [
        Lane::new("a command", cycle::ours(&store, &library), &control),
        Lane::new("bare query and plain INSERT", cycle::by_hand(bare, insert, &library), &control),
        Lane::new("origin's two statements", cycle::theirs(Origin::connect(&url).await?, &library, 0), &control),
        Lane::new(
            "… with its planner settings",
            cycle::theirs(Origin::by_its_indexes(&url).await?, &library, APART),
            &control,
        ),
    ];
    let plan = Plan { rounds: args.pick(9, 21), span: args.span(400, 1000) };
    take_turns("decide", &mut lanes, plan).await?;
    report.lanes("one task: a model of two parts, a decision, an append", &lanes);
    let [ours, bare, origins @ ..] = &lanes;
    let p50 = |sample: &Sample| sample.percentile(50);
    let ratio = |other: &Lane| paired(ours, other, p50, |ours, other| ours / other);
    let [vs_bare, vs_origin] = ["cycle_vs_bare", "cycle_vs_origin"];
    if args.wants(&[vs_bare]) {
        report.figure(vs_bare, ratio(bare), format!("p50 of a command ÷ of the read ({way}) and an unguarded INSERT"));
    }
    if args.wants(&[vs_origin]) {
        // The faster one.
        let [usual, indexed] = origins.each_ref().map(ratio);
        let (value, how) = if indexed > usual {
            (indexed, "with the planner settings that it recommends")
        } else {
            (usual, "by default")
        };
        report.figure(
            vs_origin,
            value,
            format!(
                "p50 of a command ÷ of the origin's query and append on a bare client, {how}, the faster of the two"
            ),
        );
    }
    report.print(args, FIGURES)
}
