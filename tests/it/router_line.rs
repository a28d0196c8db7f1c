//! How many calls wait for a connection, and which are not counted.

use std::{future::IntoFuture, time::Duration};

use futures_util::future::{join, poll_immediate};
use mainstem::{
    AppendCondition, Consistency, ErrorKind, EventStore, Fallback, PostgresEventStore, Role, Router,
    testing::LocalCluster,
};
use serde_json::json;
use tokio::time::{sleep, timeout};

use crate::support::{database, event, started};

/// Far longer than anything here may take: what it ends would have hung.
const HANG: Duration = Duration::from_secs(30);
const MS: Duration = Duration::from_millis(1);

/// One more is refused at once; who waits is served all the same, and so is a read elsewhere.
#[tokio::test]
async fn no_more_calls_wait_than_may() {
    let cluster = started(LocalCluster::builder()).await;
    let builder = Router::builder().primary(cluster.primary().url()).replica(cluster.replica(0).url());
    let builder = builder.max_connections(1).waiting_calls(2).acquire_timeout(HANG).connect_timeout(HANG);
    let router = builder.fallback(Fallback::Unlimited).connect().await.unwrap();
    let strong = || router.client_at(Consistency::Strong);
    let held = strong().await.unwrap();
    let mut waiting: Vec<_> = (0..2).map(|_| Box::pin(strong())).collect();
    for one in &mut waiting {
        assert!(poll_immediate(one).await.is_none());
    }
    let refused = poll_immediate(Box::pin(strong())).await.expect("an answer at once").unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Overloaded, "{}", refused.report());
    assert!(refused.is_retryable() && refused.to_string().contains("2 calls wait for one of the 1 connections"));
    // Not so who asks how the node is.
    let lsn = || router.status().nodes.iter().find(|node| node.role == Role::Primary).and_then(|node| node.lsn);
    let before = lsn();
    let aside = Router::builder().primary(cluster.primary().url()).connect().await.unwrap();
    aside.client().await.unwrap().batch_execute("CREATE TABLE moves_the_log ()").await.unwrap();
    timeout(HANG, async {
        while lsn() == before {
            sleep(20 * MS).await;
        }
    })
    .await
    .expect("a probe that tells of it");

    let read = || router.client_at(Consistency::Eventual);
    let on_replica = read().await.unwrap();
    assert_eq!(on_replica.role(), Role::Replica);
    let mut reading: Vec<_> = (0..2).map(|_| Box::pin(read())).collect();
    for one in &mut reading {
        assert!(poll_immediate(one).await.is_none());
    }
    drop(held);
    for one in waiting {
        drop(timeout(HANG, one).await.expect("a turn").unwrap());
    }
    assert_eq!(read().await.unwrap().role(), Role::Primary);
    drop(on_replica);
    for one in reading {
        assert_eq!(timeout(HANG, one).await.expect("a turn").unwrap().role(), Role::Replica);
    }
}

/// They are few, and have bounds of their own. Nor are those in line who have a place and wait until their connection is open.
#[tokio::test]
async fn own_requests_of_the_library_wait_despite_the_waiting_calls_limit() {
    let database = database().await;
    let builder = Router::builder().primary(database.primary_url()).max_connections(2).waiting_calls(0);
    let router = builder.acquire_timeout(HANG).build().unwrap();
    let (one, other) = timeout(HANG, join(router.client(), router.client())).await.expect("no hang");
    let held = (one.unwrap(), other.unwrap());
    assert_eq!(router.client().await.unwrap_err().kind(), ErrorKind::Overloaded);
    let store = PostgresEventStore::new(&router);
    let mut append = Box::pin(store.append([event("A", json!({}))], AppendCondition::none()).into_future());
    assert!(timeout(200 * MS, &mut append).await.is_err(), "it waits for a connection");
    drop(held);
    // There is no log: that is the server's answer.
    assert_eq!(timeout(HANG, append).await.expect("a turn").unwrap_err().kind(), ErrorKind::Schema);
}
