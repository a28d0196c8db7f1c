//! The execution of one command.

use std::{
    fmt,
    future::{Future, IntoFuture},
    pin::Pin,
};

use serde::{Serialize, de::DeserializeOwned};
use tracing::{Instrument, Span};

use super::{
    Command, CommandError, CommandExecutor, CommandOutcome, CommandRecord, Decision, DecisionModel, Executed,
    ModelState, RecordedCommand,
    record::First,
    retry_state::RetryState,
    telemetry::{CommandSpan, command_span},
};
use crate::{
    AppendCondition, Appended, Consistency, ErrorKind, EventContext, EventStore, Json, NewEvent, Result, Scope, Token,
    telemetry::Outcome,
};

/// The execution of a command: await it, after configuring how it is recorded if needed.
///
/// It reads the command's model in one query, decides, and appends the decision's events under the condition that the
/// model has not changed. After a conflict it waits briefly and starts again. If the answer to an append is lost, it
/// repeats the append with the same event ids, which tells whether it was written, so nothing is written twice.
///
/// The result is an [`Executed`] or a [`CommandError`]: refused, or given up. Both report how many attempts it took.
///
/// # Errors
///
/// - [`Refused`](CommandError::Refused): the decision was a refusal. Events that record it are written.
/// - [`GaveUp`](CommandError::GaveUp) with a [conflict](crate::Error::is_conflict): another append was faster each
///   time.
/// - [`GaveUp`](CommandError::GaveUp) with [`OutcomeUnknown`](crate::ErrorKind::OutcomeUnknown): the decision may have
///   been written, and no answer came in time. Only a [command id](Self::recorded) makes it safe to execute it again.
/// - [`GaveUp`](CommandError::GaveUp) with [`Overloaded`](crate::ErrorKind::Overloaded): [too
///   many](CommandExecutor::max_concurrent_commands) commands are in flight.
/// - [`GaveUp`](CommandError::GaveUp) with any other error of reads, appends and decisions.
///
/// # Panics
///
/// If the command or its model panics.
///
/// # Cancel safety
///
/// If it is dropped before its append is sent, nothing happens. If it is dropped later, the events are written
/// completely or not at all; only a command id reveals which.
#[must_use = "a command does nothing until its execution is awaited"]
pub struct Execute<'a, C: Command> {
    executor: &'a CommandExecutor,
    command: &'a C,
    scope: Scope,
    recording: Option<Recording<C::Refusal>>,
}

/// How a command is recorded, and how its refusal is turned into JSON and back.
struct Recording<R> {
    record: CommandRecord,
    encode: fn(&R) -> Result<Json>,
    decode: fn(&Json) -> Result<R>,
}

/// The result of an execution.
struct Settled<R> {
    outcome: Result<CommandOutcome, R>,
    appended: Option<Appended>,
    is_repeated: bool,
}

impl<'a, C: Command> Execute<'a, C> {
    pub(super) fn new(executor: &'a CommandExecutor, command: &'a C) -> Self {
        let scope = Scope::current().with_consistency(Consistency::Strong);
        Self { executor, command, scope, recording: None }
    }

    /// Records the command, whatever is decided, and returns the result of an earlier execution with the same id, if
    /// there is one: then nothing is decided, and the result, a refusal included, is the earlier one.
    ///
    /// The record is written with the events of the command, in one append. It costs one event in the log for each
    /// command. Reads of [any event](crate::Filter::any_event) return the records, too.
    ///
    /// ```
    /// # use mainstem::*;
    /// # struct Any(usize);
    /// # impl Projection for Any {
    /// #     fn filter(&self) -> Result<Filter> { Filter::matching().any_type_of(["Lent"]).finish() }
    /// #     fn apply(&mut self, _event: &Event) -> Result<()> { self.0 += 1; Ok(()) }
    /// # }
    /// # #[derive(serde::Serialize)]
    /// # struct Lend;
    /// # impl Command for Lend {
    /// #     type Model = Any;
    /// #     type Refusal = String;
    /// #     fn model(&self) -> Any { Any(0) }
    /// #     fn decide(&self, _model: &Any) -> Result<Decision<String>> { Ok(Decision::append([NewEvent::new("Lent", &())?])) }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<()> {
    /// # let executor = CommandExecutor::new(MemoryEventStore::new());
    /// // Twice, since the message was delivered twice.
    /// let record = CommandRecord::new("message-17", "Lend").with_data(&Lend)?;
    /// let first = executor.execute(&Lend).recorded(record.clone()).await.unwrap();
    /// let again = executor.execute(&Lend).recorded(record).await.unwrap();
    /// assert!(again.is_repeated);
    /// assert_eq!(first.appended.unwrap().positions(), again.appended.unwrap().positions());
    /// # Ok(())
    /// # }
    /// ```
    pub fn recorded(mut self, record: CommandRecord) -> Self
    where
        C::Refusal: Serialize + DeserializeOwned,
    {
        let context = self.scope.get::<EventContext>().cloned().unwrap_or_default();
        if context.message_id().is_none() {
            self.scope = self.scope.with_item(context.with_message_id(record.id()));
        }
        self.recording = Some(Recording { record, encode: Json::from_serialize, decode: |json| json.decode() });
        self
    }
}

/// The future borrows the executor and the command; to spawn it, move these into the task.
impl<'a, C: Command> IntoFuture for Execute<'a, C> {
    type Output = Result<Executed, CommandError<C::Refusal>>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        let (scope, span) = (self.scope.clone(), command_span::<C>());
        Box::pin(scope.run(Box::pin(self.run(span.clone())).instrument(span)))
    }
}

impl<C: Command> Execute<'_, C> {
    async fn run(self, span: Span) -> Result<Executed, CommandError<C::Refusal>> {
        let mut call_span = CommandSpan::begin::<C>(&self.executor.retries, span);
        let settled = self.settle(&mut call_span.retry).await;
        let told = match &settled {
            Ok(Settled { outcome: Ok(CommandOutcome::Decided), .. }) => Outcome::Succeeded,
            Ok(Settled { outcome: Ok(CommandOutcome::Nothing), .. }) => Outcome::Nothing,
            Ok(Settled { outcome: Err(_), .. }) => Outcome::Refused,
            Err(error) => error.into(),
        };
        let attempts = call_span.end(told, settled.as_ref().err(), settled.as_ref().is_ok_and(|it| it.is_repeated));
        match settled {
            Ok(Settled { outcome, appended, is_repeated }) => match outcome {
                Ok(outcome) => Ok(Executed { outcome, appended, is_repeated, attempts }),
                Err(reason) => Err(CommandError::Refused { reason, appended, is_repeated, attempts }),
            },
            Err(error) => Err(CommandError::GaveUp { error, attempts }),
        }
    }

    async fn settle(&self, retry: &mut RetryState) -> Result<Settled<C::Refusal>> {
        let _place = self.executor.commands.enter()?;
        let mut level = self.executor.first_read.clone();
        loop {
            let read = match self.read(&level).await {
                Ok(read) => read,
                Err(error) if error.may_pass() => {
                    retry.wait(error).await?;
                    level = Consistency::Strong;
                    continue;
                }
                // A replica's past is no reason to fail either.
                Err(error) if level != Consistency::Strong => {
                    retry.confirm(&error);
                    level = Consistency::Strong;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let (condition, node, token) = (read.unchanged(), read.node().to_owned(), read.token().clone());
            let (model, first) = read.into_state();
            if let (Some(recording), Some(found)) = (&self.recording, first.and_then(First::into_found)) {
                // A replica may show what a failover has lost.
                if level == Consistency::Strong {
                    return recording.result(&found, &node, token);
                }
                retry.attempts.confirmations += 1;
                level = Consistency::Strong;
                continue;
            }
            retry.attempts.decisions += 1;
            let decided = self.command.decide(&model);
            drop(model);
            let decided = decided.and_then(|decision| Ok((self.events(&decision)?, decision)));
            let (events, decision) = match decided {
                Ok(decided) => decided,
                Err(error) if level != Consistency::Strong => {
                    retry.confirm(&error);
                    level = Consistency::Strong;
                    continue;
                }
                Err(error) => return Err(error),
            };
            if events.is_empty() {
                // No append will check it, and a replica's past is no reason to refuse anything.
                if level == Consistency::Strong {
                    return Ok(Settled::of(decision, None));
                }
                retry.attempts.confirmations += 1;
            } else if let Some(appended) = self.append(&events, &condition, &level, retry).await? {
                return Ok(Settled::of(decision, Some(appended)));
            }
            level = Consistency::Strong;
        }
    }

    /// Reads, in one query, the model and whether the command was executed before.
    async fn read(&self, level: &Consistency) -> Result<ModelState<(C::Model, Option<First>)>> {
        let first = self.recording.as_ref().map(|recording| First::of(recording.record.id())).transpose()?;
        let query = (self.command.model(), first).read_from(&self.executor.store).consistency(level.clone());
        let query = query.called(std::any::type_name::<C::Model>());
        match self.executor.call_timeout {
            Some(limit) => query.timeout(limit).await,
            None => query.await,
        }
    }

    /// What to append: the events, followed by the record.
    fn events(&self, decision: &Decision<C::Refusal>) -> Result<Vec<NewEvent>> {
        let mut events = decision.events.clone();
        if let Some(Recording { record, encode, .. }) = &self.recording {
            events.push(record.event(decision, decision.refusal.as_ref().map(encode).transpose()?)?);
        }
        Ok(events)
    }

    /// Appends until it is known whether the events are written; `None` if the decision must be made again.
    async fn append(
        &self,
        events: &[NewEvent],
        condition: &AppendCondition,
        level: &Consistency,
        retry: &mut RetryState,
    ) -> Result<Option<Appended>> {
        let mut is_unknown = false;
        loop {
            let append = self.executor.store.append(events.to_vec(), condition.clone());
            let appended = match self.executor.call_timeout {
                Some(limit) => append.timeout(limit).await,
                None => append.await,
            };
            let error = match appended {
                Ok(appended) => return Ok(Some(appended)),
                Err(error) => error,
            };
            match error.kind() {
                // Ids are checked first: what an unanswered attempt has written would have been found.
                ErrorKind::Conflict | ErrorKind::LogDiverged => {
                    retry.attempts.conflicts += 1;
                    retry.wait(error).await?;
                    return Ok(None);
                }
                // Events that were made of a replica's past.
                ErrorKind::InvalidInput if *level != Consistency::Strong && !is_unknown => {
                    retry.confirm(&error);
                    return Ok(None);
                }
                ErrorKind::InvalidInput => return Err(error),
                _ => {}
            }
            is_unknown |= error.is_outcome_unknown();
            if !error.may_pass() {
                return Err(if is_unknown { super::retry_state::unknown(error) } else { error });
            }
            retry.attempts.repeats += 1;
            retry.wait_for_append(error, is_unknown).await?;
        }
    }
}

impl<R> Settled<R> {
    fn of(decision: Decision<R>, appended: Option<Appended>) -> Self {
        let outcome = match decision {
            Decision { refusal: Some(reason), .. } => Err(reason),
            Decision { events, .. } if events.is_empty() => Ok(CommandOutcome::Nothing),
            Decision { .. } => Ok(CommandOutcome::Decided),
        };
        Self { outcome, appended, is_repeated: false }
    }
}

impl<R> Recording<R> {
    /// Returns the result of the first execution.
    fn result(&self, found: &RecordedCommand, node: &str, token: Token) -> Result<Settled<R>> {
        self.record.check(found)?;
        // What is stored as `null` is read as nothing.
        let null = Json::from_stored("null");
        let outcome = match found.outcome() {
            Some(outcome) => Ok(outcome),
            None => Err((self.decode)(found.refusal().unwrap_or(&null))?),
        };
        let appended = Appended::found(found.positions().start, found.mark(), node, token);
        Ok(Settled { outcome, appended: Some(appended), is_repeated: true })
    }
}

impl<C: Command + fmt::Debug> fmt::Debug for Execute<'_, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Execute").field("command", &self.command).finish_non_exhaustive()
    }
}
