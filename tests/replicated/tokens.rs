//! Reads from lagging replicas that contain what was written and seen.

use std::time::Duration;

use mainstem::{
    Consistency, EventStore, Fallback, Filter, Role, Session,
    testing::{TestCluster, TestNode},
    with_session,
};
use tokio::time::{sleep, timeout};

use super::{Clusters, HANG, append, is_node, log, own, read};

pub(crate) async fn every_read_at_least_as_new_as_a_write_sees_it_on_a_replica<C: Clusters>() {
    let patient = |builder: mainstem::RouterBuilder| builder.acquire_timeout(HANG).replay_wait(HANG);
    let (_database, router, store) = log(C::shared().await, patient).await;
    for round in 1..=30_u64 {
        let level = Consistency::AtLeast(append(&store, "A").await.token().clone());
        let history = read(&store, level.clone()).await;
        assert_eq!((history.role(), history.len() as u64), (Role::Replica, round));
        let count = store.count(&Filter::any_event()).consistency(level.clone()).await.unwrap();
        assert_eq!((count.role(), *count), (Role::Replica, round));
        let client = router.client_at(level).await.unwrap();
        let count: i64 = client.query_one("SELECT count(*) FROM mainstem.events", &[]).await.unwrap().get(0);
        assert_eq!((client.role(), count), (Role::Replica, i64::try_from(round).unwrap()));
    }
}

pub(crate) async fn a_replica_that_stands_still_is_passed_over_waited_for_and_replaced<C: Clusters>() {
    let cluster = own::<C>(2).await;
    let wait = Duration::from_millis(300);
    let (_database, _router, store) = log(&cluster, |builder| builder.replay_wait(wait)).await;
    cluster.replica(0).pause_replay().await.unwrap();
    for round in 1..=20 {
        let level = Consistency::AtLeast(append(&store, "A").await.token().clone());
        let history = read(&store, level).await;
        // On a busy machine the other replica may take longer than the wait, and then the primary answers.
        assert!(!is_node(cluster.replica(0), history.node()), "{} has not got that far", history.node());
        assert_eq!(history.len(), round);
    }
    cluster.replica(1).pause_replay().await.unwrap();
    let level = Consistency::AtLeast(append(&store, "A").await.token().clone());
    let (present, past) = (read(&store, level).await, read(&store, Consistency::Eventual).await);
    assert_eq!((present.role(), present.len()), (Role::Primary, 21));
    assert!(past.role() == Role::Replica && past.len() < 21, "{past:?}");
}

pub(crate) async fn a_delayed_replica_is_waited_for<C: Clusters>() {
    let cluster = own::<C>(1).await;
    let settings = |builder: mainstem::RouterBuilder| builder.replay_wait(HANG).fallback(Fallback::Never);
    let (_database, _router, store) = log(&cluster, settings).await;
    cluster.replica(0).delay_replay(Duration::from_millis(400)).await.unwrap();
    let mut seen_later = 0;
    for round in 1..=5 {
        let level = Consistency::AtLeast(append(&store, "A").await.token().clone());
        seen_later += usize::from(read(&store, Consistency::Eventual).await.len() < round);
        let history = read(&store, level).await;
        assert_eq!((history.role(), history.len()), (Role::Replica, round));
    }
    assert!(seen_later > 0, "the delay is in force");
    // The replay delay outlasts a restart, and ends when it is revoked.
    cluster.replica(0).restart().await.unwrap();
    let sql = "SELECT setting FROM pg_settings WHERE name = 'recovery_min_apply_delay'";
    let setting = async || {
        let (client, connection) =
            tokio_postgres::connect(&cluster.replica(0).url(), tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(async move { drop(connection.await) });
        client.query_one(sql, &[]).await.unwrap().get::<_, String>(0)
    };
    assert_eq!(setting().await, "400");
    cluster.replica(0).delay_replay(Duration::ZERO).await.unwrap();
    assert_eq!(setting().await, "0");
}

pub(crate) async fn a_session_reads_its_own_writes_and_never_goes_back<C: Clusters>() {
    let cluster = own::<C>(2).await;
    let (_database, _router, store) = log(&cluster, |builder| builder.replay_wait(Duration::from_millis(300))).await;
    let session = Session::new();
    let in_session = async || with_session(&session, async { read(&store, Consistency::Eventual).await }).await;
    append(&store, "A").await;
    cluster.wait_until_caught_up().await.unwrap();
    cluster.replica(0).pause_replay().await.unwrap();
    for written in 2..=10 {
        with_session(&session, async { append(&store, "A").await }).await;
        for _ in 0..5 {
            let history = in_session().await;
            assert_eq!(history.len(), written, "from {}", history.node());
        }
    }
    // Without the session, some reader sooner or later sees less.
    let stale = async {
        while read(&store, Consistency::Eventual).await.len() == 10 {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(HANG, stale).await.expect("the replica that stands still is read from");
    assert_eq!(in_session().await.len(), 10);
}
