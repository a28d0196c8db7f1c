//! Everything that grows has a bound: the bounds of `docs/limits.md` that no other test shows.

use std::time::Duration;

use futures_util::stream;
use mainstem::{AppendCondition, Consistency, ErrorKind, EventStore, Filter, Router, SnapshotKey, SnapshotStore};
use serde_json::json;
use tokio::time::{sleep, timeout};

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

/// Those that leave keep their places until nobody has them any more. Then the others come; and the former list does not come back.
#[tokio::test]
async fn replicas_that_find_no_free_slot_join_later() {
    let primary = cluster().await.primary().url();
    let builder =
        || Router::builder().primary(&primary).probe_interval(HANG).resolve_interval(Duration::from_millis(50));
    let list = |network: u8| (1..=40).map(move |host| format!("postgres://nobody@127.0.{network}.{host}:1/none"));
    let names = |router: &Router| -> Vec<String> {
        let nodes = router.status().nodes;
        nodes.iter().map(|node| node.name.to_string()).filter(|name| name.starts_with("127.0.")).collect()
    };
    let comes = async |router: &Router| {
        let come = async {
            let is_there = |names: &[String]| names.iter().filter(|name| name.starts_with("127.0.2.")).count() == 40;
            while !is_there(&names(router)) || router.status().sources[0].error.is_some() {
                sleep(Duration::from_millis(5)).await;
            }
        };
        let come = timeout(Duration::from_secs(10), come).await;
        assert!(come.is_ok(), "{:?}, {:?}", router.status().sources, names(router));
        sleep(Duration::from_millis(200)).await;
        assert_eq!(names(router).iter().filter(|name| !name.starts_with("127.0.2.")).count(), 1, "the primary's own");
        assert_eq!(names(router).len(), 41);
    };

    let router = builder().build().unwrap();
    router.set_replicas(list(1)).unwrap();
    let error = router.set_replicas(list(2)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    comes(&router).await;
    // What is wrong with a later list stays in the status, whatever comes of the one before.
    router.set_replicas(list(1)).unwrap_err();
    router.set_replicas(list(2)).unwrap_err();
    router.set_replicas(Vec::<String>::new()).unwrap_err();
    sleep(Duration::from_millis(500)).await;
    let sources = router.status().sources;
    assert!(sources[0].error.as_ref().is_some_and(|error| error.contains("is empty")), "{sources:?}");
    router.set_replicas(list(2)).unwrap();
    comes(&router).await;

    // Nobody sends a list a second time.
    let lists = stream::iter([list(1).collect(), list(2).collect()]);
    comes(&builder().replica_changes(lists).connect().await.unwrap()).await;
}

#[tokio::test]
async fn a_snapshot_saved_repeatedly_is_kept_only_once() {
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
async fn members_that_are_gone_are_removed() {
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
