//! What is printed of the rows, kept for `--json`, and boiled down to the last line.

use serde_json::{Value, json};

use super::{
    lanes::Lane,
    rows::{Counts, Planned},
};
use crate::{
    report::{Report, digits, figures_of, number},
    rounds::median,
    side::Sample,
};

/// All rows that are through.
#[derive(Default)]
pub(super) struct Results {
    ratios: Vec<Ratio>,
}

struct Ratio {
    peer: &'static str,
    counts: Counts,
    value: f64,
}

impl Results {
    /// Prints a row, and keeps it.
    pub(super) fn add(&mut self, planned: &Planned, lanes: &[Lane], report: &mut Report) {
        println!("\n{}", planned.title);
        println!(
            "  {:<46} {:>10} {:>19} {:>8} {:>8} {:>9} {:>7}  oracle",
            "store", "per second", "lowest … highest", "p50 µs", "p99 µs", "conflicts", "ours ÷"
        );
        let ours = lanes.iter().find(|lane| lane.peer.is_none()).map(|lane| lane.samples.clone()).unwrap_or_default();
        let mut stores = Vec::new();
        for lane in lanes {
            let name = lane.peer.map_or("mainstem", |peer| peer.name);
            if let Some(reason) = &lane.out {
                println!("  {:<46} LEFT OUT: {reason}", lane.title());
                stores.push(json!({ "name": name, "left_out": reason }));
                continue;
            }
            let each = |figure: &dyn Fn(&Sample) -> f64| lane.samples.iter().map(figure).collect::<Vec<_>>();
            let rates = each(&Sample::per_second);
            let lowest = rates.iter().copied().fold(f64::INFINITY, f64::min);
            let highest = rates.iter().copied().fold(0.0, f64::max);
            let (p50, p99) =
                (median(each(&|sample| sample.percentile(50))), median(each(&|sample| sample.percentile(99))));
            let conflicts: u64 = lane.samples.iter().map(|sample| sample.conflicts).sum();
            let ratio = lane.peer.map(|_| planned.ratio(&ours, &lane.samples));
            if let (Some(peer), Some(value)) = (lane.peer, ratio) {
                self.ratios.push(Ratio { peer: peer.name, counts: planned.counts, value });
            }
            println!(
                "  {:<46} {:>10} {:>19} {:>8} {:>8} {conflicts:>9} {:>7}  {}",
                lane.title(),
                number(median(rates.clone())),
                format!("{} … {}", number(lowest), number(highest)),
                number(p50),
                number(p99),
                ratio.map_or_else(String::new, number),
                lane.row_verdict.shown(),
            );
            let mut row = figures_of(&lane.samples);
            row.extend([
                ("name".to_owned(), json!(name)),
                ("title".to_owned(), json!(lane.title())),
                ("ours_by_theirs".to_owned(), ratio.map_or(Value::Null, digits)),
                ("verdict".to_owned(), json!(lane.row_verdict.shown())),
                ("conflicts_missed".to_owned(), json!(lane.row_verdict.missed)),
                ("lost".to_owned(), json!(lane.row_verdict.lost)),
                ("twice".to_owned(), json!(lane.row_verdict.twice)),
                ("not_acknowledged".to_owned(), json!(lane.row_verdict.strangers)),
            ]);
            stores.push(Value::Object(row));
        }
        let row = &planned.row;
        report.table(json!({
            "title": planned.title, "kind": row.kind, "writers": row.writers, "events": row.events, "lanes": stores,
        }));
    }

    /// What came of each peer, and the last line, which is for programs.
    pub(super) fn print(
        &self,
        lanes: &[Lane],
        missing: &[(String, String)],
        postgres_peers: usize,
        report: &mut Report,
    ) {
        println!();
        for (title, reason) in missing {
            println!("LEFT OUT: {title}: {reason}");
        }
        let mut within = Vec::new();
        let mut umadb = f64::NAN;
        for lane in lanes {
            let came_of = match &lane.out {
                Some(reason) => format!("LEFT OUT: {reason}"),
                None => lane.verdict.shown(),
            };
            println!("{:<46} {came_of}", lane.title());
            let Some(peer) = lane.peer else { continue };
            println!("{:<46} {}", "", peer.note);
            if lane.out.is_some() {
                continue;
            }
            if !peer.on_postgres() {
                umadb = self.worst(peer.name, &[Counts::ForAll, Counts::ForUmaDb]);
            } else if lane.verdict.is_clean() {
                within.push(self.worst(peer.name, &[Counts::ForAll]));
            }
        }
        let worst = within.iter().copied().fold(f64::NAN, f64::min);
        let made_of = format!(
            "lowest ours ÷ theirs of guarded appends at 16 and 64 writers, among {} of {postgres_peers} stores on PostgreSQL \
             that the oracle has found exact",
            within.len()
        );
        report.figure("worst_postgres_peer_ratio", worst, made_of);
        report.figure(
            "umadb_ratio",
            umadb,
            "lowest ours ÷ UmaDB's of guarded appends at 16 and 64 writers, and of contended ones",
        );
        println!(
            "\ncompare peers: worst_postgres_peer_ratio={} umadb_ratio={} postgres_peers_in={}/{postgres_peers}",
            number(worst),
            number(umadb),
            within.len()
        );
    }

    fn worst(&self, peer: &str, counts: &[Counts]) -> f64 {
        let own = self.ratios.iter().filter(|ratio| ratio.peer == peer && counts.contains(&ratio.counts));
        own.map(|ratio| ratio.value).fold(f64::NAN, f64::min)
    }
}
