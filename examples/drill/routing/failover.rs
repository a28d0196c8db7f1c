//! `drill failover`: primaries are killed, stopped and replaced, and come back writable, repeatedly.
//!
//! Commits wait until one replica has applied them. In each round the replica that has received more is promoted, as any
//! failover tool would choose. The old primary comes back and still accepts writes without waiting for any standby: what it
//! acknowledges is lost. With `--asynchronous` no commit ever waits for a replica; each acknowledged append that is lost
//! must then be reported as lost, and no other.

use std::time::Duration;

use mainstem::{
    Router,
    testing::{LocalCluster, Node},
};
use tokio::time::{Instant, sleep, timeout};

use super::{
    options::Options,
    report::{Report, percentile},
    timeline::Timeline,
    verdict,
    writers::{CALL, Writers},
};
use crate::{
    Outcome, database,
    schedule::{self, Loss},
};

const LIMIT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(1);

/// How long the old primary runs and accepts writes, beside the new one or alone.
const TEMPTATION: Duration = Duration::from_millis(1500);

struct Drill {
    cluster: LocalCluster,
    router: Router,
    writers: Writers,
    /// From the end of a promotion until the router knows of it.
    detected: Vec<Duration>,
    cancelled: u64,
    report: Report,
    timeline: Option<Timeline>,
}

pub(crate) async fn run(options: &Options) -> Outcome<Report> {
    let mut builder = LocalCluster::builder().replicas(2).setting("synchronous_commit", "remote_apply");
    if !options.asynchronous && !options.is_broken_by("asynchronous") {
        builder = builder.setting("synchronous_standby_names", "ANY 1 (*)");
    }
    let cluster = builder.start().await?;
    database::create(&cluster.primary().url(), None).await?;
    let admin = database::connect(&cluster.primary().url()).await?;
    admin.batch_execute("CREATE TABLE drill_written (at timestamptz); CREATE INDEX ON drill_written (at)").await?;
    drop(admin);
    cluster.wait_until_caught_up().await?;
    let replicas = cluster.replicas().map(Node::url);
    let builder = Router::builder().primary(cluster.primary().url()).replicas(replicas).max_connections(12);
    let router = builder.call_timeout(CALL).acquire_timeout(CALL).connect().await?;
    let writers = Writers::start(&router, options.is_broken_by("new-ids"));
    let (detected, report) = (Vec::new(), Report::default());
    let timeline = options.timeline.as_ref().map(|_| Timeline::start(&cluster, &router, &writers.journal));
    let mut drill = Drill { cluster, router, writers, detected, cancelled: 0, report, timeline };
    for (round, loss) in (0..options.rounds).zip(schedule::losses(options.seed)) {
        drill.writers.progress(50).await?;
        if !drill.round(loss).await? {
            let rule = "a new primary is found by itself";
            drill.report.holds(rule, false, format!("{loss:?}: {:?}", drill.router.status().primary));
            return Ok(drill.report);
        }
        eprintln!(
            "round {round}: {loss:?}; known after {:?}, {} appends so far",
            drill.detected.last().unwrap_or(&Duration::ZERO),
            drill.writers.appended()
        );
    }
    drill.finish(options).await
}

impl Drill {
    fn mark(&self, node: &Node, what: &str) {
        if let Some(timeline) = &self.timeline {
            timeline.mark(format!("{} {what}", node.name()));
        }
    }

    /// Whether the router found the new primary.
    async fn round(&mut self, loss: Loss) -> Outcome<bool> {
        let old = &self.cluster.nodes()[self.index_of_primary()];
        match loss {
            Loss::Killed => {
                let replicas: Vec<&Node> = self.cluster.replicas().collect();
                for replica in &replicas {
                    replica.freeze().await?;
                }
                fill_the_network(old).await?;
                sleep(Duration::from_millis(200)).await;
                let cancelled = cancel_who_waits(old).await?;
                sleep(Duration::from_millis(100)).await;
                old.kill().await?;
                self.mark(old, "is killed");
                for replica in &replicas {
                    replica.thaw().await?;
                }
                self.cancelled += cancelled;
            }
            Loss::Frozen => {
                old.freeze().await?;
                self.mark(old, "is frozen");
            }
            Loss::Alone => {
                old.kill().await?;
                self.mark(old, "is killed");
            }
        }
        let (new, other) = self.candidates().await?;
        let Some(detected) = self.promote(new).await? else { return Ok(false) };
        let (new, other) = (&self.cluster.nodes()[new], &self.cluster.nodes()[other]);
        self.mark(new, "is known as the primary");
        if !matches!(loss, Loss::Alone) {
            other.rejoin().await?;
            self.writers.progress(10).await?;
        }
        match loss {
            Loss::Frozen => old.thaw().await?,
            Loss::Killed | Loss::Alone => old.start().await?,
        }
        take_writes_gladly(old).await?;
        self.mark(old, "is back, as writable as ever");
        if let Loss::Alone = loss {
            new.kill().await?;
            self.mark(new, "is killed, too");
            sleep(TEMPTATION).await;
            new.start().await?;
            self.mark(new, "is back");
            other.rejoin().await?;
        } else {
            sleep(TEMPTATION).await;
        }
        old.rejoin().await?;
        restore_settings(old).await?;
        self.mark(old, "is a replica");
        self.detected.push(detected);
        Ok(true)
    }

    fn index_of_primary(&self) -> usize {
        let primary = self.cluster.primary().name();
        self.cluster.nodes().iter().position(|node| node.name() == primary).unwrap_or_default()
    }

    /// The replica that has received more, and the other one.
    async fn candidates(&self) -> Outcome<(usize, usize)> {
        let old = self.index_of_primary();
        // Lets what is on its way arrive.
        sleep(Duration::from_millis(200)).await;
        let mut received = Vec::new();
        for (index, node) in self.cluster.nodes().iter().enumerate().filter(|(index, _)| *index != old) {
            let client = database::connect(&node.url()).await?;
            let sql = "SELECT (pg_last_wal_receive_lsn() - '0/0')::int8";
            let row = timeout(LIMIT, client.query_one(sql, &[])).await.map_err(|_| "a replica does not answer")??;
            received.push((row.get::<_, Option<i64>>(0).unwrap_or_default(), index));
        }
        received.sort_unstable();
        match received[..] {
            [(_, other), (_, new)] => Ok((new, other)),
            _ => Err("there are no two replicas".into()),
        }
    }

    /// Promotes this node, and returns how long it took from then until the router knew.
    async fn promote(&self, node: usize) -> Outcome<Option<Duration>> {
        let node = &self.cluster.nodes()[node];
        let name = format!("127.0.0.1:{}", node.port());
        let router = self.router.clone();
        let known = tokio::spawn(async move {
            while router.status().primary.known().is_none_or(|known| **known != *name) {
                sleep(POLL).await;
            }
            Instant::now()
        });
        node.promote().await?;
        let promoted = Instant::now();
        self.mark(node, "is promoted");
        let Ok(known) = timeout(LIMIT, known).await else { return Ok(None) };
        Ok(Some(known?.saturating_duration_since(promoted)))
    }

    async fn finish(self, options: &Options) -> Outcome<Report> {
        let Self { cluster, router, writers, mut detected, cancelled, mut report, timeline } = self;
        writers.progress(50).await?;
        if let (Some(timeline), Some(file)) = (timeline, &options.timeline) {
            timeline.save(file).await?;
        }
        let journal = writers.finish().await?;
        verdict::judge(&cluster, &journal, options.asynchronous, &mut report).await?;
        drop(router);
        report.figure("rounds", options.rounds);
        report.figure("cancelled", cancelled);
        let (median, longest) = (percentile(&mut detected, 50), percentile(&mut detected, 100));
        report.milliseconds("detection_median_ms", median);
        report.milliseconds("detection_max_ms", longest);
        report.in_time("a promotion is known within a second (median)", median < Duration::from_secs(1));
        report
            .shows(cancelled > 0 || options.rounds < 3 || options.asynchronous, "no wait for a standby was cancelled");
        Ok(report)
    }
}

/// Writes more than the network buffers for a receiver that does not read, so that nothing after it has been sent anywhere.
async fn fill_the_network(node: &Node) -> Outcome {
    let client = database::connect(&node.url()).await?;
    let sql = "SELECT count(pg_logical_emit_message(false, 'drill', repeat('x', 1000))) FROM generate_series(1, 40000)";
    Ok(timeout(LIMIT, client.batch_execute(sql)).await.map_err(|_| "the primary does not answer")??)
}

/// Cancels one commit that waits for its standby. It then exists only on the primary.
async fn cancel_who_waits(node: &Node) -> Outcome<u64> {
    let client = database::connect(&node.url()).await?;
    let sql = "SELECT count(pg_cancel_backend(pid)) FROM (SELECT pid FROM pg_stat_activity \
               WHERE wait_event = 'SyncRep' ORDER BY query LIKE 'CALL%' DESC LIMIT 1) AS one";
    let row = timeout(LIMIT, client.query_one(sql, &[])).await.map_err(|_| "the primary does not answer")??;
    Ok(row.get::<_, i64>(0).try_into()?)
}

/// Makes the node acknowledge every write at once.
async fn take_writes_gladly(old: &Node) -> Outcome {
    alter(old, &["ALTER SYSTEM SET synchronous_standby_names = ''"]).await
}

/// For its next promotion.
async fn restore_settings(old: &Node) -> Outcome {
    alter(old, &["ALTER SYSTEM RESET synchronous_standby_names"]).await
}

async fn alter(node: &Node, statements: &[&str]) -> Outcome {
    let client = database::connect(&node.url()).await?;
    for sql in statements.iter().chain(&["SELECT pg_reload_conf()"]) {
        timeout(LIMIT, client.batch_execute(sql)).await.map_err(|_| "a node takes no setting")??;
    }
    Ok(())
}
