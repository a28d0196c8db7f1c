//! The state of the cluster: takes in observations, and builds [tables](Table) to choose from.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use super::{
    Fallback, Role,
    election::{Writer, elect},
    health::EjectionCause,
    history::History,
    node::{NodeConfig, NodeState},
    observation::{ConnectFailure, Observation, Report, Standing, Wish},
    random::Random,
    table::Table,
    tabulate::table,
};
use crate::lsn::Lsn;

/// What the settings say about the cluster.
#[derive(Clone, Debug)]
pub(in crate::router) struct Config {
    /// At most [`MOST_NODES`](super::MOST_NODES).
    pub(in crate::router) nodes: Vec<NodeConfig>,
    pub(in crate::router) fallback: Fallback,
    /// Replicas known to lag more than this serve no eventual reads.
    pub(in crate::router) max_lag: Duration,
    /// How long the share of a node that has come back grows.
    pub(in crate::router) slow_start: Duration,
    /// The time between two probes of a node, `None` without probes.
    pub(in crate::router) probe_interval: Option<Duration>,
    /// The largest share of the replicas that may be out of service because others do better.
    pub(in crate::router) max_ejected_percent: u8,
}

/// How long probes have to check an ejected node before a call may try it.
const PATIENCE: Duration = Duration::from_millis(1500);

/// For how many timelines, the newest ones, it is remembered how much of them the present one contains. There is one
/// after a failover, and a few after several whose end nobody saw; a node that invents timelines must not fill the
/// memory.
pub(super) const HELD: usize = 16;

/// Everything that is known, and the newest table built from it.
#[derive(Debug)]
pub(in crate::router) struct Cluster {
    pub(super) config: Config,
    pub(super) nodes: Vec<NodeState>,
    pub(super) history: History,
    pub(super) newest: Option<u32>,
    /// See [`Table::holds`].
    held: Vec<(u32, Lsn)>,
    system: Option<u64>,
    /// Timelines of clusters, from outdated answers that arrived before it was known which cluster this is.
    heard: Vec<(u64, u32)>,
    /// Whether a primary has reported `system`, and not only the first node heard. If so, it stays.
    is_system_certain: bool,
    writer: Writer,
    random: Random,
    has_unlisted: bool,
    /// Time does not go back here, whatever the clock says.
    pub(super) now: Duration,
    wishes: VecDeque<Wish>,
    table: Arc<Table>,
}

impl Cluster {
    /// `seed` determines pauses and their jitter.
    pub(in crate::router) fn new(config: Config, seed: u64) -> Self {
        let nodes: Vec<_> = config.nodes.iter().cloned().map(NodeState::new).collect();
        let writer = elect(&nodes, None, config.probe_interval.is_some());
        let (history, random) = (History::default(), Random::new(seed));
        let table = table(&config, &nodes, &history, writer, (None, None, &[]));
        let (newest, system, now, wishes) = (None, None, Duration::ZERO, VecDeque::new());
        Self {
            config,
            nodes,
            history,
            newest,
            held: Vec::new(),
            system,
            heard: Vec::new(),
            is_system_certain: false,
            writer,
            random,
            has_unlisted: false,
            now,
            wishes,
            table: Arc::new(table),
        }
    }

    /// For a cluster whose settings name nodes by other means than a list: it has replicas, even if none is known.
    pub(in crate::router) fn with_unlisted_replicas(mut self) -> Self {
        self.has_unlisted = true;
        self.rebuild();
        self
    }

    /// The newest table.
    pub(in crate::router) fn table(&self) -> &Arc<Table> {
        &self.table
    }

    /// What should be done, oldest request first.
    pub(in crate::router) fn next_wish(&mut self) -> Option<Wish> {
        self.wishes.pop_front()
    }

    /// The present role of a node.
    pub(in crate::router) fn role(&self, node: usize) -> Option<Role> {
        self.nodes.get(node).map(NodeState::role)
    }

    /// When this node should be probed.
    pub(in crate::router) fn next_probe(&self, node: usize) -> Duration {
        self.nodes.get(node).map_or(Duration::MAX, |node| node.next_probe)
    }

    /// Takes in what happened on a node. Reports about a node that is not in the settings are ignored.
    pub(in crate::router) fn observe(&mut self, index: usize, observation: Observation, now: Duration) {
        self.now = self.now.max(now);
        let now = self.now;
        let Some(node) = self.nodes.get_mut(index).filter(|node| node.is_there()) else { return };
        let generation = node.generation();
        if observation.is_answer() {
            node.answered();
        }
        match observation {
            Observation::Answered => _ = node.health.answered(now),
            Observation::CallFailed { served } => {
                if node.health.call_failed(served, now) {
                    self.eject(index, EjectionCause::Failing);
                }
            }
            Observation::ConnectFailed(failure) => {
                node.lost(now);
                if failure == ConnectFailure::NobodyListens || flawed!(AnyFailureIsAStop) {
                    node.refused(now);
                    self.leave_split_brain(index);
                }
                self.eject(index, failure.into());
            }
            Observation::Forgotten => {
                node.forget(now);
                self.forget_what_followed();
                self.wish_probe(index);
            }
            Observation::Gone => {
                node.lost(now);
                self.wish_probe(index);
            }
            Observation::Lost { served } => {
                node.lost(now);
                if node.health.call_failed(served, now) {
                    self.eject(index, EjectionCause::Failing);
                }
                self.wish_probe(index);
            }
            Observation::Silent { answers } => {
                if node.health.was_silent(answers) {
                    self.eject(index, EjectionCause::Silent);
                }
            }
            Observation::Replayed { sent_at, timeline, lsn } => node.replayed(sent_at, timeline, lsn),
            Observation::Role(role) => {
                if node.told_role(role, now) {
                    self.wish_probe(index);
                }
            }
            Observation::Probed(report) => self.probed(index, &report),
            Observation::ProbeFailed => {}
        }
        self.schedule(index, &observation);
        if let Some(node) = self.nodes.get(index)
            && node.generation() != generation
        {
            self.wishes.push_back(Wish::Drain { node: index, generation: node.generation() });
        }
        self.rebuild();
    }

    fn probed(&mut self, index: usize, report: &Report) {
        let now = self.now;
        let newest = self.newest;
        let Some(node) = self.nodes.get_mut(index) else { return };
        node.health.answered(now);
        if node.is_forgotten(report.sent_at) {
            return;
        }
        let (before, generation) = (node.instance(), node.generation());
        let counts = node.report(report, newest, now);
        let after = node.instance();
        if node.generation() == generation {
            self.follow_restart(before, after);
        }
        self.identify();
        // Even an outdated answer proves that there is such a timeline.
        let of_ours = report.system.is_none() || report.system == self.system || flawed!(NoIdentity);
        if of_ours {
            self.hear_of(report.timeline);
        } else if self.system.is_none()
            && let Some(heard) = report.system.zip(report.timeline)
            && self.heard.len() < HELD
        {
            self.heard.push(heard);
        }
        if let Some(system) = self.system {
            let ours = std::mem::take(&mut self.heard).into_iter().filter(|(of, _)| *of == system);
            self.hear_of(ours.map(|(_, timeline)| timeline).max());
        }
        if !counts {
            return;
        }
        self.promoted(index);
        if self.settle() != Writer::One(index) || self.nodes.get(index).and_then(NodeState::timeline) != self.newest {
            return;
        }
        // While the primary of the settings may still answer, a server that just happens to be writable does not
        // decide.
        let is_certain = report.system.is_some() && report.system == self.system;
        if is_certain && self.configured_primary().is_none_or(NodeState::is_ejected) {
            self.is_system_certain = true;
        }
        if let Standing::Primary { flush: Some(flush) } = report.standing {
            self.history.add(if flawed!(ReceivedAt) { now } else { report.sent_at }, flush);
        }
    }

    /// Records that this timeline exists.
    fn hear_of(&mut self, timeline: Option<u32>) {
        if timeline > self.newest {
            self.newest = timeline;
            self.history.clear();
            // Of the timelines before, it is unknown how much the new one contains.
            self.held.clear();
        }
    }

    /// A promoted node has kept what it had: the present timeline contains that much of the one before.
    fn promoted(&mut self, index: usize) {
        let Some(node) = self.nodes.get(index) else { return };
        let Some((old, up_to)) = node.had() else { return };
        let is_new = node.role() == Role::Primary && node.timeline() > Some(old) && node.timeline() == self.newest;
        let is_known = self.held.iter().any(|(timeline, _)| *timeline == old);
        if is_new && node.is_member() && !is_known {
            self.held.push((old, up_to));
            if self.held.len() > HELD {
                // Tokens of the oldest one are the oldest tokens.
                self.held.sort_unstable();
                self.held.remove(0);
            }
        }
    }

    /// A server that has restarted has done so under all its addresses, including one that no longer answers. Only a
    /// later start of the same server is a restart: otherwise this address now leads to another server.
    fn follow_restart(&mut self, before: Option<u64>, after: Option<u64>) {
        if before.is_some() && after > before {
            self.nodes.iter_mut().filter(|node| node.instance() == before).for_each(|node| node.restarted(after));
        }
    }

    fn configured_primary(&self) -> Option<&NodeState> {
        self.nodes.iter().find(|node| node.expected() == Role::Primary)
    }

    /// Tells the nodes of this cluster from those of others. The primary of the settings says which cluster this is,
    /// or, if it is out of service, the one that has replaced it; until then, provisionally, the first node heard. What
    /// a primary has reported stays: an empty server in place of the old primary must not turn all others into foreign
    /// nodes and take their writes.
    fn identify(&mut self) {
        let before = self.system;
        if !self.is_system_certain {
            let told = self.configured_primary().and_then(NodeState::system);
            let anybody = || self.nodes.iter().find_map(NodeState::system);
            self.system = told.or(self.system).or_else(anybody);
            self.is_system_certain = told.is_some();
        }
        for node in &mut self.nodes {
            let is_foreign = node.system().is_some() && node.system() != self.system;
            node.set_foreign(is_foreign);
        }
        if before.is_some() && before != self.system {
            // These belonged to another cluster: its timelines must not fence any node here.
            self.count_timelines();
        }
    }

    /// The newest timeline, according to the members of the cluster.
    fn count_timelines(&mut self) {
        self.newest = self.nodes.iter().filter(|node| node.is_member()).filter_map(NodeState::timeline).max();
        self.history.clear();
        self.held.clear();
    }

    /// A node was forgotten, and with it what only this node has reported: the newest timeline, and which cluster this
    /// is.
    fn forget_what_followed(&mut self) {
        if !self.nodes.iter().any(|node| node.system().is_some() && node.system() == self.system) {
            (self.system, self.is_system_certain) = (None, false);
        }
        self.identify();
        self.count_timelines();
    }

    /// A split brain ends when one of the two is stopped, even if it never comes back to say so. It has to report anew
    /// what it is before it counts again, and if it still takes writes then, the split brain is back.
    fn leave_split_brain(&mut self, index: usize) {
        let Some(node) = self.nodes.get_mut(index) else { return };
        let is_party = node.is_member()
            && node.role() == Role::Primary
            && node.timeline().is_some()
            && node.timeline() == self.newest;
        if matches!(self.writer, Writer::SplitBrain(..)) && is_party && node.is_stopped(self.now) {
            node.unsettle(self.now);
        }
    }

    fn settle(&mut self) -> Writer {
        let writer = elect(&self.nodes, self.newest, self.config.probe_interval.is_some());
        if writer != self.writer {
            // Measurements against one primary say nothing about another one.
            self.writer = writer;
            self.history.clear();
        }
        writer
    }

    fn eject(&mut self, index: usize, cause: EjectionCause) {
        if !cause.is_certain() && !self.may_eject(index) {
            return;
        }
        let patience = self.config.probe_interval.map_or(Duration::ZERO, |interval| interval.saturating_add(PATIENCE));
        if let Some(node) = self.nodes.get_mut(index) {
            let was_ejected = node.is_ejected();
            node.health.eject(cause, self.now, patience, &mut self.random);
            if !was_ejected {
                // The next one may be far off, and from now on someone waits for it.
                self.wish_probe(index);
            }
        }
    }

    /// Whether one more node may be ejected because the others do better. Some node has to serve, and if most of them
    /// fail, the node is not the cause.
    fn may_eject(&self, index: usize) -> bool {
        let replicas = || self.nodes.iter().filter(|node| node.is_member() && node.role() == Role::Replica);
        let (all, ejected) = (replicas().count(), replicas().filter(|node| node.is_ejected()).count());
        let is_replica = self.nodes.get(index).is_some_and(|node| node.role() == Role::Replica);
        let most = all * usize::from(self.config.max_ejected_percent) / 100;
        is_replica && (flawed!(EjectAll) || (ejected < most && ejected + 1 < all))
    }

    pub(super) fn wish_probe(&mut self, index: usize) {
        if let Some(node) = self.nodes.get_mut(index) {
            node.next_probe = self.now;
            self.wishes.push_back(Wish::Probe { node: index });
        }
    }

    /// Schedules the next probe after a probe. A tenth of the interval is random, so that probes do not fall into step.
    fn schedule(&mut self, index: usize, observation: &Observation) {
        let is_outcome = matches!(
            observation,
            Observation::Probed(_)
                | Observation::ProbeFailed
                | Observation::ConnectFailed(_)
                | Observation::Silent { .. }
        );
        let (Some(interval), Some(node)) = (self.config.probe_interval, self.nodes.get_mut(index)) else { return };
        if is_outcome && node.next_probe <= self.now {
            let pause = node.health.probe_pause(interval);
            let chance = pause.saturating_mul(self.random.below(128) as u32) / 1280;
            node.next_probe = self.now.saturating_add(pause).saturating_add(chance);
        }
    }

    pub(super) fn rebuild(&mut self) {
        self.readmit_when_nobody_serves();
        let writer = self.settle();
        let known = (self.newest, self.system, &*self.held);
        let mut table = table(&self.config, &self.nodes, &self.history, writer, known);
        table.is_alone &= !self.has_unlisted;
        table.is_writer_untold &= self.newest.is_some() || !self.heard.is_empty();
        self.table = Arc::new(table);
    }

    /// Outliers are only worse than others: if no others serve, they do.
    fn readmit_when_nobody_serves(&mut self) {
        let now = self.now;
        let is_replica = |node: &NodeState| node.is_member() && node.role() == Role::Replica;
        if flawed!(EjectAll) || self.nodes.iter().any(|node| is_replica(node) && !node.is_ejected()) {
            return;
        }
        for node in self.nodes.iter_mut().filter(|node| is_replica(node)) {
            if node.health.ejection().is_some_and(|ejection| !ejection.cause.is_certain()) {
                node.health.admit(now);
            }
        }
    }
}
