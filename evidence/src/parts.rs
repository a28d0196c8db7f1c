//! The parts of the report: runs of the benchmarks and of the drills.

/// One run, and the file of its results.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) kind: Kind,
    /// Its options in a quick and in a full run.
    quick: &'static str,
    full: &'static str,
    /// Time limits in minutes. The first run builds what is compared, and creates the data.
    quick_limit: u64,
    full_limit: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `cargo compare`.
    Compare,
    /// `examples/drill`.
    Drill,
}

const fn compare(name: &'static str, title: &'static str, full_limit: u64) -> Part {
    let (quick, full) = ("--quick", "");
    Part { name, title, kind: Kind::Compare, quick, full, quick_limit: 6, full_limit }
}

const fn drill(name: &'static str, title: &'static str, quick: &'static str, full: &'static str) -> Part {
    Part { name, title, kind: Kind::Drill, quick, full, quick_limit: 5, full_limit: 30 }
}

/// In the order in which they are run and reported.
pub(crate) const PARTS: [Part; 20] = [
    compare("append", "Appends", 60),
    compare("query", "Queries", 60),
    compare("decide", "Decisions", 60),
    compare("consume", "Following the log", 60),
    compare("growth", "Long logs", 90),
    compare("route", "Routing", 60),
    Part { quick_limit: 15, ..compare("peers", "Compared with other event stores", 90) },
    compare("scale", "Scale", 120),
    Part {
        quick: "--seconds 10 --rate 1000/s",
        full: "--events 1000000 --seconds 120 --rate 1000/s",
        ..compare("load", "A steady load", 60)
    },
    drill("drill-append", "contended appends under faults", "append --seconds 5", "append --seconds 60"),
    drill("drill-decide", "commands under faults", "decide --seconds 5", "decide --seconds 60"),
    drill("drill-consume", "consumers across a failover", "consume --events 60000", "consume --events 200000"),
    drill("drill-failover", "primaries that are lost and return", "failover --rounds 3", "failover --rounds 6"),
    drill(
        "drill-failover-lossy",
        "the same without waiting for standbys: losses are reported",
        "failover --rounds 3 --asynchronous",
        "failover --rounds 6 --asynchronous",
    ),
    drill("drill-silence", "nodes that stop answering", "silence --rounds 50", "silence --rounds 1000"),
    drill("drill-shield", "a load for ten primaries, without replicas", "shield --rounds 4", "shield --rounds 20"),
    drill("drill-balance", "load shares of replicas", "balance --rounds 3", "balance --rounds 6"),
    drill("drill-causal", "reads of what the reader wrote or saw", "causal --rounds 20", "causal --rounds 500"),
    drill("drill-http", "browsers and two instances", "http --rounds 1", "http --rounds 10"),
    // Drills that are running when the time is up are allowed to finish: 20 minutes at most.
    Part {
        quick_limit: 22,
        full_limit: 40,
        ..drill("drill-soak", "all drills in turn, two at a time", "soak --minutes 1", "soak --minutes 10")
    },
];

impl Part {
    pub(crate) fn named(name: &str) -> Option<&'static Self> {
        PARTS.iter().find(|part| part.name == name)
    }

    /// The words of the command that runs it, as typed in a shell.
    pub(crate) fn words(&self, quick: bool, file: &str) -> Vec<String> {
        let options = if quick { self.quick } else { self.full };
        let line = match self.kind {
            Kind::Compare => format!("cargo compare {} {options} --json {file}", self.name),
            Kind::Drill => {
                let timeline = if self.has_timeline() { format!(" --timeline {file}") } else { String::new() };
                format!("cargo run --release --quiet --features testing,tower --example drill -- {options}{timeline}")
            }
        };
        line.split_whitespace().map(str::to_owned).collect()
    }

    pub(crate) fn limit_minutes(&self, quick: bool) -> u64 {
        if quick { self.quick_limit } else { self.full_limit }
    }

    pub(crate) fn has_timeline(&self) -> bool {
        self.name == "drill-failover"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_what_one_would_type() {
        let append = Part::named("append").unwrap();
        assert_eq!(append.words(true, "f.json").join(" "), "cargo compare append --quick --json f.json");
        assert_eq!(append.words(false, "f.json").join(" "), "cargo compare append --json f.json");
        let failover = Part::named("drill-failover").unwrap().words(true, "f").join(" ");
        assert!(failover.ends_with("--example drill -- failover --rounds 3 --timeline f"), "{failover}");
        let soak = Part::named("drill-soak").unwrap().words(false, "f").join(" ");
        assert!(soak.ends_with("--example drill -- soak --minutes 10"), "{soak}");
        assert!(Part::named("drills").is_none());
    }
}
