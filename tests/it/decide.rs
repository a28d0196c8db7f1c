//! Decisions: what they are based on, how they are executed, recorded and tested. On any store unless stated otherwise.

mod commands;
mod domain;
mod limits;
mod models;
mod records;
mod replica_first;
mod retries;
mod scenarios;
mod spy;
