//! Determines which node takes writes, from the nodes' own reports.

use super::{Role, node::NodeState};

/// The outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::router) enum Writer {
    One(usize),
    /// Two nodes take writes, and neither timeline is the newer one: whichever is chosen, writes are lost. A node that
    /// was stopped is not one of them, see [`STOPPED_AFTER`](super::node::STOPPED_AFTER).
    SplitBrain(usize, usize),
    /// Only this node takes writes, but a newer timeline than its own has been seen: it has been replaced, and what is
    /// written there is lost.
    Fenced(usize),
    /// No node is known to take writes.
    Nobody,
}

/// `newest` is the newest timeline ever seen in this cluster, not only at present: a fence that is forgotten when the
/// new primary is down would be useless.
pub(super) fn elect(nodes: &[NodeState], newest: Option<u32>, probing: bool) -> Writer {
    let newest = if flawed!(ForgetNewest) {
        nodes.iter().filter(|node| node.is_member() && !node.is_ejected()).filter_map(NodeState::timeline).max()
    } else {
        newest
    };
    let writable = || nodes.iter().enumerate().filter(|(_, node)| node.is_member() && node.role() == Role::Primary);
    if flawed!(AnyWritable) {
        return writable().next().map_or(Writer::Nobody, |(index, _)| Writer::One(index));
    }
    // Its new timeline is the newest once it has reported it: what any other node accepts until then is lost.
    if writable().any(|(_, node)| node.is_promoted_from(newest)) {
        return Writer::Nobody;
    }
    let mut newest_ones = writable().filter(|(_, node)| node.timeline().is_some() && node.timeline() == newest);
    if let Some((one, node)) = newest_ones.next() {
        return match newest_ones.find(|(_, other)| !node.is_same_server(other)) {
            Some((other, _)) if !flawed!(FirstOfTwo) => Writer::SplitBrain(one, other),
            _ => Writer::One(one),
        };
    }
    let older = writable().find(|(_, node)| node.timeline().is_some());
    // Before a node has reported its timeline, only the settings can decide. A node that has just become something else
    // is probed at once, and until then takes no writes if others have reported theirs.
    let configured = |node: &NodeState| node.expected() == Role::Primary;
    let mut unknown = writable().filter(|(_, node)| {
        node.timeline().is_none() && !node.is_unsettled() && (newest.is_none() || configured(node))
    });
    match (older, unknown.next(), unknown.next()) {
        (Some((old, _)), _, _) => Writer::Fenced(old),
        (None, Some((one, _)), None) => Writer::One(one),
        (None, Some((first, one)), Some((second, two))) => match (configured(one), configured(two)) {
            (true, _) => Writer::One(first),
            (_, true) => Writer::One(second),
            _ => Writer::SplitBrain(first, second),
        },
        (None, None, _) => {
            // Without probes only its own connections could show that it is back.
            let settings = nodes.iter().position(|node| configured(node) && node.is_member());
            settings.filter(|_| !probing).map_or(Writer::Nobody, Writer::One)
        }
    }
}
