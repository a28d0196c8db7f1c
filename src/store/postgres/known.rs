//! What this process knows of the log, besides the waiting appends: it makes calls cheaper, and never changes an
//! answer.

use std::{
    collections::HashSet,
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{
    append::{merge::Unmerged, prepared::PreparedGuard},
    read::read_sql::NEAR,
    tail::Tail,
};
use crate::{
    Mark,
    store::{Order, QueryRequest},
};

/// What the clones of a store share.
#[derive(Debug, Default)]
pub(super) struct LogKnowledge {
    /// Where it ends, approximately.
    pub(super) seen: ApproximateHead,
    /// What this process has written at its end.
    pub(super) tail: Arc<Tail>,
    /// How much of that is not merged into the indexes.
    pub(super) unmerged: Arc<Unmerged>,
    /// What conditions on the whole log need not look up any more.
    pub(super) tags_in_use: TagsInUse,
}

/// Conditions on the whole log whose tags are known to have events: perhaps a million. To look these up within a batch
/// would decide nothing, and delay every append in it.
#[derive(Debug, Default)]
pub(super) struct TagsInUse {
    hasher: RandomState,
    conditions: Mutex<HashSet<u64>>,
}

/// How many of them are remembered before all are forgotten.
const MOST_IN_USE: usize = 4096;

impl TagsInUse {
    /// Whether the condition must be checked separately, before the lock.
    pub(super) fn has(&self, guard: &PreparedGuard) -> bool {
        let conditions = self.conditions.lock().unwrap_or_else(PoisonError::into_inner);
        guard.tags.is_none() || conditions.contains(&self.hasher.hash_one(&guard.items))
    }

    pub(super) fn add(&self, guard: &PreparedGuard) {
        let mut conditions = self.conditions.lock().unwrap_or_else(PoisonError::into_inner);
        if conditions.len() >= MOST_IN_USE {
            conditions.clear();
        }
        conditions.insert(self.hasher.hash_one(&guard.items));
    }
}

/// Where the log was last seen to end. It may end further on by now, or have lost what was seen: this only chooses
/// between statements that return the same answer.
#[derive(Debug, Default)]
pub(super) struct ApproximateHead(AtomicU64);

impl ApproximateHead {
    pub(super) fn head(&self, head: Option<Mark>) {
        self.0.fetch_max(Mark::position_or_zero(head), Ordering::Relaxed);
    }

    /// Whether at most this many events seem to follow a position.
    pub(super) fn is_within(&self, after: u64, events: u64) -> bool {
        let head = self.0.load(Ordering::Relaxed);
        head > 0 && head.saturating_sub(after) <= events
    }

    /// The position after which everything is requested, if few events seem to follow it.
    pub(super) fn is_near(&self, request: &QueryRequest) -> Option<u64> {
        let whole = request.limit.is_none() && request.order == Order::OldestFirst;
        request.bounds.after.filter(|after| whole && self.is_within(*after, NEAR))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        AppendCondition, Filter,
        store::{AppendRequest, postgres::append::prepared::Prepared},
    };

    #[test]
    fn conditions_that_were_asked_in_vain_are_remembered_and_not_for_ever() {
        let guard = |filter: Filter| {
            let condition = AppendCondition::fail_if_events_match(filter);
            let request = AppendRequest { events: Vec::new(), condition, stream: None, timeout: None };
            Prepared::new(request).guard.expect("it has one")
        };
        let by_tag = |tag: &str| guard(Filter::matching().all_tags_of([tag]).finish().expect("it is valid"));
        let taken = TagsInUse::default();
        assert!(!taken.has(&by_tag("new")));
        taken.add(&by_tag("old"));
        assert_eq!((taken.has(&by_tag("old")), taken.has(&by_tag("new"))), (true, false));
        let by_type = guard(Filter::matching().any_type_of(["A"]).finish().expect("it is valid"));
        assert!(taken.has(&by_type), "there is nothing to look up");
        let many = |n: usize| {
            let each = (0..n).map(|n| Filter::matching().all_tags_of([n.to_string()]).finish().expect("it is valid"));
            guard(Filter::union(each).expect("there is one"))
        };
        assert_eq!((taken.has(&many(64)), taken.has(&many(65))), (false, true), "others would wait for so many");
        (0..MOST_IN_USE).for_each(|n| taken.add(&by_tag(&n.to_string())));
        assert!(!taken.has(&by_tag("old")));
    }

    #[test]
    fn few_events_behind_a_position_are_near() {
        let seen = ApproximateHead::default();
        let request = |after| QueryRequest::new(&Filter::any_event().after_position(after));
        assert_eq!(seen.is_near(&request(5)), None, "nothing has been seen");
        seen.0.store(1000, Ordering::Relaxed);
        assert_eq!(seen.is_near(&request(1000 - NEAR)), Some(1000 - NEAR));
        assert_eq!(seen.is_near(&request(5000)), Some(5000));
        assert_eq!(seen.is_near(&request(999 - NEAR)), None);
        assert_eq!(seen.is_near(&QueryRequest::new(&Filter::any_event())), None);
        assert_eq!(seen.is_near(&QueryRequest { limit: Some(1), ..request(1000) }), None);
        assert_eq!(seen.is_near(&QueryRequest { order: Order::NewestFirst, ..request(1000) }), None);
    }
}
