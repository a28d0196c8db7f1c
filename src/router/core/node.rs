//! What the core knows about one node.

use std::{sync::Arc, time::Duration};

use super::{
    Role,
    health::Health,
    membership::Presence,
    observation::{Report, Standing},
};
use crate::lsn::Lsn;

/// What the settings say about a node.
#[derive(Clone, Debug)]
pub(in crate::router) struct NodeConfig {
    pub(in crate::router) name: Arc<str>,
    pub(in crate::router) role: Role,
    pub(in crate::router) weight: u32,
    /// Whether it is in the router's own zone, or zones do not matter.
    pub(in crate::router) is_near: bool,
}

/// A node is stopped if nothing has listened on it, and it has answered nobody, for this long. Longer than most
/// restarts take, so that a restart does not end a split brain that the node comes back to; short enough for an
/// operator who stops a node in order to have writes again.
pub(super) const STOPPED_AFTER: Duration = Duration::from_secs(10);

/// What has been observed about it.
#[derive(Debug)]
pub(super) struct NodeState {
    config: NodeConfig,
    presence: Presence,
    pub(super) health: Health,
    role: Option<Role>,
    timeline: Option<u32>,
    has_told_timeline: bool,
    /// Whether it has ever answered a probe.
    has_told: bool,
    /// The timeline that it followed as a replica until its promotion, until it reports its new one.
    promoted_from: Option<u32>,
    system: Option<u64>,
    instance: Option<u64>,
    is_foreign: bool,
    /// The timeline that it was promoted from if it followed the last failover, in case it does not report whether it
    /// did.
    perhaps_on: Option<u32>,
    /// Answers to earlier queries are forgotten.
    forgotten_at: Duration,
    /// Its position: for a replica, what it has replayed; for a primary, what it has flushed.
    place: Option<Lsn>,
    received: Option<Lsn>,
    is_receiving: Option<bool>,
    /// Whether it last reported the timeline that it is on, not only the newest one that it has certainly reached.
    tells_timeline: bool,
    /// What it had replayed as a replica, and on which timeline, when it last reported that and was still receiving it.
    had: Option<(u32, Lsn)>,
    /// Answers to queries before this moment no longer count.
    not_before: Duration,
    /// When it first refused a connection since its last answer.
    refused_since: Option<Duration>,
    /// Increases when it becomes something else, to recognise connections to what it was.
    generation: u32,
    pub(super) next_probe: Duration,
}

impl NodeState {
    pub(super) fn new(config: NodeConfig) -> Self {
        Self {
            config,
            presence: Presence::Present,
            health: Health::default(),
            role: None,
            timeline: None,
            has_told_timeline: false,
            has_told: false,
            promoted_from: None,
            system: None,
            instance: None,
            is_foreign: false,
            perhaps_on: None,
            forgotten_at: Duration::ZERO,
            place: None,
            received: None,
            is_receiving: None,
            tells_timeline: false,
            had: None,
            not_before: Duration::ZERO,
            refused_since: None,
            generation: 0,
            next_probe: Duration::ZERO,
        }
    }

    /// A node that has to report what it is before it counts.
    pub(super) fn joining(config: NodeConfig) -> Self {
        Self { presence: Presence::Joining, ..Self::new(config) }
    }

    pub(super) fn presence(&self) -> Presence {
        self.presence
    }

    /// Whether it is one of the nodes, whatever is known about it.
    pub(super) fn is_there(&self) -> bool {
        matches!(self.presence, Presence::Joining | Presence::Present)
    }

    /// It has left: nothing that it was counts, and nothing that it will report.
    pub(super) fn leave(&mut self) {
        *self = Self { presence: Presence::Leaving, ..Self::new(self.config.clone()) };
    }

    pub(super) fn vacate(&mut self) {
        self.presence = Presence::Vacant;
    }

    pub(super) fn config(&self) -> &NodeConfig {
        &self.config
    }

    /// Its role in the settings.
    pub(super) fn expected(&self) -> Role {
        self.config.role
    }

    /// Its present role; the role in the settings until it has reported one.
    pub(super) fn role(&self) -> Role {
        self.role.unwrap_or(self.config.role)
    }

    pub(super) fn timeline(&self) -> Option<u32> {
        self.timeline
    }

    /// See the field.
    pub(super) fn has_told(&self) -> bool {
        self.has_told
    }

    /// Whether it had a timeline that is outdated because it has become something else.
    pub(super) fn is_unsettled(&self) -> bool {
        self.timeline.is_none() && self.has_told_timeline
    }

    /// Whether it was promoted on this timeline, and has not reported its new one yet.
    pub(super) fn is_promoted_from(&self, timeline: Option<u32>) -> bool {
        self.timeline.is_none() && self.promoted_from.is_some() && self.promoted_from == timeline
    }

    pub(super) fn system(&self) -> Option<u64> {
        self.system
    }

    /// Whether both are the same server under two addresses.
    pub(super) fn is_same_server(&self, other: &Self) -> bool {
        self.instance.is_some() && self.instance == other.instance
    }

    pub(super) fn instance(&self) -> Option<u64> {
        self.instance
    }

    /// The server that was proven to be this one has restarted. Its own reports take precedence.
    pub(super) fn restarted(&mut self, instance: Option<u64>) {
        self.instance = instance;
    }

    pub(super) fn place(&self) -> Option<Lsn> {
        self.place
    }

    pub(super) fn received(&self) -> Option<Lsn> {
        self.received
    }

    /// See the field.
    pub(super) fn tells_timeline(&self) -> bool {
        self.tells_timeline
    }

    /// See the field. For a primary it is what it had before its promotion.
    pub(super) fn had(&self) -> Option<(u32, Lsn)> {
        self.had
    }

    pub(super) fn is_receiving(&self) -> Option<bool> {
        self.is_receiving
    }

    pub(super) fn generation(&self) -> u32 {
        self.generation
    }

    /// Whether it is there and belongs to this cluster, as far as is known.
    pub(super) fn is_member(&self) -> bool {
        let has_joined = self.presence == Presence::Present || (flawed!(NoCheck) && self.is_there());
        has_joined && (!self.is_foreign || flawed!(NoIdentity))
    }

    pub(super) fn is_ejected(&self) -> bool {
        self.health.ejection().is_some()
    }

    /// Takes in the role that a connection reported. Returns whether that was news.
    pub(super) fn told_role(&mut self, role: Role, now: Duration) -> bool {
        if self.role() == role {
            self.role = Some(role);
            return false;
        }
        self.become_other(Some(role), now);
        true
    }

    /// Takes in an answer to a probe. Returns whether it counted: one that was overtaken by other news does not.
    /// `newest` is the newest timeline of the cluster.
    pub(super) fn report(&mut self, report: &Report, newest: Option<u32>, now: Duration) -> bool {
        if report.sent_at < self.not_before {
            return false;
        }
        if self.presence == Presence::Joining {
            self.presence = Presence::Present;
            // Its caches are cold, and it looks idle.
            self.health.admit(now);
        }
        let role = report.standing.role();
        let mut timeline = self.told_timeline(report);
        let is_untold = report.may_be_newer && timeline < newest;
        self.perhaps_on = newest.filter(|_| is_untold);
        if is_untold {
            (timeline, self.timeline) = (None, None);
        }
        let is_other = (self.role.is_some() && self.role != Some(role))
            || (self.timeline.is_some() && timeline.is_some() && self.timeline != timeline)
            || (self.system.is_some() && report.system.is_some() && self.system != report.system);
        if is_other || role != self.role() {
            self.become_other(Some(role), self.not_before);
        }
        self.has_told = true;
        self.role = Some(role);
        self.timeline = timeline.or(self.timeline);
        self.has_told_timeline |= self.timeline.is_some();
        self.system = report.system.or(self.system);
        // After a restart it may have been rewound.
        self.had = self.had.filter(|_| self.instance.is_some() && self.instance == report.instance);
        self.instance = report.instance;
        (self.place, self.received, self.is_receiving) = match report.standing {
            Standing::Primary { flush } => (flush, None, None),
            Standing::Replica { replay, received, is_receiving } => (replay, received, is_receiving),
        };
        // A replica that receives nothing may replay another timeline from an archive.
        self.tells_timeline = self.is_receiving != Some(false) && !report.may_be_newer;
        if self.tells_timeline && role == Role::Replica {
            self.had = report.timeline.zip(self.place).or(self.had);
        }
        true
    }

    /// The timeline that it reports. A replica knows the one that it receives from its receiver; without it, the one of
    /// its last restart point, which may be from before a failover. But a running replica never goes back: for that it
    /// must be stopped and rewound.
    fn told_timeline(&self, report: &Report) -> Option<u32> {
        let runs_on = self.role == Some(Role::Replica)
            && report.standing.role() == Role::Replica
            && self.system == report.system
            && self.instance.is_some()
            && self.instance == report.instance;
        if runs_on { report.timeline.max(self.timeline) } else { report.timeline }
    }

    /// Takes in that it has replayed this far, if it is still what it was when it reported that.
    pub(super) fn replayed(&mut self, sent_at: Duration, timeline: u32, lsn: Lsn) {
        let is_same = self.role == Some(Role::Replica) && self.timeline == Some(timeline);
        if is_same && sent_at >= self.not_before {
            self.place = self.place.max(Some(lsn));
        }
    }

    /// A connection was lost, perhaps because the server has restarted. It may come back with less than it had, so its
    /// position is unknown until it is probed again. What it was does not change: a timeline is never forgotten.
    pub(super) fn lost(&mut self, now: Duration) {
        self.place = self.place.filter(|_| flawed!(KeepPlace));
        self.not_before = self.not_before.max(now);
    }

    pub(super) fn refused(&mut self, now: Duration) {
        self.refused_since.get_or_insert(now);
    }

    pub(super) fn answered(&mut self) {
        self.refused_since = None;
    }

    /// Whether it refuses connections, and has done nothing else for a while.
    pub(super) fn is_stopped(&self, now: Duration) -> bool {
        self.refused_since.is_some_and(|since| now.saturating_sub(since) >= STOPPED_AFTER)
    }

    /// Discards what it was until it reports anew.
    pub(super) fn unsettle(&mut self, now: Duration) {
        self.become_other(self.role, now);
    }

    /// Discards everything that it has ever reported.
    pub(super) fn forget(&mut self, now: Duration) {
        self.become_other(None, now);
        (self.system, self.instance, self.perhaps_on) = (None, None, None);
        (self.has_told, self.has_told_timeline) = (false, false);
        (self.is_receiving, self.received) = (None, None);
        self.forgotten_at = now;
    }

    /// Whether its answer to a query sent at this moment is forgotten.
    pub(super) fn is_forgotten(&self, sent_at: Duration) -> bool {
        sent_at < self.forgotten_at
    }

    pub(super) fn set_foreign(&mut self, is_foreign: bool) {
        self.is_foreign = is_foreign;
    }

    fn become_other(&mut self, role: Option<Role>, now: Duration) {
        self.generation += 1;
        self.promoted_from = match (self.role(), role) {
            (Role::Replica, Some(Role::Primary)) => self.timeline.or(self.perhaps_on),
            // It is still unknown which timeline it went to.
            (Role::Primary, Some(Role::Primary)) => self.promoted_from,
            _ => None,
        };
        self.role = role;
        self.timeline = None;
        self.place = None;
        self.not_before = self.not_before.max(now);
    }
}
