//! The rules of [`SnapshotStore`](crate::SnapshotStore) as tests, for any store that has snapshots (feature `testing`).
//!
//! They are used like those of [event stores](super), in addition to them: a store with snapshots is also an event
//! store.
//!
//! ```
//! mod my_store {
//!     use mainstem::MemoryEventStore as MyStore;
//!
//!     mainstem::event_store_tests!(async { MyStore::new() });
//!
//!     mod with_snapshots {
//!         mainstem::snapshot_store_tests!(async { super::MyStore::new() });
//!     }
//! }
//! # fn main() {}
//! ```
//!
//! No store can be made to lose events, which would leave a snapshot of a different history than the log's. The suite
//! shows that such a snapshot is not saved, and that nothing is read on from it, but not that loading it is refused.
//! Test that yourself if your store can lose events.

mod case;
mod fixture;
mod list;
mod projections;
#[expect(clippy::module_inception, reason = "the topic has the name of the trait's subject")]
mod snapshots;

use std::future::Future;

pub use self::case::{Case, Failure, failures};

/// Called by the macro's tests.
///
/// # Panics
///
/// As [`Case::run`] does.
#[doc(hidden)]
pub fn __run<S: crate::SnapshotStore>(name: &str, store: impl Future<Output = S>) {
    let Some(case) = Case::named(name) else { panic!("there is no case {name}") };
    case.run(store);
}
