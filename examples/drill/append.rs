//! `drill append`: contended appends, and the verdict on them.

use std::{collections::BTreeMap, process::ExitCode, sync::atomic::Ordering};

use crate::{
    Outcome, SHOWS_NOTHING,
    args::Args,
    oracle::{self, Rule, Verdict},
    scene::{self, Played, shows_nothing},
    trouble::Counts,
};

/// How many violations of one rule are reported in full.
const TOLD: usize = 3;

/// How many appends each second must bring; otherwise there was no real contention.
const LEAST_APPENDS: u64 = 10;
const LEAST_CONFLICTS: u64 = 1;

pub(crate) async fn run(args: &Args) -> Outcome<ExitCode> {
    let Played { journals, log, seen, counts } = scene::play(args, "append", "writers").await?;
    let verdict = oracle::judge(&journals, &log, &seen)?;
    conclude(args, &verdict, &counts)
}

/// Reports the result; the last line is for programs.
fn conclude(args: &Args, verdict: &Verdict, counts: &Counts) -> Outcome<ExitCode> {
    let Verdict { broken, appends, conflicts, across, unexplained } = verdict;
    let [appends_killed, sessions_killed, primaries_killed, others_away, old_transaction_ms] = [
        &counts.appends_killed,
        &counts.sessions_killed,
        &counts.primaries_killed,
        &counts.others_away,
        &counts.old_transaction_ms,
    ]
    .map(|count| count.load(Ordering::Relaxed));
    eprintln!(
        "{appends} appends, {conflicts} conflicts, {across} of them across processes; killed: {appends_killed} appends, \
         {sessions_killed} sessions, {primaries_killed} primaries, others away {others_away} times; a transaction was open elsewhere for \
         {old_transaction_ms} ms"
    );
    let mut rules: BTreeMap<Rule, Vec<&str>> = BTreeMap::new();
    broken.iter().for_each(|broken| rules.entry(broken.rule).or_default().push(&broken.how));
    for (rule, cases) in &rules {
        println!("broken {} times: {rule}", cases.len());
        cases.iter().take(TOLD).for_each(|how| println!("    {how}"));
    }
    unexplained.iter().take(TOLD).for_each(|error| eprintln!("unexplained: {error}"));
    if broken.is_empty() && !unexplained.is_empty() {
        return Err(format!("{} answers that nobody can explain", unexplained.len()).into());
    }
    if broken.is_empty() {
        let seconds = args.seconds;
        let checks = [
            (*appends < LEAST_APPENDS * seconds, format!("only {appends} appends in {seconds} s")),
            (*conflicts < LEAST_CONFLICTS * seconds, format!("only {conflicts} conflicts in {seconds} s")),
            (args.processes > 1 && *across == 0, "no conflict across processes".to_owned()),
            (shows_nothing(counts).is_some(), shows_nothing(counts).unwrap_or_default().to_owned()),
        ];
        if let Some((_, why)) = checks.into_iter().find(|(fails, _)| *fails) {
            return Err(format!("{SHOWS_NOTHING}: {why}").into());
        }
    }
    println!("drill append: anomalies={} appends={appends} conflicts={conflicts}", broken.len());
    Ok(if broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        args::FirstRead,
        oracle::{Broken, Verdict},
    };

    fn concluded(writers: u64, verdict: Verdict, killed: u64) -> Option<String> {
        let args =
            Args { writers, processes: writers.min(4), seconds: 3, seed: 1, fault: None, first_read: FirstRead::Both };
        let counts = Counts::default();
        for count in [&counts.appends_killed, &counts.primaries_killed, &counts.old_transaction_ms] {
            count.store(killed, Ordering::Relaxed);
        }
        conclude(&args, &verdict, &counts).ok().map(|status| format!("{status:?}"))
    }

    /// A run that ends with an error has status 2 (`main`).
    #[test]
    fn a_run_that_shows_nothing_is_neither_good_nor_bad() {
        let (good, bad) = (Some(format!("{:?}", ExitCode::SUCCESS)), Some(format!("{:?}", ExitCode::FAILURE)));
        let run = || Verdict { appends: 1000, conflicts: 100, across: 10, ..Verdict::default() };
        assert_eq!(concluded(32, run(), 1), good);
        assert_eq!(concluded(32, Verdict { conflicts: 2, ..run() }, 1), None, "no contention");
        assert_eq!(concluded(32, Verdict { across: 0, ..run() }, 1), None, "none across processes");
        assert_eq!(concluded(32, Verdict { appends: 29, ..run() }, 1), None, "next to nothing was done");
        assert_eq!(concluded(32, Verdict { unexplained: vec!["?".to_owned()], ..run() }, 1), None);
        assert_eq!(concluded(32, run(), 0), None, "nobody was killed");
        assert_eq!(concluded(1, Verdict { across: 0, ..run() }, 1), good, "there is one process");
        let broken = || vec![Broken { rule: Rule::OneWinner, how: String::new() }];
        assert_eq!(concluded(32, Verdict { broken: broken(), ..run() }, 1), bad);
        assert_eq!(concluded(32, Verdict { broken: broken(), ..Verdict::default() }, 0), bad, "whatever else it shows");
    }
}
