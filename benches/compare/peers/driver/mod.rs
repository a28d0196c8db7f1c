//! Drives one store in its own process: the same code for Mainstem and, by `#[path]`, for the Rust programs in
//! `benches/peers`. `benches/peers/eventsourcing_dcb.py` does the same in Python.
//!
//! | file | what it holds |
//! |---|---|
//! | `chain` | an error with its causes |
//! | `event` | what is written, with what the oracle needs to judge it |
//! | `lines` | the bench's orders and their answers, one line of JSON each |
//! | `store` | what a store must support |
//! | `work` | the rounds, and the main loop of such a process |

pub(crate) mod chain;
mod event;
mod lines;
mod store;
mod work;

pub(crate) use event::{Draft, Payload, Recorded, tag};
pub(crate) use lines::{Digest, Kind, Opening, Order, Ran, Row, Written};
pub(crate) use store::{Client, Store};
pub(crate) use work::serve;

pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;
pub(crate) type Outcome<T = ()> = Result<T, Failure>;
