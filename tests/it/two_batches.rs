//! A second batch beside the one that is under way: when there is one, and what it must not change.

use std::{future::IntoFuture, time::Duration};

use futures_util::future::join_all;
use mainstem::{AppendCondition, EventStore, ExpectedVersion, Filter, NewEvent};
use serde_json::json;
use tokio::time::sleep;

use crate::support::{
    LogLock,
    boundary::{boundary, in_boundary, unless},
    event, store,
};

/// A second batch is sent while the first is under way, if it is worth it, and both are settled.
#[tokio::test]
async fn many_appends_are_under_way_in_two_batches() {
    let (_database, router, store) = store().await;
    for (amount, batches) in [(60, 1), (200, 2)] {
        let lock = LogLock::take(&router).await;
        let first = tokio::spawn(store.append([event("First", json!({}))], AppendCondition::none()).into_future());
        LogLock::is_waited_for(&router).await;
        let appends = (0..amount).map(|n| {
            let (store, name) = (store.clone(), format!("{amount} {n}"));
            tokio::spawn(async move { store.append(in_boundary(&name), unless(&boundary(&name))).await })
        });
        let appends: Vec<_> = appends.collect();
        LogLock::is_waited_for_by(&router, batches).await;
        sleep(Duration::from_millis(50)).await;
        assert_eq!(LogLock::waiting(&router).await, batches, "of {amount} appends");
        lock.release().await;
        first.await.unwrap().unwrap();
        for append in join_all(appends).await {
            append.unwrap().unwrap();
        }
    }
    assert_eq!(store.query(&Filter::any_event()).await.unwrap().len(), 262);
    store.close().await;
}

/// Those who arrive together are sent in two halves, if each is worth it: the server reads the second while it writes the first.
#[tokio::test]
async fn many_events_that_arrive_together_are_sent_in_two_halves() {
    let (_database, router, store) = store().await;
    for (appends, calls) in [(12, 1), (20, 2)] {
        let lock = LogLock::take(&router).await;
        let arrive = (0..appends).map(|n| {
            let (store, name) = (store.clone(), format!("{appends} {n}"));
            let events: Vec<NewEvent> = (0..10).flat_map(|_| in_boundary(&name)).collect();
            tokio::spawn(async move { store.append(events, unless(&boundary(&name))).await })
        });
        let arrived: Vec<_> = arrive.collect();
        LogLock::is_waited_for_by(&router, calls).await;
        sleep(Duration::from_millis(50)).await;
        assert_eq!(LogLock::waiting(&router).await, calls, "of {appends} appends");
        lock.release().await;
        let mut firsts = Vec::new();
        for append in join_all(arrived).await {
            firsts.push(append.unwrap().unwrap().first_position());
        }
        firsts.sort_unstable();
        let begin = firsts[0];
        assert_eq!(firsts, (0..appends).map(|n| begin + 10 * n).collect::<Vec<_>>(), "each is whole");
    }
    let sizes = "SELECT count(*) FROM mainstem.events GROUP BY xmin::text ORDER BY min(position)";
    let client = router.client().await.unwrap();
    let sizes: Vec<i64> = client.query(sizes, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
    assert_eq!(sizes, [120, 100, 100]);
    store.close().await;
}

/// Also when there are enough of them for two batches, and the second would be ready first.
#[tokio::test]
async fn appends_to_one_stream_that_arrive_together_are_settled_in_their_order() {
    let (_database, _, store) = store().await;
    for round in 0..10 {
        let stream = format!("stream {round}");
        let events =
            |amount: usize| (0..amount).map(|_| event("A", json!({"b": "x".repeat(2000)}))).collect::<Vec<_>>();
        let to_stream = |version, amount| {
            let (store, stream, events) = (store.clone(), stream.clone(), events(amount));
            tokio::spawn(async move {
                store.append(events, AppendCondition::none()).to_stream(&*stream, version).await.map(drop)
            })
        };
        let first = to_stream(ExpectedVersion::NoStream, 400);
        let second = to_stream(ExpectedVersion::Exact(400), 1);
        let others = (0..130).map(|n| {
            let (store, name) = (store.clone(), format!("{round} {n}"));
            tokio::spawn(async move { store.append(in_boundary(&name), AppendCondition::none()).await.map(drop) })
        });
        let all: Vec<_> = [first, second].into_iter().chain(others).collect();
        for (number, append) in join_all(all).await.into_iter().enumerate() {
            append.unwrap().unwrap_or_else(|error| panic!("append {number} of round {round}: {error}"));
        }
    }
    store.close().await;
}
