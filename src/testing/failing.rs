//! A store that fails on demand.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::stream;

use crate::{
    Appended, Error, EventStore, Result, Served, Token,
    backend::{
        Answer, AppendRequest, BoxFuture, BoxStream, LoadStreamAnswer, LoadStreamRequest, Piece, QueryRequest,
        ReadAfterRequest, WaitRequest,
    },
};

/// Wraps a store and makes it fail on demand.
///
/// For testing what an application does when its store fails: does it retry, does it give up, does it append twice? The
/// most important case is an append whose answer is lost, which no database produces on demand.
///
/// ```
/// use mainstem::{
///     AppendCondition, Error, ErrorKind, EventStore, MemoryEventStore, NewEvent,
///     testing::{AppendFault, FailingEventStore},
/// };
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> mainstem::Result<()> {
/// let store = FailingEventStore::new(MemoryEventStore::new());
/// store.fail_next_append(AppendFault::AfterCommit(Error::new(ErrorKind::OutcomeUnknown, "the answer was lost")));
///
/// let event = NewEvent::new("CopyLent", &serde_json::json!({"copy": 7}))?;
/// assert!(store.append([event.clone()], AppendCondition::none()).await.unwrap_err().is_outcome_unknown());
/// // It had been written, and the same append tells.
/// assert!(store.append([event], AppendCondition::none()).await?.is_repeated());
/// # Ok(())
/// # }
/// ```
///
/// Each fault applies to one call. Faults of appends are used in order, and so are those of reads. Cloning is cheap if
/// it is for the wrapped store, and all clones share the faults.
#[derive(Clone, Debug)]
pub struct FailingEventStore<S> {
    store: S,
    faults: Arc<Mutex<Faults>>,
}

#[derive(Debug, Default)]
struct Faults {
    appends: VecDeque<Option<AppendFault>>,
    reads: VecDeque<Option<Error>>,
}

/// The way in which an append of a [`FailingEventStore`] fails.
///
/// The errors are what the application receives: [`Error::new`] creates most of them, and
/// [`Guard::conflict`](crate::backend::Guard::conflict) creates a conflict.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum AppendFault {
    /// Nothing is written.
    BeforeCommit(Error),
    /// The append is written, but its answer is lost. If the store refuses it, the refusal is returned.
    AfterCommit(Error),
}

impl<S> FailingEventStore<S> {
    /// Creates a store that does not fail yet.
    #[must_use]
    pub fn new(store: S) -> Self {
        Self { store, faults: Arc::default() }
    }

    /// Makes an append fail: the next one, or the one after those already planned.
    pub fn fail_next_append(&self, fault: AppendFault) {
        self.faults().appends.push_back(Some(fault));
    }

    /// Lets one append pass before the next fault.
    pub fn pass_next_append(&self) {
        self.faults().appends.push_back(None);
    }

    /// Makes a read fail (a query, a stream, a count, an existence check, the load of a fixed stream, a read of a
    /// subscription): the next one, or the one after those already planned.
    pub fn fail_next_read(&self, error: Error) {
        self.faults().reads.push_back(Some(error));
    }

    /// Lets one read pass before the next fault.
    pub fn pass_next_read(&self) {
        self.faults().reads.push_back(None);
    }

    /// Returns for how many calls a plan is left: 0 once the application has met all of them.
    #[must_use]
    pub fn planned(&self) -> usize {
        let faults = self.faults();
        faults.appends.len() + faults.reads.len()
    }

    fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_read(&self) -> Option<Error> {
        self.faults().reads.pop_front().flatten()
    }
}

impl<S: EventStore> EventStore for FailingEventStore<S> {
    fn run_append(&self, request: AppendRequest) -> BoxFuture<Result<Appended>> {
        let fault = self.faults().appends.pop_front().flatten();
        match fault {
            None => self.store.run_append(request),
            Some(AppendFault::BeforeCommit(error)) => Box::pin(async { Err(error) }),
            Some(AppendFault::AfterCommit(error)) => {
                let appended = self.store.run_append(request);
                Box::pin(async {
                    appended.await?;
                    Err(error)
                })
            }
        }
    }

    fn run_query(&self, request: QueryRequest) -> BoxFuture<Result<Answer>> {
        match self.next_read() {
            None => self.store.run_query(request),
            Some(error) => Box::pin(async { Err(error) }),
        }
    }

    fn run_read_after(&self, request: ReadAfterRequest) -> BoxFuture<Result<Piece>> {
        match self.next_read() {
            None => self.store.run_read_after(request),
            Some(error) => Box::pin(async { Err(error) }),
        }
    }

    fn token_of_unknown_place(&self) -> Token {
        self.store.token_of_unknown_place()
    }

    /// A wait is a hint, and never fails here.
    fn run_wait(&self, request: WaitRequest) -> BoxFuture<Result<()>> {
        self.store.run_wait(request)
    }

    fn run_load_stream(&self, request: LoadStreamRequest) -> BoxFuture<Result<LoadStreamAnswer>> {
        match self.next_read() {
            None => self.store.run_load_stream(request),
            Some(error) => Box::pin(async { Err(error) }),
        }
    }

    fn run_count(&self, request: QueryRequest) -> BoxFuture<Result<Served<u64>>> {
        match self.next_read() {
            None => self.store.run_count(request),
            Some(error) => Box::pin(async { Err(error) }),
        }
    }

    fn run_exists(&self, request: QueryRequest) -> BoxFuture<Result<Served<bool>>> {
        match self.next_read() {
            None => self.store.run_exists(request),
            Some(error) => Box::pin(async { Err(error) }),
        }
    }

    fn run_query_stream(&self, request: QueryRequest) -> BoxStream<Result<Answer>> {
        match self.next_read() {
            None => self.store.run_query_stream(request),
            Some(error) => Box::pin(stream::once(async { Err(error) })),
        }
    }
}
