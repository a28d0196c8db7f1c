//! A log as several processes use it.

use std::sync::atomic::{AtomicUsize, Ordering};

use mainstem::{
    Appended, EventStore, PostgresEventStore, Result, Router,
    backend::{Answer, AppendRequest, BoxFuture, LoadStreamAnswer, LoadStreamRequest, QueryRequest},
};

/// Several stores of one log, used in turn. They share nothing, so their appends meet only at the server.
#[derive(Debug)]
pub(crate) struct Processes {
    stores: Vec<PostgresEventStore>,
    next: AtomicUsize,
}

impl Processes {
    pub(crate) fn new(router: &Router, store: &PostgresEventStore, amount: usize) -> Self {
        let stores = (0..amount).map(|_| PostgresEventStore::with_name(router, store.name().clone()));
        Self { stores: stores.collect(), next: AtomicUsize::new(0) }
    }

    fn next(&self) -> &PostgresEventStore {
        &self.stores[self.next.fetch_add(1, Ordering::Relaxed) % self.stores.len()]
    }
}

impl EventStore for Processes {
    fn run_append(&self, request: AppendRequest) -> BoxFuture<Result<Appended>> {
        self.next().run_append(request)
    }

    fn run_query(&self, request: QueryRequest) -> BoxFuture<Result<Answer>> {
        self.next().run_query(request)
    }

    fn run_load_stream(&self, request: LoadStreamRequest) -> BoxFuture<Result<LoadStreamAnswer>> {
        self.next().run_load_stream(request)
    }
}
