//! Group commit: appends that arrive while one is in flight go together into the next call.
//!
//! No task lives as long as the store. A caller that finds no drain running spawns one, on its own runtime, and the
//! drain ends when the queue is empty. If that runtime shuts down, appends that have not been sent are returned to
//! their callers, which submit them again; appends that have been sent get an unknown outcome.
//!
//! While one drain waits for its answer, a second one sends what has arrived meanwhile, if that justifies a flush of
//! its own. It uses the same [connection](Group::lease), so the server begins with it as soon as the first is written,
//! without a wake-up in between. When all appends arrive at once, as they do from callers that got their answers
//! together, the first drain leaves half of them for the second ([`Queue::take_batch`]). From then on the two drains
//! alternate, and so do this process and the server's.

use std::{
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use crossbeam_utils::atomic::AtomicCell;
use tokio::{
    sync::{Mutex as AsyncMutex, Notify, oneshot},
    time::{Instant, timeout_at},
};

use super::{
    answer::AppendOutcome,
    drain::Drain,
    precheck::Prechecks,
    prepared::Prepared,
    queue::{self, Queue},
};
use crate::{
    Mark,
    error::{Error, ErrorKind, Result},
    router::{Deadline, Lease, Router},
    store::{
        batch,
        condition::After,
        postgres::{GroupLimits, tail::Condition},
    },
    token::Place,
};

/// The outcome of an append, and where it was executed.
pub(in crate::store::postgres) type Answered = (Server, AppendOutcome);

/// Where an append was checked.
#[derive(Clone, Debug)]
pub(in crate::store::postgres) struct Server {
    pub(in crate::store::postgres) node: Arc<str>,
    /// The cluster, if it is known.
    pub(in crate::store::postgres) system: Option<u64>,
    /// The place up to which the log has been written.
    pub(in crate::store::postgres) place: Option<Place>,
    /// How long the log was locked for the append and its batch, until the commit.
    pub(in crate::store::postgres) lock_time: Option<Duration>,
}

/// The waiting appends of one store.
#[derive(Debug)]
pub(in crate::store::postgres) struct Group {
    pub(in crate::store::postgres) limits: GroupLimits,
    queue: Mutex<Queue>,
    /// The connection that the drains share, and the right to establish it.
    lease: Mutex<Weak<Lease>>,
    connecting: AsyncMutex<()>,
    pub(in crate::store::postgres) idle: Notify,
    pub(in crate::store::postgres) prechecks: Prechecks,
    #[cfg(feature = "metrics")]
    pub(in crate::store::postgres) metrics: std::sync::OnceLock<crate::telemetry::metrics::store::BatchMetrics>,
}

/// One append that waits for its answer.
#[derive(Debug)]
pub(in crate::store::postgres) struct Waiting {
    pub(in crate::store::postgres) number: u64,
    pub(in crate::store::postgres) append: Arc<Prepared>,
    /// The place after which the condition looks.
    pub(in crate::store::postgres) after: Option<After>,
    /// The place after which the server must look instead, since this process has checked everything before it.
    pub(in crate::store::postgres) looked_until: Option<Mark>,
    /// Whether the condition also holds after what the preceding batch brings, if that is written.
    pub(in crate::store::postgres) holds_after_predecessor: bool,
    /// Whether its ids are already in the log: they decide, whatever breaks its condition.
    pub(in crate::store::postgres) is_known: bool,
    pub(in crate::store::postgres) deadline: Deadline,
    /// When waiting for the lock must end.
    pub(in crate::store::postgres) lock_until: Instant,
    /// How long a batch with it has waited for the lock in vain.
    pub(in crate::store::postgres) waited: Duration,
    pub(in crate::store::postgres) stage: Arc<AtomicCell<Stage>>,
    answer: oneshot::Sender<Result<Answered>>,
}

/// The stage of an append. Its caller and the drain both want to know it, and one of them decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::store::postgres) enum Stage {
    #[default]
    Queued,
    Sent,
    GivenUp,
}

impl Stage {
    /// Whether it was at that stage, and so has gone from it to the other one.
    pub(in crate::store::postgres) fn step(stage: &AtomicCell<Self>, from: Self, to: Self) -> bool {
        stage.compare_exchange(from, to).is_ok()
    }
}

/// Gives an append up when its caller is dropped, if it has not been sent.
struct Caller(Arc<AtomicCell<Stage>>);

impl Drop for Caller {
    fn drop(&mut self) {
        Stage::step(&self.0, Stage::Queued, Stage::GivenUp);
    }
}

impl Group {
    pub(in crate::store::postgres) fn new(limits: GroupLimits, prechecks: usize) -> Self {
        Self {
            limits,
            queue: Mutex::default(),
            lease: Mutex::default(),
            connecting: AsyncMutex::default(),
            idle: Notify::new(),
            prechecks: Prechecks::new(prechecks, limits),
            #[cfg(feature = "metrics")]
            metrics: std::sync::OnceLock::new(),
        }
    }

    /// Returns the connection that all batches share while there are any: what is sent in one session is executed in
    /// order, one right after the other. Behind a pooler this does not hold, and nothing may be sent to it while an
    /// answer is outstanding: there, each drain has its own connection.
    pub(in crate::store::postgres) async fn lease(&self, router: &Router, deadline: Deadline) -> Result<Arc<Lease>> {
        let Ok(_connecting) = timeout_at(deadline.at(), self.connecting.lock()).await else {
            let message =
                format!("the limit of {:?} ran out before there was a connection; nothing was sent", deadline.limit());
            return Err(Error::new(ErrorKind::Timeout, message));
        };
        let shared = self.shared_lease().upgrade();
        if let Some(lease) = shared.filter(|lease| !lease.is_over() && !lease.is_due()) {
            return Ok(lease);
        }
        let lease = Arc::new(router.lease_primary(deadline).await?);
        let is_pooled = lease.is_pooled();
        self.queue().is_pooled = is_pooled;
        if !is_pooled {
            *self.shared_lease() = Arc::downgrade(&lease);
        }
        Ok(lease)
    }

    /// Whether this is still the connection to send a batch over: another drain may have given it up.
    pub(in crate::store::postgres) fn goes_over(&self, lease: &Arc<Lease>) -> bool {
        !lease.is_over() && (lease.is_pooled() || std::ptr::eq(self.shared_lease().as_ptr(), Arc::as_ptr(lease)))
    }

    /// Returns the connection after a batch, if the next one may use it as well. Not if it has reached its lifetime:
    /// while a batch is always in flight, it would never return to the pool, which otherwise enforces that.
    pub(in crate::store::postgres) fn keep_lease(&self, lease: Arc<Lease>, is_usable: bool) -> Option<Arc<Lease>> {
        let mut shared = self.shared_lease();
        let is_shared = std::ptr::eq(shared.as_ptr(), Arc::as_ptr(&lease));
        if is_shared && !is_usable {
            *shared = Weak::new();
        }
        // A connection that another drain has given up is not used again.
        (is_usable && !lease.is_due() && (is_shared || lease.is_pooled())).then_some(lease)
    }

    fn shared_lease(&self) -> MutexGuard<'_, Weak<Lease>> {
        self.lease.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues the append, and waits for the answer. `drain` creates the future that works through the queue.
    pub(in crate::store::postgres) async fn submit<D>(
        &self,
        append: &Arc<Prepared>,
        after: Option<After>,
        deadline: Deadline,
        drain: impl Fn() -> D,
    ) -> Result<Answered>
    where
        D: Future<Output = ()> + Send + 'static,
    {
        loop {
            let (waiting, answered) = Waiting::new(Arc::clone(append), after, deadline);
            let stage = Arc::clone(&waiting.stage);
            let _caller = Caller(Arc::clone(&stage));
            if self.enqueue(waiting)? {
                // Boxed: a task's future is copied four times before it runs, and this one is long.
                tokio::spawn(Box::pin(drain()));
            }
            match timeout_at(deadline.at(), answered).await {
                Ok(Ok(outcome)) => return outcome,
                // The drain ended with its runtime, and had not sent it.
                Ok(Err(_)) => {}
                Err(_) if Stage::step(&stage, Stage::Queued, Stage::GivenUp) => {
                    let message = format!("the limit of {:?} ran out before the append was sent", deadline.limit());
                    return Err(Error::new(ErrorKind::Timeout, message));
                }
                Err(_) => {
                    let message = format!("no answer within the limit of {:?}", deadline.limit());
                    return Err(Error::new(ErrorKind::OutcomeUnknown, message).out_of_time());
                }
            }
        }
    }

    /// Whether the caller must make sure that a drain runs.
    fn enqueue(&self, waiting: Waiting) -> Result<bool> {
        let mut queue = self.queue();
        if queue.closed {
            return Err(queue::closed());
        }
        if queue.is_full(&self.limits, &waiting) {
            queue.forget_the_given_up();
        }
        if queue.is_full(&self.limits, &waiting) {
            let message = format!(
                "{} appends of {} bytes wait already, and the limits are {} and {}; nothing was sent",
                queue.len(),
                queue.bytes(),
                self.limits.waiting_appends,
                self.limits.waiting_bytes
            );
            return Err(Error::new(ErrorKind::Overloaded, message));
        }
        queue.push(waiting);
        Ok(self.claim_drain(&mut queue))
    }

    /// Whether another drain is needed. It is already counted: the caller must spawn it.
    #[must_use]
    pub(in crate::store::postgres) fn claim_drain(&self, queue: &mut Queue) -> bool {
        let needed = queue.len() > 0 && (queue.drains == 0 || queue.is_worth_a_drain(&self.limits));
        queue.drains += usize::from(needed);
        needed
    }

    /// Stops accepting appends, and waits until the accepted ones are answered, or their limits are over: a drain on a
    /// runtime that nobody drives never ends.
    pub(in crate::store::postgres) async fn close(&self) {
        loop {
            let idle = self.idle.notified();
            let last_limit = {
                let mut queue = self.queue();
                queue.closed = true;
                self.prechecks.close();
                if queue.drains == 0 {
                    return;
                }
                queue.last_limit
            };
            let Some(last_limit) = last_limit else { return };
            if timeout_at(last_limit, idle).await.is_err() {
                return;
            }
        }
    }

    /// Returns what a drain must hold while it works; one for each that was [claimed](Self::claim_drain). It is created
    /// before the drain is spawned, so a drain whose runtime ends before it has begun is not counted for ever.
    pub(in crate::store::postgres) fn drain(self: Arc<Self>) -> Drain {
        Drain::new(self)
    }

    pub(in crate::store::postgres) fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// Returns it with the receiver of its answer.
    pub(in crate::store::postgres) fn new(
        append: Arc<Prepared>,
        after: Option<After>,
        deadline: Deadline,
    ) -> (Self, oneshot::Receiver<Result<Answered>>) {
        let (answer, answered) = oneshot::channel();
        let waiting = Self {
            number: 0,
            append,
            after,
            looked_until: None,
            holds_after_predecessor: false,
            is_known: false,
            deadline,
            lock_until: deadline.at(),
            waited: Duration::ZERO,
            stage: Arc::default(),
            answer,
        };
        (waiting, answered)
    }

    pub(in crate::store::postgres) fn answer(self, outcome: Result<Answered>) {
        // A caller that no longer listens has given up, and knows that the outcome is unknown.
        let _ = self.answer.send(outcome);
    }

    /// Whether the caller still listens.
    pub(in crate::store::postgres) fn is_wanted(&self) -> bool {
        !self.answer.is_closed()
    }

    /// Withdraws its right to be sent: it may be given up.
    pub(in crate::store::postgres) fn not_sent(self) -> Self {
        Stage::step(&self.stage, Stage::Sent, Stage::Queued);
        self
    }

    pub(in crate::store::postgres) fn condition(&self) -> Condition<'_> {
        (self.after, self.append.guard.as_ref())
    }

    pub(in crate::store::postgres) fn candidate(&self) -> batch::Candidate<'_> {
        self.append.candidate(self.is_known)
    }
}
