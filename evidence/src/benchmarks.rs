//! The figures in `docs/benchmarks.md`: blocks between `<!-- begin NAME … -->` and `<!-- end NAME -->`. The text around them is
//! written by hand, and has no figures of runs.

use std::{error::Error, fs, path::Path};

use serde_json::Value;

use crate::{
    data::{Entry, Evidence},
    markdown::{number, table},
    plots::rates,
    provenance,
    report::figures,
    stores::{self, OURS, Store},
};

pub(crate) const FILE: &str = "docs/benchmarks.md";

const BASELINES: &str = "benches/instructions/baselines.json";

/// The cases of `benches/instructions/cases.rs`, and the operation that each counts once.
const CASES: [(&str, &str); 9] = [
    ("decide_strong", "decision of a strong call, including reading the scope"),
    ("decide_eventual", "decision between two replicas, including reading the scope"),
    ("check_out", "`router.client_at()`, and the return to the pool"),
    ("check_out_bb8", "the same with bb8 alone, without its connection test"),
    ("call", "`SELECT 1` by a client of the router, including the reset of the session"),
    ("call_bare", "the same with the driver alone"),
    ("append", "append of one event, on condition that its boundary has not changed"),
    ("read_row", "event of a query, with two tags and 150 bytes of JSON"),
    ("stream_row", "the same in a stream"),
];

/// The page with its blocks rewritten.
pub(crate) fn page(root: &Path, evidence: &Evidence) -> Result<String, Box<dyn Error>> {
    let text = fs::read_to_string(root.join(FILE))?;
    let baselines = fs::read_to_string(root.join(BASELINES)).map_err(|error| format!("{BASELINES}: {error}"))?;
    let baselines = serde_json::from_str(&baselines).map_err(|error| format!("{BASELINES}: {error}"))?;
    Ok(with_blocks(text, &blocks(evidence, &baselines)).map_err(|error| format!("{FILE}: {error}"))?)
}

/// The blocks by name.
fn blocks(evidence: &Evidence, baselines: &Value) -> [(&'static str, String); 4] {
    let of = |names: &[&str]| {
        let entries: Vec<_> = names.iter().filter_map(|name| evidence.part(name)).collect();
        let mut out = format!("{}\n\n", provenance::sentence(entries.iter().copied()));
        out += &provenance::failures(entries.iter().copied());
        (out, entries)
    };
    let told = |names: &[&str]| {
        let (mut out, entries) = of(names);
        let mut rows = Vec::new();
        for entry in entries {
            for mut row in figures(entry) {
                row.insert(0, format!("`{}`", entry.part.name));
                rows.push(row);
            }
        }
        out += &table(&["part", "figure", "measured", "aim", "verdict", "definition"], &rows);
        out
    };
    let (mut peers, entries) = of(&["peers"]);
    for entry in entries {
        peers += &summary(entry);
        peers += "\n";
        peers += &ahead(entry);
        peers += "\n";
        peers += &table(&["figure", "measured", "aim", "verdict", "definition"], &figures(entry));
    }
    [
        ("route", told(&["route"])),
        ("instructions", instructions(baselines)),
        ("peers", peers),
        ("figures", told(&["append", "query", "decide", "consume", "growth", "load", "scale"])),
    ]
}

/// Replaces the blocks. Each must be there exactly once, and an unknown block is an error: it would look generated.
fn with_blocks(text: String, blocks: &[(&str, String)]) -> Result<String, String> {
    let mut marks = text.lines().filter_map(|line| line.strip_prefix("<!-- begin ")?.split([' ', ':']).next());
    if let Some(unknown) = marks.find(|name| blocks.iter().all(|(known, _)| known != name)) {
        return Err(format!("unknown block {unknown:?}"));
    }
    let mut page = text;
    for (name, block) in blocks {
        let (begin, end) =
            (format!("<!-- begin {name}: written by scripts/evidence -->"), format!("<!-- end {name} -->"));
        if page.matches(&begin).count() != 1 || page.matches(&end).count() != 1 {
            return Err(format!("{begin} … {end} must be there exactly once"));
        }
        page = crate::markdown::with_block(&page, &begin, &end, &format!("\n{block}\n"))
            .ok_or_else(|| format!("{end} is before {begin}"))?;
    }
    Ok(page)
}

/// The stores that are ahead of us in each row, the furthest first, so that readers need not search all tables.
fn ahead(entry: &Entry) -> String {
    let stores = stores::of(entry);
    let (mut rows, mut all_known) = (Vec::new(), true);
    let tables = entry.data["result"]["tables"].as_array().map(Vec::as_slice).unwrap_or_default();
    for table in tables {
        let lanes = table["lanes"].as_array().into_iter().flatten().filter(|lane| lane["name"] != OURS);
        let ratio = |lane: &Value| lane["ours_by_theirs"].as_f64();
        all_known &= lanes.clone().all(|lane| ratio(lane).is_some());
        let mut faster: Vec<_> =
            lanes.filter_map(|lane| Some((ratio(lane)?, lane))).filter(|(ratio, _)| *ratio < 1.0).collect();
        faster.sort_by(|(one, _), (other, _)| one.total_cmp(other));
        let named =
            faster.iter().map(|(ratio, lane)| format!("{} {}", stores::name_in_table(lane, &stores), number(*ratio)));
        let named: Vec<_> = named.collect();
        if !named.is_empty() {
            rows.push(vec![table["title"].as_str().unwrap_or_default().to_owned(), named.join("; ")]);
        }
    }
    let others = if all_known {
        "in all other rows no store is ahead"
    } else {
        "nothing is known about a store in a row where it was not measured"
    };
    match (tables.is_empty(), rows.is_empty()) {
        (true, _) => String::new(),
        (false, true) if all_known => "No store is ahead in any row.\n".to_owned(),
        (false, true) => "No measured store is ahead in any row.\n".to_owned(),
        (false, false) => {
            let rows = table(&["row", "stores ahead"], &rows);
            format!("Stores that are ahead, with *ours ÷*, which is then below 1; {others}:\n\n{rows}")
        }
    }
}

/// One row per store: guarded appends of 1 and 10 events, contended appends, and the catch-up.
fn summary(entry: &Entry) -> String {
    const WRITERS: [u64; 4] = [1, 16, 32, 64];
    let stores = stores::of(entry);
    let seen = |store: &Store<'_>, begins: &str, writers: u64, events: u64| {
        let tables = entry.data["result"]["tables"].as_array().into_iter().flatten();
        let mut rows = tables.filter(|table| {
            table["title"].as_str().is_some_and(|title| title.starts_with(begins))
                && (table["writers"].as_u64(), table["events"].as_u64()) == (Some(writers), Some(events))
        });
        let lanes = rows.next().and_then(|table| table["lanes"].as_array());
        let lane = lanes.and_then(|lanes| lanes.iter().find(|lane| lane["name"] == store.name));
        lane.and_then(rates).map_or_else(|| "missing".to_owned(), number)
    };
    let mut rows = Vec::new();
    for store in &stores {
        let title = if store.is_unsafe() { format!("{} (**unsafe**)", store.title) } else { store.title.to_owned() };
        let mut row = vec![title];
        for writers in WRITERS {
            let both = [1, 10].map(|events| seen(store, "guarded append", writers, events));
            row.push(both.join(" / "));
        }
        row.push(seen(store, "contended append", 16, 1));
        row.push(seen(store, "catch-up", 1, 0));
        row.push(store.verdict());
        rows.push(row);
    }
    let head = ["store", "1 writer", "16 writers", "32 writers", "64 writers", "contended", "catch-up", "oracle"];
    let mut out = "Appends per second (1 event / 10 events), and events per second of a catch-up:\n\n".to_owned();
    out += &table(&head, &rows);
    if let Some((value, store, row)) = lowest(entry, &stores) {
        out += &format!(
            "\nThe lowest *ours ÷* of guarded appends among the safe stores: {value}, against {store}, {row}.\n"
        );
    }
    out
}

fn lowest(entry: &Entry, stores: &[Store<'_>]) -> Option<(String, String, String)> {
    let mut lowest: Option<(f64, &Value, &str)> = None;
    for table in entry.data["result"]["tables"].as_array().into_iter().flatten() {
        let title = table["title"].as_str().unwrap_or_default();
        for lane in table["lanes"].as_array().into_iter().flatten() {
            let counts =
                title.starts_with("guarded append") && lane["name"] != OURS && !stores::is_unsafe(lane, stores);
            if let Some(value) = lane["ours_by_theirs"].as_f64().filter(|_| counts)
                && lowest.is_none_or(|(least, ..)| value < least)
            {
                lowest = Some((value, lane, title));
            }
        }
    }
    lowest.map(|(value, lane, row)| (number(value), stores::name_in_table(lane, stores), row.to_owned()))
}

fn instructions(baselines: &Value) -> String {
    let named = CASES.map(|(name, what)| (name, what));
    let known = baselines.as_object().into_iter().flatten().map(|(name, _)| name.as_str());
    // A case without a description is listed all the same.
    let others = known.filter(|name| CASES.iter().all(|(known, _)| known != name)).map(|name| (name, ""));
    let rows: Vec<_> = named
        .into_iter()
        .chain(others)
        .map(|(name, what)| {
            let count = baselines[name].as_f64().map_or_else(|| "missing".to_owned(), number);
            vec![format!("`{name}`"), what.to_owned(), count]
        })
        .collect();
    table(&["case", "operation", "instructions"], &rows)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::parts::PARTS;

    fn evidence() -> Evidence {
        let lane = |name: &str, rate: Value, ratio: Value| {
            json!({"name": name, "title": name.to_uppercase(), "verdict": "exact",
            "per_second": [rate], "ours_by_theirs": ratio})
        };
        let mut unsafe_lane = lane("fast", json!(99), json!(0.1));
        unsafe_lane["unsafe"] = json!(true);
        let peers = json!({"status": "ok", "result": {
            "figures": [{"name": "worst_postgres_peer_ratio", "value": 2.5, "made_of": "x"}],
            "tables": [
                {"title": "guarded append of 1 event, 16 writers", "writers": 16, "events": 1,
                    "lanes": [lane("mainstem", json!(200), Value::Null), lane("slow", json!(80), json!(2.5)), unsafe_lane]},
                {"title": "guarded append of 10 events, 16 writers", "writers": 16, "events": 10,
                    "lanes": [lane("mainstem", json!(20), Value::Null), {"name": "slow", "left_out": "failed at: that: no answer"}]},
            ],
        }});
        let route = json!({"status": "ok", "quick": true, "result": {"figures": [{"name": "decision_ns", "value": 57.0, "made_of": "ns"}]}});
        let of = |name: &str| match name {
            "peers" => peers.clone(),
            "route" => route.clone(),
            _ => Value::Null,
        };
        Evidence(PARTS.iter().map(|part| Entry { part, data: of(part.name) }).collect())
    }

    fn block(name: &str) -> String {
        let blocks = blocks(&evidence(), &json!({"append": 95_458, "new": 7}));
        blocks.into_iter().find(|(found, _)| *found == name).unwrap().1
    }

    #[test]
    fn figures_are_those_of_the_parts() {
        let route = block("route");
        assert!(route.contains("| `route` | `decision_ns` | 57.0 | ≤ 100 | short run | ns |"), "{route}");
        assert!(route.contains("Short runs, for orientation only."), "{route}");
        let figures = block("figures");
        assert!(figures.contains("Nothing was run.") && figures.contains("- **append**: it was not run"), "{figures}");
    }

    #[test]
    fn stores_are_told_in_a_row_each() {
        let peers = block("peers");
        let missing = "missing / missing";
        for row in [
            format!("| MAINSTEM | {missing} | 200 / 20.0 | {missing} | {missing} | missing | missing | exact |"),
            format!("| FAST (**unsafe**) | {missing} | 99.0 / missing |"),
            format!("| SLOW | {missing} | 80.0 / missing |"),
        ] {
            assert!(peers.contains(&row), "{peers}");
        }
        assert!(peers.contains("**failed at: that: no answer**"), "{peers}");
        assert!(
            peers.contains("among the safe stores: 2.50, against SLOW, guarded append of 1 event, 16 writers."),
            "{peers}"
        );
        assert!(peers.contains("| `worst_postgres_peer_ratio` | 2.50 | ≥ 5 | **missed** | x |"), "{peers}");
        // An unsafe store is listed too, and marked.
        assert!(
            peers.contains(
                "| row | stores ahead |\n|---|---|\n| guarded append of 1 event, 16 writers | FAST (**unsafe**) 0.100 |\n\n"
            ),
            "{peers}"
        );
    }

    #[test]
    fn who_is_ahead_is_told_the_furthest_first() {
        let entry = |ratios: [f64; 3]| {
            let lanes = ["a", "b", "c"].iter().zip(ratios);
            let lanes: Vec<_> =
                lanes.map(|(name, ratio)| json!({"name": name, "verdict": "exact", "ours_by_theirs": ratio})).collect();
            let tables = json!([{"title": "catch-up", "lanes": lanes}, {"title": "other", "lanes": [{"name": OURS, "verdict": "exact", "ours_by_theirs": 0.5}]}]);
            Entry {
                part: crate::parts::Part::named("peers").unwrap(),
                data: json!({"status": "ok", "result": {"tables": tables}}),
            }
        };
        let told = ahead(&entry([0.9, 1.0, 0.25]));
        assert!(told.ends_with("| catch-up | c 0.250; a 0.900 |\n"), "{told}");
        assert_eq!(ahead(&entry([1.0, 2.0, 3.0])), "No store is ahead in any row.\n");
        // Nothing is known about a store that was not measured.
        assert!(
            ahead(&entry([0.9, f64::NAN, 2.0]))
                .contains("nothing is known about a store in a row where it was not measured")
        );
        assert_eq!(ahead(&entry([1.0, f64::NAN, 2.0])), "No measured store is ahead in any row.\n");
    }

    #[test]
    fn instructions_are_the_recorded_ones() {
        let told = block("instructions");
        assert!(told.contains("changed | 95 458 |\n") && told.contains("| `new` |  | 7.00 |"), "{told}");
        assert!(
            told.contains(
                "| `call` | `SELECT 1` by a client of the router, including the reset of the session | missing |"
            ),
            "{told}"
        );
    }

    #[test]
    fn blocks_are_there_once_and_no_others() {
        let blocks = [("a", "new\n".to_owned())];
        let page = |name: &str| {
            format!("prose\n<!-- begin {name}: written by scripts/evidence -->\nold\n<!-- end {name} -->\nprose\n")
        };
        let new = with_blocks(page("a"), &blocks).unwrap();
        assert_eq!(new, "prose\n<!-- begin a: written by scripts/evidence -->\n\nnew\n\n<!-- end a -->\nprose\n");
        assert_eq!(with_blocks(new.clone(), &blocks), Ok(new));
        for wrong in ["prose\n".to_owned(), page("a") + &page("b"), page("a") + &page("a")] {
            assert!(with_blocks(wrong.clone(), &blocks).is_err(), "{wrong}");
        }
    }
}
