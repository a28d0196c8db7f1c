//! Group commit: appends that arrive while one is under way go together into the next call.
//!
//! There is no task that lives as long as the store. Whoever finds nobody at work spawns a drain, on their own runtime,
//! and it ends when nobody waits any more. If that runtime shuts down, whoever has not been sent yet is sent home, and
//! comes again; whoever has been gets an unknown outcome.
//!
//! While one drain waits for its answer, a second one sends what has come meanwhile, if that is enough to be worth a flush
//! of its own: the server reads it while the first still holds the lock.

use std::{
    collections::VecDeque,
    future::Future,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
};

use tokio::{
    sync::{Notify, Semaphore, SemaphorePermit, oneshot},
    time::{Instant, timeout_at},
};

use super::{GroupLimits, prepared::Prepared};
use crate::{
    error::{Error, ErrorKind, Result},
    router::Deadline,
    store::{
        batch::{self, Edge},
        condition::After,
        postgres::call::Verdict,
    },
};

/// More than can be sent together is looked at for a batch, since some may have to be put off.
const LOOK_AHEAD: usize = 2;

/// A drain beside another one is worth it for this part of a full batch. For less, two flushes of the WAL would cost more
/// than is won by not waiting for the first one's answer.
const WORTH_A_DRAIN: usize = 2;

/// The share of a call's limit that is spent waiting for the log's lock, so that its error is there before the limit makes
/// the outcome unknown.
pub(super) const LOCK_SHARE: f64 = 0.8;

/// What became of an append, and on which node.
pub(super) type Answered = (Arc<str>, Verdict);

/// The appends of one store that wait.
#[derive(Debug)]
pub(super) struct Group {
    limits: GroupLimits,
    /// The most drains at a time.
    most_drains: usize,
    queue: Mutex<Queue>,
    idle: Notify,
    /// Who judges a long way back takes a connection for a while. Without a bound, many of them would take all, and the drain
    /// would get none.
    judges: Semaphore,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    bytes: usize,
    /// The number of the next one that gets in line.
    next: u64,
    /// How many take them out,
    drains: usize,
    /// and how many of these have a connection.
    connected: usize,
    /// Whether a drain beside another one got no connection, since that one began its last batch.
    no_more: bool,
    closed: bool,
}

/// One append that waits for its answer.
#[derive(Debug)]
pub(super) struct Waiting {
    number: u64,
    pub(super) append: Arc<Prepared>,
    /// Behind what the condition looks.
    pub(super) after: Option<After>,
    pub(super) deadline: Deadline,
    /// When waiting for the lock has to end.
    pub(super) lock_until: Instant,
    stage: Arc<Stage>,
    answer: oneshot::Sender<Result<Answered>>,
}

/// How far an append has come. Its caller and the drain both want to know, and one of them decides.
#[derive(Debug, Default)]
struct Stage(AtomicU8);

const QUEUED: u8 = 0;
const SENT: u8 = 1;
const GIVEN_UP: u8 = 2;

impl Stage {
    fn step(&self, from: u8, to: u8) -> bool {
        self.0.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    fn is(&self, stage: u8) -> bool {
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
    pub(super) fn new(limits: GroupLimits, most_drains: usize, judges: usize) -> Self {
        let judges = Semaphore::new(judges.max(1));
        Self { limits, most_drains, queue: Mutex::default(), idle: Notify::new(), judges }
    }

    /// The right to judge before the lock, held until it is dropped.
    pub(super) async fn judge(&self, deadline: Deadline) -> Result<Option<SemaphorePermit<'_>>> {
        match timeout_at(deadline.at(), self.judges.acquire()).await {
            Ok(permit) => Ok(permit.ok()),
            Err(_) => {
                let message = format!(
                    "the limit of {:?} ran out before the condition was judged, behind others that reach as far back; \
                     nothing was sent",
                    deadline.limit()
                );
                Err(Error::new(ErrorKind::Timeout, message))
            }
        }
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
            let stage = Arc::new(Stage::default());
            let _caller = Caller(Arc::clone(&stage));
            let (answer, answered) = oneshot::channel();
            let append = Arc::clone(append);
            let lock_until = deadline.at();
            let waiting = Waiting { number: 0, append, after, deadline, lock_until, stage: Arc::clone(&stage), answer };
            if self.enqueue(waiting)? {
                tokio::spawn(drain());
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
                    return Err(Error::new(ErrorKind::OutcomeUnknown, message));
                }
            }
        }
    }

    /// Whether the caller has to see to it that somebody drains.
    fn enqueue(&self, mut waiting: Waiting) -> Result<bool> {
        let mut queue = self.queue();
        if queue.closed {
            return Err(Error::new(ErrorKind::Closed, "the store has been closed; nothing was sent"));
        }
        if queue.is_full(&self.limits, &waiting) {
            queue.forget_the_given_up();
        }
        if queue.is_full(&self.limits, &waiting) {
            let message = format!(
                "{} appends of {} bytes wait already, and the limits are {} and {}; nothing was sent",
                queue.waiting.len(),
                queue.bytes,
                self.limits.waiting_appends,
                self.limits.waiting_bytes
            );
            return Err(Error::new(ErrorKind::Overloaded, message));
        }
        queue.bytes += waiting.append.len;
        waiting.number = queue.next;
        queue.next += 1;
        queue.waiting.push_back(waiting);
        let more = queue.drains < self.most_drains && !queue.no_more && queue.is_worth_a_drain(&self.limits);
        let needed = queue.drains == 0 || more;
        queue.drains += usize::from(needed);
        Ok(needed)
    }

    /// Takes no more appends, and waits until those that were taken are answered. Each has its limit, so this ends.
    pub(super) async fn close(&self) {
        loop {
            let idle = self.idle.notified();
            {
                let mut queue = self.queue();
                queue.closed = true;
                if queue.drains == 0 {
                    return;
                }
            }
            idle.await;
        }
    }

    /// What a drain must hold while it works; one for each [`enqueue`](Self::enqueue) that asked for it. It is made before the
    /// drain is spawned, so that one whose runtime ends before it has begun is not counted for ever.
    pub(super) fn drain(self: Arc<Self>) -> Drain {
        Drain { group: self, sent: Vec::new(), connected: false, over: false }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn is_full(&self, limits: &GroupLimits, next: &Waiting) -> bool {
        // One that is larger than the limit alone still gets its turn.
        self.waiting.len() >= limits.waiting_appends
            || !self.waiting.is_empty() && self.bytes + next.append.len > limits.waiting_bytes
    }

    /// Whether enough wait for a drain beside another one.
    fn is_worth_a_drain(&self, limits: &GroupLimits) -> bool {
        self.waiting.len() >= limits.batch_appends.div_ceil(WORTH_A_DRAIN)
            || self.bytes >= limits.batch_bytes.div_ceil(WORTH_A_DRAIN)
    }

    fn forget_the_given_up(&mut self) {
        self.waiting.retain(|waiting| !waiting.stage.is(GIVEN_UP) && waiting.is_wanted());
        self.bytes = self.waiting.iter().map(|waiting| waiting.append.len).sum();
    }

    fn remove_first(&mut self, amount: usize) -> Vec<Waiting> {
        let removed: Vec<Waiting> = self.waiting.drain(..amount.min(self.waiting.len())).collect();
        self.bytes -= removed.iter().map(|waiting| waiting.append.len).sum::<usize>();
        removed
    }
}

/// The right to work the line off.
#[derive(Debug)]
pub(super) struct Drain {
    group: Arc<Group>,
    /// Those whose answer is under way. If this is dropped before it came, nobody will ever know.
    sent: Vec<Waiting>,
    /// Whether it has a connection.
    connected: bool,
    /// Whether it has ended because it is not needed any more.
    over: bool,
}

/// Appends that are sent together, and who of them stands in whose way.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) waiting: Vec<Waiting>,
    pub(super) edges: Vec<Edge>,
}

impl Drain {
    /// When the last of those who wait gives up; `None`, and the drain is over, when nobody waits, or so few that they may
    /// wait for another drain.
    pub(super) fn next(&mut self) -> Option<Deadline> {
        let group = Arc::clone(&self.group);
        let mut queue = group.queue();
        queue.forget_the_given_up();
        queue.no_more &= !self.connected;
        let last = queue.waiting.iter().map(|waiting| waiting.deadline).max_by_key(Deadline::at);
        let others_do = self.others_can(&queue) && !queue.is_worth_a_drain(&group.limits);
        if others_do || last.is_none() {
            self.end(&mut queue);
            drop(queue);
            group.idle.notify_waiters();
            return None;
        }
        last
    }

    /// Whether another drain has a connection, and so will look at the line again.
    fn others_can(&self, queue: &Queue) -> bool {
        queue.connected > usize::from(self.connected)
    }

    fn end(&mut self, queue: &mut Queue) {
        queue.drains -= 1;
        queue.connected -= usize::from(std::mem::take(&mut self.connected));
        self.over = true;
    }

    /// Notes that it has a connection, or has none any more.
    pub(super) fn connected(&mut self, connected: bool) {
        let group = Arc::clone(&self.group);
        let mut queue = group.queue();
        queue.connected -= usize::from(std::mem::replace(&mut self.connected, connected));
        queue.connected += usize::from(connected);
    }

    /// Leaves the line to another drain, having got no connection; whether there is one that has.
    pub(super) fn leave(&mut self) -> bool {
        let group = Arc::clone(&self.group);
        let mut queue = group.queue();
        if self.others_can(&queue) {
            queue.no_more = true;
            self.end(&mut queue);
        }
        self.over
    }

    /// The number of whoever gets in line next.
    pub(super) fn next_number(&self) -> u64 {
        self.group.queue().next
    }

    /// How many wait now.
    pub(super) fn waiting(&self) -> usize {
        self.group.queue().waiting.len()
    }

    /// Those who got in line before this number cannot be sent.
    pub(super) fn refuse(&self, number: u64, error: &Error) {
        let refused = {
            let mut queue = self.group.queue();
            let amount = queue.waiting.len();
            let (refused, kept): (Vec<_>, Vec<_>) =
                queue.remove_first(amount).into_iter().partition(|waiting| waiting.number < number);
            queue.bytes = kept.iter().map(|waiting| waiting.append.len).sum();
            queue.waiting = kept.into();
            refused
        };
        refused.into_iter().for_each(|waiting| waiting.answer(Err(error.clone())));
    }

    /// Those who are sent next, in their order, each with the right to be: who was given up is not among them.
    pub(super) fn take(&self) -> Batch {
        let limits = &self.group.limits;
        let mut candidates = self.candidates();
        // Who is gone is not taken, since who is put off would have the right to be sent again.
        candidates.retain(|waiting| waiting.is_wanted() && waiting.stage.step(QUEUED, SENT));
        let mut plan = batch::plan(&candidates.iter().map(Waiting::candidate).collect::<Vec<_>>());
        let mut amount = 0;
        for included in &mut plan.included {
            amount += usize::from(*included);
            *included &= amount <= limits.batch_appends;
        }
        plan.edges.retain(|edge| edge.append < limits.batch_appends);
        let mut included = plan.included.into_iter();
        let (waiting, put_off): (Vec<_>, Vec<_>) =
            candidates.into_iter().partition(|_| included.next().unwrap_or_default());
        self.put_back(put_off);
        Batch { waiting, edges: plan.edges }
    }

    /// As many of those who wait as may be sent together, and some more.
    fn candidates(&self) -> Vec<Waiting> {
        let limits = &self.group.limits;
        let mut queue = self.group.queue();
        let (mut appends, mut events, mut bytes) = (0, 0, 0);
        let fits = |waiting: &&Waiting| {
            appends += 1;
            events += waiting.append.events.len();
            bytes += waiting.append.len;
            let few = appends <= limits.batch_appends * LOOK_AHEAD;
            appends == 1 || few && events <= limits.batch_events && bytes <= limits.batch_bytes
        };
        let amount = queue.waiting.iter().take_while(fits).count();
        queue.remove_first(amount)
    }

    /// They were not sent, or what was sent has come to nothing: they are next.
    pub(super) fn put_back(&self, waiting: Vec<Waiting>) {
        let mut queue = self.group.queue();
        for waiting in waiting.into_iter().rev() {
            waiting.stage.step(SENT, QUEUED);
            queue.bytes += waiting.append.len;
            queue.waiting.push_front(waiting);
        }
    }

    /// Notes that these are under way, and when they must have their lock.
    pub(super) fn send(&mut self, mut waiting: Vec<Waiting>) -> &[Waiting] {
        let now = Instant::now();
        for one in &mut waiting {
            one.lock_until = now + one.deadline.remaining().mul_f64(LOCK_SHARE);
        }
        self.sent = waiting;
        &self.sent
    }

    /// Those who were under way, for their answers.
    pub(super) fn sent(&mut self) -> Vec<Waiting> {
        std::mem::take(&mut self.sent)
    }
}

impl Drop for Drain {
    fn drop(&mut self) {
        let unknown = "the runtime that sent the append was shut down before its answer came";
        for waiting in self.sent() {
            waiting.answer(Err(Error::new(ErrorKind::OutcomeUnknown, unknown)));
        }
        if self.over {
            return;
        }
        let left = {
            let group = Arc::clone(&self.group);
            let mut queue = group.queue();
            self.end(&mut queue);
            // Another drain, perhaps of another runtime, goes on with them.
            let amount = if queue.drains == 0 { queue.waiting.len() } else { 0 };
            queue.remove_first(amount)
        };
        // They learn of it by losing their answer, and come again.
        drop(left);
        self.group.idle.notify_waiters();
    }
}

impl Waiting {
    pub(super) fn answer(self, verdict: Result<Answered>) {
        // Who does not listen any more has given up, and knows that the outcome is unknown.
        let _ = self.answer.send(verdict);
    }

    /// Whether the caller still listens.
    pub(super) fn is_wanted(&self) -> bool {
        !self.answer.is_closed()
    }

    fn candidate(&self) -> batch::Candidate<'_> {
        self.append.candidate()
    }
}

impl From<Vec<Waiting>> for Batch {
    /// A part of a batch.
    fn from(waiting: Vec<Waiting>) -> Self {
        let edges = batch::plan(&waiting.iter().map(Waiting::candidate).collect::<Vec<_>>()).edges;
        Self { waiting, edges }
    }
}
