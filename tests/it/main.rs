//! The integration tests: one binary, one file per topic.
#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in the functions that tests share")]

mod batches;
mod behind;
mod borrowed_pools;
mod boundaries;
mod check;
mod contention;
mod drains;
mod event_store;
mod failing;
mod fault_proxy;
mod filter_sql;
mod fixed_streams;
mod grants;
mod hostile_text;
mod import;
mod indexes;
mod local_cluster;
mod local_cluster_end;
mod long_log;
mod merging;
mod migrations;
mod migrations_waiting;
mod near_reads;
mod pgbouncer;
mod plans;
mod procedure;
mod quickstart;
mod races;
mod router;
mod router_changes;
mod router_failover;
mod router_faults;
mod router_shield;
mod router_silence;
mod scope;
mod secrets;
mod snapshot_store;
mod snapshots;
mod store;
mod stream;
mod support;
#[cfg(feature = "rustls")]
mod tls;
mod transactions;
mod waiting;
