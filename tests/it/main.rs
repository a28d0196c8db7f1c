//! The integration tests: one binary, one file per topic.

mod local_cluster;
mod scope;
mod support;
