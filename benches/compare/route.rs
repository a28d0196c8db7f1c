//! `compare route`: a call through the router beside the same on a bare connection, and what it costs to be at least as new.

use std::time::Duration;

use mainstem::{
    AppendCondition, Consistency, EventStore, Filter, NewEvent, PostgresEventStore, Router,
    testing::{Direction, LocalCluster},
};
use serde_json::json;
use tokio::time::{Instant, sleep};
use tokio_postgres::{Client, NoTls, Statement};

use crate::{
    Outcome,
    args::Args,
    report::{Report, print_lanes, print_title},
    rounds::{Control, Lane, Plan, median, paired, take_turns},
    server,
    side::{Crew, Sample, Step, Worker},
};

pub(crate) const FIGURES: &[&str] =
    &["client_vs_bb8", "strong_vs_bare", "eventual_vs_bare", "causal_extra_us", "causal_extra_round_trips", "wake_ms"];

const SELECT: &str = "SELECT value FROM kept WHERE id = $1";

/// One way of a message through the proxy: much longer than a call takes.
const WAY: Duration = Duration::from_millis(5);

pub(crate) async fn run(args: &Args) -> Outcome {
    print_title("route", args);
    tokio::fs::create_dir_all(&args.folder).await?;
    let cluster = LocalCluster::builder().replicas(1).start().await?;
    let (primary, replica) = (cluster.primary().url(), cluster.replica(0).url());
    let router = Router::builder().primary(&primary).replica(&replica).max_connections(4).connect().await?;
    let store = PostgresEventStore::new(&router);
    store.migrate().await?;
    let table = "CREATE TABLE kept (id bigint PRIMARY KEY, value text); \
                 INSERT INTO kept SELECT id, repeat('x', 100) FROM generate_series(1, 1000) id";
    router.client().await?.batch_execute(table).await?;
    cluster.wait_until_caught_up().await?;
    let control = Control::connect(&primary).await?;
    server::print_facts(args, &cluster, &control).await?;
    let mut report = Report::new("route");
    checkout(args, &router, &primary, &control, &mut report).await?;
    calls(args, &router, [&primary, &replica], &control, &mut report).await?;
    causal(args, &store, &control, &mut report).await?;
    round_trips(args, &cluster, &mut report).await?;
    wake(args, &cluster, &mut report).await?;
    report.print(args, FIGURES);
    Ok(())
}

fn crew<W: Worker>(worker: W) -> Crew<W> {
    Crew { workers: vec![worker], connections: 1, table: None }
}

/// Gets a connection and gives it back, a thousand times a step.
enum Checkout {
    Ours(Router),
    Bb8(bb8::Pool<bb8_postgres::PostgresConnectionManager<NoTls>>),
}

impl Worker for Checkout {
    async fn step(&mut self) -> Outcome<Step> {
        for _ in 0..1000 {
            match self {
                Self::Ours(router) => drop(router.client_at(Consistency::Eventual).await?),
                Self::Bb8(pool) => drop(pool.get().await?),
            }
        }
        Ok(Step::READ)
    }
}

async fn checkout(args: &Args, router: &Router, url: &str, control: &Control, report: &mut Report) -> Outcome {
    let name = "client_vs_bb8";
    if !args.wants(&[name]) {
        return Ok(());
    }
    let manager = bb8_postgres::PostgresConnectionManager::new_from_stringlike(url, NoTls)?;
    let pool = bb8::Pool::builder().max_size(4).test_on_check_out(false).build(manager).await?;
    let mut lanes = [
        Lane::new("router.client()", crew(Checkout::Ours(router.clone())), control),
        Lane::new("bb8 get()", crew(Checkout::Bb8(pool)), control),
    ];
    take_turns("check-out", &mut lanes, Plan { rounds: args.pick(9, 21), span: args.span(200, 500) }).await?;
    print_lanes("a thousand connections, one after the other, and back", &lanes);
    let [ours, theirs] = &lanes;
    let value = paired(ours, theirs, Sample::per_second, |ours, theirs| theirs / ours);
    report.figure(name, value, "time of a check-out ÷ of bb8's, without its test");
    Ok(())
}

/// One prepared query, again and again.
struct Bare {
    client: Client,
    statement: Statement,
    next: i64,
}

impl Bare {
    async fn connect(url: &str) -> Outcome<Self> {
        let client = server::connect(url).await?;
        let statement = client.prepare(SELECT).await?;
        Ok(Self { client, statement, next: 0 })
    }
}

impl Worker for Bare {
    async fn step(&mut self) -> Outcome<Step> {
        self.next = self.next % 1000 + 1;
        let row = self.client.query_one(&self.statement, &[&self.next]).await?;
        std::hint::black_box(row.try_get::<_, &str>(0)?.len());
        Ok(Step::READ)
    }
}

/// The same, each on a connection that the router chooses.
struct Routed {
    router: Router,
    level: Consistency,
    next: i64,
}

impl Worker for Routed {
    async fn step(&mut self) -> Outcome<Step> {
        self.next = self.next % 1000 + 1;
        let client = self.router.client_at(self.level.clone()).await?;
        let row = client.query_one(SELECT, &[&self.next]).await?;
        std::hint::black_box(row.try_get::<_, &str>(0)?.len());
        Ok(Step::READ)
    }
}

async fn calls(
    args: &Args,
    router: &Router,
    [primary, replica]: [&str; 2],
    control: &Control,
    report: &mut Report,
) -> Outcome {
    for (name, url, level) in
        [("strong_vs_bare", primary, Consistency::Strong), ("eventual_vs_bare", replica, Consistency::Eventual)]
    {
        if !args.wants(&[name]) {
            continue;
        }
        let routed = Routed { router: router.clone(), level: level.clone(), next: 0 };
        let mut lanes = [
            Lane::new("a call through the router", crew(routed), control),
            Lane::new("the same, prepared, on a bare client", crew(Bare::connect(url).await?), control),
        ];
        take_turns(name, &mut lanes, Plan { rounds: args.pick(9, 21), span: args.span(300, 1000) }).await?;
        print_lanes(name, &lanes);
        let [ours, bare] = &lanes;
        let value = paired(ours, bare, |sample| sample.percentile(50), |ours, bare| ours / bare);
        report.figure(name, value, format!("p50 of a {level} call, check-out included ÷ on a bare client"));
    }
    Ok(())
}

/// A read of one event of the log.
struct Read {
    store: PostgresEventStore,
    filter: Filter,
    level: Consistency,
}

impl Read {
    fn new(store: &PostgresEventStore, level: Consistency) -> Outcome<Self> {
        let filter = Filter::matching().all_tags_of(["one"]).finish()?;
        Ok(Self { store: store.clone(), filter, level })
    }
}

impl Worker for Read {
    async fn step(&mut self) -> Outcome<Step> {
        let history = self.store.query(&self.filter).consistency(self.level.clone()).await?;
        match history.role() {
            mainstem::Role::Replica if !history.is_empty() => Ok(Step::READ),
            role => Err(format!("the {role} has served {} events", history.len()).into()),
        }
    }
}

/// Writes the event, and has it replayed.
async fn written(store: &PostgresEventStore) -> Outcome<mainstem::Token> {
    let event = NewEvent::new("Written", &json!({}))?.with_tag("one");
    let token = store.append([event], AppendCondition::none()).await?.token().clone();
    Read::new(store, Consistency::AtLeast(token.clone()))?.step().await?;
    Ok(token)
}

async fn causal(args: &Args, store: &PostgresEventStore, control: &Control, report: &mut Report) -> Outcome {
    let name = "causal_extra_us";
    if !args.wants(&[name]) {
        return Ok(());
    }
    let token = written(store).await?;
    let mut lanes = [
        Lane::new("at least as new as a token", crew(Read::new(store, Consistency::AtLeast(token))?), control),
        Lane::new("eventual", crew(Read::new(store, Consistency::Eventual)?), control),
    ];
    take_turns("causal", &mut lanes, Plan { rounds: args.pick(9, 21), span: args.span(300, 1000) }).await?;
    print_lanes("a read of one event from a replica that has it", &lanes);
    let [causal, eventual] = &lanes;
    let value = paired(causal, eventual, |sample| sample.percentile(50), |causal, eventual| causal - eventual);
    report.figure(name, value, "p50 of a read at least as new as a token − of an eventual one, in µs");
    Ok(())
}

/// Each round trip takes two ways, and nothing else takes anything near.
async fn round_trips(args: &Args, cluster: &LocalCluster, report: &mut Report) -> Outcome {
    let name = "causal_extra_round_trips";
    if !args.wants(&[name]) {
        return Ok(());
    }
    let proxy = cluster.replica(0).proxy()?;
    let builder = Router::builder().primary(cluster.primary().url()).replica(cluster.replica(0).url_through(&proxy));
    let store = PostgresEventStore::new(&builder.connect().await?);
    let token = written(&store).await?;
    let mut sides = [Read::new(&store, Consistency::AtLeast(token))?, Read::new(&store, Consistency::Eventual)?];
    for side in &mut sides {
        for _ in 0..20 {
            side.step().await?;
        }
    }
    proxy.delay(Direction::Both, WAY);
    let mut ways: [Vec<f64>; 2] = Default::default();
    for _ in 0..30 {
        for (side, ways) in sides.iter_mut().zip(&mut ways) {
            let start = Instant::now();
            side.step().await?;
            ways.push(start.elapsed().as_secs_f64() / (2.0 * WAY.as_secs_f64()));
        }
    }
    let [causal, eventual] = ways.map(median);
    let made_of = format!(
        "round trips of a read at least as new as a token ({causal:.2}) − of an eventual one ({eventual:.2}), by a network of {} ms",
        2 * WAY.as_millis()
    );
    report.figure(name, causal.round() - eventual.round(), made_of);
    Ok(())
}

/// From the moment at which the replica says that it has replayed a write to the answer of who has waited for that.
async fn wake(args: &Args, cluster: &LocalCluster, report: &mut Report) -> Outcome {
    let name = "wake_ms";
    if !args.wants(&[name]) {
        return Ok(());
    }
    let builder = Router::builder().primary(cluster.primary().url()).replica(cluster.replica(0).url());
    let router = builder.replay_wait(Duration::from_secs(20)).connect().await?;
    let store = PostgresEventStore::new(&router);
    let (primary, replica) =
        (server::connect(&cluster.primary().url()).await?, server::connect(&cluster.replica(0).url()).await?);
    let has = replica.prepare("SELECT pg_last_wal_replay_lsn() >= $1::text::pg_lsn").await?;
    let mut waits = Vec::new();
    for _ in 0..args.pick(20, 60) {
        cluster.replica(0).pause_replay().await?;
        let event = NewEvent::new("Written", &json!({}))?.with_tag("one");
        let token = store.append([event], AppendCondition::none()).await?.token().clone();
        let lsn: String = primary.query_one("SELECT pg_current_wal_flush_lsn()::text", &[]).await?.get(0);
        let mut read = Read::new(&store, Consistency::AtLeast(token))?;
        let waiting = tokio::spawn(async move { read.step().await.map(|_| Instant::now()) });
        sleep(Duration::from_millis(30)).await;
        cluster.replica(0).resume_replay().await?;
        while !replica.query_one(&has, &[&lsn]).await?.get::<_, bool>(0) {}
        let replayed = Instant::now();
        let woken = waiting.await??;
        waits.push(woken.saturating_duration_since(replayed).as_secs_f64() * 1000.0);
    }
    report.figure(
        name,
        median(waits),
        "p50 from the replay of a write to the answer of the read that has waited for it",
    );
    Ok(())
}
