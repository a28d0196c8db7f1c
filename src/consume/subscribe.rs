//! Following the log of any store: the calls.

use std::{sync::Arc, time::Duration};

use super::{Fetch, Start, Subscription, reading::Plan};
use crate::{Consistency, EventStore, Filter};

/// Following a log: for every event store that can be cloned, an `Arc<dyn EventStore>` included.
pub trait Subscribe: EventStore + Clone + Sized + 'static {
    /// The events that match, those that are there and those that come: see [`Subscription`].
    ///
    /// It reads from replicas, whatever the scope says, unless [`consistency`](SubscriptionBuilder::consistency) says
    /// otherwise: a subscription outlives the scope that it is made in.
    fn subscribe(&self, filter: &Filter) -> SubscriptionBuilder {
        SubscriptionBuilder { plan: Plan::new(self, filter), start: Start::Beginning }
    }

    /// The next events that match, as many as there are now: see [`Fetch`]. Where to read is the scope's matter, which is read
    /// when this method is called.
    fn fetch(&self, filter: &Filter, start: impl Into<Start>) -> Fetch {
        Fetch::new(Arc::new(self.clone()), filter.clone(), start.into())
    }
}

impl<E: EventStore + Clone + 'static> Subscribe for E {}

/// The settings of a [`Subscription`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it builds"]
pub struct SubscriptionBuilder {
    plan: Plan,
    start: Start,
}

impl SubscriptionBuilder {
    /// The most events of a batch, unless [`batch_events`](Self::batch_events) says otherwise: 1000.
    pub const DEFAULT_BATCH_EVENTS: u64 = Plan::BATCH_EVENTS;

    /// The most bytes of a batch, unless [`batch_bytes`](Self::batch_bytes) says otherwise: 4 MiB.
    pub const DEFAULT_BATCH_BYTES: usize = Plan::BATCH_BYTES;

    /// Where it begins. Defaults to the [beginning](Start::Beginning) of the log.
    pub fn start(mut self, start: impl Into<Start>) -> Self {
        self.start = start.into();
        self
    }

    /// Where it reads. Defaults to [`Eventual`](Consistency::Eventual): from replicas, which are some milliseconds behind.
    pub fn consistency(mut self, consistency: Consistency) -> Self {
        self.plan.consistency = consistency;
        self
    }

    /// The most events of a batch, and of a read. Defaults to 1000; 0 counts as 1. Of large events there are fewer:
    /// [`batch_bytes`](Self::batch_bytes).
    ///
    /// Two batches are held at most. Larger, and that is more memory, and the first events of a batch wait for the last ones;
    /// smaller, and more time goes into round trips.
    pub fn batch_events(mut self, events: u64) -> Self {
        self.plan.batch_events = events.max(1);
        self
    }

    /// The most bytes of the events of a batch ([`Event::byte_len`](crate::Event::byte_len)). Defaults to 4 MiB; an event that alone
    /// has more is a batch of its own.
    ///
    /// Two batches are held at most, and an event more while one is read. Larger, and that is more memory of each subscription of a
    /// log with large events; smaller, and more time goes into round trips. Batches begin with fewer events and have more as these
    /// turn out to be small; and fewer again behind a read that did not come in [time](Self::timeout).
    pub fn batch_bytes(mut self, bytes: usize) -> Self {
        self.plan.batch_bytes = bytes.max(1);
        self
    }

    /// The limit of each read. Defaults to the store's own, which in PostgreSQL is the router's
    /// [`call_timeout`](crate::RouterBuilder::call_timeout). Waiting for events to come has no limit.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.plan.timeout = Some(limit);
        self
    }

    /// The subscription. Nothing is read before it is asked for an event.
    pub fn build(self) -> Subscription {
        Subscription::new(self.plan, self.start)
    }
}
