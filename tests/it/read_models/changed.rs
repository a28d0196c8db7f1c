//! A read model whose filter or version has changed.

use std::time::Duration;

use mainstem::{ConsumerTransaction, ErrorKind, Event, Filter, ReadModel, ReadModelState, ReadModels, Result, Start};

use super::{Counter, HANG, append, rows};
use crate::support::store;

/// What a later deployment makes of [`Counter`].
#[derive(Clone)]
struct Later {
    counter: Counter,
    version: u32,
    accepts_change: bool,
}

impl ReadModel for Later {
    fn name(&self) -> String {
        self.counter.name()
    }

    fn filter(&self) -> Result<Filter> {
        Ok(Filter::any_event())
    }

    fn version(&self) -> u32 {
        self.version
    }

    fn accepts_change(&self) -> bool {
        self.accepts_change
    }

    async fn clear(&mut self, transaction: &ConsumerTransaction) -> Result<()> {
        self.counter.clear(transaction).await
    }

    async fn apply(&mut self, event: &Event, transaction: &ConsumerTransaction) -> Result<()> {
        self.counter.apply(event, transaction).await
    }
}

async fn run(store: &mainstem::PostgresEventStore, model: impl ReadModel) -> Result<()> {
    let read_models = ReadModels::builder(store).with(model)?.start().unwrap();
    let caught_up = read_models.wait_until_caught_up(HANG, |_| ()).await;
    if caught_up.is_err() {
        assert_eq!(read_models.progress()[0].state, ReadModelState::Failed);
    }
    read_models.stop().await;
    caught_up
}

#[tokio::test]
async fn a_read_model_with_another_filter_or_version_fails_until_somebody_has_decided() {
    let (_database, router, store) = store().await;
    append(&store, &["A", "B"]).await;
    let counter = Counter::new("shelf");
    run(&store, counter.clone()).await.unwrap();
    assert_eq!(rows(&router, "shelf").await, [1]);

    let mut later = Later { counter, version: 1, accepts_change: false };
    assert_eq!(run(&store, later.clone()).await.unwrap_err().kind(), ErrorKind::Configuration);
    // To build it anew is one choice,
    store.consumer_control("shelf").reset(Start::Beginning).await.unwrap();
    run(&store, later.clone()).await.unwrap();
    assert_eq!(rows(&router, "shelf").await, [1, 2]);
    // to go on is the other.
    later.version = 2;
    assert_eq!(run(&store, later.clone()).await.unwrap_err().kind(), ErrorKind::Configuration);
    later.accepts_change = true;
    append(&store, &["B"]).await;
    run(&store, later).await.unwrap();
    assert_eq!(rows(&router, "shelf").await, [1, 2, 3]);
}

/// The checkpoint is at the head of the log, but for another filter: it says nothing about this one.
#[tokio::test]
async fn nobody_waits_for_a_read_model_by_the_checkpoint_of_another_filter() {
    let (_database, router, store) = store().await;
    append(&store, &["A", "B"]).await;
    let counter = Counter::new("shelf");
    run(&store, counter.clone()).await.unwrap();

    // While this is locked, nobody joins.
    let locks = router.transaction().await.unwrap();
    locks.query("SELECT FROM mainstem.events_consumers FOR UPDATE", &[]).await.unwrap();
    let later = Later { counter, version: 1, accepts_change: false };
    let read_models = ReadModels::builder(&store).with(later).unwrap().start().unwrap();
    let early = Duration::from_millis(500);
    let error = read_models.wait_until_caught_up(early, |_| ()).await.expect_err("it has not joined");
    assert_eq!(error.kind(), ErrorKind::Timeout, "{}", error.report());
    locks.rollback().await.unwrap();
    let error = read_models.wait_until_caught_up(HANG, |_| ()).await.expect_err("it is refused");
    assert_eq!(error.kind(), ErrorKind::Configuration, "{}", error.report());
}
