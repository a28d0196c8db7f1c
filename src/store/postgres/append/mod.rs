//! Appending to the log in PostgreSQL: what each caller does, and what the drain does for all callers.
//!
//! | file | what it holds |
//! |---|---|
//! | `batch_run` | what one of the callers does for all: sending a batch, and answering it |
//! | `group`, `queue`, `drain`, `patience` | the waiting appends, which of them go together, and the task that sends them |
//! | `prepared`, `call`, `answer` | the form in which they wait, the one statement that is sent, and the answer to it |
//! | `precheck`, `search` | conditions that reach far back, checked before the lock, and how such searches are planned |
//! | `overtaken` | appends whose condition another one of this process has broken |
//! | `merge` | maintenance that appends leave to be done separately |

pub(in crate::store::postgres) mod answer;
pub(in crate::store::postgres) mod batch_run;
pub(in crate::store::postgres) mod call;
pub(in crate::store::postgres) mod drain;
pub(in crate::store::postgres) mod group;
pub(in crate::store::postgres) mod merge;
pub(in crate::store::postgres) mod overtaken;
pub(in crate::store::postgres) mod patience;
pub(in crate::store::postgres) mod precheck;
pub(in crate::store::postgres) mod prepared;
pub(in crate::store::postgres) mod queue;
pub(in crate::store::postgres) mod search;

use std::{future::Future, sync::Arc, time::Duration};

use tokio::time::sleep;

use self::{
    answer::AppendOutcome,
    drain::Drain,
    prepared::{Prepared, PreparedGuard},
};
use super::{PostgresEventStore, failure};
use crate::{
    error::{Error, Result},
    router::{Deadline, Lease},
    runtime,
    store::{AppendRequest, Appended, condition::After, refusal},
};

/// Executes an append.
pub(in crate::store::postgres) async fn run(
    store: PostgresEventStore,
    request: AppendRequest,
    deadline: Deadline,
) -> Result<Appended> {
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
        after = precheck::run(store, append, guard, from, deadline).await?.or(after);
    }
    loop {
        let (server, outcome) = store.group.submit(append, after, deadline, || drains(store)).await?;
        let named = |error: Error| error.with_node(Arc::clone(&server.node));
        let done = match outcome {
            AppendOutcome::Appended { position, version } => appended(append, position, version),
            AppendOutcome::Repeated { position, version } => appended(append, position, version).as_repeated(),
            AppendOutcome::Conflict { position, event_type } => {
                return Err(named(refusal::conflict(position, event_type)));
            }
            // The log has since lost what the append was checked against here. That says nothing about what the
            // condition is based on.
            AppendOutcome::Diverged(_) if after != given => {
                after = given;
                sleep(AGAIN).await;
                continue;
            }
            AppendOutcome::Diverged(head) => {
                return Err(named(refusal::diverged(after.unwrap_or(After::Beginning), head)));
            }
            AppendOutcome::Version(actual) => return Err(named(version_mismatch(append, actual)?)),
            AppendOutcome::Replaced(version) => return Err(named(refusal::replaced(stream_of(append)?, version))),
            AppendOutcome::Reused(position) => return Err(named(refusal::reused(position))),
            AppendOutcome::Far => {
                if let (Some(guard), Some(from)) = (&append.guard, after) {
                    if from == After::Beginning {
                        store.known.tags_in_use.add(guard);
                    }
                    match precheck::run(store, append, guard, from, deadline).await? {
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

/// Whether the condition would be [`Far`](AppendOutcome::Far).
///
/// A condition on the whole log would be, unless the log is short: then checking it is fast, too. But most of them
/// concern something nobody has written about, which the procedure finds out by itself.
fn is_far(store: &PostgresEventStore, guard: &PreparedGuard, after: After) -> bool {
    match after {
        After::Beginning => store.known.tags_in_use.has(guard),
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
pub(in crate::store::postgres) fn drains(store: &PostgresEventStore) -> impl Future<Output = ()> + Send + 'static {
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
        let is_usable = batch_run::run(&store, &held, &mut drain).await;
        lease = store.group.keep_lease(held, is_usable);
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
