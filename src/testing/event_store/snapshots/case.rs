//! A case of the suite for snapshots.

use std::{fmt, future::Future};

use super::{
    super::case::{Checking, caught, run_check},
    list::CASES,
};
use crate::SnapshotStore;

/// A rule of [`SnapshotStore`], as a test for any store; [the module](super) shows how to run it.
#[derive(Clone, Copy)]
pub struct Case {
    pub(super) topic: &'static str,
    pub(super) name: &'static str,
    pub(super) proves: &'static str,
    pub(super) check: for<'a> fn(&'a dyn SnapshotStore) -> Checking<'a>,
}

impl Case {
    /// Returns the case of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        CASES.iter().find(|case| case.name == name).copied()
    }

    /// Returns its topic: `snapshots` or `projections`.
    #[must_use]
    pub fn topic(&self) -> &'static str {
        self.topic
    }

    /// Returns its name, which states the rule in short, and is the name of the test that the macro generates.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Returns in one line what a passing store has shown.
    #[must_use]
    pub fn proves(&self) -> &'static str {
        self.proves
    }

    /// Checks the rule, as [`Case::check`](super::super::Case::check) of event stores does.
    ///
    /// # Panics
    ///
    /// If the store breaks the rule.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the check. Requests to the store that are in flight continue, as the store handles
    /// them.
    pub async fn check(&self, store: &dyn SnapshotStore) {
        (self.check)(store).await;
    }

    /// Creates a store and checks the rule on it, as [`Case::run`](super::super::Case::run) of event stores does.
    ///
    /// # Panics
    ///
    /// If the store breaks the rule, or does not finish in time; also inside of another runtime, as tokio does.
    pub fn run<S: SnapshotStore>(&self, store: impl Future<Output = S>) {
        run_check(self.name, store, async |store| self.check(store).await);
    }

    /// Checks the rule as [`run`](Self::run) does, but returns the failure.
    ///
    /// # Errors
    ///
    /// If the store breaks the rule, or does not finish in time.
    ///
    /// # Panics
    ///
    /// Inside of another runtime.
    pub fn outcome<S: SnapshotStore>(&self, store: impl Future<Output = S>) -> Result<(), Failure> {
        caught(|| self.run(store)).map_err(|message| Failure { case: *self, message })
    }
}

/// Runs all cases, each on its own store, and returns those that failed.
///
/// ```
/// use mainstem::{MemoryEventStore, testing::event_store::snapshots::failures};
///
/// assert!(failures(|| async { MemoryEventStore::new() }).is_empty());
/// ```
///
/// # Panics
///
/// Inside of another runtime.
#[must_use]
pub fn failures<S: SnapshotStore, F: Future<Output = S>>(store: impl Fn() -> F) -> Vec<Failure> {
    CASES.iter().filter_map(|case| case.outcome(store()).err()).collect()
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}::{}", self.topic, self.name)
    }
}

/// A rule that a store has broken.
#[derive(Clone, Debug)]
pub struct Failure {
    case: Case,
    message: String,
}

impl Failure {
    /// Returns the rule.
    #[must_use]
    pub fn case(&self) -> Case {
        self.case
    }

    /// Returns what the check has found.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} ({}): {}", self.case, self.case.proves, self.message)
    }
}
