//! `COPY`, into a table and out of one.

use std::time::Duration;

use futures_util::TryStreamExt;
use mainstem::{Client, Consistency, ErrorKind, Role, Router, Session, testing::LocalCluster, with_session};
use tokio::time::timeout;

use crate::support::{cluster_with_log, database, router, sessions, started};

/// Far longer than anything here may take: what it ends would have hung.
const HANG: Duration = Duration::from_secs(60);

const IN: &str = "COPY kept (n, name) FROM STDIN";

/// A router whose only connection to its primary is the one that is looked at, and a table.
async fn one_connection(url: impl Into<String>) -> Router {
    let router = Router::builder().primary(url).max_connections(1).connect().await.unwrap();
    router.client().await.unwrap().batch_execute("CREATE TABLE kept (n int8, name text)").await.unwrap();
    router
}

async fn count(router: &Router) -> i64 {
    let client = timeout(HANG, router.client()).await.expect("no hang").unwrap();
    client.query_one("SELECT count(*) FROM kept", &[]).await.unwrap().get(0)
}

async fn process(client: &Client) -> i32 {
    client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn rows_copied_in_are_copied_out_unchanged() {
    let database = database().await;
    let router = one_connection(database.primary_url()).await;
    let client = router.client().await.unwrap();
    let before = process(&client).await;
    let mut copy = client.copy_in(IN).await.unwrap();
    let lines: Vec<String> = (0..50_000).map(|n| format!("{n}\tname {n}\n")).collect();
    let text = lines.concat();
    // Parts end where they like.
    for part in text.as_bytes().chunks(1234) {
        copy.send(part.to_vec()).await.unwrap();
    }
    assert_eq!(copy.finish().await.unwrap(), 50_000);
    let data = client.copy_out("COPY (SELECT * FROM kept ORDER BY n) TO STDOUT").await.unwrap();
    let pieces: Vec<_> = data.try_collect().await.unwrap();
    assert_eq!((pieces.len(), pieces.concat()), (50_000, text.into_bytes()));
    // Nothing at all is something, too.
    assert_eq!(client.copy_in(IN).await.unwrap().finish().await.unwrap(), 0);
    let nothing = client.copy_out("COPY (SELECT 1 WHERE false) TO STDOUT").await.unwrap();
    assert_eq!(nothing.try_collect::<Vec<_>>().await.unwrap().len(), 0);
    assert_eq!(process(&client).await, before);
    drop(client);
    assert_eq!(process(&router.client().await.unwrap()).await, before, "and the connection is kept");
}

/// The driver's own call ends before the commit does.
#[tokio::test]
async fn a_copy_that_cannot_be_committed_is_an_error() {
    let database = database().await;
    let router = one_connection(database.primary_url()).await;
    let sql = "ALTER TABLE kept ADD UNIQUE (n) DEFERRABLE INITIALLY DEFERRED";
    router.client().await.unwrap().batch_execute(sql).await.unwrap();
    let client = router.client().await.unwrap();
    let mut copy = client.copy_in(IN).await.unwrap();
    copy.send("1\ta\n1\tb\n").await.unwrap();
    let error = copy.finish().await.unwrap_err();
    assert_eq!((error.kind(), error.sqlstate()), (ErrorKind::Database, Some("23505")), "{error}");
    drop(client);
    assert_eq!(count(&router).await, 0);
    // The same of one that writes what it gives out.
    let copy = "COPY (INSERT INTO kept VALUES (2, 'a'), (2, 'b') RETURNING n) TO STDOUT";
    let client = router.client().await.unwrap();
    let error = client.copy_out(copy).await.unwrap().try_collect::<Vec<_>>().await.unwrap_err();
    assert_eq!((error.kind(), error.sqlstate()), (ErrorKind::Database, Some("23505")), "{error}");
    client.query("SELECT 1", &[]).await.unwrap();
    drop(client);
    assert_eq!(count(&router).await, 0);
}

/// The driver and the server may count their messages differently then: an answer behind it could be another call's.
#[tokio::test]
async fn after_a_failed_copy_the_connection_is_not_used() {
    let database = database().await;
    let router = one_connection(database.primary_url()).await;
    let mut last = 0;
    let trigger = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not here'; END $$; \
                   CREATE TABLE refused (n int8); \
                   CREATE TRIGGER refuse BEFORE INSERT ON refused FOR STATEMENT EXECUTE FUNCTION refuse()";
    router.client().await.unwrap().batch_execute(trigger).await.unwrap();
    for (what, sql, data, state) in [
        ("the data are wrong", IN, "x\ta\n", "22P02"),
        ("it is refused before its data", "COPY refused FROM STDIN", "1\n", "P0001"),
        ("it is refused at its start", "COPY pg_catalog.pg_stat_activity FROM STDIN", "1\n", "42809"),
    ] {
        let client = router.client().await.unwrap();
        assert_ne!(process(&client).await, std::mem::replace(&mut last, process(&client).await), "{what}");
        let error = match client.copy_in(sql).await {
            Ok(mut copy) => {
                copy.send(data).await.unwrap();
                copy.finish().await.unwrap_err()
            }
            Err(error) => error,
        };
        assert_eq!(error.sqlstate(), Some(state), "{what}: {}", error.report());
        let error = client.query("SELECT 1", &[]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{what}: {error}");
        drop(client);
        assert_eq!(count(&router).await, 0, "{what}");
    }
    // What the parser says comes before anything is started.
    let client = router.client().await.unwrap();
    let before = process(&client).await;
    assert_eq!(client.copy_in("COPY kept (n,) FROM STDIN").await.unwrap_err().sqlstate(), Some("42601"));
    assert_eq!(process(&client).await, before);
}

#[tokio::test]
async fn a_copy_that_is_dropped_writes_nothing() {
    let database = database().await;
    let router = one_connection(database.primary_url()).await;
    let client = router.client().await.unwrap();
    let mut copy = client.copy_in(IN).await.unwrap();
    for n in 0..10_000 {
        copy.send(format!("{n}\tname\n")).await.unwrap();
    }
    drop(copy);
    client.query("SELECT 1", &[]).await.unwrap_err();
    drop(client);
    assert_eq!(count(&router).await, 0);
    sessions(&database, "query LIKE 'COPY kept%'", 0).await;
    // In the middle of what comes out, too.
    let client = router.client().await.unwrap();
    let sql = "COPY (SELECT repeat('x', 10000), generate_series(1, 1000000000)) TO STDOUT";
    let mut data = client.copy_out(sql).await.unwrap();
    data.try_next().await.unwrap().unwrap();
    client.query("SELECT 1", &[]).await.unwrap_err();
    drop(data);
    drop(client);
    assert_eq!(count(&router).await, 0);
    sessions(&database, "query LIKE '%1000000000%'", 0).await;
}

#[tokio::test]
async fn a_transaction_copies_and_takes_it_back() {
    let database = database().await;
    let router = router(&database).await;
    let client = router.client().await.unwrap();
    client.batch_execute("CREATE TABLE kept (n int8 PRIMARY KEY, name text)").await.unwrap();
    drop(client);
    for commits in [false, true] {
        let transaction = router.transaction().await.unwrap();
        let mut copy = transaction.copy_in(IN).await.unwrap();
        copy.send("1\tAda\n").await.unwrap();
        assert_eq!(copy.finish().await.unwrap(), 1);
        let out: Vec<_> = transaction.copy_out("COPY kept TO STDOUT").await.unwrap().try_collect().await.unwrap();
        assert_eq!(out.concat(), b"1\tAda\n");
        if commits {
            transaction.commit().await.unwrap();
        } else {
            transaction.rollback().await.unwrap();
        }
        assert_eq!(count(&router).await, i64::from(commits));
    }
    // One that has failed takes the transaction with it, whichever way that ends.
    for commits in [false, true] {
        let transaction = router.transaction().await.unwrap();
        transaction.execute("INSERT INTO kept VALUES (2, 'Ben')", &[]).await.unwrap();
        let mut copy = transaction.copy_in(IN).await.unwrap();
        copy.send("1\tAda\n").await.unwrap();
        assert_eq!(copy.finish().await.unwrap_err().sqlstate(), Some("23505"));
        if commits {
            let error = timeout(HANG, transaction.commit()).await.expect("no hang").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Database, "{error}");
            assert!(error.to_string().contains("did not come to its end"), "{error}");
        } else {
            timeout(HANG, transaction.rollback()).await.expect("no hang").unwrap();
        }
        assert_eq!(count(&router).await, 1);
    }
}

/// Who has rolled his work back himself has not failed.
#[tokio::test]
async fn work_that_takes_a_failed_copy_back_by_itself_is_not_committed_behind_it() {
    let database = database().await;
    let router = one_connection(database.primary_url()).await;
    let run = router.transaction().run(async |transaction| {
        transaction.execute("INSERT INTO kept VALUES (2, 'Ben')", &[]).await?;
        let mut copy = transaction.copy_in(IN).await?;
        copy.send("x\tAda\n").await?;
        let refused = copy.finish().await.unwrap_err();
        transaction.rollback().await?;
        Ok::<_, mainstem::Error>(refused)
    });
    let refused = timeout(HANG, run).await.expect("no hang").unwrap();
    assert_eq!(refused.sqlstate(), Some("22P02"));
    assert_eq!(count(&router).await, 0);
}

/// What is no COPY from the client would be executed, and told as not written.
#[tokio::test]
async fn nothing_else_is_taken_for_a_copy() {
    let database = database().await;
    let router = one_connection(database.primary_url()).await;
    let client = router.client().await.unwrap();
    for sql in ["INSERT INTO kept VALUES (1, 'Ada')", "COPY kept FROM PROGRAM 'echo'", "COPY kept TO STDOUT"] {
        let error = client.copy_in(sql).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{sql}: {error}");
    }
    assert_eq!(client.query("SELECT 1 FROM kept", &[]).await.unwrap().len(), 0);
    // The other way round, the server's answer is not what it should be: that costs the connection, and may have written.
    let error = client.copy_out("INSERT INTO kept VALUES (1, 'Ada')").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{error}");
    assert_eq!(client.query("SELECT 1", &[]).await.unwrap_err().kind(), ErrorKind::Unavailable);
    drop(client);
    // The server waits for data here: whatever comes would be taken for them, and its answers for others'.
    let client = router.client().await.unwrap();
    let mut rows = client.query_stream("COPY kept FROM STDIN", &[]).await.unwrap();
    assert_eq!(rows.try_next().await.unwrap_err().kind(), ErrorKind::OutcomeUnknown);
    drop(rows);
    assert_eq!(client.query("SELECT 1", &[]).await.unwrap_err().kind(), ErrorKind::Unavailable);
    drop(client);
    assert_eq!(count(&router).await, 1);
}

#[tokio::test]
async fn a_part_that_is_too_large_is_refused_and_the_rest_goes_on() {
    let database = database().await;
    let router = one_connection(database.primary_url()).await;
    let client = router.client().await.unwrap();
    let mut copy = client.copy_in(IN).await.unwrap();
    copy.send("1\tAda\n").await.unwrap();
    let error = copy.send(vec![b' '; 64 * 1024 * 1024 + 1]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    copy.send("2\tBen\n").await.unwrap();
    assert_eq!(copy.finish().await.unwrap(), 2);
}

#[tokio::test]
async fn a_session_takes_in_what_was_copied() {
    let (cluster, router, _store) =
        cluster_with_log(1, |builder| builder.replay_wait(Duration::from_millis(100))).await;
    router.client().await.unwrap().batch_execute("CREATE TABLE kept (n int8, name text)").await.unwrap();
    cluster.wait_until_caught_up().await.unwrap();
    let replica = router.client_at(Consistency::Eventual).await.unwrap();
    let error = replica.copy_in(IN).await.unwrap_err();
    assert_eq!((replica.role(), error.kind()), (Role::Replica, ErrorKind::ReadOnly), "{error}");
    drop(replica);
    cluster.replica(0).pause_replay().await.unwrap();
    let role = async || router.client_at(Consistency::Eventual).await.unwrap().role();
    assert_eq!(role().await, Role::Replica);
    with_session(&Session::new(), async {
        let client = router.client().await.unwrap();
        let mut copy = client.copy_in(IN).await.unwrap();
        copy.send("1\tAda\n").await.unwrap();
        copy.finish().await.unwrap();
        assert_eq!(role().await, Role::Primary, "copied in");
    })
    .await;
    with_session(&Session::new(), async {
        let client = router.client().await.unwrap();
        client.copy_out("COPY kept TO STDOUT").await.unwrap().try_collect::<Vec<_>>().await.unwrap();
        assert_eq!(role().await, Role::Primary, "copied out");
    })
    .await;
}

/// A server that is gone is told as such, at each step, and nobody waits for it without a limit.
#[tokio::test]
async fn a_copy_ends_with_its_server() {
    let cluster: LocalCluster = started(LocalCluster::builder()).await;
    let router = one_connection(cluster.primary().url()).await;
    let client = router.client().await.unwrap();
    let mut copy = client.copy_in(IN).await.unwrap();
    copy.send("1\tAda\n").await.unwrap();
    cluster.primary().stop().await.unwrap();
    let sent = timeout(HANG, async {
        // The driver notices when it writes.
        loop {
            if let Err(error) = copy.send("2\tBen\n".repeat(1000)).await {
                break error;
            }
        }
    });
    let error = sent.await.expect("no hang");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", error.report());
    // What was lost on the way is not left out.
    assert_eq!(copy.send("2\tBen\n").await.unwrap_err().to_string(), error.to_string());
    let finished = timeout(HANG, copy.finish()).await.expect("no hang").unwrap_err();
    assert_eq!(finished.to_string(), error.to_string());
}

/// Which way the commit is asked for makes no difference to what an acknowledgement means.
#[tokio::test]
async fn a_commit_that_did_not_wait_for_its_standby_is_an_unknown_outcome_here_too() {
    let cluster = started(LocalCluster::builder()).await;
    let admin = Router::builder().primary(cluster.primary().url()).connect().await.unwrap();
    let admin = admin.client().await.unwrap();
    let create = "CREATE TABLE kept (n int8, name text)";
    for sql in [create, "ALTER SYSTEM SET synchronous_standby_names = '*'", "SELECT pg_reload_conf()"] {
        admin.batch_execute(sql).await.unwrap();
    }
    cluster.wait_until_caught_up().await.unwrap();
    cluster.replica(0).freeze().await.unwrap();
    let router = Router::builder().primary(cluster.primary().url()).connect().await.unwrap();
    for (what, how) in [("rows", 0), ("copied in", 1), ("copied out", 2)] {
        let client = router.client().await.unwrap();
        let write = async {
            // More than the server holds back until the commit: the answer has begun before it.
            let insert =
                "INSERT INTO kept SELECT n, repeat('x', 100) FROM generate_series(1, 1000) AS n RETURNING n, name";
            match how {
                0 => client.query_stream(insert, &[]).await?.try_collect::<Vec<_>>().await.map(drop),
                1 => {
                    let mut copy = client.copy_in(IN).await?;
                    copy.send("1\tAda\n").await?;
                    copy.finish().await.map(drop)
                }
                _ => client
                    .copy_out(&format!("COPY ({insert}) TO STDOUT"))
                    .await?
                    .try_collect::<Vec<_>>()
                    .await
                    .map(drop),
            }
        };
        let cancel = "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
        let cancelled = async { while admin.query_one(cancel, &[]).await.unwrap().get::<_, i64>(0) == 0 {} };
        let (outcome, ()) = timeout(HANG, async { tokio::join!(write, cancelled) }).await.expect("no hang");
        let error = outcome.expect_err(what);
        assert!(error.is_outcome_unknown(), "{what}: {}", error.report());
    }
}
