//! The task that says that a member lives, as long as its consumer does.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep},
};

use crate::{
    PostgresEventStore,
    router::Deadline,
    store::{Member, Pulse},
};

/// So many times it is said before the time is over.
const BEATS: u32 = 3;

/// What was heard last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heard {
    pub(super) standing: Standing,
    /// Until then nobody takes its partitions.
    pub(super) safe_until: Instant,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Standing {
    /// It has joined a moment ago.
    Joined,
    Member(Pulse),
    /// It is no member any more.
    Gone,
    /// A checkpoint that was saved is not there any more: it was lost with a primary.
    Lost,
}

/// The task; it ends with this.
#[derive(Debug)]
pub(super) struct Heartbeat {
    heard: watch::Receiver<Heard>,
    task: JoinHandle<()>,
}

impl Heartbeat {
    /// Begins for a member that has asked to join at this moment, and has joined. Up to the position `saved` its checkpoints
    /// are known to be saved.
    pub(super) fn start(store: PostgresEventStore, member: Member, asked: Instant, saved: Arc<AtomicU64>) -> Self {
        let (tell, heard) = watch::channel(Heard { standing: Standing::Joined, safe_until: asked + member.lease });
        let task = tokio::spawn(async move {
            let pause = member.lease / BEATS;
            loop {
                sleep(pause).await;
                let (asked, before) = (Instant::now(), saved.load(Ordering::Acquire));
                // One that hangs must leave time for the next one.
                match store.renew(&member, Deadline::after(pause)).await {
                    Ok(pulse) => {
                        let standing = match pulse {
                            Some(pulse) if pulse.checkpoint < before && pulse.owned > 0 => Standing::Lost,
                            Some(pulse) => Standing::Member(pulse),
                            None => Standing::Gone,
                        };
                        tell.send_replace(Heard { standing, safe_until: asked + member.lease });
                    }
                    Err(error) => {
                        tracing::debug!(error = %error.for_log(), consumer = %member.consumer, "a member could not say that it lives");
                    }
                }
            }
        });
        Self { heard, task }
    }

    /// What was heard last.
    pub(super) fn heard(&self) -> Heard {
        *self.heard.borrow()
    }

    /// Ready when something was heard since the last call; the runtime of the task may have gone, so wait with a limit.
    pub(super) async fn changed(&mut self, limit: Duration) {
        if let Ok(Err(_)) = tokio::time::timeout(limit, self.heard.changed()).await {
            sleep(limit).await;
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.task.is_finished()
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        self.task.abort();
    }
}
