//! What grows has a bound: the ones of `docs/limits.md` that are shown nowhere else.

use std::time::Duration;

use mainstem::{AppendCondition, Consistency, ErrorKind, EventStore, Filter, Router, SnapshotKey, SnapshotStore};
use serde_json::json;
use tokio::time::timeout;

use crate::support::{cluster, event, store};

const HANG: Duration = Duration::from_secs(60);

/// Nobody listens there: each is refused at once.
fn nowhere(count: u16) -> impl Iterator<Item = String> {
    (1..=count).map(|host| format!("postgres://nobody@127.0.1.{host}:1/none"))
}

#[tokio::test]
async fn a_router_has_sixty_four_nodes_at_most() {
    let primary = cluster().await.primary().url();
    let of = |replicas| {
        let builder = Router::builder().primary(&primary).replicas(nowhere(replicas));
        builder.probe_interval(HANG).build()
    };
    assert_eq!(of(63).unwrap().status().nodes.len(), 64);
    let error = of(64).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
    assert!(error.to_string().contains("at most 64 nodes, and not 65"), "{error}");
    // The same of a list that comes later; and those that leave make room.
    let router = of(1).unwrap();
    let error = router.set_replicas(nowhere(64)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    assert!(error.to_string().contains("at most 64 nodes"), "{error}");
    for round in 0..5 {
        router.set_replicas(nowhere(40).skip(round * 2)).unwrap();
        assert!(router.status().nodes.len() <= 64);
    }
}

#[tokio::test]
async fn of_each_snapshot_there_is_one_however_often_it_is_saved() {
    let (_database, router, store) = store().await;
    let key = SnapshotKey::new("p", 1, &Filter::any_event());
    for n in 0..20 {
        let mark = store.append([event("A", json!({}))], AppendCondition::none()).await.unwrap().last();
        store.save_snapshot(&key, mark, &n).await.unwrap();
    }
    assert_eq!(count(&router, "events_snapshots").await, 1);
}

/// Each process is another member, and most of them end without a word.
#[tokio::test]
async fn of_members_that_are_gone_nothing_stays() {
    let (_database, router, store) = store().await;
    store.append([event("A", json!({}))], AppendCondition::none()).await.unwrap();
    for _ in 0..4 {
        let builder = store.consumer("c", &Filter::any_event()).consistency(Consistency::Strong);
        let mut consumer = builder.takeover(Duration::from_secs(1)).build().unwrap();
        let came = async { while consumer.next_batch().await.is_none_or(|batch| batch.is_err()) {} };
        timeout(HANG, came).await.expect("it takes over");
        std::mem::forget(consumer);
        let gone = "UPDATE mainstem.events_members SET alive_until = '-infinity'";
        router.client().await.unwrap().batch_execute(gone).await.unwrap();
    }
    assert!(count(&router, "events_members").await <= 2, "those who came removed those who were gone");
    assert_eq!(count(&router, "events_progress").await, 1);
}

async fn count(router: &Router, table: &str) -> i64 {
    let sql = format!("SELECT count(*) FROM mainstem.{table}");
    router.client().await.unwrap().query_one(&sql, &[]).await.unwrap().get(0)
}
