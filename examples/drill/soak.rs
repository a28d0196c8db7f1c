//! `drill soak`: all drills, again and again, two at a time, for as long as asked.
//!
//!     cargo run --release --features testing,tower --example drill -- soak --minutes 60
//!
//! Each run is a process with a cluster of its own, so that what one does to its servers is no excuse for another; they share the
//! machine, and so get in each other's way. Which drill comes next, how long it is and what it chooses by follows from the seed.
//! What a run breaks is told with the command that does it again.
//!
//! The last line of standard output is `drill soak: anomalies=0 runs=N undecided=N minutes=N seed=N`: runs that broke a rule, runs, and
//! runs that could say nothing. Status 0 needs one run at least that says something, and no anomaly.

use std::{
    collections::BTreeMap,
    process::{ExitCode, Output, Stdio},
    time::Duration,
};

use tokio::{
    process::Command,
    task::JoinSet,
    time::{Instant, interval, timeout},
};

use crate::{Outcome, UNDECIDED, args::SoakArgs, plan::Dice};

/// For one run. The longest is a matter of two minutes on two cores of its own.
const LIMIT: Duration = Duration::from_secs(20 * 60);

/// So much of what a broken run has said is repeated.
const TOLD: usize = 40;

/// What a run was, and what came of it.
struct Run {
    words: Vec<String>,
    output: Option<Output>,
}

#[derive(Default)]
struct Tally {
    runs: u64,
    broken: u64,
    undecided: u64,
    of_each: BTreeMap<String, u64>,
}

pub(crate) async fn run(args: &SoakArgs) -> Outcome<ExitCode> {
    let SoakArgs { minutes, at_once, seed } = *args;
    eprintln!("drill soak: {minutes} minutes, {at_once} runs at once, seed {seed}");
    let (start, mut number) = (Instant::now(), 0);
    let is_over = || start.elapsed() >= Duration::from_secs(60 * minutes);
    let mut every_minute = interval(Duration::from_secs(60));
    every_minute.tick().await;
    let (mut runs, mut tally) = (JoinSet::new(), Tally::default());
    loop {
        while runs.len() < usize::try_from(at_once)? && !is_over() {
            runs.spawn(carry_out(plan(seed, number)));
            number += 1;
        }
        tokio::select! {
            _ = every_minute.tick() => tally.tell(start.elapsed(), runs.len()),
            run = runs.join_next() => match run {
                Some(run) => tally.count(run??),
                None => break,
            },
        }
    }
    let Tally { runs, broken, undecided, .. } = tally;
    println!("drill soak: anomalies={broken} runs={runs} undecided={undecided} minutes={minutes} seed={seed}");
    Ok(match (broken, runs - undecided) {
        (0, 1..) => ExitCode::SUCCESS,
        (0, _) => ExitCode::from(UNDECIDED),
        _ => ExitCode::FAILURE,
    })
}

/// The drill that comes at this place, as what is written behind `drill`.
fn plan(seed: u64, number: u64) -> Vec<String> {
    let mut dice = Dice::new(seed, number);
    let own_seed = dice.roll(1 << 32);
    // By turns, so that a short soak has all of them.
    let mut words = match number % 7 {
        0 => format!("append --seconds {} --writers {}", 10 + dice.roll(30), 8 + dice.roll(56)),
        1 => format!("consume --events {}", 20_000 + dice.roll(80_000)),
        2 => format!("decide --seconds {} --writers {}", 10 + dice.roll(30), 8 + dice.roll(56)),
        3 => format!("causal --rounds {}", 20 + dice.roll(60)),
        4 => format!("failover --rounds {}{}", 2 + dice.roll(4), if dice.one_in(3) { " --asynchronous" } else { "" }),
        5 => format!("silence --rounds {}", 100 + dice.roll(300)),
        _ => format!("shield --rounds {}", 4 + dice.roll(10)),
    };
    if number % 7 < 3 {
        words += &format!(" --seed {own_seed}");
    }
    words.split(' ').map(str::to_owned).collect()
}

async fn carry_out(words: Vec<String>) -> Outcome<Run> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(&words).stdin(Stdio::null()).kill_on_drop(true);
    let output = match timeout(LIMIT, command.output()).await {
        Ok(output) => Some(output?),
        Err(_) => None,
    };
    Ok(Run { words, output })
}

impl Tally {
    fn count(&mut self, Run { words, output }: Run) {
        let command = words.join(" ");
        self.runs += 1;
        *self.of_each.entry(words[0].clone()).or_default() += 1;
        let Some(output) = output else {
            // A drill has limits of its own: one that does not end hangs.
            self.broken += 1;
            println!("broken: drill {command}: it has not ended within {LIMIT:?}");
            return;
        };
        let said = format!("{}{}", String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout));
        let last = said.lines().last().unwrap_or_default();
        match output.status.code() {
            Some(0) => eprintln!("held: drill {command}: {last}"),
            Some(code) if code == i32::from(UNDECIDED) => {
                self.undecided += 1;
                eprintln!("undecided: drill {command}: {last}");
            }
            _ => {
                self.broken += 1;
                println!("broken: drill {command}: {}; the end of what it said:", output.status);
                let lines: Vec<&str> = said.lines().collect();
                lines[lines.len().saturating_sub(TOLD)..].iter().for_each(|line| println!("    {line}"));
            }
        }
    }

    fn tell(&self, elapsed: Duration, under_way: usize) {
        let each: Vec<String> = self.of_each.iter().map(|(name, runs)| format!("{runs} {name}")).collect();
        let each = if each.is_empty() { "none".to_owned() } else { each.join(", ") };
        let (minutes, Self { broken, undecided, .. }) = (elapsed.as_secs() / 60, self);
        eprintln!("{minutes:>4} min: ended: {each}; {broken} broken, {undecided} undecided; {under_way} under way");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Command;

    #[test]
    fn what_is_planned_is_understood_and_follows_from_the_seed() {
        for number in 0..200 {
            let words = plan(1, number);
            assert_eq!(words, plan(1, number));
            let parsed = Command::parse(words.iter().cloned()).map_err(|error| format!("{words:?}: {error}"));
            assert!(!matches!(parsed.unwrap(), Command::Print(_)), "{words:?}");
        }
        assert_ne!(plan(1, 0), plan(2, 0));
    }
}
