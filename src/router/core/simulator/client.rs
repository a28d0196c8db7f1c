//! The router's shell in miniature: it calls and probes, and reports to the core what it sees.

use std::{collections::BinaryHeap, sync::Arc, time::Duration};

use super::{
    Tally, duration,
    oracle::{Oracle, Rule, Violation, broken},
    probes::Probe,
    world::{SECOND, Time, World},
};
use crate::{
    lsn::Lsn,
    router::core::{
        Fallback, Role,
        budget::Budget,
        cluster::{Cluster, Config},
        live::Live,
        node::NodeConfig,
        observation::{ConnectFailure, Observation},
        random::Random,
        set::NodeSet,
        table::{Decision, Reason, Refusal, Route, Table, Want},
    },
};

const CALL_LIMIT: Time = 300_000;
pub(super) const CAPACITY: u32 = 4;
const BUDGET: u32 = 3;
const RATE: u32 = 20;
const EJECTED_PERCENT: u8 = 50;

pub(super) struct Client {
    pub(super) cluster: Cluster,
    pub(super) tally: Tally,
    pub(super) served: Vec<Served>,
    /// How far the clock of an observation may be off.
    pub(super) skew: Time,
    /// The latest time that the core has been told.
    clock: Time,
    pub(super) live: Live,
    pub(super) oracle: Oracle,
    /// Whether a node is among those that the router knows.
    pub(super) there: Vec<bool>,
    /// The server start that the pooled connections lead to.
    pub(super) connected: Vec<Option<u64>>,
    pub(super) calls: BinaryHeap<Call>,
    pub(super) probes: Vec<Option<Probe>>,
    fallbacks: u32,
    /// When the last [`RATE`] fallbacks began.
    begun: std::collections::VecDeque<Time>,
    /// The last acknowledged write: its branch, its timeline, its place.
    token: Option<(usize, u32, u64)>,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Served {
    pub(super) strong: u64,
    pub(super) eventual: u64,
    pub(super) fresh: u64,
}

/// A call in flight, ordered by when its answer arrives, the first one last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Call {
    answer_at: Time,
    sent_at: Time,
    want: Want,
    pub(super) route: Route,
    tried: NodeSet,
    boot: u64,
    floor: Option<(usize, u64)>,
    /// Its connection first asks who the node is. (The call is then made again.)
    introduces: bool,
    /// The newest timeline known when it was sent, if its node had reported none.
    replaced_by: Option<u32>,
}

impl Client {
    pub(super) fn new(count: usize, seed: u64) -> Self {
        let config = Config {
            nodes: (0..count).map(settings).collect(),
            fallback: Fallback::Protect,
            max_lag: Duration::from_secs(10),
            slow_start: Duration::from_secs(5),
            probe_interval: Some(Duration::from_millis(500)),
            max_ejected_percent: EJECTED_PERCENT,
        };
        Self {
            cluster: Cluster::new(config, seed).with_unlisted_replicas(),
            tally: Tally::default(),
            served: vec![Served::default(); count],
            skew: 0,
            clock: 0,
            live: Live::new(std::iter::repeat_n(Some(CAPACITY), count), Budget::new(BUDGET, Some(RATE))),
            oracle: Oracle::new(count),
            there: vec![true; count],
            connected: vec![None; count],
            calls: BinaryHeap::new(),
            probes: (0..count).map(|_| None).collect(),
            fallbacks: 0,
            begun: std::collections::VecDeque::new(),
            token: None,
        }
    }

    pub(super) fn forget_served(&mut self) {
        self.served.fill(Served::default());
    }

    /// Makes one call of any level.
    pub(super) fn call(&mut self, world: &World, now: Time, random: &mut Random) -> Result<(), Violation> {
        if self.calls.len() > 16 {
            return Ok(());
        }
        let (want, floor) = match (random.below(8), self.token) {
            (0 | 1, _) => (Want::Strong, None),
            (2 | 3, Some((branch, timeline, place))) => {
                let (table, lsn) = (self.cluster.table(), Lsn::new(place));
                let present = table.timeline().filter(|_| table.holds(timeline, lsn));
                (Want::AtLeast { timeline: present.unwrap_or(timeline), lsn }, Some((branch, place)))
            }
            (4 | 5, _) => (Want::Bounded(Duration::from_millis(800 + random.below(3000))), None),
            _ => (Want::Eventual, None),
        };
        self.send(world, want, floor, NodeSet::EMPTY, now, random)
    }

    fn send(
        &mut self,
        world: &World,
        want: Want,
        floor: Option<(usize, u64)>,
        tried: NodeSet,
        now: Time,
        random: &mut Random,
    ) -> Result<(), Violation> {
        let table = Arc::clone(self.cluster.table());
        let route = match table.choose(want, &self.live, tried, duration(now), random.next()) {
            Decision::Route(route) => route,
            Decision::WaitForBudget | Decision::WaitForReplay => {
                self.tally.waits += 1;
                return Ok(());
            }
            Decision::Refuse(refusal) => {
                match refusal {
                    Refusal::SplitBrain(..) => self.tally.split_brains += 1,
                    Refusal::Fenced(_) => self.tally.fenced += 1,
                    _ => self.tally.refusals += 1,
                }
                return Ok(());
            }
        };
        self.judge(&table, want, route, tried, now)?;
        let node = route.node;
        let server = &world.servers[node];
        self.live.node(node).enter();
        // A call that arrives when all connections are in use waits for one.
        let queue = u64::from(self.live.node(node).in_flight() / CAPACITY);
        let answer_at = match world.answers(node) {
            true => now + server.latency * (1 + queue) / 2 + random.below(server.latency),
            false if server.is_reachable && !server.is_up => now + 200,
            false => now + CALL_LIMIT,
        };
        let boot = self.connected[node].unwrap_or(server.boot);
        let (introduces, replaced_by) = (table.is_untold_writer(node), self.oracle.newest_beside(node));
        self.calls.push(Call { answer_at, sent_at: now, want, route, tried, boot, floor, introduces, replaced_by });
        Ok(())
    }

    fn judge(&mut self, table: &Table, want: Want, route: Route, tried: NodeSet, now: Time) -> Result<(), Violation> {
        let node = route.node;
        let told = &self.oracle.told[node];
        if !self.there[node] || !told.has_joined || tried.contains(node) || told.is_foreign {
            return Err(broken(Rule::Known, format!("{route:?} after {tried:?}")));
        }
        if want == Want::Strong {
            return self.oracle.judge_strong(node);
        }
        let is_primary = self.oracle.told[node].role == Some(Role::Primary);
        match route.reason {
            Reason::Fallback => {
                self.fallbacks += 1;
                self.tally.fallbacks += 1;
                self.begun.push_back(now);
                if self.begun.len() > 2 * RATE as usize {
                    let oldest = self.begun.pop_front();
                    if oldest.is_some_and(|oldest| now - oldest < SECOND) {
                        return Err(broken(Rule::Budget, format!("{RATE} a second are the limit")));
                    }
                }
                if self.fallbacks > BUDGET {
                    return Err(broken(Rule::Budget, format!("{} at once", self.fallbacks)));
                }
                return self.oracle.judge_strong(node);
            }
            Reason::LastResort => {}
            _ if is_primary => return Err(broken(Rule::Replica, format!("{route:?} is the primary"))),
            Reason::Full | Reason::Replica if self.live.node(node).is_full() => {
                let qualified = (table.serving & table.current & table.in_time) - tried;
                let mut free = qualified.filter(|node| !self.live.node(node).is_full());
                if let Some(free) = free.find(|&node| table.is_fresh(node, want, duration(now))) {
                    return Err(broken(Rule::Full, format!("{route:?} is full, and {free} is not")));
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Takes in the answers that have arrived by now.
    pub(super) fn answers(&mut self, world: &World, now: Time, random: &mut Random) -> Result<(), Violation> {
        while let Some(call) = self.calls.peek().copied().filter(|call| call.answer_at <= now) {
            self.calls.pop();
            let node = call.route.node;
            self.live.node(node).leave();
            if call.route.reason == Reason::Fallback {
                self.live.budget().give_back();
                self.fallbacks -= 1;
            }
            let at = call.answer_at;
            let (answers, served) = (self.live.node(node).answers(), self.live.node(node).calls_served());
            if call.boot != world.servers[node].boot || !world.servers[node].is_up {
                let is_refused = !world.servers[node].is_up;
                self.connected[node] = None;
                let told_at = self.tell(at);
                self.oracle.lost(node, told_at);
                self.observe(node, Observation::Lost { served }, at)?;
                if is_refused && world.servers[node].is_reachable {
                    self.oracle.refused(node, told_at);
                    self.observe(node, Observation::ConnectFailed(ConnectFailure::NobodyListens), at)?;
                }
            } else if !world.answers(node) {
                self.observe(node, Observation::Silent { answers }, at)?;
            } else if world.servers[node].cancels > random.below(100) && call.want != Want::Strong {
                self.told_role(world, node, at)?;
                self.observe(node, Observation::CallFailed { served }, at)?;
            } else if call.introduces {
                self.introduce(world, node, at)?;
                self.tally.refusals += 1;
                continue;
            } else {
                self.answered(world, call)?;
                continue;
            }
            let tried = call.tried | NodeSet::one(node);
            if call.want != Want::Strong {
                self.send(world, call.want, call.floor, tried, now, random)?;
            }
        }
        Ok(())
    }

    fn answered(&mut self, world: &World, call: Call) -> Result<(), Violation> {
        let (node, at) = (call.route.node, call.answer_at);
        let server = &world.servers[node];
        self.connected[node] = Some(server.boot);
        self.told_role(world, node, at)?;
        self.live.node(node).answered();
        self.live.node(node).served();
        self.live.node(node).measured(duration(at), duration(at - call.sent_at));
        if self.cluster.table().is_answer_news(node, duration(at)) {
            self.observe(node, Observation::Answered, at)?;
        }
        let stale = |what: String| Err(broken(Rule::Fresh, format!("{call:?} was served {what}: {server:?}")));
        // If one number stands for two histories, no number can tell them apart.
        let is_unique = world.is_unique(world.timeline(server));
        let is_replica = !matches!(call.route.reason, Reason::Primary | Reason::Fallback);
        match call.want {
            Want::Strong => {
                if server.is_writable && server.system == 1 && call.replaced_by > Some(world.timeline(server)) {
                    return Err(broken(
                        Rule::Strong,
                        format!("{call:?} has written to {server:?}, which was replaced"),
                    ));
                }
                self.tally.strong += 1;
                self.served[node].strong += 1;
                if server.is_writable && server.system == 1 {
                    self.token = Some((server.branch, world.timeline(server), server.place));
                }
            }
            Want::Eventual => {
                self.tally.eventual += 1;
                self.served[node].eventual += 1;
            }
            Want::AtLeast { timeline, lsn }
                if call.route.reason == Reason::Unconfirmed
                    && !flawed!(IgnoreGuard)
                    && (server.system != 1 || world.timeline(server) != timeline || Lsn::new(server.place) < lsn) =>
            {
                // The guard has detected it.
                self.tally.behind += 1;
            }
            Want::AtLeast { .. } => {
                self.tally.fresh += 1;
                self.served[node].fresh += u64::from(is_replica);
                if let Some((branch, place)) = call.floor
                    && is_unique
                    && world.is_unique(world.branches[branch].timeline)
                    && is_replica
                    && !world.has(node, branch, place)
                {
                    return stale(format!("without {place} of branch {branch}"));
                }
            }
            Want::Bounded(longest) => {
                self.tally.fresh += 1;
                self.served[node].fresh += u64::from(is_replica);
                let by = call.sent_at.saturating_sub(longest.as_micros() as u64);
                let acknowledged = world.acknowledged(server.branch, by);
                if is_unique && is_replica && server.place < acknowledged {
                    return stale(format!("without {acknowledged}, acknowledged by {by}"));
                }
            }
        }
        Ok(())
    }

    /// The connection has reported the server's role by now.
    fn told_role(&mut self, world: &World, node: usize, at: Time) -> Result<(), Violation> {
        let role = if world.servers[node].is_writable { Role::Primary } else { Role::Replica };
        if self.there[node] && self.oracle.told[node].role != Some(role) {
            let told_at = self.tell(at);
            self.oracle.role(node, role, told_at);
            self.observe(node, Observation::Role(role), at)?;
        }
        Ok(())
    }

    /// The time of a report to the core: it does not go back.
    pub(super) fn tell(&mut self, at: Time) -> Time {
        self.clock = self.clock.max(at.saturating_sub(self.skew));
        self.clock
    }

    pub(super) fn observe(&mut self, node: usize, observation: Observation, at: Time) -> Result<(), Violation> {
        let before = self.cluster.table().ejected.len();
        self.tell(at);
        self.cluster.observe(node, observation, duration(at.saturating_sub(self.skew)));
        while self.cluster.next_wish().is_some() {}
        let table = self.cluster.table();
        let is_outlier = matches!(observation, Observation::CallFailed { .. } | Observation::Lost { .. });
        if is_outlier && table.ejected.len() > before {
            self.tally.outliers += 1;
            self.oracle.judge_ejections(table, EJECTED_PERCENT.into())?;
        }
        Ok(())
    }
}

pub(super) fn settings(index: usize) -> NodeConfig {
    NodeConfig {
        name: Arc::from(format!("node {index}")),
        role: if index == 0 { Role::Primary } else { Role::Replica },
        weight: 1,
        is_near: true,
    }
}

impl Ord for Call {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        other.answer_at.cmp(&self.answer_at)
    }
}

impl PartialOrd for Call {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
