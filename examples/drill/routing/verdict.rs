//! What must hold of the final log of the drill `failover`.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, PoisonError, atomic::Ordering},
};

use futures_util::{StreamExt, stream};
use mainstem::{
    AppendCondition, Consistency, ErrorKind, Event, EventStore, Filter, Mark, NewEvent, PostgresEventStore, Result,
    Router, testing::LocalCluster,
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

/// How many appends are asked for at a time.
const ASKERS: usize = 16;

/// With `may_lose` appends may be lost, as long as exactly these are reported as lost.
pub(crate) async fn judge(cluster: &LocalCluster, journal: &Journal, may_lose: bool, report: &mut Report) -> Outcome {
    let router = Router::builder().primary(cluster.primary().url()).connect().await?;
    let store = PostgresEventStore::new(&router);
    let log = store.query(&Filter::any_event()).await?;
    let acknowledged = cases(&journal.acknowledged);
    let kept: HashMap<_, _> = log.iter().map(|event| (event.id(), event.position())).collect();
    let is_gone = |told: &&Acknowledged| kept.get(&told.id) != Some(&told.position);
    let lost: Vec<_> = acknowledged.iter().filter(is_gone).collect();
    let name = |told: &Acknowledged| format!("{} at {}; now at {:?}", told.id, told.position, kept.get(&told.id));
    if may_lose {
        report.shows(!lost.is_empty(), "nothing was lost");
    } else {
        report.promise("no acknowledged append is lost", lost.iter().copied().map(name).collect());
    }

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

    let answers: Vec<Result<Answers>> =
        stream::iter(&acknowledged).map(|told| ask(&store, told)).buffered(ASKERS).collect().await;
    let (mut wrong, mut by_token, mut by_checkpoint) = (Vec::new(), 0, 0);
    for (told, answers) in acknowledged.iter().zip(answers) {
        let (answers, expected) = (answers?, is_gone(&told));
        by_token += u64::from(answers.token);
        by_checkpoint += u64::from(answers.checkpoint);
        if answers != (Answers { token: expected, checkpoint: expected }) {
            wrong.push(format!("lost: {expected}; told as lost: {answers:?}; {}", name(told)));
        }
    }
    report.promise("exactly what is lost is told as lost, by its token and to who goes on from it", wrong);

    let [unknown, repeated, written] =
        [&journal.unknown, &journal.repeated, &journal.written].map(|count| count.load(Ordering::Relaxed));
    report.figure("appends", acknowledged.len());
    report.figure("lost", lost.len());
    report.figure("told_by_token", by_token);
    report.figure("told_by_checkpoint", by_checkpoint);
    report.figure("unknown", unknown);
    report.figure("repeated", repeated);
    report.figure("writes", written);
    report.figure("writes_behind_a_fence", cases(&journal.behind).len());
    report.shows(unknown > 0, "no outcome was unknown");
    report.shows(written > 0, "no raw write was acknowledged");
    Ok(())
}

/// Whether an append is reported as lost.
#[derive(Debug, PartialEq, Eq)]
struct Answers {
    /// To a reader with its token.
    token: bool,
    /// To a caller that resumes from it: with a condition, or with a consumer's checkpoint.
    checkpoint: bool,
}

async fn ask(store: &PostgresEventStore, told: &Acknowledged) -> Result<Answers> {
    let nothing = Filter::matching().any_type_of(["Nothing"]).finish()?;
    let read = store.query(&nothing).consistency(Consistency::AtLeast(told.token.clone())).await;
    let condition = AppendCondition::fail_if_events_match(nothing).after(Mark::new(told.position, told.id));
    let append = store.append([NewEvent::new("Probe", &json!({}))?], condition).await;
    Ok(Answers { token: is_lost(read)?, checkpoint: is_lost(append)? })
}

fn is_lost<T>(outcome: Result<T>) -> Result<bool> {
    match outcome {
        Err(error) if error.kind() == ErrorKind::LogDiverged => Ok(true),
        outcome => outcome.map(|_| false),
    }
}

fn cases<T: Clone>(cases: &Mutex<Vec<T>>) -> Vec<T> {
    cases.lock().unwrap_or_else(PoisonError::into_inner).clone()
}
