//! Compares the log after a race with the answers that the racers received.
//!
//! The log has one order, so all rules can be checked afterwards: each acknowledged append must have been right at its
//! place, and each read must have been the log up to its head.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{
    super::fixture::{Store, log},
    race::{Attempt, Read, Score},
};
use crate::{Appended, Error, Event, EventId, History, Mark, NewEvent};

/// The reports of all racers.
pub(super) struct Oracle {
    pub(super) reads: Vec<Read>,
    pub(super) attempts: Vec<Attempt>,
}

/// The most broken rules that a failure reports.
const TOLD: usize = 8;

const LOST: &str = "lost conflict: ";
const UNEXPECTED: &str = "unexpected error: ";

impl Oracle {
    /// Fails with the rules that were broken; returns the score if none was.
    pub(super) async fn judge(&self, store: Store<'_>) -> Score {
        let log = Log::new(log(store).await);
        let mut broken = log.disorder();
        broken.extend(self.attempts.iter().flat_map(|attempt| log.broken_by_attempt(attempt)));
        broken.extend(self.strangers(&log));
        let ends = self.attempts.iter().filter_map(|attempt| Some(attempt.outcome.as_ref().ok()?.last())).collect();
        broken.extend(self.reads.iter().filter_map(|read| log.broken_by_read(read, &ends)));
        // The worst first; an error says the least.
        broken.sort_by_key(|rule| (!rule.starts_with(LOST), rule.starts_with(UNEXPECTED)));
        let told = broken.iter().take(TOLD).map(|rule| format!("\n- {rule}")).collect::<String>();
        assert!(broken.is_empty(), "{} of the race's answers break the rules:{told}", broken.len());
        let won = self.attempts.iter().filter(|attempt| attempt.outcome.is_ok()).count();
        Score { won, lost: self.attempts.len() - won }
    }

    /// Events in the log that were acknowledged to nobody.
    fn strangers(&self, log: &Log) -> Vec<String> {
        let told = self.attempts.iter().filter(|attempt| attempt.outcome.is_ok());
        let told: HashSet<EventId> = told.flat_map(|attempt| &attempt.events).map(NewEvent::id).collect();
        let strangers = log.history.iter().filter(|event| !told.contains(&event.id()));
        strangers.map(|event| format!("the log holds {}, which was never acknowledged", event.mark())).collect()
    }
}

/// The log after the race.
struct Log {
    history: History,
    by_position: BTreeMap<u64, usize>,
    by_id: HashMap<EventId, usize>,
}

impl Log {
    fn new(history: History) -> Self {
        let by_position = history.iter().enumerate().map(|(index, event)| (event.position(), index)).collect();
        let by_id = history.iter().enumerate().map(|(index, event)| (event.id(), index)).collect();
        Self { history, by_position, by_id }
    }

    fn at(&self, position: u64) -> Option<&Event> {
        self.by_position.get(&position).map(|&index| &self.history[index])
    }

    fn disorder(&self) -> Vec<String> {
        let mut broken = Vec::new();
        if !self.history.is_sorted_by(|a, b| a.position() < b.position()) {
            broken.push("the log is not in the order of its positions, each once".to_owned());
        }
        if self.by_id.len() < self.history.len() {
            broken.push("the log holds an event twice".to_owned());
        }
        broken
    }

    fn broken_by_attempt(&self, attempt: &Attempt) -> Vec<String> {
        let broken = match &attempt.outcome {
            Ok(appended) => [self.lost_conflict(attempt), self.missing(attempt, appended)],
            Err(error) if error.is_conflict() => [self.false_conflict(attempt, error), self.leftover(attempt)],
            Err(error) => [Some(format!("{UNEXPECTED}{}", error.report())), None],
        };
        broken.into_iter().flatten().collect()
    }

    fn missing(&self, attempt: &Attempt, appended: &Appended) -> Option<String> {
        let positions = appended.positions();
        let whole = positions.clone().count() == attempt.events.len() && !appended.is_repeated();
        let there = positions
            .clone()
            .zip(&attempt.events)
            .all(|(position, event)| self.at(position).is_some_and(|recorded| event.is_recorded_as(recorded)));
        (!whole || !there).then(|| format!("an append was acknowledged at {positions:?}, but its events are not there"))
    }

    /// The most important check: an append that should have been refused. Its events count where they are, whoever was
    /// told of them.
    fn lost_conflict(&self, attempt: &Attempt) -> Option<String> {
        let first = self.history[*self.by_id.get(&attempt.events.first()?.id())?].position();
        let after = attempt.after?;
        let mut between = self.history.iter().filter(|event| event.position() > after && event.position() < first);
        let breaks = between.find(|event| attempt.filter.matches(event))?;
        let (at, filter) = (breaks.mark(), &attempt.filter);
        Some(format!(
            "{LOST}the append at {first} was based on the log up to {after}, but {at} came between: {filter:?}"
        ))
    }

    fn false_conflict(&self, attempt: &Attempt, error: &Error) -> Option<String> {
        let Some(after) = attempt.after else { return Some(format!("a conflict without a condition: {error}")) };
        let Some(conflict) = error.conflict() else { return Some(format!("a conflict with nothing: {error}")) };
        // Any match will do: a racer may be told of another racer's event although the log had a match before.
        let found =
            self.at(conflict.position).filter(|event| conflict.position > after && attempt.filter.matches(event));
        let found = found.map(|event| (event.position(), event.event_type()));
        let told = (conflict.position, &*conflict.event_type);
        (found != Some(told)).then(|| format!("a conflict with {told:?} after {after}, where the log has {found:?}"))
    }

    fn leftover(&self, attempt: &Attempt) -> Option<String> {
        let left = attempt.events.iter().find(|event| self.by_id.contains_key(&event.id()))?;
        Some(format!("the log holds {}, of an append that was refused", left.id()))
    }

    /// `ends` are the last events of all appends: a head is one of them.
    fn broken_by_read(&self, read: &Read, ends: &HashSet<Mark>) -> Option<String> {
        let head = read.head.map_or(0, |head| head.position());
        if read.head.is_some_and(|head| !ends.contains(&head)) {
            return Some(format!("a read ended at {head}, in the middle of an append or at no event of the log"));
        }
        if head < read.floor {
            return Some(format!("a read ended at {head}, when {} had been acknowledged before it began", read.floor));
        }
        let expected = self.history.iter().filter(|event| event.position() <= head && read.filter.matches(event));
        let expected: Vec<Mark> = expected.map(Event::mark).collect();
        let seen: HashSet<&Mark> = read.events.iter().collect();
        let missing = expected.iter().find(|mark| !seen.contains(mark));
        match missing {
            Some(mark) => {
                Some(format!("a read up to {head} has not seen {mark}, which appeared below it: {:?}", read.filter))
            }
            None if expected != read.events => {
                Some(format!("a read up to {head} is not the log's order, or not the log's"))
            }
            None => None,
        }
    }
}
