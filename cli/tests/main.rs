//! The command line on real clusters: each test runs the program as a user would.
#![expect(clippy::unwrap_used, reason = "a test says what it expects by unwrapping it")]

mod append;
mod doctor;
mod export;
mod injection;
mod interrupt;
mod manual;
mod migrate;
mod stderr;
mod support;
mod tail;
mod verify;
mod watch;
