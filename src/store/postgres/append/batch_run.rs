//! Sending one batch, and answering its appends.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;
use uuid::Uuid;

use super::{
    answer::{Answers, AppendOutcome},
    call::Call,
    drain::{Drain, NextBatch},
    drains,
    group::{Server, Waiting},
    merge,
    overtaken::{Overtaken, Written},
    prepared::Prepared,
};
use crate::{
    error::{Error, ErrorKind, Result},
    router::{Deadline, Lease},
    store::postgres::{
        PostgresEventStore, failure,
        news::announce,
        tail::{BatchInFlight, Predecessor},
    },
};

/// `lock_not_available`.
const NO_LOCK: &str = "55P03";

/// Sends the next batch and answers it; returns whether the connection is still usable.
pub(in crate::store::postgres) async fn run(store: &PostgresEventStore, lease: &Lease, drain: &mut Drain) -> bool {
    let NextBatch { appends, overtaken, predecessor } = drain.take(&store.known.tail, lease.session());
    if drain.claim_another() {
        tokio::spawn(Box::pin(drains(store)));
    }
    let run = BatchRun {
        store,
        lease,
        drain,
        parts: vec![appends],
        overtaken,
        predecessor,
        written: Written::default(),
        last_answer: None,
        again: Vec::new(),
        is_usable: true,
    };
    run.send_all().await
}

/// A batch. It is one call, unless the server refuses the data of one of its appends: then it is sent in ever smaller
/// parts, to find out which.
struct BatchRun<'a> {
    store: &'a PostgresEventStore,
    lease: &'a Lease,
    drain: &'a mut Drain,
    /// The parts that are still to be sent, the last one first. One without appends only looks up ids.
    parts: Vec<Vec<Waiting>>,
    /// Appends that are not sent. They are answered at the end, by what the batch has written.
    overtaken: Vec<Overtaken>,
    /// The batch that the first call follows.
    predecessor: Option<Predecessor>,
    written: Written,
    /// What the last call that was answered has reported: the server, and which of the ids are in the log.
    last_answer: Option<(Server, Vec<Uuid>)>,
    /// Appends that go into the queue again.
    again: Vec<Waiting>,
    is_usable: bool,
}

impl BatchRun<'_> {
    async fn send_all(mut self) -> bool {
        while let Some(part) = self.parts.pop() {
            let only_looks_up = part.is_empty();
            if only_looks_up && (self.overtaken.is_empty() || self.last_answer.is_some()) {
                continue;
            }
            let sent_at = Instant::now();
            let (part, in_flight, outcome) = self.send(part).await;
            match outcome {
                Ok(answers) => self.answer(part, in_flight, answers),
                Err(error) if error.sqlstate() == Some(NO_LOCK) => self.got_no_lock(part, &error, sent_at),
                Err(error) if failure::is_about_data(&error) => self.has_bad_data(part, &error),
                Err(error) => self.failed(part, &error),
            }
        }
        self.settle_overtaken();
        // They come first in the next batch, and the first of them follows no other there: otherwise this would never
        // end.
        self.again.sort_by_key(|one| (!one.is_known, one.number));
        self.drain.put_back(self.again);
        self.is_usable
    }

    async fn send(&mut self, part: Vec<Waiting>) -> (Vec<Waiting>, BatchInFlight, Result<Answers>) {
        let tail = &self.store.known.tail;
        // An append that is not sent can be given up at any time, and limits no others.
        let (deadline, shortest) = match part.is_empty() {
            true => limits(self.overtaken.iter().map(Overtaken::waiting)),
            false => limits(part.iter()),
        };
        let in_flight = tail.send(self.lease.session(), part.iter().map(|one| Arc::clone(&one.append)).collect());
        let ids: Vec<Uuid> = self.overtaken.iter().flat_map(Overtaken::ids).collect();
        with_metrics! { count_batch(self.store, &part); }
        let (waiting, lock_timeout) = self.drain.send(part, shortest);
        let call = Call {
            waiting,
            ids: &ids,
            lock_timeout,
            is_crowded: !tail.is_ours(),
            name: in_flight.call(),
            predecessor: self.predecessor.take(),
        };
        let outcome = call.send(&self.store.log.append, self.lease, deadline).await;
        let part = self.drain.sent();
        self.drain.had_lock(outcome.as_ref().err().and_then(Error::sqlstate) != Some(NO_LOCK));
        (part, in_flight, outcome)
    }

    fn answer(&mut self, part: Vec<Waiting>, in_flight: BatchInFlight, answers: Answers) {
        let Answers { outcomes, known, lsn, lock_time } = answers;
        let (system, place) = self.lease.written(lsn);
        let server = Server { node: Arc::clone(self.lease.node().name()), system, place, lock_time };
        note(self.store, in_flight, &part, &outcomes);
        if let Some((position, events)) = last_written(&part, &outcomes) {
            announce::appended(self.store, position, events);
        }
        if !self.overtaken.is_empty() {
            self.written.add(&part, &outcomes);
        }
        for (mut one, outcome) in part.into_iter().zip(outcomes) {
            if one.looked_until.take().is_some() && matches!(outcome, AppendOutcome::Diverged(_)) {
                // The log does not hold what this process has written. That says nothing about what the condition is
                // based on.
                self.store.known.tail.forget();
                self.again.push(one);
            } else {
                one.answer(Ok((server.clone(), outcome)));
            }
        }
        self.last_answer = Some((server, known));
    }

    /// Some have run out of time; the others have time left.
    fn got_no_lock(&mut self, part: Vec<Waiting>, error: &Error, sent_at: Instant) {
        let now = Instant::now();
        for mut one in part {
            if one.lock_until <= now {
                one.answer(Err(error.clone()));
            } else {
                one.waited = one.waited.max(now - sent_at);
                self.again.push(one);
            }
        }
    }

    /// Nothing of it was written. Each half is tried alone, the first one first.
    fn has_bad_data(&mut self, mut part: Vec<Waiting>, error: &Error) {
        match part.len() {
            // Nothing of theirs is to blame: asked again, the server would say the same again.
            0 => self.refuse_overtaken(error),
            1 => part.into_iter().for_each(|one| one.answer(Err(error.clone()))),
            _ => {
                part.retain(Waiting::is_wanted);
                let second = part.split_off(part.len() / 2);
                self.parts.extend([second, part]);
            }
        }
    }

    /// The rest goes over another connection, if this one is no longer usable.
    fn failed(&mut self, part: Vec<Waiting>, error: &Error) {
        if part.is_empty() && !error.is_outcome_unknown() {
            self.refuse_overtaken(error);
        }
        part.into_iter().for_each(|one| one.answer(Err(error.clone())));
        self.again.extend(self.parts.drain(..).flatten());
        self.is_usable = matches!(error.kind(), ErrorKind::Database | ErrorKind::InvalidInput);
    }

    fn refuse_overtaken(&mut self, error: &Error) {
        let refused = self.overtaken.drain(..).map(Overtaken::into_waiting);
        refused.for_each(|one| one.answer(Err(error.clone())));
    }

    fn settle_overtaken(&mut self) {
        for one in self.overtaken.drain(..) {
            let Some((server, known)) = &self.last_answer else {
                self.again.push(one.into_waiting());
                continue;
            };
            match one.settle(&self.written, known) {
                (one, Some(outcome)) => one.answer(Ok((server.clone(), outcome))),
                (one, None) => self.again.push(one),
            }
        }
    }
}

/// Counts a batch that is about to be sent.
#[cfg(feature = "metrics")]
fn count_batch(store: &PostgresEventStore, waiting: &[Waiting]) {
    use crate::telemetry::metrics::store::BatchMetrics;
    if waiting.is_empty() {
        return;
    }
    let metrics = store.group.metrics.get_or_init(|| BatchMetrics::new(store.name()));
    let events = waiting.iter().map(|one| one.append.events.len()).sum();
    metrics.sent(waiting.len(), events, waiting.iter().map(|one| one.deadline.elapsed()));
}

/// Records what a batch has written.
fn note(store: &PostgresEventStore, in_flight: BatchInFlight, waiting: &[Waiting], outcomes: &[AppendOutcome]) {
    let position = |outcome: &AppendOutcome| match outcome {
        AppendOutcome::Appended { position, .. } => Some(*position),
        _ => None,
    };
    let Some(first) = outcomes.iter().find_map(position) else { return };
    let written = waiting.iter().zip(outcomes).filter(|(_, outcome)| position(outcome).is_some());
    let appends: Vec<Arc<Prepared>> = written.map(|(one, _)| Arc::clone(&one.append)).collect();
    merge::appended(store, first, &appends);
    in_flight.has_written(first - 1, appends);
}

/// The position of the last event that a batch has written, and how many it has written.
fn last_written(waiting: &[Waiting], outcomes: &[AppendOutcome]) -> Option<(u64, u64)> {
    let written = |(one, outcome): (&Waiting, &AppendOutcome)| match outcome {
        AppendOutcome::Appended { position, .. } => {
            let events = one.append.events.len() as u64;
            Some((position + events - 1, events))
        }
        _ => None,
    };
    waiting
        .iter()
        .zip(outcomes)
        .filter_map(written)
        .reduce(|(last, sum), (other, events)| (last.max(other), sum + events))
}

/// The limits of a batch: its answer is awaited as long as any caller waits, and its lock no longer than the caller
/// with the least time left can wait.
fn limits<'a>(waiting: impl Iterator<Item = &'a Waiting> + Clone) -> (Deadline, Duration) {
    let first = waiting.clone().map(|one| one.deadline.remaining()).min().unwrap_or_default();
    let last = waiting.map(|one| one.deadline).max_by_key(Deadline::at);
    (last.unwrap_or_else(|| Deadline::after(first)), first)
}
