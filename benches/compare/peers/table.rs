//! Prints the rows, keeps them for `--json`, and reduces them to the last line.

use serde_json::{Value, json};

use super::{
    cast::Peer,
    lanes::Lane,
    oracle::Verdict,
    ratios::{Counts, Ratios, Worst},
    rows::Planned,
};
use crate::{
    report::{Report, digits, figures_of, number},
    rounds::median,
    side::Sample,
    stats::{highest, lowest},
};

/// All completed rows.
#[derive(Default)]
pub(super) struct Results {
    ratios: Ratios,
}

impl Results {
    /// Prints and keeps a row. For a store that failed in it, it has what was measured until then.
    pub(super) fn add(&mut self, planned: &Planned, lanes: &[Lane], report: &mut Report) {
        println!("\n{}", planned.title);
        println!(
            "  {:<46} {:>10} {:>19} {:>8} {:>8} {:>9} {:>7}  oracle",
            "store", "per second", "lowest … highest", "p50 µs", "p99 µs", "conflicts", "ours ÷"
        );
        self.ratios.row(&planned.title, planned.counts);
        let ours = lanes.iter().find(|lane| lane.peer.is_none()).map(|lane| lane.samples.clone()).unwrap_or_default();
        let mut stores = Vec::new();
        for lane in lanes {
            let name = lane.peer.map_or("mainstem", |peer| peer.name);
            let failed = lane.out.as_ref();
            if let Some(failed) = failed
                && (failed.at != planned.title || lane.samples.is_empty())
            {
                println!("  {:<46} LEFT OUT: {}", lane.title(), failed.shown());
                stores.push(json!({ "name": name, "title": lane.title(), "left_out": failed.shown() }));
                continue;
            }
            let each = |figure: &dyn Fn(&Sample) -> f64| lane.samples.iter().map(figure).collect::<Vec<_>>();
            let rates = each(&Sample::per_second);
            let (lowest, highest) = (lowest(rates.iter().copied()), highest(rates.iter().copied()));
            let verdict = lane.row_verdict.map_or_else(|| "not judged".to_owned(), Verdict::shown);
            let (p50, p99) =
                (median(each(&|sample| sample.percentile(50))), median(each(&|sample| sample.percentile(99))));
            let conflicts: u64 = lane.samples.iter().map(|sample| sample.conflicts).sum();
            let ratio = lane.peer.map(|_| planned.ratio(&ours, &lane.samples));
            // A store that failed in this row lacks some rounds and the oracle's verdict.
            if let (Some(peer), Some(value), None) = (lane.peer, ratio, failed) {
                self.ratios.add(peer.name, value);
            }
            println!(
                "  {:<46} {:>10} {:>19} {:>8} {:>8} {conflicts:>9} {:>7}  {}",
                lane.title(),
                number(median(rates.clone())),
                format!("{} … {}", number(lowest), number(highest)),
                number(p50),
                number(p99),
                ratio.map_or_else(String::new, number),
                failed.map_or_else(|| verdict.clone(), |failed| failed.reason.clone()),
            );
            let mut row = figures_of(&lane.samples);
            row.extend([
                ("name".to_owned(), json!(name)),
                ("title".to_owned(), json!(lane.title())),
                ("ours_by_theirs".to_owned(), ratio.map_or(Value::Null, digits)),
                ("verdict".to_owned(), json!(verdict)),
            ]);
            if let Some(peer) = lane.peer {
                row.extend([("note".to_owned(), json!(peer.note)), ("unsafe".to_owned(), json!(peer.is_unsafe()))]);
            }
            if let Some(Verdict { missed, lost, twice, strangers }) = lane.row_verdict {
                let faults =
                    [("conflicts_missed", missed), ("lost", lost), ("twice", twice), ("not_acknowledged", strangers)];
                row.extend(faults.map(|(name, count)| (name.to_owned(), json!(count))));
            }
            if let Some(failed) = failed {
                row.insert("failed".to_owned(), json!(failed.reason));
            }
            stores.push(Value::Object(row));
        }
        let row = &planned.row;
        report.table(json!({
            "title": planned.title, "kind": row.kind, "writers": row.writers, "events": row.events, "lanes": stores,
        }));
    }

    /// The results of each peer, and the last line, which is for programs.
    pub(super) fn print(&self, lanes: &[Lane], missing: &[(&Peer, String)], report: &mut Report) {
        println!();
        let (mut on_postgres, mut in_each_row, mut umadb) = (Vec::new(), Vec::new(), Vec::new());
        let mut within = 0;
        for (peer, reason) in missing {
            println!("LEFT OUT: {}: {reason}", peer.with_version());
            let nothing = Worst::nothing_of(peer.name);
            if peer.on_postgres() {
                on_postgres.push(nothing.clone());
                in_each_row.push(nothing);
            } else {
                umadb.push(nothing);
            }
        }
        for lane in lanes {
            let mut came_of = lane.verdict.shown();
            if let Some(failed) = &lane.out {
                came_of = format!("LEFT OUT: {}; until then {came_of}", failed.shown());
                report.left_out(lane.peer.map_or("mainstem", |peer| peer.name), &failed.shown());
            }
            println!("{:<46} {came_of}", lane.title());
            let Some(peer) = lane.peer else { continue };
            println!("{:<46} {}", "", peer.note);
            if !peer.on_postgres() {
                umadb.push(self.ratios.worst(peer.name, &[Counts::All, Counts::UmaDb]));
            } else if lane.verdict.is_clean() {
                within += usize::from(lane.out.is_none());
                on_postgres.push(self.ratios.worst(peer.name, &[Counts::All]));
                in_each_row.push(self.ratios.worst(peer.name, &[Counts::All, Counts::EachRow, Counts::UmaDb]));
            }
        }
        let peers = missing.iter().map(|(peer, _)| *peer).chain(lanes.iter().filter_map(|lane| lane.peer));
        let all = peers.filter(|peer| peer.on_postgres()).count();
        let (worst, each, umadb) = (Worst::of(on_postgres), Worst::of(in_each_row), Worst::of(umadb));
        let made_of = format!(
            "lowest ours ÷ theirs of guarded appends at 16 and 64 writers, among {within} of {all} stores on PostgreSQL \
             that the oracle has found exact"
        );
        report.incomplete_figure("worst_postgres_peer_ratio", worst.value, made_of, worst.incomplete());
        let made_of = "the lowest over all rows: reads, catch-up, and guarded and contended appends of 1 to 64 writers";
        report.incomplete_figure("worst_postgres_row_ratio", each.value, made_of, each.incomplete());
        let made_of = "lowest ours ÷ UmaDB's of guarded appends at 16 and 64 writers, and of contended ones";
        report.incomplete_figure("umadb_ratio", umadb.value, made_of, umadb.incomplete());
        println!();
        for (name, figure) in
            [("worst_postgres_peer_ratio", &worst), ("worst_postgres_row_ratio", &each), ("umadb_ratio", &umadb)]
        {
            if let Some(incomplete) = figure.incomplete() {
                println!("INCOMPLETE: {name}: {incomplete}");
            }
        }
        println!(
            "\ncompare peers: worst_postgres_peer_ratio={} worst_postgres_row_ratio={} umadb_ratio={} postgres_peers_in={within}/{all}",
            number(worst.value),
            number(each.value),
            number(umadb.value),
        );
    }
}
