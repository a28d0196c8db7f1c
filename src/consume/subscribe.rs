//! The calls that follow the log of any store.

use std::{sync::Arc, time::Duration};

use super::{Fetch, Start, Subscription, reading::Plan};
use crate::{Consistency, EventStore, Filter};

/// Follows a log: implemented for every event store that can be cloned, including `Arc<dyn EventStore>`.
pub trait Subscribe: EventStore + Clone + Sized + 'static {
    /// Subscribes to the existing and future events that match: see [`Subscription`].
    ///
    /// It reads from replicas regardless of the scope, unless [`consistency`](SubscriptionBuilder::consistency) says
    /// otherwise: a subscription outlives the scope in which it is created.
    fn subscribe(&self, filter: &Filter) -> SubscriptionBuilder {
        SubscriptionBuilder { plan: Plan::new(self, filter), start: Start::Beginning }
    }

    /// Reads the next events that match and already exist: see [`Fetch`]. The scope decides where to read; it is read
    /// when this method is called.
    fn fetch(&self, filter: &Filter, start: impl Into<Start>) -> Fetch {
        Fetch::new(Arc::new(self.clone()), filter.clone(), start.into())
    }
}

impl<E: EventStore + Clone + 'static> Subscribe for E {}

/// Collects the settings of a [`Subscription`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it builds"]
pub struct SubscriptionBuilder {
    plan: Plan,
    start: Start,
}

impl SubscriptionBuilder {
    /// The default of [`batch_events`](Self::batch_events), the most events of a batch: 1000.
    pub const DEFAULT_BATCH_EVENTS: u64 = Plan::BATCH_EVENTS;

    /// The default of [`batch_bytes`](Self::batch_bytes), the most bytes of a batch: 4 MiB.
    pub const DEFAULT_BATCH_BYTES: usize = Plan::BATCH_BYTES;

    /// Sets where the subscription begins. Defaults to the [beginning](Start::Beginning) of the log.
    pub fn start_at(mut self, start: impl Into<Start>) -> Self {
        self.start = start.into();
        self
    }

    /// Sets where it reads. Defaults to [`Eventual`](Consistency::Eventual): from replicas, which lag by some
    /// milliseconds.
    pub fn consistency(mut self, consistency: Consistency) -> Self {
        self.plan.consistency = consistency;
        self
    }

    /// Limits the events of a batch, and of a read. Defaults to 1000; 0 counts as 1. Batches of large events have
    /// fewer: see [`batch_bytes`](Self::batch_bytes).
    ///
    /// At most two batches are held in memory. Larger, and they need more memory, and the first events of a batch wait
    /// for the last ones; smaller, and round trips take more of the time.
    pub fn batch_events(mut self, events: u64) -> Self {
        self.plan.batch_events = events.max(1);
        self
    }

    /// Limits the bytes of the events of a batch ([`Event::byte_len`](crate::Event::byte_len)). Defaults to 4 MiB; a
    /// single larger event is a batch of its own.
    ///
    /// At most two batches are held in memory, plus one event while another batch is read. Larger, and each
    /// subscription to a log with large events needs more memory; smaller, and round trips take more of the time.
    /// Batches begin with few events and grow if these turn out to be small. They shrink again after a read that did
    /// not arrive in [time](Self::timeout).
    pub fn batch_bytes(mut self, bytes: usize) -> Self {
        self.plan.batch_bytes = bytes.max(1);
        self
    }

    /// Limits each read. Defaults to the store's own limit, which in PostgreSQL is the router's
    /// [`call_timeout`](crate::RouterBuilder::call_timeout). Waiting for new events has no limit.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.plan.timeout = Some(limit);
        self
    }

    /// Creates the subscription. Nothing is read before the first event is requested.
    pub fn build(self) -> Subscription {
        Subscription::new(self.plan, self.start)
    }
}
