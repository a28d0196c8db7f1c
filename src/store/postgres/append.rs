//! Appending to the log in PostgreSQL: what each caller does, and what the drain does for all callers.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::{
    PostgresEventStore, announce,
    answer::{Answers, Verdict},
    call::{self, Call},
    drain::Drain,
    failure,
    group::{Server, Waiting},
    judge, merge,
    overtaken::{Overtaken, Written},
    prepared::{Prepared, PreparedGuard},
    tail::UnderWay,
};
use crate::{
    error::{Error, ErrorKind, Result},
    router::{Deadline, Lease},
    runtime,
    store::{AppendRequest, Appended, condition::After, refusal},
};

/// Executes an append.
pub(super) async fn run(store: PostgresEventStore, request: AppendRequest, deadline: Deadline) -> Result<Appended> {
    let after = request.condition.guard().map(|guard| guard.after);
    let append = Arc::new(Prepared::new(request));
    let appended = submit(&store, &append, after, deadline).await;
    appended.map_err(|error| failure::on_append(error, deadline, store.name()))
}

/// The delay before an append on which two servers disagree is sent again.
const AGAIN: Duration = Duration::from_millis(10);

async fn submit(
    store: &PostgresEventStore,
    append: &Arc<Prepared>,
    given: Option<After>,
    deadline: Deadline,
) -> Result<Appended> {
    runtime::current()?;
    let mut after = given;
    // An append known to be far is not sent only to be told so: a batch with a refused append is slower for all.
    if let (Some(guard), Some(from)) = (&append.guard, after)
        && is_far(store, guard, from)
    {
        after = judge::judge(store, append, guard, from, deadline).await?.or(after);
    }
    loop {
        let (server, verdict) = store.group.submit(append, after, deadline, || drains(store)).await?;
        let named = |error: Error| error.with_node(Arc::clone(&server.node));
        let done = match verdict {
            Verdict::Appended { position, version } => appended(append, position, version),
            Verdict::Repeated { position, version } => appended(append, position, version).as_repeated(),
            Verdict::Conflict { position, event_type } => return Err(named(refusal::conflict(position, event_type))),
            // The log has since lost what the append was checked against here. That says nothing about what the
            // condition is based on.
            Verdict::Diverged(_) if after != given => {
                after = given;
                sleep(AGAIN).await;
                continue;
            }
            Verdict::Diverged(head) => return Err(named(refusal::diverged(after.unwrap_or(After::Beginning), head))),
            Verdict::Version(actual) => return Err(named(version_mismatch(append, actual)?)),
            Verdict::Replaced(version) => return Err(named(refusal::replaced(stream_of(append)?, version))),
            Verdict::Reused(position) => return Err(named(refusal::reused(position))),
            Verdict::Far => {
                if let (Some(guard), Some(from)) = (&append.guard, after) {
                    if from == After::Beginning {
                        store.known.taken.add(guard);
                    }
                    match judge::judge(store, append, guard, from, deadline).await? {
                        Some(judged) => after = Some(judged),
                        // The lock's holder has just seen what does not exist now: there are two servers, one of which
                        // is about to go away.
                        None => sleep(AGAIN).await,
                    }
                }
                continue;
            }
        };
        let token = store.token(server.system, done.last(), server.place);
        return Ok(done.served_by(server.node).with_token(token).with_lock_time(server.lock_time));
    }
}

/// Whether the condition would be [`Far`](Verdict::Far).
///
/// A condition on the whole log would be, unless the log is short: then checking it is fast, too. But most of them
/// concern something nobody has written about, which the procedure finds out by itself.
fn is_far(store: &PostgresEventStore, guard: &PreparedGuard, after: After) -> bool {
    match after {
        After::Beginning => store.known.taken.has(guard),
        After::Position(_) | After::Mark(_) => store.known.tail.is_far_behind(after),
    }
}

fn appended(append: &Prepared, position: u64, last_version: Option<u64>) -> Appended {
    let before_last = append.events.len() as u64 - 1;
    Appended::new(position, &append.events).in_stream(last_version.map(|last| last.saturating_sub(before_last)))
}

/// Creates the error for the stream's version; without an expected version, the answer makes no sense.
fn version_mismatch(append: &Prepared, actual: u64) -> Result<Error> {
    let expected = append.stream.as_ref().and_then(|stream| stream.expected.version()).filter(|it| *it != actual);
    let expected = expected.ok_or_else(|| call::unknown_outcome("a version"))?;
    Ok(refusal::version(stream_of(append)?, expected, actual))
}

fn stream_of(append: &Prepared) -> Result<&str> {
    append.stream.as_ref().map(|stream| &*stream.id).ok_or_else(|| call::unknown_outcome("a stream"))
}

/// Works through the queue, one batch after the other, until it is empty.
fn drains(store: &PostgresEventStore) -> impl Future<Output = ()> + Send + 'static {
    drain(store.clone(), Arc::clone(&store.group).drain())
}

async fn drain(store: PostgresEventStore, mut drain: Drain) {
    let mut lease: Option<Arc<Lease>> = None;
    while let Some(deadline) = drain.next() {
        let asking = drain.next_number();
        // An unused connection is returned before the next one is waited for.
        let held = match lease.take().filter(|held| store.group.goes_over(held)) {
            Some(held) => held,
            None => match store.group.lease(&store.router, deadline).await {
                Ok(held) => held,
                Err(_) if drain.leave() => return,
                // Appends that arrived meanwhile have not asked for a connection yet.
                Err(error) => {
                    drain.refuse(asking, &error);
                    continue;
                }
            },
        };
        drain.connected(true);
        store.known.unmerged.room(deadline).await;
        gather(&drain).await;
        if !store.group.goes_over(&held) {
            drain.connected(false);
            continue;
        }
        let usable = commit(&store, &held, &mut drain).await;
        lease = store.group.keep_lease(held, usable);
        drain.connected(lease.is_some());
    }
}

/// Lets callers that have just got their answers submit again before the next batch leaves: without it, the first of
/// them would go alone, and the others would wait for a whole commit.
async fn gather(drain: &Drain) {
    let mut waiting = 0;
    while waiting < drain.waiting() {
        waiting = drain.waiting();
        tokio::task::yield_now().await;
    }
}

/// `lock_not_available`.
const NO_LOCK: &str = "55P03";

/// Sends one batch and answers it; returns whether the connection is still usable.
async fn commit(store: &PostgresEventStore, lease: &Lease, drain: &mut Drain) -> bool {
    let session = lease.session();
    let (waiting, mut overtaken, mut behind) = drain.take(&store.known.tail, session);
    if drain.claim_another() {
        tokio::spawn(Box::pin(drains(store)));
    }
    let mut parts = vec![waiting];
    let mut again = Vec::new();
    let mut usable = true;
    // For the whole batch: what it has written, and what the last of its calls reported about the ids and the server.
    let mut written = Written::default();
    let mut told = None;
    while let Some(mut waiting) = parts.pop() {
        let only_looks_up = waiting.is_empty();
        if only_looks_up && (overtaken.is_empty() || told.is_some()) {
            continue;
        }
        // An append that is not sent can be given up at any time, and limits no others.
        let (deadline, first) =
            if only_looks_up { limits(overtaken.iter().map(Overtaken::waiting)) } else { limits(waiting.iter()) };
        let sent = waiting.iter().map(|one| Arc::clone(&one.append)).collect();
        let under_way = store.known.tail.send(session, sent);
        let ids: Vec<Uuid> = overtaken.iter().flat_map(Overtaken::ids).collect();
        figures! { count_batch(store, &waiting); }
        let (sent, lock_timeout) = drain.send(waiting, first);
        let is_crowded = !store.known.tail.is_ours();
        let call =
            Call { waiting: sent, ids: &ids, lock_timeout, is_crowded, name: under_way.call(), behind: behind.take() };
        let sent_at = Instant::now();
        let outcome = call.send(&store.log.append, lease, deadline).await;
        waiting = drain.sent();
        drain.had_lock(outcome.as_ref().err().and_then(Error::sqlstate) != Some(NO_LOCK));
        match outcome {
            Ok(Answers { verdicts, known, lsn, lock_time }) => {
                let (system, place) = lease.written(lsn);
                let server = Server { node: Arc::clone(lease.node().name()), system, place, lock_time };
                note(store, under_way, &waiting, &verdicts);
                if let Some((position, events)) = last_written(&waiting, &verdicts) {
                    announce::appended(store, position, events);
                }
                if !overtaken.is_empty() {
                    written.add(&waiting, &verdicts);
                }
                for (mut one, verdict) in waiting.into_iter().zip(verdicts) {
                    if one.looked_until.take().is_some() && matches!(verdict, Verdict::Diverged(_)) {
                        // The log does not hold what this process has written. That says nothing about what the
                        // condition is based on.
                        store.known.tail.forget();
                        again.push(one);
                    } else {
                        one.answer(Ok((server.clone(), verdict)));
                    }
                }
                told = Some((server, known));
            }
            Err(error) if error.sqlstate() == Some(NO_LOCK) => {
                // Some have run out of time; the others have time left.
                let now = Instant::now();
                let (late, early): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|one| one.lock_until <= now);
                late.into_iter().for_each(|one| one.answer(Err(error.clone())));
                again.extend(early.into_iter().map(|mut one| {
                    one.waited = one.waited.max(now - sent_at);
                    one
                }));
            }
            Err(error) if failure::is_about_data(&error) => {
                if only_looks_up {
                    // Nothing of theirs is to blame: asked again, the server would say the same again.
                    let refused = overtaken.drain(..).map(Overtaken::into_waiting);
                    refused.for_each(|one| one.answer(Err(error.clone())));
                    continue;
                }
                if waiting.len() <= 1 {
                    waiting.into_iter().for_each(|one| one.answer(Err(error.clone())));
                    continue;
                }
                // Nothing of it was written. Each half is tried alone, the first one first.
                waiting.retain(Waiting::is_wanted);
                let second = waiting.split_off(waiting.len() / 2);
                parts.extend([second, waiting]);
            }
            Err(error) => {
                waiting.into_iter().for_each(|one| one.answer(Err(error.clone())));
                // The rest goes over another connection.
                again.extend(parts.drain(..).flatten());
                if only_looks_up && !error.is_outcome_unknown() {
                    let refused = overtaken.drain(..).map(Overtaken::into_waiting);
                    refused.for_each(|one| one.answer(Err(error.clone())));
                }
                usable = matches!(error.kind(), ErrorKind::Database | ErrorKind::InvalidInput);
            }
        }
    }
    for one in overtaken {
        let Some((server, known)) = &told else {
            again.push(one.into_waiting());
            continue;
        };
        match one.settle(&written, known) {
            (one, Some(verdict)) => one.answer(Ok((server.clone(), verdict))),
            (one, None) => again.push(one),
        }
    }
    // They come first in the next batch, and the first of them follows no other there: otherwise this would never end.
    again.sort_by_key(|one| (!one.is_known, one.number));
    drain.put_back(again);
    usable
}

/// Counts a batch that is about to be sent.
#[cfg(feature = "metrics")]
fn count_batch(store: &PostgresEventStore, waiting: &[Waiting]) {
    use crate::telemetry::metrics::store::BatchFigures;
    if waiting.is_empty() {
        return;
    }
    let figures = store.group.figures.get_or_init(|| BatchFigures::new(store.name()));
    let events = waiting.iter().map(|one| one.append.events.len()).sum();
    figures.sent(waiting.len(), events, waiting.iter().map(|one| one.deadline.elapsed()));
}

/// Records what a batch has written.
fn note(store: &PostgresEventStore, under_way: UnderWay, waiting: &[Waiting], verdicts: &[Verdict]) {
    let position = |verdict: &Verdict| match verdict {
        Verdict::Appended { position, .. } => Some(*position),
        _ => None,
    };
    let Some(first) = verdicts.iter().find_map(position) else { return };
    let written = waiting.iter().zip(verdicts).filter(|(_, verdict)| position(verdict).is_some());
    let appends: Vec<Arc<Prepared>> = written.map(|(one, _)| Arc::clone(&one.append)).collect();
    merge::appended(store, first, &appends);
    under_way.has_written(first - 1, appends);
}

/// The position of the last event that a batch has written, and how many it has written.
fn last_written(waiting: &[Waiting], verdicts: &[Verdict]) -> Option<(u64, u64)> {
    let written = |(one, verdict): (&Waiting, &Verdict)| match verdict {
        Verdict::Appended { position, .. } => {
            let events = one.append.events.len() as u64;
            Some((position + events - 1, events))
        }
        _ => None,
    };
    waiting
        .iter()
        .zip(verdicts)
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
