//! The integration tests: one binary, one file per topic.
#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in the functions that tests share")]

mod contention;
mod local_cluster;
mod scope;
mod store;
mod support;
