//! Builds the table of candidates from everything that is known.

use std::time::Duration;

use super::{
    Role,
    cluster::Config,
    election::Writer,
    history::History,
    membership::Presence,
    node::NodeState,
    set::NodeSet,
    table::{EjectionEntry, Entry, Table},
};
use crate::lsn::Lsn;

/// The table of candidates.
pub(super) fn table(
    config: &Config,
    nodes: &[NodeState],
    history: &History,
    writer: Writer,
    (newest, system, held): (Option<u32>, Option<u64>, &[(u32, Lsn)]),
) -> Table {
    let which = |test: &dyn Fn(&NodeState) -> bool| -> NodeSet {
        nodes.iter().enumerate().filter(|(_, node)| test(node)).map(|(index, _)| index).collect()
    };
    let replicas = which(&|node| node.is_member() && (node.role() == Role::Replica || flawed!(ReadPromoted)));
    let replicas = match writer {
        Writer::One(node) => replicas - NodeSet::one(node),
        _ => replicas,
    };
    let ejected = which(&|node| node.is_ejected());
    Table {
        writer,
        timeline: newest,
        writer_timeline: match writer {
            Writer::One(node) => nodes.get(node).and_then(NodeState::timeline),
            _ => None,
        },
        is_writer_untold: match writer {
            Writer::One(node) => nodes.get(node).is_some_and(|node| !node.has_told()),
            _ => false,
        },
        system,
        held: held.into(),
        replicas,
        serving: replicas - ejected,
        current: which(&|node| node.timeline().is_none() || node.timeline() >= newest),
        on_newest: which(&|node| newest.is_none() || node.timeline() == newest),
        in_time: which(&|node| !is_lagging(node, newest, history, config.max_lag)),
        near: which(&|node| node.config().is_near),
        ejected,
        foreign: which(&|node| node.presence() == Presence::Present && !node.is_member()),
        joining: which(&|node| node.presence() == Presence::Joining),
        there: which(&|node| node.is_there()),
        is_alone: nodes.iter().filter(|node| node.is_there()).count() < 2,
        fallback: config.fallback,
        slow_start: config.slow_start,
        entries: nodes.iter().map(|node| entry(node, newest, history, writer)).collect(),
    }
}

fn entry(node: &NodeState, newest: Option<u32>, history: &History, writer: Writer) -> Entry {
    let comparable = matches!(writer, Writer::One(_));
    let place = node.timeline().filter(|_| comparable).zip(node.place());
    Entry {
        weight: node.config().weight,
        admitted_at: node.health.admitted_at(),
        ejection: node.health.ejection().map(|ejection| EjectionEntry {
            cause: ejection.cause,
            until: ejection.until,
            trial_from: ejection.trial_from,
        }),
        place,
        tells_timeline: node.tells_timeline(),
        fresh_as_of: place.and_then(|_| fresh_as_of(node, newest, history)),
    }
}

/// The moment before which everything acknowledged is on this replica.
pub(super) fn fresh_as_of(node: &NodeState, newest: Option<u32>, history: &History) -> Option<Duration> {
    let is_current = node.timeline().is_some() && node.timeline() == newest;
    let replay = node.place().filter(|_| is_current)?;
    if flawed!(FreshByReceiver) && Some(replay) >= node.received() {
        return history.last().map(|(at, _)| at);
    }
    if flawed!(InvertedLag) {
        let (_, flush) = history.last()?;
        return history.as_of(Lsn::new(flush.get() + flush.get().saturating_sub(replay.get())));
    }
    history.as_of(replay)
}

/// Whether it is known to lag more than that. An unknown lag does not count against it: an eventual read requires no
/// proof.
fn is_lagging(node: &NodeState, newest: Option<u32>, history: &History, max_lag: Duration) -> bool {
    lag(node, newest, history).is_some_and(|lag| lag > max_lag)
}

/// Its lag behind the primary, as of when the primary was last asked: a lower bound, if it is behind everything that is
/// remembered.
pub(super) fn lag(node: &NodeState, newest: Option<u32>, history: &History) -> Option<Duration> {
    let (last, _) = history.last()?;
    if node.role() != Role::Replica || node.timeline() != newest || node.place().is_none() {
        return None;
    }
    Some(fresh_as_of(node, newest, history).map_or_else(|| history.span(), |at| last.saturating_sub(at)))
}
