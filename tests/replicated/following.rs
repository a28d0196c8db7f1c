//! Subscriptions that read from replicas.

use std::time::Duration;

use mainstem::{
    AppendCondition, Consistency, EventStore, Filter, PostgresEventStore, Subscribe, Subscription,
    testing::{TestCluster, TestNode},
};
use tokio::time::timeout;

use super::{Clusters, HANG, append, event, log, own, until};

fn follow(store: &PostgresEventStore) -> Subscription {
    store.subscribe(&Filter::any_event()).consistency(Consistency::Eventual).build()
}

/// The positions of the next events. Transient errors are skipped.
async fn positions(subscription: &mut Subscription, amount: usize) -> Vec<u64> {
    let mut positions = Vec::new();
    let read = async {
        while positions.len() < amount {
            match subscription.next().await.expect("it goes on") {
                Ok(event) => positions.push(event.position()),
                Err(error) => assert!(error.is_retryable(), "{}", error.report()),
            }
        }
    };
    timeout(HANG, read).await.unwrap_or_else(|_| panic!("no event in time behind {:?}", subscription.mark()));
    positions
}

pub(crate) async fn a_replica_is_followed_in_order_and_without_a_hole<C: Clusters>() {
    let (_database, _router, store) = log(C::shared().await, |builder| builder).await;
    append(&store, "First").await;
    let mut following = follow(&store);
    assert_eq!(positions(&mut following, 1).await, [1]);
    let writers = (0..4).map(|_| {
        let store = store.clone();
        tokio::spawn(async move {
            for _ in 0..25 {
                append(&store, "More").await;
            }
        })
    });
    let writers: Vec<_> = writers.collect();
    let seen = positions(&mut following, 100).await;
    for writer in writers {
        writer.await.unwrap();
    }
    let log = store.query(&Filter::any_event()).await.unwrap();
    let written: Vec<u64> = log.iter().skip(1).map(mainstem::Event::position).collect();
    assert_eq!(seen, written);
    assert!(timeout(Duration::from_millis(200), following.next()).await.is_err(), "there is no more");
}

pub(crate) async fn a_subscription_goes_on_over_a_failover<C: Clusters>() {
    let cluster = own::<C>(2).await;
    let (_database, _router, store) = log(&cluster, |builder| builder).await;
    let mut following = follow(&store);
    append(&store, "Before").await;
    assert_eq!(positions(&mut following, 1).await, [1]);
    cluster.wait_until_caught_up().await.unwrap();
    let old = cluster.primary();
    old.stop().await.unwrap();
    cluster.replica(0).promote().await.unwrap();
    let appended = async || store.append([event("After")], AppendCondition::none()).await.is_ok();
    until("an append on the new primary", appended).await;
    old.rejoin().await.unwrap();
    append(&store, "Last").await;
    let log = store.query(&Filter::any_event()).await.unwrap();
    let written: Vec<u64> = log.iter().skip(1).map(mainstem::Event::position).collect();
    assert_eq!(positions(&mut following, written.len()).await, written);
}
