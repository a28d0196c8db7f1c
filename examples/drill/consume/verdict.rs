//! What must hold of everything that was seen and written.

use std::{
    collections::{HashMap, HashSet},
    process::ExitCode,
};

use mainstem::{EventId, EventStore, Filter, Mark, PostgresEventStore};
use tokio::time::{Duration, sleep};

use super::{follower::Seen, member::Kind};
use crate::{Outcome, SHOWS_NOTHING, database::connect};

/// How many cases are reported in full.
const TOLD: usize = 5;

/// The tables that consumers write to; the numbers are in the order of writing.
const TABLES: &str = "\
    CREATE TABLE ledger (n bigserial PRIMARY KEY, key text, position int8, id uuid, member int8);
    CREATE TABLE notes (n bigserial PRIMARY KEY, key text, position int8, id uuid, member int8)";

pub(crate) async fn create(url: &str) -> Outcome {
    Ok(connect(url).await?.batch_execute(TABLES).await?)
}

/// The final log: each event, and whether it is one of the rare ones.
pub(crate) async fn read_log(store: &PostgresEventStore) -> Outcome<Vec<(Mark, bool)>> {
    loop {
        let (mut log, mut stream) = (Vec::new(), store.query_stream(&Filter::any_event()));
        let failed = loop {
            match stream.next().await {
                Some(Ok(event)) => log.push((event.mark(), event.event_type() == "Rare")),
                Some(Err(error)) if error.is_retryable() => break true,
                Some(Err(error)) => return Err(error.into()),
                None => break false,
            }
        };
        if !failed {
            return Ok(log);
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// The violations found so far.
#[derive(Default)]
pub(crate) struct Verdict {
    skipped: u64,
    out_of_order: u64,
    duplicates: u64,
    others: u64,
    /// Who did not reach the end of the log.
    stuck: u64,
    /// Events that were handled more than once where that is allowed.
    again: u64,
    /// Events that followers saw and the log lost.
    lost: usize,
    restarts: u64,
    told: Vec<String>,
}

impl Verdict {
    fn tell(&mut self, what: String) {
        if self.told.len() < TOLD {
            self.told.push(what);
        }
    }

    /// A subscription must have seen exactly the log, each event once.
    pub(crate) fn follower(&mut self, log: &[(Mark, bool)], filter: &Filter, seen: &Seen) {
        let all = filter.items().is_none();
        let expected = log.iter().filter(|(_, is_rare)| all || *is_rare).map(|(mark, _)| *mark);
        let marks: HashSet<Mark> = seen.events.iter().copied().collect();
        for mark in expected.clone().filter(|mark| !marks.contains(mark)) {
            self.skipped += 1;
            self.tell(format!("the follower {} has not seen {mark}", seen.name));
        }
        self.duplicates += (seen.events.len() - marks.len()) as u64;
        for pair in seen.events.windows(2) {
            if let [before, behind] = pair
                && before.position() >= behind.position()
            {
                self.out_of_order += 1;
                self.tell(format!("the follower {} has seen {behind} behind {before}", seen.name));
            }
        }
        let log: HashSet<Mark> = expected.collect();
        for mark in marks.difference(&log) {
            self.others += 1;
            self.tell(format!("the follower {} has seen {mark}, which the log does not hold", seen.name));
        }
        if seen.false_alarms > 0 {
            self.others += seen.false_alarms;
            self.tell(format!("the follower {} was told of losses that there were not", seen.name));
        }
        self.lost += seen.lost;
        self.restarts += seen.restarts;
    }

    /// Records that a subscription did not reach the end of the log, although nothing was in its way any more.
    pub(crate) fn stands_still(&mut self, name: &str, at: u64) {
        self.stuck += 1;
        self.tell(format!("the follower {name} is at {at}, and goes no further"));
    }

    /// Each event must be in the ledger exactly once, in the order of its key, and in the notes at least once, its first entry in log
    /// order.
    pub(crate) async fn consumers(&mut self, store: &PostgresEventStore, log: &[(Mark, bool)]) -> Outcome {
        for kind in [Kind::Ledger, Kind::Notes] {
            let table = kind.table();
            let sql = format!("SELECT key, position, id::text FROM {table} ORDER BY n");
            let rows = store.router().client().await?.query(&sql, &[]).await?;
            let mut marks = Vec::with_capacity(rows.len());
            for row in &rows {
                let (key, position, id): (String, i64, String) = (row.get(0), row.get(1), row.get(2));
                // The notes are in log order, the ledger in that of each key.
                let key = if kind == Kind::Ledger { key } else { String::new() };
                marks.push((key, Mark::new(position.unsigned_abs(), id.parse::<EventId>()?)));
            }
            let seen: HashSet<Mark> = marks.iter().map(|(_, mark)| *mark).collect();
            let again = (marks.len() - seen.len()) as u64;
            match kind {
                Kind::Ledger => self.duplicates += again,
                Kind::Notes => self.again += again,
            }
            for (mark, before) in out_of_order(&marks) {
                self.out_of_order += 1;
                self.tell(format!("{mark} is in {table} behind {before}"));
            }
            for (mark, _) in log.iter().filter(|(mark, _)| !seen.contains(mark)) {
                self.skipped += 1;
                self.tell(format!("{mark} is not in {table}"));
            }
            let log: HashSet<Mark> = log.iter().map(|(mark, _)| *mark).collect();
            for mark in seen.difference(&log) {
                self.others += 1;
                self.tell(format!("{mark} is in {table}, and not in the log"));
            }
        }
        Ok(())
    }

    /// Reports the result; the last line is for programs.
    pub(crate) fn conclude(&self, events: usize, killed: u64) -> Outcome<ExitCode> {
        let Self { skipped, out_of_order, duplicates, others, stuck, again, lost, restarts, told } = self;
        eprintln!(
            "{killed} processes killed, {restarts} restarts of subscriptions; {lost} events seen that were lost; {again} handled \
             again where that is allowed"
        );
        told.iter().for_each(|what| println!("    {what}"));
        if *stuck > 0 {
            println!("broken {stuck} times: who follows comes to the end of the log");
        }
        if *others > 0 {
            println!("broken {others} times: what was seen is in the log, and only that");
        }
        let held = skipped + out_of_order + duplicates + others + stuck == 0;
        if held && let Some(why) = self.shows_nothing(killed) {
            return Err(format!("{SHOWS_NOTHING}: {why}").into());
        }
        println!(
            "drill consume: skipped={skipped} out_of_order={out_of_order} duplicates={duplicates} events={events} lost={lost}"
        );
        Ok(if held { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// Why a run in which every rule held did not test all of them. Nobody can have been told of the loss of events that nobody had seen.
    fn shows_nothing(&self, killed: u64) -> Option<&'static str> {
        match (killed, self.lost) {
            (0, _) => Some("no consumer was killed"),
            (_, 0) => Some("the failover that loses events has lost none that a follower had seen"),
            _ => None,
        }
    }
}

/// The events that were first handled after a later one had been handled for the last time. Events that are handled again, in order, count
/// as in order.
fn out_of_order(marks: &[(String, Mark)]) -> Vec<(Mark, u64)> {
    let last: HashMap<Mark, usize> = marks.iter().enumerate().map(|(n, (_, mark))| (*mark, n)).collect();
    let (mut seen, mut done): (HashSet<Mark>, HashMap<&str, u64>) = Default::default();
    let mut wrong = Vec::new();
    for (n, (key, mark)) in marks.iter().enumerate() {
        let done = done.entry(key).or_default();
        if seen.insert(*mark) && *done > mark.position() {
            wrong.push((*mark, *done));
        }
        if last.get(mark) == Some(&n) {
            *done = mark.position().max(*done);
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_without_a_kill_or_a_loss_shows_nothing() {
        let lossy = Verdict { lost: 3, ..Verdict::default() };
        assert_eq!(lossy.conclude(9, 1).unwrap(), ExitCode::SUCCESS);
        for (verdict, killed) in [(&lossy, 0), (&Verdict::default(), 1)] {
            let why = verdict.conclude(9, killed).unwrap_err().to_string();
            assert!(why.starts_with(SHOWS_NOTHING), "{why}");
        }
    }

    #[test]
    fn what_is_broken_is_broken_whatever_was_lost() {
        let skipped = Verdict { skipped: 1, ..Verdict::default() };
        assert_eq!(skipped.conclude(9, 0).unwrap(), ExitCode::FAILURE);
    }
}
