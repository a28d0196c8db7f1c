//! Traces, figures and logs of a program that uses Mainstem, by the crates that the ecosystem has for them.
//!
//! | file | what it shows |
//! |---|---|
//! | `export` | OTLP, wired by the `OTEL_*` variables, and a page for Prometheus |
//! | `lines` | log lines with the ids of trace and span |
//! | `both` | figures for two receivers |
//! | `shop` | something to look at |

pub mod both;
pub mod export;
pub mod lines;
pub mod shop;

/// The error of a program.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;
