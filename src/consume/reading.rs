//! Reads the log piece by piece: how much at a time, when to wait, and how to handle errors and replicas that lag.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    runtime::Handle,
    task::JoinHandle,
    time::{Instant, Sleep, sleep},
};

use super::{Batch, Start, exclusive::Exclusive, portion::Portion, start::ReadLimit};
use crate::{
    Consistency, Error, ErrorKind, EventStore, Filter, Mark, Result, Role,
    store::{After, BoxFuture, Piece, ReadAfterRequest, WaitRequest},
};

/// The first and the longest pause after an error.
const FIRST_ERROR_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_ERROR_PAUSE: Duration = Duration::from_secs(1);

/// The first and the longest pause after a read in vain: a different replica served than the one that had the news.
const FIRST_VAIN_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_VAIN_PAUSE: Duration = Duration::from_millis(50);

/// A replica that does not show what was read before may lag, or the event is lost: the primary is asked which it is,
/// this often.
const JUDGE_EVERY: Duration = Duration::from_secs(1);

/// Replicas that show nothing of what the primary has announced for this long may not be replicating. For a while, only
/// replicas known to be this fresh serve, or else the primary.
const PATIENCE: Duration = Duration::from_secs(1);
const FRESH: Duration = Duration::from_secs(2);
const WHILE: Duration = Duration::from_secs(10);

/// For this long, a replica on which tables or rights are missing that the primary has may only lag.
const NOT_THERE_YET: Duration = Duration::from_secs(30);

/// What is read, and how.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) store: Arc<dyn EventStore>,
    pub(super) filter: Filter,
    pub(super) consistency: Consistency,
    pub(super) batch_events: u64,
    pub(super) batch_bytes: usize,
    pub(super) timeout: Option<Duration>,
}

impl Plan {
    /// The defaults for all kinds of following: from replicas, and in batches of this many events and bytes. A thousand
    /// events of 4 kB have this size, and most events are smaller: only large ones make smaller batches.
    pub(super) const BATCH_EVENTS: u64 = 1000;
    pub(super) const BATCH_BYTES: usize = 4 * 1024 * 1024;

    pub(super) fn new(store: &(impl EventStore + Clone + 'static), filter: &Filter) -> Self {
        Self {
            store: Arc::new(store.clone()),
            filter: filter.clone(),
            consistency: Consistency::Eventual,
            batch_events: Self::BATCH_EVENTS,
            batch_bytes: Self::BATCH_BYTES,
            timeout: None,
        }
    }
}

/// The log after a place, as an endless sequence of batches.
pub(super) struct Reading {
    plan: Plan,
    /// Where to begin, until that is known.
    start: Option<Start>,
    after: After,
    portion: Portion,
    step: Exclusive<Step>,
    error_pause: Duration,
    vain_pause: Duration,
    /// Since when replicas have not shown what was read, or when the primary was last asked.
    behind_since: Option<Instant>,
    /// Since when they have not shown what the primary has announced.
    vain_since: Option<Instant>,
    /// Until when stale replicas do not serve.
    fresh_until: Option<Instant>,
    /// Whether a node has said that the log does not contain what was read, or is not there: if the primary says so, that
    /// is final.
    is_doubted: bool,
    /// Since when, without a read that succeeded.
    doubted_since: Option<Instant>,
}

enum Step {
    Resolve(BoxFuture<Result<After>>),
    Read(BoxFuture<Result<Piece>>),
    /// The primary is asked whether the log still holds what was read.
    AskPrimary(BoxFuture<Result<Piece>>),
    Wait(BoxFuture<Result<()>>),
    Pause(Pin<Box<Sleep>>),
    Over,
}

impl Reading {
    pub(super) fn new(plan: Plan, start: Start) -> Self {
        let portion = Portion::new(plan.batch_events, plan.batch_bytes);
        // What is known without a query.
        let (start, after) = match start {
            Start::Beginning | Start::AfterPosition(0) => (None, After::Beginning),
            Start::After(mark) => (None, After::Mark(mark)),
            Start::AfterPosition(position) => (None, After::Position(position)),
            start => (Some(start), After::Beginning),
        };
        let mut reading = Self {
            plan,
            start,
            after,
            portion,
            step: Exclusive::new(Step::Over),
            error_pause: FIRST_ERROR_PAUSE,
            vain_pause: FIRST_VAIN_PAUSE,
            behind_since: None,
            vain_since: None,
            fresh_until: None,
            is_doubted: false,
            doubted_since: None,
        };
        let first = reading.first_step();
        reading.step.set(first);
        reading
    }

    pub(super) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The place up to which everything was delivered.
    pub(super) fn mark(&self) -> Option<Mark> {
        self.after.mark()
    }

    pub(super) fn end(&mut self) {
        self.step.set(Step::Over);
    }

    /// The next batch, or an error; `None` after an error that time does not resolve.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Batch>>> {
        loop {
            match self.step.get_mut() {
                Step::Over => return Poll::Ready(None),
                Step::Resolve(resolving) => match ready!(resolving.as_mut().poll(cx)) {
                    Ok(after) => {
                        (self.after, self.start) = (after, None);
                        let next = self.read(false);
                        self.step.set(next);
                    }
                    Err(error) if self.may_be_of_a_replica(&error) => {
                        let next = self.doubt();
                        self.step.set(next);
                    }
                    Err(error) => return Poll::Ready(Some(Err(self.failed(error)))),
                },
                Step::Pause(pause) => {
                    ready!(pause.as_mut().poll(cx));
                    let next = self.first_step();
                    self.step.set(next);
                }
                Step::Wait(waiting) => match ready!(waiting.as_mut().poll(cx)) {
                    Ok(()) => {
                        let next = self.read(false);
                        self.step.set(next);
                    }
                    Err(error) => return Poll::Ready(Some(Err(self.failed(error)))),
                },
                Step::AskPrimary(judging) => match ready!(judging.as_mut().poll(cx)) {
                    // If nobody who could be believed has answered, that is said, too: waiting for it is not to be silent.
                    Err(error) if error.kind() == ErrorKind::LogDiverged || std::mem::take(&mut self.is_doubted) => {
                        return Poll::Ready(Some(Err(self.failed(error))));
                    }
                    // The replicas lag, or the state is unknown. Or one is on another branch of the history, which the
                    // primary has left, or does not even get what the primary had long ago: for a while it does not
                    // serve.
                    judged => {
                        let position = self.after.position();
                        let has_more = |piece: &Piece| Mark::position_or_zero(piece.head) > position;
                        let is_behind = self.plan.consistency == Consistency::Eventual;
                        let is_doubted = std::mem::take(&mut self.is_doubted);
                        if judged.is_ok_and(|piece| is_doubted || is_behind && has_more(&piece)) {
                            self.fresh_until = Some(Instant::now() + WHILE);
                        }
                        let next = if is_doubted { self.longer_pause() } else { self.pause() };
                        self.step.set(next);
                    }
                },
                Step::Read(reading) => match ready!(reading.as_mut().poll(cx)) {
                    Ok(piece) => {
                        (self.error_pause, self.doubted_since) = (FIRST_ERROR_PAUSE, None);
                        if let Some(batch) = self.read_on(piece) {
                            return Poll::Ready(Some(Ok(batch)));
                        }
                    }
                    Err(error) => {
                        if error.is_out_of_time() {
                            self.portion.took_too_long();
                        }
                        if self.may_be_of_a_replica(&error) {
                            let next = self.doubt();
                            self.step.set(next);
                            continue;
                        }
                        if !self.is_fresh() || is_final(&error) {
                            return Poll::Ready(Some(Err(self.failed(error))));
                        }
                        // Neither a fresh replica nor the primary is available: a stale replica is better than none.
                        self.fresh_until = None;
                        let next = self.pause();
                        self.step.set(next);
                    }
                },
            }
        }
    }

    /// Whether a replica may have said so that is on another branch, or has not replayed a migration or a grant yet: only
    /// the primary knows.
    fn may_be_of_a_replica(&self, error: &Error) -> bool {
        let is_not_there = error.kind() == ErrorKind::Schema || error.sqlstate() == Some("42501");
        let is_not_there_yet = is_not_there && self.doubted_since.is_none_or(|since| since.elapsed() < NOT_THERE_YET);
        (is_not_there_yet || error.kind() == ErrorKind::LogDiverged) && self.plan.consistency != Consistency::Strong
    }

    /// Asks the primary whether that is so.
    fn doubt(&mut self) -> Step {
        self.is_doubted = true;
        self.doubted_since.get_or_insert_with(Instant::now);
        self.judge()
    }

    /// Whether stale replicas are currently excluded.
    fn is_fresh(&self) -> bool {
        self.fresh_until.is_some_and(|until| Instant::now() < until)
    }

    fn first_step(&self) -> Step {
        match self.start.clone() {
            None => self.read(false),
            Some(start) => {
                let Plan { store, consistency, timeout, .. } = self.plan.clone();
                Step::Resolve(Box::pin(
                    async move { start.resolve(&*store, &consistency, ReadLimit::Each(timeout)).await },
                ))
            }
        }
    }

    /// The read of the next piece. If it is to run in the background, it does so in a task that ends when this is
    /// dropped.
    fn read(&self, ahead: bool) -> Step {
        let Plan { store, filter, consistency, batch_bytes, timeout, .. } = &self.plan;
        let consistency = if self.is_fresh() { &Consistency::Bounded(FRESH) } else { consistency };
        let events = self.portion.events();
        let mut request = ReadAfterRequest::new(filter.clone(), self.after, events, consistency.clone());
        (request.limit_bytes, request.timeout) = (*batch_bytes, *timeout);
        if filter.items().is_some() {
            request.until = Some(self.after.position().saturating_add(self.portion.window()));
        }
        let piece = store.run_read_after(request);
        match Handle::try_current() {
            Ok(runtime) if ahead => Step::Read(Box::pin(Ahead(runtime.spawn(piece)))),
            _ => Step::Read(piece),
        }
    }

    fn wait(&self) -> Step {
        let consistency = if self.is_fresh() { Consistency::Strong } else { self.plan.consistency.clone() };
        Step::Wait(self.plan.store.run_wait(WaitRequest::new(self.after, consistency)))
    }

    /// A pause after a read in vain, each longer than the one before.
    fn pause(&mut self) -> Step {
        let pause = self.vain_pause;
        self.vain_pause = (pause * 2).min(LONGEST_VAIN_PAUSE);
        Step::Pause(Box::pin(sleep(pause)))
    }

    /// A pause as after an error: the primary is asked again after it.
    fn longer_pause(&mut self) -> Step {
        let pause = self.error_pause;
        self.error_pause = (pause * 2).min(LONGEST_ERROR_PAUSE);
        Step::Pause(Box::pin(sleep(pause)))
    }

    fn read_on(&mut self, piece: Piece) -> Option<Batch> {
        let (position, end) = (self.after.position(), Mark::position_or_zero(piece.head));
        let Some(reached) = piece.reached else {
            let is_hole = self.plan.filter.items().is_some() && end > position.saturating_add(self.portion.window());
            let next = match self.after {
                // Someone has deleted what the piece spans, although the documentation forbids it: what follows is
                // still due.
                _ if is_hole => {
                    self.portion.widen();
                    self.read(false)
                }
                After::Mark(_) if piece.role == Role::Replica && end < position => self.behind(),
                _ => self.in_vain(),
            };
            self.step.set(next);
            return None;
        };
        self.portion.saw(&piece, reached.position() - position);
        (self.vain_pause, self.behind_since, self.vain_since) = (FIRST_VAIN_PAUSE, None, None);
        self.after = After::Mark(reached);
        let next = if piece.is_at_head() { self.wait() } else { self.read(true) };
        self.step.set(next);
        Batch::new(piece)
    }

    /// The node has not replayed as far as what was read before.
    fn behind(&mut self) -> Step {
        let since = *self.behind_since.get_or_insert_with(Instant::now);
        if since.elapsed() < JUDGE_EVERY {
            return self.pause();
        }
        self.behind_since = None;
        self.judge()
    }

    /// Asks the primary whether the log still contains what was read.
    fn judge(&self) -> Step {
        let Plan { store, filter, timeout, .. } = &self.plan;
        let mut request = ReadAfterRequest::new(filter.clone(), self.after, 0, Consistency::Strong);
        request.timeout = *timeout;
        Step::AskPrimary(store.run_read_after(request))
    }

    /// There is known to be more, but the node that was asked does not have it.
    fn in_vain(&mut self) -> Step {
        let since = *self.vain_since.get_or_insert_with(Instant::now);
        if since.elapsed() >= PATIENCE && self.plan.consistency == Consistency::Eventual && !self.is_fresh() {
            self.fresh_until = Some(Instant::now() + WHILE);
            return self.read(false);
        }
        let (Step::Pause(pause), Step::Wait(waiting)) = (self.pause(), self.wait()) else { return self.wait() };
        Step::Wait(Box::pin(async move {
            pause.await;
            waiting.await
        }))
    }

    /// Continues a little later, unless time does not resolve this.
    fn failed(&mut self, error: Error) -> Error {
        let next = if is_final(&error) { Step::Over } else { self.longer_pause() };
        self.step.set(next);
        error
    }
}

/// Whether the same read can succeed only after human action.
pub(super) fn is_final(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Closed
            | ErrorKind::Configuration
            | ErrorKind::InvalidInput
            | ErrorKind::LogDiverged
            | ErrorKind::Schema
    )
}

/// A read that runs in the background until it ends, or is dropped.
struct Ahead(JoinHandle<Result<Piece>>);

impl Future for Ahead {
    type Output = Result<Piece>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Piece>> {
        match ready!(Pin::new(&mut self.0).poll(cx)) {
            Ok(piece) => Poll::Ready(piece),
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => {
                    let message = "the runtime that read ahead has been shut down";
                    Poll::Ready(Err(Error::new(ErrorKind::Unavailable, message)))
                }
            },
        }
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.0.abort();
    }
}
