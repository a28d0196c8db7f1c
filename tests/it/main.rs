//! The integration tests: one binary, one file per topic.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in their helpers")]

mod scope;
