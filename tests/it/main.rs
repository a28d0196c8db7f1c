//! The integration tests: one binary, one file per topic.

mod contention;
mod local_cluster;
mod scope;
mod store;
mod support;
