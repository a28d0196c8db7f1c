//! Reads of the log from a replica that must be at least as new as a token.

use std::time::Duration;

use mainstem::{
    AppendCondition, Consistency, EventStore, Filter, NewEvent, PostgresEventStore, Role, Router, Token,
    testing::LocalCluster,
};
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::crew;
use crate::{
    Outcome,
    args::Args,
    report::Report,
    rounds::{Control, Lane, Plan, median, paired, take_turns},
    server,
    side::{Step, Worker},
};

pub(super) async fn migrate(router: &Router) -> Outcome {
    PostgresEventStore::new(router).migrate().await?;
    Ok(())
}

/// A read of one event of the log.
pub(super) struct Read {
    store: PostgresEventStore,
    filter: Filter,
    level: Consistency,
}

impl Read {
    pub(super) fn new(store: &PostgresEventStore, level: Consistency) -> Outcome<Self> {
        let filter = Filter::matching().all_tags_of(["one"]).finish()?;
        Ok(Self { store: store.clone(), filter, level })
    }
}

impl Worker for Read {
    async fn step(&mut self) -> Outcome<Step> {
        let history = self.store.query(&self.filter).consistency(self.level.clone()).await?;
        match history.role() {
            Role::Replica if !history.is_empty() => Ok(Step::READ),
            role => Err(format!("the {role} has served {} events", history.len()).into()),
        }
    }
}

/// Writes the event, and waits for its replay.
pub(super) async fn written(store: &PostgresEventStore) -> Outcome<Token> {
    let event = NewEvent::new("Written", &json!({}))?.with_tag("one");
    let token = store.append([event], AppendCondition::none()).await?.token().clone();
    Read::new(store, Consistency::AtLeast(token.clone()))?.step().await?;
    Ok(token)
}

pub(super) async fn extra(args: &Args, router: &Router, control: &Control, report: &mut Report) -> Outcome {
    let name = "causal_extra_us";
    if !args.wants(&[name]) {
        return Ok(());
    }
    let store = &PostgresEventStore::new(router);
    let token = written(store).await?;
    let mut lanes = [
        Lane::new("at least as new as a token", crew(Read::new(store, Consistency::AtLeast(token))?), control),
        Lane::new("eventual", crew(Read::new(store, Consistency::Eventual)?), control),
    ];
    take_turns("causal", &mut lanes, Plan { rounds: args.pick(9, 21), span: args.span(300, 1000) }).await?;
    report.lanes("a read of one event from a replica that has it", &lanes);
    let [causal, eventual] = &lanes;
    let value = paired(causal, eventual, |sample| sample.percentile(50), |causal, eventual| causal - eventual);
    report.figure(name, value, "p50 of a read at least as new as a token − of an eventual one, in µs");
    Ok(())
}

/// The time from the replica's report that it has replayed a write until the answer to the reader that waited for it.
pub(super) async fn wake(args: &Args, cluster: &LocalCluster, report: &mut Report) -> Outcome {
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
