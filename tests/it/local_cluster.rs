//! The cluster that all other tests stand on.

use mainstem::testing::LocalCluster;
use tokio_postgres::{Client, NoTls};

use crate::support;

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("a connection");
    tokio::spawn(async move { drop(connection.await) });
    client
}

async fn number(client: &Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error:?}")).get(0)
}

#[tokio::test]
async fn replicas_stream_what_the_primary_commits() {
    let database = support::database().await;
    let primary = connect(&database.primary_url()).await;
    primary.batch_execute("CREATE TABLE t (n bigint); INSERT INTO t VALUES (1), (2)").await.unwrap();
    support::cluster().await.wait_until_caught_up().await.unwrap();
    let urls = database.replica_urls();
    assert_eq!(urls.len(), 2);
    for url in urls {
        assert_eq!(number(&connect(&url).await, "SELECT sum(n)::bigint FROM t").await, 3);
    }
    database.drop().await.unwrap();
}

#[tokio::test]
async fn every_version_on_this_machine_works() {
    let all = mainstem::testing::Programs::all();
    assert!(!all.is_empty());
    for programs in all {
        for replicas in [1, 2] {
            let builder = LocalCluster::builder().replicas(replicas).programs(programs.folder());
            let cluster = support::started(builder).await;
            let replica = connect(&cluster.replica(replicas - 1).url()).await;
            let version = number(&replica, "SELECT current_setting('server_version_num')::bigint").await;
            assert_eq!(version / 10_000, i64::from(programs.version()));
        }
    }
}
