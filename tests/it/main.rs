//! The integration tests: one binary, one file per topic.
#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in the functions that tests share")]

mod append_connection;
mod batches;
mod behind;
#[cfg(any(feature = "bb8", feature = "deadpool"))]
mod borrowed_pools;
mod boundaries;
mod check;
mod client_limits;
mod consumers;
mod contention;
mod copy;
#[cfg(feature = "tower")]
mod dcb_suite;
mod decide;
mod documents;
mod drains;
mod event_store;
mod evolution;
mod examples;
mod failing;
mod fairness;
mod false_nodes;
mod far_back;
mod fault_proxy;
#[cfg(feature = "metrics")]
mod figures;
mod filter_sql;
mod fixed_streams;
mod following_doubts;
mod following_slowly;
mod future_sizes;
mod fuzz;
mod generic_client;
mod given_up;
mod grants;
mod growth;
mod hostile_text;
#[cfg(feature = "tower")]
mod http;
mod import;
mod import_faults;
mod indexes;
mod injection;
mod json_text;
mod known_tail;
mod large_events;
#[cfg(feature = "tower")]
mod library_web;
mod local_cluster;
mod local_cluster_end;
mod long_log;
mod looks;
mod merging;
mod migrations;
mod migrations_waiting;
mod near_reads;
mod news;
mod own_additions;
mod pgbouncer;
mod plans;
mod procedure;
mod quickstart;
mod races;
mod read_models;
mod read_tokens;
#[path = "../replicated/mod.rs"]
mod replicated;
mod replicated_local;
mod restores;
mod router;
mod router_changes;
mod router_ejection;
mod router_failover;
mod router_faults;
mod router_line;
mod router_members;
mod router_pool;
mod router_records;
mod router_settings;
mod router_shield;
mod router_silence;
mod router_watch;
mod row_streams;
mod runtime;
mod scope;
mod secrets;
mod session_writes;
mod sessions;
mod shared_reads;
mod snapshot_store;
mod snapshots;
mod spans;
mod spawned;
mod store;
mod stream;
mod subscriptions;
mod support;
#[cfg(feature = "rustls")]
mod tls;
mod tokens;
mod transaction_savepoints;
mod transaction_tokens;
mod transactions;
mod two_batches;
mod waiting;
