//! Whether a store kept its promises. The check is the same for all: it compares what was acknowledged with what is there.

use std::collections::{HashMap, HashSet};

use super::driver::Written;
use crate::Outcome;

/// What was wrong with the appends of one row. All zero means nothing.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Verdict {
    /// Acknowledged appends that are not completely there.
    pub(super) lost: u64,
    /// Events that are there more than once.
    pub(super) twice: u64,
    /// Appends that are there at least partly, but were never acknowledged.
    pub(super) strangers: u64,
    /// Acknowledged appends that stand, in the store's own order, after an event of their boundary that their writer had not
    /// seen when it decided: a conflict that the store accepted. A writer that reads on from there never sees that event, so its
    /// later appends lack it, too: they count only when they lack more.
    pub(super) missed: u64,
}

impl Verdict {
    pub(super) fn is_clean(self) -> bool {
        self == Self::default()
    }

    pub(super) fn add(&mut self, other: Self) {
        self.lost += other.lost;
        self.twice += other.twice;
        self.strangers += other.strangers;
        self.missed += other.missed;
    }

    pub(super) fn shown(self) -> String {
        let faults = [
            (self.missed, "CONFLICTS MISSED"),
            (self.lost, "LOST"),
            (self.twice, "TWICE"),
            (self.strangers, "NOT ACKNOWLEDGED"),
        ];
        let named = faults.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
        let named: Vec<_> = named.collect();
        if named.is_empty() { "exact".to_owned() } else { named.join(", ") }
    }
}

/// Checks a row whose appends have this number of events each. No boundary had an event before.
pub(super) fn judge(acknowledged: &[(u64, u64)], written: &[Written], events: u64) -> Verdict {
    let mut verdict = Verdict::default();
    let acknowledged: HashSet<_> = acknowledged.iter().copied().collect();
    let mut parts: HashMap<(u64, u64), HashSet<u64>> = HashMap::new();
    let mut missed = HashSet::new();
    let mut lacking: HashMap<(&str, u64), i128> = HashMap::new();
    let mut there: HashMap<&str, u64> = HashMap::new();
    for event in written {
        let append = (event.writer, event.number);
        if !parts.entry(append).or_default().insert(event.part) {
            verdict.twice += 1;
        }
        let before = there.entry(&event.book).or_default();
        let lacks = i128::from(*before) - i128::from(event.seen) - i128::from(event.part);
        if lacking.insert((event.book.as_str(), event.writer), lacks).unwrap_or_default() != lacks {
            missed.insert(append);
        }
        *before += 1;
    }
    for append in &acknowledged {
        let whole = parts.get(append).is_some_and(|parts| parts.len() as u64 == events);
        verdict.lost += u64::from(!whole);
    }
    verdict.strangers = parts.keys().filter(|append| !acknowledged.contains(append)).count() as u64;
    verdict.missed = missed.intersection(&acknowledged).count() as u64;
    verdict
}

/// Once in each run: proves that it would notice.
pub(super) fn prove() -> Outcome {
    let event = |writer, number, part, seen| Written { book: "x".to_owned(), writer, number, part, seen };
    let good = [event(0, 1, 0, 0), event(0, 1, 1, 0), event(1, 1, 0, 2), event(1, 1, 1, 2)];
    let without = |index: usize| {
        let mut some = good.to_vec();
        some.remove(index);
        some
    };
    let two_winners = [event(0, 1, 0, 0), event(0, 1, 1, 0), event(1, 1, 0, 0), event(1, 1, 1, 0)];
    let still_behind = [event(0, 1, 0, 0), event(1, 1, 0, 0), event(1, 2, 0, 1), event(0, 2, 0, 3)];
    let clean = Verdict::default();
    let both = [(0, 1), (1, 1)];
    let cases = [
        ("a good row", judge(&both, &good, 2), clean),
        ("two winners", judge(&both, &two_winners, 2), Verdict { missed: 1, ..clean }),
        (
            "one that stays behind",
            judge(&[(0, 1), (1, 1), (1, 2), (0, 2)], &still_behind, 1),
            Verdict { missed: 1, ..clean },
        ),
        ("a lost event", judge(&both, &without(3), 2), Verdict { lost: 1, ..clean }),
        ("a stranger", judge(&both[..1], &good, 2), Verdict { strangers: 1, ..clean }),
        (
            "an event twice",
            judge(&both[..1], &[event(0, 1, 0, 0), event(0, 1, 1, 0), event(0, 1, 1, 1)], 2),
            Verdict { twice: 1, ..clean },
        ),
    ];
    for (what, found, expected) in cases {
        if found != expected {
            return Err(format!("the oracle does not judge {what} as it should: {found:?}, not {expected:?}").into());
        }
    }
    Ok(())
}
