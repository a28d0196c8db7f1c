//! A case of the suite for snapshots.

use std::{fmt, future::Future};

use super::{
    super::case::{Checking, caught, run_check},
    list::CASES,
};
use crate::SnapshotStore;

/// One rule of [`SnapshotStore`], as a test for any store; [the module](super) shows how to run it.
#[derive(Clone, Copy)]
pub struct Case {
    pub(super) topic: &'static str,
    pub(super) name: &'static str,
    pub(super) proves: &'static str,
    pub(super) check: for<'a> fn(&'a dyn SnapshotStore) -> Checking<'a>,
}

impl Case {
    /// The case of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        CASES.iter().find(|case| case.name == name).copied()
    }

    /// What it belongs to: `snapshots` or `projections`.
    #[must_use]
    pub fn topic(&self) -> &'static str {
        self.topic
    }

    /// Its name, which is the rule in short, and the name of the test that the macro makes of it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// What a store that passes it has shown, in one line.
    #[must_use]
    pub fn proves(&self) -> &'static str {
        self.proves
    }

    /// As [`Case::check`](super::super::Case::check) of event stores.
    ///
    /// # Panics
    ///
    /// When the store breaks the rule.
    ///
    /// # Cancel safety
    ///
    /// Dropping it ends the check. What the store has been asked for meanwhile goes on, as the store does it.
    pub async fn check(&self, store: &dyn SnapshotStore) {
        (self.check)(store).await;
    }

    /// As [`Case::run`](super::super::Case::run) of event stores.
    ///
    /// # Panics
    ///
    /// When the store breaks the rule, or is not through in time; also inside of another runtime, as tokio does.
    pub fn run<S: SnapshotStore>(&self, store: impl Future<Output = S>) {
        run_check(self.name, store, async |store| self.check(store).await);
    }

    /// The same as [`run`](Self::run), but gives the failure back.
    ///
    /// # Errors
    ///
    /// When the store breaks the rule, or is not through in time.
    ///
    /// # Panics
    ///
    /// Inside of another runtime.
    pub fn outcome<S: SnapshotStore>(&self, store: impl Future<Output = S>) -> Result<(), Failure> {
        caught(|| self.run(store)).map_err(|message| Failure { case: *self, message })
    }
}

/// Runs all cases, each on a store of its own, and gives those that failed.
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
    /// The rule.
    #[must_use]
    pub fn case(&self) -> Case {
        self.case
    }

    /// What the check has found.
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
