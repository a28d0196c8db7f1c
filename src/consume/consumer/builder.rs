//! The settings of a consumer.

use std::{borrow::Cow, time::Duration};

use super::{Consumer, partitions::Partitions};
use crate::{
    Consistency, Error, Event, EventId, Filter, PostgresEventStore, Result, Start,
    consume::reading::Plan,
    json::quoted,
    store::{Definition, Member},
};

/// The share of the takeover time for which a heartbeat keeps a member alive; the rest is for noticing its death.
const LEASE_SHARE: f64 = 0.6;

/// Collects the settings of a [`Consumer`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it builds"]
pub struct ConsumerBuilder {
    store: PostgresEventStore,
    name: String,
    plan: Plan,
    start: Start,
    partitions: Partitions,
    takeover: Duration,
    version: u32,
    accepts_change: bool,
}

impl PostgresEventStore {
    /// Builds a named consumer of the matching events: see [`Consumer`].
    ///
    /// It reads from replicas regardless of the scope, unless [`consistency`](ConsumerBuilder::consistency) says
    /// otherwise. Its checkpoints are on the primary.
    pub fn consumer(&self, name: impl Into<String>, filter: &Filter) -> ConsumerBuilder {
        ConsumerBuilder {
            store: self.clone(),
            name: name.into(),
            plan: Plan::new(self, filter),
            start: Start::Beginning,
            partitions: Partitions::one(),
            takeover: Duration::from_secs(5),
            version: 1,
            accepts_change: false,
        }
    }
}

impl ConsumerBuilder {
    /// The longest name of a consumer, in bytes.
    pub const MAX_NAME_LEN: usize = 255;

    /// Replaces the filter.
    pub(in crate::consume) fn for_filter(mut self, filter: Filter) -> Self {
        self.plan.filter = filter;
        self
    }

    /// Sets where the consumer begins when it runs for the first time; later it continues from its checkpoint.
    /// Defaults to the [beginning](Start::Beginning) of the log.
    pub fn start_at(mut self, start: impl Into<Start>) -> Self {
        self.start = start.into();
        self
    }

    /// Divides the events into partitions by a key, so that several members of the consumer share them, in one process
    /// or in many. Events with the same key are in the same partition and are handled in order. Events without a key
    /// are in the first partition.
    ///
    /// The number is permanent. It is also the maximum number of members that have work. Without this setting there is
    /// one partition: one member works, and the others wait to take over. Every member reads the log itself.
    ///
    /// ```no_run
    /// # fn run(store: mainstem::PostgresEventStore) {
    /// use mainstem::Filter;
    ///
    /// // By account: the tag that begins with it.
    /// let consumer = store
    ///     .consumer("statements", &Filter::any_event())
    ///     .partitions(16, |event| event.tags().find(|tag| tag.starts_with("account:")).map(Into::into))
    ///     .build();
    /// # }
    /// ```
    pub fn partitions(
        mut self,
        partitions: u32,
        key: impl Fn(&Event) -> Option<Cow<'_, str>> + Send + Sync + 'static,
    ) -> Self {
        self.partitions = Partitions::new(partitions, key);
        self
    }

    /// Sets the version of what handles the events. Defaults to 1.
    ///
    /// The checkpoint says how far somebody has got, with a filter and a version, which are stored with it. A member with
    /// others is refused, with [`Configuration`](crate::ErrorKind::Configuration): it would silently go on where it has
    /// not been. So raise the version when what you do with the events, or the key of the
    /// [partitions](Self::partitions), changes in such a way that the results so far are not what they should be. The
    /// filter needs no new version: it is compared by its [digest](Filter::digest), which does not depend on its spelling.
    pub fn version(mut self, version: u32) -> Self {
        self.version = version;
        self
    }

    /// Accepts that the consumer has had another filter, or a lower [version](Self::version), so far: its first claim
    /// stores those of this member, and goes on from the checkpoint.
    ///
    /// **Events before the checkpoint that only the new filter matches are not delivered.** That is right if there are
    /// none yet, or if they are of no interest. Otherwise give the consumer another name, or
    /// [reset](crate::ConsumerControl::reset) it.
    ///
    /// Members of the other kind are shut out: what they have not committed yet is refused
    /// ([`OwnershipLost`](crate::ErrorKind::OwnershipLost)), and then they end with
    /// [`Configuration`](crate::ErrorKind::Configuration). One that is started again later, and accepts changes itself,
    /// would take the consumer back, unless the version of this one is higher. So raise the version where old processes
    /// may come back, and remove this setting once all processes are new.
    pub fn accept_change(mut self) -> Self {
        self.accepts_change = true;
        self
    }

    /// Sets the time within which another member takes over the partitions of one that died. Defaults to five seconds;
    /// less than half a second counts as that.
    ///
    /// A member sends five heartbeats in this time. Shorter, and there are more writes on the primary, and a member
    /// that briefly cannot reach it loses its partitions; longer, and the events of a dead member wait.
    pub fn takeover(mut self, limit: Duration) -> Self {
        self.takeover = limit.max(Duration::from_millis(500));
        self
    }

    /// Sets where the consumer reads. Defaults to [`Eventual`](Consistency::Eventual): from replicas.
    pub fn consistency(mut self, consistency: Consistency) -> Self {
        self.plan.consistency = consistency;
        self
    }

    /// Limits the events of a batch; see
    /// [`SubscriptionBuilder::batch_events`](crate::SubscriptionBuilder::batch_events).
    pub fn batch_events(mut self, events: u64) -> Self {
        self.plan.batch_events = events.max(1);
        self
    }

    /// Limits the bytes of a batch; see [`SubscriptionBuilder::batch_bytes`](crate::SubscriptionBuilder::batch_bytes).
    pub fn batch_bytes(mut self, bytes: usize) -> Self {
        self.plan.batch_bytes = bytes.max(1);
        self
    }

    /// Limits each read and each write. Defaults to the router's [`call_timeout`](crate::RouterBuilder::call_timeout).
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.plan.timeout = Some(limit);
        self
    }

    /// Creates the consumer. Nothing is sent before the first batch is requested.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) if the name is empty, has more than [255
    /// bytes](Self::MAX_NAME_LEN), or contains a NUL character.
    pub fn build(self) -> Result<Consumer> {
        let Self { store, name, plan, start, partitions, takeover, version, accepts_change } = self;
        if name.is_empty() || name.len() > Self::MAX_NAME_LEN || name.contains('\0') {
            let name = quoted(&name);
            let message = format!("the name of the consumer, {name}, has not 1 to 255 bytes without a NUL character");
            return Err(Error::invalid_input(message));
        }
        let lease = takeover.mul_f64(LEASE_SHARE);
        let member = Member {
            consumer: name,
            id: EventId::new().into(),
            partitions: partitions.amount,
            definition: Definition { filter: plan.filter.digest(), version },
            accepts_change,
            lease,
        };
        Ok(Consumer::new(store, member, plan, start, partitions))
    }
}
