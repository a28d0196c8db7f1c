//! `drill decide`: concurrent commands, and the verdict on them.

pub(crate) mod deciders;
mod deed;
mod oracle;

use std::{collections::BTreeMap, process::ExitCode};

use crate::{
    Outcome, SHOWS_NOTHING,
    args::Args,
    scene::{self, Played, shows_nothing},
};

/// How many violations of one rule are reported in full.
const TOLD: usize = 3;

/// How many decisions each second must bring; otherwise there was no real contention.
const LEAST_DECIDED: u64 = 10;
const LEAST_CONFLICTS: u64 = 1;

pub(crate) async fn run(args: &Args) -> Outcome<ExitCode> {
    let Played { journals, log, seen, counts } = scene::play(args, "decide", "deciders").await?;
    let verdict = oracle::judge(&journals, &log, &seen)?;
    let oracle::Verdict { broken, figures, unexplained } = verdict;
    eprintln!("{figures:?}");
    let mut rules: BTreeMap<oracle::Rule, Vec<&str>> = BTreeMap::new();
    broken.iter().for_each(|(rule, how)| rules.entry(*rule).or_default().push(how));
    for (rule, cases) in &rules {
        println!("broken {} times: {rule}", cases.len());
        cases.iter().take(TOLD).for_each(|how| println!("    {how}"));
    }
    unexplained.iter().take(TOLD).for_each(|error| eprintln!("unexplained: {error}"));
    let oracle::Figures { decided, refused, conflicts, repeated, confirmed, stale, across, .. } = figures;
    if broken.is_empty() && !unexplained.is_empty() {
        return Err(format!("{} answers that nobody can explain", unexplained.len()).into());
    }
    if broken.is_empty() {
        let seconds = args.seconds;
        let checks = [
            (decided < LEAST_DECIDED * seconds, format!("only {decided} decisions in {seconds} s")),
            (conflicts < LEAST_CONFLICTS * seconds, format!("only {conflicts} conflicts in {seconds} s")),
            (refused == 0, "nothing was refused".to_owned()),
            (repeated == 0, "no command was repeated".to_owned()),
            (args.processes > 1 && across == 0, "no two processes have met".to_owned()),
            (args.reads_replicas() && confirmed + stale == 0, "no replica was read first".to_owned()),
            (shows_nothing(&counts).is_some(), shows_nothing(&counts).unwrap_or_default().to_owned()),
        ];
        if let Some((_, why)) = checks.into_iter().find(|(fails, _)| *fails) {
            return Err(format!("{SHOWS_NOTHING}: {why}").into());
        }
    }
    println!(
        "drill decide: anomalies={} decided={decided} refused={refused} conflicts={conflicts} repeated={repeated} \
         confirmed={confirmed} replica_conflicts={stale}",
        broken.len()
    );
    Ok(if broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
