//! What must hold of the log at the end of the drill `failover`.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, PoisonError, atomic::Ordering},
};

use mainstem::{
    AppendCondition, Error, ErrorKind, Event, EventStore, Filter, Mark, NewEvent, PostgresEventStore, Router,
    testing::LocalCluster,
};
use serde::Deserialize;
use serde_json::json;

use super::{
    report::Report,
    writers::{Acknowledged, Journal},
};
use crate::Outcome;

#[derive(Deserialize, PartialEq, Eq, PartialOrd, Ord)]
struct Counted {
    appender: u64,
    serial: u64,
}

pub(crate) async fn judge(cluster: &LocalCluster, journal: &Journal, report: &mut Report) -> Outcome {
    let router = Router::builder().primary(cluster.primary().url()).connect().await?;
    let store = PostgresEventStore::new(&router);
    let log = store.query(&Filter::any_event()).await?;
    let acknowledged = cases(&journal.acknowledged);
    let kept: HashMap<_, _> = log.iter().map(|event| (event.id(), event.position())).collect();
    let is_lost = |told: &&Acknowledged| kept.get(&told.id) != Some(&told.position);
    let lost: Vec<_> = acknowledged.iter().filter(is_lost).collect();
    let name =
        |told: &&Acknowledged| format!("{} at {}; there it has {:?}", told.id, told.position, kept.get(&told.id));
    report.promise("no acknowledged append is lost", lost.iter().map(name).collect());

    let told: HashMap<_, _> = acknowledged.iter().map(|told| (told.id, told.position)).collect();
    let is_strange = |event: &&Event| !told.contains_key(&event.id());
    let strangers = log.iter().filter(is_strange).map(|event| format!("{} at {}", event.id(), event.position()));
    report.promise("what is in the log was acknowledged in the end", strangers.collect());

    let mut counts = BTreeMap::<Counted, u32>::new();
    for event in log.iter() {
        *counts.entry(event.decode()?).or_default() += 1;
    }
    let twice = counts.iter().filter(|(_, count)| **count > 1);
    let twice = twice.map(|(what, count)| format!("{} of appender {}: {count} times", what.serial, what.appender));
    report.promise("an append that is made again is one append", twice.collect());

    report.promise("every outcome is known in the end", cases(&journal.unresolved));
    report.promise("nobody writes behind a fence that was seen", cases(&journal.behind));

    let mut missed = Vec::new();
    for told in &lost {
        if !is_told_as_lost(&store, told).await? {
            missed.push(format!("{} at {}", told.id, told.position));
        }
    }
    report.promise("what is lost is told as lost to who goes on from it", missed);

    let [unknown, repeated, written] =
        [&journal.unknown, &journal.repeated, &journal.written].map(|count| count.load(Ordering::Relaxed));
    report.figure("appends", acknowledged.len());
    report.figure("lost", lost.len());
    report.figure("unknown", unknown);
    report.figure("repeated", repeated);
    report.figure("writes", written);
    report.shows(unknown > 0, "no outcome was unknown");
    report.shows(written > 0, "no raw write was acknowledged");
    Ok(())
}

/// Whoever holds the mark of such an append, as a condition or a checkpoint, hears of it.
async fn is_told_as_lost(store: &PostgresEventStore, told: &Acknowledged) -> Outcome<bool> {
    let nothing = Filter::matching().any_type_of(["Nothing"]).finish()?;
    let condition = AppendCondition::fail_if_events_match(nothing).after(Mark::new(told.position, told.id));
    let outcome = store.append([NewEvent::new("Probe", &json!({}))?], condition).await;
    Ok(outcome.as_ref().err().map(Error::kind) == Some(ErrorKind::LogDiverged))
}

fn cases<T: Clone>(cases: &Mutex<Vec<T>>) -> Vec<T> {
    cases.lock().unwrap_or_else(PoisonError::into_inner).clone()
}
