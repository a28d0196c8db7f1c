//! The pure core with what it does not have: a clock, a lock around what is told to it, and counters of its own.
//!
//! A call reads the newest table without a lock (`arc-swap`); only news takes one.

use std::{
    hash::{BuildHasher, RandomState},
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use tokio::sync::Notify;

use super::{
    Role, RouterSnapshot,
    core::{
        Asked, Budget, Cluster, Config, ConnectFailure, Decision, Exclusion, Live, MOST_NODES, NodeLive, NodeSet,
        Observation, Report, STEP, Table, Want, Wish, Writer, mix,
    },
    floor::{Demand, Floor, Unplaceable},
};
use crate::{lsn::Lsn, scope::Consistency, token::Place};

#[derive(Debug)]
pub(super) struct State {
    cluster: Mutex<Cluster>,
    table: ArcSwap<Table>,
    live: Live,
    standings: Box<[AtomicU64]>,
    /// Told when a node is to be asked at once.
    wished: Box<[Notify]>,
    /// The nodes, a bit each, that nobody has asked yet how they are.
    unasked: AtomicU64,
    /// The last of them has been asked.
    all_asked: Notify,
    epoch: Instant,
    random: AtomicU64,
    /// A place in the budget of the fallback is free, or a replica is back.
    changed: Notify,
    /// A replica has told its place.
    replayed: Notify,
}

/// One node, as those see it who work for it.
#[derive(Clone, Debug)]
pub(super) struct NodeHandle {
    state: Arc<State>,
    index: usize,
}

/// A call that counts as one of its node until it is dropped.
#[derive(Debug)]
pub(super) struct InFlight {
    node: NodeHandle,
    is_fallback: bool,
}

impl State {
    pub(super) fn new(config: Config, capacities: Vec<Option<u32>>, budget: Budget) -> Self {
        let seed = RandomState::new().hash_one(0_u8);
        let standings = config.nodes.iter().map(|node| AtomicU64::new(encode(node.role, 0))).collect();
        let wished = config.nodes.iter().map(|_| Notify::new()).collect();
        let unasked = match config.probe_interval {
            Some(_) => u64::MAX.checked_shr(u64::BITS - config.nodes.len() as u32).unwrap_or(0),
            None => 0,
        };
        let cluster = Cluster::new(config, seed);
        Self {
            table: ArcSwap::new(Arc::clone(cluster.table())),
            cluster: Mutex::new(cluster),
            live: Live::new(capacities, budget),
            standings,
            wished,
            unasked: AtomicU64::new(unasked),
            all_asked: Notify::new(),
            epoch: Instant::now(),
            random: AtomicU64::new(seed),
            changed: Notify::new(),
            replayed: Notify::new(),
        }
    }

    pub(super) fn choose(&self, want: Want, asked: impl Into<Asked>) -> Decision {
        self.table.load().choose(want, &self.live, asked, self.now(), self.random())
    }

    /// What a floor comes to now.
    pub(super) fn demand(&self, floor: &Floor, level: &Consistency) -> Result<Demand, Unplaceable> {
        floor.demand(level, &self.table.load())
    }

    /// Every node but the one that takes writes.
    pub(super) fn all_but_primary(&self) -> NodeSet {
        let writer = self.table.load().writer();
        (0..self.standings.len()).filter(|&node| writer != Writer::One(node)).collect()
    }

    /// The cluster's system identifier, when somebody has told.
    pub(super) fn system(&self) -> Option<u64> {
        self.table.load().system()
    }

    /// Waits until one of these replicas is known to satisfy `want`. Their places must be asked for meanwhile.
    pub(super) async fn until_fresh(&self, nodes: NodeSet, want: Want, until: tokio::time::Instant) {
        loop {
            let told = self.replayed.notified();
            let mut told = std::pin::pin!(told);
            // From now on, so that nothing is missed between the look and the wait.
            told.as_mut().enable();
            let table = self.table.load_full();
            if nodes.into_iter().any(|node| table.is_fresh(node, want, self.now())) {
                return;
            }
            if tokio::time::timeout_at(until, told).await.is_err() {
                return;
            }
        }
    }

    /// Whether this replica most probably proves what it is known to have.
    pub(super) fn tells_timeline(&self, node: usize) -> bool {
        self.table.load().tells_timeline(node)
    }

    /// Has all nodes asked at once.
    pub(super) fn probe_all(&self) {
        self.wished.iter().for_each(Notify::notify_one);
    }

    pub(super) fn exclusion(&self, node: usize, want: Want, tried: NodeSet) -> Option<Exclusion> {
        self.table.load().exclusion(node, want, tried, self.now())
    }

    pub(super) fn snapshot(&self) -> RouterSnapshot {
        self.cluster().snapshot(&self.live, self.now())
    }

    pub(super) fn budget(&self) -> &Budget {
        self.live.budget()
    }

    /// Waits until each node has been asked once, and has told, or has not answered. Without probes nobody is asked.
    pub(super) async fn all_asked(&self) {
        while self.unasked.load(Ordering::Acquire) != 0 {
            let mut asked = pin!(self.all_asked.notified());
            asked.as_mut().enable();
            if self.unasked.load(Ordering::Acquire) != 0 {
                asked.await;
            }
        }
    }

    /// The nodes that have not been asked yet.
    pub(super) fn unasked(&self) -> NodeSet {
        let unasked = self.unasked.load(Ordering::Acquire);
        (0..MOST_NODES).filter(|node| unasked >> node & 1 == 1).collect()
    }

    /// Waits until another decision is possible.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    fn observe(&self, node: usize, observation: Observation) {
        let now = self.now();
        let mut cluster = self.cluster();
        cluster.observe(node, observation, now);
        // In order, so under the lock.
        self.table.store(Arc::clone(cluster.table()));
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
        drop(cluster);
        self.changed.notify_one();
    }

    fn cluster(&self) -> MutexGuard<'_, Cluster> {
        self.cluster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    /// A shared counter: enough to spread calls, and no lock.
    pub(super) fn random(&self) -> u64 {
        mix(self.random.fetch_add(STEP, Ordering::Relaxed))
    }
}

impl NodeHandle {
    pub(super) fn new(state: Arc<State>, index: usize) -> Self {
        Self { state, index }
    }

    /// Its place among the router's nodes.
    pub(super) fn index(&self) -> usize {
        self.index
    }

    /// The role that the node plays now, and how often it has become something else.
    pub(super) fn standing(&self) -> (Role, u32) {
        let standing = self.state.standings.get(self.index).map_or(0, |standing| standing.load(Ordering::Acquire));
        (if standing & 1 == 0 { Role::Replica } else { Role::Primary }, (standing >> 1) as u32)
    }

    /// Whether another node has replaced it as the primary, or nobody knows which one it is.
    pub(super) fn is_fenced(&self) -> bool {
        self.state.table.load().writer() != Writer::One(self.index)
    }

    /// The system identifier of its cluster.
    pub(super) fn system(&self) -> Option<u64> {
        self.state.system()
    }

    /// Whether it is still known to satisfy this level.
    pub(super) fn is_fresh(&self, want: Want) -> bool {
        self.state.table.load().is_fresh(self.index, want, self.now())
    }

    pub(super) fn now(&self) -> Duration {
        self.state.now()
    }

    pub(super) fn until_next_probe(&self) -> Duration {
        self.state.cluster().next_probe(self.index).saturating_sub(self.now())
    }

    /// Waits until it is to be asked at once.
    pub(super) async fn probe_wished(&self) {
        match self.state.wished.get(self.index) {
            Some(wished) => wished.notified().await,
            None => std::future::pending().await,
        }
    }

    /// Counts one more call.
    pub(super) fn enter(&self, is_fallback: bool) -> InFlight {
        self.state.live.node(self.index).enter();
        InFlight { node: self.clone(), is_fallback }
    }

    /// An answer came, to a call of a user's if it was measured.
    pub(super) fn answered(&self, latency: Option<Duration>) {
        let (now, live) = (self.state.now(), self.live());
        live.answered();
        if let Some(latency) = latency {
            live.measured(now, latency);
        }
        if self.state.table.load().is_answer_news(self.index, now) {
            self.state.observe(self.index, Observation::Answered);
        }
    }

    /// A call has got what it asked for.
    pub(super) fn served(&self) {
        self.live().served();
    }

    /// It has been asked how it is, whatever came of that.
    pub(super) fn was_asked(&self) {
        let bit = 1_u64.checked_shl(self.index as u32).unwrap_or(0);
        if self.state.unasked.fetch_and(!bit, Ordering::AcqRel) == bit {
            self.state.all_asked.notify_waiters();
        }
    }

    pub(super) fn call_failed(&self) {
        self.state.observe(self.index, Observation::CallFailed { served: self.live().calls_served() });
    }

    pub(super) fn connect_failed(&self, failure: ConnectFailure) {
        self.state.observe(self.index, Observation::ConnectFailed(failure));
    }

    pub(super) fn lost(&self) {
        self.state.observe(self.index, Observation::Lost { served: self.live().calls_served() });
    }

    /// Connections were closed while nobody used them, perhaps by a restart.
    pub(super) fn gone(&self) {
        self.state.observe(self.index, Observation::Gone);
    }

    pub(super) fn was_silent(&self) {
        self.state.observe(self.index, Observation::Silent { answers: self.answers() });
    }

    pub(super) fn probed(&self, report: Report) {
        self.state.observe(self.index, Observation::Probed(report));
    }

    /// It has this, as it said when it was asked at `sent_at`.
    pub(super) fn replayed(&self, place: Place, sent_at: Duration) {
        let Place { timeline, lsn } = place;
        self.state.observe(self.index, Observation::Replayed { sent_at, timeline, lsn });
        self.state.replayed.notify_waiters();
    }

    /// The place of a write that this connection's server, of this generation, has just acknowledged.
    pub(super) fn written(&self, generation: u32, lsn: Lsn) -> (Option<u64>, Option<Place>) {
        let table = self.state.table.load();
        let is_same = table.writer() == Writer::One(self.index) && self.standing().1 == generation;
        let timeline = table.writer_timeline().filter(|_| is_same);
        (table.system(), timeline.map(|timeline| Place { timeline, lsn: lsn.before_page_header() }))
    }

    /// An operator says so.
    pub(super) fn forget(&self) {
        self.state.observe(self.index, Observation::Forgotten);
    }

    pub(super) fn told_role(&self, role: Role) {
        self.state.observe(self.index, Observation::Role(role));
    }

    /// Answers since the beginning, to calls and probes.
    pub(super) fn answers(&self) -> u32 {
        self.live().answers()
    }

    fn live(&self) -> &NodeLive {
        self.state.live.node(self.index)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let state = &self.node.state;
        state.live.node(self.node.index).leave();
        if self.is_fallback {
            state.live.budget().give_back();
            state.changed.notify_one();
        }
    }
}

fn encode(role: Role, generation: u32) -> u64 {
    u64::from(generation) << 1 | u64::from(role == Role::Primary)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Scope, current_consistency, router::core::NodeConfig, with_eventual_consistency};

    fn state() -> State {
        let node = |role| NodeConfig { name: "node".into(), role, weight: 1, is_near: true };
        let config = Config {
            nodes: [Role::Primary, Role::Replica, Role::Replica].map(node).into(),
            fallback: crate::Fallback::Protect,
            max_lag: Duration::from_secs(60),
            slow_start: Duration::from_secs(5),
            probe_interval: None,
            max_ejected_percent: 50,
        };
        State::new(config, vec![Some(10); 3], Budget::unlimited())
    }

    fn is_decided(state: &State) -> bool {
        let want = crate::router::route::want(&current_consistency());
        matches!(std::hint::black_box(state.choose(want, NodeSet::EMPTY)), Decision::Route(_))
    }

    #[tokio::test]
    async fn a_decision_allocates_nothing_and_waits_for_nobody_who_tells_news() {
        let state = state();
        let decide = async || {
            let (sender, decided) = std::sync::mpsc::channel();
            let news = state.cluster();
            std::thread::scope(|threads| {
                // What a thread needs for its first decision, it allocates once.
                let scope = Scope::current();
                let state = &state;
                threads.spawn(move || {
                    scope.run_sync(|| {
                        let first = is_decided(state);
                        let mut all = first;
                        let counted = allocation_counter::measure(|| all &= (0..1000).all(|_| is_decided(state)));
                        let _ = sender.send((all, counted.count_total));
                    });
                });
                let decided = decided.recv_timeout(Duration::from_secs(30));
                // Who waits for it goes on, and the scope ends.
                drop(news);
                assert_eq!(decided, Ok((true, 0)));
            });
        };
        decide().await;
        with_eventual_consistency(decide()).await;
    }

    #[tokio::test]
    async fn a_decision_with_clock_and_scope_takes_no_time() {
        let state = state();
        let rounds = if cfg!(debug_assertions) { 10_000 } else { 3_000_000 };
        let decide = async || {
            let started = Instant::now();
            for _ in 0..rounds {
                assert!(is_decided(&state));
            }
            started.elapsed().as_nanos() as f64 / f64::from(rounds)
        };
        println!("strong: decision_ns={:.1}", decide().await);
        println!("eventual: decision_ns={:.1}", with_eventual_consistency(decide()).await);
    }
}
