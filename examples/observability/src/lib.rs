//! Traces, metrics and logs of a program that uses Mainstem, with the ecosystem's usual crates.
//!
//! | file | what it shows |
//! |---|---|
//! | `export` | OTLP, wired by the `OTEL_*` variables, and a page for Prometheus |
//! | `lines` | log lines with trace and span ids |
//! | `both` | metrics for two receivers |
//! | `shop` | a program to observe |

pub mod both;
pub mod export;
pub mod lines;
pub mod shop;

/// The error of a program.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;
