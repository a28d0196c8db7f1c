//! The rows of a client's statement, as they arrive.

use std::time::Duration;

use futures_util::{FutureExt, StreamExt, TryStreamExt};
use mainstem::{Consistency, ErrorKind, Role, Router, RowStream, Session, with_session};
use tokio::time::{sleep, timeout};

use crate::support::{database, router, sessions};

/// Far longer than anything here may take: what it ends would have hung.
const HANG: Duration = Duration::from_secs(60);

/// More than the driver, the network and we keep.
const LARGE: &str = "SELECT n, repeat('x', 10000) FROM generate_series(1, 20000) AS n";

#[tokio::test]
async fn all_rows_come_in_their_order() {
    let database = database().await;
    let client = router(&database).await.client().await.unwrap();
    for count in [0, 1, 1000] {
        let rows = client.query_stream("SELECT generate_series(1, $1::int4)", &[&count]).await.unwrap();
        let numbers: Vec<i32> = rows.map_ok(|row| row.get::<_, i32>(0)).try_collect().await.unwrap();
        assert_eq!(numbers, (1..=count).collect::<Vec<_>>());
    }
    // The connection is as good as new.
    assert_eq!(client.query_one("SELECT 1", &[]).await.unwrap().get::<_, i32>(0), 1);
}

/// The server makes no more of them than are taken.
#[tokio::test]
async fn rows_that_nobody_takes_are_not_made() {
    let database = database().await;
    let router = router(&database).await;
    let client = router.client().await.unwrap();
    client.batch_execute("CREATE SEQUENCE made").await.unwrap();
    let sql = "SELECT nextval('made'), repeat('x', 10000) FROM generate_series(1, 20000)";
    let mut rows = client.query_stream(sql, &[]).await.unwrap();
    rows.try_next().await.unwrap().unwrap();
    // It goes on as far as there is room on the way, and no further.
    let other = router.client().await.unwrap();
    let made = async || other.query_one("SELECT last_value FROM made", &[]).await.unwrap().get::<_, i64>(0);
    let mut before = made().await;
    loop {
        sleep(Duration::from_millis(300)).await;
        let now = made().await;
        if now == before {
            break;
        }
        before = now;
    }
    assert!((1..20_000).contains(&before), "{before}");
    assert_eq!(rows.try_fold(1, async |count, _| Ok(count + 1)).await.unwrap(), 20_000);
    assert!(made().await >= 20_000);
}

#[tokio::test]
async fn nothing_else_is_sent_while_rows_are_to_come() {
    let database = database().await;
    let client = router(&database).await.client().await.unwrap();
    let mut rows = client.query_stream(LARGE, &[]).await.unwrap();
    rows.try_next().await.unwrap().unwrap();
    let refused = [
        client.query("SELECT 1", &[]).await.unwrap_err(),
        client.execute("SELECT 1", &[]).await.unwrap_err(),
        client.batch_execute("SELECT 1").await.unwrap_err(),
        client.token().await.unwrap_err(),
        client.query_stream("SELECT 1", &[]).await.unwrap_err(),
        client.copy_in("COPY nothing FROM STDIN").await.unwrap_err(),
        client.copy_out("COPY nothing TO STDOUT").await.unwrap_err(),
    ];
    for error in refused {
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        assert!(error.to_string().contains("take it to its end") && error.node().is_some(), "{error}");
    }
    assert_eq!(rows.try_fold(1, async |count, _| Ok(count + 1)).await.unwrap(), 20_000);
    client.query("SELECT 1", &[]).await.unwrap();
    // Nor does one begin while a call is under way, which may have more to send.
    let (call, stream) = tokio::join!(client.query("SELECT pg_sleep(0.1)", &[]), client.query_stream(LARGE, &[]));
    call.unwrap();
    assert_eq!(stream.unwrap_err().kind(), ErrorKind::InvalidInput);
    client.query("SELECT 1", &[]).await.unwrap();
}

/// Behind a pooler a call waits for what undoes the last user's transaction, before it sends anything.
#[tokio::test]
async fn a_stream_does_not_begin_beside_a_call_that_has_sent_nothing_yet() {
    let database = database().await;
    let builder = Router::builder().primary(database.primary_url()).transaction_pooling(true).probe_interval(None);
    let router = builder.max_connections(1).connect().await.unwrap();
    let left = router.client().await.unwrap();
    left.batch_execute("BEGIN").await.unwrap();
    drop(left);
    let client = router.client().await.unwrap();
    let (call, stream) = tokio::join!(client.query("SELECT 1", &[]), client.query_stream(LARGE, &[]));
    call.unwrap();
    let error = stream.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    assert!(error.to_string().contains("under way"), "{error}");
    assert_eq!(client.query_stream(LARGE, &[]).await.unwrap().count().await, 20_000);
}

#[tokio::test]
async fn a_row_stream_dropped_halfway_leaves_nothing_running() {
    let database = database().await;
    let router = Router::builder().primary(database.primary_url()).max_connections(1).connect().await.unwrap();
    let client = router.client().await.unwrap();
    let process: i32 = client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    let sql = "SELECT generate_series(1, 1000000000), repeat('x', 10000)";
    let mut rows = client.query_stream(sql, &[]).await.unwrap();
    rows.try_next().await.unwrap().unwrap();
    drop(rows);
    // At once, and not only when its user is gone. What would wait for all the rest is refused.
    sessions(&database, "state = 'active' AND query LIKE '%1000000000%'", 0).await;
    for error in [
        client.query("SELECT 1", &[]).await.unwrap_err(),
        client.query_stream("SELECT 1", &[]).await.unwrap_err(),
        client.token().await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(error.to_string().contains("get another one"), "{error}");
    }
    drop(client);
    // The next user has a connection of his own, though there may be only one.
    let client = timeout(HANG, router.client()).await.expect("no hang").unwrap();
    let other: i32 = client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    assert_ne!(other, process);
    sessions(&database, "query LIKE '%1000000000%'", 0).await;
}

/// How much of the answer has come by then makes no difference.
#[tokio::test]
async fn a_stream_whose_end_was_not_seen_has_not_come_to_it() {
    let database = database().await;
    let router = router(&database).await;
    let client = router.client().await.unwrap();
    let mut rows = client.query_stream("SELECT 1", &[]).await.unwrap();
    rows.try_next().await.unwrap().unwrap();
    sleep(Duration::from_millis(50)).await;
    drop(rows);
    assert_eq!(client.query("SELECT 1", &[]).await.unwrap_err().kind(), ErrorKind::Unavailable);
    let transaction = router.transaction().await.unwrap();
    let mut rows = transaction.query_stream("SELECT 1", &[]).await.unwrap();
    rows.try_next().await.unwrap().unwrap();
    drop(rows);
    assert!(transaction.commit().await.unwrap_err().to_string().contains("did not come to its end"));
}

#[tokio::test]
async fn an_error_in_the_middle_ends_the_stream_and_is_no_end_of_the_rows() {
    let database = database().await;
    let client = router(&database).await.client().await.unwrap();
    let mut rows = client.query_stream("SELECT 1 / (1000 - n) FROM generate_series(1, 2000) AS n", &[]).await.unwrap();
    let mut count = 0;
    let error = loop {
        match rows.next().await.expect("an error before the end") {
            Ok(_) => count += 1,
            Err(error) => break error,
        }
    };
    assert_eq!((count, error.sqlstate()), (999, Some("22012")), "{error}");
    assert!(rows.next().await.is_none());
    drop(rows);
    client.query("SELECT 1", &[]).await.unwrap();
    let error = client.query_stream("SELECT nonsense", &[]).await.unwrap_err();
    assert_eq!(error.sqlstate(), Some("42703"), "{error}");
    client.query("SELECT 1", &[]).await.unwrap();
}

#[tokio::test]
async fn a_stream_waits_no_longer_than_the_limit_for_the_next_rows() {
    const LIMIT: Duration = Duration::from_millis(1500);
    let database = database().await;
    let router = router(&database).await;
    let slow =
        "SELECT repeat('x', 100000), pg_sleep(CASE n WHEN 100 THEN 60 ELSE 0 END) FROM generate_series(1, 200) AS n";
    for level in [Consistency::Strong, Consistency::Eventual] {
        let client = router.client_at(level).await.unwrap().timeout(LIMIT);
        let kind = if client.role() == Role::Replica { ErrorKind::Timeout } else { ErrorKind::OutcomeUnknown };
        let mut rows = client.query_stream(slow, &[]).await.unwrap();
        // What the user does in between does not count.
        rows.try_next().await.unwrap().unwrap();
        sleep(2 * LIMIT).await;
        let error = timeout(HANG, rows.try_collect::<Vec<_>>()).await.expect("no hang").unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        // Whoever goes on does not wait for the rest.
        assert_eq!(client.query("SELECT 1", &[]).await.unwrap_err().kind(), ErrorKind::Unavailable);
    }
}

/// A row that was waited for is not lost with the wait.
#[tokio::test]
async fn waiting_for_a_row_may_be_given_up() {
    let database = database().await;
    let client = router(&database).await.client().await.unwrap();
    let sql = "SELECT n, repeat('x', 3000), pg_sleep(0.001) FROM generate_series(1, 1000) AS n";
    let mut rows = client.query_stream(sql, &[]).await.unwrap();
    let (mut numbers, mut given_up) = (Vec::new(), 0);
    loop {
        match rows.next().now_or_never() {
            Some(Some(row)) => numbers.push(row.unwrap().get::<_, i32>(0)),
            Some(None) => break,
            None => {
                given_up += 1;
                sleep(Duration::from_millis(1)).await;
            }
        }
    }
    assert_eq!(numbers, (1..=1000).collect::<Vec<_>>());
    assert!(given_up > 10, "{given_up}");
}

/// What a stream writes and sees, the session knows, as of any other call.
#[tokio::test]
async fn a_session_takes_in_what_a_stream_has_written() {
    let (cluster, router, _store) =
        crate::support::cluster_with_log(1, |builder| builder.replay_wait(Duration::from_millis(100))).await;
    let client = router.client().await.unwrap();
    client.batch_execute("CREATE TABLE kept (n int8)").await.unwrap();
    cluster.wait_until_caught_up().await.unwrap();
    cluster.replica(0).pause_replay().await.unwrap();
    let eventual = async || {
        let client = router.client_at(Consistency::Eventual).await.unwrap();
        (client.role(), client.query("SELECT n FROM kept", &[]).await.unwrap().len())
    };
    let insert = "INSERT INTO kept SELECT generate_series(1, 1000) RETURNING n";
    let to_the_end = with_session(&Session::new(), async {
        let client = router.client().await.unwrap();
        assert_eq!(client.query_stream(insert, &[]).await.unwrap().count().await, 1000);
        eventual().await
    });
    assert_eq!((eventual().await, to_the_end.await), ((Role::Replica, 0), (Role::Primary, 1000)));
    // Of one that was not taken to its end it is not known whether it has written.
    with_session(&Session::new(), async {
        let client = router.client().await.unwrap();
        let mut rows: RowStream<'_> = client.query_stream(insert, &[]).await.unwrap();
        rows.try_next().await.unwrap().unwrap();
        drop(rows);
        assert_eq!(eventual().await.0, Role::Primary);
    })
    .await;
    // Rows that were seen count as well: nobody goes back behind them, however their stream has ended.
    for ends in ["dropped", "failed"] {
        with_session(&Session::new(), async {
            let client = router.client_at(Consistency::Eventual).await.unwrap();
            assert_eq!(client.role(), Role::Replica);
            let sql = "SELECT 1 / (1000 - n) FROM generate_series(1, 2000) AS n";
            let mut rows = client.query_stream(sql, &[]).await.unwrap();
            match ends {
                "dropped" => drop(rows.try_next().await.unwrap().unwrap()),
                _ => while rows.try_next().await.is_ok_and(|row| row.is_some()) {},
            }
            drop(rows);
            drop(client);
            assert_eq!(eventual().await.0, Role::Primary, "{ends}");
        })
        .await;
    }
    with_session(&Session::new(), async {
        let client = router.client().await.unwrap();
        assert_eq!(client.query_stream("SELECT n FROM kept", &[]).await.unwrap().count().await % 1000, 0);
        assert_eq!(eventual().await.0, Role::Primary);
    })
    .await;
}

/// A limit that is over before the first row is told like one behind it, and whoever asks again does not wait for the rest.
#[tokio::test]
async fn a_stream_that_does_not_begin_in_time_leaves_nothing_running() {
    let database = database().await;
    let client = router(&database).await.client().await.unwrap().timeout(Duration::from_millis(500));
    let error = client.query_stream("SELECT pg_sleep(1000000)", &[]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{error}");
    sessions(&database, "state = 'active' AND query LIKE '%pg_sleep(1000000)%'", 0).await;
    assert_eq!(client.query("SELECT 1", &[]).await.unwrap_err().kind(), ErrorKind::Unavailable);
}

/// It is known where a stream to its end was: replicas that have got there go on serving the session.
#[tokio::test]
async fn a_stream_to_its_end_leaves_its_session_to_the_replicas() {
    let (cluster, router, _store) = crate::support::cluster_with_log(1, |builder| builder).await;
    router.client().await.unwrap().batch_execute("CREATE TABLE kept (n int8)").await.unwrap();
    with_session(&Session::new(), async {
        let client = router.client().await.unwrap();
        for sql in ["SELECT generate_series(1, 10)", "INSERT INTO kept VALUES (1) RETURNING n"] {
            client.query_stream(sql, &[]).await.unwrap().try_collect::<Vec<_>>().await.unwrap();
        }
        let mut copy = client.copy_in("COPY kept FROM STDIN").await.unwrap();
        copy.send("2\n").await.unwrap();
        copy.finish().await.unwrap();
        client.query_stream("SELECT nonsense", &[]).await.unwrap_err();
        drop(client);
        cluster.wait_until_caught_up().await.unwrap();
        let client = router.client_at(Consistency::Eventual).await.unwrap();
        assert_eq!((client.role(), client.query("SELECT n FROM kept", &[]).await.unwrap().len()), (Role::Replica, 2));
    })
    .await;
}

#[tokio::test]
async fn a_transaction_streams_what_it_has_written_itself() {
    let database = database().await;
    let router = router(&database).await;
    router.client().await.unwrap().batch_execute("CREATE TABLE kept (n int8)").await.unwrap();
    let count = async || {
        let client = router.client().await.unwrap();
        client.query_one("SELECT count(*) FROM kept", &[]).await.unwrap().get::<_, i64>(0)
    };
    let transaction = router.transaction().await.unwrap();
    let insert = "INSERT INTO kept SELECT generate_series(1, 1000) RETURNING n";
    let mut rows = transaction.query_stream(insert, &[]).await.unwrap();
    rows.try_next().await.unwrap().unwrap();
    let error = transaction.execute("DELETE FROM kept", &[]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    assert_eq!(rows.count().await, 999);
    let seen = transaction.query_stream("SELECT n FROM kept", &[]).await.unwrap();
    assert_eq!((seen.count().await, count().await), (1000, 0));
    transaction.commit().await.unwrap();
    assert_eq!(count().await, 1000);
    // Dropped in the middle, it cannot be committed, and is over at once.
    for commits in [true, false] {
        let transaction = router.transaction().await.unwrap();
        transaction.execute("DELETE FROM kept", &[]).await.unwrap();
        let sql = "SELECT generate_series(1, 1000000000), repeat('x', 10000)";
        let mut rows = transaction.query_stream(sql, &[]).await.unwrap();
        rows.try_next().await.unwrap().unwrap();
        drop(rows);
        assert_eq!(transaction.execute("SELECT 1", &[]).await.unwrap_err().kind(), ErrorKind::Unavailable);
        if commits {
            let error = transaction.commit().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Database, "{error}");
            assert!(error.to_string().contains("did not come to its end"), "{error}");
        } else {
            timeout(HANG, transaction.rollback()).await.expect("no hang").unwrap();
        }
        sessions(&database, "query LIKE '%1000000000%'", 0).await;
        assert_eq!(count().await, 1000);
    }
}

#[tokio::test]
async fn a_stream_runs_in_a_task_of_its_own() {
    let database = database().await;
    let router = router(&database).await;
    let task = tokio::spawn(async move {
        let client = router.client().await?;
        let rows = client.query_stream("SELECT generate_series(1, 10)", &[]).await?;
        rows.try_fold(0, async |sum, row| Ok(sum + row.get::<_, i32>(0))).await
    });
    assert_eq!(task.await.unwrap().unwrap(), 55);
}
