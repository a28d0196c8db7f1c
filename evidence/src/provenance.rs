//! The machines, commits and days of the parts, as recorded in their files.

use crate::{
    data::Entry,
    machine::date,
    markdown::{number, table},
};

/// What each part records about its run, and how one and several values of it are called.
type Asked = fn(&Entry) -> String;
const ASKED: [(&str, &str, Asked); 5] = [
    // Two machines that report the same properties may still be two.
    ("one kind of machine", "kinds of machine", machine),
    ("one commit", "commits", commit),
    ("one PostgreSQL version", "PostgreSQL versions", |entry| {
        fact(entry, "postgresql").replace("postgres (PostgreSQL) ", "")
    }),
    ("one Rust version", "Rust versions", |entry| fact(entry, "rust").replace("rustc ", "")),
    ("one day", "days", day),
];

fn fact(entry: &Entry, name: &str) -> String {
    entry.data["machine"][name].as_str().filter(|text| !text.is_empty()).unwrap_or("unknown").to_owned()
}

fn machine(entry: &Entry) -> String {
    let machine = &entry.data["machine"];
    let plain = |name: &str| machine[name].as_f64().map_or_else(|| "?".to_owned(), |number| number.to_string());
    format!(
        "{}, {} processors, {} GiB, {}, Linux {}",
        fact(entry, "processor"),
        plain("processors"),
        plain("memory_gib"),
        fact(entry, "system"),
        fact(entry, "kernel")
    )
}

fn commit(entry: &Entry) -> String {
    let commit = entry.text("commit");
    if commit.is_empty() { "unknown".to_owned() } else { format!("`{commit}`") }
}

fn day(entry: &Entry) -> String {
    entry.data["at"].as_u64().map_or_else(|| "unknown".to_owned(), |at| date(at).chars().take(10).collect())
}

/// The values and the parts that have them, in the order of the parts.
fn groups<'a>(entries: &[&'a Entry], asked: Asked) -> Vec<(String, Vec<&'a str>)> {
    let mut groups: Vec<(String, Vec<&str>)> = Vec::new();
    for entry in entries {
        let value = asked(entry);
        match groups.iter_mut().find(|(found, _)| *found == value) {
            Some((_, parts)) => parts.push(entry.part.name),
            None => groups.push((value, vec![entry.part.name])),
        }
    }
    groups
}

/// Where, with what and when these parts were run. Lists the parts where they differ, and names short runs.
pub(crate) fn sentence<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> String {
    let run: Vec<_> = entries.into_iter().filter(|entry| entry.data.is_object()).collect();
    if run.is_empty() {
        return "Nothing was run.".to_owned();
    }
    let told = ASKED.map(|(one, several, asked)| {
        let groups = groups(&run, asked);
        if let [(value, _)] = &groups[..] {
            return format!("{one} ({value})");
        }
        let most = groups.iter().map(|(_, parts)| parts.len()).max().unwrap_or_default();
        let mut rest = None;
        let each = groups.iter().map(|(value, parts)| {
            // The largest group is called "the others" if it is long.
            if parts.len() == most && most > 4 && *rest.get_or_insert(value) == value {
                return format!("{value} (the others)");
            }
            format!("{value} ({})", parts.join(", "))
        });
        format!("**{} {several}**: {}", groups.len(), each.collect::<Vec<_>>().join(", "))
    });
    let short: Vec<_> = run.iter().filter(|entry| entry.is_quick()).map(|entry| entry.part.name).collect();
    let short = match &short[..] {
        [] => String::new(),
        all if all.len() == run.len() => " **Short runs, for orientation only.**".to_owned(),
        some => format!(" **Short runs, for orientation only:** {}.", some.join(", ")),
    };
    format!("Measured on {}.{short}", told.join("; "))
}

/// Each combination of machine, versions and commit, with the parts that ran on it.
pub(crate) fn machines(entries: &[Entry]) -> String {
    let run: Vec<_> = entries.iter().filter(|entry| entry.data.is_object()).collect();
    let mut rows: Vec<Vec<String>> = Vec::new();
    let kinds = groups(&run, |entry| {
        [machine(entry), fact(entry, "rust"), fact(entry, "postgresql"), commit(entry)].join("\n")
    });
    let only = kinds.len() == 1;
    for (facts, parts) in kinds {
        let mut row: Vec<String> = facts.split('\n').map(str::to_owned).collect();
        row.push(if only { "all".to_owned() } else { parts.join(", ") });
        rows.push(row);
    }
    let mut out = "Machines that report the same properties count as one kind.\n\n".to_owned();
    out += &table(&["machine", "Rust", "PostgreSQL", "commit", "parts"], &rows);
    let mut settings: Vec<(&str, Vec<&str>)> = Vec::new();
    let mut disks = Vec::new();
    for entry in run {
        let facts = &entry.data["result"]["facts"];
        if let Some(disk) = facts["disk"].as_str() {
            disks.push(vec![entry.part.name.to_owned(), disk.to_owned()]);
        }
        if let Some(of) = facts["settings"].as_str() {
            match settings.iter_mut().find(|(found, _)| *found == of) {
                Some((_, parts)) => parts.push(entry.part.name),
                None => settings.push((of, vec![entry.part.name])),
            }
        }
    }
    let only = settings.len() == 1;
    for (of, parts) in &settings {
        let whose = if only { String::new() } else { format!(" ({})", parts.join(", ")) };
        out += &format!("\nSettings of the benchmark servers{whose}: `{of}`.\n");
    }
    if !disks.is_empty() {
        out += "\nSpeed of fdatasync before each part, on the disk that holds the servers' files:\n\n";
        out += &table(&["part", "fdatasync"], &disks);
    }
    out
}

/// The runs, one row per part.
pub(crate) fn runs<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> String {
    let mut rows = Vec::new();
    for entry in entries {
        let data = &entry.data;
        let came_of = entry.failure().map_or_else(|| "completed".to_owned(), |reason| format!("**{reason}**"));
        let mut row = vec![entry.part.name.to_owned()];
        if data.is_object() {
            row.extend([
                format!("`{}`", entry.text("command")),
                if entry.is_quick() { "**short**".to_owned() } else { "full".to_owned() },
                commit(entry),
                date(data["at"].as_u64().unwrap_or_default()),
                data["seconds"].as_u64().map_or_else(String::new, |seconds| seconds.to_string()),
                data["load_before"].as_f64().map_or_else(String::new, number),
            ]);
        }
        row.resize(7, String::new());
        row.push(came_of);
        rows.push(row);
    }
    let note = "The load is the one-minute load average before the part. A value much above 0 for the first part, or above that of the \
                preceding part, means other work on the machine.\n\n";
    note.to_owned() + &table(&["part", "command", "run", "commit", "UTC", "seconds", "load before", "outcome"], &rows)
}

/// The reasons of all parts that are missing or failed.
pub(crate) fn failures<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> String {
    let failed = entries.into_iter().filter_map(|entry| Some((entry.part.name, entry.failure()?)));
    let list: String = failed.map(|(name, reason)| format!("- **{name}**: {reason}\n")).collect();
    if list.is_empty() {
        list
    } else {
        format!("**Missing or failed**, so without figures here, or with those from before the failure:\n\n{list}\n")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::parts::PARTS;

    fn entries(changed: &[(&str, &str, Value)]) -> Vec<Entry> {
        let machine = json!({"processor": "Some CPU", "processors": 2, "memory_gib": 23.5, "system": "Debian", "kernel": "6",
            "rust": "rustc 1", "postgresql": "postgres (PostgreSQL) 15"});
        let data = json!({"status": "ok", "at": 0, "quick": false, "commit": "abc", "machine": machine});
        let of = |name: &str| {
            let mut data = data.clone();
            for (_, path, value) in changed.iter().filter(|(part, ..)| *part == name) {
                *data.pointer_mut(path).unwrap() = value.clone();
            }
            data
        };
        PARTS.iter().take(6).map(|part| Entry { part, data: of(part.name) }).collect()
    }

    #[test]
    fn what_all_have_in_common_is_said_once() {
        let expected = "Measured on one kind of machine (Some CPU, 2 processors, 23.5 GiB, Debian, Linux 6); one commit (`abc`); \
                        one PostgreSQL version (15); one Rust version (1); one day (1970-01-01).";
        assert_eq!(sentence(&entries(&[])), expected);
        assert_eq!(sentence(&[]), "Nothing was run.");
    }

    #[test]
    fn what_differs_is_said_of_each() {
        let all = entries(&[
            ("query", "/commit", json!("def")),
            ("route", "/machine/processor", json!("Other CPU")),
            ("route", "/at", json!(86_400)),
            ("query", "/machine/postgresql", json!("postgres (PostgreSQL) 16")),
        ]);
        let said = sentence(&all);
        for part in [
            "**2 kinds of machine**: Some CPU, 2 processors, 23.5 GiB, Debian, Linux 6 (the others), Other CPU, 2 processors, 23.5 GiB, Debian, Linux 6 (route)",
            "; **2 commits**: `abc` (the others), `def` (query)",
            "; **2 PostgreSQL versions**: 15 (the others), 16 (query)",
            "; **2 days**: 1970-01-01 (the others), 1970-01-02 (route)",
        ] {
            assert!(said.contains(part), "{said}");
        }
        assert!(!said.contains("one kind") && !said.contains("Short runs"), "{said}");
        // With two parts, each is named.
        assert!(
            sentence(&all[..2]).contains("**2 commits**: `abc` (append), `def` (query)"),
            "{}",
            sentence(&all[..2])
        );
    }

    #[test]
    fn short_runs_are_named() {
        let all = entries(&[("query", "/quick", json!(true))]);
        assert!(sentence(&all).ends_with(" **Short runs, for orientation only:** query."));
        assert!(sentence(&all[1..2]).ends_with(" **Short runs, for orientation only.**"));
        let told = runs(&all);
        assert!(told.contains("**short**") && told.matches("| full | `abc` |").count() == 5, "{told}");
    }

    #[test]
    fn kinds_of_machines_and_commits_have_their_parts() {
        let told = machines(&entries(&[("query", "/commit", json!("def"))]));
        assert!(
            told.contains("| `abc` | append, decide, consume, growth, route |\n") && told.contains("| `def` | query |")
        );
        assert!(machines(&entries(&[])).contains("| `abc` | all |"));
    }
}
