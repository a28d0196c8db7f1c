//! The figures in README: a few ratios, between two marks.

use crate::{
    aims,
    data::{Entry, Evidence},
    markdown::{number, table},
    provenance,
};

pub(crate) const BEGIN: &str = "<!-- figures: written by scripts/evidence -->";
pub(crate) const END: &str = "<!-- end of figures -->";

const FIGURES: [(&str, &str, &str); 17] = [
    ("append", "tasks32_vs_insert", "32 tasks: guarded appends per second ÷ plain INSERTs"),
    ("append", "tasks256_vs_insert", "256 tasks ÷ the same INSERTs"),
    ("append", "tasks32_vs_origin", "32 tasks ÷ the origin's guarded statement"),
    ("append", "hot_vs_origin", "32 tasks on one boundary ÷ the origin's statement, made safe by a lock"),
    ("query", "query_vs_bare", "latency of a query ÷ the same SQL on a bare client"),
    ("query", "query_vs_origin", "latency of a query ÷ the origin's query"),
    ("query", "stream_vs_copy", "events per second of a stream ÷ `COPY`"),
    ("decide", "cycle_vs_bare", "latency of a command ÷ the same read by hand and an INSERT without a condition"),
    ("growth", "append_growth", "latency of an append to a long log ÷ to a short log"),
    ("growth", "query_growth", "latency of a query on a long log ÷ on a short log"),
    ("route", "decision_ns", "routing decision, in nanoseconds"),
    ("route", "client_vs_bb8", "time to get a connection ÷ from bb8 alone"),
    ("route", "strong_vs_bare", "latency of a call on the primary ÷ on a bare client"),
    (
        "peers",
        "worst_postgres_peer_ratio",
        "guarded appends of 16 and 64 writers ÷ the other stores on PostgreSQL that the oracle found exact, lowest of these rows",
    ),
    (
        "peers",
        "umadb_ratio",
        "guarded appends of 16 and 64 writers and contended appends ÷ UmaDB, lowest of these rows",
    ),
    (
        "scale",
        "disk_vs_origin",
        "bytes on disk per event, at the load with the most ÷ the origin's table with its indexes, over all loads",
    ),
    ("drill-failover", "detection_median_ms", "milliseconds from a promotion until the router detects it"),
];

/// The text between the marks.
pub(crate) fn block(evidence: &Evidence) -> String {
    let (mut rows, mut parts) = (Vec::new(), Vec::<&Entry>::new());
    for (part, name, what) in FIGURES {
        let Some(entry) = evidence.part(part) else { continue };
        let seen = match (entry.failure(), entry.figure(name)) {
            (Some(reason), _) => format!("not measured: {reason}"),
            (None, None) => "not measured".to_owned(),
            (None, Some(value)) => number(value),
        };
        let is_short_of = entry.failure().is_some() || entry.incomplete(name).is_some();
        let verdict = aims::verdict(name, entry.figure(name), is_short_of, entry.is_quick());
        let lacks = entry.incomplete(name).map_or_else(String::new, |lacks| format!(", incomplete: {lacks}"));
        let seen = seen + &lacks;
        if !parts.iter().any(|known| known.part.name == part) {
            parts.push(entry);
        }
        let aim = aims::of(name).map_or_else(String::new, aims::Aim::shown);
        rows.push(vec![what.to_owned(), seen, aim, verdict.to_owned()]);
    }
    let mut out = "\n".to_owned() + &table(&["figure", "measured", "aim", "verdict"], &rows);
    out += &format!("\n{}\n", provenance::sentence(parts));
    out += "\n[All figures](docs/evidence/README.md), with plots, machines, and the commands that produced them.\n\n";
    out
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::parts::PARTS;

    #[test]
    fn what_was_not_measured_says_so() {
        let of = |name: &str| match name {
            "append" => {
                json!({"status": "ok", "quick": true, "result": {"figures": [{"name": "tasks32_vs_insert", "value": 2.5}]}})
            }
            "drill-failover" => json!({"status": "ok", "result": {"values": {"detection_median_ms": 12.3}}}),
            "peers" => json!({"status": "failed", "reason": "no Python"}),
            "scale" => {
                json!({"status": "ok", "result": {"figures": [{"name": "disk_vs_origin", "value": 0.9, "incomplete": "rate 10: short"}]}})
            }
            _ => Value::Null,
        };
        let block = block(&Evidence(PARTS.iter().map(|part| Entry { part, data: of(part.name) }).collect()));
        assert!(
            block.contains("| 32 tasks: guarded appends per second ÷ plain INSERTs | 2.50 | ≥ 2 | short run |"),
            "{block}"
        );
        assert!(block.contains("| 256 tasks ÷ the same INSERTs | not measured | ≥ 3 | **missing** |"), "{block}");
        assert!(
            block.contains(
                "| guarded appends of 16 and 64 writers and contended appends ÷ UmaDB, lowest of these rows | not measured: no Python | ≥ 1 | **missing** |"
            ),
            "{block}"
        );
        assert!(block.contains("until the router detects it | 12.3 | ≤ 1000 | met |"), "{block}");
        assert!(
            block.contains("with its indexes, over all loads | 0.900, incomplete: rate 10: short | ≤ 1 | **open** |"),
            "{block}"
        );
        assert!(
            block.contains("**Short runs, for orientation only:** append.")
                && block.contains("docs/evidence/README.md")
        );
    }
}
