//! `compare append`: guarded appends beside plain INSERTs and beside the origin's guarded statement.

use mainstem::{PostgresEventStore, testing::LocalCluster};

use crate::{
    Outcome,
    args::Args,
    fixture::{self, Database},
    guarded, hot, insert,
    library::Library,
    origin, procs,
    report::{Report, print_title},
    rounds::{Control, Lane, Plan, paired, take_turns},
    server,
    side::Sample,
};

pub(crate) const FIGURES: &[&str] = &[
    "one_writer_vs_insert",
    "one_writer_extra_us",
    "tasks32_vs_insert",
    "tasks256_vs_insert",
    "procs4_vs_insert",
    "procs4_remote_apply_vs_insert",
    "tasks32_vs_origin",
    "ten_events_vs_rows",
    "ten_events_vs_rows_of_two",
    "hot_vs_origin",
    "old_after_slowdown",
];

/// Its database in the fixture, which `query` reads as well.
pub(crate) const DATABASE: &str = "compare";

const ONE_WRITER: [&str; 2] = ["one_writer_vs_insert", "one_writer_extra_us"];
const TASKS: [&str; 4] = ["tasks32_vs_insert", "tasks256_vs_insert", "tasks32_vs_origin", "old_after_slowdown"];

const TEN_EVENTS: [&str; 2] = ["ten_events_vs_rows", "ten_events_vs_rows_of_two"];

/// Which boundaries belong to which side. No two sides of a run share one, so no side's first append has to look far back.
mod boundaries {
    pub(super) const ONE_WRITER: u64 = 0;
    pub(super) const TASKS_32: u64 = 100;
    pub(super) const TASKS_256: u64 = 200;
    pub(super) const MIXED: u64 = 460;
    pub(super) const PROCS: u64 = 500;
    pub(super) const HOT: u64 = 599;
    pub(super) const TEN_EVENTS: u64 = 600;
}

/// The fixture of `append` and `query`.
pub(crate) fn databases(args: &Args) -> [Database; 1] {
    [Database { name: DATABASE, events: args.events, peers: true, tagged: false }]
}

pub(crate) async fn run(args: &Args) -> Outcome {
    print_title("append", args);
    let saved = fixture::saved(args, "compare", &databases(args)).await?;
    let mut report = Report::new("append");
    if FIGURES.iter().any(|name| *name != "procs4_remote_apply_vs_insert" && args.wants(&[name])) {
        let cluster = server::start(args, &saved, 0, &[]).await?;
        let bench = Bench::new(args, &cluster).await?;
        server::print_facts(args, &cluster, &bench.control, &mut report).await?;
        bench.prove().await?;
        bench.one_writer(&mut report).await?;
        bench.tasks(&mut report).await?;
        bench.ten_events(&mut report).await?;
        bench.hot(&mut report).await?;
        bench.procs("procs4_vs_insert", &mut report).await?;
    }
    if args.wants(&["procs4_remote_apply_vs_insert"]) {
        let settings = [("synchronous_standby_names", "*"), ("synchronous_commit", "remote_apply")];
        let cluster = server::start(args, &saved, 1, &settings).await?;
        let bench = Bench::new(args, &cluster).await?;
        let sql = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'";
        let standbys: i64 = bench.control.query_one(sql, &[]).await?.get(0);
        if standbys != 1 {
            return Err(format!("{standbys} synchronous standbys, not 1").into());
        }
        println!("\nwith one replica: {}", server::shown(&bench.control, &["synchronous_commit"]).await?);
        bench.procs("procs4_remote_apply_vs_insert", &mut report).await?;
    }
    report.print(args, FIGURES)
}

struct Bench<'a> {
    args: &'a Args,
    url: String,
    library: Library,
    store: PostgresEventStore,
    control: Control,
}

/// The connections of the store's pool, and of every side that it is compared with.
const CONNECTIONS: u32 = 32;

impl<'a> Bench<'a> {
    async fn new(args: &'a Args, cluster: &LocalCluster) -> Outcome<Self> {
        let url = cluster.primary().url_for(DATABASE);
        let library = Library::new(args.seed, args.events);
        let store = guarded::store(&url, CONNECTIONS).await?;
        let control = Control::connect(&url).await?;
        Ok(Self { args, url, library, store, control })
    }

    /// Once in each run: proves that these guards do refuse.
    async fn prove(&self) -> Outcome {
        guarded::prove(&self.store, &self.library, boundaries::HOT).await?;
        origin::prove(&self.url, &self.library, boundaries::HOT).await?;
        println!("guards      a decision on the past is refused, by the store and by the origin's statement");
        Ok(())
    }

    async fn one_writer(&self, report: &mut Report) -> Outcome {
        if !self.args.wants(&ONE_WRITER) {
            return Ok(());
        }
        let plan = Plan { rounds: self.args.pick(24, 80), span: self.args.span(100, 150) };
        let mut lanes = [
            Lane::new(
                "guarded append, 1 task",
                guarded::crew(&self.store, &self.library, boundaries::ONE_WRITER, 1, 1)?,
                &self.control,
            ),
            Lane::new(
                "INSERT",
                insert::crew(&self.url, &self.library, boundaries::ONE_WRITER, 1).await?,
                &self.control,
            ),
        ];
        take_turns("one writer", &mut lanes, plan).await?;
        report.lanes("one writer", &lanes);
        let [ours, insert] = &lanes;
        let p50 = |sample: &Sample| sample.percentile(50);
        let [ratio, extra] = ONE_WRITER;
        report.figure(
            ratio,
            paired(ours, insert, p50, |ours, insert| ours / insert),
            "p50 of a guarded append ÷ of an INSERT",
        );
        report.figure(extra, paired(ours, insert, p50, |ours, insert| ours - insert), "… and −, in µs");
        Ok(())
    }

    async fn tasks(&self, report: &mut Report) -> Outcome {
        if !self.args.wants(&TASKS) {
            return Ok(());
        }
        let [vs_insert, vs_insert_256, vs_origin, slowdown] = TASKS;
        let Self { args, url, library, store, control } = self;
        let plan = Plan { rounds: args.pick(5, 11), span: args.span(400, 2000) };
        let mut lanes = vec![Lane::new(
            "guarded append, 32 tasks",
            guarded::crew(store, library, boundaries::TASKS_32, 32, CONNECTIONS)?,
            control,
        )];
        if args.wants(&[vs_insert, vs_insert_256]) {
            lanes.push(Lane::new("INSERT", insert::crew(url, library, boundaries::TASKS_32, 32).await?, control));
        }
        if args.wants(&[vs_insert_256]) {
            let crew = guarded::crew(store, library, boundaries::TASKS_256, 256, CONNECTIONS)?;
            lanes.push(Lane::new("guarded append, 256 tasks", crew, control));
        }
        if args.wants(&[vs_origin]) {
            lanes.push(Lane::new(
                "origin's statement",
                origin::crew(url, library, boundaries::TASKS_32, 32).await?,
                control,
            ));
        }
        if args.wants(&[slowdown]) {
            let usual = guarded::crew(store, library, boundaries::MIXED, 32, CONNECTIONS)?;
            lanes.push(Lane::new("… and one with after 0", guarded::mixed(usual, store, library), control));
        }
        take_turns("tasks", &mut lanes, plan).await?;
        report.lanes("tasks with a boundary each", &lanes);
        let lane = |name: &str| lanes.iter().find(|lane| lane.name == name);
        let ratio = |one: &str, other: &str| -> Option<f64> {
            Some(paired(lane(one)?, lane(other)?, Sample::per_second, |one, other| one / other))
        };
        let few = "guarded append, 32 tasks";
        for (name, one, other) in [
            (vs_insert, few, "INSERT"),
            (vs_insert_256, "guarded append, 256 tasks", "INSERT"),
            (vs_origin, few, "origin's statement"),
            (slowdown, few, "… and one with after 0"),
        ] {
            if let (true, Some(ratio)) = (args.wants(&[name]), ratio(one, other)) {
                report.figure(name, ratio, format!("per second: {one} ÷ {other}"));
            }
        }
        Ok(())
    }

    /// Compares with what PostgreSQL needs for the same rows and their indexes, in statements of as many rows as each of the two
    /// batches that the store has in flight: on one connection, and on two, which the order of the log does not allow.
    async fn ten_events(&self, report: &mut Report) -> Outcome {
        const TASKS: u64 = 32;
        const EVENTS: u64 = 10;
        if !self.args.wants(&TEN_EVENTS) {
            return Ok(());
        }
        let Self { args, url, library, store, control } = self;
        let plan = Plan { rounds: args.pick(5, 11), span: args.span(400, 2000) };
        let first = boundaries::TEN_EVENTS;
        let rows = TASKS / 2 * EVENTS;
        let mut lanes = [
            Lane::new(
                "10 events, 32 tasks",
                guarded::crew_of_many(store, library, first, TASKS, CONNECTIONS, EVENTS)?,
                control,
            ),
            Lane::new("INSERTs of 160 rows", insert::crew_of_many(url, library, first, 1, rows).await?, control),
            Lane::new("… on two connections", insert::crew_of_many(url, library, first + 1, 2, rows).await?, control),
        ];
        take_turns("ten events", &mut lanes, plan).await?;
        report.lanes("appends of 10 events beside statements of 160 rows", &lanes);
        let [ours, one, two] = &lanes;
        for (name, other) in TEN_EVENTS.into_iter().zip([one, two]) {
            let value = paired(ours, other, Sample::written_per_second, |ours, other| ours / other);
            report.figure(name, value, format!("events per second: {} ÷ {}", ours.name, other.name));
        }
        Ok(())
    }

    async fn hot(&self, report: &mut Report) -> Outcome {
        let name = "hot_vs_origin";
        if !self.args.wants(&[name]) {
            return Ok(());
        }
        let Self { args, url, library, store, control } = self;
        let plan = Plan { rounds: args.pick(5, 11), span: args.span(400, 2000) };
        let mut lanes = [
            Lane::new("read and guarded append", hot::ours(store, library, boundaries::HOT, 32, CONNECTIONS)?, control),
            Lane::new("origin's, with a lock", hot::theirs(url, library, boundaries::HOT, 32).await?, control),
        ];
        take_turns("hot boundary", &mut lanes, plan).await?;
        report.lanes("32 tasks on one boundary, trying again after each conflict", &lanes);
        let [ours, theirs] = &lanes;
        if lanes.iter().any(|lane| lane.samples.iter().all(|sample| sample.conflicts == 0)) {
            return Err("no conflict on a boundary that 32 tasks share: these appends are not guarded".into());
        }
        let value = paired(ours, theirs, Sample::per_second, |ours, theirs| ours / theirs);
        report.figure(name, value, "successes per second: ours ÷ origin's with a lock");
        Ok(())
    }

    async fn procs(&self, name: &'static str, report: &mut Report) -> Outcome {
        const PROCESSES: u64 = 4;
        const TASKS: u64 = 16;
        if !self.args.wants(&[name]) {
            return Ok(());
        }
        let Self { args, url, library, control, .. } = self;
        let plan = Plan { rounds: args.pick(5, 11), span: args.span(400, 2000) };
        let of = (args.seed, args.events);
        let mut lanes = [
            Lane::new(
                "guarded, 4 × 16 tasks",
                procs::Procs::start(url, of, boundaries::PROCS, PROCESSES, TASKS).await?,
                control,
            ),
            Lane::new("INSERT", insert::crew(url, library, boundaries::PROCS, PROCESSES * TASKS).await?, control),
        ];
        take_turns(name, &mut lanes, plan).await?;
        let waits = if name.contains("remote_apply") { ", and a replica has to have applied each commit" } else { "" };
        report.lanes(&format!("4 processes{waits}"), &lanes);
        let [ours, insert] = &lanes;
        let value = paired(ours, insert, Sample::per_second, |ours, insert| ours / insert);
        report.figure(name, value, "per second: 4 processes of 16 tasks ÷ INSERTs over 64 connections");
        Ok(())
    }
}
