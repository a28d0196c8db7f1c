//! Statements around a read, on its own connection and in the same message: one before it proves that the node contains
//! what the read must contain, one after it returns the node's place, for the token of what was read.
//!
//! The proof comes before the read, not as a column of it: a snapshot is older than the functions called under it, so a
//! read could declare itself fresh and be stale. The place comes after, for the same reason: everything that the read
//! has seen is before the place reported afterwards.

mod questions;
mod unsettled;

use std::{
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use crossbeam_utils::atomic::AtomicCell;
use futures_util::future::{join, join3};
use tokio_postgres::{Row, error::SqlState};

use self::questions::{ask, prove};
pub(in crate::router) use self::unsettled::Unsettled;
use super::floor::{Check, Floor, Freshness, Whereabouts};
use crate::{
    error::{Error, ErrorKind, Result},
    router::{Deadline, Effect, Lease, Role, record::CallRecord},
    scope::Session,
    token::{Place, Token},
};

/// The statements to send around the calls on one connection.
#[derive(Debug, Default)]
pub(crate) struct Guard {
    place: Option<Place>,
    check: Option<Arc<dyn Check>>,
    /// Whether to query the node's place after each call.
    notes_place: bool,
    is_expected: bool,
    /// Whether its place is not known to be as far as what is checked: then waiting for its place helps.
    waits_for_place: bool,
    proof: AtomicCell<Proof>,
    /// Whether the next call leaves a transaction open: nothing is sent into it.
    is_quiet: AtomicBool,
    /// Whether a transaction may have been opened without a proof: its snapshot may be older than any later one.
    is_too_late: AtomicBool,
    seen: Mutex<Option<Seen>>,
}

/// The answers after the last call.
#[derive(Debug, Default)]
struct Seen {
    place: Option<Place>,
    check: Option<Vec<Row>>,
}

/// What is known of the node, by its own answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Proof {
    #[default]
    NotAsked,
    /// The answer was of no use.
    Asked,
    /// It has got far enough. That does not change any more.
    Contained,
    Behind,
    /// Its place is far enough, but what has to be there is not.
    BehindItsPlace,
    /// It does not say, or is on another timeline.
    Unknown,
}

impl Guard {
    /// Proves the place, and what the floor checks, before the first call that succeeds.
    pub(in crate::router) fn new(place: Option<Place>, floor: Option<&Floor>, notes_place: bool) -> Self {
        Self { place, check: floor.and_then(Floor::check).cloned(), notes_place, ..Self::default() }
    }

    /// Sets whether the node is known to contain what it must.
    pub(in crate::router) fn expected(mut self, is_expected: bool) -> Self {
        self.is_expected = is_expected;
        self
    }

    /// Sets whether what is checked may only not be there yet, judging by the node's known place.
    pub(in crate::router) fn waits_for_place(mut self, waits_for_place: bool) -> Self {
        self.waits_for_place = waits_for_place;
        self
    }

    pub(in crate::router) fn is_expected(&self) -> bool {
        self.is_expected
    }

    /// Whether the node's place is queried after the calls.
    pub(in crate::router) fn notes_place(&self) -> bool {
        self.notes_place
    }

    /// Whether there is anything to send.
    fn is_armed(&self) -> bool {
        self.sends_after() || self.must_prove()
    }

    /// Whether something is still to be proven.
    pub(in crate::router) fn must_prove(&self) -> bool {
        let checks = self.check.as_ref().is_some_and(|check| check.sql_before().is_some());
        (self.place.is_some() || checks) && self.proof.load() != Proof::Contained
    }

    /// Whether the node had not replayed far enough when it was asked.
    pub(crate) fn is_behind(&self) -> bool {
        matches!(self.proof.load(), Proof::Behind | Proof::BehindItsPlace)
    }

    /// Whether it is not far enough although its place says so: no place tells when it will be.
    pub(in crate::router) fn is_behind_its_place(&self) -> bool {
        self.proof.load() == Proof::BehindItsPlace
    }

    /// The node's place after the last call, if it was queried and known.
    pub(crate) fn seen(&self) -> Option<Place> {
        self.lock().as_ref().and_then(|seen| seen.place)
    }

    /// Whether it was queried, and with what result.
    pub(in crate::router) fn take_noted(&self) -> Option<Option<Place>> {
        self.lock().take().map(|seen| seen.place)
    }

    /// The answer to the check after the last call; nothing if that failed.
    pub(crate) fn take_checked(&self) -> Option<Vec<Row>> {
        self.lock().as_mut().and_then(|seen| seen.check.take())
    }

    /// Sends nothing after the next calls while a transaction is open: it would be its first statement, or fail in it.
    pub(in crate::router) fn quiet(&self, is_quiet: bool) {
        self.is_quiet.store(is_quiet, Ordering::Relaxed);
    }

    /// The last call has proven nothing. A call is sent together with its proof, so one that opens a transaction was executed
    /// all the same: then nothing can be proven any more.
    fn was_unproven(&self) {
        if self.is_quiet.load(Ordering::Relaxed) {
            self.is_too_late.store(true, Ordering::Relaxed);
        }
    }

    fn sends_after(&self) -> bool {
        self.notes_place && !self.is_quiet.load(Ordering::Relaxed)
    }

    /// Records the answers after a call. A missing answer is recorded as well: something was seen, but up to which
    /// place is unknown.
    fn note(&self, place: Option<&[Row]>, check: Option<Vec<Row>>) -> Result<()> {
        let place = place.map(Whereabouts::read).transpose()?.and_then(Whereabouts::place);
        *self.lock() = Some(Seen { place, check });
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Option<Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease {
    /// Sends these statements around the calls from now on.
    pub(in crate::router) fn guarded_by(mut self, guard: Guard) -> Self {
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
    /// Those of `call`, [`Unavailable`](ErrorKind::Unavailable) if the node is not far enough or cannot prove it, and
    /// the error of the check.
    pub(crate) async fn guarded<T, F>(&self, effect: Effect, deadline: Deadline, call: F) -> Result<T>
    where
        F: Future<Output = Result<T, tokio_postgres::Error>>,
    {
        self.guarded_with(self.guard.as_deref(), effect, deadline, call).await
    }

    /// The same with the statements of this guard, or with none.
    pub(in crate::router) async fn guarded_with<T, F>(
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

    /// Runs a part of a call, with the statements of this guard around it or with none.
    pub(in crate::router) async fn around<T, F>(
        &self,
        guard: Option<&Guard>,
        effect: Effect,
        deadline: Deadline,
        call: F,
    ) -> Result<T>
    where
        F: Future<Output = Result<T, tokio_postgres::Error>>,
    {
        // Pinned here, so that it is not moved from one function to the next.
        let call = pin!(call);
        match guard.filter(|guard| guard.is_armed()) {
            None => self.step(effect, deadline, call).await,
            // Boxed: it holds three more statements, and as part of the future of all calls it would be moved about
            // with it.
            Some(guard) => Box::pin(self.within(guard, effect, deadline, call)).await,
        }
    }

    /// Runs a part of a call, with the statements of this guard around it.
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
                statements.after.as_ref().map_or((None, None), |(place, check)| (Some(place), check.as_ref()));
            let after = join(ask(self.client(), place), ask(self.client(), check));
            let (proof, value, (place, check)) = match self.is_pooled() {
                // A pooler takes the session back at each answer, even in the middle of a long message: one after the
                // other.
                true => (proof.await, call.await, after.await),
                // All are queued before any is awaited.
                false => join3(proof, call, after).await,
            };
            // The user may have deallocated them: they are then prepared again.
            let is_unanswered = |told: &Option<_>| matches!(told, Some(Err(_)));
            if let Some(connection) = self.own()
                && (proof.is_err() || is_unanswered(&place) || is_unanswered(&check))
            {
                connection.forget_all();
            }
            // What the read says on a lagging node means nothing, not even an error: its table may not be there yet.
            let proven = proof.map(|proof| self.judge(guard, proof, sent_at));
            if !matches!(proven, Ok(Ok(()))) {
                guard.was_unproven();
                return Ok((proven?, None));
            }
            let value = match value {
                Ok(value) => value,
                Err(error) => {
                    // Nothing can be queried in a failed transaction. Outside of one, the call may have committed a part.
                    match place {
                        Some(Ok(place)) => drop(guard.note(Some(&place), None)),
                        Some(Err(error)) if error.code() != Some(&SqlState::IN_FAILED_SQL_TRANSACTION) => {
                            drop(guard.note(None, None));
                        }
                        _ => {}
                    }
                    return Err(error);
                }
            };
            if statements.after.is_none() {
                return Ok((Ok(()), Some(value)));
            }
            let errors = [&place, &check].into_iter().filter_map(|told| told.as_ref()?.as_ref().err());
            errors.for_each(|error| self.note_end(error));
            let (place, check) = (place.and_then(Result::ok), check.and_then(Result::ok));
            Ok((guard.note(place.as_deref(), check), Some(value)))
        };
        let record = CallRecord::begin(self, effect);
        let outcome = match self.exchange(effect, deadline, around).await {
            Ok((Err(unproven), _)) => Err(unproven.into()),
            Ok((Ok(()), Some(value))) => Ok(value),
            Ok((Ok(()), None)) => Err(Error::new(ErrorKind::Database, "the call with a proof was not made").into()),
            Err(failed) => Err(failed),
        };
        record.end(outcome.as_ref().err());
        outcome.map_err(|failed| failed.error)
    }

    /// Proves what the guard requires, in a separate call.
    pub(crate) async fn prove(&self, deadline: Deadline) -> Result<()> {
        match &self.guard {
            Some(guard) if guard.must_prove() => self.guarded(Effect::Read, deadline, std::future::ready(Ok(()))).await,
            _ => Ok(()),
        }
    }

    /// Records in the session what the last call has written or seen, according to the answers after it.
    pub(in crate::router) fn advance<T>(&self, session: &Session, asked: &Token, outcome: &Result<T>) {
        let Some(guard) = &self.guard else { return };
        match (guard.take_noted(), outcome) {
            (Some(place), _) => session.advance(asked, &self.token_of(place)),
            // It may have been written, at an unknown place.
            (None, Err(error)) if error.is_outcome_unknown() => session.see(&self.token_of(None)),
            (None, _) => {}
        }
    }

    /// Lets the guard record the node's place, in a separate call: for calls whose rows are still to be read.
    pub(crate) async fn note_place(&self, deadline: Deadline) -> Result<()> {
        match &self.guard {
            Some(guard) if guard.sends_after() => {
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
        let named = |error: Error| error.with_node(Arc::clone(self.node().name()));
        if guard.is_too_late.load(Ordering::Relaxed) && guard.must_prove() {
            let message = "a transaction was begun on this connection before the node was known to have got as far as its reads must \
                           be: get another connection";
            return Err(named(Error::new(ErrorKind::Unavailable, message)));
        }
        guard.proof.store(Proof::Asked);
        let mut freshness = Freshness::Contained;
        if let Some((rows, asked)) = place.zip(guard.place) {
            let whereabouts = Whereabouts::read(&rows).map_err(named)?;
            if let Some(replayed) = whereabouts.replayed() {
                self.node().handle().replayed(replayed, sent_at);
            }
            freshness = whereabouts.judge(asked).map_err(named)?;
        }
        let mut lag = Proof::Behind;
        if let Some((rows, check)) = check.zip(guard.check.as_ref())
            && freshness == Freshness::Contained
        {
            freshness = check.judge(&rows, self.role()).map_err(named)?;
            lag = if guard.waits_for_place { Proof::Behind } else { Proof::BehindItsPlace };
        }
        let (proof, message) = match freshness {
            Freshness::Contained => {
                guard.proof.store(Proof::Contained);
                return Ok(());
            }
            Freshness::Behind => (lag, "it has not got as far as the read must be"),
            Freshness::Unknown if self.role() == Role::Replica => {
                (Proof::Unknown, "it does not tell its timeline, or is on another one than the read must be on")
            }
            Freshness::Unknown => (Proof::Unknown, "it is on another timeline than the read must be on"),
        };
        guard.proof.store(proof);
        Err(named(Error::new(ErrorKind::Unavailable, message)))
    }
}

/// When a query was sent, by the router's clock.
type Moment = std::time::Duration;
