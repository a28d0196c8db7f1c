//! The choice: a pure function, without a lock, an allocation or a hash.

use std::time::Duration;

use super::{
    Fallback,
    election::Writer,
    live::Live,
    random,
    set::NodeSet,
    table::{Asked, Decision, Reason, Refusal, Route, Table, Want},
};

/// A call that tries an ejected node is the only one to do so for this long.
const TRIAL_PAUSE: Duration = Duration::from_millis(500);

/// Latencies that differ by no more than this factor count as equal: a mix of statements differs by as much on one
/// node, and the call counts already show which node is busier.
const SIMILAR: u64 = 4;

impl Table {
    /// Chooses the node for a call that may have tried some already. `random` is any number.
    ///
    /// A [fallback](Reason::Fallback) takes a place in the budget of `live`; the caller counts itself in and out.
    pub(in crate::router) fn choose(
        &self,
        want: Want,
        live: &Live,
        asked: impl Into<Asked>,
        now: Duration,
        random: u64,
    ) -> Decision {
        let Asked { tried, behind, may_wait, has_floor } = asked.into();
        let tried = if flawed!(IgnoreTried) { NodeSet::EMPTY } else { tried };
        if want == Want::Strong {
            return self.writer_for(tried);
        }
        let fresh = |nodes: NodeSet| match want {
            Want::Eventual => nodes,
            _ => nodes.filter(|node| self.is_fresh(node, want, now)),
        };
        let ejected = self.ejected & self.replicas & if has_floor { self.on_newest } else { self.current };
        if !ejected.is_empty()
            && let Some(node) = fresh(ejected - tried).find(|&node| self.claims_trial(node, live, now))
        {
            return Decision::Route(Route { node, reason: Reason::Trial });
        }
        let current = self.serving & if has_floor { self.on_newest } else { self.current };
        let mut qualified = current - tried;
        if want == Want::Eventual {
            qualified = qualified & self.in_time;
        }
        if let Want::AtLeast { .. } = want {
            // A lagging node may have caught up since, and be known to have.
            qualified = current - (tried - behind);
        }
        if let Some(route) = self.pick(fresh(qualified), live, now, random) {
            return Decision::Route(route);
        }
        if let Want::AtLeast { timeline, .. } = want
            && self.timeline.is_none_or(|present| present == timeline)
        {
            // What is known is as of the last probe. Mostly they have caught up since, and proving it on the connection
            // costs nothing.
            let perhaps = (current & self.in_time) - tried;
            if let Some(route) = self.pick(perhaps, live, now, random) {
                return Decision::Route(Route { reason: Reason::Unconfirmed, ..route });
            }
        }
        if may_wait && !(current & behind).is_empty() {
            return Decision::WaitForReplay;
        }
        // Any node is better than none for a call without requirements.
        let takes_any = want == Want::Eventual && !has_floor;
        let followed_nobody = takes_any && (self.serving & self.current).is_empty();
        if followed_nobody && let Some(route) = self.pick(self.serving - tried, live, now, random) {
            return Decision::Route(Route { reason: Reason::OlderTimeline, ..route });
        }
        self.without_replica(want, takes_any, live, tried, now, random)
    }

    fn writer_for(&self, tried: NodeSet) -> Decision {
        Decision::Refuse(match self.writer {
            // Never refused because of an old failure: there is no other primary to try.
            Writer::One(node) if !tried.contains(node) => {
                return Decision::Route(Route { node, reason: Reason::Primary });
            }
            Writer::One(_) => Refusal::AllTried,
            Writer::SplitBrain(one, other) => Refusal::SplitBrain(one, other),
            Writer::Fenced(node) => Refusal::Fenced(node),
            Writer::Nobody => Refusal::NoPrimary,
        })
    }

    fn claims_trial(&self, node: usize, live: &Live, now: Duration) -> bool {
        let ejection = self.entries.get(node).and_then(|entry| entry.ejection);
        ejection.is_some_and(|ejection| live.node(node).claim_trial(ejection.trial_from, now, TRIAL_PAUSE))
    }

    /// One of these nodes: near before far, free before full, and of two random ones the less loaded.
    fn pick(&self, nodes: NodeSet, live: &Live, now: Duration, random: u64) -> Option<Route> {
        if nodes.is_empty() {
            return None;
        }
        let near = nodes & self.near;
        let free = |nodes: NodeSet| nodes.filter(|node| !self.is_full(node, live));
        let (free_near, all_free) = (free(near), || free(nodes));
        let (from, reason) = if !free_near.is_empty() {
            (free_near, Reason::Replica)
        } else if let free = all_free()
            && !free.is_empty()
        {
            (free, Reason::SpillOver)
        } else {
            (if near.is_empty() { nodes } else { near }, Reason::Full)
        };
        self.less_loaded_of_two(from, live, now, random).map(|node| Route { node, reason })
    }

    /// Purely random choice piles up calls on one node, and purely least-loaded choice sends every call to the node
    /// that has just come back: so the less loaded of two random ones (Mitzenmacher, The Power of Two Choices, 1996).
    fn less_loaded_of_two(&self, nodes: NodeSet, live: &Live, now: Duration, random: u64) -> Option<usize> {
        if nodes.len() < 2 || flawed!(AlwaysFirst) {
            return nodes.first();
        }
        let first = self.by_share(nodes, now, random)?;
        let second = self.by_share(nodes - NodeSet::one(first), now, random::mix(random))?;
        Some(if self.is_better(second, first, live, now) { second } else { first })
    }

    fn by_share(&self, nodes: NodeSet, now: Duration, random: u64) -> Option<usize> {
        let total = nodes.map(|node| self.share(node, now)).sum();
        let mut point = random::below(random, total);
        for node in nodes {
            let share = self.share(node, now);
            if point < share {
                return Some(node);
            }
            point -= share;
        }
        nodes.first()
    }

    /// Whether the second one is less loaded for its share, or answers so much faster that it is better.
    fn is_better(&self, second: usize, first: usize, live: &Live, now: Duration) -> bool {
        let (share, others) = (self.share(second, now), self.share(first, now));
        let (one, other) = (live.node(second), live.node(first));
        let (calls, others_calls) = (u64::from(one.in_flight()), u64::from(other.in_flight()));
        let (latency, others_latency) = one.latencies(other, now);
        let similar = latency <= SIMILAR * others_latency && others_latency <= SIMILAR * latency;
        if similar || flawed!(IgnoreLatency) {
            // If both are idle, chance has decided: equals share equally, whatever a measurement says.
            return (calls + 1) * others <= others_calls * share;
        }
        let cost =
            |calls: u64, latency: u64, others: u64| u128::from(calls + 1) * u128::from(latency) * u128::from(others);
        cost(calls, latency, others) < cost(others_calls, others_latency, share)
    }

    fn without_replica(
        &self,
        want: Want,
        takes_any: bool,
        live: &Live,
        tried: NodeSet,
        now: Duration,
        random: u64,
    ) -> Decision {
        let writer = match self.writer {
            Writer::One(node) if !tried.contains(node) => Some(node),
            _ => None,
        };
        if let Want::AtLeast { timeline, .. } = want
            && self.timeline.is_some_and(|present| present != timeline)
        {
            return Decision::Refuse(Refusal::Unproven);
        }
        let is_up = |&node: &usize| !self.ejected.contains(node);
        let from_primary = writer.filter(is_up).map(|node| self.fall_back(node, live, now));
        if let Some(route @ Decision::Route(_)) = from_primary {
            return route;
        }
        if takes_any {
            let behind =
                |nodes: NodeSet, reason| Some(Route { reason, ..self.pick(nodes - tried, live, now, random)? });
            let lagging = behind(self.serving & self.current, Reason::Lagging);
            if let Some(route) = lagging.or_else(|| behind(self.serving, Reason::OlderTimeline)) {
                return Decision::Route(route);
            }
        }
        if let Some(decision) = from_primary {
            return decision;
        }
        // The primary does not help either.
        let any = (self.replicas - tried).next().filter(|_| takes_any);
        if let Some(node) = any {
            return Decision::Route(Route { node, reason: Reason::LastResort });
        }
        match writer {
            Some(node) => self.fall_back(node, live, now),
            None if (self.replicas - tried).is_empty() => Decision::Refuse(Refusal::AllTried),
            None => Decision::Refuse(Refusal::NoReplica),
        }
    }

    fn fall_back(&self, node: usize, live: &Live, now: Duration) -> Decision {
        if self.is_alone {
            return Decision::Route(Route { node, reason: Reason::OnlyNode });
        }
        match self.fallback {
            Fallback::Never => Decision::Refuse(Refusal::NoReplica),
            Fallback::Protect | Fallback::Unlimited if live.budget().take(now) => {
                Decision::Route(Route { node, reason: Reason::Fallback })
            }
            Fallback::Protect | Fallback::Unlimited => Decision::WaitForBudget,
        }
    }
}
