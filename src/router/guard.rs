//! Statements around a read, on its own connection and in the same message: one in front that proves that the node has
//! what the read must contain, one behind that tells where the node is, for the token of what was read.
//!
//! In front, and not a column of the read: a snapshot is older than the functions that are called under it, so a read
//! could call itself fresh and be stale. Behind, for the same reason: what the read has seen is before the place that is
//! told afterwards.

mod questions;

use std::{
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
};

use futures_util::future::{join, join3};
use tokio_postgres::{Row, types::ToSql};

use self::questions::{ask, prove};
use super::{
    Deadline, Effect, Lease, Role,
    floor::{Check, Floor, Verdict, Whereabouts},
    record::CallRecord,
};
use crate::{
    error::{Error, ErrorKind, Result},
    scope::Session,
    token::{Place, Token},
};

/// What is sent around the calls on one connection.
#[derive(Debug, Default)]
pub(crate) struct Guard {
    place: Option<Place>,
    check: Option<Arc<dyn Check>>,
    /// Whether to ask where the node is, behind each call.
    notes_place: bool,
    is_expected: bool,
    /// Whether nobody knows that its place is as far as what is checked: then it can be waited for by its place.
    waits_for_place: bool,
    verdict: AtomicU8,
    /// Whether the next call leaves a transaction open: nothing is sent into that.
    is_quiet: AtomicBool,
    seen: Mutex<Option<Seen>>,
}

/// What was told behind the last call.
#[derive(Debug, Default)]
struct Seen {
    place: Option<Place>,
    check: Option<Vec<Row>>,
}

const ASKED: u8 = 1;
const CONTAINED: u8 = 2;
const BEHIND: u8 = 3;
const UNKNOWN: u8 = 4;
/// Its place is as far, but what has to be there is not.
const BEHIND_ITS_PLACE: u8 = 5;

impl Guard {
    /// Proves the place, and what the floor checks, in front of the first call that goes through.
    pub(super) fn new(place: Option<Place>, floor: Option<&Floor>, notes_place: bool) -> Self {
        Self { place, check: floor.and_then(Floor::check).cloned(), notes_place, ..Self::default() }
    }

    /// Whether the node is known to have what it must.
    pub(super) fn expected(mut self, is_expected: bool) -> Self {
        self.is_expected = is_expected;
        self
    }

    /// Whether what is checked may just not be there yet, by what is known of the node's place.
    pub(super) fn waits_for_place(mut self, waits_for_place: bool) -> Self {
        self.waits_for_place = waits_for_place;
        self
    }

    pub(super) fn is_expected(&self) -> bool {
        self.is_expected
    }

    /// Whether the place of the node is asked for behind the calls.
    pub(super) fn notes_place(&self) -> bool {
        self.notes_place
    }

    /// Whether there is anything to send.
    fn is_armed(&self) -> bool {
        self.sends_behind() || self.must_prove()
    }

    /// Whether something is still to be proven.
    pub(super) fn must_prove(&self) -> bool {
        let checks = self.check.as_ref().is_some_and(|check| check.front().is_some());
        (self.place.is_some() || checks) && self.verdict.load(Ordering::Relaxed) != CONTAINED
    }

    /// Whether the node has not got so far, when it was asked.
    pub(crate) fn is_behind(&self) -> bool {
        matches!(self.verdict.load(Ordering::Relaxed), BEHIND | BEHIND_ITS_PLACE)
    }

    /// Whether it has not got so far although its place says that it has: no place tells when it will have.
    pub(super) fn is_behind_its_place(&self) -> bool {
        self.verdict.load(Ordering::Relaxed) == BEHIND_ITS_PLACE
    }

    /// Where the node was behind the last call, if that was asked and could be told.
    pub(crate) fn seen(&self) -> Option<Place> {
        self.lock().as_ref().and_then(|seen| seen.place)
    }

    /// Whether that was asked, and with what result.
    pub(super) fn take_noted(&self) -> Option<Option<Place>> {
        self.lock().take().map(|seen| seen.place)
    }

    /// What the check was told behind the last call; nothing when that failed.
    pub(crate) fn take_checked(&self) -> Option<Vec<Row>> {
        self.lock().as_mut().and_then(|seen| seen.check.take())
    }

    /// Sends nothing behind the next calls, while a transaction is open: it would be the first statement of it, or fail in it.
    pub(super) fn quiet(&self, is_quiet: bool) {
        self.is_quiet.store(is_quiet, Ordering::Relaxed);
    }

    fn sends_behind(&self) -> bool {
        self.notes_place && !self.is_quiet.load(Ordering::Relaxed)
    }

    /// Takes in what was told behind a call. What was not told is noted as well: that something was seen, nobody knows where.
    fn note(&self, place: Option<&[Row]>, check: Option<Vec<Row>>) -> Result<()> {
        let place = place.map(Whereabouts::read).transpose()?.and_then(Whereabouts::place);
        *self.lock() = Some(Seen { place, check });
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Option<Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A write in a session that is under way. Dropped before it is settled, it was given up: it may have been written, and nobody
/// knows where.
#[derive(Debug)]
pub(super) struct Unsettled<'a> {
    lease: &'a Lease,
    session: Option<&'a Session>,
}

impl<'a> Unsettled<'a> {
    pub(super) fn new(lease: &'a Lease, session: Option<&'a Session>) -> Self {
        Self { lease, session }
    }

    /// It was answered, or is known not to have been.
    pub(super) fn settled(mut self) {
        self.session = None;
    }
}

impl Drop for Unsettled<'_> {
    fn drop(&mut self) {
        if let Some(session) = self.session {
            session.see(&self.lease.token_of(None));
        }
    }
}

impl Lease {
    /// Has these statements sent around the calls from now on.
    pub(super) fn guarded_by(mut self, guard: Guard) -> Self {
        self.guard = Some(Arc::new(guard));
        self
    }

    pub(crate) fn guard(&self) -> Option<&Arc<Guard>> {
        self.guard.as_ref()
    }

    /// [Runs](Lease::call) one call, with the guard's statements around it.
    ///
    /// # Errors
    ///
    /// Those of `call`, [`Unavailable`](ErrorKind::Unavailable) when the node has not got so far or cannot prove it, and
    /// what the check says.
    pub(crate) async fn guarded<T, F>(&self, effect: Effect, deadline: Deadline, call: F) -> Result<T>
    where
        F: Future<Output = Result<T, tokio_postgres::Error>>,
    {
        self.guarded_with(self.guard.as_deref(), effect, deadline, call).await
    }

    /// The same with the statements of this guard, or with none.
    pub(super) async fn guarded_with<T, F>(
        &self,
        guard: Option<&Guard>,
        effect: Effect,
        deadline: Deadline,
        call: F,
    ) -> Result<T>
    where
        F: Future<Output = Result<T, tokio_postgres::Error>>,
    {
        let outcome = self.around(guard, effect, deadline, call).await;
        if outcome.is_ok() {
            self.served();
        }
        outcome
    }

    /// A part of a call, with the statements of this guard around it or with none.
    pub(super) async fn around<T, F>(
        &self,
        guard: Option<&Guard>,
        effect: Effect,
        deadline: Deadline,
        call: F,
    ) -> Result<T>
    where
        F: Future<Output = Result<T, tokio_postgres::Error>>,
    {
        // Pinned here, so that what goes on from hand to hand is where it is.
        let call = pin!(call);
        match guard.filter(|guard| guard.is_armed()) {
            None => self.step(effect, deadline, call).await,
            // Boxed: it holds three more statements, and as a part of the future of all calls it would be moved about with it.
            Some(guard) => Box::pin(self.within(guard, effect, deadline, call)).await,
        }
    }

    /// A part of a call, with the statements of this guard around it.
    async fn within<T, F>(&self, guard: &Guard, effect: Effect, deadline: Deadline, call: F) -> Result<T>
    where
        F: Future<Output = Result<T, tokio_postgres::Error>>,
    {
        *guard.lock() = None;
        let statements = self.prepare_guard(guard, deadline).await?;
        let sent_at = self.node().handle().now();
        let around = async {
            let proof = prove(self.client(), guard, &statements);
            let (place, check) =
                statements.behind.as_ref().map_or((None, None), |(place, check)| (Some(place), check.as_ref()));
            let behind = join(ask(self.client(), place), ask(self.client(), check));
            let (proof, value, (place, check)) = match self.is_pooled() {
                // A pooler takes the session back at each answer, also from under half of a long message: one after the other.
                true => (proof.await, call.await, behind.await),
                // All are in line before anything is waited for.
                false => join3(proof, call, behind).await,
            };
            // What the read says of a node that is behind means nothing, an error neither: its table may not be there yet.
            let proven = self.judge(guard, proof?, sent_at);
            if proven.is_err() {
                return Ok((proven, None));
            }
            // In a transaction that has failed nothing can be asked.
            let value = value?;
            if statements.behind.is_none() {
                return Ok((Ok(()), Some(value)));
            }
            // Thrown away by the user, perhaps: they are prepared anew then.
            if let Some(connection) = self.own()
                && [&place, &check].into_iter().any(|told| matches!(told, Some(Err(_))))
            {
                connection.forget_all();
            }
            let errors = [&place, &check].into_iter().filter_map(|told| told.as_ref()?.as_ref().err());
            errors.for_each(|error| self.note_end(error));
            let (place, check) = (place.and_then(Result::ok), check.and_then(Result::ok));
            Ok((guard.note(place.as_deref(), check), Some(value)))
        };
        let record = CallRecord::begin(self, effect);
        let outcome = match self.exchange(effect, deadline, around).await {
            Ok((Err(behind), _)) => Err(behind.into()),
            Ok((Ok(()), Some(value))) => Ok(value),
            Ok((Ok(()), None)) => Err(Error::new(ErrorKind::Database, "the call behind a proof was not made").into()),
            Err(failed) => Err(failed),
        };
        record.end(outcome.as_ref().err());
        outcome.map_err(|failed| failed.error)
    }

    /// Proves what the guard asks for in a call of its own.
    pub(crate) async fn prove(&self, deadline: Deadline) -> Result<()> {
        match &self.guard {
            Some(guard) if guard.must_prove() => self.guarded(Effect::Read, deadline, std::future::ready(Ok(()))).await,
            _ => Ok(()),
        }
    }

    /// Has the session take in what the last call has written or seen, by what was told behind it.
    pub(super) fn advance<T>(&self, session: &Session, asked: &Token, outcome: &Result<T>) {
        let Some(guard) = &self.guard else { return };
        match (guard.take_noted(), outcome) {
            (Some(place), _) => session.advance(asked, &self.token_of(place)),
            // It may have been written, and nobody knows where.
            (None, Err(error)) if error.is_outcome_unknown() => session.see(&self.token_of(None)),
            (None, _) => {}
        }
    }

    /// One statement that only reads, with nothing around it.
    pub(crate) async fn unguarded(
        &self,
        deadline: Deadline,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>> {
        let question = self.question(deadline, sql, params.len()).await?;
        self.call(Effect::Read, deadline, question.ask(self.client(), params)).await
    }

    /// Asks where the node is.
    pub(super) async fn whereabouts(&self, deadline: Deadline) -> Result<Whereabouts> {
        let rows = self.unguarded(deadline, Whereabouts::SQL, &[]).await?;
        Whereabouts::read(&rows).map_err(|error| error.with_node(Arc::clone(self.node().name())))
    }

    /// Has the guard note where the node is, in a call of its own: where calls leave rows to be taken.
    pub(crate) async fn note_place(&self, deadline: Deadline) -> Result<()> {
        match &self.guard {
            Some(guard) if guard.sends_behind() => {
                self.guarded(Effect::Read, deadline, std::future::ready(Ok(()))).await
            }
            _ => Ok(()),
        }
    }

    fn judge(
        &self,
        guard: &Guard,
        (place, check): (Option<Vec<Row>>, Option<Vec<Row>>),
        sent_at: Moment,
    ) -> Result<()> {
        if flawed!(IgnoreGuard) {
            return Ok(());
        }
        if place.is_none() && check.is_none() {
            return Ok(());
        }
        guard.verdict.store(ASKED, Ordering::Relaxed);
        let named = |error: Error| error.with_node(Arc::clone(self.node().name()));
        let mut verdict = Verdict::Contained;
        if let Some((rows, asked)) = place.zip(guard.place) {
            let whereabouts = Whereabouts::read(&rows).map_err(named)?;
            if let Some(replayed) = whereabouts.replayed() {
                self.node().handle().replayed(replayed, sent_at);
            }
            verdict = whereabouts.judge(asked).map_err(named)?;
        }
        let mut behind = BEHIND;
        if let Some((rows, check)) = check.zip(guard.check.as_ref())
            && verdict == Verdict::Contained
        {
            verdict = check.judge(&rows, self.role()).map_err(named)?;
            behind = if guard.waits_for_place { BEHIND } else { BEHIND_ITS_PLACE };
        }
        let (code, message) = match verdict {
            Verdict::Contained => {
                guard.verdict.store(CONTAINED, Ordering::Relaxed);
                return Ok(());
            }
            Verdict::Behind => (behind, "it has not got as far as the read must be"),
            Verdict::Unknown if self.role() == Role::Replica => {
                (UNKNOWN, "it does not tell its timeline, or is on another one than the read must be on")
            }
            Verdict::Unknown => (UNKNOWN, "it is on another timeline than the read must be on"),
        };
        guard.verdict.store(code, Ordering::Relaxed);
        Err(named(Error::new(ErrorKind::Unavailable, message)))
    }
}

/// When a question was sent, by the router's clock.
type Moment = std::time::Duration;
