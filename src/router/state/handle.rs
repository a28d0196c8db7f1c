//! One node, as seen by the code that works for it, and the calls that are counted for it.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use super::State;
#[cfg(feature = "metrics")]
use crate::RouterStatus;
use crate::{
    lsn::Lsn,
    router::{
        Role,
        core::{ConnectFailure, NodeLive, Observation, Report, Want, Writer},
    },
    token::Place,
};

/// One node, as seen by the code that works for it.
#[derive(Clone, Debug)]
pub(in crate::router) struct NodeHandle {
    slot: Arc<Slot>,
}

/// The place of a node among the others. It is free when the last holder drops it and the node has left.
#[derive(Debug)]
struct Slot {
    state: Arc<State>,
    index: usize,
}

/// A call that is counted for its node until it is dropped.
#[derive(Debug)]
pub(in crate::router) struct InFlight {
    node: NodeHandle,
    is_fallback: bool,
}

impl NodeHandle {
    pub(in crate::router) fn new(state: Arc<State>, index: usize) -> Self {
        Self { slot: Arc::new(Slot { state, index }) }
    }

    pub(in crate::router) fn random(&self) -> u64 {
        self.slot.state.random()
    }

    /// Whether it was added and has not reported what it is yet.
    pub(in crate::router) fn is_joining(&self) -> bool {
        self.slot.state.table.load().is_joining(self.slot.index)
    }

    /// Whether it is out of service.
    pub(in crate::router) fn is_ejected(&self) -> bool {
        self.slot.state.table.load().is_ejected(self.slot.index)
    }

    /// Its index among the router's nodes.
    pub(in crate::router) fn index(&self) -> usize {
        self.slot.index
    }

    /// The node's present role, and how often it has changed into something else.
    pub(in crate::router) fn standing(&self) -> (Role, u32) {
        let standing =
            self.slot.state.standings.get(self.slot.index).map_or(0, |standing| standing.load(Ordering::Acquire));
        (if standing & 1 == 0 { Role::Replica } else { Role::Primary }, (standing >> 1) as u32)
    }

    /// Whether another node has replaced it as the primary, or it is unknown which node is.
    pub(in crate::router) fn is_fenced(&self) -> bool {
        self.slot.state.table.load().writer() != Writer::One(self.slot.index)
    }

    /// The system identifier of its cluster.
    pub(in crate::router) fn system(&self) -> Option<u64> {
        self.slot.state.system()
    }

    /// Whether it is still known to satisfy this level.
    pub(in crate::router) fn is_fresh(&self, want: Want) -> bool {
        self.slot.state.table.load().is_fresh(self.slot.index, want, self.now())
    }

    /// The status of all nodes.
    #[cfg(feature = "metrics")]
    pub(in crate::router) fn router_status(&self) -> RouterStatus {
        self.slot.state.status()
    }

    /// Whether the last clone of the router was dropped.
    #[cfg(feature = "metrics")]
    pub(in crate::router) fn has_router_ended(&self) -> bool {
        self.slot.state.watched().has_ended()
    }

    /// The node's name, while it is there.
    #[cfg(feature = "metrics")]
    pub(in crate::router) fn name(&self) -> Option<Arc<str>> {
        self.slot.state.name_of(self.slot.index)
    }

    pub(in crate::router) fn now(&self) -> Duration {
        self.slot.state.now()
    }

    pub(in crate::router) fn until_next_probe(&self) -> Duration {
        self.slot.state.lock().cluster.next_probe(self.slot.index).saturating_sub(self.now())
    }

    /// Waits until it should be probed at once.
    pub(in crate::router) async fn probe_wished(&self) {
        match self.slot.state.wished.get(self.slot.index) {
            Some(wished) => wished.notified().await,
            None => std::future::pending().await,
        }
    }

    /// Counts one more call.
    pub(in crate::router) fn enter(&self, is_fallback: bool) -> InFlight {
        self.slot.state.live.node(self.slot.index).enter();
        InFlight { node: self.clone(), is_fallback }
    }

    /// An answer arrived; if it was measured, to a user's call.
    pub(in crate::router) fn answered(&self, latency: Option<Duration>) {
        let live = self.live();
        live.answered();
        if let Some(latency) = latency {
            live.measured(self.slot.state.now(), latency);
        }
        self.is_alive();
    }

    /// It has accepted a login.
    pub(in crate::router) fn logged_in(&self) {
        self.live().logged_in();
        self.is_alive();
    }

    fn is_alive(&self) {
        let now = self.slot.state.now();
        if self.slot.state.table.load().is_answer_news(self.slot.index, now) {
            self.slot.state.observe(self.slot.index, Observation::Answered);
        }
    }

    /// A call was served.
    pub(in crate::router) fn served(&self) {
        self.live().served();
    }

    /// It has been probed, whatever the result.
    pub(in crate::router) fn was_asked(&self) {
        self.slot.state.was_asked(self.slot.index);
    }

    pub(in crate::router) fn call_failed(&self) {
        self.slot.state.observe(self.slot.index, Observation::CallFailed { served: self.live().calls_served() });
    }

    pub(in crate::router) fn connect_failed(&self, failure: ConnectFailure) {
        self.slot.state.observe(self.slot.index, Observation::ConnectFailed(failure));
    }

    pub(in crate::router) fn lost(&self) {
        self.slot.state.observe(self.slot.index, Observation::Lost { served: self.live().calls_served() });
    }

    /// Idle connections were closed, perhaps by a restart.
    pub(in crate::router) fn gone(&self) {
        self.slot.state.observe(self.slot.index, Observation::Gone);
    }

    /// A request sent when there had been this many [answers](Self::answers) timed out. Whether that says something
    /// about the node depends on whether it has answered others meanwhile: several long calls whose limits end at the
    /// same moment are no sign of silence.
    pub(in crate::router) fn was_silent(&self, answers: u32) {
        if answers == self.answers() {
            self.slot.state.observe(self.slot.index, Observation::Silent { answers });
        }
    }

    pub(in crate::router) fn probed(&self, report: Report) {
        self.slot.state.observe(self.slot.index, Observation::Probed(report));
    }

    pub(in crate::router) fn probe_failed(&self) {
        self.slot.state.observe(self.slot.index, Observation::ProbeFailed);
    }

    /// It has replayed up to this place, by its own answer to a query sent at `sent_at`.
    pub(in crate::router) fn replayed(&self, place: Place, sent_at: Duration) {
        let Place { timeline, lsn } = place;
        if self.slot.state.table.load().has_replayed(self.slot.index, timeline, lsn) {
            return;
        }
        self.slot.state.observe(self.slot.index, Observation::Replayed { sent_at, timeline, lsn });
    }

    /// The place of a write that this connection's server, of this generation, has just acknowledged.
    pub(in crate::router) fn written(&self, generation: u32, lsn: Lsn) -> (Option<u64>, Option<Place>) {
        let table = self.slot.state.table.load();
        let is_same = table.writer() == Writer::One(self.slot.index) && self.standing().1 == generation;
        let timeline = table.writer_timeline().filter(|_| is_same);
        (table.system(), timeline.map(|timeline| Place { timeline, lsn: lsn.before_page_header() }))
    }

    /// By order of an operator.
    pub(in crate::router) fn forget(&self) {
        self.slot.state.observe(self.slot.index, Observation::Forgotten);
    }

    pub(in crate::router) fn told_role(&self, role: Role) {
        self.slot.state.observe(self.slot.index, Observation::Role(role));
    }

    /// Answers since the beginning, to calls and probes.
    pub(in crate::router) fn answers(&self) -> u32 {
        self.live().answers()
    }

    /// Answers of any kind, including logins.
    pub(in crate::router) fn signs_of_life(&self) -> u32 {
        self.live().answers().wrapping_add(self.live().log_ins())
    }

    fn live(&self) -> &NodeLive {
        self.slot.state.live.node(self.slot.index)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.state.lock().cluster.release(self.index);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let state = &self.node.slot.state;
        state.live.node(self.node.slot.index).leave();
        if self.is_fallback {
            state.live.budget().give_back();
            state.changed.notify_one();
        }
    }
}
