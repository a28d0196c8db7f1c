//! The cluster itself: what a test suite relies on, whatever the nodes run on.

use std::time::Duration;

use mainstem::{
    ErrorKind,
    testing::{Direction, TestCluster, TestNode},
    tokio_postgres::{self, Client, NoTls},
};
use tokio::time::timeout;

use super::{Clusters, HANG, own};

async fn connect(url: &str) -> Client {
    let connected = timeout(HANG, tokio_postgres::connect(url, NoTls)).await.expect("in time");
    let (client, connection) = connected.expect("a connection");
    tokio::spawn(async move { drop(connection.await) });
    client
}

async fn sum(url: &str) -> i64 {
    connect(url).await.query_one("SELECT coalesce(sum(n), 0)::bigint FROM t", &[]).await.unwrap().get(0)
}

pub(crate) async fn each_test_has_a_database_on_all_nodes<C: Clusters>() {
    let cluster = C::shared().await;
    let (one, other) = (cluster.database().await.unwrap(), cluster.database().await.unwrap());
    assert_ne!(one.name(), other.name());
    connect(&one.primary_url()).await.batch_execute("CREATE TABLE t (n int); INSERT INTO t VALUES (7)").await.unwrap();
    cluster.wait_until_caught_up().await.unwrap();
    assert_eq!((one.replica_urls().len(), cluster.nodes().len(), cluster.replicas().count()), (2, 3, 2));
    for url in one.replica_urls() {
        assert_eq!(sum(&url).await, 7);
    }
    for url in other.replica_urls() {
        let row = connect(&url).await.query_one("SELECT to_regclass('t') IS NULL, pg_is_in_recovery()", &[]).await;
        let row = row.unwrap();
        assert_eq!((row.get(0), row.get(1)), (true, true));
    }
    assert!(!cluster.primary().is_in_recovery().await.unwrap());
    assert!(cluster.replica(1).is_in_recovery().await.unwrap());
    let gone = one.primary_url();
    one.drop().await.unwrap();
    assert!(tokio_postgres::connect(&gone, NoTls).await.is_err());
}

pub(crate) async fn who_is_behind_is_named_when_the_wait_is_over<C: Clusters>() {
    let cluster = own::<C>(2).await;
    let lagging = cluster.replica(1);
    lagging.pause_replay().await.unwrap();
    let error = cluster.wait_until_caught_up_within(Duration::from_millis(300)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{}", error.report());
    let text = error.to_string();
    assert!(text.contains("paused") && text.contains(lagging.name()), "{text}");
    assert!(!text.contains(cluster.replica(0).name()), "{text}");
    // Nobody waits for a stopped node, nor for a frozen one.
    lagging.stop().await.unwrap();
    cluster.wait_until_caught_up().await.unwrap();
    cluster.replica(0).freeze().await.unwrap();
    cluster.wait_until_caught_up().await.unwrap();
    cluster.replica(0).start().await.unwrap();
    cluster.replica(0).kill().await.unwrap();
    cluster.replica(0).start().await.unwrap();
    lagging.start().await.unwrap();
    cluster.wait_until_caught_up().await.unwrap();
}

pub(crate) async fn a_node_keeps_its_port_and_its_data_over_restarts<C: Clusters>() {
    let cluster = own::<C>(1).await;
    let url = cluster.primary().url();
    connect(&url).await.batch_execute("CREATE TABLE t (n int); INSERT INTO t VALUES (1)").await.unwrap();
    cluster.replica(0).stop().await.unwrap();
    cluster.replica(0).stop().await.unwrap();
    connect(&url).await.batch_execute("INSERT INTO t VALUES (2)").await.unwrap();
    cluster.replica(0).start().await.unwrap();
    cluster.replica(0).start().await.unwrap();
    cluster.wait_until_caught_up().await.unwrap();
    assert_eq!(sum(&cluster.replica(0).url()).await, 3);
    // A kill loses nothing that was committed.
    cluster.primary().kill().await.unwrap();
    assert!(tokio_postgres::connect(&url, NoTls).await.is_err(), "nobody listens");
    cluster.primary().start().await.unwrap();
    cluster.primary().restart().await.unwrap();
    assert_eq!((sum(&url).await, cluster.primary().url()), (3, url.clone()));
    connect(&url).await.batch_execute("INSERT INTO t VALUES (4)").await.unwrap();
    cluster.wait_until_caught_up().await.unwrap();
    assert_eq!(sum(&cluster.replica(0).url()).await, 7);
}

pub(crate) async fn a_proxy_stands_in_front_of_a_node<C: Clusters>() {
    let cluster = C::shared().await;
    let database = cluster.database().await.unwrap();
    let proxy = cluster.replica(0).proxy().unwrap();
    for url in [cluster.replica(0).url_through(&proxy), database.url_through(&proxy)] {
        let client = connect(&url).await;
        let row = client.query_one("SELECT pg_is_in_recovery(), current_setting('cluster_name')", &[]).await.unwrap();
        assert_eq!((row.get(0), row.get(1)), (true, cluster.replica(0).name()));
    }
    proxy.silence(Direction::Both);
    let url = database.url_through(&proxy);
    let silent = tokio_postgres::connect(&url, NoTls);
    assert!(timeout(Duration::from_millis(300), silent).await.is_err());
}

pub(crate) async fn what_a_role_does_not_allow_is_refused<C: Clusters>() {
    let cluster = C::shared().await;
    let primary = cluster.primary();
    for (error, kind) in [
        (primary.delay_replay(Duration::from_secs(1)).await.unwrap_err(), ErrorKind::Configuration),
        (primary.rejoin().await.unwrap_err(), ErrorKind::Configuration),
        (primary.pause_replay().await.unwrap_err(), ErrorKind::Database),
        (primary.promote().await.unwrap_err(), ErrorKind::Database),
    ] {
        assert_eq!((error.kind(), error.node()), (kind, Some(primary.name())), "{}", error.report());
    }
}
