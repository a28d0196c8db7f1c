//! The pure core with what it lacks: a clock, a lock around its updates, and its counters.
//!
//! A call reads the newest table without a lock (`arc-swap`); only updates take one.

use std::{
    hash::{BuildHasher, RandomState},
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use tokio::sync::{Notify, watch};

use super::{
    Role, RouterStatus,
    core::{
        Asked, Budget, Cluster, Config, Decision, Exclusion, Live, MOST_NODES, NodeConfig, NodeSet, Observation,
        Outline, Reason, Route, STEP, Table, Want, Wish, Writer, mix,
    },
    freshness::floor::{Demand, Floor, Unplaceable},
    watch::{Watched, log_changes},
};
use crate::scope::Consistency;

mod handle;

pub(super) use self::handle::{InFlight, NodeHandle};

#[derive(Debug)]
pub(super) struct State {
    cluster: Mutex<Watchable>,
    table: ArcSwap<Table>,
    live: Live,
    standings: Box<[AtomicU64]>,
    /// Notified when a node should be probed at once.
    wished: Box<[Notify]>,
    /// The nodes, a bit each, that have not been probed yet.
    unasked: AtomicU64,
    /// The number of names that have not been resolved yet, so that nodes are missing.
    looking: AtomicUsize,
    /// Counts failed connects.
    failures: watch::Sender<u64>,
    /// The last of them has been probed.
    all_asked: Notify,
    epoch: Instant,
    random: AtomicU64,
    /// A place in the fallback budget is free, or a replica is back.
    changed: Notify,
    /// A replica has reported its place.
    replayed: Notify,
    watched: Watched,
    /// Whether watchers know that the fallback budget is exhausted.
    is_told_spent: AtomicBool,
}

/// The cluster, and what watchers know of it.
#[derive(Debug)]
struct Watchable {
    cluster: Cluster,
    outline: Outline,
    /// The last known primary.
    #[cfg(feature = "metrics")]
    last_primary: Option<usize>,
}

impl State {
    pub(super) fn new(config: Config, capacities: Vec<Option<u32>>, budget: Budget, unlisted: bool) -> Self {
        let seed = RandomState::new().hash_one(0_u8);
        // There is room for those that will be added.
        let standings: Box<[_]> = (0..MOST_NODES).map(|_| AtomicU64::new(encode(Role::Replica, 0))).collect();
        for (standing, node) in standings.iter().zip(&config.nodes) {
            standing.store(encode(node.role, 0), Ordering::Relaxed);
        }
        let wished = (0..MOST_NODES).map(|_| Notify::new()).collect();
        let capacities = capacities.into_iter().chain(std::iter::repeat(None)).take(MOST_NODES);
        let unasked = match config.probe_interval {
            Some(_) => u64::MAX.checked_shr(u64::BITS - config.nodes.len() as u32).unwrap_or(0),
            None => 0,
        };
        let cluster = Cluster::new(config, seed);
        let cluster = if unlisted { cluster.with_unlisted_replicas() } else { cluster };
        let live = Live::new(capacities, budget);
        let outline = cluster.outline(&live, nodes_of(unasked), Duration::ZERO);
        Self {
            table: ArcSwap::new(Arc::clone(cluster.table())),
            cluster: Mutex::new(Watchable {
                cluster,
                #[cfg(feature = "metrics")]
                last_primary: match outline.writer {
                    Writer::One(node) => Some(node),
                    _ => None,
                },
                outline,
            }),
            live,
            standings,
            wished,
            unasked: AtomicU64::new(unasked),
            looking: AtomicUsize::new(0),
            failures: watch::Sender::new(0),
            all_asked: Notify::new(),
            epoch: Instant::now(),
            random: AtomicU64::new(seed),
            changed: Notify::new(),
            replayed: Notify::new(),
            watched: Watched::new(),
            is_told_spent: AtomicBool::new(false),
        }
    }

    pub(super) fn choose(&self, want: Want, asked: impl Into<Asked>) -> Decision {
        let decision = self.table.load().choose(want, &self.live, asked, self.now(), self.random());
        // Only these decisions can result from an exhausted budget, and nothing else tells watchers that it is.
        if let Decision::WaitForBudget | Decision::Route(Route { reason: Reason::Lagging | Reason::OlderTimeline, .. }) =
            decision
            && !self.is_told_spent.load(Ordering::Relaxed)
        {
            self.notify_watchers(self.lock());
        }
        decision
    }

    /// What a floor requires now.
    pub(super) fn demand(&self, floor: &Floor, level: &Consistency) -> Result<Demand, Unplaceable> {
        floor.demand(level, &self.table.load())
    }

    /// Every node except the primary.
    pub(super) fn all_but_primary(&self) -> NodeSet {
        let writer = self.table.load().writer();
        (0..self.standings.len()).filter(|&node| writer != Writer::One(node)).collect()
    }

    /// The cluster's system identifier, once it has been reported.
    pub(super) fn system(&self) -> Option<u64> {
        self.table.load().system()
    }

    /// Waits until one of these replicas is known to satisfy `want`. Their places must be queried meanwhile.
    pub(super) async fn until_fresh(&self, nodes: NodeSet, want: Want, until: tokio::time::Instant) {
        loop {
            let replayed = self.replayed.notified();
            let mut replayed = std::pin::pin!(replayed);
            // Enabled now, so that nothing is missed between the check and the wait.
            replayed.as_mut().enable();
            let table = self.table.load_full();
            if nodes.into_iter().any(|node| table.is_fresh(node, want, self.now())) {
                return;
            }
            if tokio::time::timeout_at(until, replayed).await.is_err() {
                return;
            }
        }
    }

    /// Whether this replica will most probably prove what it is known to contain.
    pub(super) fn tells_timeline(&self, node: usize) -> bool {
        self.table.load().tells_timeline(node)
    }

    /// Whether this node is the primary only according to the settings, while others have reported a timeline.
    pub(super) fn is_untold_writer(&self, node: usize) -> bool {
        self.table.load().is_untold_writer(node)
    }

    /// Lets all nodes be probed at once.
    pub(super) fn probe_all(&self) {
        self.wished.iter().for_each(Notify::notify_one);
    }

    pub(super) fn exclusion(&self, node: usize, want: Want, tried: NodeSet) -> Option<Exclusion> {
        self.table.load().exclusion(node, want, tried, self.now())
    }

    pub(super) fn status(&self) -> RouterStatus {
        let is_starting = self.is_starting();
        let status = self.lock().cluster.status(&self.live, self.unasked(), self.now());
        RouterStatus { is_starting, ..status }
    }

    /// The name of a node, while it is there.
    #[cfg(feature = "metrics")]
    pub(super) fn name_of(&self, node: usize) -> Option<Arc<str>> {
        let watchable = self.lock();
        watchable.outline.nodes.iter().find(|there| there.index == node).map(|there| Arc::clone(&there.name))
    }

    pub(super) fn watched(&self) -> &Watched {
        &self.watched
    }

    pub(super) fn budget(&self) -> &Budget {
        self.live.budget()
    }

    /// Waits until each node has been probed once, with or without an answer. Without probing there is nothing to wait
    /// for.
    pub(super) async fn all_asked(&self) {
        while self.is_starting() {
            let mut asked = pin!(self.all_asked.notified());
            asked.as_mut().enable();
            if self.is_starting() {
                asked.await;
            }
        }
    }

    /// Whether nodes are still to be probed for the first time, or names to be resolved.
    pub(super) fn is_starting(&self) -> bool {
        self.unasked.load(Ordering::Acquire) != 0 || self.looking.load(Ordering::Acquire) != 0
    }

    /// This many names have to be resolved first.
    pub(super) fn will_look_up(&self, names: usize) {
        self.looking.store(names, Ordering::Release);
    }

    /// One of them was resolved for the first time, whatever the result; its nodes were added.
    pub(super) fn has_looked_up(&self) {
        if self.looking.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.all_asked.notify_waiters();
        }
        self.notify_watchers(self.lock());
    }

    /// Changes with each failed connect.
    pub(super) fn failures(&self) -> watch::Receiver<u64> {
        self.failures.subscribe()
    }

    /// Adds a replica with this many connections, if there is room for one. Calls wait for it like for those in the
    /// settings if it `is_first`.
    pub(super) fn add(self: &Arc<Self>, node: NodeConfig, capacity: u32, is_first: bool) -> Option<NodeHandle> {
        let mut watchable = self.lock();
        let index = watchable.cluster.add(node, self.now())?;
        if let Some(standing) = self.standings.get(index) {
            standing.store(encode(Role::Replica, 0), Ordering::Release);
        }
        self.live.node(index).start_anew(Some(capacity));
        if is_first {
            self.unasked.fetch_or(1_u64 << index, Ordering::AcqRel);
        }
        self.publish(watchable);
        Some(NodeHandle::new(Arc::clone(self), index))
    }

    /// Removes a node; see [`Cluster::remove`].
    pub(super) fn remove(&self, node: usize) -> bool {
        let mut watchable = self.lock();
        let has_gone = watchable.cluster.remove(node, self.now());
        self.publish(watchable);
        if has_gone {
            self.was_asked(node);
        }
        has_gone
    }

    /// All nodes that have not left.
    pub(super) fn there(&self) -> NodeSet {
        self.table.load().there()
    }

    fn was_asked(&self, node: usize) {
        let bit = 1_u64.checked_shl(node as u32).unwrap_or(0);
        if self.unasked.fetch_and(!bit, Ordering::AcqRel) == bit {
            self.all_asked.notify_waiters();
        }
        self.notify_watchers(self.lock());
    }

    /// The nodes that have not been probed yet.
    pub(super) fn unasked(&self) -> NodeSet {
        nodes_of(self.unasked.load(Ordering::Acquire))
    }

    /// Waits until another decision is possible.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    fn observe(&self, node: usize, observation: Observation) {
        let now = self.now();
        if matches!(observation, Observation::ConnectFailed(_)) {
            self.failures.send_modify(|failures| *failures = failures.wrapping_add(1));
        }
        let mut watchable = self.lock();
        watchable.cluster.observe(node, observation, now);
        self.publish(watchable);
    }

    /// Publishes the newest table, and carries out the core's requests.
    fn publish(&self, mut watchable: MutexGuard<'_, Watchable>) {
        let cluster = &mut watchable.cluster;
        // In order, and therefore under the lock.
        let before = self.table.swap(Arc::clone(cluster.table()));
        if cluster.table().has_more_than(&before) {
            self.replayed.notify_waiters();
        }
        while let Some(wish) = cluster.next_wish() {
            match wish {
                Wish::Drain { node, generation } => {
                    if let (Some(standing), Some(role)) = (self.standings.get(node), cluster.role(node)) {
                        standing.store(encode(role, generation), Ordering::Release);
                    }
                }
                Wish::Probe { node } => self.wished.get(node).into_iter().for_each(Notify::notify_one),
            }
        }
        self.notify_watchers(watchable);
        self.changed.notify_one();
    }

    /// Notifies watchers and the log, if there is anything to report.
    fn notify_watchers(&self, mut watchable: MutexGuard<'_, Watchable>) {
        let is_looking = self.looking.load(Ordering::Acquire) != 0;
        let outline = Outline { is_looking, ..watchable.cluster.outline(&self.live, self.unasked(), self.now()) };
        if outline == watchable.outline {
            return;
        }
        self.is_told_spent.store(outline.is_budget_spent, Ordering::Relaxed);
        let before = std::mem::replace(&mut watchable.outline, outline.clone());
        with_metrics! {
            // In between there may have been no primary.
            if let Writer::One(node) = outline.writer
                && watchable.last_primary.replace(node).is_some_and(|last| last != node)
                && let Some(first) = outline.nodes.first()
            {
                crate::telemetry::metrics::gauges::primary_changed(&first.name);
            }
        }
        drop(watchable);
        self.watched.notify();
        log_changes(&before, &outline);
    }

    fn lock(&self) -> MutexGuard<'_, Watchable> {
        self.cluster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    /// A shared counter: random enough to spread calls, without a lock.
    pub(super) fn random(&self) -> u64 {
        mix(self.random.fetch_add(STEP, Ordering::Relaxed))
    }
}

/// The nodes whose bits are set.
fn nodes_of(bits: u64) -> NodeSet {
    (0..MOST_NODES).filter(|node| bits >> node & 1 == 1).collect()
}

fn encode(role: Role, generation: u32) -> u64 {
    u64::from(generation) << 1 | u64::from(role == Role::Primary)
}

#[cfg(test)]
mod tests;
