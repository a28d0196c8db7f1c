//! Decisions: what they are made on, how they are carried out, recorded and tested. On any store unless it is said otherwise.

mod commands;
mod domain;
mod limits;
mod models;
mod records;
mod replica_first;
mod retries;
mod scenarios;
mod spy;
