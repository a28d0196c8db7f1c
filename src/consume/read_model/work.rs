//! What the runner does for one read model, batch by batch.

use std::{collections::HashMap, pin::pin, time::Duration};

use futures_util::future::select;
use tokio::{sync::watch, time::sleep};

use super::{
    PoisonPolicy, ReadModel, ReadModelProgress, ReadModelState,
    blame::{Failure, cause, may_be_of_an_event, settled},
};
use crate::{
    Consumer, ConsumerBatch, ConsumerTransaction, Error, ErrorKind, Mark, Result,
    consume::{
        consumer::{Claim, News, handle},
        reading::is_final,
    },
};

/// The first and the longest pause after a failure that was not an event's fault.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// A read model at work.
pub(super) struct Work<M> {
    model: M,
    consumer: Consumer,
    policy: PoisonPolicy,
    progress: watch::Sender<ReadModelProgress>,
    /// Whether the model is handling a batch.
    is_handling: bool,
    /// The events of the current batch that could not be applied.
    poison: HashMap<Mark, Poison>,
    /// Whether deferred constraints are checked after each event: a commit did not say which event broke one.
    checks_each: bool,
}

/// Checks what is deferred to the commit, and leaves it deferred: with the savepoint goes the setting, and what was checked
/// is checked again later.
const CHECK: &str = "SAVEPOINT mainstem_check; SET CONSTRAINTS ALL IMMEDIATE; \
                     ROLLBACK TO SAVEPOINT mainstem_check; RELEASE SAVEPOINT mainstem_check";

/// An event that its model could not apply.
struct Poison {
    attempts: u64,
    error: Error,
    fate: Fate,
}

/// What becomes of an event that could not be applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    TriedAgain,
    PassedOver,
    /// The model ends in front of it: what comes before it in its batch, and was rolled back with it, is still applied.
    EndOfModel,
}

/// However it ends, even by a panic of its model or with its runtime, nothing waits for it any longer.
impl<M> Drop for Work<M> {
    fn drop(&mut self) {
        self.progress.send_if_modified(|progress| {
            if progress.state == ReadModelState::Failed {
                return false;
            }
            progress.state = ReadModelState::Stopped;
            if self.is_handling && std::thread::panicking() {
                let error = Error::new(ErrorKind::Closed, "its read model has panicked");
                (progress.state, progress.error) = (ReadModelState::Failed, Some(error));
            }
            true
        });
    }
}

impl<M: ReadModel> Work<M> {
    pub(super) fn new(
        model: M,
        consumer: Consumer,
        policy: PoisonPolicy,
        progress: watch::Sender<ReadModelProgress>,
    ) -> Self {
        Self { model, consumer, policy, progress, is_handling: false, poison: HashMap::new(), checks_each: false }
    }

    /// Works until the consumer ends, or an event stops it. Then its partitions are released: nobody may be left to do
    /// that later, if the runtime ends as well.
    pub(super) async fn run(mut self) {
        self.work().await;
        self.consumer.leave_soon().await;
    }

    async fn work(&mut self) {
        let mut pause = FIRST_PAUSE;
        while let Some(news) = self.consumer.news().await {
            let outcome = match news {
                Ok(News::Claim(claim)) => {
                    self.claimed(&claim);
                    continue;
                }
                Ok(News::Batch(batch)) => match self.end_in(&batch) {
                    None => self.handled(&batch).await,
                    Some((mark, error)) => match self.handled_before(mark, &batch).await {
                        Ok(()) => return self.failed(error),
                        failed => failed,
                    },
                },
                Err(error) => {
                    self.held_up(&error);
                    if is_final(&error) {
                        self.failed(error);
                    }
                    continue;
                }
            };
            match outcome {
                Ok(()) => pause = FIRST_PAUSE,
                Err(Failure::Event(mark, error)) => self.poisoned(mark, error).await,
                Err(Failure::Other(error)) => {
                    self.held_up(&error);
                    if error.kind() == ErrorKind::Closed {
                        // Nothing opens a store again.
                        return self.failed(error);
                    }
                    self.rest(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    /// The event of this batch at which the model ends, if there is one, and the error with which it could not be applied.
    fn end_in(&self, batch: &ConsumerBatch) -> Option<(Mark, Error)> {
        let mut poison = batch.iter().filter_map(|event| Some((event.mark(), self.poison.get(&event.mark())?)));
        poison.find(|(_, poison)| poison.fate == Fate::EndOfModel).map(|(mark, poison)| (mark, poison.error.clone()))
    }

    async fn handled_before(&mut self, mark: Mark, batch: &ConsumerBatch) -> Result<(), Failure> {
        match batch.before(mark) {
            Some(before) => self.handled(&before).await,
            None => Ok(()),
        }
    }

    async fn handled(&mut self, batch: &ConsumerBatch) -> Result<(), Failure> {
        let name = self.consumer.name().to_owned();
        self.is_handling = true;
        let handled = handle(&name, batch.len() as u64, Box::pin(self.handle(batch)), Failure::error).await;
        self.is_handling = false;
        handled.map(|skipped| self.committed(batch, skipped))
    }

    /// Applies a batch in one transaction, except for the skipped events; returns how many these are.
    async fn handle(&mut self, batch: &ConsumerBatch) -> Result<u64, Failure> {
        let transaction = self.consumer.transaction(batch).await.map_err(Failure::Other)?;
        let skipped = match self.apply(batch, &transaction).await {
            Ok(skipped) => skipped,
            Err(failure) => {
                transaction.failed(failure.error());
                return Err(failure);
            }
        };
        if let Err(error) = transaction.commit().await {
            self.checks_each = may_be_of_an_event(&error);
            return Err(Failure::Other(error));
        }
        self.checks_each = false;
        // Failures after this batch are kept: their events are still to come.
        self.poison.retain(|mark, _| mark.position() > batch.mark().position());
        Ok(skipped)
    }

    async fn apply(&mut self, batch: &ConsumerBatch, transaction: &ConsumerTransaction) -> Result<u64, Failure> {
        if batch.is_first() {
            self.model.clear(transaction).await.map_err(|error| Failure::Other(cause(error, transaction)))?;
            settled(transaction).await.map_err(Failure::Other)?;
            self.check(transaction).await.map_err(Failure::Other)?;
        }
        let mut skipped = 0;
        for event in batch {
            if let Some(poison) = self.poison.get(&event.mark()).filter(|poison| poison.fate == Fate::PassedOver) {
                let skip = transaction.skip(event, &poison.error.report(), poison.attempts).await;
                skip.map_err(Failure::Other)?;
                skipped += 1;
                continue;
            }
            let applied = match self.model.apply(event, transaction).await {
                Ok(()) => settled(transaction).await,
                Err(error) => Err(cause(error, transaction)),
            };
            applied.map_err(|error| Failure::of_apply(event.mark(), error))?;
            self.check(transaction).await.map_err(|error| match may_be_of_an_event(&error) {
                true => Failure::Event(event.mark(), error),
                false => Failure::Other(error),
            })?;
        }
        Ok(skipped)
    }

    /// Checks the deferred constraints, if a commit has failed that they may have broken. A batch may end after any
    /// event, so they must hold after each.
    async fn check(&self, transaction: &ConsumerTransaction) -> Result<()> {
        if self.checks_each { transaction.batch_execute(CHECK).await } else { Ok(()) }
    }

    /// Decides about an event what the policy says. The consumer goes back to its checkpoint, and the event comes again.
    async fn poisoned(&mut self, mark: Mark, error: Error) {
        let attempts = self.poison.get(&mark).map_or(1, |poison| poison.attempts + 1);
        let fate = match attempts <= u64::from(self.policy.retries) {
            true => Fate::TriedAgain,
            false if self.policy.then_skip => Fate::PassedOver,
            false => Fate::EndOfModel,
        };
        let (read_model, report) = (self.consumer.name(), error.for_log());
        match fate {
            Fate::TriedAgain => {
                tracing::warn!(read_model, event = %mark, attempts, error = %report, "an event could not be applied; it is tried again");
            }
            Fate::PassedOver => {
                tracing::error!(read_model, event = %mark, attempts, error = %report, "an event could not be applied; it is passed over");
            }
            Fate::EndOfModel => {
                tracing::error!(read_model, event = %mark, attempts, error = %report, "an event could not be applied; the read model stops");
            }
        }
        self.progress.send_modify(|progress| progress.error = Some(error.clone()));
        self.poison.insert(mark, Poison { attempts, error, fate });
        if fate == Fate::TriedAgain {
            self.rest(self.policy.pause).await;
        }
    }

    /// Pauses, unless it is stopped meanwhile.
    async fn rest(&self, pause: Duration) {
        let stop = self.consumer.stop_handle();
        select(pin!(sleep(pause)), stop.stopped()).await;
    }

    /// Reports what it owns now: if nothing follows its checkpoint, no batch would report its progress.
    fn claimed(&self, claim: &Claim) {
        self.progress.send_modify(|progress| {
            progress.has_joined = true;
            if !claim.is_owner {
                progress.state = ReadModelState::Waiting;
                return;
            }
            (progress.handled, progress.head_position) = (claim.handled, claim.head_position);
            let is_live = Mark::position_or_zero(claim.handled) >= claim.head_position;
            progress.state = if is_live { ReadModelState::Live } else { ReadModelState::CatchingUp };
        });
    }

    fn committed(&self, batch: &ConsumerBatch, skipped: u64) {
        self.progress.send_modify(|progress| {
            progress.handled = Some(batch.mark());
            progress.head_position = batch.batch().head_position();
            progress.applied += batch.len() as u64 - skipped;
            progress.skipped += skipped;
            let is_live = batch.events_behind() == 0;
            progress.state = if is_live { ReadModelState::Live } else { ReadModelState::CatchingUp };
        });
    }

    fn held_up(&self, error: &Error) {
        tracing::warn!(read_model = %self.consumer.name(), error = %error.for_log(), "a read model is held up");
        self.progress.send_modify(|progress| progress.error = Some(error.clone()));
    }

    /// It ends with this error.
    fn failed(&self, error: Error) {
        self.progress.send_modify(|progress| (progress.state, progress.error) = (ReadModelState::Failed, Some(error)));
    }
}
