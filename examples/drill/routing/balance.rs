//! `drill balance`: equal replicas get equal shares, one at twenty times the latency gets next to nothing, and
//! recovers.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use mainstem::{
    Consistency, Router,
    testing::{Direction, FaultProxy, LocalCluster},
};
use tokio::time::{Instant, sleep};

use super::{options::Options, report::Report};
use crate::{Outcome, schedule};

/// The usual latency in each direction.
const USUAL: Duration = Duration::from_millis(4);

/// A multiple of what a call really takes: a busy machine adds to both, and a smaller delay would not be twenty times
/// as much.
const TIMES: u32 = 20;

/// How many calls a meaningful share needs.
const ENOUGH: u32 = 600;

/// How long after a change of latency shares are measured.
const NOTICED: Duration = Duration::from_secs(2);

const READERS: usize = 8;

/// How much each node has served since the last look, and how long that took in total.
#[derive(Clone, Default)]
struct Shares(Arc<Mutex<HashMap<String, (u64, Duration)>>>);

impl Shares {
    fn count(&self, node: &str, took: Duration) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match counts.get_mut(node) {
            Some((count, time)) => (*count, *time) = (*count + 1, *time + took),
            None => _ = counts.insert(node.to_owned(), (1, took)),
        }
    }

    /// The average latency of a call to this node since the last look.
    fn latency(&self, node: &str) -> Duration {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (count, time) = counts.get(node).copied().unwrap_or_default();
        time / u32::try_from(count.max(1)).unwrap_or(u32::MAX)
    }

    /// The share of each of these nodes in percent during this time, and the number of calls.
    async fn during(&self, time: Duration, nodes: &[String]) -> (Vec<f64>, u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
        sleep(time).await;
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let all: u64 = counts.values().map(|(count, _)| count).sum();
        let share = |node: &String| counts.get(node).map_or(0, |(count, _)| *count) as f64 * 100.0 / all.max(1) as f64;
        (nodes.iter().map(share).collect(), all)
    }
}

pub(crate) async fn run(options: &Options) -> Outcome<Report> {
    let cluster = LocalCluster::builder().replicas(2).start().await?;
    let proxies: Vec<FaultProxy> = cluster.replicas().map(|node| node.proxy()).collect::<Result<_, _>>()?;
    let urls = cluster.replicas().zip(&proxies).map(|(node, proxy)| node.url_through(proxy));
    let builder = Router::builder().primary(cluster.primary().url()).replicas(urls);
    let router = builder.max_connections(16).slow_start(Duration::ZERO).connect().await?;
    let nodes: Vec<String> = proxies.iter().map(|proxy| proxy.address().to_string()).collect();
    proxies.iter().for_each(|proxy| proxy.delay(Direction::Both, USUAL));

    // The replica that becomes slow.
    let victim = usize::try_from(schedule::victim(options.seed, 2))?;
    let (shares, ends) = (Shares::default(), Arc::<AtomicBool>::default());
    let readers: Vec<_> =
        (0..READERS).map(|_| tokio::spawn(read(router.clone(), shares.clone(), Arc::clone(&ends)))).collect();
    let time = Duration::from_secs(options.rounds.max(2).into()) / 2;
    sleep(NOTICED).await;

    let (equal, calls) = shares.during(time, &nodes).await;
    eprintln!("equal: {equal:.1?} % of {calls} calls");
    let latency = time * READERS as u32 / u32::try_from(calls.max(1))?;
    let usual = shares.latency(&nodes[1 - victim]);
    let time = time.max(latency * (ENOUGH / READERS as u32));
    proxies[victim].delay(Direction::Both, latency * TIMES / 2);
    // The first calls, already on their way to the slow replica, must have completed.
    sleep(NOTICED.max(latency * TIMES * 4)).await;
    let (slow, slow_calls) = shares.during(time, &nodes).await;
    let meanwhile = shares.latency(&nodes[1 - victim]);
    eprintln!("one at {TIMES} times the latency of {latency:.1?}: {slow:.1?} % of {slow_calls} calls");
    proxies[victim].delay(Direction::Both, USUAL);
    let start = Instant::now();
    let recovered = loop {
        let (share, _) = shares.during(Duration::from_millis(500), &nodes).await;
        if share[victim] > 40.0 {
            break Some(start.elapsed());
        }
        if start.elapsed() > Duration::from_secs(30) {
            break None;
        }
    };
    let (again, _) = shares.during(time, &nodes).await;
    eprintln!("equal again: {again:.1?} %");
    ends.store(true, Ordering::Relaxed);
    let mut failed = 0;
    for reader in readers {
        failed += reader.await?;
    }

    let mut report = Report::default();
    if latency > USUAL * 20 {
        report.shows(false, format!("the machine does not bear the load: a call takes {latency:?}"));
        return Ok(report);
    }
    let skew = |share: &[f64]| share.iter().map(|share| (share - 50.0).abs() * 2.0).fold(0.0, f64::max);
    // With few calls, chance alone shifts the shares: three standard deviations are allowed for it.
    let by_chance = 300.0 / (calls.max(1) as f64).sqrt();
    report.holds("equal replicas share equally", skew(&equal) <= 5.0 + by_chance, format!("{equal:.1?} %"));
    report.in_time("equal replicas share within 5 %", skew(&equal) <= 5.0);
    // What was twenty times as much at first no longer is, and then the share means nothing.
    let is_busier = meanwhile > usual * 3 / 2;
    let how = format!("a call to the other replica took {usual:.1?}, and {meanwhile:.1?} when one was slow");
    report.shows(!is_busier, format!("the machine has become busier: {how}"));
    // A router that ignores latencies would give it 4.8 %.
    report.holds("a slow replica gets next to nothing", is_busier || slow[victim] < 3.5, format!("{slow:.1?} %"));
    report.in_time("the share of a slow replica is below 2 %", slow[victim] < 2.0);
    report.holds(
        "a replica that is as fast as the other again is used again",
        recovered.is_some(),
        format!("{again:.1?} %"),
    );
    report.holds("no call fails", failed == 0, format!("{failed} have failed"));
    report.figure("calls", calls);
    report.figure("skew_percent", format!("{:.2}", skew(&equal)));
    report.figure("slow_share_percent", format!("{:.2}", slow[victim]));
    report.figure("skew_again_percent", format!("{:.2}", skew(&again)));
    report.milliseconds("recovered_ms", recovered.unwrap_or_default());
    Ok(report)
}

async fn read(router: Router, shares: Shares, ends: Arc<AtomicBool>) -> u64 {
    let mut failed = 0;
    while !ends.load(Ordering::Relaxed) {
        let call = async {
            let client = router.client_at(Consistency::Eventual).await?;
            let start = Instant::now();
            client.query_one("SELECT 1", &[]).await?;
            shares.count(client.node(), start.elapsed());
            Ok::<_, mainstem::Error>(())
        };
        failed += u64::from(call.await.is_err());
    }
    failed
}
