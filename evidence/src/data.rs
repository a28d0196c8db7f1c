//! The results of the runs: `docs/evidence/data`, a file for each part.

use std::{error::Error, fs, path::Path};

use serde_json::Value;

use crate::{
    aims,
    parts::{PARTS, Part},
};

pub(crate) const FOLDER: &str = "docs/evidence/data";

/// Lines are no longer than this where possible.
const LINE: usize = 140;

/// A figure of a benchmark, or a value of a drill that has an aim.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figure<'a> {
    pub(crate) name: &'a str,
    /// None if it is missing.
    pub(crate) value: Option<f64>,
    pub(crate) made_of: &'a str,
    /// What is missing from it, and may change it.
    pub(crate) incomplete: Option<&'a str>,
}

/// A part and its result; null if it was never run.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) part: &'static Part,
    pub(crate) data: Value,
}

impl Entry {
    /// Why it has no figures.
    pub(crate) fn failure(&self) -> Option<String> {
        match &self.data {
            Value::Null => Some("it was not run".to_owned()),
            data if data["status"] == "ok" => None,
            data => Some(data["reason"].as_str().unwrap_or("it failed").to_owned()),
        }
    }

    /// Whether it is a short run, to which no aim applies.
    pub(crate) fn is_quick(&self) -> bool {
        self.data["quick"] == true
    }

    pub(crate) fn text(&self, name: &str) -> &str {
        self.data[name].as_str().unwrap_or_default()
    }

    /// A figure of a benchmark, or a value of a drill.
    pub(crate) fn figure(&self, name: &str) -> Option<f64> {
        self.found(name).map_or(&self.data["result"]["values"][name], |figure| &figure["value"]).as_f64()
    }

    /// All its figures. Those of a drill without results are missing.
    pub(crate) fn figures(&self) -> Vec<Figure<'_>> {
        let all = self.data["result"]["figures"].as_array().into_iter().flatten().map(|figure| Figure {
            name: figure["name"].as_str().unwrap_or_default(),
            value: figure["value"].as_f64(),
            made_of: figure["made_of"].as_str().unwrap_or_default(),
            incomplete: figure["incomplete"].as_str(),
        });
        let of_drill = aims::of_drill(self.part.name).iter().map(|name| Figure {
            name,
            value: self.figure(name),
            made_of: "",
            incomplete: None,
        });
        all.chain(of_drill).collect()
    }

    /// The verdict on the figure. The results of a part that failed are incomplete.
    pub(crate) fn verdict(&self, figure: &Figure<'_>) -> &'static str {
        let lacks = figure.incomplete.is_some() || self.failure().is_some();
        aims::verdict(figure.name, figure.value, lacks, self.is_quick())
    }

    /// What is missing from the figure, and may change it.
    pub(crate) fn incomplete(&self, name: &str) -> Option<&str> {
        self.found(name)?["incomplete"].as_str()
    }

    fn found(&self, name: &str) -> Option<&Value> {
        let figures = self.data["result"]["figures"].as_array();
        figures.and_then(|figures| figures.iter().find(|figure| figure["name"] == name))
    }

    /// The rows of a table of a benchmark.
    pub(crate) fn rows(&self, title: &str) -> &[Value] {
        let tables = self.data["result"]["tables"].as_array();
        let table = tables.and_then(|tables| tables.iter().find(|table| table["title"] == title));
        table.and_then(|table| table["lanes"].as_array()).map_or(&[], Vec::as_slice)
    }
}

/// All parts, in their order.
#[derive(Debug)]
pub(crate) struct Evidence(pub(crate) Vec<Entry>);

impl Evidence {
    pub(crate) fn part(&self, name: &str) -> Option<&Entry> {
        self.0.iter().find(|entry| entry.part.name == name)
    }

    pub(crate) fn read(folder: &Path) -> Result<Self, Box<dyn Error>> {
        let mut entries = Vec::new();
        for part in &PARTS {
            let file = folder.join(format!("{}.json", part.name));
            let data = match fs::read_to_string(&file) {
                Ok(text) => serde_json::from_str(&text).map_err(|error| format!("{}: {error}", file.display()))?,
                Err(_) => Value::Null,
            };
            entries.push(Entry { part, data });
        }
        Ok(Self(entries))
    }
}

/// Compact, readable JSON: what fits into a line is written in one line.
pub(crate) fn layout(value: &Value) -> String {
    let mut out = String::new();
    lay(value, 0, &mut out);
    out.push('\n');
    out
}

fn lay(value: &Value, depth: usize, out: &mut String) {
    let flat = value.to_string();
    let (open, close, items): (_, _, Vec<(String, &Value)>) = match value {
        Value::Array(items) => ('[', ']', items.iter().map(|item| (String::new(), item)).collect()),
        Value::Object(fields) => {
            let named = fields.iter().map(|(name, item)| (format!("{}: ", Value::from(name.as_str())), item));
            ('{', '}', named.collect())
        }
        _ => return out.push_str(&flat),
    };
    if flat.len() + depth <= LINE || items.is_empty() {
        return out.push_str(&flat);
    }
    out.push(open);
    for (number, (name, item)) in items.iter().enumerate() {
        out.push_str(if number == 0 { "\n" } else { ",\n" });
        out.push_str(&" ".repeat(depth + 1));
        out.push_str(name);
        lay(item, depth + 1, out);
    }
    out.push('\n');
    out.push_str(&" ".repeat(depth));
    out.push(close);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_laid_out_is_the_same() {
        let long: Vec<u64> = (0..100).map(|number| number * 1000).collect();
        let value = json!({"short": [1, 2, {"a": "b \"c\""}], "long": long, "none": null, "empty": {}});
        let text = layout(&value);
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
        assert!(text.contains("\"short\": [1,2,{\"a\":\"b \\\"c\\\"\"}]"), "{text}");
        assert!(text.lines().all(|line| line.len() <= LINE + 20), "{text}");
    }

    #[test]
    fn figures_are_of_benchmarks_or_of_drills() {
        let part = &PARTS[0];
        let bench = json!({"status": "ok", "result": {"figures": [{"name": "x", "value": 1.5}]}});
        let drill = json!({"status": "ok", "result": {"values": {"anomalies": 0}}});
        assert_eq!(Entry { part, data: bench }.figure("x"), Some(1.5));
        assert_eq!(Entry { part, data: drill }.figure("anomalies"), Some(0.0));
        let failed = Entry { part, data: json!({"status": "failed", "reason": "no disk"}) };
        assert_eq!((failed.figure("x"), failed.failure()), (None, Some("no disk".to_owned())));
        assert!(Entry { part, data: Value::Null }.failure().is_some());
    }
}
