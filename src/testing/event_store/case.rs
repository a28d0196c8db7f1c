//! A case, and how it is run.

use std::{any::Any, fmt, future::Future, panic::AssertUnwindSafe, pin::Pin, time::Duration};

use tokio::runtime::{Builder, Runtime};

use super::list::CASES;
use crate::EventStore;

/// The time limit of a case. The slowest takes seconds on a busy machine; one that takes a minute will not end.
const LIMIT: Duration = Duration::from_secs(60);

/// Threads of a case's runtime: enough for calls to run at the same time.
const THREADS: usize = 4;

pub(super) type Checking<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// A rule of [`EventStore`], as a test for any store; [the module](super) shows how to run it.
#[derive(Clone, Copy)]
pub struct Case {
    pub(super) topic: &'static str,
    pub(super) name: &'static str,
    pub(super) proves: &'static str,
    pub(super) check: for<'a> fn(&'a dyn EventStore) -> Checking<'a>,
}

impl Case {
    /// Returns the case of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        CASES.iter().find(|case| case.name == name).copied()
    }

    /// Returns its topic: `append`, `condition`, `concurrency` and so on.
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

    /// Checks the rule on a fresh and empty store, on the caller's runtime, which must be tokio's with its time
    /// enabled.
    ///
    /// On a single thread the concurrent cases find less. There is no time limit: the caller has to set one.
    ///
    /// # Panics
    ///
    /// If the store breaks the rule.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the check. Requests to the store that are in flight continue, as the store handles
    /// them.
    pub async fn check(&self, store: &dyn EventStore) {
        (self.check)(store).await;
    }

    /// Creates a store and checks the rule on it, on a separate runtime with four threads, within a minute.
    ///
    /// # Panics
    ///
    /// If the store breaks the rule, or does not finish in time; also inside of another runtime, as tokio does.
    pub fn run<S: EventStore>(&self, store: impl Future<Output = S>) {
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
    pub fn outcome<S: EventStore>(&self, store: impl Future<Output = S>) -> Result<(), Failure> {
        caught(|| self.run(store)).map_err(|message| Failure { case: *self, message })
    }
}

/// Runs all cases, each on its own store, and returns those that failed.
///
/// For a harness of your own; the macro generates a test for each case instead.
///
/// ```
/// use mainstem::{MemoryEventStore, testing::event_store::failures};
///
/// assert!(failures(|| async { MemoryEventStore::new() }).is_empty());
/// ```
///
/// # Panics
///
/// Inside of another runtime.
#[must_use]
pub fn failures<S: EventStore, F: Future<Output = S>>(store: impl Fn() -> F) -> Vec<Failure> {
    CASES.iter().filter_map(|case| case.outcome(store()).err()).collect()
}

/// Creates a store and checks it, on a separate runtime, within the limit.
pub(super) fn run_check<S>(name: &str, store: impl Future<Output = S>, check: impl AsyncFnOnce(&S)) {
    let runtime = runtime();
    let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| {
        runtime.block_on(async {
            let checked = async {
                let store = store.await;
                check(&store).await;
            };
            if tokio::time::timeout(LIMIT, checked).await.is_err() {
                panic!(
                    "{name}: not through after {LIMIT:?}: some call of the store does not return, or all of them together \
                     take too long"
                );
            }
        });
    }));
    // A task that never ends must not keep the failure from being reported.
    runtime.shutdown_timeout(Duration::from_secs(1));
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}

/// The message of the panic, if it panics.
pub(super) fn caught(run: impl FnOnce()) -> Result<(), String> {
    std::panic::catch_unwind(AssertUnwindSafe(run)).map_err(|panic| message(&*panic))
}

fn runtime() -> Runtime {
    let runtime = Builder::new_multi_thread().worker_threads(THREADS).enable_all().build();
    runtime.unwrap_or_else(|error| panic!("no runtime for the case: {error}"))
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without a message").to_owned()
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
