//! What the number of batches shows of appends that have lost.

use std::future::IntoFuture;

use futures_util::future::join_all;
use mainstem::{AppendCondition, EventStore, PostgresEventStore, telemetry::metrics::APPEND_BATCH_APPENDS};

use crate::support::{
    RecordedMetrics,
    boundary::{boundary, in_boundary},
    store,
};

/// Another process was faster: all who have decided on the same read are told so together, and not one after the other.
#[tokio::test]
async fn all_whom_another_process_has_overtaken_are_refused_together() {
    const APPENDS: usize = 60;
    let (metrics, _kept) = RecordedMetrics::keep();
    let (_database, router, store) = store().await;
    store.append(in_boundary("other"), AppendCondition::none()).await.unwrap();
    let read = store.query(&boundary("hot")).await.unwrap();
    let other = PostgresEventStore::new(&router);
    let first = other.append(in_boundary("hot"), AppendCondition::none()).await.unwrap().last();
    let batches = || metrics.times(&APPEND_BATCH_APPENDS, &[]);
    let before = batches();
    let appends = (0..APPENDS).map(|_| store.append(in_boundary("hot"), read.unchanged()).into_future());
    for outcome in join_all(appends).await {
        let error = outcome.expect_err("the other was faster");
        assert_eq!(error.conflict().unwrap().position, first.position(), "{}", error.report());
    }
    let batches = batches() - before;
    assert!(batches <= 5, "{batches} batches for {APPENDS} appends with one condition");
}
