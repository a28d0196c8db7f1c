//! What is known about the cluster at one moment, ready to choose from.
//!
//! The control plane ([`Cluster`](super::cluster::Cluster)) builds a new table whenever something changes, and an
//! existing one is never modified. A call can therefore read it without a lock, and choosing is a function of it, the
//! [live counters](Live), the time and a number.

use std::{fmt, time::Duration};

use super::{Fallback, election::Writer, health::EjectionCause, live::Live, set::NodeSet};
use crate::lsn::Lsn;

/// What the caller requires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::router) enum Want {
    /// The primary.
    Strong,
    /// A replica.
    Eventual,
    /// A node that has replayed up to this place of this timeline.
    AtLeast { timeline: u32, lsn: Lsn },
    /// A node that contains everything that was acknowledged longer ago than this.
    Bounded(Duration),
}

/// What a call has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::router) struct Asked {
    /// The nodes that it has tried.
    pub(in crate::router) tried: NodeSet,
    /// Of these, the replicas that only have not replayed as far as the call needs.
    pub(in crate::router) behind: NodeSet,
    /// Whether it still has time to wait for one of these.
    pub(in crate::router) may_wait: bool,
    /// Whether it must contain something. A node that may be in a history that has ended shows what the present one has
    /// lost, so it does not serve such a call.
    pub(in crate::router) has_floor: bool,
}

impl From<NodeSet> for Asked {
    fn from(tried: NodeSet) -> Self {
        Self { tried, ..Self::default() }
    }
}

/// The decision about one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::router) enum Decision {
    Route(Route),
    /// The primary could serve, but has already taken over as many calls as it may.
    WaitForBudget,
    /// Replicas could serve that have not replayed as far as the call needs.
    WaitForReplay,
    Refuse(Refusal),
}

/// A node and why it was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::router) struct Route {
    pub(in crate::router) node: usize,
    pub(in crate::router) reason: Reason,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Reason {
    /// The level requires the primary.
    Primary,
    /// A replica that qualifies, near if any near one does.
    Replica,
    /// None is known to have replayed as far as the call needs. This one may have, and its connection has to prove it.
    Unconfirmed,
    /// No near replica qualifies, or all of them are full.
    SpillOver,
    /// All that qualify are full: the call waits for this one.
    Full,
    /// No replica has followed the last failover yet: this one is on an older timeline.
    OlderTimeline,
    /// The primary may serve no more of them, and replicas lag more than they may: this one does.
    Lagging,
    /// It is out of service, and this call checks whether it still is.
    Trial,
    /// There are no replicas.
    OnlyNode,
    /// No replica qualifies. The call has a place in the fallback budget, and returns it.
    Fallback,
    /// No node in service can serve: perhaps one that is out of service is back.
    LastResort,
}

impl Reason {
    /// Its name for programs.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Replica => "replica",
            Self::Unconfirmed => "unconfirmed",
            Self::SpillOver => "spill_over",
            Self::Full => "full",
            Self::OlderTimeline => "older_timeline",
            Self::Lagging => "lagging",
            Self::Trial => "trial",
            Self::OnlyNode => "only_node",
            Self::Fallback => "fallback",
            Self::LastResort => "last_resort",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::router) enum Refusal {
    /// See [`Writer`].
    SplitBrain(usize, usize),
    Fenced(usize),
    NoPrimary,
    /// No replica qualifies, and the settings do not let the primary serve.
    NoReplica,
    /// The place is on a timeline that is not the present one: it may be lost, and no place can tell.
    Unproven,
    /// This call has tried every node that qualifies.
    AllTried,
}

/// Why a node does not serve a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::router) enum Exclusion {
    Ejected(EjectionCause),
    Fenced,
    Foreign,
    Joining,
    /// It lags more than replicas may.
    Lagging,
    Left,
    /// It has not replayed that far, or is not known to have.
    NotFresh,
    OlderTimeline,
    /// It is the primary.
    Primary,
    Tried,
}

impl fmt::Display for Exclusion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ejected(cause) => cause.fmt(f),
            Self::Fenced => f.pad("it takes writes, but is not the primary"),
            Self::Foreign => f.pad("it belongs to another cluster"),
            Self::Joining => f.pad("it was added, and has not said yet what it is"),
            Self::Left => f.pad("it has left"),
            Self::Lagging => f.pad("it lags too far behind"),
            Self::NotFresh => f.pad("it is not known to be fresh enough"),
            Self::OlderTimeline => f.pad("it has not followed the last failover"),
            Self::Primary => f.pad("it is the primary"),
            Self::Tried => f.pad("this call has tried it"),
        }
    }
}

/// The cluster at one moment.
#[derive(Debug)]
pub(in crate::router) struct Table {
    pub(super) writer: Writer,
    /// The newest timeline ever seen.
    pub(super) timeline: Option<u32>,
    /// The timeline of the primary, once it has reported it.
    pub(super) writer_timeline: Option<u32>,
    /// Whether the primary has reported nothing at all, and another node has reported a timeline.
    pub(super) is_writer_untold: bool,
    /// The cluster's system identifier, once it has been reported.
    pub(super) system: Option<u64>,
    /// Older timelines, each with the place up to which the present one is known to contain it.
    pub(super) held: Box<[(u32, Lsn)]>,
    /// The nodes to read from, whatever their state.
    pub(super) replicas: NodeSet,
    /// Of these: in service,
    pub(super) serving: NodeSet,
    /// on the newest timeline, or perhaps so,
    pub(super) current: NodeSet,
    /// certainly on the newest timeline, if any is known,
    pub(super) on_newest: NodeSet,
    /// lagging no more than replicas may,
    pub(super) in_time: NodeSet,
    /// in the router's zone.
    pub(super) near: NodeSet,
    /// Nodes out of service, of any role.
    pub(super) ejected: NodeSet,
    pub(super) foreign: NodeSet,
    /// Added, and not yet known to be what they should be.
    pub(super) joining: NodeSet,
    /// All that have not left.
    pub(super) there: NodeSet,
    /// Whether the primary is the only node, and needs no protection.
    pub(super) is_alone: bool,
    pub(super) fallback: Fallback,
    pub(super) slow_start: Duration,
    pub(super) entries: Box<[Entry]>,
}

/// One node in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) weight: u32,
    /// When it came back into service, while its share still grows.
    pub(super) admitted_at: Option<Duration>,
    pub(super) ejection: Option<EjectionEntry>,
    /// The place that it has replayed, if its timeline is known.
    pub(super) place: Option<(u32, Lsn)>,
    /// Whether it reported the timeline that it is on when it was last probed.
    pub(super) tells_timeline: bool,
    /// It contains everything acknowledged before this moment.
    pub(super) fresh_as_of: Option<Duration>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct EjectionEntry {
    pub(super) cause: EjectionCause,
    pub(super) until: Duration,
    pub(super) trial_from: Duration,
}

impl Table {
    pub(in crate::router) fn writer(&self) -> Writer {
        self.writer
    }

    /// The newest timeline ever seen.
    pub(in crate::router) fn timeline(&self) -> Option<u32> {
        self.timeline
    }

    /// The timeline of the primary.
    pub(in crate::router) fn writer_timeline(&self) -> Option<u32> {
        self.writer_timeline
    }

    /// The cluster's system identifier.
    pub(in crate::router) fn system(&self) -> Option<u64> {
        self.system
    }

    /// Whether this node was added, and is not known to be what it should be.
    pub(in crate::router) fn is_joining(&self, node: usize) -> bool {
        self.joining.contains(node)
    }

    /// All nodes that have not left.
    pub(in crate::router) fn there(&self) -> NodeSet {
        self.there
    }

    /// Whether this node is out of service.
    pub(in crate::router) fn is_ejected(&self, node: usize) -> bool {
        self.ejected.contains(node)
    }

    /// Whether this node is known to have replayed this far on this timeline.
    pub(in crate::router) fn has_replayed(&self, node: usize, timeline: u32, lsn: Lsn) -> bool {
        let place = self.entries.get(node).and_then(|entry| entry.place);
        place.is_some_and(|(its_timeline, place)| its_timeline == timeline && place >= lsn)
    }

    /// Whether a node is known to be further than it was.
    pub(in crate::router) fn has_more_than(&self, before: &Self) -> bool {
        let place = |table: &Self, node: usize| table.entries.get(node).and_then(|entry| entry.place);
        (0..self.entries.len()).any(|node| place(self, node) > place(before, node))
    }

    /// Whether this node is the primary only according to the settings, while others have reported a timeline: it may
    /// have been replaced before anyone looked.
    pub(in crate::router) fn is_untold_writer(&self, node: usize) -> bool {
        self.is_writer_untold && self.writer == Writer::One(node) && !flawed!(BelieveSettings)
    }

    /// Whether this node reported the timeline that it is on when it was last probed.
    pub(in crate::router) fn tells_timeline(&self, node: usize) -> bool {
        self.entries.get(node).is_some_and(|entry| entry.tells_timeline)
    }

    /// Whether the present timeline is known to contain everything up to this place of an older one.
    pub(in crate::router) fn holds(&self, timeline: u32, lsn: Lsn) -> bool {
        self.held.iter().any(|&(old, up_to)| old == timeline && (lsn <= up_to || flawed!(HoldsEverything)))
    }

    /// Whether an answer of this node is news: it is out of service, and its pause is over.
    pub(in crate::router) fn is_answer_news(&self, node: usize, now: Duration) -> bool {
        self.ejected.contains(node)
            && self.entries.get(node).and_then(|entry| entry.ejection).is_some_and(|ejection| now >= ejection.until)
    }

    /// Whether this replica may serve reads of this level, as far as its place goes.
    pub(in crate::router) fn is_fresh(&self, node: usize, want: Want, now: Duration) -> bool {
        let Some(entry) = self.entries.get(node) else { return false };
        match want {
            Want::Strong => false,
            Want::Eventual => true,
            Want::AtLeast { timeline, lsn } => entry.place.is_some_and(|(its_timeline, place)| {
                (its_timeline == timeline || flawed!(FloorWithoutTimeline)) && place >= lsn
            }),
            Want::Bounded(longest) => {
                entry.fresh_as_of.is_some_and(|at| flawed!(FrozenAge) || now.saturating_sub(at) <= longest)
            }
        }
    }

    /// Why this node does not serve a read of this level, or `None` if it would.
    pub(in crate::router) fn exclusion(
        &self,
        node: usize,
        want: Want,
        tried: NodeSet,
        now: Duration,
    ) -> Option<Exclusion> {
        let ejection = self.entries.get(node).and_then(|entry| entry.ejection);
        if tried.contains(node) {
            Some(Exclusion::Tried)
        } else if !self.there.contains(node) {
            Some(Exclusion::Left)
        } else if self.joining.contains(node) {
            Some(Exclusion::Joining)
        } else if self.foreign.contains(node) {
            Some(Exclusion::Foreign)
        } else if !self.replicas.contains(node) {
            let is_writer = self.writer == Writer::One(node);
            Some(if is_writer { Exclusion::Primary } else { Exclusion::Fenced })
        } else if let Some(ejection) = ejection {
            Some(Exclusion::Ejected(ejection.cause))
        } else if !self.current.contains(node) {
            Some(Exclusion::OlderTimeline)
        } else if want == Want::Eventual && !self.in_time.contains(node) {
            Some(Exclusion::Lagging)
        } else {
            (!self.is_fresh(node, want, now)).then_some(Exclusion::NotFresh)
        }
    }

    /// The chance of this node to be picked, relative to that of others: its weight, and only a part of it while it is
    /// new. A node that has just come back has cold caches, and looks idle.
    pub(super) fn share(&self, node: usize, now: Duration) -> u64 {
        let Some(entry) = self.entries.get(node) else { return 0 };
        let full = u64::from(entry.weight) * FULL;
        let Some(at) = entry.admitted_at else { return full };
        let age = now.saturating_sub(at);
        if age >= self.slow_start || flawed!(NoSlowStart) {
            return full;
        }
        let percent = age.as_millis() * 100 / self.slow_start.as_millis().max(1);
        (full * (percent as u64).max(SMALLEST_PERCENT) / 100).max(1)
    }

    pub(super) fn is_full(&self, node: usize, live: &Live) -> bool {
        live.node(node).is_full() && !flawed!(IgnoreFull)
    }
}

/// A weight of 1 in finer units, so that a part of it is not 0.
const FULL: u64 = 64;

/// The share of a node that has just come back.
const SMALLEST_PERCENT: u64 = 10;

#[cfg(test)]
impl Table {
    /// For a cluster of which only the history is known.
    pub(in crate::router) fn of_history(system: u64, timeline: u32, held: &[(u32, Lsn)]) -> Self {
        Self {
            writer: Writer::Nobody,
            timeline: Some(timeline),
            writer_timeline: None,
            is_writer_untold: false,
            system: Some(system),
            held: held.into(),
            replicas: NodeSet::EMPTY,
            serving: NodeSet::EMPTY,
            current: NodeSet::EMPTY,
            on_newest: NodeSet::EMPTY,
            in_time: NodeSet::EMPTY,
            near: NodeSet::EMPTY,
            ejected: NodeSet::EMPTY,
            foreign: NodeSet::EMPTY,
            joining: NodeSet::EMPTY,
            there: NodeSet::EMPTY,
            is_alone: false,
            fallback: Fallback::Protect,
            slow_start: Duration::ZERO,
            entries: Box::default(),
        }
    }
}
