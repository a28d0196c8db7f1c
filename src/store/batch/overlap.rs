//! Which of several appends go into one batch, and which of them stand in each other's way.

use std::collections::{HashMap, HashSet};

use super::{EventKeys, GuardKeys};
use crate::{EventId, Filter, NewEvent, filter::Subject};

/// An append has no more of these, since between appends to one boundary there would be quadratically many. If none of those
/// that it stands behind is written, it goes again.
const MAX_EDGES: usize = 8;

/// An append that might go into the batch.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct Candidate<'a> {
    pub(in crate::store) events: &'a [NewEvent],
    /// Of each event.
    pub(in crate::store) keys: &'a [EventKeys],
    pub(in crate::store) guard: Option<(&'a Filter, &'a GuardKeys)>,
}

/// That an event which is to be appended breaks the condition of an append after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) struct Edge {
    /// The append, by its place in the batch.
    pub(in crate::store) append: usize,
    /// The event, by its place among all events of the batch. `None` when there may be more behind the append's others: it
    /// comes last.
    pub(in crate::store) event: Option<usize>,
}

/// What is to be done with the candidates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::store) struct Plan {
    /// Whether each goes into the batch.
    pub(in crate::store) included: Vec<bool>,
    /// In the order of the appends; of each pair of appends the first event that matters.
    pub(in crate::store) edges: Vec<Edge>,
}

/// Plans a batch. The first candidate is always in it.
///
/// Put off is who has an id that is in the batch already: it is perhaps the repeat of an append that is not written yet.
pub(in crate::store) fn plan(candidates: &[Candidate<'_>]) -> Plan {
    let wanted: HashSet<u64> =
        candidates.iter().filter_map(|it| it.guard).flat_map(|(_, keys)| keys.hashes()).copied().collect();
    let mut ids: HashSet<EventId> = HashSet::new();
    let mut batch = Batch::default();
    let mut plan = Plan::default();
    for candidate in candidates {
        let is_new = candidate.events.iter().all(|event| !ids.contains(&event.id()));
        plan.included.push(is_new);
        if !is_new {
            continue;
        }
        plan.edges.extend(batch.edges(candidate));
        ids.extend(candidate.events.iter().map(NewEvent::id));
        batch.add(candidate, &wanted);
    }
    plan
}

/// The appends that are in the batch so far.
#[derive(Default)]
struct Batch<'a> {
    appends: usize,
    /// With the append of each.
    events: Vec<(usize, Subject<'a>)>,
    by_key: HashMap<u64, Vec<usize>>,
}

impl<'a> Batch<'a> {
    /// For each append that breaks the candidate's condition its first event that does, up to the limit.
    fn edges(&self, candidate: &Candidate<'_>) -> Vec<Edge> {
        let Some((filter, keys)) = candidate.guard else { return Vec::new() };
        let sharing = keys.hashes().iter().filter_map(|key| self.by_key.get(key));
        let mut sharing: Vec<usize> = sharing.flatten().copied().collect();
        sharing.sort_unstable();
        sharing.dedup();
        let mut edges: Vec<Edge> = Vec::new();
        let mut last = None;
        for event in sharing {
            let (append, subject) = &self.events[event];
            if edges.len() == MAX_EDGES && last != Some(*append) {
                edges.push(Edge { append: self.appends, event: None });
                break;
            }
            if last != Some(*append) && filter.matches_subject(subject) {
                edges.push(Edge { append: self.appends, event: Some(event) });
                last = Some(*append);
            }
        }
        edges
    }

    fn add(&mut self, candidate: &Candidate<'a>, wanted: &HashSet<u64>) {
        for (event, keys) in candidate.events.iter().zip(candidate.keys) {
            let place = self.events.len();
            for key in keys.hashes().iter().filter(|key| wanted.contains(key)) {
                self.by_key.entry(*key).or_default().push(place);
            }
            self.events.push((self.appends, Subject::from(event)));
        }
        self.appends += 1;
    }
}
