//! What a run prints, and keeps for `--json`: one format for all subcommands.

use std::{path::Path, time::SystemTime};

use serde_json::{Map, Value, json};

pub(crate) use crate::stats::digits;
use crate::{
    Outcome,
    args::Args,
    rounds::{Lane, median},
    side::Sample,
};

/// The version of the files' format.
const FORM: u64 = 1;

/// A run's figures, in the order of their list of names, and the tables they come from.
#[derive(Debug)]
pub(crate) struct Report {
    topic: &'static str,
    figures: Vec<Figure>,
    facts: Value,
    tables: Vec<Value>,
    left_out: Vec<Value>,
}

#[derive(Debug)]
struct Figure {
    name: &'static str,
    value: f64,
    made_of: String,
    /// What it lacks, so that the true value may be worse.
    incomplete: Option<String>,
}

impl Report {
    pub(crate) fn new(topic: &'static str) -> Self {
        Self { topic, figures: Vec::new(), facts: Value::Null, tables: Vec::new(), left_out: Vec::new() }
    }

    /// Adds a figure, and what it was computed from.
    pub(crate) fn figure(&mut self, name: &'static str, value: f64, made_of: impl Into<String>) {
        self.incomplete_figure(name, value, made_of, None);
    }

    /// Adds a figure that may lack something, so that readers do not take it for complete.
    pub(crate) fn incomplete_figure(
        &mut self,
        name: &'static str,
        value: f64,
        made_of: impl Into<String>,
        incomplete: Option<String>,
    ) {
        self.figures.push(Figure { name, value, made_of: made_of.into(), incomplete });
    }

    /// Adds the facts behind the figures.
    pub(crate) fn facts(&mut self, facts: Value) {
        self.facts = facts;
    }

    /// Adds a table that is not one of sides that take turns; its rows are in `lanes`.
    pub(crate) fn table(&mut self, table: Value) {
        self.tables.push(table);
    }

    /// Records who could not take part, and why.
    pub(crate) fn left_out(&mut self, who: &str, reason: &str) {
        self.left_out.push(json!({ "name": who, "reason": reason }));
    }

    /// Prints and keeps the sides: medians over the rounds, with the lowest and the highest round.
    pub(crate) fn lanes(&mut self, title: &str, lanes: &[Lane]) {
        print_lanes(title, lanes);
        let rows: Vec<Value> = lanes.iter().map(row).collect();
        self.table(json!({ "title": title, "lanes": rows }));
    }

    /// Prints the figures; the last line is for programs. Then writes the requested file.
    pub(crate) fn print(mut self, args: &Args, order: &[&str]) -> Outcome {
        self.figures.sort_by_key(|figure| order.iter().position(|other| *other == figure.name));
        println!();
        for Figure { name, value, made_of, incomplete } in &self.figures {
            println!("{name:<29} {:>9}   {made_of}", number(*value));
            if let Some(incomplete) = incomplete {
                println!("{:<29} {:>9}   INCOMPLETE: {incomplete}", "", "");
            }
        }
        println!();
        if args.quick {
            println!("scale={}", args.events);
        }
        let pairs: Vec<String> =
            self.figures.iter().map(|figure| format!("{}={}", figure.name, number(figure.value))).collect();
        println!("compare {}: {}", self.topic, pairs.join(" "));
        self.save(args)
    }

    /// Saves everything as JSON, if requested.
    pub(crate) fn save(&self, args: &Args) -> Outcome {
        args.json.as_deref().map_or(Ok(()), |file| write(file, &self.json(args)))
    }

    fn json(&self, args: &Args) -> Value {
        let figures: Vec<Value> = self
            .figures
            .iter()
            .map(|Figure { name, value, made_of, incomplete }| {
                let mut figure = json!({ "name": name, "value": digits(*value), "made_of": made_of });
                if let Some(incomplete) = incomplete {
                    figure["incomplete"] = json!(incomplete);
                }
                figure
            })
            .collect();
        json!({
            "form": FORM,
            "topic": self.topic,
            "command": args.command,
            "quick": args.quick,
            "events": args.events,
            "seed": args.seed,
            "facts": self.facts,
            "figures": figures,
            "tables": self.tables,
            "left_out": self.left_out,
        })
    }
}

fn write(file: &Path, whole: &Value) -> Outcome {
    std::fs::write(file, serde_json::to_string_pretty(whole)? + "\n")
        .map_err(|error| format!("cannot write {}: {error}", file.display()).into())
}

fn row(lane: &Lane) -> Value {
    let mut row = figures_of(&lane.samples);
    row.insert("name".to_owned(), json!(lane.name));
    row.insert("connections".to_owned(), json!(lane.connections()));
    Value::Object(row)
}

/// What all tables have for each side: its throughput by round, and its latencies as medians over the rounds.
pub(crate) fn figures_of(samples: &[Sample]) -> Map<String, Value> {
    let each = |figure: &dyn Fn(&Sample) -> f64| samples.iter().map(figure).collect::<Vec<_>>();
    let rates: Vec<Value> = samples.iter().map(|sample| digits(sample.per_second())).collect();
    let percentile = |hundredths| digits(median(each(&|sample| sample.percentile(hundredths))));
    let mut row = Map::new();
    row.insert("per_second".to_owned(), json!(rates));
    row.insert("p50_us".to_owned(), percentile(50));
    row.insert("p99_us".to_owned(), percentile(99));
    row.insert("conflicts".to_owned(), json!(samples.iter().map(|sample| sample.conflicts).sum::<u64>()));
    row
}

fn print_lanes(title: &str, lanes: &[Lane]) {
    println!("\n{title}");
    println!(
        "  {:<26} {:>5} {:>6} {:>11} {:>21} {:>10} {:>10} {:>9}",
        "side", "conns", "rounds", "per second", "lowest … highest", "p50 µs", "p99 µs", "conflicts"
    );
    for lane in lanes {
        let rates = lane.each(Sample::per_second);
        let (lowest, highest) =
            rates.iter().fold((f64::MAX, 0_f64), |(low, high), &rate| (low.min(rate), high.max(rate)));
        let spread = format!("{} … {}", number(lowest), number(highest));
        let percentile = |hundredths| number(median(lane.each(|sample| sample.percentile(hundredths))));
        println!(
            "  {:<26} {:>5} {:>6} {:>11} {spread:>21} {:>10} {:>10} {:>9}",
            lane.name,
            lane.connections(),
            lane.samples.len(),
            number(median(rates)),
            percentile(50),
            percentile(99),
            lane.samples.iter().map(|sample| sample.conflicts).sum::<u64>(),
        );
    }
}

/// Prints the first line, so that saved output says when it was made.
pub(crate) fn print_title(topic: &str, args: &Args) {
    println!("compare {topic}{}, at {} s since 1970", if args.quick { " --quick" } else { "" }, now());
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// With three significant digits.
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        _ if value.is_nan() => "-".to_owned(),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}
