//! The stores of `peers`, over all rows of a run: which of them keep their guarantees.

use serde_json::Value;

use crate::data::Entry;

/// What the oracle counts in a row.
const FAULTS: [(&str, &str); 4] = [
    ("conflicts_missed", "CONFLICTS MISSED"),
    ("lost", "LOST"),
    ("twice", "TWICE"),
    ("not_acknowledged", "NOT ACKNOWLEDGED"),
];

pub(crate) const OURS: &str = "mainstem";

#[derive(Debug)]
pub(crate) struct Store<'a> {
    pub(crate) name: &'a str,
    pub(crate) title: &'a str,
    /// What is known about it. Older runs do not record this.
    pub(crate) note: &'a str,
    marked: bool,
    faults: [u64; 4],
    out: Option<&'a str>,
}

/// In the order in which they take part.
pub(crate) fn of(entry: &Entry) -> Vec<Store<'_>> {
    let mut stores: Vec<Store<'_>> = Vec::new();
    for lane in lanes(entry) {
        let Some(name) = lane["name"].as_str().filter(|_| is_store(lane)) else { continue };
        let text = |field: &str| lane[field].as_str();
        let place = stores.iter().position(|store| store.name == name).unwrap_or_else(|| {
            stores.push(Store { name, title: name, note: "", marked: false, faults: [0; 4], out: None });
            stores.len() - 1
        });
        let Some(store) = stores.get_mut(place) else { continue };
        store.title = text("title").unwrap_or(store.title);
        store.note = text("note").unwrap_or(store.note);
        store.marked |= lane["unsafe"] == true;
        store.out = text("failed").or_else(|| text("left_out")).or(store.out);
        for (sum, (field, _)) in store.faults.iter_mut().zip(FAULTS) {
            *sum += lane[field].as_u64().unwrap_or_default();
        }
    }
    stores
}

fn lanes(entry: &Entry) -> impl Iterator<Item = &Value> {
    let tables = entry.data["result"]["tables"].as_array().into_iter().flatten();
    tables.flat_map(|table| table["lanes"].as_array().into_iter().flatten())
}

/// Whether a lane is a store. The sides of the other benchmarks are not.
fn is_store(lane: &Value) -> bool {
    lane["verdict"].is_string() || lane["left_out"].is_string()
}

impl Store<'_> {
    /// Known to be unsafe, or seen to be: its figures are those of a store that does less.
    pub(crate) fn is_unsafe(&self) -> bool {
        self.marked || self.faults.iter().any(|count| *count > 0)
    }

    /// The oracle's verdict on the whole run.
    pub(crate) fn verdict(&self) -> String {
        let named = self.faults.iter().zip(FAULTS).filter(|(count, _)| **count > 0);
        let named: Vec<_> = named.map(|(count, (_, what))| format!("{count} {what}")).collect();
        let verdict = if named.is_empty() { "exact".to_owned() } else { named.join(", ") };
        match self.out {
            Some(reason) => format!("{verdict}, as far as it was checked; **{reason}**"),
            None => verdict,
        }
    }
}

/// How a table names a store.
pub(crate) fn name_in_table(lane: &Value, stores: &[Store<'_>]) -> String {
    let name = lane["title"].as_str().or_else(|| lane["name"].as_str()).unwrap_or_default();
    if is_unsafe(lane, stores) { format!("{name} (**unsafe**)") } else { name.to_owned() }
}

pub(crate) fn is_unsafe(lane: &Value, stores: &[Store<'_>]) -> bool {
    stores.iter().any(|store| lane["name"] == store.name && store.is_unsafe())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::parts::Part;

    fn entry() -> Entry {
        let good = |name: &str| json!({"name": name, "title": name.to_uppercase(), "verdict": "exact", "lost": 0});
        let known = json!({"name": "known", "verdict": "exact", "unsafe": true, "note": "UNSAFE: no lock"});
        let seen = json!({"name": "seen", "verdict": "3 CONFLICTS MISSED", "conflicts_missed": 3});
        let failed = json!({"name": "late", "verdict": "not judged", "failed": "no answer"});
        let data = json!({"status": "ok", "result": {"tables": [
            {"lanes": [good("a"), good("known"), good("seen"), good("late")]},
            {"lanes": [good("a"), known, seen, failed]},
            {"lanes": [good("a"), good("known"), good("seen"), {"name": "late", "left_out": "failed at: row 2: no answer"}]},
            {"lanes": [{"name": "INSERT"}]},
        ]}});
        Entry { part: Part::named("peers").unwrap(), data }
    }

    #[test]
    fn unsafe_is_who_is_known_or_seen_to_be() {
        let entry = entry();
        let stores = of(&entry);
        let found: Vec<_> = stores.iter().map(|store| (store.name, store.is_unsafe(), store.note)).collect();
        let expected = [("a", false, ""), ("known", true, "UNSAFE: no lock"), ("seen", true, ""), ("late", false, "")];
        assert_eq!(found, expected);
        // In all rows, including those where the oracle found nothing.
        assert_eq!(name_in_table(&json!({"name": "seen", "title": "Seen"}), &stores), "Seen (**unsafe**)");
        assert_eq!(name_in_table(&json!({"name": "a", "title": "A"}), &stores), "A");
    }

    #[test]
    fn verdicts_are_of_the_whole_run() {
        let entry = entry();
        let verdicts: Vec<_> = of(&entry).iter().map(Store::verdict).collect();
        let failed = "exact, as far as it was checked; **failed at: row 2: no answer**";
        assert_eq!(verdicts, ["exact", "exact", "3 CONFLICTS MISSED", failed]);
    }
}
