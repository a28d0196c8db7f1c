//! `drill append`: everything from the start of the cluster to the verdict.

use std::{
    collections::BTreeMap,
    process::ExitCode,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use mainstem::{EventStore, Filter, PostgresEventStore, Role, Router, testing::LocalCluster};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::{
    Outcome,
    args::Args,
    database,
    oracle::{self, Rule, Verdict},
    processes::Processes,
    readers::Reader,
    trouble::{Counts, Trouble},
    writer::{Count, SETTLE, Task},
};

/// For what is not the writing itself: starting servers, settling, reading the log.
const SLACK: Duration = Duration::from_secs(180);

/// How many broken rules of a kind are told in full.
const TOLD: usize = 3;

/// What a second has to bring, or there was no contention to speak of.
const LEAST_APPENDS: u64 = 10;
const LEAST_CONFLICTS: u64 = 1;

pub(crate) async fn run(args: &Args) -> Outcome<ExitCode> {
    let limit = Duration::from_secs(args.seconds) + SETTLE + SLACK;
    timeout(limit, drill(args)).await.map_err(|_| format!("not through after {limit:?}"))?
}

async fn drill(args: &Args) -> Outcome<ExitCode> {
    let Args { writers, processes, seconds, seed, .. } = args;
    let broken = args.fault.as_ref().map(|name| format!(", broken by {name}")).unwrap_or_default();
    eprintln!("drill append: {writers} writers in {processes} processes, {seconds} s, seed {seed}{broken}");
    // A kill must lose nothing: commits wait for the disk.
    let cluster = LocalCluster::builder().replicas(1).durable(true).setting("synchronous_commit", "on").start().await?;
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
    };
    let readers =
        [Reader::start(&primary, &replica, Role::Primary)?, Reader::start(&primary, &replica, Role::Replica)?];
    let trouble = Trouble::start(&cluster);
    let mut crew = Processes::start(&task, *processes, folder.path()).await?;
    let journals = watch(args, &cluster, &readers, &trouble, &mut crew).await?;
    let counts = std::sync::Arc::clone(&trouble.counts);
    drop(trouble);

    eprintln!("the writers have ended; reading the log and judging …");
    let store = PostgresEventStore::new(&Router::builder().primary(&primary).build()?);
    let log = store.query(&Filter::any_event()).timeout(SETTLE).await?;
    let head = log.last().map_or(0, mainstem::Event::position);
    let mut seen = Vec::new();
    for reader in readers {
        seen.push(reader.finish(head).await?);
    }
    let verdict = oracle::judge(&journals, &log, &seen)?;
    conclude(args, &verdict, &counts)
}

/// Lets the writers work, and the primary be killed in the middle of it; a line a second says where they are.
async fn watch(
    args: &Args,
    cluster: &LocalCluster,
    readers: &[Reader; 2],
    trouble: &Trouble,
    crew: &mut Processes,
) -> Outcome<Vec<Vec<crate::journal::Entry>>> {
    let begin = Instant::now();
    let killing = async {
        sleep(Duration::from_secs(args.seconds).mul_f64(0.4)).await;
        eprintln!("the primary is killed with -9 and started again");
        let dead = Instant::now();
        trouble.kill_primary(cluster).await?;
        eprintln!("the primary is back after {} ms", dead.elapsed().as_millis());
        Outcome::Ok(())
    };
    let mut killing = std::pin::pin!(killing);
    let mut killed = None;
    let mut ticks = interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    while begin.elapsed() < Duration::from_secs(args.seconds) || killed.is_none() {
        tokio::select! {
            outcome = &mut killing, if killed.is_none() => killed = Some(outcome?),
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

/// Tells what came of it; the last line is for programs.
fn conclude(args: &Args, verdict: &Verdict, counts: &Counts) -> Outcome<ExitCode> {
    let Verdict { broken, appends, conflicts, across, unexplained } = verdict;
    let [appends_killed, sessions_killed, primaries_killed, old_transaction_ms] =
        [&counts.appends_killed, &counts.sessions_killed, &counts.primaries_killed, &counts.old_transaction_ms]
            .map(|count| count.load(Ordering::Relaxed));
    eprintln!(
        "{appends} appends, {conflicts} conflicts, {across} of them across processes; killed: {appends_killed} appends, \
         {sessions_killed} sessions, {primaries_killed} primaries; a transaction was open elsewhere for \
         {old_transaction_ms} ms"
    );
    let mut rules: BTreeMap<Rule, Vec<&str>> = BTreeMap::new();
    broken.iter().for_each(|broken| rules.entry(broken.rule).or_default().push(&broken.how));
    for (rule, cases) in &rules {
        println!("broken {} times: {rule}", cases.len());
        cases.iter().take(TOLD).for_each(|how| println!("    {how}"));
    }
    unexplained.iter().take(TOLD).for_each(|error| eprintln!("unexplained: {error}"));
    if broken.is_empty() {
        let seconds = args.seconds;
        let checks = [
            (!unexplained.is_empty(), format!("{} answers that nobody can explain", unexplained.len())),
            (*appends < LEAST_APPENDS * seconds, format!("only {appends} appends in {seconds} s")),
            (*conflicts < LEAST_CONFLICTS * seconds, format!("only {conflicts} conflicts in {seconds} s")),
            (args.processes > 1 && *across == 0, "no conflict across processes".to_owned()),
            (appends_killed == 0, "no append was killed".to_owned()),
            (primaries_killed == 0, "the primary was not killed".to_owned()),
            (old_transaction_ms == 0, "no transaction was open elsewhere".to_owned()),
        ];
        if let Some((_, why)) = checks.into_iter().find(|(fails, _)| *fails) {
            return Err(format!("this run shows nothing: {why}").into());
        }
    }
    println!("drill append: anomalies={} appends={appends} conflicts={conflicts}", broken.len());
    Ok(if broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
