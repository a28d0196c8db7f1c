//! The rules of [`EventStore`](crate::EventStore) as tests, for any store (feature `testing`).
//!
//! A store keeps a promise to everybody who decides on what it has read. Most stores that break it do so in ways that no
//! example shows: a condition that is judged a moment before the write, an event that appears below one that was seen, a
//! filter of two items that is flattened into one. Here are the rules as cases, each by a name that says it, and each fails
//! for a store that is broken in just this way: the crate's own tests run them on stores that are broken on purpose.
//!
//! # For the author of a store
//!
//! Turn on the feature for your tests:
//!
//! ```toml
//! [dev-dependencies]
//! mainstem = { version = "…", features = ["testing"] }
//! ```
//!
//! One line makes a test of each case. It needs no runtime of yours and no other dependency: each test has a tokio runtime of
//! its own, with four threads.
//!
//! ```
//! mod my_store {
//!     use mainstem::MemoryEventStore as MyStore;
//!
//!     // Evaluated anew for each test: an empty store, that no other test writes to.
//!     mainstem::event_store_tests!(async { MyStore::new() });
//! }
//! # fn main() {}
//! ```
//!
//! `cargo test my_store::concurrency` runs the cases of a topic, `cargo test a_course_is_never_overbooked` runs one. A store on
//! a server gives each test a database, a schema or a name of its own; connect inside the future, so that what belongs to a
//! runtime belongs to the test's. What must live as long as the store (a guard that drops the database) belongs into it.
//!
//! New cases come with minor releases: a store that passed may fail the next ones, and what they say is what it lacked.
//!
//! # Without the macro
//!
//! For a harness of your own there is [`Case`]: by [name](Case::named) or [all of them](Case::all), with a runtime
//! ([`Case::run`], [`Case::outcome`]) or on yours ([`Case::check`]). [`failures`] runs all.
//!
//! ```
//! use mainstem::{MemoryEventStore, testing::event_store::Case};
//!
//! for case in Case::all().iter().filter(|case| case.topic() == "divergence") {
//!     println!("{}: {}", case.name(), case.proves());
//!     case.run(async { MemoryEventStore::new() });
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn on_my_runtime() {
//! let case = Case::named("an_append_is_whole_or_not_there").expect("a case");
//! case.check(&MemoryEventStore::new()).await;
//! # }
//! # on_my_runtime();
//! ```
//!
//! # The races
//!
//! Cases of the topic `concurrency` let tasks read, decide and append at the same time, and then look at what the log holds.
//! Since it is in one order, every answer can be checked after the fact: an append that was acknowledged must have been right
//! at its place (no event that matches its condition came between), a conflict must have its event, a read must have been the
//! log up to its head, and what was acknowledged before it began must be in it. Every event must have been acknowledged, and
//! nothing of a refused append may be there.
//!
//! # The cases
//!
//! [`Case::all`] lists them, with a line for each that says what it proves; `docs/checklist.md` maps the behaviours that other
//! event stores are tested for to them.
//!
//! Snapshots are a trait of its own, and so is their [suite](snapshots).
//!
//! # What is not asked of a store
//!
//! Gaps between the positions of different appends are allowed. Appends of nothing, events that are not valid and two events
//! with one id never reach a store: [`Append`](crate::Append) refuses them before. Time bounds cannot be in a condition: the
//! compiler refuses them.

mod append;
mod case;
mod concurrency;
mod condition;
mod dcb;
mod divergence;
mod fixed_streams;
mod fixture;
mod following;
mod limits;
mod list;
mod page;
mod query;
mod repeat;
mod shapes;
pub mod snapshots;
mod stream;

use std::future::Future;

pub use self::case::{Case, Failure, failures};

/// What the tests of the macro call.
///
/// # Panics
///
/// As [`Case::run`] does.
#[doc(hidden)]
pub fn __run<S: crate::EventStore>(name: &str, store: impl Future<Output = S>) {
    let Some(case) = Case::named(name) else { panic!("there is no case {name}") };
    case.run(store);
}
