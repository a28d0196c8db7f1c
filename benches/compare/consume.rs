//! `compare consume`: following the log. How fast existing events are read, how soon new ones arrive, and what waiting costs.

use std::time::Duration;

use mainstem::{
    AppendCondition, Consistency, EventStore, Filter, NewEvent, PostgresEventStore, Role, Router, Subscribe,
    Subscription,
    testing::{LocalCluster, Node},
};
use serde_json::json;
use tokio::{
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use crate::{
    Outcome,
    append::{DATABASE, databases},
    args::Args,
    fixture, guarded,
    progress::Progress,
    report::{Report, number, print_title},
    rounds::{Control, Lane, Plan, median, paired, take_turns},
    server,
    side::{Boxed, Sample, Side, Table},
    stats::highest,
    streams::Copied,
};

pub(crate) const FIGURES: &[&str] =
    &["catchup_vs_copy", "live_primary_ms", "live_replica_ms", "live_replica_only_ms", "idle_queries_per_s"];

/// Longer than any event may take.
const HANG: Duration = Duration::from_secs(30);

const IDLE: usize = 100;

pub(crate) async fn run(args: &Args) -> Outcome {
    print_title("consume", args);
    let mut report = Report::new("consume");
    let [catch_up, live @ .., idle] = FIGURES else { return Err("no figures".into()) };
    if args.wants(&[catch_up]) {
        caught_up(args, catch_up, &mut report).await?;
    }
    if args.wants(live) {
        lively(args, &mut report).await?;
    }
    if args.wants(&[idle]) {
        idly(args, idle, &mut report).await?;
    }
    report.print(args, FIGURES)
}

/// A subscription from the beginning of the log. A round lasts until it has read all events.
struct CatchUp {
    store: PostgresEventStore,
    events: u64,
}

impl Side for CatchUp {
    fn connections(&self) -> usize {
        1
    }

    fn table(&self) -> Option<Table> {
        None
    }

    fn run(&mut self, _: Duration) -> Boxed<'_, Outcome<Sample>> {
        Box::pin(async move {
            let start = Instant::now();
            let mut subscription = self.store.subscribe(&Filter::any_event()).consistency(Consistency::Strong).build();
            let mut done = 0;
            while done < self.events {
                for event in &subscription.next_batch().await.ok_or("the subscription has ended")?? {
                    done += 1;
                    if event.position() != done {
                        return Err(format!("event {done} is at position {}", event.position()).into());
                    }
                }
            }
            Ok(Sample { done, elapsed: start.elapsed(), ..Sample::default() })
        })
    }
}

async fn caught_up(args: &Args, name: &'static str, report: &mut Report) -> Outcome {
    let saved = fixture::saved(args, "compare", &databases(args)).await?;
    let cluster = server::start(args, &saved, 0, &[]).await?;
    let url = cluster.primary().url_for(DATABASE);
    let control = Control::connect(&url).await?;
    server::print_facts(args, &cluster, &control, report).await?;
    let (store, events) = (guarded::store(&url, 2).await?, args.events);
    let mut lanes = [
        Lane::new("subscription", CatchUp { store, events }, &control),
        Lane::new("COPY", Copied { client: server::connect(&url).await?, events }, &control),
    ];
    take_turns(name, &mut lanes, Plan { rounds: args.pick(5, 5), span: Duration::ZERO }).await?;
    report.lanes("all events, in batches of 1000", &lanes);
    let [ours, copy] = &lanes;
    let value = paired(ours, copy, Sample::per_second, |ours, copy| ours / copy);
    report.figure(name, value, "events per second of a subscription that catches up ÷ of COPY, binary");
    Ok(())
}

/// A follower with its own store: it knows of other stores' appends only through the servers.
struct Follower {
    arrived: UnboundedReceiver<(u64, Instant)>,
    task: JoinHandle<()>,
}

impl Follower {
    fn new(store: PostgresEventStore, consistency: Consistency, role: Role) -> Self {
        let (tell, arrived) = unbounded_channel();
        let mut subscription = store.subscribe(&Filter::any_event()).consistency(consistency).build();
        let task = tokio::spawn(async move {
            while let Some(batch) = subscription.next_batch().await {
                let now = Instant::now();
                // The primary is out of reach at times; the subscription continues by itself.
                let Ok(batch) = batch else { continue };
                assert_eq!(batch.role(), role, "served by {}", batch.node());
                let told = batch.iter().try_for_each(|event| tell.send((event.position(), now)));
                if told.is_err() {
                    return;
                }
            }
        });
        Self { arrived, task }
    }

    /// When the event arrived.
    async fn arrival(&mut self, position: u64) -> Outcome<Instant> {
        loop {
            let arrived = timeout(HANG, self.arrived.recv()).await.map_err(|_| format!("no event {position}"))?;
            match arrived.ok_or("the subscription has ended")? {
                (there, at) if there == position => return Ok(at),
                (there, _) if there > position => return Err(format!("{there} came and not {position}").into()),
                _ => {}
            }
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn append(store: &PostgresEventStore) -> Outcome<u64> {
    Ok(store.append([NewEvent::new("Written", &json!({"n": 1}))?], AppendCondition::none()).await?.last().position())
}

async fn lively(args: &Args, report: &mut Report) -> Outcome {
    tokio::fs::create_dir_all(&args.folder).await?;
    let cluster = LocalCluster::builder().replicas(1).durable(true).place(fixture::place(args)?).start().await?;
    let writer = guarded::store(&cluster.primary().url(), 2).await?;
    writer.migrate().await?;
    append(&writer).await?;
    cluster.wait_until_caught_up().await?;
    let proxy = cluster.primary().proxy()?;
    let [_, primary, replica, replica_only, _] = FIGURES else { return Err("no figures".into()) };
    for (name, level, role) in [
        (primary, Consistency::Strong, Role::Primary),
        (replica, Consistency::Eventual, Role::Replica),
        (replica_only, Consistency::Eventual, Role::Replica),
    ] {
        if !args.wants(&[name]) {
            continue;
        }
        let url = cluster.primary().url_through(&proxy);
        let router = Router::builder().primary(url).replica(cluster.replica(0).url()).connect().await?;
        let mut follower = Follower::new(PostgresEventStore::new(&router), level, role);
        follower.arrival(1).await?;
        if name == replica_only {
            proxy.refuse()?;
        }
        // Until it has adapted.
        for _ in 0..20 {
            follower.arrival(append(&writer).await?).await?;
        }
        let delays = delays(args, name, &writer, &mut follower).await?;
        proxy.restore()?;
        let of = |hundredths: usize| number(delays.get(delays.len() * hundredths / 100).copied().unwrap_or(f64::NAN));
        let made_of = format!("from an append's answer to its event's arrival, p50; p10 {}, p99 {}", of(10), of(99));
        report.figure(name, median(delays.clone()), made_of);
    }
    Ok(())
}

/// The delays in milliseconds, shortest first; 0 for an event that arrived before its append was answered.
async fn delays(args: &Args, name: &str, writer: &PostgresEventStore, follower: &mut Follower) -> Outcome<Vec<f64>> {
    let appends = args.pick(100, 500);
    let mut progress = Progress::new(name, appends);
    let mut delays = Vec::new();
    for number in 0..appends {
        // Irregular intervals, so that appends do not fall into step with whatever polls at fixed ones.
        sleep(Duration::from_millis(5 + number * 7 % 23)).await;
        let position = append(writer).await?;
        let answered = Instant::now();
        let arrived = follower.arrival(position).await?;
        delays.push(arrived.saturating_duration_since(answered).as_secs_f64() * 1000.0);
        progress.step("appends");
    }
    progress.finish();
    delays.sort_by(f64::total_cmp);
    Ok(delays)
}

/// The number of statements while idle, by the servers' own logs.
async fn idly(args: &Args, name: &'static str, report: &mut Report) -> Outcome {
    let cluster = LocalCluster::builder().replicas(1).setting("log_statement", "all").start().await?;
    let builder = Router::builder().primary(cluster.primary().url()).replica(cluster.replica(0).url());
    let store = PostgresEventStore::new(&builder.connect().await?);
    store.migrate().await?;
    append(&store).await?;
    cluster.wait_until_caught_up().await?;
    let levels = [Consistency::Strong, Consistency::Eventual];
    let mut idle: Vec<Subscription> = levels
        .iter()
        .cycle()
        .take(IDLE)
        .map(|level| store.subscribe(&Filter::any_event()).consistency(level.clone()).build())
        .collect();
    for subscription in &mut idle {
        timeout(HANG, subscription.next()).await?.ok_or("the subscription has ended")??;
    }
    let waiting = idle.into_iter().map(|mut subscription| tokio::spawn(async move { subscription.next().await }));
    let waiting: Vec<_> = waiting.collect();
    sleep(Duration::from_secs(3)).await;
    let (before, start) = (statements(&cluster)?, Instant::now());
    sleep(Duration::from_secs(args.pick(5, 20))).await;
    let seconds = start.elapsed().as_secs_f64();
    let after = statements(&cluster)?;
    let each: Vec<f64> =
        before.iter().zip(&after).map(|(before, after)| after.saturating_sub(*before) as f64 / seconds).collect();
    append(&store).await?;
    for one in waiting {
        timeout(HANG, one).await??.ok_or("the subscription has ended")??;
    }
    let nodes: Vec<String> =
        cluster.nodes().iter().zip(&each).map(|(node, each)| format!("{} {each:.2}", node.name())).collect();
    let made_of =
        format!("statements a second for {IDLE} that wait, the router's probes included: {}", nodes.join(", "));
    report.figure(name, highest(each), made_of);
    Ok(())
}

fn statements(cluster: &LocalCluster) -> Outcome<Vec<u64>> {
    let count = |node: &Node| {
        let log = node.log()?;
        Outcome::Ok(log.lines().filter(|line| line.contains("execute ") || line.contains("statement: ")).count() as u64)
    };
    cluster.nodes().iter().map(count).collect()
}
