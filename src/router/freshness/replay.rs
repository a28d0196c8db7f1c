//! Waiting until a replica has replayed what a read must contain.
//!
//! One task for each replica polls on behalf of all waiting calls, and only while there are any. Before version 19,
//! PostgreSQL does not notify anybody of its replay, so it is polled every few milliseconds; from 19 on `WAIT FOR LSN`
//! answers as soon as the first of the waiting calls can continue. That statement ignores timelines, so the place is
//! queried after it all the same.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{task::AbortHandle, time::sleep};

use crate::{
    error::Result,
    lsn::Lsn,
    router::{Deadline, Effect, Lease, nodes::node::Node, pool::admission::Caller},
};

/// The pause between two queries: on average a waiter is woken half of it late.
const PAUSE: Duration = Duration::from_millis(2);

/// The pause after a query without an answer.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(50);

/// How long one query may take.
const LIMIT: Duration = Duration::from_secs(1);

/// The first version that has `WAIT FOR LSN`.
const TELLS_OF_REPLAY: u32 = 19;

/// The longest that the server waits at once, in milliseconds: a call that arrives during that time and waits for less
/// is woken late by at most this.
const WAIT_MS: u32 = 20;

/// The calls that wait for the replay of a node, and the task that polls for them.
#[derive(Debug, Default)]
pub(in crate::router) struct ReplayWatch(Mutex<Watched>);

#[derive(Debug, Default)]
struct Watched {
    /// The places waited for, and the number of waiters for each.
    places: BTreeMap<Lsn, usize>,
    task: Option<AbortHandle>,
}

/// A waiter, until it is dropped.
pub(in crate::router) struct Watching {
    node: Arc<Node>,
    lsn: Lsn,
}

impl ReplayWatch {
    fn lock(&self) -> MutexGuard<'_, Watched> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Node {
    /// Polls the node's place for this waiter until the returned value is dropped.
    pub(in crate::router) fn watch_replay(self: &Arc<Self>, lsn: Lsn) -> Watching {
        let mut watched = self.replay_watch().lock();
        *watched.places.entry(lsn).or_default() += 1;
        // It may have ended with its runtime while a call on another runtime waits.
        if watched.task.as_ref().is_none_or(AbortHandle::is_finished) {
            watched.task = Some(tokio::spawn(ask(Arc::clone(self))).abort_handle());
        }
        drop(watched);
        Watching { node: Arc::clone(self), lsn }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let mut watched = self.node.replay_watch().lock();
        if let Some(waiting) = watched.places.get_mut(&self.lsn) {
            *waiting -= 1;
            if *waiting == 0 {
                watched.places.remove(&self.lsn);
            }
        }
    }
}

/// Polls the node until nobody waits.
async fn ask(node: Arc<Node>) {
    let mut lease = None;
    loop {
        let first = {
            let mut watched = node.replay_watch().lock();
            let Some((first, _)) = watched.places.first_key_value() else {
                // A waiter that arrives after this check starts the next task.
                watched.task = None;
                return;
            };
            *first
        };
        let deadline = Deadline::after(LIMIT);
        let held = match lease.take() {
            Some(held) => Ok(held),
            None => node.lease(None, deadline.at(), deadline, Caller::Library).await,
        };
        let pause = match held {
            Ok(held) => match ask_once(&node, &held, first).await {
                Ok(()) => {
                    lease = Some(held);
                    PAUSE
                }
                Err(_) => PAUSE_AFTER_FAILURE,
            },
            Err(_) => PAUSE_AFTER_FAILURE,
        };
        sleep(pause).await;
    }
}

async fn ask_once(node: &Node, lease: &Lease, first: Lsn) -> Result<()> {
    let deadline = Deadline::after(LIMIT);
    if lease.own().is_some_and(|connection| connection.version() >= TELLS_OF_REPLAY) {
        let sql = format!("WAIT FOR LSN '{first}' WITH (TIMEOUT '{WAIT_MS}ms', NO_THROW)");
        lease.call(Effect::Read, deadline, lease.client().simple_query(&sql)).await?;
    }
    // Before the query: what is replayed while it is answered may be missing in the answer.
    let sent_at = node.handle().now();
    if let Some(place) = lease.whereabouts(deadline).await?.replayed() {
        node.handle().replayed(place, sent_at);
    }
    Ok(())
}
