//! Starting, watching and stopping many read models.

use std::{fmt, time::Duration};

use tokio::{runtime::Handle, sync::watch, task::JoinHandle};

use super::{PoisonPolicy, ReadModel, ReadModelProgress, catching_up::CatchingUp, work::Work};
use crate::{
    Awaited, Consistency, ConsumerBuilder, Error, PostgresEventStore, Result, StopHandle, WaitUntilHandled,
    json::quoted, runtime,
};

/// Runs the read models of this process, each in its own task.
///
/// Start the same read models in several processes: for each of them one process works, and another takes over if it
/// dies.
///
/// ```no_run
/// # use std::time::Duration;
/// # use mainstem::{Event, PostgresEventStore, ReadModels, ReadModel};
/// # async fn run(store: PostgresEventStore, shelf: impl ReadModel, readers: impl ReadModel) -> mainstem::Result<()> {
/// let read_models = ReadModels::builder(&store).with(shelf)?.with(readers)?.start()?;
/// // At the first start they are built from all events. An application may wait for that, and show how far it is.
/// read_models
///     .wait_until_caught_up(Duration::from_secs(600), |all| {
///         for one in all {
///             eprintln!("{}: {:.0} %", one.name, 100.0 * one.fraction());
///         }
///     })
///     .await?;
///
/// // A user sees what he has just written.
/// # let event = mainstem::NewEvent::new("A", &())?;
/// # use mainstem::{AppendCondition, EventStore};
/// let appended = store.append([event], AppendCondition::none()).await?;
/// read_models.wait_until_handled("shelf", appended.last()).await?;
///
/// read_models.stop().await;
/// # Ok(())
/// # }
/// ```
///
/// # Rebuilding
///
/// [`ConsumerControl::reset`](crate::ConsumerControl::reset) to the beginning rebuilds a model: it is
/// [cleared](ReadModel::clear) in the transaction of its first batch.
#[must_use = "dropped, the read models end"]
pub struct ReadModels {
    store: PostgresEventStore,
    running: Vec<Running>,
}

/// One of them.
struct Running {
    name: String,
    progress: watch::Receiver<ReadModelProgress>,
    stop: StopHandle,
    task: JoinHandle<()>,
}

/// Collects the settings of [`ReadModels`].
#[must_use = "nothing runs before it is started"]
pub struct ReadModelsBuilder {
    store: PostgresEventStore,
    policy: PoisonPolicy,
    takeover: Option<Duration>,
    consistency: Consistency,
    batch_events: u64,
    batch_bytes: usize,
    starts: Vec<(String, Start)>,
}

/// Starts a read model whose type is erased.
type Start = Box<dyn FnOnce(ConsumerBuilder, PoisonPolicy, &Handle) -> Result<Running> + Send>;

impl ReadModels {
    /// Returns a builder with every setting at its default, and no read model yet.
    pub fn builder(store: &PostgresEventStore) -> ReadModelsBuilder {
        ReadModelsBuilder {
            store: store.clone(),
            policy: PoisonPolicy::stop(),
            takeover: None,
            consistency: Consistency::Eventual,
            batch_events: ReadModelsBuilder::DEFAULT_BATCH_EVENTS,
            batch_bytes: ReadModelsBuilder::DEFAULT_BATCH_BYTES,
            starts: Vec::new(),
        }
    }

    /// Returns the progress of each, in the order in which they were added.
    #[must_use]
    pub fn progress(&self) -> Vec<ReadModelProgress> {
        self.running.iter().map(|running| running.progress.borrow().clone()).collect()
    }

    /// Waits until all of them contain what was in the log when this was called, whichever process runs them. It relies
    /// on their checkpoints on the primary, and passes the progress to `show` a few times a second, or more often.
    ///
    /// # Errors
    ///
    /// [`Timeout`](crate::ErrorKind::Timeout) if the limit expires first. If a read model was ended by an error, that
    /// error. A read model that another process runs stays [waiting](crate::ReadModelState::Waiting) here. An error of the
    /// database is tolerated until the limit, and is then the source of the timeout error, unless it needs human action
    /// ([`Schema`](crate::ErrorKind::Schema), [`Configuration`](crate::ErrorKind::Configuration)).
    ///
    /// # Cancel safety
    ///
    /// The read models continue to run.
    pub async fn wait_until_caught_up(&self, limit: Duration, show: impl FnMut(&[ReadModelProgress])) -> Result<()> {
        let changes = self.running.iter().map(|running| running.progress.clone()).collect();
        CatchingUp::new(&self.store, changes, limit).run(show).await
    }

    /// Waits until a read model has handled this event, or everything that a [`Token`](crate::Token) refers to,
    /// whichever process runs it: see [`WaitUntilHandled`].
    ///
    /// A read model of these that has only just been started need not exist in the database yet: that is waited for as
    /// well.
    pub fn wait_until_handled(&self, name: &str, awaited: impl Into<Awaited>) -> WaitUntilHandled {
        let is_started = self.running.iter().any(|running| running.name == name);
        self.store.consumer_control(name).wait_until_handled(awaited).started(is_started)
    }

    /// Lets each of them finish its current batch and release its place to other processes, and waits for that: for the
    /// release a second at most.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, they end at once: their open transactions are rolled back.
    pub async fn stop(mut self) {
        self.running.iter().for_each(|running| running.stop.stop());
        for running in &mut self.running {
            // A panic of a model has been reported already.
            let _ = (&mut running.task).await;
        }
    }
}

impl ReadModelsBuilder {
    /// The default of [`batch_events`](Self::batch_events), the most events of a transaction: 200.
    pub const DEFAULT_BATCH_EVENTS: u64 = 200;

    /// The default of [`batch_bytes`](Self::batch_bytes), the most bytes of a transaction's events: 4 MiB.
    pub const DEFAULT_BATCH_BYTES: usize = crate::SubscriptionBuilder::DEFAULT_BATCH_BYTES;

    /// Adds a read model.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) if another one already has its name, and any error of its
    /// filter.
    pub fn with<M: ReadModel>(mut self, model: M) -> Result<Self> {
        let (name, filter) = (model.name(), model.filter()?);
        if self.starts.iter().any(|(other, _)| *other == name) {
            return Err(Error::invalid_input(format!("two read models have the name {}", quoted(&name))));
        }
        // The name is checked here, not at the start.
        drop(self.store.consumer(&*name, &filter).build()?);
        let for_start = name.clone();
        let start = move |consumer: ConsumerBuilder, policy, runtime: &Handle| {
            let consumer = consumer.for_filter(filter).version(model.version());
            let consumer = if model.accepts_change() { consumer.accept_change() } else { consumer };
            let consumer = consumer.build()?;
            let (tell, progress) = watch::channel(ReadModelProgress::new(for_start.clone()));
            let stop = consumer.stop_handle();
            let task = runtime.spawn(Work::new(model, consumer, policy, tell).run());
            Ok(Running { name: for_start, progress, stop, task })
        };
        self.starts.push((name, Box::new(start)));
        Ok(self)
    }

    /// Sets what happens to an event that a model cannot apply. Defaults to [`PoisonPolicy::stop`].
    pub fn poison_policy(mut self, policy: PoisonPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Sets the takeover time; see [`ConsumerBuilder::takeover`].
    pub fn takeover(mut self, limit: Duration) -> Self {
        self.takeover = Some(limit);
        self
    }

    /// Sets where events are read. Defaults to [`Eventual`](Consistency::Eventual): from replicas. The models are on
    /// the primary.
    pub fn consistency(mut self, consistency: Consistency) -> Self {
        self.consistency = consistency;
        self
    }

    /// Limits the events of a batch, which is one transaction. Defaults to 200.
    ///
    /// Larger, and the same work needs fewer commits, but around an event that cannot be applied more is done twice;
    /// smaller, and building a model takes longer.
    pub fn batch_events(mut self, events: u64) -> Self {
        self.batch_events = events;
        self
    }

    /// Limits the bytes of a batch, for each read model. Defaults to 4 MiB; see
    /// [`SubscriptionBuilder::batch_bytes`](crate::SubscriptionBuilder::batch_bytes).
    pub fn batch_bytes(mut self, bytes: usize) -> Self {
        self.batch_bytes = bytes;
        self
    }

    /// Starts them, each in its own task.
    ///
    /// # Errors
    ///
    /// [`Configuration`](crate::ErrorKind::Configuration) outside of a tokio runtime, where there are no tasks.
    pub fn start(self) -> Result<ReadModels> {
        let Self { store, policy, takeover, consistency, batch_events, batch_bytes, starts } = self;
        let runtime = runtime::current()?;
        let mut running = Vec::with_capacity(starts.len());
        for (name, start) in starts {
            let mut consumer = store.consumer(name, &crate::Filter::any_event());
            consumer = consumer.consistency(consistency.clone()).batch_events(batch_events).batch_bytes(batch_bytes);
            if let Some(limit) = takeover {
                consumer = consumer.takeover(limit);
            }
            running.push(start(consumer, policy.clone(), &runtime)?);
        }
        Ok(ReadModels { store, running })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for ReadModels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.progress()).finish()
    }
}

impl fmt::Debug for ReadModelsBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.starts.iter().map(|(name, _)| name)).finish()
    }
}
