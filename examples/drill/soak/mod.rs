//! `drill soak`: all drills, repeatedly, two at a time, for as long as asked.
//!
//!     cargo run --release --features testing,tower --example drill -- soak --minutes 60
//!
//! Each run is a process with its own cluster, so that one run's damage to its servers does not excuse another's failure. They share
//! the machine, and so slow each other down. In a round each drill has one run. The seed determines what is in a round, in which
//! order, how long each run is and what breaks in it. A round's result and each broken run are reported with the command that
//! repeats them, as far as real time allows: the same faults meet other moments.
//!
//! The last line of standard output is `drill soak: anomalies=0 rounds=N runs=N undecided=N not_shown=none minutes=N seed=N`, with
//! the command for the first round that broke something, if one did. Status 1 means that a run broke a rule. Status 2 means that a
//! drill has shown nothing, or nothing in most of its runs (`tally`): the other drills' results say nothing about it.
//!
//! | file | what it holds |
//! |---|---|
//! | `rounds` | what is in a round, by the seed |
//! | `tally` | the results of the runs, and what they mean for the whole |

mod rounds;
mod tally;

use std::{
    process::{ExitCode, Stdio},
    time::Duration,
};

use tokio::{
    process::Command,
    task::JoinSet,
    time::{Instant, interval, timeout},
};

use self::{
    rounds::{Queue, Run},
    tally::{Came, Conclusion, Tally},
};
use crate::{Outcome, UNDECIDED, args::SoakArgs};

/// The limit of one run. The longest takes two minutes on two cores of its own, and each has its own limits: one that does not end
/// hangs.
const LIMIT: Duration = Duration::from_secs(20 * 60);

/// How many lines of a broken run's output are repeated.
const TOLD: usize = 40;

/// The command that repeats a run or a round.
const COMMAND: &str = "cargo run --release --features testing,tower --example drill --";

/// How often a drill that has shown nothing is tried again after the end, with nothing beside it.
const AGAIN: u64 = 2;

pub(crate) async fn run(args: &SoakArgs) -> Outcome<ExitCode> {
    let SoakArgs { minutes, at_once, seed, round } = *args;
    let (start, mut tally) = (Instant::now(), Tally::default());
    match round {
        Some(round) => eprintln!("drill soak: round {round} of seed {seed}, {at_once} runs at once"),
        None => eprintln!("drill soak: {minutes} minutes, {at_once} runs at once, seed {seed}"),
    }
    if !rounds::drills().contains(&"http") {
        eprintln!("without http: this build has no feature tower");
    }
    let mut every_minute = interval(Duration::from_secs(60));
    every_minute.tick().await;
    let at_once = usize::try_from(at_once)?;
    let (mut runs, mut queue, mut again) = (JoinSet::new(), Queue::new(seed, round), 0);
    loop {
        let is_over = start.elapsed() >= Duration::from_secs(60 * minutes);
        while let Some(run) = queue.next(runs.len(), at_once, is_over) {
            runs.spawn(carry_out(run));
        }
        tokio::select! {
            _ = every_minute.tick() => eprintln!("{}", tally.line(start.elapsed(), runs.len())),
            ended = runs.join_next() => match ended {
                Some(ended) => {
                    let (run, came) = ended??;
                    tally.count(&run, came);
                    if let Some(result) = run.round.and_then(|round| tally.result(round, rounds::drills().len())) {
                        eprintln!("{result}");
                    }
                }
                // A machine that was always busy may have kept a drill from showing anything.
                None if again < AGAIN => {
                    queue.again(&tally.have_shown_nothing(), again);
                    again += 1;
                }
                None => break,
            },
        }
    }
    println!("{}", tally.summary(minutes, seed, at_once));
    Ok(match tally.conclusion() {
        Conclusion::Held => ExitCode::SUCCESS,
        Conclusion::NotShown => ExitCode::from(UNDECIDED),
        Conclusion::Broken => ExitCode::FAILURE,
    })
}

/// Executes a run and reports its result; also returns the run.
async fn carry_out(run: Run) -> Outcome<(Run, Came)> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(&run.words).stdin(Stdio::null()).kill_on_drop(true);
    let name = run.words.join(" ");
    // If the soak is killed, this line shows what it was doing.
    eprintln!("begun: drill {name}");
    let Ok(output) = timeout(LIMIT, command.output()).await else {
        println!("broken: drill {name}: it has not ended within {LIMIT:?}");
        println!("    once more: {COMMAND} {name}");
        return Ok((run, Came::Broken));
    };
    let output = output?;
    let said = format!("{}{}", String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout));
    let came = Came::of(output.status.code(), &said);
    let last = said.lines().last().unwrap_or_default();
    match came {
        Came::Held => eprintln!("held: drill {name}: {last}"),
        Came::Nothing => eprintln!("undecided: drill {name}: {last}"),
        Came::Broken => {
            println!("broken: drill {name}: {}; the end of what it said:", output.status);
            let lines: Vec<&str> = said.lines().collect();
            lines[lines.len().saturating_sub(TOLD)..].iter().for_each(|line| println!("    {line}"));
            println!("    once more: {COMMAND} {name}");
        }
    }
    Ok((run, came))
}
