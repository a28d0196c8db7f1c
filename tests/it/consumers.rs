//! Consumers: what the tests about them share.

mod changed;
mod checkpoints;
mod control;
mod elsewhere;
mod exactly_once;
mod groups;
mod limits;
mod lost_events;
mod takeover;

use std::time::Duration;

use mainstem::{
    AppendCondition, Consistency, Consumer, ConsumerBatch, Error, EventStore, Filter, NewEvent, PostgresEventStore,
    Router,
};
use serde_json::json;
use tokio::time::timeout;

use crate::support::event;

/// Far longer than anything here may take: what it ends would have hung.
const HANG: Duration = Duration::from_secs(30);

async fn append(store: &PostgresEventStore, amount: usize) {
    append_of(store, (0..amount).map(|_| "A")).await;
}

async fn append_of(store: &PostgresEventStore, types: impl IntoIterator<Item = &str>) {
    let events: Vec<NewEvent> = types.into_iter().map(|event_type| event(event_type, json!({}))).collect();
    store.append(events, AppendCondition::none()).await.unwrap_or_else(|error| panic!("{}", error.report()));
}

fn consumer(store: &PostgresEventStore) -> Consumer {
    let builder = store.consumer("c", &Filter::any_event()).batch_events(10).takeover(Duration::from_secs(2));
    builder.consistency(Consistency::Strong).build().unwrap()
}

/// The next batch with events, over errors that time mends.
async fn next(consumer: &mut Consumer) -> ConsumerBatch {
    let next = async {
        loop {
            match consumer.next_batch().await.expect("it goes on") {
                Ok(batch) if !batch.is_empty() => return batch,
                Ok(batch) => drop(consumer.commit(&batch).await),
                Err(error) => assert!(error.is_retryable() || error.is_outcome_unknown(), "{}", error.report()),
            }
        }
    };
    timeout(HANG, next).await.expect("a batch in time")
}

async fn failure(consumer: &mut Consumer) -> Error {
    let failure = async {
        loop {
            match consumer.next_batch().await.expect("an error comes before the end") {
                Ok(_) => {}
                Err(error) if error.is_retryable() || error.is_outcome_unknown() => {}
                Err(error) => return error,
            }
        }
    };
    timeout(HANG, failure).await.expect("an error in time")
}

fn positions(batch: &ConsumerBatch) -> Vec<u64> {
    batch.iter().map(mainstem::Event::position).collect()
}

async fn run(router: &Router, sql: &str) {
    router.client().await.unwrap().batch_execute(sql).await.unwrap();
}

async fn number(router: &Router, sql: &str) -> i64 {
    router.client().await.unwrap().query_one(sql, &[]).await.unwrap().get(0)
}

async fn lose_events_after(router: &Router, position: u64) {
    let lose = format!(
        "ALTER TABLE mainstem.events DISABLE TRIGGER events_append_only; \
         DELETE FROM mainstem.events WHERE position > {position}; \
         ALTER TABLE mainstem.events ENABLE ALWAYS TRIGGER events_append_only"
    );
    run(router, &lose).await;
}

/// Keys 0 to 19, by a tag.
fn keyed(key: usize) -> NewEvent {
    event("A", json!({})).with_tag(format!("key:{key}"))
}

fn member(store: &PostgresEventStore) -> Consumer {
    let builder = store.consumer("group", &Filter::any_event()).batch_events(7).takeover(Duration::from_secs(2));
    builder.partitions(8, |event| event.tags().find(|tag| tag.starts_with("key:")).map(Into::into)).build().unwrap()
}
