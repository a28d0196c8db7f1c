//! Which conditions are known to look too far back for the lock.

use super::*;
use crate::store::postgres::tail::UNDER_THE_LOCK;

#[test]
fn conditions_too_far_back_for_the_lock_are_recognized() {
    let mut log = Log::new();
    let is_far = |log: &Log, position| log.tail.is_far_behind(After::Position(position));
    assert!(!is_far(&log, 0), "nothing is known");
    log.others_write(events(&["theirs", "theirs"]));
    let many = |amount: u64| (0..amount).map(|_| event("many")).collect();
    log.write(many(UNDER_THE_LOCK - 2));
    assert!(!is_far(&log, 0), "few enough to be looked at under the lock");
    log.write(many(1));
    assert!(is_far(&log, 0) && !is_far(&log, 1));
    log.write(many(10));
    assert!(is_far(&log, 2), "before the first event that is known, there may be another history");
    assert!(!is_far(&log, 3), "all after it is known");
    assert!(!is_far(&log, u64::MAX), "beyond the head");
}
