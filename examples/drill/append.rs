//! `drill append`: contended appends, and the verdict on them.

use std::{collections::BTreeMap, process::ExitCode, sync::atomic::Ordering};

use crate::{
    Outcome,
    args::Args,
    oracle::{self, Rule, Verdict},
    scene::{self, Played, shows_nothing},
    trouble::Counts,
};

/// How many broken rules of a kind are told in full.
const TOLD: usize = 3;

/// What a second has to bring, or there was no contention to speak of.
const LEAST_APPENDS: u64 = 10;
const LEAST_CONFLICTS: u64 = 1;

pub(crate) async fn run(args: &Args) -> Outcome<ExitCode> {
    let Played { journals, log, seen, counts } = scene::play(args, "append", "writers").await?;
    let verdict = oracle::judge(&journals, &log, &seen)?;
    conclude(args, &verdict, &counts)
}

/// Tells what came of it; the last line is for programs.
fn conclude(args: &Args, verdict: &Verdict, counts: &Counts) -> Outcome<ExitCode> {
    let Verdict { broken, appends, conflicts, across, unexplained } = verdict;
    let [appends_killed, sessions_killed, primaries_killed, old_transaction_ms] =
        [&counts.appends_killed, &counts.sessions_killed, &counts.primaries_killed, &counts.old_transaction_ms]
            .map(|count| count.load(Ordering::Relaxed));
    eprintln!(
        "{appends} appends, {conflicts} conflicts, {across} of them across processes; killed: {appends_killed} appends, \
         {sessions_killed} sessions, {primaries_killed} primaries; a transaction was open elsewhere for \
         {old_transaction_ms} ms"
    );
    let mut rules: BTreeMap<Rule, Vec<&str>> = BTreeMap::new();
    broken.iter().for_each(|broken| rules.entry(broken.rule).or_default().push(&broken.how));
    for (rule, cases) in &rules {
        println!("broken {} times: {rule}", cases.len());
        cases.iter().take(TOLD).for_each(|how| println!("    {how}"));
    }
    unexplained.iter().take(TOLD).for_each(|error| eprintln!("unexplained: {error}"));
    if broken.is_empty() {
        let seconds = args.seconds;
        let checks = [
            (!unexplained.is_empty(), format!("{} answers that nobody can explain", unexplained.len())),
            (*appends < LEAST_APPENDS * seconds, format!("only {appends} appends in {seconds} s")),
            (*conflicts < LEAST_CONFLICTS * seconds, format!("only {conflicts} conflicts in {seconds} s")),
            (args.processes > 1 && *across == 0, "no conflict across processes".to_owned()),
            (shows_nothing(counts).is_some(), shows_nothing(counts).unwrap_or_default().to_owned()),
        ];
        if let Some((_, why)) = checks.into_iter().find(|(fails, _)| *fails) {
            return Err(format!("this run shows nothing: {why}").into());
        }
    }
    println!("drill append: anomalies={} appends={appends} conflicts={conflicts}", broken.len());
    Ok(if broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
