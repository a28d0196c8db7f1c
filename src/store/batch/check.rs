//! What must hold for any filter and any event. Not for users: `fuzz/` calls it.

use std::collections::HashSet;

use super::{EventKeys, GuardKeys, KeyField, keys};
use crate::{Filter, NewEvent, filter::Subject};

/// Whether the event matches. If it does, it has one of the filter's keys: hashed, as they are looked up here, and in
/// full, as they are looked up in the log. Otherwise a condition with this filter would miss the event.
///
/// # Panics
///
/// If there is no such key.
#[must_use]
#[cfg_attr(not(feature = "testing"), expect(unreachable_pub, reason = "the tests call it, too"))]
pub fn __guard(filter: &Filter, event: &NewEvent) -> bool {
    let is_match = filter.matches_subject(&Subject::from(event));
    if is_match {
        let guard = GuardKeys::of(filter);
        let hashes: HashSet<u64> = EventKeys::of(event).hashes().iter().copied().collect();
        assert!(guard.hashes().iter().any(|key| hashes.contains(key)), "no hash of {filter:?} is one of {event:?}");
        let places: HashSet<(KeyField, String)> = keys::places(event).into_iter().collect();
        assert!(guard.places().iter().any(|key| places.contains(key)), "no key of {filter:?} is one of {event:?}");
    }
    is_match
}
