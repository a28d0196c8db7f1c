//! `drill shield`: all replicas are gone under ten times the load that the primary could bear.
//!
//! The primary is behind a narrow network, so that its capacity is the same on any machine. Appends come one after the
//! other; reads come at a steady rate whether or not they are answered, as from users.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use mainstem::{
    AppendCondition, Consistency, Error, ErrorKind, EventStore, Fallback, NewEvent, NodeCondition, PostgresEventStore,
    Role, Router,
    testing::{Direction, FaultProxy, LocalCluster},
};
use serde_json::json;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::{
    options::Options,
    report::{Report, percentile},
};
use crate::{Outcome, database, schedule};

/// The size of a read's answer on the network, and what the primary's network carries in a second: 100 reads.
const ANSWER: usize = 2_000;
const BYTES_PER_SECOND: u64 = 200_000;
const BEARABLE: u64 = BYTES_PER_SECOND / ANSWER as u64;
const READS_PER_SECOND: u64 = 10 * BEARABLE;

/// What the primary takes over: a fifth of what it could bear, one at a time.
const FALLBACK_RATE: u32 = BEARABLE as u32 / 5;
const FALLBACK_WAIT: Duration = Duration::from_millis(200);

/// The latency to the primary, in each direction.
const WAY: Duration = Duration::from_millis(25);

const APPENDS_PER_SECOND: u64 = 25;

#[derive(Default)]
struct Counts {
    by_replicas: AtomicU64,
    by_primary: AtomicU64,
    refused: AtomicU64,
    longest_refusal: Mutex<Duration>,
    other: Mutex<Vec<String>>,
    appends: Mutex<Vec<Duration>>,
}

pub(crate) async fn run(options: &Options) -> Outcome<Report> {
    let cluster = LocalCluster::builder().replicas(2).start().await?;
    database::create(&cluster.primary().url(), None).await?;
    cluster.wait_until_caught_up().await?;
    let primary = cluster.primary().proxy()?;
    let replicas: Vec<FaultProxy> = cluster.replicas().map(|node| node.proxy()).collect::<Result<_, _>>()?;
    let urls = cluster.replicas().zip(&replicas).map(|(node, proxy)| node.url_through(proxy));
    let builder = Router::builder().primary(cluster.primary().url_through(&primary)).replicas(urls).max_connections(20);
    let builder = builder.fallback_concurrency(1).fallback_rate(FALLBACK_RATE).fallback_wait(FALLBACK_WAIT);
    let is_stampede = options.is_broken_by("stampede");
    let builder = builder.fallback(if is_stampede { Fallback::Unlimited } else { Fallback::Protect });
    let router = builder.call_timeout(Duration::from_secs(20)).connect().await?;
    primary.delay(Direction::Both, WAY);
    primary.throttle(Direction::ToClient, BYTES_PER_SECOND);

    let (counts, ends) = (Arc::<Counts>::default(), Arc::<AtomicBool>::default());
    let load = [
        tokio::spawn(appends(PostgresEventStore::new(&router), Arc::clone(&counts), Arc::clone(&ends))),
        tokio::spawn(reads(router.clone(), Arc::clone(&counts), Arc::clone(&ends))),
    ];
    let time = Duration::from_secs(options.rounds.max(3).into());
    // The first calls open connections.
    sleep(Duration::from_secs(2)).await;
    let mut report = Report::default();
    counts.reset();
    sleep(time).await;
    let before = counts.reset();
    before.tell("with replicas");

    let plan = schedule::outage(options.seed, replicas.len());
    eprintln!("{plan:?}");
    let start = Instant::now();
    for (number, replica) in plan.lost.iter().enumerate() {
        if number > 0 {
            sleep(plan.pauses[0]).await;
        }
        replicas[*replica].refuse()?;
        replicas[*replica].cut()?;
    }
    sleep(time).await;
    let outage = start.elapsed();
    let during = counts.reset();
    during.tell("without replicas");

    for (number, replica) in plan.back.iter().enumerate() {
        if number > 0 {
            sleep(plan.pauses[1]).await;
        }
        replicas[*replica].restore()?;
    }
    // Measured from the last one: the pause before it is not due to the router.
    let start = Instant::now();
    let back = loop {
        sleep(Duration::from_millis(20)).await;
        let snapshot = router.status();
        let serves = |condition| matches!(condition, NodeCondition::Serving | NodeCondition::SlowStart);
        if snapshot.nodes.iter().all(|node| serves(node.condition.clone())) {
            break Some(start.elapsed());
        }
        if start.elapsed() > Duration::from_secs(10) {
            break None;
        }
    };
    // By then, reads that began before have completed.
    sleep(Duration::from_secs(1)).await;
    counts.reset();
    sleep(time / 2).await;
    let after = counts.reset();
    after.tell("with replicas again");
    ends.store(true, Ordering::Relaxed);
    for task in load {
        task.await??;
    }
    // A fault may be what delays calls afterwards.
    let calm: &[&Part] = if options.fault.is_none() { &[&before, &after] } else { &[&before] };
    if let Some(part) = calm.iter().find(|part| part.is_overloaded()) {
        let why =
            format!("the machine does not bear the load with all its nodes: the p99 of appends is {:?}", part.p99);
        report.shows(false, why);
        return Ok(report);
    }
    judge(&mut report, [before, during, after], outage);
    report.holds("everything returns by itself", back.is_some(), format!("{:?}", router.status()));
    let taken = router.status().fallback.in_flight;
    report.holds("no place in the budget leaks", taken == 0, format!("{taken} are taken"));
    report.milliseconds("back_ms", back.unwrap_or_default());
    Ok(report)
}

/// The figures of one part of the drill.
struct Part {
    by_replicas: u64,
    by_primary: u64,
    refused: u64,
    longest_refusal: Duration,
    other: Vec<String>,
    appends: usize,
    p99: Duration,
}

impl Counts {
    fn reset(&self) -> Part {
        let mut appends = std::mem::take(&mut *lock(&self.appends));
        Part {
            by_replicas: self.by_replicas.swap(0, Ordering::Relaxed),
            by_primary: self.by_primary.swap(0, Ordering::Relaxed),
            refused: self.refused.swap(0, Ordering::Relaxed),
            longest_refusal: std::mem::take(&mut *lock(&self.longest_refusal)),
            other: std::mem::take(&mut *lock(&self.other)),
            appends: appends.len(),
            p99: percentile(&mut appends, 99),
        }
    }
}

impl Part {
    /// Whether calls wait for the machine, and not for the network.
    fn is_overloaded(&self) -> bool {
        self.p99 > WAY * 6
    }

    fn tell(&self, when: &str) {
        let Self { by_replicas, by_primary, refused, longest_refusal, other, appends, p99 } = self;
        eprintln!(
            "{when}: {by_replicas} reads by replicas, {by_primary} by the primary, {refused} refused after {longest_refusal:?} \
             at most, {} others; {appends} appends, p99 {p99:?}",
            other.len()
        );
    }
}

fn judge(report: &mut Report, [before, during, after]: [Part; 3], outage: Duration) {
    // A second's worth may come at once.
    let most = f64::from(FALLBACK_RATE) * (outage.as_secs_f64() + 1.0) + 1.0;
    let is_within = during.by_primary as f64 <= most;
    let how = format!("{} reads, and {most:.0} are the limit", during.by_primary);
    report.holds("the primary takes over no more than its budget", is_within, how);
    report.holds("the primary takes over something", during.by_primary > 0, "no read was served");
    report.promise("the surplus gets its typed error", during.other);
    report.holds(
        "reads are served by replicas",
        before.by_primary + before.refused == 0,
        format!("{}", before.by_primary),
    );
    let is_over = after.by_primary + after.refused == 0 && after.by_replicas > 0;
    let how =
        format!("{} by replicas, {} by the primary, {} refused", after.by_replicas, after.by_primary, after.refused);
    report.holds("reads are served by replicas again", is_over, how);
    report.holds("appends go on", during.appends > 0, "there was none");
    let moved = during.p99.as_secs_f64() / before.p99.as_secs_f64().max(1e-9) * 100.0 - 100.0;
    report.in_time("the p99 of appends moves by less than 20 %", moved < 20.0);
    let late = FALLBACK_WAIT + Duration::from_millis(100);
    report.in_time("the surplus gets its error in time", during.longest_refusal < late);
    report.milliseconds("append_p99_before_ms", before.p99);
    report.milliseconds("append_p99_during_ms", during.p99);
    report.figure("append_p99_moved_percent", format!("{moved:.1}"));
    report.figure("reads_by_primary", during.by_primary);
    report.figure("refused", during.refused);
    report.milliseconds("longest_refusal_ms", during.longest_refusal);
    let offered = during.by_primary + during.refused;
    let wanted = outage.as_secs() * READS_PER_SECOND / 2;
    report.shows(offered > wanted || !is_within, format!("only {offered} reads were asked for"));
    report.shows(before.by_replicas > 0 && before.appends > 20, "there was no load to speak of");
}

/// Appends one after the other, at a steady rate.
async fn appends(store: PostgresEventStore, counts: Arc<Counts>, ends: Arc<AtomicBool>) -> Outcome {
    let mut ticks = interval(Duration::from_secs(1) / APPENDS_PER_SECOND as u32);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !ends.load(Ordering::Relaxed) {
        ticks.tick().await;
        let start = Instant::now();
        store.append([NewEvent::new("Counted", &json!({}))?], AppendCondition::none()).await?;
        lock(&counts.appends).push(start.elapsed());
    }
    Ok(())
}

/// Reads at a steady rate, whether or not earlier ones are answered.
async fn reads(router: Router, counts: Arc<Counts>, ends: Arc<AtomicBool>) -> Outcome {
    let mut ticks = interval(Duration::from_millis(20));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    while !ends.load(Ordering::Relaxed) {
        ticks.tick().await;
        for _ in 0..READS_PER_SECOND / 50 {
            tokio::spawn(read(router.clone(), Arc::clone(&counts)));
        }
    }
    Ok(())
}

async fn read(router: Router, counts: Arc<Counts>) {
    let start = Instant::now();
    let call = async {
        let client = router.client_at(Consistency::Eventual).await?;
        let role = client.role();
        let answer = client.query_one("SELECT repeat('x', $1)", &[&(ANSWER as i32)]).await;
        Ok::<_, Error>((role, answer))
    };
    match call.await {
        Ok((Role::Replica, Ok(_))) => _ = counts.by_replicas.fetch_add(1, Ordering::Relaxed),
        Ok((_, Ok(_))) => _ = counts.by_primary.fetch_add(1, Ordering::Relaxed),
        // The read lost its replica: callers with their own SQL get this error.
        Ok((Role::Replica, Err(error))) if error.kind() == ErrorKind::Unavailable => {}
        Err(error) if error.kind() == ErrorKind::ReplicasUnavailable => {
            counts.refused.fetch_add(1, Ordering::Relaxed);
            let mut longest = lock(&counts.longest_refusal);
            *longest = start.elapsed().max(*longest);
        }
        Ok((_, Err(error))) | Err(error) => lock(&counts.other).push(error.report()),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
