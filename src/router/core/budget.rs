//! How much of the replicas' work the primary takes over when they are gone.

use std::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
    time::Duration,
};

use super::live::nanos;

/// How long after its last refusal the budget counts as exhausted: places come and go thousands of times a second, and
/// watchers want to know that there are too few of them.
const SPENT_FOR: Duration = Duration::from_secs(1);

/// The limits of the fallback: concurrent calls, and calls per second.
///
/// Two numbers and no queue: a call without a place waits outside for a while, or goes elsewhere.
#[derive(Debug)]
pub(in crate::router) struct Budget {
    at_once: u32,
    /// The time between two calls at the highest rate; 0 without a limit.
    interval: u64,
    /// How much the calls may be ahead of that rate: a second's worth of them.
    burst: u64,
    taken: AtomicU32,
    /// When the last call would have been due if all came at the highest rate (Generic Cell Rate Algorithm).
    due: AtomicU64,
    /// When it last refused a call, in nanoseconds; 0 if it has refused none.
    refused_at: AtomicU64,
}

impl Budget {
    pub(in crate::router) fn new(at_once: u32, per_second: Option<u32>) -> Self {
        let interval = per_second.map_or(0, |rate| 1_000_000_000 / u64::from(rate.max(1)));
        let burst = 1_000_000_000_u64.saturating_sub(interval);
        Self {
            at_once,
            interval,
            burst,
            taken: AtomicU32::new(0),
            due: AtomicU64::new(0),
            refused_at: AtomicU64::new(0),
        }
    }

    /// For a router that need not protect its primary, or never falls back to it.
    pub(in crate::router) fn unlimited() -> Self {
        Self::new(u32::MAX, None)
    }

    /// Takes a place, which has to be [returned](Self::give_back).
    pub(in crate::router) fn take(&self, now: Duration) -> bool {
        let at_once = if flawed!(NoBudget) { u32::MAX } else { self.at_once };
        let one_more = |taken: u32| (taken < at_once).then_some(taken + 1);
        if self.taken.fetch_update(Ordering::AcqRel, Ordering::Relaxed, one_more).is_err() {
            self.refused(now);
            return false;
        }
        let at = nanos(now);
        let next = |due: u64| (due <= at.saturating_add(self.burst)).then(|| due.max(at) + self.interval);
        if self.interval > 0
            && !flawed!(NoRate)
            && self.due.fetch_update(Ordering::AcqRel, Ordering::Relaxed, next).is_err()
        {
            self.give_back();
            self.refused(now);
            return false;
        }
        true
    }

    pub(in crate::router) fn give_back(&self) {
        self.taken.fetch_sub(1, Ordering::AcqRel);
    }

    fn refused(&self, now: Duration) {
        self.refused_at.store(nanos(now).max(1), Ordering::Relaxed);
    }

    /// Whether it has recently refused a call.
    pub(in crate::router) fn is_spent(&self, now: Duration) -> bool {
        let refused_at = self.refused_at.load(Ordering::Relaxed);
        refused_at > 0 && nanos(now).saturating_sub(refused_at) < nanos(SPENT_FOR)
    }

    /// How many places are taken.
    pub(in crate::router) fn taken(&self) -> u32 {
        self.taken.load(Ordering::Relaxed)
    }

    pub(in crate::router) fn at_once(&self) -> u32 {
        self.at_once
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_at_once_than_there_are_places() {
        let budget = Budget::new(2, None);
        assert!(budget.take(Duration::ZERO) && budget.take(Duration::ZERO) && !budget.take(Duration::ZERO));
        budget.give_back();
        assert!(budget.take(Duration::ZERO) && !budget.take(Duration::ZERO));
    }

    #[test]
    fn the_budget_counts_as_exhausted_until_a_second_after_its_last_refusal() {
        for budget in [Budget::new(1, None), Budget::new(1000, Some(1))] {
            let at = Duration::from_millis;
            assert!(budget.take(at(0)) && !budget.is_spent(at(0)));
            assert!(!budget.take(at(0)) && budget.is_spent(at(0)));
            assert!(!budget.take(at(500)) && budget.is_spent(at(1499)) && !budget.is_spent(at(1500)));
        }
    }

    #[test]
    fn no_more_in_a_second_than_the_rate_and_a_second_of_it_in_one_go() {
        let budget = Budget::new(1000, Some(10));
        let granted = |from: u64, to: u64| {
            let taken = (from..to).filter(|&ms| {
                let taken = budget.take(Duration::from_millis(ms));
                if taken {
                    budget.give_back();
                }
                taken
            });
            taken.count()
        };
        assert_eq!(granted(5000, 5001) + granted(5001, 5010), 10);
        assert!((109..=110).contains(&granted(6000, 16_000)));
    }
}
