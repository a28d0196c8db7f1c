//! How a read model ends: by a panic, or by being stopped.

use std::{sync::atomic::Ordering, time::Duration};

use mainstem::{
    AppendCondition, ConsumerTransaction, Error, ErrorKind, Event, EventStore, Filter, PoisonPolicy,
    PostgresEventStore, ReadModel, ReadModelState, ReadModels, Result, Router,
};
use serde_json::json;
use tokio::time::timeout;

use super::{Counter, HANG, append, told};
use crate::support::{event, store};

/// A read model that panics at its first event.
struct Panics;

impl ReadModel for Panics {
    fn name(&self) -> String {
        "panics".to_owned()
    }

    fn filter(&self) -> Result<Filter> {
        Ok(Filter::any_event())
    }

    async fn clear(&mut self, _: &ConsumerTransaction) -> Result<()> {
        Ok(())
    }

    async fn apply(&mut self, _: &Event, _: &ConsumerTransaction) -> Result<()> {
        panic!("as it was told to")
    }
}

#[tokio::test]
async fn nobody_waits_for_a_read_model_that_has_panicked() {
    let (_database, _router, store) = store().await;
    append(&store, &["A"]).await;
    let read_models = ReadModels::builder(&store).with(Panics).unwrap().start().unwrap();
    let error = read_models.wait_until_caught_up(HANG, |_| ()).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Closed && error.to_string().contains("panicked"), "{error}");
    assert_eq!(read_models.progress()[0].state, ReadModelState::Failed);
}

#[tokio::test]
async fn stopping_does_not_wait_for_a_pause_before_the_next_attempt() {
    let (_database, _router, store) = store().await;
    append(&store, &["Poison"]).await;
    let counter = Counter::new("waits");
    counter.refuses.store(true, Ordering::SeqCst);
    let policy = PoisonPolicy::skip().retries(3, Duration::from_secs(600));
    let read_models = ReadModels::builder(&store).poison_policy(policy).with(counter.clone()).unwrap().start().unwrap();
    told(&read_models).await;
    timeout(HANG, read_models.stop()).await.expect("no hang");
    assert_eq!(counter.attempts.load(Ordering::SeqCst), 1);
}

/// As in a process that ends right after.
#[tokio::test]
async fn read_models_that_were_stopped_own_nothing_any_more_even_if_their_runtime_ends() {
    let (database, _router, store) = store().await;
    let mark = append(&store, &["A"]).await;
    let (primary, replicas) = (database.primary_url(), Vec::from_iter(database.replica_urls()));
    let process = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let router = Router::builder().primary(primary).replicas(replicas).connect().await.unwrap();
            let store = PostgresEventStore::new(&router);
            let read_models = ReadModels::builder(&store).with(Counter::new("released")).unwrap().start().unwrap();
            read_models.wait_until_handled("released", mark).timeout(HANG).await.unwrap();
            assert!(store.consumer_control("released").status().await.unwrap().partitions()[0].is_owned);
            read_models.stop().await;
        });
    });
    tokio::task::spawn_blocking(|| process.join().unwrap()).await.unwrap();
    assert!(!store.consumer_control("released").status().await.unwrap().partitions()[0].is_owned);
}

/// Appends another event for each, to a store of its own.
struct Appends(PostgresEventStore);

impl ReadModel for Appends {
    fn name(&self) -> String {
        "appends".to_owned()
    }

    fn filter(&self) -> Result<Filter> {
        Filter::matching().any_type_of(["A"]).finish()
    }

    async fn clear(&mut self, _: &ConsumerTransaction) -> Result<()> {
        Ok(())
    }

    async fn apply(&mut self, _: &Event, _: &ConsumerTransaction) -> Result<()> {
        self.0.append([event("B", json!({}))], AppendCondition::none()).await.map(drop)
    }
}

/// As in a shutdown that closes the store before it stops the read models.
#[tokio::test]
async fn no_event_is_passed_over_because_a_store_is_closed() {
    let (_database, router, store) = store().await;
    append(&store, &["A"]).await;
    let closed = PostgresEventStore::new(&router);
    closed.close().await;
    let builder = ReadModels::builder(&store).poison_policy(PoisonPolicy::skip());
    let read_models = builder.with(Appends(closed)).unwrap().start().unwrap();
    let error = timeout(HANG, read_models.wait_until_caught_up(HANG, |_| ())).await.expect("no hang").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed, "{}", error.report());
    assert_eq!(read_models.progress()[0].state, ReadModelState::Failed);
    read_models.stop().await;
    let control = store.consumer_control("appends");
    assert_eq!(control.skipped(10).await.unwrap(), []);
    assert_eq!(control.status().await.unwrap().checkpoint(), None);
}

/// Fails with one error after the other, and then no more.
struct Complains(Vec<Error>);

impl ReadModel for Complains {
    fn name(&self) -> String {
        "complains".to_owned()
    }

    fn filter(&self) -> Result<Filter> {
        Ok(Filter::any_event())
    }

    async fn clear(&mut self, _: &ConsumerTransaction) -> Result<()> {
        Ok(())
    }

    async fn apply(&mut self, _: &Event, _: &ConsumerTransaction) -> Result<()> {
        self.0.pop().map_or(Ok(()), Err)
    }
}

#[tokio::test]
async fn no_event_is_passed_over_for_what_only_a_person_can_change() {
    let (_database, _router, store) = store().await;
    let mark = append(&store, &["A"]).await;
    let kinds = [ErrorKind::Configuration, ErrorKind::Schema, ErrorKind::SplitBrain];
    let model = Complains(kinds.map(|kind| Error::new(kind, "not now")).into());
    let read_models =
        ReadModels::builder(&store).poison_policy(PoisonPolicy::skip()).with(model).unwrap().start().unwrap();
    read_models.wait_until_handled("complains", mark).timeout(HANG).await.unwrap();
    assert_eq!(store.consumer_control("complains").skipped(10).await.unwrap(), []);
}
