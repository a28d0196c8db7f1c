//! Reports to watchers, and to the log, that the cluster has changed.

use std::{
    fmt,
    sync::{Arc, Weak},
};

use futures_util::{Stream, stream};
use tokio::sync::watch;

use super::{
    Inner,
    core::{NodeCondition, Outline, RouterStatus, Writer},
    state::State,
};
#[cfg(feature = "metrics")]
use crate::telemetry::metrics::gauges;
use crate::telemetry::{CONDITION, FALLBACK_SPENT, NODE, PRIMARY, ROLE, TIMELINE, TOPOLOGY};

/// Yields the status of a [`Router`](crate::Router) each time something has changed; see
/// [`Router::watch`](crate::Router::watch).
///
/// It only remembers whether there is a change, so a slow watcher skips intermediate states and gets the newest one. It
/// waits without polling. It ends when the last clone of the router is dropped, and does not keep the router alive.
#[must_use = "a watch tells nothing until it is asked"]
pub struct RouterWatch {
    state: Arc<State>,
    /// Knows the sources of replicas.
    router: Weak<Inner>,
    changes: watch::Receiver<Change>,
}

/// The message to watchers.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Change {
    number: u64,
    /// Whether the router is gone.
    is_last: bool,
}

/// The sender to all watchers.
#[derive(Debug)]
pub(super) struct Watched {
    changes: watch::Sender<Change>,
}

impl RouterWatch {
    pub(super) fn new(state: Arc<State>, router: Weak<Inner>) -> Self {
        let mut changes = state.watched().changes.subscribe();
        // For a new watcher, the present state is a change.
        changes.mark_changed();
        Self { state, router, changes }
    }

    /// Returns the newest status: the present one at the first call, and after that each time it differs from the last
    /// one returned. `None` once the router is gone.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<RouterStatus> {
        if self.changes.borrow().is_last || self.changes.changed().await.is_err() {
            return None;
        }
        let is_last = self.changes.borrow_and_update().is_last;
        // Taken after the change was received, so it includes that change.
        (!is_last).then(|| match self.router.upgrade() {
            Some(router) => router.status(),
            None => self.state.status(),
        })
    }

    /// Turns the watch into a stream of the same statuses.
    pub fn into_stream(self) -> impl Stream<Item = RouterStatus> + Send + 'static {
        stream::unfold(self, async |mut watch| watch.next().await.map(|status| (status, watch)))
    }
}

impl fmt::Debug for RouterWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RouterWatch").finish_non_exhaustive()
    }
}

impl Watched {
    pub(super) fn new() -> Self {
        Self { changes: watch::Sender::new(Change::default()) }
    }

    /// Signals a change.
    pub(super) fn notify(&self) {
        self.changes.send_modify(|change| change.number += 1);
    }

    /// Signals that no more changes will follow.
    pub(super) fn end(&self) {
        self.changes.send_modify(|change| change.is_last = true);
    }

    /// Whether the router is gone.
    #[cfg(feature = "metrics")]
    pub(super) fn has_ended(&self) -> bool {
        self.changes.borrow().is_last
    }
}

/// Logs and counts what has changed. Not under a lock: it runs code of the application.
pub(super) fn log_changes(before: &Outline, now: &Outline) {
    let name = |index: usize| now.nodes.iter().find(|node| node.index == index).map_or("?", |node| &*node.name);
    let timeline = now.timeline;
    if before.writer != now.writer {
        match now.writer {
            Writer::One(node) => {
                let primary = name(node);
                tracing::info!(target: TOPOLOGY, { { PRIMARY } = primary, { TIMELINE } = timeline }, "a node is the primary");
            }
            Writer::SplitBrain(one, other) => {
                let message = "take writes: stop one of them";
                let (one, other) = (name(one), name(other));
                tracing::error!(target: TOPOLOGY, { { TIMELINE } = timeline }, "{one} and {other} both {message}");
            }
            Writer::Fenced(node) => {
                let (node, message) = (name(node), "it takes writes, but a newer primary has been seen");
                tracing::error!(target: TOPOLOGY, { { NODE } = node, { TIMELINE } = timeline }, "{message}");
            }
            Writer::Nobody => {
                tracing::warn!(target: TOPOLOGY, { { TIMELINE } = timeline }, "no node is known to take writes");
            }
        }
    }
    for now in &now.nodes {
        // Nodes that come and go are logged where they are added or removed.
        let Some(before) = before.nodes.iter().find(|before| before.name == now.name) else { continue };
        let (node, role, condition) = (&*now.name, now.role.as_str(), &now.condition);
        with_metrics! {
            let is_out = |condition: &NodeCondition| matches!(condition, NodeCondition::Ejected { .. });
            if let NodeCondition::Ejected { cause, .. } = condition
                && !is_out(&before.condition)
            {
                gauges::ejected(&now.name, *cause);
            }
        }
        if before.condition != *condition && !matches!(condition, NodeCondition::Serving | NodeCondition::SlowStart) {
            tracing::warn!(target: TOPOLOGY, { { NODE } = node, { ROLE } = role, { CONDITION } = %condition }, "a node has changed");
        } else if before.condition != *condition || before.role != now.role {
            tracing::info!(target: TOPOLOGY, { { NODE } = node, { ROLE } = role, { CONDITION } = %condition }, "a node has changed");
        }
    }
    match (before.is_budget_spent, now.is_budget_spent) {
        (false, true) => {
            with_metrics! {
                now.nodes.first().into_iter().for_each(|first| gauges::fallback_exhausted(&first.name));
            }
            let message = "the primary serves as many reads for replicas as it may";
            tracing::warn!(target: TOPOLOGY, { { FALLBACK_SPENT } = true }, "{message}");
        }
        (true, false) => {
            let message = "the primary has room for reads again";
            tracing::info!(target: TOPOLOGY, { { FALLBACK_SPENT } = false }, "{message}");
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt;

    use super::*;
    use crate::{
        Fallback, PrimaryState, Role,
        router::{
            core::{Budget, Config, ConnectFailure, Decision, NodeConfig, NodeSet, Report, Standing, Want},
            state::NodeHandle,
        },
    };

    /// A primary and a replica, and a budget of one read for the primary.
    fn state() -> (Arc<State>, NodeHandle, NodeHandle) {
        let node = |(name, role): (&str, Role)| NodeConfig { name: name.into(), role, weight: 1, is_near: true };
        let config = Config {
            nodes: [("p", Role::Primary), ("r", Role::Replica)].map(node).into(),
            fallback: Fallback::Protect,
            max_lag: Duration::from_secs(60),
            slow_start: Duration::ZERO,
            probe_interval: Some(Duration::from_secs(1)),
            max_ejected_percent: 50,
        };
        let state = Arc::new(State::new(config, vec![Some(10); 2], Budget::new(1, None), false));
        let handle = |index| NodeHandle::new(Arc::clone(&state), index);
        let (primary, replica) = (handle(0), handle(1));
        (state, primary, replica)
    }

    fn is_out(status: &RouterStatus, node: usize) -> bool {
        matches!(status.nodes[node].condition, NodeCondition::Ejected { .. })
    }

    /// What the watch yields without waiting.
    fn news(watch: &mut RouterWatch) -> Option<RouterStatus> {
        watch.next().now_or_never().map(|next| next.expect("it goes on"))
    }

    fn report(handle: &NodeHandle, lsn: u64) {
        let standing = Standing::Primary { flush: Some(crate::Lsn::new(lsn)) };
        let sent_at = handle.now();
        let (system, timeline) = (Some(7), Some(1));
        handle.probed(Report { sent_at, system, timeline, may_be_newer: false, instance: Some(1), standing });
    }

    #[test]
    fn the_first_is_the_present_and_who_is_slow_gets_the_newest() {
        let (state, primary, replica) = state();
        let mut watch = RouterWatch::new(state, Weak::new());
        assert!(!is_out(&news(&mut watch).unwrap(), 1) && news(&mut watch).is_none());
        replica.connect_failed(ConnectFailure::NoAnswer);
        primary.connect_failed(ConnectFailure::NoAnswer);
        let status = news(&mut watch).unwrap();
        assert!(is_out(&status, 0) && is_out(&status, 1), "{status:?}");
        assert!(news(&mut watch).is_none());
    }

    #[test]
    fn a_watch_reports_the_first_probe_of_a_node_but_no_measurements() {
        let (state, primary, replica) = state();
        report(&primary, 100);
        let mut watch = RouterWatch::new(Arc::clone(&state), Weak::new());
        news(&mut watch).unwrap();
        for lsn in 200..250 {
            report(&primary, lsn);
            primary.answered(Some(Duration::from_millis(lsn)));
        }
        assert!(state.status().nodes[0].lsn == Some(crate::Lsn::new(249)) && news(&mut watch).is_none());
        replica.was_asked();
        assert!(news(&mut watch).unwrap().nodes[1].is_asked && news(&mut watch).is_none());
        replica.was_asked();
        assert!(news(&mut watch).is_none());
    }

    #[test]
    fn two_who_take_writes_are_told_and_one_who_does_no_more() {
        let (state, primary, replica) = state();
        report(&primary, 100);
        let mut watch = RouterWatch::new(state, Weak::new());
        news(&mut watch).unwrap();
        let (system, timeline, sent_at) = (Some(7), Some(1), replica.now());
        let standing = Standing::Primary { flush: None };
        replica.probed(Report { sent_at, system, timeline, may_be_newer: false, instance: Some(2), standing });
        assert_eq!(news(&mut watch).unwrap().primary, PrimaryState::SplitBrain { nodes: vec!["p".into(), "r".into()] });
        primary.told_role(Role::Replica);
        assert_eq!(news(&mut watch).unwrap().primary, PrimaryState::Known { node: "r".into() });
    }

    #[test]
    fn a_budget_that_is_spent_is_told_once() {
        let (state, _, replica) = state();
        replica.connect_failed(ConnectFailure::NoAnswer);
        let mut watch = RouterWatch::new(Arc::clone(&state), Weak::new());
        assert!(!news(&mut watch).unwrap().fallback.is_spent);
        let read = || state.choose(Want::Eventual, NodeSet::one(1));
        assert!(matches!(read(), Decision::Route(_)) && news(&mut watch).is_none());
        for _ in 0..9 {
            assert_eq!(read(), Decision::WaitForBudget);
        }
        assert!(news(&mut watch).unwrap().fallback.is_spent && news(&mut watch).is_none());
    }

    #[test]
    fn an_ended_watch_reports_no_later_change() {
        let (state, _, replica) = state();
        let (mut watch, mut late) =
            (RouterWatch::new(Arc::clone(&state), Weak::new()), RouterWatch::new(Arc::clone(&state), Weak::new()));
        news(&mut watch).unwrap();
        assert!(watch.next().now_or_never().is_none(), "it waits");
        state.watched().end();
        replica.connect_failed(ConnectFailure::NoAnswer);
        for watch in [&mut watch, &mut late] {
            for _ in 0..3 {
                assert_eq!(watch.next().now_or_never(), Some(None));
            }
        }
    }
}
