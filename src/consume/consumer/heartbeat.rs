//! The task that sends a member's heartbeats as long as its consumer exists.

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
    time::{Instant, sleep, sleep_until},
};

use crate::{
    PostgresEventStore,
    router::Deadline,
    store::{Member, Pulse},
};

/// The number of heartbeats within a lease.
const BEATS: u32 = 3;

/// What was heard last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heard {
    pub(super) state: MembershipState,
    /// Until then no other member takes its partitions.
    pub(super) safe_until: Instant,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum MembershipState {
    /// It has just joined.
    Joined,
    Member(Pulse),
    /// It is no longer a member.
    Gone,
    /// A saved checkpoint is gone: it was lost with a primary.
    Lost,
}

/// The task; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Heartbeat {
    heard: watch::Receiver<Heard>,
    task: JoinHandle<()>,
}

impl Heartbeat {
    /// Starts the task for a member that asked to join at this moment, and has joined. Its checkpoints are known to be
    /// saved up to the position `saved`.
    pub(super) fn start(store: PostgresEventStore, member: Member, asked: Instant, saved: Arc<AtomicU64>) -> Self {
        let (tell, heard) = watch::channel(Heard { state: MembershipState::Joined, safe_until: asked + member.lease });
        let task = tokio::spawn(async move {
            let pause = member.lease / BEATS;
            let mut asked = asked;
            loop {
                // From beat to beat, however long the one before took: all of them have to be within the lease.
                sleep_until(asked + pause).await;
                asked = Instant::now();
                let before = saved.load(Ordering::Acquire);
                // A heartbeat that hangs must leave time for the next one.
                match store.renew(&member, Deadline::after(pause)).await {
                    Ok(pulse) => {
                        let state = match pulse {
                            Some(pulse) if pulse.checkpoint < before && pulse.owned > 0 => MembershipState::Lost,
                            Some(pulse) => MembershipState::Member(pulse),
                            None => MembershipState::Gone,
                        };
                        tell.send_replace(Heard { state, safe_until: asked + member.lease });
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

    /// Ready when something was heard since the last call; the runtime of the task may be gone, so wait with a limit.
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
