//! From a decision to a connection, or to the error if there is none.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep_until, timeout_at};

use super::{
    Deadline, Inner, Lease, Role, Router, Tried,
    core::{Decision, NodeSet, Reason, Refusal, Route, Want},
    freshness::{
        floor::{Demand, Floor, Unplaceable},
        guard::Guard,
    },
    nodes::probe,
    pool::admission::Caller,
    record::{Failed, RouteRecord, Wait},
};
use crate::{
    error::{Error, ErrorKind, Result},
    runtime,
    scope::Consistency,
};

/// How long a waiting call leaves the fallback budget alone.
const NEXT_LOOK: Duration = Duration::from_millis(20);

/// What a call needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask<'a> {
    pub(crate) level: &'a Consistency,
    pub(crate) floor: Option<&'a Floor>,
    /// Whether the node's LSN is requested after each call.
    pub(crate) notes_place: bool,
    pub(crate) caller: Caller,
}

impl<'a> From<&'a Consistency> for Ask<'a> {
    fn from(level: &'a Consistency) -> Self {
        Self { level, floor: None, notes_place: false, caller: Caller::User }
    }
}

impl Router {
    /// Acquires a connection to the best node that is not in `tried`, and adds the nodes it tried.
    ///
    /// The connection [proves](Guard) with its first call whether the node contains what the floor requires.
    pub(super) async fn lease(&self, ask: Ask<'_>, deadline: Deadline, tried: &mut Tried) -> Result<Lease> {
        runtime::current()?;
        let mut record = RouteRecord::begin(self, ask.level);
        let outcome = self.find(ask, deadline, tried, &mut record).await;
        record.end(tried.nodes(), outcome.as_ref().err());
        outcome.map_err(|failed| failed.error)
    }

    /// The settings may be older than the last failover: the primary that they name is believed only once all nodes
    /// have had time to say otherwise. Calls wait for that if they need the primary, or if they may get it and prove
    /// nothing there.
    async fn wait_for_start(&self, deadline: Deadline, record: &mut RouteRecord<'_>) -> Result<(), Failed> {
        record.waits(Wait::Start);
        if timeout_at(deadline.at(), self.inner.state.all_asked()).await.is_err() {
            return Err(Failed::timed_out(self.nobody_asked(deadline)));
        }
        record.waited();
        Ok(())
    }

    async fn find(
        &self,
        ask: Ask<'_>,
        deadline: Deadline,
        tried: &mut Tried,
        record: &mut RouteRecord<'_>,
    ) -> Result<Lease, Failed> {
        let Inner { state, limits, probes, .. } = &*self.inner;
        probes.keep_asking();
        self.keep_looking();
        // What hardly any call waits for is boxed: inside the future of all calls it would be moved about with it.
        if matches!(ask.level, Consistency::Strong | Consistency::Bounded(_)) && state.is_starting() {
            Box::pin(self.wait_for_start(deadline, record)).await?;
        }
        let mut errors: Vec<Error> = Vec::new();
        let mut waiting_until = None;
        loop {
            let Demand { want, place, only_primary } = match ask.floor {
                None => Demand { want: want(ask.level), place: None, only_primary: false },
                Some(floor) => match state.demand(floor, ask.level) {
                    Ok(demand) => demand,
                    Err(Unplaceable::Newer(_)) => {
                        Box::pin(self.demand(floor, ask.level, deadline, tried, record)).await?
                    }
                    Err(why) => return Err(Failed::refused(why.error())),
                },
            };
            // Otherwise the lagging node would be chosen again at once, until the call times out.
            let want = match want {
                Want::AtLeast { .. } if tried.places_tell_nothing() => Want::Eventual,
                want => want,
            };
            if only_primary && state.is_starting() {
                Box::pin(self.wait_for_start(deadline, record)).await?;
                continue;
            }
            let mut asked = tried.asked(ask.floor.is_some());
            if only_primary {
                asked.tried = asked.tried | state.all_but_primary();
                asked.behind = NodeSet::EMPTY;
            }
            match state.choose(want, asked) {
                Decision::Route(route) => {
                    record.chose(route, want);
                    record.waits(Wait::Connection);
                    let lease = self.lease_of(route, want, ask.caller, deadline, tried).await;
                    record.waited();
                    match lease {
                        Ok(lease) => {
                            if ask.floor.is_none() && !ask.notes_place {
                                return Ok(lease);
                            }
                            let is_known = route.reason == Reason::Replica && matches!(want, Want::AtLeast { .. });
                            let is_expected = is_known && state.tells_timeline(route.node);
                            let guard = Guard::new(place, ask.floor, ask.notes_place)
                                .expected(is_expected)
                                .waits_for_place(matches!(want, Want::AtLeast { .. }) && !is_known);
                            return Ok(lease.guarded_by(guard));
                        }
                        Err(error) => {
                            tried.give_up_last();
                            errors.push(error);
                        }
                    }
                }
                Decision::WaitForReplay => {
                    record.waits(Wait::Replay);
                    Box::pin(self.wait_for_replay(want, deadline, tried)).await;
                    record.waited();
                }
                Decision::WaitForBudget => {
                    let wait = || deadline.or_within(limits.fallback_wait);
                    let until = *waiting_until.get_or_insert_with(wait);
                    if Instant::now() >= until {
                        let limit = state.budget().at_once();
                        let why = format!("the primary serves as many reads for replicas as it may ({limit} at once)");
                        let error = self.replicas_unavailable(&why, want, tried.nodes(), &errors);
                        return Err(Failed::refused(error));
                    }
                    // The rate limit's next turn comes with time: nothing signals it.
                    record.waits(Wait::Fallback);
                    let _ = Box::pin(timeout_at(until.min(Instant::now() + NEXT_LOOK), state.changed())).await;
                    record.waited();
                    continue;
                }
                Decision::Refuse(refusal) => return Err(self.refused(refusal, want, tried.nodes(), errors)),
            }
            if deadline.is_over() {
                return Err(Failed::timed_out(none_left(errors)));
            }
        }
    }

    /// What a floor on an unknown newer timeline requires. The call waits for it: some other process has seen a
    /// failover that the next probes will reveal.
    async fn demand(
        &self,
        floor: &Floor,
        level: &Consistency,
        deadline: Deadline,
        tried: &mut Tried,
        record: &mut RouteRecord<'_>,
    ) -> Result<Demand, Failed> {
        let Inner { state, limits, .. } = &*self.inner;
        loop {
            let newer = match state.demand(floor, level) {
                Ok(demand) => return Ok(demand),
                Err(newer @ Unplaceable::Newer(_)) => newer,
                Err(why) => return Err(Failed::refused(why.error())),
            };
            let until = tried.wait_until(deadline, limits.replay_wait);
            if Instant::now() >= until {
                return Err(Failed::refused(newer.error()));
            }
            state.probe_all();
            record.waits(Wait::Replay);
            let _ = timeout_at(until.min(Instant::now() + NEXT_LOOK), state.changed()).await;
            record.waited();
        }
    }

    /// Waits until one of the lagging nodes may have caught up.
    async fn wait_for_replay(&self, want: Want, deadline: Deadline, tried: &mut Tried) {
        let Inner { nodes, state, limits, .. } = &*self.inner;
        let until = tried.wait_until(deadline, limits.replay_wait);
        if let Want::AtLeast { lsn, .. } = want {
            let behind = tried.behind();
            let behind_nodes = behind.into_iter().filter_map(|node| nodes.get(node));
            let watched: Vec<_> = behind_nodes.map(|node| node.watch_replay(lsn)).collect();
            state.until_fresh(behind, want, until).await;
            drop(watched);
        } else {
            // The LSN to wait for is unknown: the node that is asked has to check.
            sleep_until(until.min(Instant::now() + tried.pause())).await;
            tried.ask_again();
        }
    }

    async fn lease_of(
        &self,
        route: Route,
        want: Want,
        caller: Caller,
        deadline: Deadline,
        tried: &mut Tried,
    ) -> Result<Lease> {
        let Inner { nodes, limits, .. } = &*self.inner;
        // Since the choice it may have left, and another node may have its index.
        let Some(node) = nodes.get(route.node).filter(|node| !node.handle().is_joining()) else {
            tried.push(route.node);
            if route.reason == Reason::Fallback {
                self.inner.state.budget().give_back();
            }
            return Err(Error::new(ErrorKind::Unavailable, "the node that was chosen has just left"));
        };
        let in_flight = node.handle().enter(route.reason == Reason::Fallback);
        tried.push(route.node);
        // While another node can be tried, no node gets all of the time.
        let others = want != Want::Strong && !(self.inner.state.there() - tried.nodes()).is_empty();
        let part = Instant::now().checked_add(limits.connect_timeout).filter(|_| others);
        let until = part.map_or_else(|| deadline.at(), |part| part.min(deadline.at()));
        let lease = node.lease(Some(in_flight), until, deadline, caller).await?;
        if want == Want::Strong && lease.role() != Role::Primary {
            // The next connection tells whether it still is a replica; this one learns nothing while it is idle.
            lease.discard();
            let message = "it was the primary, and has become a replica; no other node is known to take writes";
            return Err(Error::new(ErrorKind::Unavailable, message).with_node(Arc::clone(node.name())));
        }
        if lease.role() == Role::Primary && self.inner.state.is_untold_writer(route.node) {
            // Its connection reports at the cost of one extra round trip, once; no other connection may for a while.
            Box::pin(probe::introduce(&node, &lease, deadline)).await?;
            if self.inner.state.is_untold_writer(route.node) {
                let message = "it has just been restarted, or become something else, and has not said yet what it is; nothing was sent";
                return Err(Error::new(ErrorKind::Unavailable, message).with_node(Arc::clone(node.name())));
            }
        }
        // The call may have waited for the connection, and the node is no longer the primary, whatever its session
        // says.
        if lease.role() == Role::Primary && node.handle().is_fenced() {
            let message = "it was the primary, and another node has become it, or nobody knows which one it is";
            return Err(Error::new(ErrorKind::Unavailable, message).with_node(Arc::clone(node.name())));
        }
        if matches!(want, Want::Bounded(_)) && lease.role() == Role::Replica && !node.handle().is_fresh(want) {
            let message = "it was fresh enough, but is not known to be any more";
            return Err(Error::new(ErrorKind::Unavailable, message).with_node(Arc::clone(node.name())));
        }
        Ok(if want == Want::Strong { lease.must_lead() } else { lease })
    }

    /// Not for users: makes only the routing decision for a call in this scope. `benches/compare` has no other way to
    /// measure it.
    #[cfg(feature = "testing")]
    #[doc(hidden)]
    #[must_use]
    pub fn __decides(&self) -> bool {
        let want = want(&crate::current_consistency());
        matches!(self.inner.state.choose(want, NodeSet::EMPTY), Decision::Route(_))
    }

    fn nobody_asked(&self, deadline: Deadline) -> Error {
        let Inner { state, nodes, .. } = &*self.inner;
        let mut names: Vec<_> = state.unasked().map(|node| nodes.name(node).to_string()).collect();
        names.extend(self.inner.discovery.unanswered());
        let message = format!(
            "within {:?} of the start it could not be found out which node takes writes: {} have not answered yet",
            deadline.limit(),
            names.join(", ")
        );
        Error::new(ErrorKind::Unavailable, message)
    }

    pub(super) fn refused(&self, refusal: Refusal, want: Want, tried: NodeSet, errors: Vec<Error>) -> Failed {
        let name = |node: usize| self.inner.nodes.name(node);
        Failed::refused(match refusal {
            Refusal::AllTried => return none_left(errors).into(),
            Refusal::NoReplica => {
                self.replicas_unavailable("the settings let the primary serve none of them", want, tried, &errors)
            }
            Refusal::SplitBrain(one, other) => {
                let message = format!(
                    "{} and {} both take writes on the same timeline: whichever served, writes would be lost; \
                     stop one of them",
                    name(one),
                    name(other),
                );
                Error::new(ErrorKind::SplitBrain, message)
            }
            Refusal::Fenced(node) => {
                let message = "a newer primary has replaced it, and is not among the nodes that can be reached";
                Error::new(ErrorKind::Unavailable, message).with_node(name(node))
            }
            Refusal::NoPrimary => Error::new(ErrorKind::Unavailable, "no node is known to take writes"),
            Refusal::Unproven => {
                let message = "the place is on another timeline than the present one, so it cannot be told whether it \
                               is in this history";
                Error::new(ErrorKind::Unproven, message)
            }
        })
    }

    fn replicas_unavailable(&self, why: &str, want: Want, tried: NodeSet, errors: &[Error]) -> Error {
        let nodes = self.inner.nodes.all();
        let nodes = nodes.iter().map(|node| (node.handle().index(), node));
        let reasons = nodes.filter(|(index, node)| node.role() == Role::Replica || tried.contains(*index));
        let reasons: Vec<String> = reasons
            .map(|(index, node)| {
                let error = errors.iter().find(|error| error.node() == Some(&**node.name()));
                match (error, self.inner.state.exclusion(index, want, tried)) {
                    (Some(error), _) => error.report(),
                    (None, Some(exclusion)) => format!("{}: {exclusion}", node.name()),
                    (None, None) => format!("{}: it has just come back", node.name()),
                }
            })
            .collect();
        let message = format!("no replica can serve, and {why}; {}", reasons.join("; "));
        let error = Error::new(ErrorKind::ReplicasUnavailable, message);
        match errors.last() {
            Some(last) => error.with_source(last.clone()),
            None => error,
        }
    }
}

/// What a level requires of the choice of a node.
pub(super) fn want(consistency: &Consistency) -> Want {
    match consistency {
        Consistency::Strong => Want::Strong,
        // The floor says how far it must have replayed.
        Consistency::Eventual | Consistency::AtLeast(_) => Want::Eventual,
        Consistency::Bounded(longest) => Want::Bounded(*longest),
    }
}

/// One error for all nodes that were tried: a single error unchanged, several with each node's name and reason.
fn none_left(mut errors: Vec<Error>) -> Error {
    let Some(last) = errors.pop() else {
        return Error::new(ErrorKind::Unavailable, "every node that qualifies was lost during this call");
    };
    if errors.is_empty() {
        return last;
    }
    let kind =
        if errors.iter().all(|error| error.kind() == last.kind()) { last.kind() } else { ErrorKind::Unavailable };
    errors.push(last.clone());
    let reasons: Vec<String> = errors.iter().map(Error::report).collect();
    let message = format!("none of {} nodes can serve: {}", reasons.len(), reasons.join("; "));
    Error::new(kind, message).with_source(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The node left between the choice and the call.
    #[tokio::test]
    async fn a_fallback_to_a_node_that_has_left_returns_its_budget() {
        let builder = Router::builder().primary("postgres://localhost/shop?sslmode=disable").probe_interval(None);
        let router = builder.replica("postgres://localhost:1/shop?sslmode=disable").build().unwrap();
        let budget = router.inner.state.budget();
        assert!(budget.take(Duration::ZERO) && budget.taken() == 1);
        let route = Route { node: 7, reason: Reason::Fallback };
        let deadline = Deadline::after(Duration::from_secs(1));
        let leased = router.lease_of(route, Want::Eventual, Caller::User, deadline, &mut Tried::default()).await;
        assert!(leased.is_err());
        assert_eq!(budget.taken(), 0);
    }
}
