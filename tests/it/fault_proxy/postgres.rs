//! The same on connections to PostgreSQL, at the moments when a router meets them: the log-in, an idle connection, the middle
//! of an answer.

use std::time::Duration;

use mainstem::testing::Direction;
use tokio::time::timeout;
use tokio_postgres::{Client, NoTls};

use super::{A_WHILE, soon};
use crate::support::{cluster, database};

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    client
}

async fn number(client: &Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn the_proxy_of_a_node_connects_to_that_node() {
    let database = database().await;
    for node in cluster().await.nodes() {
        let proxy = node.proxy().unwrap();
        for url in [node.url_through(&proxy), database.url_through(&proxy)] {
            let row = soon(connect(&url)).await;
            let sql = "SELECT current_setting('cluster_name'), current_database()";
            let row = soon(row.query_one(sql, &[])).await.unwrap();
            assert_eq!(row.get::<_, &str>(0), node.name());
            assert!(url.ends_with(row.get::<_, &str>(1)));
        }
        assert_eq!(proxy.counts().connections, 2);
    }
}

#[tokio::test]
async fn a_log_in_and_a_query_wait_for_the_end_of_a_silence() {
    let database = database().await;
    let proxy = cluster().await.replica(0).proxy().unwrap();
    let url = database.url_through(&proxy);
    proxy.silence(Direction::Both);
    let mut login = tokio::spawn(async move { connect(&url).await });
    timeout(A_WHILE, &mut login).await.expect_err("nobody answers");
    proxy.restore().unwrap();
    let client = soon(login).await.unwrap();
    assert_eq!(soon(number(&client, "SELECT 1::int8")).await, 1);
    proxy.silence(Direction::Both);
    let mut query = tokio::spawn(async move { number(&client, "SELECT 2::int8").await });
    timeout(A_WHILE, &mut query).await.expect_err("nobody answers");
    proxy.restore().unwrap();
    assert_eq!(soon(query).await.unwrap(), 2);
}

#[tokio::test]
async fn an_answer_stops_in_its_middle_and_goes_on() {
    let database = database().await;
    let proxy = cluster().await.replica(0).proxy().unwrap();
    let client = soon(connect(&database.url_through(&proxy))).await;
    proxy.silence_after(300_000);
    let sql = "SELECT string_agg(md5(n::text), '') FROM generate_series(1, 50000) AS n";
    let mut query = tokio::spawn(async move { client.query_one(sql, &[]).await.unwrap().get::<_, String>(0) });
    timeout(A_WHILE * 3, &mut query).await.expect_err("the rest does not come");
    proxy.restore().unwrap();
    let through = soon(query).await.unwrap();
    let direct = soon(connect(&database.replica_urls()[0])).await;
    assert!(through == soon(direct.query_one(sql, &[])).await.unwrap().get::<_, String>(0));
}

#[tokio::test]
async fn a_half_open_connection_executes_statements_without_an_answer() {
    let database = database().await;
    let proxy = cluster().await.primary().proxy().unwrap();
    let direct = soon(connect(&database.primary_url())).await;
    soon(direct.batch_execute("CREATE TABLE t ()")).await.unwrap();
    let client = soon(connect(&database.url_through(&proxy))).await;
    proxy.silence(Direction::ToClient);
    let mut write = tokio::spawn(async move { client.batch_execute("INSERT INTO t DEFAULT VALUES").await });
    let written = async { while number(&direct, "SELECT count(*) FROM t").await == 0 {} };
    soon(written).await;
    timeout(A_WHILE, &mut write).await.expect_err("no answer");
    proxy.cut().unwrap();
    assert!(soon(write).await.unwrap().is_err());
}

#[tokio::test]
async fn a_delay_is_added_to_each_round_trip_and_a_cut_closes_the_client() {
    let database = database().await;
    let proxy = cluster().await.primary().proxy().unwrap();
    let client = soon(connect(&database.url_through(&proxy))).await;
    proxy.delay(Direction::Both, Duration::from_millis(40));
    let start = std::time::Instant::now();
    soon(client.batch_execute("SELECT 1")).await.unwrap();
    assert!(start.elapsed() >= Duration::from_millis(80), "{:?}", start.elapsed());
    proxy.cut().unwrap();
    let error = soon(client.batch_execute("SELECT 1")).await.unwrap_err();
    assert!(error.is_closed() || std::error::Error::source(&error).is_some(), "{error:?}");
    proxy.refuse().unwrap();
    let refused = soon(tokio_postgres::connect(&database.url_through(&proxy), NoTls)).await;
    assert!(refused.is_err());
}
