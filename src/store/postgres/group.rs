//! Group commit: appends that arrive while one is under way go together into the next call.
//!
//! There is no task that lives as long as the store. Whoever finds nobody at work spawns a drain, on their own runtime,
//! and it ends when nobody waits any more. If that runtime shuts down, whoever has not been sent yet is sent home, and
//! comes again; whoever has been gets an unknown outcome.
//!
//! While one drain waits for its answer, a second one sends what has come meanwhile, if that is enough to be worth a flush
//! of its own. It goes over the same [connection](Group::lease), so the server begins with it as soon as the first is
//! written, and nobody wakes anybody for that. So that there is something left for the second one when all come at once, as they
//! do who have had their answers at once, the first leaves it half of them ([`Queue::take_batch`]). From then on the two
//! take turns, and so do this process and the server's.

use std::{
    future::Future,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Mutex as AsyncMutex, Notify, oneshot},
    time::{Instant, timeout_at},
};

use super::{
    GroupLimits,
    drain::Drain,
    judge::Judges,
    prepared::Prepared,
    queue::{self, Queue},
    tail::Condition,
};
use crate::{
    Mark,
    error::{Error, ErrorKind, Result},
    router::{Deadline, Lease, Router},
    store::{batch, condition::After, postgres::answer::Verdict},
    token::Place,
};

/// What became of an append, and where.
pub(super) type Answered = (Server, Verdict);

/// Where an append was judged.
#[derive(Clone, Debug)]
pub(super) struct Server {
    pub(super) node: Arc<str>,
    /// The cluster, if it is known,
    pub(super) system: Option<u64>,
    /// and what has been written, up to where.
    pub(super) place: Option<Place>,
    /// How long the log was locked for it and its batch, until the commit.
    pub(super) lock_time: Option<Duration>,
}

/// The appends of one store that wait.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) limits: GroupLimits,
    queue: Mutex<Queue>,
    /// The connection that the drains share, and the right to see to it that there is one.
    lease: Mutex<Weak<Lease>>,
    connecting: AsyncMutex<()>,
    pub(super) idle: Notify,
    pub(super) judges: Judges,
    #[cfg(feature = "metrics")]
    pub(super) figures: std::sync::OnceLock<crate::telemetry::metrics::store::BatchFigures>,
}

/// One append that waits for its answer.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) number: u64,
    pub(super) append: Arc<Prepared>,
    /// Behind what the condition looks.
    pub(super) after: Option<After>,
    /// Behind what the server has to look instead, since this process has looked at what is before it.
    pub(super) looked_until: Option<Mark>,
    /// Whether it holds behind what the batch before this one brings, if that is written.
    pub(super) holds_behind: bool,
    /// Whether its ids are in the log already: it is judged by them, whatever breaks its condition.
    pub(super) is_known: bool,
    pub(super) deadline: Deadline,
    /// When waiting for the lock has to end.
    pub(super) lock_until: Instant,
    pub(super) stage: Arc<Stage>,
    answer: oneshot::Sender<Result<Answered>>,
}

/// How far an append has come. Its caller and the drain both want to know, and one of them decides.
#[derive(Debug, Default)]
pub(super) struct Stage(AtomicU8);

pub(super) const QUEUED: u8 = 0;
pub(super) const SENT: u8 = 1;
pub(super) const GIVEN_UP: u8 = 2;

impl Stage {
    pub(super) fn step(&self, from: u8, to: u8) -> bool {
        self.0.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    pub(super) fn is(&self, stage: u8) -> bool {
        self.0.load(Ordering::Acquire) == stage
    }
}

/// Gives an append up when its caller goes, if it has not been sent.
struct Caller(Arc<Stage>);

impl Drop for Caller {
    fn drop(&mut self) {
        self.0.step(QUEUED, GIVEN_UP);
    }
}

impl Group {
    pub(super) fn new(limits: GroupLimits, judges: usize) -> Self {
        Self {
            limits,
            queue: Mutex::default(),
            lease: Mutex::default(),
            connecting: AsyncMutex::default(),
            idle: Notify::new(),
            judges: Judges::new(judges, limits),
            #[cfg(feature = "metrics")]
            figures: std::sync::OnceLock::new(),
        }
    }

    /// The connection that all batches go over while there are any: what is sent in one session is done in its order, one right
    /// behind the other. Behind a pooler that is not so, and nothing may be sent to it behind an answer that is to come: there each
    /// drain has one of its own.
    pub(super) async fn lease(&self, router: &Router, deadline: Deadline) -> Result<Arc<Lease>> {
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
    pub(super) fn goes_over(&self, lease: &Arc<Lease>) -> bool {
        !lease.is_over() && (lease.is_pooled() || std::ptr::eq(self.shared_lease().as_ptr(), Arc::as_ptr(lease)))
    }

    /// The connection after a batch, if the next one may go over it as well. Not if it has lived long enough: while there is always a batch
    /// under way it would never come back to the pool, which sees to that otherwise.
    pub(super) fn keep_lease(&self, lease: Arc<Lease>, is_usable: bool) -> Option<Arc<Lease>> {
        let mut shared = self.shared_lease();
        let is_shared = std::ptr::eq(shared.as_ptr(), Arc::as_ptr(&lease));
        if is_shared && !is_usable {
            *shared = Weak::new();
        }
        // One that another drain has given up is not used again.
        (is_usable && !lease.is_due() && (is_shared || lease.is_pooled())).then_some(lease)
    }

    fn shared_lease(&self) -> MutexGuard<'_, Weak<Lease>> {
        self.lease.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gets in line, and waits for the answer. `drain` makes the future that works the line off.
    pub(super) async fn submit<D>(
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
                Ok(Ok(verdict)) => return verdict,
                // The drain has gone with its runtime, and had not sent it.
                Ok(Err(_)) => {}
                Err(_) if stage.step(QUEUED, GIVEN_UP) => {
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

    /// Whether the caller has to see to it that somebody drains.
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

    /// Whether another drain is needed. It is counted already: who is told so spawns it.
    #[must_use]
    pub(super) fn claim_drain(&self, queue: &mut Queue) -> bool {
        let needed = queue.len() > 0 && (queue.drains == 0 || queue.is_worth_a_drain(&self.limits));
        queue.drains += usize::from(needed);
        needed
    }

    /// Takes no more appends, and waits until those that were taken are answered, or their limits are over: a drain of a runtime that
    /// nobody drives never ends.
    pub(super) async fn close(&self) {
        loop {
            let idle = self.idle.notified();
            let last_limit = {
                let mut queue = self.queue();
                queue.closed = true;
                self.judges.close();
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

    /// What a drain must hold while it works; one for each that was [claimed](Self::claim_drain). It is made before the
    /// drain is spawned, so that one whose runtime ends before it has begun is not counted for ever.
    pub(super) fn drain(self: Arc<Self>) -> Drain {
        Drain::new(self)
    }

    pub(super) fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// With what its answer comes by.
    pub(super) fn new(
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
            holds_behind: false,
            is_known: false,
            deadline,
            lock_until: deadline.at(),
            stage: Arc::default(),
            answer,
        };
        (waiting, answered)
    }

    pub(super) fn answer(self, verdict: Result<Answered>) {
        // Who does not listen any more has given up, and knows that the outcome is unknown.
        let _ = self.answer.send(verdict);
    }

    /// Whether the caller still listens.
    pub(super) fn is_wanted(&self) -> bool {
        !self.answer.is_closed()
    }

    /// Has no right to be sent any more: it may be given up.
    pub(super) fn not_sent(self) -> Self {
        self.stage.step(SENT, QUEUED);
        self
    }

    pub(super) fn condition(&self) -> Condition<'_> {
        (self.after, self.append.guard.as_ref())
    }

    pub(super) fn candidate(&self) -> batch::Candidate<'_> {
        self.append.candidate(self.is_known)
    }
}
