//! The rules of [`EventStore`](crate::EventStore) as tests, for any store (feature `testing`).
//!
//! A store makes a promise to every client that decides based on what it has read. Most stores that break it do so in
//! ways that no example shows: a condition that is checked a moment before the write, an event that appears below one
//! that was already seen, a filter of two items that is flattened into one. This module contains the rules as cases,
//! each with a name that states it. Each fails for a store that is broken in exactly this way: the crate's own tests
//! run the cases on stores that are broken on purpose.
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
//! One line generates a test for each case. It needs no runtime of yours and no other dependency: each test has its own
//! tokio runtime with four threads.
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
//! `cargo test my_store::concurrency` runs the cases of a topic, `cargo test a_course_is_never_overbooked` runs one. A
//! store on a server gives each test its own database, schema or name; connect inside the future, so that what belongs
//! to a runtime belongs to the test's. What must live as long as the store (a guard that drops the database) should be
//! part of it.
//!
//! New cases come with minor releases: a store that has passed may fail the new ones, which then show what it lacked
//! all along.
//!
//! # Without the macro
//!
//! For a harness of your own there is [`Case`]: by [name](Case::named) or [all of them](Case::all), on a separate
//! runtime ([`Case::run`], [`Case::outcome`]) or on yours ([`Case::check`]). [`failures`] runs all.
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
//! Cases of the topic `concurrency` let tasks read, decide and append at the same time, and then examine the log. Since
//! it has one order, every answer can be checked afterwards. An acknowledged append must have been right at its place:
//! no event that matches its condition came between. A conflict must have its event. A read must have been the log up
//! to its head, and must contain what was acknowledged before it began. Every event must have been acknowledged, and
//! nothing of a refused append may be there.
//!
//! # The cases
//!
//! [`Case::all`] lists them, with a line for each that says what it proves; `docs/checklist.md` maps the behaviours
//! that other event stores are tested for to them.
//!
//! Snapshots have a separate trait, and a separate [suite](snapshots).
//!
//! # What is not asked of a store
//!
//! Gaps between the positions of different appends are allowed. Empty appends, invalid events and two events with one
//! id never reach a store: [`Append`](crate::Append) refuses them first. A condition cannot contain time bounds: the
//! compiler rejects them.
//!
//! Each case uses one handle on the store, in one process. A store whose appends exclude each other only within a
//! process passes, although two processes would lose conflicts: test two handles on one log yourself.

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
mod waits;

use std::future::Future;

pub use self::case::{Case, Failure, failures};

/// Called by the macro's tests.
///
/// # Panics
///
/// As [`Case::run`] does.
#[doc(hidden)]
pub fn __run<S: crate::EventStore>(name: &str, store: impl Future<Output = S>) {
    let Some(case) = Case::named(name) else { panic!("there is no case {name}") };
    case.run(store);
}
