//! What must hold of the commands, by the final log.
//!
//! Every event says what its decision was based on. The log has one order, so reading it shows what was true at each place.
//! A decision that was based on anything else missed a conflict, whether or not it overbooked a course.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fmt,
};

use mainstem::{CommandOutcome as Decided, CommandRecord, Event, RecordedCommand};

use super::{
    deciders::{Answer, Entry, Told},
    deed::{self, BALANCE, CAPACITY, CHANGES, Deed, Fact, MOST_COURSES, Seen, What},
};
use crate::{Outcome, readers};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rule {
    CapacityKept,
    NothingOverdrawn,
    OneBooking,
    TrueState,
    Acknowledged,
    NotThere,
    OneResult,
    Whole,
    NobodysEvent,
    CommitOrder,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CapacityKept => "no course and no student has more than there is room for",
            Self::NothingOverdrawn => "no account is overdrawn",
            Self::OneBooking => "a seat is booked once",
            Self::TrueState => "every decision saw what was true at its place",
            Self::Acknowledged => "what was told is there, at its positions",
            Self::NotThere => "what was refused or given up is not there",
            Self::OneResult => "a command is carried out once, and has one result",
            Self::Whole => "a command's record is there with its events, or not at all",
            Self::NobodysEvent => "every event is somebody's",
            Self::CommitOrder => "who reads on sees the log as it is at the end",
        })
    }
}

/// The outcome of the check.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) broken: Vec<(Rule, String)>,
    pub(crate) figures: Figures,
    /// Answers that nobody expects.
    pub(crate) unexplained: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) decided: u64,
    pub(crate) refused: u64,
    pub(crate) nothing: u64,
    pub(crate) conflicts: u64,
    /// Answers that were the results of an earlier execution.
    pub(crate) repeated: u64,
    /// Appends that were repeated.
    pub(crate) repeats: u64,
    /// Decisions on a replica's past that were made again, because they wrote nothing.
    pub(crate) confirmed: u64,
    /// Conflicts of executors that read a replica first.
    pub(crate) stale: u64,
    /// How often a process changed something that another process had changed last.
    pub(crate) across: u64,
    pub(crate) unknown: u64,
}

/// Checks the processes' journals against the final log.
pub(crate) fn judge(journals: &[Vec<Entry>], log: &[Event], seen: &[readers::Seen]) -> Outcome<Verdict> {
    let entries =
        || journals.iter().enumerate().flat_map(|(process, all)| all.iter().map(move |entry| (process, entry)));
    let mut oracle = Oracle {
        asked: entries().map(|(process, entry)| (&*entry.deed.id, (process, entry))).collect(),
        facts: HashMap::new(),
        records: HashMap::new(),
        truth: Truth::default(),
        changed_by: HashMap::new(),
        verdict: Verdict::default(),
    };
    for event in log {
        oracle.event(event)?;
    }
    entries().for_each(|(_, entry)| oracle.entry(entry));
    let marks: Vec<_> = log.iter().map(|event| (event.position(), event.id())).collect();
    for reader in seen.iter().filter(|reader| reader.events != marks) {
        oracle.breaks(Rule::CommitOrder, format!("not so the one on the {}", reader.by));
    }
    Ok(oracle.verdict)
}

/// The state at a place in the log.
#[derive(Default)]
struct Truth {
    courses: HashMap<(u64, u64), BTreeSet<u64>>,
    students: HashMap<(u64, u64), BTreeSet<u64>>,
    accounts: HashMap<(u64, u64), i64>,
    bookings: HashMap<(u64, u64), u64>,
}

impl Truth {
    fn seen(&self, deed: &Deed) -> Seen {
        let period = deed.period;
        let account = |number| self.accounts.get(&(period, number)).copied().unwrap_or(BALANCE);
        match deed.what {
            What::Enrol { course, student } | What::Leave { course, student } => Seen {
                in_course: self.courses.get(&(period, course)).cloned().unwrap_or_default(),
                courses: self.students.get(&(period, student)).cloned().unwrap_or_default(),
                ..Seen::default()
            },
            What::Transfer { from, to, .. } => Seen { from: account(from), to: account(to), ..Seen::default() },
            What::Book { seat } => {
                Seen { bookings: self.bookings.get(&(period, seat)).copied().unwrap_or_default(), ..Seen::default() }
            }
        }
    }

    /// Applies a change, and returns the rule it breaks, if any.
    fn change(&mut self, deed: &Deed) -> Option<Rule> {
        let period = deed.period;
        match deed.what {
            What::Enrol { course, student } => {
                let of_course = self.courses.entry((period, course)).or_default();
                let of_student = self.students.entry((period, student)).or_default();
                let is_new = of_course.insert(student) & of_student.insert(course);
                let fits = is_new && of_course.len() <= CAPACITY && of_student.len() <= MOST_COURSES;
                (!fits).then_some(Rule::CapacityKept)
            }
            What::Leave { course, student } => {
                self.courses.entry((period, course)).or_default().remove(&student);
                self.students.entry((period, student)).or_default().remove(&course);
                None
            }
            What::Transfer { from, to, amount } => {
                *self.accounts.entry((period, to)).or_insert(BALANCE) += amount;
                let left = self.accounts.entry((period, from)).or_insert(BALANCE);
                *left -= amount;
                (*left < 0).then_some(Rule::NothingOverdrawn)
            }
            What::Book { seat } => {
                let bookings = self.bookings.entry((period, seat)).or_default();
                *bookings += 1;
                (*bookings > 1).then_some(Rule::OneBooking)
            }
        }
    }
}

struct Oracle<'a> {
    /// Each deed by its id, and the process that asked for it.
    asked: HashMap<&'a str, (usize, &'a Entry)>,
    /// By the deed's id, the positions of its events other than the record.
    facts: HashMap<String, Vec<u64>>,
    records: HashMap<String, Vec<RecordedCommand>>,
    truth: Truth,
    changed_by: HashMap<String, usize>,
    verdict: Verdict,
}

impl Oracle<'_> {
    fn breaks(&mut self, rule: Rule, how: String) {
        self.verdict.broken.push((rule, how));
    }

    fn event(&mut self, event: &Event) -> Outcome {
        let position = event.position();
        if event.event_type() == CommandRecord::EVENT_TYPE {
            let record = RecordedCommand::from_event(event)?;
            match self.asked.get(record.id()).copied() {
                Some((_, entry)) if entry.is_recorded => self.record(&entry.deed, &record)?,
                _ => self.breaks(Rule::NobodysEvent, format!("a record at {position}")),
            }
            self.records.entry(record.id().to_owned()).or_default().push(record);
            return Ok(());
        }
        let Fact { deed, seen } = event.decode()?;
        self.facts.entry(deed.id.clone()).or_default().push(position);
        let Some((process, _)) = self.asked.get(&*deed.id).copied().filter(|(_, entry)| entry.deed == deed) else {
            self.breaks(Rule::NobodysEvent, format!("a fact at {position}"));
            return Ok(());
        };
        let truth = self.truth.seen(&deed);
        if seen != truth {
            self.breaks(Rule::TrueState, format!("at {position}: {deed:?} saw {seen:?}, and true was {truth:?}"));
        }
        if CHANGES.contains(&event.event_type()) {
            if let Some(rule) = self.truth.change(&deed) {
                self.breaks(rule, format!("at {position}: {deed:?}"));
            }
            for tag in event.tags() {
                let before = self.changed_by.insert(tag.to_owned(), process);
                self.verdict.figures.across += u64::from(before.is_some_and(|before| before != process));
            }
        }
        Ok(())
    }

    /// A recorded decision that wrote nothing else must also have been based on the truth.
    fn record(&mut self, deed: &Deed, record: &RecordedCommand) -> Outcome {
        let (truth, position) = (self.truth.seen(deed), record.mark().position());
        let is_true = match record.outcome() {
            Some(Decided::Nothing) => deed.rule(&truth) == deed::Rule::Nothing,
            // The events before it have shown that.
            Some(_) => true,
            None => record.refusal().map(mainstem::Json::decode::<Seen>).transpose()?.as_ref() == Some(&truth),
        };
        if !is_true {
            self.breaks(Rule::TrueState, format!("the record at {position} of {deed:?}, and true was {truth:?}"));
        }
        Ok(())
    }

    fn entry(&mut self, entry: &Entry) {
        let Entry { deed, is_recorded, reads_replica, answers, conflicts, confirmations, repeats } = entry;
        let figures = &mut self.verdict.figures;
        figures.conflicts += conflicts;
        figures.confirmed += confirmations;
        figures.repeats += repeats;
        figures.stale += if *reads_replica { *conflicts } else { 0 };
        let facts = self.facts.get(&deed.id).cloned().unwrap_or_default();
        let records: Vec<u64> = self
            .records
            .get(&deed.id)
            .map(|all| all.iter().map(|record| record.mark().position()).collect())
            .unwrap_or_default();
        let told = || format!("{entry:?}, with events at {facts:?} and records at {records:?}");
        if facts.len() > 1 || records.len() > 1 {
            self.breaks(Rule::OneResult, told());
        }
        // The record comes after the event, if there is one.
        let is_whole = match (&*facts, &*records) {
            ([fact], [record]) => *is_recorded && *record == fact + 1,
            ([_], []) => !is_recorded,
            _ => true,
        };
        if !is_whole {
            self.breaks(Rule::Whole, told());
        }
        let mut results = HashSet::new();
        let (mut first, mut unknown) = (0, false);
        for answer @ Answer { told: what, positions, is_repeated } in answers {
            let figures = &mut self.verdict.figures;
            figures.repeated += u64::from(*is_repeated);
            let is_there = match what {
                Told::Decided => {
                    figures.decided += u64::from(!is_repeated);
                    facts.first().copied()
                }
                Told::Refused(_) => {
                    figures.refused += u64::from(!is_repeated);
                    facts.iter().chain(&records).next().copied()
                }
                Told::Nothing => {
                    figures.nothing += u64::from(!is_repeated);
                    records.first().copied()
                }
                Told::Unknown => {
                    figures.unknown += 1;
                    unknown = true;
                    continue;
                }
                Told::GaveUp => continue,
                Told::Other(error) => {
                    self.verdict.unexplained.push(error.clone());
                    continue;
                }
            };
            first += u64::from(!is_repeated);
            results.insert(format!("{what:?} {positions:?}"));
            let last = facts.iter().chain(&records).last().copied();
            if *positions != is_there.zip(last) || (*what == Told::Decided && facts.is_empty()) {
                self.breaks(Rule::Acknowledged, format!("{answer:?} of {}", told()));
            }
        }
        if results.len() > 1 || (*is_recorded && first > 1) {
            self.breaks(Rule::OneResult, told());
        }
        let wrote = !facts.is_empty() || !records.is_empty();
        if wrote && results.is_empty() && !unknown {
            self.breaks(Rule::NotThere, told());
        }
        // A refusal that is not to be reported leaves at most its record.
        let is_silent = |answer: &Answer| match &answer.told {
            Told::Refused(_) => !deed.tell,
            Told::Nothing => true,
            _ => false,
        };
        if !facts.is_empty() && answers.iter().any(is_silent) {
            self.breaks(Rule::NotThere, told());
        }
    }
}
