//! Identical reads, made once for all callers that wait for them (request coalescing).
//!
//! Of the commands that compete for one boundary, one wins, and all others read the same again, at the same time. And
//! when a popular query gets slow, everybody sends it at once.
//!
//! The technique known as single flight answers a new caller with the read in flight. That read may have begun before a
//! write that the caller knows of, so its answer would be stale. Here no caller joins a read that has begun: callers
//! that arrive while one is in flight wait for its end, and then share the next one, which begins after all their
//! calls. So each answer is as fresh as the caller's own read would have been, at every level.
//!
//! Callers that share a read have seen the same, or nothing: one session's past must not affect another (`request`).
//!
//! A read is waited for only for a limited time ([`PATIENCE`]), and then the next one begins next to it: the first may
//! have got a node that does not answer, or a caller that does not poll it. A lone caller makes its own read, without a
//! task. Callers that share a read must not depend on one of them, so a task reads for them, as long as any of them
//! waits.

mod request;

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hash, Hasher, RandomState},
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::future::{Either, select};
use tokio::{
    runtime::Id,
    sync::watch,
    time::{Instant, timeout_at},
};
use tracing::Instrument;

pub(in crate::store::postgres) use self::request::Request;
use self::request::{alike, join};
use crate::{
    error::{Error, ErrorKind, Result},
    router::Deadline,
    runtime,
    store::{Answer, LoadStreamAnswer, LoadStreamRequest, QueryRequest, Served},
    telemetry::{DURATION, STORE},
};

/// How long a read waits for the one before it, if that is the only one in flight; twice as long for each further one,
/// so a slow read has few of them.
const PATIENCE: Duration = Duration::from_millis(100);
/// The longest wait.
const LONGEST_PATIENCE: Duration = Duration::from_secs(1);
/// The largest part of any waiting caller's limit that is spent on the wait.
const PATIENCE_SHARE: f64 = 0.25;

/// How much longer than its limit a caller listens. Callers that arrived together have nearly the same limit, and the
/// read itself reports what took so long.
const GRACE: Duration = Duration::from_millis(20);

/// The shared reads of a store.
#[derive(Debug)]
pub(in crate::store::postgres) struct Shared {
    pub(in crate::store::postgres) queries: Arc<SharedReads<QueryRequest, Answer>>,
    pub(in crate::store::postgres) counts: Arc<SharedReads<QueryRequest, Served<u64>>>,
    pub(in crate::store::postgres) exists: Arc<SharedReads<QueryRequest, Served<bool>>>,
    pub(in crate::store::postgres) loads: Arc<SharedReads<LoadStreamRequest, LoadStreamAnswer>>,
}

impl Shared {
    pub(in crate::store::postgres) fn new(is_on: bool) -> Self {
        Self {
            queries: SharedReads::new(is_on),
            counts: SharedReads::new(is_on),
            exists: SharedReads::new(is_on),
            loads: SharedReads::new(is_on),
        }
    }
}

/// The reads of one kind in flight in a store: a line for each distinct request.
#[derive(Debug)]
pub(in crate::store::postgres) struct SharedReads<R, A> {
    is_on: bool,
    hasher: RandomState,
    lines: Mutex<HashMap<Key<R>, Line<R, A>>>,
}

/// The request and its runtime: a task that reads for others must not end or stop with a runtime that is not theirs.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Key<R> {
    /// The hash of the request, which may be long: it is computed once, and not under the lock.
    hash: u64,
    request: Arc<R>,
    runtime: Id,
}

impl<R> Hash for Key<R> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

/// Exists while a read is in flight or about to begin.
#[derive(Debug)]
struct Line<R, A> {
    in_flight: u32,
    /// Closed when the youngest of them is over.
    youngest: watch::Receiver<()>,
    next: Option<Group<R, A>>,
}

type Answers<A> = Arc<watch::Sender<Option<Result<A>>>>;

/// The callers that share the next read.
#[derive(Debug)]
struct Group<R, A> {
    request: Arc<R>,
    answers: Answers<A>,
    /// The deadline of the caller that can wait longest.
    deadline: Deadline,
    /// Moved earlier when a caller arrives that has less time.
    begins_by: watch::Sender<Instant>,
}

/// How a read is made.
enum Admission<R, A>
where
    R: Eq + Hash,
{
    /// By the caller, since there is nothing to wait for.
    Now(ReadInFlight<R, A>),
    /// With others. If there is a reader for them, the caller must spawn it.
    Shared(watch::Receiver<Option<Result<A>>>, Option<Reader<R, A>>),
}

impl<R, A> SharedReads<R, A>
where
    R: Request,
    A: Clone + Send + Sync + 'static,
{
    pub(in crate::store::postgres) fn new(is_on: bool) -> Arc<Self> {
        Arc::new(Self { is_on, hasher: RandomState::new(), lines: Mutex::default() })
    }

    /// Returns the answer to a request, from a read that begins after this call. The request contains everything that
    /// the answer depends on.
    ///
    /// Others with the same request may get the same answer, or its error. Whatever happens to them, each waits hardly
    /// longer than its own limit.
    pub(in crate::store::postgres) async fn answer<F, Fut>(
        self: &Arc<Self>,
        mut request: R,
        deadline: Deadline,
        read: F,
    ) -> Result<A>
    where
        F: Fn(Arc<R>, Deadline) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = Result<A>> + Send + 'static,
    {
        request.forget_limit();
        let request = Arc::new(request);
        let alone = || read(Arc::clone(&request), deadline);
        if !self.is_on {
            return alone().await;
        }
        let (alike, runtime) = (alike(&request), runtime::current()?.id());
        let key = Key { hash: self.hasher.hash_one(&alike), request: alike, runtime };
        let (mut answers, reader) = match self.admit(key, &request, deadline) {
            Admission::Now(_in_flight) => return alone().await,
            Admission::Shared(answers, reader) => (answers, reader),
        };
        let is_read_for = reader.is_none();
        if let Some(reader) = reader {
            // It reads until the last caller gives up, which it does not know yet.
            tokio::spawn(Box::pin(reader.run(read.clone())).in_current_span());
        }
        let told = match timeout_at(deadline.at() + GRACE, answers.wait_for(Option::is_some)).await {
            Ok(told) => told.ok().and_then(|answer| answer.clone()),
            Err(_) => {
                let message = format!(
                    "no answer within the limit of {:?}, to this read and others that are alike and share it",
                    deadline.limit()
                );
                return Err(Error::new(ErrorKind::Timeout, message));
            }
        };
        match told {
            Some(answer) => {
                if is_read_for {
                    // The events of the nodes that were asked belong to another operation.
                    let waited = deadline.elapsed().as_secs_f64();
                    tracing::debug!(target: STORE, { { DURATION } = waited }, "answered by a read that others share");
                    with_metrics! { crate::telemetry::metrics::store::shared_read(); }
                }
                answer
            }
            // The reader is gone.
            None => alone().await,
        }
    }

    fn admit(self: &Arc<Self>, key: Key<R>, request: &Arc<R>, deadline: Deadline) -> Admission<R, A> {
        let mut lines = self.lines();
        let Some(line) = lines.get_mut(&key) else {
            let (over, youngest) = watch::channel(());
            lines.insert(key.clone(), Line { in_flight: 1, youngest, next: None });
            return Admission::Now(ReadInFlight { reads: Arc::clone(self), key, _over: over });
        };
        let now = Instant::now();
        let patience = deadline.remaining().mul_f64(PATIENCE_SHARE).min(LONGEST_PATIENCE);
        if let Some(next) = &mut line.next {
            let by = now + patience;
            next.begins_by.send_if_modified(|begins_by| {
                let is_earlier = by < *begins_by;
                *begins_by = by.min(*begins_by);
                is_earlier
            });
            if next.deadline.at() < deadline.at() {
                next.deadline = deadline;
            }
            join(&mut next.request, request);
            return Admission::Shared(next.answers.subscribe(), None);
        }
        let doubled = PATIENCE * (1 << line.in_flight.saturating_sub(1).min(8));
        let (begins_by, told_when) = watch::channel(now + doubled.min(patience));
        let (answers, told) = watch::channel(None);
        let answers = Arc::new(answers);
        let before = line.youngest.clone();
        let request = Arc::clone(request);
        line.next = Some(Group { request, answers: Arc::clone(&answers), deadline, begins_by });
        let (reads, answers) = (Arc::clone(self), Some(answers));
        Admission::Shared(told, Some(Reader { reads, key, answers, before, begins_by: told_when }))
    }

    /// Begins the next read of a line, which no caller joins any more, if any caller waits for it.
    fn begin(self: &Arc<Self>, key: &Key<R>) -> Option<(ReadInFlight<R, A>, Arc<R>, Deadline)> {
        let mut lines = self.lines();
        let line = lines.get_mut(key)?;
        let next = line.next.take();
        let Some(next) = next.filter(|next| next.answers.receiver_count() > 0) else {
            forget_if_done(&mut lines, key);
            return None;
        };
        let (over, youngest) = watch::channel(());
        line.in_flight += 1;
        line.youngest = youngest;
        Some((ReadInFlight { reads: Arc::clone(self), key: key.clone(), _over: over }, next.request, next.deadline))
    }
}

impl<R: Eq + Hash, A> SharedReads<R, A> {
    fn lines(&self) -> MutexGuard<'_, HashMap<Key<R>, Line<R, A>>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn forget_if_done<R: Eq + Hash, A>(lines: &mut HashMap<Key<R>, Line<R, A>>, key: &Key<R>) {
    if lines.get(key).is_some_and(|line| line.in_flight == 0 && line.next.is_none()) {
        lines.remove(key);
    }
}

/// A read in flight, until it is dropped.
struct ReadInFlight<R, A>
where
    R: Eq + Hash,
{
    reads: Arc<SharedReads<R, A>>,
    key: Key<R>,
    _over: watch::Sender<()>,
}

impl<R: Eq + Hash, A> Drop for ReadInFlight<R, A> {
    fn drop(&mut self) {
        let mut lines = self.reads.lines();
        if let Some(line) = lines.get_mut(&self.key) {
            line.in_flight -= 1;
        }
        forget_if_done(&mut lines, &self.key);
    }
}

/// The task that reads for the callers that share the next read.
struct Reader<R, A>
where
    R: Eq + Hash,
{
    reads: Arc<SharedReads<R, A>>,
    key: Key<R>,
    /// Until it has begun.
    answers: Option<Answers<A>>,
    before: watch::Receiver<()>,
    begins_by: watch::Receiver<Instant>,
}

impl<R, A> Reader<R, A>
where
    R: Request,
    A: Clone + Send + Sync + 'static,
{
    async fn run<F, Fut>(mut self, read: F)
    where
        F: Fn(Arc<R>, Deadline) -> Fut,
        Fut: Future<Output = Result<A>>,
    {
        self.turn().await;
        let Some(answers) = self.answers.take() else { return };
        let Some((in_flight, request, deadline)) = self.reads.begin(&self.key) else { return };
        let (first, begun) = (read(Arc::clone(&request), deadline), Instant::now());
        let read = async move {
            match first.await {
                // A lost connection would have been that of one caller. If there is no node, this takes longer.
                Err(error) if error.kind() == ErrorKind::Unavailable && begun.elapsed() < LONGEST_PATIENCE => {
                    read(request, deadline).await
                }
                answer => answer,
            }
        };
        let answer = match select(pin!(read), pin!(answers.closed())).await {
            Either::Left((answer, _)) => answer,
            Either::Right(_) => return,
        };
        drop(in_flight);
        answers.send_replace(Some(answer));
    }

    /// Waits for the read before this one, for as long as it is worthwhile.
    async fn turn(&mut self) {
        loop {
            let begins_by = *self.begins_by.borrow_and_update();
            let before = pin!(timeout_at(begins_by, self.before.changed()));
            match select(before, pin!(self.begins_by.changed())).await {
                Either::Right((Ok(()), _)) => {}
                Either::Left(_) | Either::Right((Err(_), _)) => return,
            }
        }
    }
}

impl<R: Eq + Hash, A> Drop for Reader<R, A> {
    /// For a runtime that is shut down before it has begun: the waiting callers notice, and no more join.
    fn drop(&mut self) {
        if self.answers.is_some() {
            let mut lines = self.reads.lines();
            if let Some(line) = lines.get_mut(&self.key) {
                line.next = None;
            }
            forget_if_done(&mut lines, &self.key);
        }
    }
}

#[cfg(test)]
mod tests;
