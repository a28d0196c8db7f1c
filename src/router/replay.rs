//! Waiting until a replica has replayed what a read must contain.
//!
//! PostgreSQL before 19 tells nobody that it has replayed something, so it has to be asked. One task for each replica asks
//! for all who wait, every few milliseconds, and only while somebody waits.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{task::AbortHandle, time::sleep};

use super::{Deadline, node::Node};

/// The pause between two questions: a waiter is woken half of it late, on average.
const PAUSE: Duration = Duration::from_millis(2);

/// The pause after a question without an answer.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(50);

/// How long one question may take.
const LIMIT: Duration = Duration::from_secs(1);

/// Who waits for the replay of a node, and the task that asks for them.
#[derive(Debug, Default)]
pub(super) struct ReplayWatch {
    waiting: AtomicUsize,
    task: Mutex<Option<AbortHandle>>,
}

/// Somebody who waits, until it is dropped.
pub(super) struct Watching(Arc<Node>);

impl Node {
    /// Has the node asked for its place, again and again, until the answer is dropped.
    pub(super) fn watch_replay(self: &Arc<Self>) -> Watching {
        let watch = self.replay_watch();
        watch.waiting.fetch_add(1, Ordering::AcqRel);
        let mut task = watch.task.lock().unwrap_or_else(PoisonError::into_inner);
        // It may have ended with its runtime, whoever waits on another one.
        if task.as_ref().is_none_or(AbortHandle::is_finished) {
            *task = Some(tokio::spawn(ask(Arc::clone(self))).abort_handle());
        }
        drop(task);
        Watching(Arc::clone(self))
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.replay_watch().waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Asks the node until nobody waits.
async fn ask(node: Arc<Node>) {
    let mut lease = None;
    loop {
        {
            let mut task = node.replay_watch().task.lock().unwrap_or_else(PoisonError::into_inner);
            // Who comes after this look starts the next one.
            if node.replay_watch().waiting.load(Ordering::Acquire) == 0 {
                *task = None;
                return;
            }
        }
        let deadline = Deadline::after(LIMIT);
        let held = match lease.take() {
            Some(held) => Ok(held),
            None => node.lease(None, deadline.at(), deadline).await,
        };
        let sent_at = node.handle().now();
        let pause = match held {
            Ok(held) => match held.whereabouts(deadline).await {
                Ok(whereabouts) => {
                    if let Some(place) = whereabouts.replayed() {
                        node.handle().replayed(place, sent_at);
                    }
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
