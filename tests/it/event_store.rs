//! The public suite for event stores, on the stores of this crate.

use std::sync::atomic::{AtomicUsize, Ordering};

use mainstem::{LogName, PostgresEventStore, testing::TestDatabase};
use tokio::sync::OnceCell;

use crate::support;

mod memory {
    mainstem::event_store_tests!(async { mainstem::MemoryEventStore::new() });
}

mod postgres {
    mainstem::event_store_tests!(super::fresh_log());
}

/// An empty log of its own, in one database for all: a new database for each case would cost more than the case.
pub(crate) async fn fresh_log() -> PostgresEventStore {
    static DATABASE: OnceCell<TestDatabase<'static>> = OnceCell::const_new();
    static LOGS: AtomicUsize = AtomicUsize::new(0);
    let database = DATABASE.get_or_init(support::database).await;
    let name = LogName::new(format!("log_{}", LOGS.fetch_add(1, Ordering::Relaxed)), "events").expect("a name");
    // Connected on the case's own runtime, which ends with it.
    let router = support::router(database).await;
    let store = PostgresEventStore::with_name(&router, name);
    store.migrate().await.unwrap_or_else(|error| panic!("no log: {}", error.report()));
    store
}
