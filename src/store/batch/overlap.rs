//! Which of several appends go into one batch, and which of them conflict.

use std::collections::HashSet;

use super::{EventKeys, GuardKeys, KeyMap, KeySet};
use crate::{EventId, Filter, NewEvent, filter::Subject};

/// The most events of others that an append is compared with, since between appends to one boundary there would be
/// quadratically many. If none of these is written, the append is sent again.
const MAX_RIVALS: usize = 8;

/// An append that might go into the batch.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct Candidate<'a> {
    pub(in crate::store) events: &'a [NewEvent],
    /// For each event.
    pub(in crate::store) keys: &'a [EventKeys],
    pub(in crate::store) guard: Option<(&'a Filter, &'a GuardKeys)>,
    /// The stream that it goes to.
    pub(in crate::store) stream: Option<&'a str>,
    /// Whether it must be sent, whatever the others would do to its condition.
    pub(in crate::store) goes_first: bool,
}

/// An event of another append in the batch, which breaks the condition if it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) struct Rival {
    /// The append, by its index among the candidates.
    pub(in crate::store) append: usize,
    /// The first of its events that matters.
    pub(in crate::store) event: usize,
}

/// When a candidate is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) enum Turn {
    /// Now: nothing in the batch affects it.
    Now,
    /// In a later batch.
    Later,
    /// When the outcome of these is known; never, if one of them is written.
    After(Vec<Rival>),
}

/// Plans a batch of `most` appends: nothing in it breaks the condition of anything after it. The first candidate is
/// always in it.
///
/// An append is deferred if it has an id that is already in the batch: it may be the repeat of an append that is not
/// written yet. So is an append to a stream that follows one which is not sent now: it may expect the version that this
/// one leaves.
pub(in crate::store) fn plan(candidates: &[Candidate<'_>], most: usize) -> Vec<Turn> {
    let wanted: KeySet =
        candidates.iter().filter_map(|it| it.guard).flat_map(|(_, keys)| keys.hashes()).copied().collect();
    let mut ids: HashSet<EventId> = HashSet::new();
    let mut held_streams: HashSet<&str> = HashSet::new();
    let mut batch = Batch::default();
    let mut turns = Vec::with_capacity(candidates.len());
    for (place, candidate) in candidates.iter().enumerate() {
        let is_free = candidate.stream.is_none_or(|stream| !held_streams.contains(stream))
            && candidate.events.iter().all(|event| !ids.contains(&event.id()));
        let rivals = if is_free { batch.rivals(candidate) } else { Vec::new() };
        let turn = match () {
            () if !is_free || candidate.goes_first && batch.appends > 0 => Turn::Later,
            () if !rivals.is_empty() => Turn::After(rivals),
            () if batch.appends == most.max(1) => Turn::Later,
            () => {
                ids.extend(candidate.events.iter().map(NewEvent::id));
                batch.add(place, candidate, &wanted);
                Turn::Now
            }
        };
        if turn != Turn::Now {
            held_streams.extend(candidate.stream);
        }
        turns.push(turn);
    }
    turns
}

/// The appends that are in the batch so far.
#[derive(Default)]
struct Batch<'a> {
    appends: usize,
    events: Vec<(Rival, Subject<'a>)>,
    by_key: KeyMap<Vec<usize>>,
}

impl<'a> Batch<'a> {
    /// For each append that breaks the candidate's condition, its first event that does, up to the limit.
    fn rivals(&self, candidate: &Candidate<'_>) -> Vec<Rival> {
        let Some((filter, keys)) = candidate.guard else { return Vec::new() };
        let sharing = keys.hashes().iter().filter_map(|key| self.by_key.get(key));
        let mut sharing: Vec<usize> = sharing.flatten().copied().collect();
        sharing.sort_unstable();
        sharing.dedup();
        let mut rivals: Vec<Rival> = Vec::new();
        for (rival, subject) in sharing.into_iter().map(|event| &self.events[event]) {
            if rivals.len() == MAX_RIVALS {
                break;
            }
            let is_first = rivals.last().is_none_or(|last| last.append != rival.append);
            if is_first && filter.matches_subject(subject) {
                rivals.push(*rival);
            }
        }
        rivals
    }

    fn add(&mut self, place: usize, candidate: &Candidate<'a>, wanted: &KeySet) {
        for (index, (event, keys)) in candidate.events.iter().zip(candidate.keys).enumerate() {
            let keys = keys.hashes().iter().filter(|key| wanted.contains(key));
            let mut is_wanted = false;
            for key in keys {
                is_wanted = true;
                self.by_key.entry(*key).or_default().push(self.events.len());
            }
            if is_wanted {
                self.events.push((Rival { append: place, event: index }, Subject::from(event)));
            }
        }
        self.appends += 1;
    }
}
