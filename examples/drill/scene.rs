//! The scene of a drill, whatever its writers do: servers, trouble, readers, and the final log.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use mainstem::{Event, EventStore, Filter, PostgresEventStore, Role, Router, testing::LocalCluster};
use serde::de::DeserializeOwned;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::{
    Outcome,
    args::Args,
    database,
    processes::Processes,
    readers::{Reader, Seen},
    schedule,
    trouble::{Counts, Trouble},
    writer::{Count, SETTLE, Task},
};

/// The time for everything but the writing: starting servers, settling, reading the log.
const SLACK: Duration = Duration::from_secs(180);

/// What was attempted and answered, and what is in the log.
pub(crate) struct Played<E> {
    /// One for each process.
    pub(crate) journals: Vec<Vec<E>>,
    pub(crate) log: Vec<Event>,
    pub(crate) seen: Vec<Seen>,
    pub(crate) counts: Arc<Counts>,
}

/// Plays the scene within its limit. The processes are this program, started again with `writers` as the subcommand.
pub(crate) async fn play<E: DeserializeOwned>(args: &Args, drill: &str, writers: &str) -> Outcome<Played<E>> {
    let limit = Duration::from_secs(args.seconds) + SETTLE + SLACK;
    timeout(limit, played(args, drill, writers)).await.map_err(|_| format!("not through after {limit:?}"))?
}

async fn played<E: DeserializeOwned>(args: &Args, drill: &str, crew: &str) -> Outcome<Played<E>> {
    let Args { writers, processes, seconds, seed, .. } = args;
    let broken = args.fault.as_ref().map(|name| format!(", broken by {name}")).unwrap_or_default();
    eprintln!("drill {drill}: {writers} writers in {processes} processes, {seconds} s, seed {seed}{broken}");
    // A kill must lose nothing, so commits wait for the disk.
    let builder = LocalCluster::builder().replicas(1).durable(true).setting("synchronous_commit", "on");
    let cluster = database::quick_to_recover(builder).start().await?;
    let admin = database::connect(&cluster.primary().url()).await?;
    for name in ["drill", "elsewhere"] {
        admin.batch_execute(&format!("CREATE DATABASE {name}")).await?;
    }
    drop(admin);
    let (primary, replica) = (cluster.primary().url_for("drill"), cluster.replica(0).url_for("drill"));
    database::create(&primary, args.fault.as_deref()).await?;
    cluster.wait_until_caught_up().await?;

    let folder = tempfile::tempdir()?;
    let task = Task {
        primary: primary.clone(),
        replica: replica.clone(),
        journal: folder.path().to_owned(),
        seed: *seed,
        writers: 0..*writers,
        seconds: *seconds,
        first_read: args.first_read,
    };
    let readers =
        [Reader::start(&primary, &replica, Role::Primary)?, Reader::start(&primary, &replica, Role::Replica)?];
    let trouble = Trouble::start(&cluster, *seed);
    let mut crew = Processes::start(crew, &task, *processes, folder.path()).await?;
    let journals = watch(args, &cluster, &readers, &trouble, &mut crew).await?;
    let counts = Arc::clone(&trouble.counts);
    drop(trouble);

    eprintln!("the writers have ended; reading the log and judging …");
    let store = PostgresEventStore::new(&Router::builder().primary(&primary).build()?);
    let log = store.query(&Filter::any_event()).timeout(SETTLE).await?.into_events();
    let head = log.last().map_or(0, Event::position);
    let mut seen = Vec::new();
    for reader in readers {
        seen.push(reader.finish(head).await?);
    }
    Ok(Played { journals, log, seen, counts })
}

/// Lets the writers work while servers are taken away; prints a line of progress every second.
async fn watch<E: DeserializeOwned>(
    args: &Args,
    cluster: &LocalCluster,
    readers: &[Reader; 2],
    trouble: &Trouble,
    crew: &mut Processes,
) -> Outcome<Vec<Vec<E>>> {
    let begin = Instant::now();
    let run = Duration::from_secs(args.seconds);
    let blows = async {
        for blow in schedule::blows(args.seed, run) {
            sleep(run.mul_f64(blow.at).saturating_sub(begin.elapsed())).await;
            let away = Instant::now();
            trouble.strike(cluster, &blow).await?;
            eprintln!("{:?}: it was away for {} ms", blow.what, away.elapsed().as_millis());
        }
        Outcome::Ok(())
    };
    let mut blows = std::pin::pin!(blows);
    let mut struck = None;
    let mut ticks = interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    while begin.elapsed() < run || struck.is_none() {
        tokio::select! {
            outcome = &mut blows, if struck.is_none() => struck = Some(outcome?),
            _ = ticks.tick() => {
                let Count { appends, conflicts, lost } = crew.count();
                let [primary, replica] = [readers[0].last(), readers[1].last()];
                eprintln!(
                    "{:>4} s of {}: {appends} appends, {conflicts} conflicts, {lost} answers lost; readers at {primary} \
                     and {replica}",
                    begin.elapsed().as_secs(),
                    args.seconds
                );
            }
        }
    }
    crew.finish(args.seconds).await
}

/// Why the run shows nothing, if so.
pub(crate) fn shows_nothing(counts: &Counts) -> Option<&'static str> {
    let nothing = |count: &AtomicU64| count.load(Ordering::Relaxed) == 0;
    if nothing(&counts.appends_killed) {
        Some("no append was killed")
    } else if nothing(&counts.primaries_killed) {
        Some("the primary was not killed")
    } else if nothing(&counts.old_transaction_ms) {
        Some("no transaction was open elsewhere")
    } else {
        None
    }
}
