//! The integration tests: one binary, one file per topic.

mod local_cluster;
mod local_cluster_end;
mod support;
