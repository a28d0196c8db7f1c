//! What is measured, row by row: all stores take turns in each.

use std::time::Duration;

use super::{
    driver::{Kind, Row},
    lanes::Lane,
    oracle,
    ratios::Counts,
};
use crate::{
    args::Args,
    progress::Progress,
    rounds::{Control, median},
    side::Sample,
};

/// The writers of the contended row.
const HOT: u64 = 16;

pub(super) struct Planned {
    pub(super) title: String,
    pub(super) row: Row,
    /// Which of the last figures includes its ratios.
    pub(super) counts: Counts,
    rounds: usize,
    span: Duration,
}

/// The rows in order. Reads come first, while all stores have the same events.
pub(super) fn plan(args: &Args, books: &[String]) -> Vec<Planned> {
    let mut rows = Vec::new();
    let mut add = |title: String, kind, writers, events, counts| {
        let number = rows.len() as u64;
        let books = if kind == Kind::Query { books.to_vec() } else { Vec::new() };
        let (rounds, span) = match kind {
            Kind::CatchUp => (args.pick(2, 5), Duration::ZERO),
            _ => (args.pick(3, 7), args.span(400, 1500)),
        };
        rows.push(Planned { title, row: Row { kind, writers, events, number, books }, counts, rounds, span });
    };
    add("query of one boundary, 1 reader".to_owned(), Kind::Query, 1, 0, Counts::EachRow);
    add("catch-up, in events".to_owned(), Kind::CatchUp, 1, 0, Counts::EachRow);
    for (events, plural) in [(1, ""), (10, "s")] {
        for writers in [1, 16, 32, 64] {
            let counts = if matches!(writers, 16 | 64) { Counts::All } else { Counts::EachRow };
            let title = format!("guarded append of {events} event{plural}, {writers} writer");
            let title = if writers > 1 { title + "s" } else { title };
            add(title, Kind::Append, writers, events, counts);
        }
    }
    add(format!("contended append of 1 event, {HOT} writers on one boundary"), Kind::Hot, HOT, 1, Counts::UmaDb);
    rows
}

/// One round that does not count, then those that do; each begins with another store. The oracle checks at the end.
pub(super) async fn take_turns(planned: &Planned, lanes: &mut [Lane], control: &Control) -> crate::Outcome {
    for lane in lanes.iter_mut().filter(|lane| lane.out.is_none()) {
        lane.begin(&planned.title, &planned.row).await;
    }
    control.batch_execute("CHECKPOINT").await?;
    let mut progress = Progress::new(&planned.title, ((planned.rounds + 1) * lanes.len()) as u64);
    for round in 0..=planned.rounds {
        for turn in 0..lanes.len() {
            // Forwards and backwards, so that no store always follows the same neighbour.
            let place = if round % 2 == 0 { turn } else { lanes.len() - 1 - turn };
            let index = (round / 2 + place) % lanes.len();
            let Some(lane) = lanes.get_mut(index) else { continue };
            if lane.out.is_none() {
                lane.round(planned.span, round > 0).await;
            }
            progress.step(lane.peer.map_or("Mainstem", |peer| peer.name));
        }
    }
    progress.finish();
    for lane in lanes.iter_mut().filter(|lane| lane.out.is_none()) {
        let Some(written) = lane.end().await else { continue };
        let verdict = oracle::judge(&lane.acknowledged, &written, planned.row.events);
        lane.row_verdict = Some(verdict);
        lane.verdict.add(verdict);
    }
    Ok(())
}

impl Planned {
    /// The ratio of ours and theirs, such that above 1 is better: of latencies for a single reader, otherwise of
    /// throughputs.
    pub(super) fn ratio(&self, ours: &[Sample], theirs: &[Sample]) -> f64 {
        let better = |(ours, theirs): (&Sample, &Sample)| match self.row.kind {
            Kind::Query => theirs.percentile(50) / ours.percentile(50),
            Kind::Append | Kind::Hot | Kind::CatchUp => ours.per_second() / theirs.per_second(),
        };
        median(ours.iter().zip(theirs).map(better).collect())
    }
}
