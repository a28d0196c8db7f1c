//! The public suite for event stores, on the stores of this crate.

mod broken;
mod flawed;
mod flawed_pieces;
mod flawed_reads;
mod flawed_streams;
mod flaws;
mod odd;

use std::sync::atomic::{AtomicUsize, Ordering};

use mainstem::{
    LogName, MemoryEventStore, PostgresEventStore,
    testing::{
        TestDatabase,
        event_store::{Case, failures},
    },
};
use tokio::sync::OnceCell;

use crate::support;

mod memory {
    mainstem::event_store_tests!(async { mainstem::MemoryEventStore::new() });
}

/// The example of a store that is not of this crate: it has nothing but the public API.
#[path = "../../examples/file_store.rs"]
#[expect(dead_code, unreachable_pub, reason = "it is a program of its own")]
mod file_store;

mod file {
    mainstem::event_store_tests!(super::in_a_file());
}

mod postgres {
    mainstem::event_store_tests!(super::fresh_log());
}

async fn in_a_file() -> file_store::FileEventStore {
    // Unlinked at once: it ends with the store.
    let path = std::env::temp_dir().join(format!("mainstem-{}.jsonl", mainstem::EventId::new()));
    let store = file_store::FileEventStore::open(&path).expect("a file");
    std::fs::remove_file(path).expect("unlinking");
    store
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

#[test]
fn without_the_macro_all_cases_run_and_failures_say_which_and_why() {
    assert!(failures(|| async { MemoryEventStore::new() }).is_empty());
    let failed = failures(|| async { flawed::FlawedStore::new(Some(flaws::Flaw::LosesTheHeadOfAnEmptyRead)) });
    let head = "the_head_is_the_logs_last_event_whatever_was_asked_for";
    let failure = failed.iter().find(|failure| failure.case().name() == head).expect("the failure");
    assert!(failure.message().contains("head of a read by"), "{failure}");
    assert!(failed.len() < Case::all().len() / 4, "the rest passes: {failed:?}");
    assert!(Case::named("no_such_case").is_none());
}
