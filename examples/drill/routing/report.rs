//! A drill's result: broken promises, figures, and what keeps it from showing anything.

use std::{fmt::Display, process::ExitCode, time::Duration};

use crate::{Outcome, SHOWS_NOTHING};

/// How many cases of one broken promise are reported in full.
const TOLD: usize = 3;

#[derive(Default)]
pub(crate) struct Report {
    figures: Vec<(&'static str, String)>,
    broken: Vec<(&'static str, Vec<String>)>,
    /// Missed time limits: always reported, and judged on request.
    late: Vec<String>,
    shows_nothing: Option<String>,
}

impl Report {
    pub(crate) fn figure(&mut self, name: &'static str, value: impl Display) {
        self.figures.push((name, value.to_string()));
    }

    pub(crate) fn milliseconds(&mut self, name: &'static str, time: Duration) {
        self.figure(name, format!("{:.1}", time.as_secs_f64() * 1000.0));
    }

    /// A promise, and each case in which it was broken.
    pub(crate) fn promise(&mut self, rule: &'static str, cases: Vec<String>) {
        if !cases.is_empty() {
            self.broken.push((rule, cases));
        }
    }

    pub(crate) fn holds(&mut self, rule: &'static str, holds: bool, how: impl Into<String>) {
        self.promise(rule, if holds { Vec::new() } else { vec![how.into()] });
    }

    /// A time limit, which a busy machine may miss.
    pub(crate) fn in_time(&mut self, rule: &str, is_in_time: bool) {
        if !is_in_time {
            self.late.push(rule.to_owned());
        }
    }

    /// A condition without which the drill shows nothing.
    pub(crate) fn shows(&mut self, shows: bool, why_not: impl Into<String>) {
        if !shows && self.shows_nothing.is_none() {
            self.shows_nothing = Some(why_not.into());
        }
    }

    /// Reports everything; the last line is for programs.
    pub(crate) fn conclude(self, drill: &str, judge: bool) -> Outcome<ExitCode> {
        for (rule, cases) in &self.broken {
            println!("broken {} times: {rule}", cases.len());
            cases.iter().take(TOLD).for_each(|how| println!("    {how}"));
        }
        self.late.iter().for_each(|rule| println!("{}: {rule}", if judge { "late" } else { "late, not judged" }));
        let anomalies: usize = self.broken.iter().map(|(_, cases)| cases.len()).sum();
        let fails = anomalies > 0 || judge && !self.late.is_empty();
        if !fails && let Some(why) = self.shows_nothing {
            return Err(format!("{SHOWS_NOTHING}: {why}").into());
        }
        let figures: String = self.figures.iter().map(|(name, value)| format!(" {name}={value}")).collect();
        println!("drill {drill}: anomalies={anomalies}{figures}");
        Ok(if fails { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}

/// The value below which this percentage of them lies.
pub(crate) fn percentile(times: &mut [Duration], percent: usize) -> Duration {
    times.sort_unstable();
    let index = (times.len() * percent / 100).min(times.len().saturating_sub(1));
    times.get(index).copied().unwrap_or_default()
}
