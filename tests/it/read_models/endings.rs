//! How a read model ends: by a panic, or by being stopped.

use std::{sync::atomic::Ordering, time::Duration};

use mainstem::{
    ConsumerTransaction, ErrorKind, Event, Filter, PoisonPolicy, ReadModel, ReadModelState, ReadModels, Result,
};
use tokio::time::timeout;

use super::{Counter, HANG, append, told};
use crate::support::store;

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
