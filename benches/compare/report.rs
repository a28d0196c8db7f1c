//! What a run prints.

use std::time::SystemTime;

use crate::{
    args::Args,
    rounds::{Lane, median},
};

/// The figures of a run, in the order of their names' list.
#[derive(Debug)]
pub(crate) struct Report {
    topic: &'static str,
    figures: Vec<(&'static str, f64, String)>,
}

impl Report {
    pub(crate) fn new(topic: &'static str) -> Self {
        Self { topic, figures: Vec::new() }
    }

    /// A figure, and what it was made of.
    pub(crate) fn figure(&mut self, name: &'static str, value: f64, made_of: impl Into<String>) {
        self.figures.push((name, value, made_of.into()));
    }

    /// The figures; the last line is for programs.
    pub(crate) fn print(mut self, args: &Args, order: &[&str]) {
        self.figures.sort_by_key(|(name, ..)| order.iter().position(|other| other == name));
        println!();
        for (name, value, made_of) in &self.figures {
            println!("{name:<29} {:>9}   {made_of}", number(*value));
        }
        println!();
        if args.quick {
            println!("scale={}", args.events);
        }
        let pairs: Vec<String> =
            self.figures.iter().map(|(name, value, _)| format!("{name}={}", number(*value))).collect();
        println!("compare {}: {}", self.topic, pairs.join(" "));
    }
}

/// Both sides as they are: medians over the rounds, with the lowest and the highest round.
pub(crate) fn print_lanes(title: &str, lanes: &[Lane]) {
    println!("\n{title}");
    println!(
        "  {:<26} {:>5} {:>6} {:>11} {:>21} {:>10} {:>10} {:>9}",
        "side", "conns", "rounds", "per second", "lowest … highest", "p50 µs", "p99 µs", "conflicts"
    );
    for lane in lanes {
        let rates = lane.each(crate::side::Sample::per_second);
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

/// The first line, so that a kept output says when it was made.
pub(crate) fn print_title(topic: &str, args: &Args) {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    println!("compare {topic}{}, at {now} s since 1970", if args.quick { " --quick" } else { "" });
}

/// Three digits that count.
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        _ if value.is_nan() => "-".to_owned(),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}
