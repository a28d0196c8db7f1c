//! Starting, watching and stopping many read models.

use std::{fmt, time::Duration};

use tokio::{sync::watch, task::JoinHandle};

use super::{PoisonPolicy, ReadModel, ReadModelProgress, ReadModelState, catching_up::CatchingUp, work::Work};
use crate::{
    Awaited, Consistency, ConsumerBuilder, Error, PostgresEventStore, Result, StopHandle, WaitUntilHandled,
    json::quoted, runtime,
};

/// Read models that this process keeps, a task for each.
///
/// Start the same ones in several processes: of each read model one works, and another one takes over when it dies.
///
/// ```no_run
/// # use std::time::Duration;
/// # use mainstem::{Event, PostgresEventStore, ReadModels, ReadModel};
/// # async fn run(store: PostgresEventStore, shelf: impl ReadModel, readers: impl ReadModel) -> mainstem::Result<()> {
/// let read_models = ReadModels::builder(&store).with(shelf)?.with(readers)?.start();
/// // At the first start they are built from all events. An application may wait for that, and show how far it is.
/// read_models
///     .caught_up(Duration::from_secs(600), |all| {
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
/// read_models.handled("shelf", appended.last()).await?;
///
/// read_models.stop().await;
/// # Ok(())
/// # }
/// ```
///
/// # Rebuilding
///
/// [`ConsumerControl::reset`](crate::ConsumerControl::reset) to the beginning builds a model anew:
/// it is [cleared](ReadModel::clear) in the transaction of its first batch.
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
    /// None where there is no runtime.
    task: Option<JoinHandle<()>>,
}

/// The settings of [`ReadModels`].
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

/// Starts one, whose type is forgotten.
type Start = Box<dyn FnOnce(ConsumerBuilder, PoisonPolicy) -> Result<Running> + Send>;

impl ReadModels {
    /// A builder with every setting at its default, and no read model yet.
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

    /// How far each of them is, in the order in which they were added.
    #[must_use]
    pub fn progress(&self) -> Vec<ReadModelProgress> {
        self.running.iter().map(|running| running.progress.borrow().clone()).collect()
    }

    /// Waits until all of them have what was in the log when this was called, in whatever process they work, as their
    /// checkpoints on the primary say, and shows how far they are a few times a second, or more often.
    ///
    /// # Errors
    ///
    /// [`Timeout`](crate::ErrorKind::Timeout) when the limit runs out first. The error that has ended one of them, if one was ended by it.
    /// A read model that another process has stays [waiting](ReadModelState::Waiting) here. An error of the database is borne
    /// until the limit, and is then the source of the timeout's, unless a person has to do something about it
    /// ([`Schema`](crate::ErrorKind::Schema), [`Configuration`](crate::ErrorKind::Configuration)).
    ///
    /// # Cancel safety
    ///
    /// They run on.
    pub async fn caught_up(&self, limit: Duration, show: impl FnMut(&[ReadModelProgress])) -> Result<()> {
        let changes = self.running.iter().map(|running| running.progress.clone()).collect();
        CatchingUp::new(&self.store, changes, limit).run(show).await
    }

    /// Waits until a read model has handled this event, or all that a [`Token`](crate::Token) speaks of, in whatever process it runs: see [`WaitUntilHandled`].
    ///
    /// One of these that has only just been started need not be there yet: it is waited for as well.
    pub fn handled(&self, name: &str, awaited: impl Into<Awaited>) -> WaitUntilHandled {
        let is_started = self.running.iter().any(|running| running.name == name);
        self.store.consumer_control(name).handled(awaited).started(is_started)
    }

    /// Lets each of them finish the batch that it is at, and waits for that.
    ///
    /// # Cancel safety
    ///
    /// Dropped, they end at once: what is in their transactions is rolled back.
    pub async fn stop(mut self) {
        self.running.iter().for_each(|running| running.stop.stop());
        for task in self.running.iter_mut().filter_map(|running| running.task.as_mut()) {
            // A panic of a model has been told already.
            let _ = task.await;
        }
    }
}

impl ReadModelsBuilder {
    /// The most events of a transaction, unless [`batch_events`](Self::batch_events) says otherwise: 200.
    pub const DEFAULT_BATCH_EVENTS: u64 = 200;

    /// The most bytes of a transaction's events, unless [`batch_bytes`](Self::batch_bytes) says otherwise: 4 MiB.
    pub const DEFAULT_BATCH_BYTES: usize = crate::SubscriptionBuilder::DEFAULT_BATCH_BYTES;

    /// Adds one.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) when its name is taken by another one, and what its filter says.
    pub fn with<M: ReadModel>(mut self, model: M) -> Result<Self> {
        let (name, filter) = (model.name(), model.filter()?);
        if self.starts.iter().any(|(other, _)| *other == name) {
            return Err(Error::invalid_input(format!("two read models have the name {}", quoted(&name))));
        }
        // The name is checked here, and not when they start.
        drop(self.store.consumer(&*name, &filter).build()?);
        let for_start = name.clone();
        let start = move |consumer: ConsumerBuilder, policy| {
            let consumer = consumer.for_filter(filter).build()?;
            let (tell, progress) = watch::channel(ReadModelProgress::new(for_start.clone()));
            let stop = consumer.stop_handle();
            let task = match runtime::current() {
                Ok(runtime) => Some(runtime.spawn(Work::new(model, consumer, policy, tell).run())),
                Err(error) => {
                    tell.send_modify(|progress| {
                        (progress.state, progress.error) = (ReadModelState::Failed, Some(error))
                    });
                    None
                }
            };
            Ok(Running { name: for_start, progress, stop, task })
        };
        self.starts.push((name, Box::new(start)));
        Ok(self)
    }

    /// What is done about an event that a model cannot apply. Defaults to [`PoisonPolicy::stop`].
    pub fn poison_policy(mut self, policy: PoisonPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// See [`ConsumerBuilder::takeover`].
    pub fn takeover(mut self, limit: Duration) -> Self {
        self.takeover = Some(limit);
        self
    }

    /// Where events are read. Defaults to [`Eventual`](Consistency::Eventual): from replicas. The models are on the primary.
    pub fn consistency(mut self, consistency: Consistency) -> Self {
        self.consistency = consistency;
        self
    }

    /// The most events of a batch, which is one transaction. Defaults to 200.
    ///
    /// Larger, and fewer commits share the same work, but an event that cannot be applied takes more back with it; smaller,
    /// and building a model takes longer.
    pub fn batch_events(mut self, events: u64) -> Self {
        self.batch_events = events;
        self
    }

    /// The most bytes of a batch, of each read model. Defaults to 4 MiB; see
    /// [`SubscriptionBuilder::batch_bytes`](crate::SubscriptionBuilder::batch_bytes).
    pub fn batch_bytes(mut self, bytes: usize) -> Self {
        self.batch_bytes = bytes;
        self
    }

    /// Starts them, each in a task of its own. Outside of a tokio runtime there are no tasks: each has
    /// [failed](crate::ReadModelState::Failed) then, with an error that says so.
    pub fn start(self) -> ReadModels {
        let Self { store, policy, takeover, consistency, batch_events, batch_bytes, starts } = self;
        let mut running = Vec::with_capacity(starts.len());
        for (name, start) in starts {
            let mut consumer = store.consumer(name, &crate::Filter::any_event());
            consumer = consumer.consistency(consistency.clone()).batch_events(batch_events).batch_bytes(batch_bytes);
            if let Some(limit) = takeover {
                consumer = consumer.takeover(limit);
            }
            // Checked when it was added.
            running.extend(start(consumer, policy));
        }
        ReadModels { store, running }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.iter().for_each(JoinHandle::abort);
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
