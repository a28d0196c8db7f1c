//! What is in a round, and what begins next: both without a clock.

use std::collections::VecDeque;

use crate::{plan::Dice, schedule::shuffled};

/// Drills that need the machine for themselves: they measure and report that they show nothing while something else runs, or, like
/// `silence`, hold calls to time limits.
const ALONE: [&str; 3] = ["silence", "shield", "balance"];

/// Runs grow up to this round, so that a short soak has all drills, and a long one has long runs.
const GROWN: u64 = 4;

/// One run of a drill.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Run {
    /// `None` after the end, for a drill that has shown nothing so far.
    pub(crate) round: Option<u64>,
    /// The words after `drill` on the command line.
    pub(crate) words: Vec<String>,
}

impl Run {
    pub(crate) fn drill(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }

    fn is_alone(&self) -> bool {
        self.round.is_none() || ALONE.contains(&self.drill())
    }
}

/// All drills of this build.
pub(crate) fn drills() -> Vec<&'static str> {
    let mut all = vec!["append", "decide", "consume", "causal", "failover"];
    if cfg!(feature = "tower") {
        all.push("http");
    }
    all.extend(ALONE);
    all
}

/// Each drill once; those that need the machine for themselves come last.
pub(crate) fn of_round(seed: u64, round: u64) -> Vec<Run> {
    let mut dice = Dice::new(Dice::new(seed, round).roll(1 << 32), 0);
    let (alone, others): (Vec<_>, Vec<_>) = drills().into_iter().partition(|drill| ALONE.contains(drill));
    let order = shuffled(&others, &mut dice).into_iter().chain(shuffled(&alone, &mut dice));
    order.map(|drill| Run { round: Some(round), words: words(drill, round, &mut dice) }).collect()
}

fn words(drill: &str, round: u64, dice: &mut Dice) -> Vec<String> {
    let grown = round.min(GROWN);
    // From `least` up to twice that, and more in later rounds.
    let mut much = |least: u64| least + dice.roll(least + 1) + least * grown / 2;
    let mut words = match drill {
        "append" | "decide" => format!("{drill} --seconds {} --writers {}", much(8), 8 + much(8)),
        "consume" => format!("consume --events {}", much(25_000)),
        "causal" => format!("causal --rounds {}", much(10)),
        "failover" => {
            format!("failover --rounds {}{}", 3 + grown, if much(2) == 2 + grown { " --asynchronous" } else { "" })
        }
        "silence" => format!("silence --rounds {}", much(60)),
        "http" => format!("http --rounds {}", 1 + grown),
        _ => format!("{drill} --rounds {}", much(4)),
    };
    words += &format!(" --seed {}", dice.roll(1 << 32));
    words.split(' ').map(str::to_owned).collect()
}

/// What has not begun yet.
pub(crate) struct Queue {
    seed: u64,
    first: u64,
    /// Whether there is one round only.
    is_one: bool,
    next_round: u64,
    waiting: VecDeque<Run>,
    nobody_beside: bool,
}

impl Queue {
    pub(crate) fn new(seed: u64, only: Option<u64>) -> Self {
        let first = only.unwrap_or(0);
        let waiting = VecDeque::new();
        Self { seed, first, is_one: only.is_some(), next_round: first, waiting, nobody_beside: false }
    }

    /// What may begin beside this many runs in flight. The first round is completed, however long that takes; nothing of later rounds
    /// begins when time is up.
    pub(crate) fn next(&mut self, under_way: usize, at_once: usize, is_over: bool) -> Option<Run> {
        self.nobody_beside &= under_way > 0;
        if is_over {
            self.waiting.retain(|run| run.round.is_none_or(|round| round == self.first));
        }
        let is_begun = self.next_round > self.first;
        if self.waiting.is_empty() && !(is_begun && (is_over || self.is_one)) {
            self.waiting.extend(of_round(self.seed, self.next_round));
            self.next_round += 1;
        }
        let is_alone = self.waiting.front()?.is_alone();
        let has_room = under_way == 0 || (under_way < at_once && !is_alone && !self.nobody_beside);
        if !has_room {
            return None;
        }
        self.nobody_beside = is_alone;
        self.waiting.pop_front()
    }

    /// Adds one more run of each of these, one after the other. The number of earlier additions makes them different runs.
    pub(crate) fn again(&mut self, drills: &[&str], before: u64) {
        let mut dice = Dice::new(self.seed, u64::MAX - 1 - before);
        let runs = drills.iter().map(|drill| Run { round: None, words: words(drill, 0, &mut dice) });
        self.waiting.extend(runs);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::args::Command;

    #[test]
    fn a_round_has_each_drill_once_and_follows_from_its_seed() {
        for round in 0..100 {
            let runs = of_round(1, round);
            assert_eq!(runs, of_round(1, round));
            let names: BTreeSet<_> = runs.iter().map(Run::drill).collect();
            assert_eq!((names, runs.len()), (drills().into_iter().collect(), drills().len()));
            for run in &runs {
                let parsed = Command::parse(run.words.iter().cloned()).map_err(|error| format!("{run:?}: {error}"));
                assert!(!matches!(parsed.unwrap(), Command::Print(_)), "{run:?}");
                assert!(run.words.contains(&"--seed".to_owned()), "{run:?}");
            }
            assert!(runs[runs.len() - ALONE.len()..].iter().all(Run::is_alone), "{runs:?}");
        }
        assert_ne!(of_round(1, 0), of_round(2, 0));
        let seeds = |round| of_round(1, round).into_iter().filter_map(|mut run| run.words.pop());
        let seeds: BTreeSet<String> = (0..20).flat_map(seeds).collect();
        assert_eq!(seeds.len(), 20 * drills().len(), "each run has a seed of its own");
        let firsts: BTreeSet<_> = (0..100).map(|round| of_round(1, round)[0].drill().to_owned()).collect();
        assert!(firsts.len() > 4, "rounds begin in any order: {firsts:?}");
        let has_lossy =
            (0..100).any(|round| of_round(1, round).iter().any(|run| run.words.contains(&"--asynchronous".into())));
        assert!(has_lossy, "failovers that lose something are among them");
    }

    /// How many runs of the rounds 0, 1, … begin, if time is up after this many.
    fn begun(only: Option<u64>, over_after: usize) -> Vec<usize> {
        let (mut queue, mut rounds, mut number) = (Queue::new(7, only), vec![0; 12], 0);
        while let Some(run) = queue.next(0, 2, number >= over_after) {
            rounds[usize::try_from(run.round.unwrap()).unwrap()] += 1;
            number += 1;
        }
        rounds
    }

    #[test]
    fn the_first_round_is_whole_and_later_ones_end_with_the_time() {
        let all = drills().len();
        assert_eq!(begun(None, 0)[..2], [all, 0], "the time was over at once");
        assert_eq!(begun(None, all)[..2], [all, 0]);
        assert_eq!(begun(None, all + 2)[..3], [all, 2, 0]);
        assert_eq!(begun(None, 3 * all)[..4], [all, all, all, 0]);
        assert_eq!(begun(Some(5), usize::MAX)[4..7], [0, all, 0], "one round was asked for");
    }

    #[test]
    fn nothing_is_beside_what_needs_the_machine_for_itself() {
        let mut queue = Queue::new(7, None);
        let beside = drills().len() - ALONE.len();
        for _ in 0..beside / 2 {
            assert!(!queue.next(0, 2, false).unwrap().is_alone());
            assert!(!queue.next(1, 2, false).unwrap().is_alone());
            assert_eq!(queue.next(2, 2, false), None, "two are under way");
        }
        if beside % 2 == 1 {
            queue.next(1, 2, false).unwrap();
        }
        assert_eq!(queue.next(1, 2, false), None, "another one is under way");
        for _ in ALONE {
            assert!(queue.next(0, 2, false).unwrap().is_alone());
            assert_eq!(queue.next(1, 2, false), None, "it needs the machine, whatever comes behind it");
        }
        assert_eq!(queue.next(0, 2, false).unwrap().round, Some(1));
        assert_eq!(queue.next(1, 2, false).unwrap().round, Some(1));
    }

    #[test]
    fn who_has_shown_nothing_is_tried_again_alone_with_another_seed() {
        let mut queue = Queue::new(7, Some(0));
        while queue.next(0, 2, true).is_some() {}
        let mut seen = BTreeSet::new();
        for before in 0..2 {
            queue.again(&["append", "http"], before);
            let run = queue.next(0, 2, true).unwrap();
            assert_eq!((run.drill(), run.round), ("append", None));
            assert_eq!(queue.next(1, 2, true), None);
            assert!(seen.insert(run.words));
            assert!(seen.insert(queue.next(0, 2, true).unwrap().words));
            assert_eq!(queue.next(0, 2, true), None);
        }
    }
}
