//! The unit tests of the benchmark's arithmetic: `cargo test --features migrations,testing --test bench_units`.
#![expect(dead_code, reason = "only what has tests, and what that needs, is here")]

#[path = "load/arrivals.rs"]
mod arrivals;
#[path = "load/drive.rs"]
mod drive;
#[path = "load/latencies.rs"]
mod latencies;
mod library;
#[path = "load/options.rs"]
mod options;
#[path = "load/payload.rs"]
mod payload;
#[cfg(test)]
#[path = "peers/tests.rs"]
mod peers_tests;
#[path = "peers/ratios.rs"]
mod ratios;
mod side;
#[path = "load/space.rs"]
mod space;
mod stats;
#[cfg(test)]
mod stats_tests;
#[cfg(test)]
#[path = "load/tests.rs"]
mod tests;

type Failure = Box<dyn std::error::Error + Send + Sync>;
type Outcome<T = ()> = Result<T, Failure>;
