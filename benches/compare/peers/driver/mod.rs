//! What drives one store in a process of its own: the same code for Mainstem and, by `#[path]`, for the programs in
//! `benches/peers` that are written in Rust. `benches/peers/eventsourcing.py` does the same in Python.
//!
//! | file | what it holds |
//! |---|---|
//! | `chain` | an error with its causes |
//! | `event` | what is written, with what the oracle needs to judge it |
//! | `lines` | what the bench says and what is answered, one line of JSON each |
//! | `store` | what a store must be able to do |
//! | `work` | the rounds, and the life of such a process |

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
