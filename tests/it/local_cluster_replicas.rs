//! When the replicas of a local cluster are where the primary is, and what brings one back that cannot follow any more.

use std::time::{Duration, Instant};

use mainstem::{
    ErrorKind, Router,
    testing::{LocalCluster, Node, Rejoined},
};

use crate::support::started;

async fn execute(node: &Node, statements: &[&str]) {
    let router = Router::builder().primary(node.url()).connect().await.unwrap();
    let client = router.client().await.unwrap();
    for statement in statements {
        client.batch_execute(statement).await.unwrap();
    }
}

#[tokio::test]
async fn waiting_for_a_replica_that_cannot_catch_up_ends_and_says_where_it_is() {
    let cluster = started(LocalCluster::builder()).await;
    cluster.wait_until_caught_up().await.unwrap();
    cluster.replica(0).pause_replay().await.unwrap();
    let limit = Duration::from_millis(300);
    let error = cluster.wait_until_caught_up_within(limit).await.unwrap_err();
    assert!(error.is_timeout());
    let text = error.to_string();
    assert!(text.contains("node_2 has received 0/") && text.contains("paused"), "{text}");
}

/// It has more of its own timeline than the primary has of the new one.
#[tokio::test]
async fn a_replica_on_another_timeline_has_not_caught_up() {
    let cluster = started(LocalCluster::builder().replicas(2)).await;
    let [old, new, follower] = cluster.nodes() else { panic!("three nodes") };
    cluster.wait_until_caught_up().await.unwrap();
    new.promote().await.unwrap();
    execute(old, &["CREATE TABLE more AS SELECT generate_series(1, 100000) AS n"]).await;
    for old_is_there in [true, false] {
        let error = cluster.wait_until_caught_up_within(Duration::from_secs(1)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        let why = format!("{} follows timeline 00000001, and the primary is on 00000002", follower.name());
        assert!(error.to_string().contains(&why), "{error}");
        if old_is_there {
            old.kill().await.unwrap();
        }
    }
    follower.rejoin().await.unwrap();
    old.rejoin().await.unwrap();
    cluster.wait_until_caught_up().await.unwrap();
}

#[tokio::test]
async fn waiting_for_a_frozen_primary_ends_with_its_limit() {
    let cluster = started(LocalCluster::builder()).await;
    cluster.primary().freeze().await.unwrap();
    let start = Instant::now();
    let error = cluster.wait_until_caught_up_within(Duration::from_secs(1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    // A statement has thirty seconds for itself.
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    cluster.primary().thaw().await.unwrap();
    cluster.wait_until_caught_up().await.unwrap();
}

/// Its slot is of no use any more, and pg_rewind finds nothing wrong with its data.
#[tokio::test]
async fn a_replica_whose_log_is_gone_rejoins_from_a_base_backup() {
    let builder = LocalCluster::builder().setting("max_slot_wal_keep_size", "64MB").setting("wal_keep_size", "0");
    let cluster = started(builder).await;
    cluster.wait_until_caught_up().await.unwrap();
    let replica = cluster.replica(0);
    replica.stop().await.unwrap();
    let fill = ["CREATE TABLE filler (n int)", "INSERT INTO filler VALUES (1)", "SELECT pg_switch_wal()", "CHECKPOINT"];
    execute(cluster.primary(), &fill).await;
    for _ in 0..8 {
        execute(cluster.primary(), &fill[1..]).await;
    }
    let router = Router::builder().primary(cluster.primary().url()).connect().await.unwrap();
    let client = router.client().await.unwrap();
    let slots = client.query_one("SELECT count(*) FROM pg_replication_slots WHERE wal_status = 'lost'", &[]).await;
    assert_eq!(slots.unwrap().get::<_, i64>(0), 1, "the primary was to give the slot up");
    drop((client, router));
    assert_eq!(replica.rejoin().await.unwrap(), Rejoined::BaseBackup);
    cluster.wait_until_caught_up().await.unwrap();
}
