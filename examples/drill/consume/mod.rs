//! `drill consume`: followers of the log while it is written and everything breaks.
//!
//!     cargo run --release --features testing --example drill -- consume --events 1000000
//!
//! Writers append small and large amounts. Subscriptions follow the primary and the replica, all events and some; they are
//! dropped, and resume from their marks. Consumers in separate processes, alone and in a group, are killed and restarted.
//! Sessions are killed, a transaction is open in another database, and there are two failovers: one that loses nothing, and one
//! that loses acknowledged events. Afterwards everything is compared with the log: nothing may be skipped or out of order, and
//! duplicates may occur only where they are allowed.
//!
//! The last line of standard output is `drill consume: skipped=0 out_of_order=0 duplicates=0 events=N lost=N`. A run shows
//! nothing if no follower had seen what was lost, or no consumer was killed.
//!
//! | file | what it holds |
//! |---|---|
//! | `writers` | who appends |
//! | `follower` | who follows with a subscription, in this process |
//! | `member`, `crew` | the consumers, each a process, and who kills and starts them |
//! | `failover` | the two failovers |
//! | `verdict` | what must hold |

mod crew;
mod failover;
mod follower;
pub(crate) mod member;
mod verdict;
mod writers;

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use mainstem::{Consistency, Filter, PostgresEventStore, Router, testing::LocalCluster};
use tokio::time::{sleep, timeout};

use self::{crew::Crew, follower::Follower, verdict::Verdict, writers::Writers};
use crate::{Outcome, args::ConsumeArgs, database, schedule, trouble::Trouble};

/// The limit of one call.
const CALL: Duration = Duration::from_secs(5);

/// The time for everything but the writing, and for writing at its slowest.
const SLACK: Duration = Duration::from_secs(300);
const SLOWEST: f64 = 200.0;

/// How long everybody may take to reach the end of the log after the writing is over.
const SETTLE: Duration = Duration::from_secs(180);

pub(crate) async fn run(args: &ConsumeArgs) -> Outcome<ExitCode> {
    let limit = Duration::from_secs_f64(args.events as f64 / SLOWEST) + SLACK;
    timeout(limit, drill(args)).await.map_err(|_| format!("not through after {limit:?}"))?
}

/// A router over both nodes, which finds a new primary within a moment.
fn router(nodes: &[String; 2]) -> Outcome<Router> {
    let [primary, replica] = nodes;
    let builder = Router::builder().primary(primary).replica(replica).call_timeout(CALL);
    Ok(builder.probe_interval(Duration::from_millis(100)).build()?)
}

async fn drill(args: &ConsumeArgs) -> Outcome<ExitCode> {
    let ConsumeArgs { events, writers, seed, fault } = args;
    let broken = fault.as_ref().map(|name| format!(", broken by {name}")).unwrap_or_default();
    eprintln!("drill consume: {events} events by {writers} writers, seed {seed}{broken}");
    let builder = LocalCluster::builder().replicas(1).durable(true).setting("synchronous_commit", "on");
    // An old primary rewinds to the last checkpoint that both have. With much written, that is further back than is kept by
    // default.
    let cluster = database::quick_to_recover(builder).setting("wal_keep_size", "1GB").start().await?;
    let admin = database::connect(&cluster.primary().url()).await?;
    for name in ["drill", "elsewhere"] {
        admin.batch_execute(&format!("CREATE DATABASE {name}")).await?;
    }
    drop(admin);
    let nodes = [cluster.primary().url_for("drill"), cluster.replica(0).url_for("drill")];
    database::create(&nodes[0], fault.as_deref()).await?;
    verdict::create(&nodes[0]).await?;
    cluster.wait_until_caught_up().await?;

    let store = PostgresEventStore::new(&router(&nodes)?);
    let some = Filter::matching().any_type_of(["Rare"]).finish()?;
    let follow =
        |name, filter: &Filter, level: Consistency| Follower::start(name, &nodes, filter.clone(), level, *seed);
    let followers = [
        follow("primary", &Filter::any_event(), Consistency::Strong)?,
        follow("replica", &Filter::any_event(), Consistency::Eventual)?,
        follow("some", &some, Consistency::Eventual)?,
    ];
    let crew = Crew::start(&nodes, *seed).await?;
    let writing = Writers::start(&nodes, *writers, *seed)?;
    let mut trouble = Some(Trouble::start(&cluster, *seed));
    // The failovers, by how much has been written; the next one is last in the list.
    let mut plan = schedule::failovers(*seed).to_vec();
    plan.reverse();
    let begin = Instant::now();
    while !writing.is_over() {
        sleep(Duration::from_millis(200)).await;
        if begin.elapsed().as_millis() % 2000 < 200 {
            let at: Vec<String> = followers.iter().map(|one| format!("{} at {}", one.name(), one.last())).collect();
            let (written, killed) = (writing.written(), crew.killed());
            eprintln!(
                "{:>4} s: {written} events written; {}; {killed} processes killed",
                begin.elapsed().as_secs(),
                at.join(", ")
            );
        }
        let Some((_, lossy)) = plan.pop_if(|(part, _)| writing.written() as f64 >= *part * *events as f64) else {
            continue;
        };
        drop(trouble.take());
        let took = Instant::now();
        failover::fail_over(&cluster, lossy).await?;
        let how = if lossy { "that loses what was acknowledged last" } else { "that loses nothing" };
        eprintln!("a failover {how}, in {} ms", took.elapsed().as_millis());
        if plan.is_empty() {
            // There is something to see after the last failover, too.
            writing.end_at((*events).max(writing.written() + events / 10));
        }
        // A different seed each time; otherwise the moments after a failover would always be those of the beginning.
        trouble = Some(Trouble::start(&cluster, seed.wrapping_add(1 + plan.len() as u64)));
    }
    drop(trouble);
    writing.finish().await?;

    eprintln!("all is written; waiting for everybody, and judging …");
    let log = timeout(SETTLE, verdict::read_log(&store)).await.map_err(|_| "the log cannot be read")??;
    let mut verdict = Verdict::default();
    for mut follower in followers {
        match follower.finish(&log, SETTLE).await? {
            Some(seen) => verdict.follower(&log, follower.filter(), &seen),
            None => verdict.stands_still(follower.name(), follower.last()),
        }
    }
    crew.finish(&store, log.len() as u64, SETTLE).await?;
    verdict.consumers(&store, &log).await?;
    verdict.conclude(log.len(), crew.killed())
}
