//! The executor of commands.

use std::{sync::Arc, time::Duration};

use super::{
    Command, DecisionModel, Execute, ModelQuery, RecordedCommand, limit::Limit, record::First, retry_state::Retries,
};
use crate::{Consistency, EventStore, Result};

const MOST_COMMANDS: usize = 256;

const MOST_READS: usize = 256;

const COMMANDS: [&str; 2] = ["commands", "max_concurrent_commands"];
const READS: [&str; 2] = ["reads of models", "max_concurrent_reads"];

/// Executes commands: reads the model, decides, appends the decision if nothing has changed, and starts again if
/// something has.
///
/// ```
/// use mainstem::{Command, CommandExecutor, Decision, Event, Filter, MemoryEventStore, NewEvent, Projection, Result};
///
/// struct Name {
///     name: String,
///     taken: bool,
/// }
///
/// impl Projection for Name {
///     fn filter(&self) -> Result<Filter> {
///         Filter::matching().all_tags_of([format!("name:{}", self.name)]).finish()
///     }
///
///     fn apply(&mut self, _event: &Event) -> Result<()> {
///         self.taken = true;
///         Ok(())
///     }
/// }
///
/// struct TakeName(String);
///
/// impl Command for TakeName {
///     type Model = Name;
///     type Refusal = &'static str;
///
///     fn model(&self) -> Name {
///         Name { name: self.0.clone(), taken: false }
///     }
///
///     fn decide(&self, name: &Name) -> Result<Decision<&'static str>> {
///         if name.taken {
///             return Ok(Decision::refuse("the name is taken"));
///         }
///         Ok(Decision::append([NewEvent::new("NameTaken", &self.0)?.with_tag(format!("name:{}", self.0))]))
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let executor = CommandExecutor::new(MemoryEventStore::new());
/// let executed = executor.execute(&TakeName("ada".into())).await.unwrap();
/// assert_eq!(executed.attempts.decisions, 1);
/// let error = executor.execute(&TakeName("ada".into())).await.unwrap_err();
/// assert_eq!(error.refusal(), Some(&"the name is taken"));
/// # }
/// ```
///
/// It reads in a strong scope of its own, whatever level the surrounding scope has; the items of that scope stay.
/// Cloning is cheap. Clones share the limits on work in flight, until one of them is given another limit.
#[derive(Clone, Debug)]
pub struct CommandExecutor {
    pub(super) store: Arc<dyn EventStore>,
    pub(super) retries: Retries,
    pub(super) first_read: Consistency,
    pub(super) call_timeout: Option<Duration>,
    pub(super) commands: Limit,
    reads: Limit,
}

impl CommandExecutor {
    /// Creates an executor on a store. To share a store that is used elsewhere, pass an `Arc` or a clone.
    #[must_use]
    pub fn new(store: impl EventStore + 'static) -> Self {
        Self {
            store: Arc::new(store),
            retries: Retries::default(),
            first_read: Consistency::Strong,
            call_timeout: None,
            commands: Limit::new(COMMANDS, MOST_COMMANDS),
            reads: Limit::new(READS, MOST_READS),
        }
    }

    /// Sets how often a command is attempted, including the first attempt. Defaults to 10; 0 counts as 1.
    ///
    /// An attempt ends with a conflict, or with an error that is [retryable](crate::Error::is_retryable) or of unknown
    /// outcome. If the number is too low, commands fail under contention that would have succeeded; if it is too high,
    /// commands that keep losing only wait longer.
    #[must_use]
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.retries.max_attempts = attempts.max(1);
        self
    }

    /// Sets the delay after the first attempt. Defaults to 5 milliseconds, about the time of an append.
    ///
    /// The delay doubles with every further attempt, up to [`max_delay`](Self::max_delay), and a random part of up to
    /// the same length is added: without it, commands that collided would collide again. Zero retries at once, which
    /// makes contention worse.
    #[must_use]
    pub fn base_delay(mut self, delay: Duration) -> Self {
        self.retries.base_delay = delay;
        self
    }

    /// Sets the longest delay between two attempts, excluding its random part. Defaults to 500 milliseconds.
    #[must_use]
    pub fn max_delay(mut self, delay: Duration) -> Self {
        self.retries.max_delay = delay;
        self
    }

    /// Sets the time limit of a command. Defaults to 30 seconds.
    ///
    /// No delay extends beyond it, so a command ends at the latest with the call that started before the limit; each
    /// [call](Self::call_timeout) has its own limit. If it is too short, it ends commands while their primary is being
    /// replaced.
    #[must_use]
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.retries.limit = limit;
        self
    }

    /// Sets the limit of each read and each append. Defaults to the store's own, which in PostgreSQL is the router's
    /// [`call_timeout`](crate::RouterBuilder::call_timeout).
    #[must_use]
    pub fn call_timeout(mut self, limit: Duration) -> Self {
        self.call_timeout = Some(limit);
        self
    }

    /// Sets how fresh the first read of a command must be. Defaults to [`Consistency::Strong`]: the primary serves it.
    ///
    /// With [`Eventual`](Consistency::Eventual), replicas serve the first reads, and the primary only those after a
    /// conflict. That is safe: the primary checks the append, from where the replica's log ended. A decision that
    /// writes nothing is checked by no append, so it is made again on the primary before it counts (see
    /// [`Attempts::confirmations`](crate::Attempts::confirmations)). This takes load off the primary where commands
    /// mostly succeed and rarely collide, and adds reads to it where they are mostly refused or collide within the
    /// replica's lag.
    #[must_use]
    pub fn first_read(mut self, consistency: Consistency) -> Self {
        self.first_read = consistency;
        self
    }

    /// Sets how many commands may be in flight at the same time. Defaults to 256; 0 counts as 1.
    ///
    /// One more fails at once with [`Overloaded`](crate::ErrorKind::Overloaded), before anything is read. Without such
    /// a limit, all of them wait for connections, and all of them too long. A limit far above the number of the
    /// router's connections is of no use.
    #[must_use]
    pub fn max_concurrent_commands(mut self, most: usize) -> Self {
        self.commands = Limit::new(COMMANDS, most);
        self
    }

    /// Sets how many [reads of models](Self::read) may be in flight at the same time. Defaults to 256; 0 counts as 1.
    /// Everything else is as for [`max_concurrent_commands`](Self::max_concurrent_commands).
    #[must_use]
    pub fn max_concurrent_reads(mut self, most: usize) -> Self {
        self.reads = Limit::new(READS, most);
        self
    }

    /// Executes a command. Await the returned value; see [`Execute`].
    ///
    /// The scope is read when this method is called.
    pub fn execute<'a, C: Command>(&'a self, command: &'a C) -> Execute<'a, C> {
        Execute::new(self, command)
    }

    /// Reads a model without a command, at the level of the scope. Await the returned value; see [`ModelQuery`]. Beyond
    /// [the limit](Self::max_concurrent_reads), it fails at once with [`Overloaded`](crate::ErrorKind::Overloaded).
    ///
    /// The scope is read when this method is called.
    pub fn read<M: DecisionModel>(&self, model: M) -> ModelQuery<'_, M> {
        let query = model.read_from(&self.store).limited(self.reads.clone());
        match self.call_timeout {
            Some(limit) => query.timeout(limit),
            None => query,
        }
    }

    /// Returns the [record](crate::CommandRecord) of the command with this id, if there is one, at the level of the
    /// scope.
    ///
    /// The scope is read when this method is called.
    ///
    /// # Errors
    ///
    /// As [`Query`](crate::Query), and [`InvalidInput`](crate::ErrorKind::InvalidInput) for an id that no command can
    /// have.
    ///
    /// # Cancel safety
    ///
    /// Dropping it has no effect on the log.
    pub fn find_command(&self, id: &str) -> impl Future<Output = Result<Option<RecordedCommand>>> + Send + use<'_> {
        let query = First::of(id).map(|first| self.read(first));
        async { Ok(query?.await?.into_state().into_found()) }
    }

    /// Returns the store.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn EventStore> {
        &self.store
    }
}
