//! The results of the runs, and what they mean for the whole.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::rounds::Run;
use crate::{SHOWS_NOTHING, UNDECIDED};

/// From this many runs on, a drill must have shown something in half of them; with fewer, in one.
const FAIR: u64 = 4;

/// The result of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Came {
    Held,
    /// It shows nothing, and says so.
    Nothing,
    Broken,
}

impl Came {
    pub(crate) fn of(status: Option<i32>, said: &str) -> Self {
        match status {
            // A drill whose library panicked cannot judge, but must not pass for that reason.
            _ if said.contains("panicked at") => Self::Broken,
            Some(0) => Self::Held,
            Some(code) if code == i32::from(UNDECIDED) && said.contains(SHOWS_NOTHING) => Self::Nothing,
            // This includes runs that could not judge: hanging calls and unexpected errors end a drill in this way.
            _ => Self::Broken,
        }
    }
}

/// The overall result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Conclusion {
    Held,
    /// A drill has not shown what it is for.
    NotShown,
    Broken,
}

#[derive(Clone, Copy, Default)]
struct Counts {
    held: u64,
    nothing: u64,
    broken: u64,
}

impl Counts {
    fn runs(self) -> u64 {
        self.held + self.nothing + self.broken
    }

    fn add(&mut self, came: Came) {
        match came {
            Came::Held => self.held += 1,
            Came::Nothing => self.nothing += 1,
            Came::Broken => self.broken += 1,
        }
    }

    /// A run that found something broken has shown something, too.
    fn has_shown(self) -> bool {
        self.nothing < self.runs() && (self.runs() < FAIR || self.nothing * 2 <= self.runs())
    }
}

#[derive(Default)]
pub(crate) struct Tally {
    of_drills: BTreeMap<String, Counts>,
    of_rounds: BTreeMap<u64, Counts>,
    broken_rounds: BTreeSet<u64>,
    /// The words after `drill` of broken runs that belong to no round.
    broken_behind: Vec<String>,
}

impl Tally {
    pub(crate) fn count(&mut self, run: &Run, came: Came) {
        self.of_drills.entry(run.drill().to_owned()).or_default().add(came);
        if let Some(round) = run.round {
            self.of_rounds.entry(round).or_default().add(came);
        }
        match (came, run.round) {
            (Came::Broken, Some(round)) => _ = self.broken_rounds.insert(round),
            (Came::Broken, None) => self.broken_behind.push(run.words.join(" ")),
            _ => {}
        }
    }

    /// The result of a round, once it is complete.
    pub(crate) fn result(&self, round: u64, of: usize) -> Option<String> {
        let Counts { held, nothing, broken } = self.of_rounds.get(&round).copied().unwrap_or_default();
        let is_through = held + nothing + broken == of as u64;
        is_through.then(|| format!("round {round}: {held} runs held, {nothing} undecided, {broken} broken"))
    }

    pub(crate) fn have_shown_nothing(&self) -> Vec<&str> {
        let nothing = |counts: &Counts| counts.nothing == counts.runs();
        self.of_drills.iter().filter(|(_, counts)| nothing(counts)).map(|(drill, _)| &**drill).collect()
    }

    /// Each drill that has shown nothing, or nothing in more than half of its runs.
    fn not_shown(&self) -> Vec<String> {
        let nothing = self.of_drills.iter().filter(|(_, counts)| !counts.has_shown());
        nothing.map(|(drill, counts)| format!("{drill}({}/{})", counts.nothing, counts.runs())).collect()
    }

    fn all(&self) -> Counts {
        self.of_drills.values().fold(Counts::default(), |all, one| Counts {
            held: all.held + one.held,
            nothing: all.nothing + one.nothing,
            broken: all.broken + one.broken,
        })
    }

    pub(crate) fn conclusion(&self) -> Conclusion {
        match self.all() {
            Counts { broken: 1.., .. } => Conclusion::Broken,
            all if all.runs() == 0 || !self.not_shown().is_empty() => Conclusion::NotShown,
            _ => Conclusion::Held,
        }
    }

    /// The progress so far.
    pub(crate) fn line(&self, elapsed: Duration, under_way: usize) -> String {
        let each: Vec<String> =
            self.of_drills.iter().map(|(name, counts)| format!("{} {name}", counts.runs())).collect();
        let each = if each.is_empty() { "none".to_owned() } else { each.join(", ") };
        let (minutes, Counts { nothing, broken, .. }) = (elapsed.as_secs() / 60, self.all());
        format!("{minutes:>4} min: ended: {each}; {broken} broken, {nothing} undecided; {under_way} under way")
    }

    /// The last line, for programs. If a round was broken, it includes the words that repeat the first one, with as many runs at
    /// once: what runs beside a run decides what it meets.
    pub(crate) fn summary(&self, minutes: u64, seed: u64, at_once: usize) -> String {
        let (all, rounds) = (self.all(), self.of_rounds.len());
        let not_shown = if self.not_shown().is_empty() { "none".to_owned() } else { self.not_shown().join(",") };
        let again = match (self.broken_rounds.first(), self.broken_behind.first()) {
            (Some(round), _) => format!(" again=\"drill soak --seed {seed} --round {round} --at-once {at_once}\""),
            (None, Some(words)) => format!(" again=\"drill {words}\""),
            (None, None) => String::new(),
        };
        format!(
            "drill soak: anomalies={} rounds={rounds} runs={} undecided={} not_shown={not_shown} minutes={minutes} seed={seed}{again}",
            all.broken,
            all.runs(),
            all.nothing
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tally of each drill's runs, one a round.
    fn tally(drills: &[(&str, &[Came])]) -> Tally {
        let mut tally = Tally::default();
        for (drill, all) in drills {
            for (round, came) in (0..).zip(*all) {
                tally.count(&Run { round: Some(round), words: vec![(*drill).to_owned(), "--seed".to_owned()] }, *came);
            }
        }
        tally
    }

    use Came::{Broken, Held, Nothing};

    #[test]
    fn a_drill_that_never_shows_anything_is_not_passed_for_the_others_sake() {
        let conclusion = |of: &[Came]| tally(&[("append", &[Held; 9]), ("shield", of)]).conclusion();
        assert_eq!(conclusion(&[Held]), Conclusion::Held);
        assert_eq!(conclusion(&[Nothing]), Conclusion::NotShown);
        assert_eq!(conclusion(&[Nothing, Nothing, Held]), Conclusion::Held, "of a few runs, one is enough");
        assert_eq!(conclusion(&[Nothing; 9]), Conclusion::NotShown);
        assert_eq!(tally(&[]).conclusion(), Conclusion::NotShown);
    }

    #[test]
    fn of_many_runs_half_have_to_show_something() {
        let conclusion = |of: &[Came]| tally(&[("append", &[Held; 9]), ("shield", of)]).conclusion();
        assert_eq!(conclusion(&[Nothing, Nothing, Held, Held]), Conclusion::Held);
        assert_eq!(conclusion(&[Nothing, Nothing, Nothing, Held]), Conclusion::NotShown);
        assert_eq!(conclusion(&[Nothing, Nothing, Nothing, Held, Held]), Conclusion::NotShown);
    }

    #[test]
    fn what_is_broken_is_broken_whatever_else_there_is() {
        assert_eq!(tally(&[("append", &[Held, Broken]), ("shield", &[Nothing; 5])]).conclusion(), Conclusion::Broken);
        assert_eq!(tally(&[("append", &[Nothing, Nothing, Broken])]).conclusion(), Conclusion::Broken);
    }

    #[test]
    fn a_status_says_what_came_of_a_run() {
        assert_eq!(Came::of(Some(0), "drill append: anomalies=0"), Held);
        assert_eq!(Came::of(Some(1), "broken 1 times"), Broken);
        assert_eq!(Came::of(Some(2), "drill: this run shows nothing: only 3 appends in 9 s"), Nothing);
        assert_eq!(Came::of(Some(2), "drill: not through after 60s"), Broken, "what hangs is no excuse");
        assert_eq!(Came::of(Some(2), "thread 'x' panicked at src/lib.rs"), Broken);
        assert_eq!(Came::of(Some(0), "thread 'x' panicked at src/lib.rs"), Broken);
        assert_eq!(Came::of(Some(101), ""), Broken);
        assert_eq!(Came::of(None, ""), Broken, "it was killed");
    }

    #[test]
    fn the_summary_names_who_has_shown_nothing_and_what_does_a_broken_round_again() {
        let quiet = tally(&[("append", &[Held, Held]), ("shield", &[Nothing, Nothing])]);
        assert_eq!(quiet.have_shown_nothing(), ["shield"]);
        let line = "drill soak: anomalies=0 rounds=2 runs=4 undecided=2 not_shown=shield(2/2) minutes=3 seed=71";
        assert_eq!(quiet.summary(3, 71, 2), line);
        let mut broken = tally(&[("append", &[Held, Broken, Broken])]);
        let line = "drill soak: anomalies=2 rounds=3 runs=3 undecided=0 not_shown=none minutes=3 seed=71 \
                    again=\"drill soak --seed 71 --round 1 --at-once 4\"";
        assert_eq!(broken.summary(3, 71, 4), line);
        assert_eq!(broken.have_shown_nothing(), [""; 0]);
        assert_eq!(broken.result(1, 1).unwrap(), "round 1: 0 runs held, 0 undecided, 1 broken");
        assert_eq!(broken.result(1, 2), None, "one is under way");
        broken = Tally::default();
        broken.count(&Run { round: None, words: vec!["balance".to_owned()] }, Broken);
        assert!(broken.summary(3, 71, 4).ends_with(" again=\"drill balance\""));
    }
}
