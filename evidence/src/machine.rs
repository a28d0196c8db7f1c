//! The machine and the versions of a run.

#[path = "../../benches/compare/utc.rs"]
mod utc;

use std::{
    fs,
    process::Command,
    time::{Duration, SystemTime},
};

use serde_json::{Value, json};

use self::utc::utc;

/// Processor, memory, system and versions. Nothing that identifies the machine.
pub(crate) fn facts() -> Value {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = after(&cpuinfo, "model name").or_else(|| after(&cpuinfo, "Model")).unwrap_or("unknown processor");
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kilobytes: f64 =
        after(&memory, "MemTotal").and_then(|text| text.split(' ').next()?.parse().ok()).unwrap_or(0.0);
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let system = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=")).unwrap_or("unknown system");
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    json!({
        "processor": cpu,
        "processors": std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
        "memory_gib": (kilobytes / 104_857.6).round() / 10.0,
        "system": system.trim_matches('"'),
        "kernel": kernel.trim(),
        "rust": output("rustc", &["--version"]),
        "postgresql": postgresql(),
    })
}

/// The commit that was run, and whether there were uncommitted changes.
pub(crate) fn commit() -> String {
    let commit = output("git", &["rev-parse", "--short=12", "HEAD"]);
    let changes =
        output("git", &["status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs/evidence", ":!README.md"]);
    if changes.is_empty() { commit } else { format!("{commit} and changes") }
}

/// The load average of the last minute.
pub(crate) fn load() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or(f64::NAN)
}

pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn postgresql() -> String {
    let program =
        std::env::var("MAINSTEM_PG_BIN").map_or_else(|_| "postgres".to_owned(), |folder| format!("{folder}/postgres"));
    output(&program, &["--version"])
}

fn output(program: &str, words: &[&str]) -> String {
    let output = Command::new(program).args(words).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}

/// The value of a name in a file in the form of `/proc/cpuinfo`.
fn after<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let line = text.lines().find(|line| line.split(':').next().is_some_and(|found| found.trim() == name))?;
    line.split_once(':').map(|(_, value)| value.trim())
}

/// The date and minute, in UTC, of a number of seconds since 1970.
pub(crate) fn date(seconds: u64) -> String {
    let text = utc(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).unwrap_or_default();
    text.replace('T', " ").chars().take("1970-01-01 00:00".len()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(date(0), "1970-01-01 00:00");
        assert_eq!(date(951_826_140), "2000-02-29 12:09");
        assert_eq!(date(1_795_737_599), "2026-11-26 23:59");
    }

    #[test]
    fn values_are_found_by_their_names() {
        let text = "processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\nMemTotal:       24000000 kB\n";
        assert_eq!(after(text, "model name"), Some("Some CPU @ 2 GHz"));
        assert_eq!(after(text, "MemTotal"), Some("24000000 kB"));
        assert_eq!(after(text, "Model"), None);
    }
}
