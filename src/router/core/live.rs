//! The counters that calls update while they run: the only state of the router that the hot path writes.

use std::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
    time::Duration,
};

use super::budget::Budget;

/// Without a measurement for this long, a latency estimate is halved: a few calls try a slow node again some seconds
/// later.
const HALF_LIFE: u64 = 1_000_000_000;

/// Latencies below this one count as equal: 100 µs.
const FLOOR: u64 = 100_000;

/// No latency counts as longer than this: 10 s. (It also keeps the products of a comparison within 64 bits.)
const CEILING: u64 = 10_000_000_000;

/// The counters of all nodes, and of the fallback.
#[derive(Debug)]
pub(in crate::router) struct Live {
    nodes: Box<[NodeLive]>,
    budget: Budget,
}

/// The counters of one node. Relaxed everywhere: they are estimates, and order nothing else. A separate cache line for
/// each, so that calls on two nodes do not wait for each other.
#[derive(Debug)]
#[repr(align(64))]
pub(in crate::router) struct NodeLive {
    /// Calls that wait for a connection or use one.
    in_flight: AtomicU32,
    /// The number of connections: a call that arrives when all are in use waits.
    capacity: AtomicU32,
    answers: AtomicU32,
    log_ins: AtomicU32,
    served: AtomicU32,
    /// In nanoseconds; 0 before the first measurement.
    latency: AtomicU64,
    measured_at: AtomicU64,
    /// No call may try an ejected node before this.
    next_trial: AtomicU64,
}

impl Live {
    /// `capacities` are the sizes of the pools, `None` if only the owner knows.
    pub(in crate::router) fn new(capacities: impl IntoIterator<Item = Option<u32>>, budget: Budget) -> Self {
        let nodes = capacities.into_iter().map(|capacity| NodeLive {
            in_flight: AtomicU32::new(0),
            capacity: AtomicU32::new(capacity.unwrap_or(u32::MAX)),
            answers: AtomicU32::new(0),
            log_ins: AtomicU32::new(0),
            served: AtomicU32::new(0),
            latency: AtomicU64::new(0),
            measured_at: AtomicU64::new(0),
            next_trial: AtomicU64::new(0),
        });
        Self { nodes: nodes.collect(), budget }
    }

    pub(in crate::router) fn node(&self, node: usize) -> &NodeLive {
        &self.nodes[node]
    }

    pub(in crate::router) fn budget(&self) -> &Budget {
        &self.budget
    }
}

impl NodeLive {
    /// A call is on its way to this node. It [leaves](Self::leave) when it is done.
    pub(in crate::router) fn enter(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    pub(in crate::router) fn leave(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// An answer arrived, to a call or a probe.
    pub(in crate::router) fn answered(&self) {
        self.answers.fetch_add(1, Ordering::Relaxed);
    }

    /// It has accepted a login. Whether it answers statements is another question.
    pub(in crate::router) fn logged_in(&self) {
        self.log_ins.fetch_add(1, Ordering::Relaxed);
    }

    /// A call was served.
    pub(in crate::router) fn served(&self) {
        self.served.fetch_add(1, Ordering::Relaxed);
    }

    /// A call took this long.
    pub(in crate::router) fn measured(&self, now: Duration, latency: Duration) {
        let sample = nanos(latency).clamp(1, CEILING);
        let (old, before) = (self.latency(now), self.latency.load(Ordering::Relaxed));
        let new = if sample > old {
            // Quickly up, since the next calls are about to go there, but one slow statement must not look like a slow
            // node: a sample counts as at most twice the previous value.
            sample.min(2 * before.max(FLOOR))
        } else {
            old - (old - sample) / 8
        };
        self.latency.store(new, Ordering::Relaxed);
        self.measured_at.store(nanos(now), Ordering::Relaxed);
    }

    pub(in crate::router) fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    pub(in crate::router) fn capacity(&self) -> u32 {
        self.capacity.load(Ordering::Relaxed)
    }

    /// From now on this counts for another node, with this many connections. Nothing counts for the former one any
    /// more.
    pub(in crate::router) fn start_anew(&self, capacity: Option<u32>) {
        self.capacity.store(capacity.unwrap_or(u32::MAX), Ordering::Relaxed);
        for counter in [&self.latency, &self.measured_at, &self.next_trial] {
            counter.store(0, Ordering::Relaxed);
        }
    }

    pub(in crate::router) fn is_full(&self) -> bool {
        self.in_flight() >= self.capacity()
    }

    /// Answers since the beginning, wrapping.
    pub(in crate::router) fn answers(&self) -> u32 {
        self.answers.load(Ordering::Relaxed)
    }

    /// Logins since the beginning, wrapping.
    pub(in crate::router) fn log_ins(&self) -> u32 {
        self.log_ins.load(Ordering::Relaxed)
    }

    /// Calls served since the beginning, wrapping.
    pub(in crate::router) fn calls_served(&self) -> u32 {
        self.served.load(Ordering::Relaxed)
    }

    /// The smoothed latency in nanoseconds, minus what has decayed since it was measured; 0 if unknown.
    pub(in crate::router) fn latency(&self, now: Duration) -> u64 {
        let measured = self.latency.load(Ordering::Relaxed);
        let age = nanos(now).saturating_sub(self.measured_at.load(Ordering::Relaxed));
        let halved = measured.checked_shr((age / HALF_LIFE) as u32).unwrap_or(0);
        // Linear between two halvings.
        halved - (halved / 2) * (age % HALF_LIFE) / HALF_LIFE
    }

    /// The latencies of two nodes for comparison. Decay can make an estimate as good as the other one, but never
    /// better: only a measurement can. One that was never measured is as good as the other.
    pub(super) fn latencies(&self, other: &Self, now: Duration) -> (u64, u64) {
        let at_best = |node: &Self, faded: u64, others: u64| match node.latency.load(Ordering::Relaxed) {
            0 => others,
            measured => faded.max(measured.min(others)),
        };
        let (own, others) = (self.latency(now), other.latency(now));
        (at_best(self, own, others).max(FLOOR), at_best(other, others, own).max(FLOOR))
    }

    /// Whether this call may try an ejected node: one at a time may, the next one `pause` later. It need not report the
    /// result, since a dropped call reports nothing.
    pub(super) fn claim_trial(&self, from: Duration, now: Duration, pause: Duration) -> bool {
        let next = self.next_trial.load(Ordering::Relaxed);
        let (now, from) = (nanos(now), nanos(from));
        now >= from
            && now >= next
            && self
                .next_trial
                .compare_exchange(next, now.saturating_add(nanos(pause)), Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }
}

pub(super) fn nanos(duration: Duration) -> u64 {
    duration.as_nanos().try_into().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live() -> Live {
        Live::new([Some(2), None], Budget::unlimited())
    }

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_single_slow_statement_does_not_make_a_node_slow_but_three_do() {
        let live = live();
        let node = live.node(0);
        for call in 0..20 {
            node.measured(MS * call, MS);
        }
        node.measured(20 * MS, 20 * MS);
        assert!(node.latency(20 * MS) <= 2_000_000);
        node.measured(21 * MS, 20 * MS);
        node.measured(22 * MS, 20 * MS);
        assert!(node.latency(22 * MS) >= 7_000_000);
    }

    #[test]
    fn an_unmeasured_latency_fades_to_the_other_nodes_and_no_further() {
        let live = live();
        let (slow, fast) = (live.node(0), live.node(1));
        (0..9).for_each(|_| slow.measured(Duration::ZERO, 20 * MS));
        let mut last = u64::MAX;
        for second in 0..100 {
            let now = Duration::from_secs(second);
            fast.measured(now, MS);
            let (slow, fast) = slow.latencies(fast, now);
            assert!(slow <= last && slow >= fast, "{slow} and {fast} after {second} s");
            last = slow;
        }
        assert_eq!(last, 1_000_000);
        // It was no better, and one call finds that out.
        slow.measured(Duration::from_secs(100), 20 * MS);
        assert_eq!(slow.latency(Duration::from_secs(100)), 20_000_000);
    }

    #[test]
    fn an_ejected_node_is_tried_by_one_call_per_interval() {
        let live = live();
        let tried = |now| (0..9).filter(|_| live.node(0).claim_trial(5 * MS, now, 10 * MS)).count();
        assert_eq!([4, 5, 14, 15].map(|now| tried(now * MS)), [0, 1, 0, 1]);
    }
}
