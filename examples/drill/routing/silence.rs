//! `drill silence`: nodes stop answering with their sockets open: at the log-in, while idle, in the middle of an answer.
//!
//! The primary and one replica are behind proxies that fall silent; the other replica always answers.

use std::{future::Future, time::Duration};

use futures_util::future::{join_all, try_join_all};
use mainstem::{
    Client, Consistency, Error, NodeCondition, NodeStatus, Router,
    testing::{Direction, FaultProxy, LocalCluster},
};
use tokio::time::{Instant, sleep, timeout};

use super::{
    options::Options,
    report::{Report, percentile},
};
use crate::{
    Failure, Outcome,
    plan::Dice,
    schedule::{self, Silence},
};

/// The limits on connecting and on a call.
const LIMIT: Duration = Duration::from_millis(300);

/// How long a call may take: a connection to the silent node that is not opened in time, a connection to another node, and
/// an answer that does not come. `SLACK` is what a busy machine adds.
const BUDGET: Duration = Duration::from_millis(900);
const SLACK: Duration = Duration::from_secs(2);

/// For anything without a limit, which would hang.
const HANG: Duration = Duration::from_secs(8);

const CAPACITY: u32 = 4;

/// An answer of many packets.
const LONG: &str = "SELECT string_agg(md5(n::text), '') FROM generate_series(1, 5000) AS n";

/// Where the silence begins.
const POINTS: [&str; 3] = ["at the log-in", "while idle", "in an answer"];

struct Drill {
    router: Router,
    primary: FaultProxy,
    replica: FaultProxy,
}

pub(crate) async fn run(options: &Options) -> Outcome<Report> {
    let cluster = LocalCluster::builder().replicas(2).start().await?;
    let (primary, replica) = (cluster.primary().proxy()?, cluster.replica(0).proxy()?);
    let builder = Router::builder().primary(cluster.primary().url_through(&primary));
    let builder = builder.replica(cluster.replica(0).url_through(&replica)).replica(cluster.replica(1).url());
    let builder = builder.max_connections(CAPACITY).connect_timeout(LIMIT).call_timeout(LIMIT);
    let router = builder.acquire_timeout(3 * LIMIT).slow_start(Duration::ZERO).connect().await?;
    let drill = Drill { router, primary, replica };
    let mut report = Report::default();
    drill.waits(options.seed, &mut report).await?;
    drill.given_up_at_the_log_in(&mut report).await?;
    drill.leaks(options, &mut report).await?;
    Ok(report)
}

async fn ask(client: &Client) -> Result<(), Error> {
    client.query_one("SELECT 1", &[]).await.map(drop)
}

/// Anything that takes this long has no limit.
async fn soon<T>(what: impl Future<Output = T>) -> Outcome<T> {
    timeout(HANG, what).await.map_err(|_| Failure::from("a call has no limit"))
}

impl Drill {
    fn silent_node(&self) -> Option<NodeStatus> {
        let name = self.replica.address().to_string();
        self.router.status().nodes.into_iter().find(|node| *node.name == *name)
    }

    async fn eventual(&self) -> Result<String, Error> {
        let client = self.router.client_at(Consistency::Eventual).await?;
        ask(&client).await?;
        Ok(client.node().to_owned())
    }

    /// Falls silent at each point, and measures how long calls take and when the node serves again.
    async fn waits(&self, seed: u64, report: &mut Report) -> Outcome {
        let (mut waited_too_long, mut not_back, mut longest) = (Vec::new(), Vec::new(), Duration::ZERO);
        let (mut healed, mut dice) = (Vec::new(), Dice::new(seed, 0));
        for _ in 0..5 {
            for point in schedule::shuffled(&POINTS, &mut dice) {
                match point {
                    "at the log-in" => {
                        self.replica.cut()?;
                        self.replica.silence(Direction::Both);
                    }
                    "while idle" => self.replica.silence(Direction::Both),
                    _ => self.replica.silence_after(20_000),
                }
                for _ in 0..6 {
                    let calls = (0..6).map(|_| async {
                        let start = Instant::now();
                        let long = async {
                            let client = self.router.client_at(Consistency::Eventual).await?;
                            client.query_one(LONG, &[]).await
                        };
                        (soon(long).await.is_ok(), start.elapsed())
                    });
                    for (has_ended, took) in join_all(calls).await {
                        longest = longest.max(took);
                        if !has_ended || took > BUDGET + SLACK {
                            waited_too_long.push(format!("{point}: {took:?}"));
                        }
                    }
                }
                self.replica.restore()?;
                match self.healed().await {
                    Some(took) => healed.push(took),
                    None => {
                        not_back.push(format!("silent {point}: {:?}", self.silent_node()));
                        // One case is enough.
                        report.promise("no call waits beyond its budget", waited_too_long);
                        report.promise("a node that answers again serves again", not_back);
                        return Ok(());
                    }
                }
            }
        }
        let (median, slowest) = (percentile(&mut healed, 50), percentile(&mut healed, 100));
        eprintln!("the longest call took {longest:?}; back after {median:?} in the median, {slowest:?} at most");
        report.promise("no call waits beyond its budget", waited_too_long);
        report.in_time("no call takes longer than its limits", longest < BUDGET + Duration::from_millis(200));
        report.in_time("a node serves within a second of its return", slowest < Duration::from_secs(1));
        report.milliseconds("longest_ms", longest);
        report.milliseconds("heal_median_ms", median);
        report.milliseconds("heal_max_ms", slowest);
        Ok(())
    }

    /// How long it took until the silent node served again.
    async fn healed(&self) -> Option<Duration> {
        let (start, name) = (Instant::now(), self.replica.address().to_string());
        while start.elapsed() < HANG {
            let served = soon(self.eventual()).await.is_ok_and(|served| served.is_ok_and(|node| node == name));
            // One call may be a trial of a node that is out of service.
            if served && self.silent_node().is_some_and(|node| !matches!(node.condition, NodeCondition::Ejected { .. }))
            {
                return Some(start.elapsed());
            }
            sleep(Duration::from_millis(2)).await;
        }
        None
    }

    /// A connection that gets no answer at the log-in is abandoned, and its socket closed.
    async fn given_up_at_the_log_in(&self, report: &mut Report) -> Outcome {
        self.primary.cut()?;
        self.primary.silence(Direction::Both);
        // With a query: a connection that was cut a moment ago may not have noticed yet.
        let call = || async { ask(&self.router.client().await?).await };
        let strong = || async { soon(call()).await.map(|answer| answer.is_err()) };
        let ends = join_all((0..CAPACITY).map(|_| strong())).await;
        let all_end = ends.iter().all(|ended| matches!(ended, Ok(true)));
        report.holds("a strong call ends without its primary", all_end, format!("{ends:?}"));
        // The end of a connection travels like a byte: it must be let through to be counted.
        sleep(4 * LIMIT).await;
        self.primary.restore()?;
        sleep(LIMIT).await;
        // A second attempt in each place of the pool: an attempt that hangs for ever would keep its place.
        self.primary.cut()?;
        self.primary.silence(Direction::Both);
        let connections = self.primary.counts().connections;
        let tries = async {
            while self.primary.counts().connections < connections + u64::from(2 * CAPACITY) {
                let _ = timeout(2 * LIMIT, join_all((0..CAPACITY).map(|_| self.router.client()))).await;
            }
        };
        let tried = timeout(HANG / 2, tries).await;
        report.holds("a connect that hangs is given up", tried.is_ok(), "its place is not tried again");
        self.primary.restore()?;
        Ok(())
    }

    /// Many short silences, after which every place of every pool must be available.
    async fn leaks(&self, options: &Options, report: &mut Report) -> Outcome {
        let Options { rounds, seed, .. } = *options;
        let (start, mut elsewhere, mut through) = (Instant::now(), 0, 0);
        let (mut seen, name) = (Instant::now(), self.replica.address().to_string());
        for (_, silence) in (0..rounds).zip(schedule::silences(seed)) {
            self.fall_silent(silence).await?;
            // The next round needs working connections.
            if soon(self.eventual()).await?.is_ok_and(|node| node == name) {
                seen = Instant::now();
            } else {
                elsewhere += 1;
            }
            let _ = timeout(HANG, async { ask(&self.router.client().await?).await }).await;
            through += 1;
            // So many silences eject the node now and then; away for this long, it is gone.
            if seen.elapsed() > HANG {
                break;
            }
        }
        let took = start.elapsed();
        eprintln!("{through} rounds in {took:?}, {elsewhere} of them behind without the replica");
        let back = self.healed().await.is_some();
        report.holds("a node that answers again serves again", back, format!("{:?}", self.silent_node()));
        let mut leaked = Vec::new();
        for level in [Consistency::Strong, Consistency::Eventual] {
            // With two replicas, both are needed.
            let places = if level == Consistency::Strong { CAPACITY } else { 2 * CAPACITY };
            let mut failed = None;
            for _ in 0..5 {
                let all = try_join_all((0..places).map(|_| self.router.client_at(level.clone())));
                failed = match timeout(10 * LIMIT, all).await {
                    Ok(Ok(clients))
                        if clients.iter().all(|client| {
                            level != Consistency::Eventual || client.role() != mainstem::Role::Primary
                        }) =>
                    {
                        None
                    }
                    Ok(Ok(_)) => Some("some were served by the primary".to_owned()),
                    Ok(Err(error)) => Some(error.report()),
                    Err(_) => Some("no answer".to_owned()),
                };
                if failed.is_none() {
                    break;
                }
                sleep(Duration::from_millis(100)).await;
            }
            leaked.extend(failed.map(|why| format!("{level:?}: not {places} connections at once: {why}")));
        }
        for node in self.router.status().nodes.iter().filter(|node| node.in_flight > 0) {
            leaked.push(format!("{}: {} calls are still counted", node.name, node.in_flight));
        }
        report.promise("no place leaks", leaked);
        report.figure("rounds", through);
        report.figure("without_replica", elsewhere);
        report.figure("rounds_s", format!("{:.1}", took.as_secs_f64()));
        report.shows(elsewhere < through * 3 / 4, format!("{elsewhere} rounds have not met the replica"));
        Ok(())
    }

    async fn fall_silent(&self, silence: Silence) -> Outcome {
        let given_up = Duration::from_millis(15);
        let strong = || async { ask(&self.router.client().await?).await };
        match silence {
            Silence::LogIn => {
                self.primary.cut()?;
                self.primary.silence(Direction::Both);
                let _ = timeout(given_up, join_all((0..3).map(|_| strong()))).await;
            }
            // Two at a time, so that the node is not ejected for the next rounds.
            Silence::Idle => {
                self.replica.silence(Direction::Both);
                let _ = timeout(given_up, join_all((0..2).map(|_| self.eventual()))).await;
            }
            Silence::InAnAnswer(bytes) => {
                self.replica.silence_after(bytes);
                let long = || async {
                    self.router.client_at(Consistency::Eventual).await?.query_one(LONG, &[]).await.map(drop)
                };
                let _ = timeout(given_up * 3, join_all([long(), long()])).await;
            }
            Silence::HalfOpen => {
                self.primary.silence(Direction::ToClient);
                let _ = timeout(given_up, join_all((0..2).map(|_| strong()))).await;
                self.primary.cut()?;
            }
        }
        self.primary.restore()?;
        Ok(self.replica.restore()?)
    }
}
