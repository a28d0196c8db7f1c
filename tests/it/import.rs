//! Imports: more events than go into one append.

use std::future::IntoFuture;

use futures_util::FutureExt;

use mainstem::{
    Append, AppendCondition, Error, ErrorKind, EventStore, Filter, Import, Imported, MemoryEventStore, NewEvent,
    testing::{AppendFault, FailingEventStore},
};
use serde_json::json;

use crate::support::{self, event};

fn numbered(amount: u64) -> Vec<NewEvent> {
    (0..amount).map(|n| event("Imported", json!({"n": n}))).collect()
}

async fn numbers(store: &impl EventStore) -> Vec<u64> {
    let filter = Filter::matching().any_type_of(["Imported"]).finish().unwrap();
    let history = store.query(&filter).await.unwrap();
    history.iter().map(|event| event.decode::<serde_json::Value>().unwrap()["n"].as_u64().unwrap()).collect()
}

fn no_other(filter: &str) -> AppendCondition {
    AppendCondition::fail_if_events_match(Filter::matching().any_type_of([filter]).finish().unwrap())
}

#[tokio::test]
async fn everything_is_written_in_order_and_in_chunks() {
    let (_database, _router, postgres) = support::store().await;
    let stores: [Box<dyn EventStore>; 2] = [Box::new(MemoryEventStore::new()), Box::new(postgres)];
    for store in stores {
        let mut told = Vec::new();
        let import = store.import(numbered(2_500), AppendCondition::none()).on_progress(|it: Imported| told.push(it));
        let imported = import.await.unwrap();
        assert_eq!(told.iter().map(|it| (it.events, it.chunks)).collect::<Vec<_>>(), [(1000, 1), (2000, 2), (2500, 3)]);
        assert_eq!((Some(&imported), imported.repeated, imported.last.position()), (told.last(), 0, 2500));
        assert_eq!(numbers(&store).await, (0..2_500).collect::<Vec<_>>());
        let error = store.import([], AppendCondition::none()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
}

#[tokio::test]
async fn an_import_that_failed_goes_on_when_it_is_made_again() {
    for (at, behind) in [(1, false), (1, true), (3, false), (3, true)] {
        let store = FailingEventStore::new(MemoryEventStore::new());
        (1..at).for_each(|_| store.pass_next_append());
        let lost = Error::new(ErrorKind::OutcomeUnknown, "as the test wants it");
        store.fail_next_append(if behind { AppendFault::Behind(lost) } else { AppendFault::Before(lost) });
        let events = numbered(50);
        let import = || store.import(events.clone(), AppendCondition::none()).chunk(10);
        let error = import().await.unwrap_err();
        let so_far = if at == 1 { "before the first event" } else { "behind 20 imported events" };
        assert!(error.is_outcome_unknown() && error.to_string().contains(so_far), "{error}");
        let imported = import().await.unwrap();
        let repeated = (at - 1 + u64::from(behind)) * 10;
        assert_eq!(store.planned(), 0);
        assert_eq!((imported.events, imported.repeated), (50, repeated));
        assert_eq!(numbers(&store).await, (0..50).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn the_condition_holds_between_the_chunks_and_not_against_them() {
    let store = MemoryEventStore::new();
    // The import's own events match it.
    store.import(numbered(30), no_other("Imported")).chunk(10).await.unwrap();
    let error = store.import(numbered(10), no_other("Imported")).await.unwrap_err();
    assert!(error.is_conflict(), "{error}");

    // Somebody gets in between.
    let intruder = store.clone();
    let mut waits = true;
    let events = numbered(30).into_iter().inspect(move |event| {
        let n: serde_json::Value = event.payload().decode().unwrap();
        if n["n"] == 15 && std::mem::take(&mut waits) {
            let append = intruder.append([support::event("Other", json!({}))], AppendCondition::none());
            append.into_future().now_or_never().unwrap().unwrap();
        }
    });
    let error = store.import(events, no_other("Other")).chunk(10).await.unwrap_err();
    assert_eq!(error.conflict().map(|it| it.position), Some(41), "{error}");
    assert_eq!(numbers(&store).await.len(), 40);
}

#[tokio::test]
async fn a_chunk_has_no_more_bytes_than_it_may_have() {
    let store = MemoryEventStore::new();
    let sized = |bytes: usize, amount: u64| {
        let large = "x".repeat(bytes);
        (0..amount).map(move |n| event("Imported", json!({"n": n, "large": large})))
    };
    let chunks = async |events, chunk_len: Option<usize>| {
        let import = store.import(events, AppendCondition::none());
        let import = if let Some(bytes) = chunk_len { import.chunk_len(bytes) } else { import };
        let imported = import.await.unwrap();
        (imported.events, imported.chunks)
    };
    let many = |bytes, amount| sized(bytes, amount).collect::<Vec<_>>();
    assert_eq!(chunks(many(Import::DEFAULT_CHUNK_LEN / 4, 6), None).await, (6, 2), "three of them, and not four");
    assert_eq!(chunks(many(Import::DEFAULT_CHUNK_LEN, 2), None).await, (2, 2), "each alone, since none fits");
    assert_eq!(chunks(many(100, 6), Some(0)).await, (6, 6));
    // Nothing makes an append larger than it may be.
    let large = 15 * 1024 * 1024;
    assert!(4 * large < Append::MAX_LEN && 5 * large > Append::MAX_LEN);
    assert_eq!(chunks(many(large, 6), Some(usize::MAX)).await, (6, 2));
    // Wrong events are refused where they are.
    let wrong = [event("Imported", json!({"n": 7})), event("", json!({}))];
    assert_eq!(store.import(wrong, AppendCondition::none()).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(numbers(&store).await.len(), 20);
}
