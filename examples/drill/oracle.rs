//! What must hold of the log, given all attempts and their answers.
//!
//! The log has one order, so all of it can be checked afterwards: each acknowledged append must have been valid at its
//! place, and whoever was reading must have seen the log grow only at its end.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
};

use mainstem::{Event, EventId, Filter};

use crate::{
    Outcome,
    journal::{Answer, Condition, Entry},
    readers::Seen,
};

/// A broken rule, and how it was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Broken {
    pub(crate) rule: Rule,
    pub(crate) how: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rule {
    OneWinner,
    TruePredecessor,
    CompleteRead,
    Acknowledged,
    Refused,
    OneOutcome,
    Whole,
    NobodysEvent,
    TrueConflict,
    CommitOrder,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OneWinner => "each version of a boundary has one winner",
            Self::TruePredecessor => "every winner saw its true predecessor",
            Self::CompleteRead => "a read is the log up to its head",
            Self::Acknowledged => "what was acknowledged is there, at its positions",
            Self::Refused => "what was refused is not there",
            Self::OneOutcome => "an append has one outcome",
            Self::Whole => "an append is whole or not there",
            Self::NobodysEvent => "every event was appended by somebody, once",
            Self::TrueConflict => "a conflict names a match behind `after`",
            Self::CommitOrder => "position order is commit order",
        })
    }
}

/// The outcome of the check.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) broken: Vec<Broken>,
    pub(crate) appends: u64,
    pub(crate) conflicts: u64,
    /// Conflicts with an event of another process.
    pub(crate) across: u64,
    /// Missing answers, and answers that nobody expects.
    pub(crate) unexplained: Vec<String>,
}

/// Checks the processes' journals and the readers' observations against the final log.
pub(crate) fn judge(journals: &[Vec<Entry>], log: &[Event], seen: &[Seen]) -> Outcome<Verdict> {
    let mut oracle = Oracle {
        log,
        by_id: log.iter().enumerate().map(|(index, event)| (event.id(), index)).collect(),
        matches: HashMap::new(),
        winners: HashMap::new(),
        verdict: Verdict::default(),
    };
    oracle.order();
    let entries =
        || journals.iter().enumerate().flat_map(|(process, journal)| journal.iter().map(move |it| (process, it)));
    let owners: HashMap<EventId, usize> =
        entries().flat_map(|(process, entry)| entry.events.iter().map(move |event| (event.id, process))).collect();
    for (process, entry) in entries() {
        oracle.entry(entry)?;
        oracle.across(process, entry, &owners);
    }
    let strangers = log.iter().filter(|event| !owners.contains_key(&event.id()));
    for stranger in strangers {
        oracle.breaks(Rule::NobodysEvent, format!("the log holds {}", stranger.mark()));
    }
    seen.iter().for_each(|seen| oracle.reader(seen));
    Ok(oracle.verdict)
}

struct Oracle<'a> {
    log: &'a [Event],
    by_id: HashMap<EventId, usize>,
    /// The positions of each filter's matching events.
    matches: HashMap<Filter, Vec<u64>>,
    /// Who changed each version of a boundary.
    winners: HashMap<(Filter, u64), u64>,
    verdict: Verdict,
}

impl Oracle<'_> {
    fn breaks(&mut self, rule: Rule, how: String) {
        self.verdict.broken.push(Broken { rule, how });
    }

    /// The positions of the matching events after `from`, up to `to`.
    fn matching(&mut self, filter: &Filter, from: u64, to: u64) -> &[u64] {
        if !self.matches.contains_key(filter) {
            let all = self.log.iter().filter(|event| filter.matches(event)).map(Event::position).collect();
            self.matches.insert(filter.clone(), all);
        }
        let all = &self.matches[filter];
        let begin = all.partition_point(|position| *position <= from);
        let end = all.partition_point(|position| *position <= to);
        &all[begin..end.max(begin)]
    }

    fn at(&self, position: u64) -> Option<&Event> {
        let index = self.log.binary_search_by_key(&position, Event::position).ok()?;
        self.log.get(index)
    }

    fn order(&mut self) {
        if !self.log.is_sorted_by(|a, b| a.position() < b.position()) {
            self.breaks(Rule::CommitOrder, "the log is not read in the order of its positions, each once".to_owned());
        }
        if self.by_id.len() < self.log.len() {
            self.breaks(Rule::NobodysEvent, "the log holds an event twice".to_owned());
        }
    }

    fn entry(&mut self, entry: &Entry) -> Outcome {
        let place = self.place(entry)?;
        let first_ones =
            entry.answers.iter().filter(|it| matches!(it, Answer::Appended { repeated: false, .. })).count();
        if first_ones > 1 || (entry.acknowledged().is_some() && entry.refused()) {
            self.breaks(Rule::OneOutcome, format!("{}: {:?}", named(entry), entry.answers));
        }
        for answer in &entry.answers {
            match answer {
                Answer::Appended { first, last, .. } => {
                    if place != Some((*first, *last)) {
                        let told =
                            format!("{} was acknowledged at {first} to {last}, and is at {place:?}", named(entry));
                        self.breaks(Rule::Acknowledged, told);
                    }
                }
                Answer::Conflict { position, event_type } => self.conflict(entry, *position, event_type),
                Answer::Other(error) | Answer::None(error) => {
                    self.verdict.unexplained.push(format!("{}: {error}", named(entry)));
                }
            }
        }
        if entry.acknowledged().is_some() {
            self.verdict.appends += 1;
        } else if entry.refused() {
            self.verdict.conflicts += 1;
            let left: Vec<_> = entry.events.iter().filter_map(|event| self.by_id.get(&event.id)).collect();
            if let Some(index) = left.first() {
                let mark = self.log[**index].mark();
                self.breaks(Rule::Refused, format!("{} was refused, and the log holds {mark}", named(entry)));
            }
        }
        let Some(condition) = &entry.condition else { return Ok(()) };
        self.complete_read(entry, condition);
        if let Some((first, _)) = place {
            self.winner(entry, condition, first);
        }
        Ok(())
    }

    /// The append's place in the log: first and last position.
    fn place(&mut self, entry: &Entry) -> Outcome<Option<(u64, u64)>> {
        let there: Vec<usize> = entry.events.iter().filter_map(|event| self.by_id.get(&event.id).copied()).collect();
        let Some(first) = there.first().copied() else { return Ok(None) };
        let mut whole = there.len() == entry.events.len();
        for (offset, (index, written)) in there.iter().zip(&entry.events).enumerate() {
            let (recorded, expected) = (&self.log[*index], self.log[first].position() + offset as u64);
            whole &= recorded.position() == expected && written.event()?.is_recorded_as(recorded);
        }
        if !whole {
            self.breaks(Rule::Whole, format!("of {} there is {:?}", named(entry), there));
        }
        let last = there.last().copied().unwrap_or(first);
        Ok(Some((self.log[first].position(), self.log[last].position())))
    }

    /// The core: was the append valid at its place?
    fn winner(&mut self, entry: &Entry, condition: &Condition, first: u64) {
        let Condition { filter, after, read } = condition;
        if let Some(mark) = after.filter(|mark| self.at(mark.position()).map(Event::mark) != Some(*mark)) {
            self.breaks(Rule::TruePredecessor, format!("{} is based on {mark}, which is not there", named(entry)));
        }
        let from = after.map_or(0, |mark| mark.position());
        if let Some(between) = self.matching(filter, from, first - 1).first().copied() {
            let how = format!(
                "{} at {first} is based on the log up to {from}, but {between} came between: {filter:?}",
                named(entry)
            );
            self.breaks(Rule::TruePredecessor, how);
        }
        // The events it read determine the version, unless the last match was before the part it read.
        let version = match read {
            None => Some(0),
            Some(read) => read.positions.last().copied().or_else(|| (read.from == 0).then_some(0)),
        };
        let length = entry.events.len() as u64;
        let changes = !self.matching(filter, first - 1, first + length - 1).is_empty();
        if let Some(version) = version.filter(|_| changes)
            && let Some(other) = self.winners.insert((filter.clone(), version), first)
        {
            let how = format!("the appends at {other} and at {first} both saw {version} last, by {filter:?}");
            self.breaks(Rule::OneWinner, how);
        }
    }

    fn complete_read(&mut self, entry: &Entry, condition: &Condition) {
        let Condition { filter, after, read: Some(read) } = condition else { return };
        let head = after.map_or(0, |mark| mark.position());
        let expected = self.matching(filter, read.from, head);
        if expected != read.positions {
            let missing: Vec<_> = expected.iter().filter(|it| !read.positions.contains(it)).take(3).copied().collect();
            let how = format!(
                "writer {} read {} events behind {} up to {head}, and there are {}; missing {missing:?}: {filter:?}",
                entry.writer,
                read.positions.len(),
                read.from,
                expected.len()
            );
            self.breaks(Rule::CompleteRead, how);
        }
    }

    fn conflict(&mut self, entry: &Entry, position: u64, event_type: &str) {
        let is_match = entry.condition.as_ref().is_some_and(|condition| {
            let from = condition.after.map_or(0, |mark| mark.position());
            self.matching(&condition.filter, from, u64::MAX).contains(&position)
        });
        if !is_match || self.at(position).is_none_or(|event| event.event_type() != event_type) {
            let how = format!("{} was told of {event_type:?} at {position}, which is none", named(entry));
            self.breaks(Rule::TrueConflict, how);
        }
    }

    fn across(&mut self, process: usize, entry: &Entry, owners: &HashMap<EventId, usize>) {
        let with = entry.answers.iter().find_map(|answer| match answer {
            Answer::Conflict { position, .. } => self.at(*position).and_then(|event| owners.get(&event.id())),
            _ => None,
        });
        self.verdict.across += u64::from(with.is_some_and(|owner| *owner != process));
    }

    /// A reader must have seen the log up to the reader's last event, in order. An event that it missed appeared below
    /// what it had seen.
    fn reader(&mut self, seen: &Seen) {
        let last = seen.events.iter().map(|(position, _)| *position).max().unwrap_or_default();
        let there: BTreeMap<u64, EventId> = self
            .log
            .iter()
            .filter(|event| event.position() <= last)
            .map(|event| (event.position(), event.id()))
            .collect();
        let known: HashSet<_> = seen.events.iter().collect();
        for (position, id) in there.iter().filter(|(position, id)| !known.contains(&(**position, **id))) {
            let how = format!("{position} ({id}) appeared below what the reader of the {} had seen", seen.by);
            self.breaks(Rule::CommitOrder, how);
        }
        for (position, id) in seen.events.iter().filter(|(position, id)| there.get(position) != Some(id)) {
            let how = format!("the reader of the {} has seen {position} ({id}), which is not there any more", seen.by);
            self.breaks(Rule::CommitOrder, how);
        }
        if !seen.events.is_sorted_by(|a, b| a.0 < b.0) {
            self.breaks(Rule::CommitOrder, format!("the reader of the {} has not seen events in order", seen.by));
        }
    }
}

fn named(entry: &Entry) -> String {
    let id = entry.events.first().map(|event| event.id.to_string()).unwrap_or_default();
    format!("writer {}'s append {id} of {}", entry.writer, entry.events.len())
}
