//! Whatever SQL is written in a session, and whatever its outcome: later reads see it, from a replica or the primary.

use std::time::Duration;

use futures_util::{FutureExt, future::join};
use mainstem::{
    AppendCondition, Client, Consistency, Error, ErrorKind, EventStore, Filter, PostgresEventStore, Result, Role,
    Router, Session,
    testing::{AppendFault, FailingEventStore, LocalCluster},
    with_eventual_consistency, with_session,
};
use serde_json::json;
use tokio::time::timeout;

use crate::support::{LogLock, cluster_with_log, event};

/// Far longer than anything here may take: what it ends would have hung.
const HANG: Duration = Duration::from_secs(60);

/// A router whose replica stays behind, with a table that it has.
async fn behind() -> (LocalCluster, Router) {
    let (cluster, router, _store) =
        cluster_with_log(1, |builder| builder.replay_wait(Duration::from_millis(100))).await;
    let client = router.client().await.unwrap();
    let sql = "CREATE TABLE jobs (n int8, started_at timestamptz); INSERT INTO jobs VALUES (0)";
    client.batch_execute(sql).await.unwrap();
    cluster.wait_until_caught_up().await.unwrap();
    cluster.replica(0).pause_replay().await.unwrap();
    (cluster, router)
}

/// Who serves an eventual read, and how many jobs it sees.
async fn jobs(router: &Router) -> (Role, i64) {
    with_eventual_consistency(async {
        let client = router.client().await.unwrap();
        let count = client.query_one("SELECT count(*) FROM jobs", &[]).await.unwrap();
        (client.role(), count.get(0))
    })
    .await
}

/// Has this write a job in a session of its own; then an eventual read shows it.
async fn seen(router: &Router, what: &str, write: impl AsyncFnOnce(&Client) -> Result<()>) {
    let before = jobs(router).await;
    assert_eq!(before.0, Role::Replica, "without a session nobody asks for more: {what}");
    let strong = router.client_at(Consistency::Strong).await.unwrap();
    let count = async || strong.query_one("SELECT count(*) FROM jobs", &[]).await.unwrap().get::<_, i64>(0);
    let written = count().await;
    let after = with_session(&Session::new(), async {
        let client = router.client().await.unwrap();
        write(&client).await.unwrap_or_else(|error| panic!("{what}: {}", error.report()));
        drop(client);
        jobs(router).await
    })
    .await;
    assert_eq!((after, count().await), ((Role::Primary, written + 1), written + 1), "{what}");
}

const INSERT: &str = "INSERT INTO jobs VALUES (1)";

#[tokio::test]
async fn a_session_sees_its_writes_whatever_their_sql_looks_like() {
    let (_cluster, router) = behind().await;
    seen(&router, "a name with start in it", async |client| {
        client.execute("INSERT INTO jobs (n, started_at) VALUES (1, now())", &[]).await.map(drop)
    })
    .await;
    for before in [
        &["DO $$ BEGIN PERFORM 1; END $$"][..],
        &["BEGIN", "SELECT 1", "COMMIT"],
        &["BEGIN; SELECT 1", "ROLLBACK"],
        &["START TRANSACTION", "COMMIT AND CHAIN", "END"],
        &["BEGIN", "SAVEPOINT a", "ROLLBACK TO a", "COMMIT"],
    ] {
        seen(&router, &format!("behind {before:?}"), async |client| {
            for sql in before {
                client.batch_execute(sql).await?;
            }
            client.execute(INSERT, &[]).await.map(drop)
        })
        .await;
    }
    seen(&router, "in a transaction in SQL", async |client| {
        client.batch_execute("BEGIN").await?;
        client.execute(INSERT, &[]).await?;
        client.batch_execute("COMMIT").await
    })
    .await;
    seen(&router, "in a transaction that another one follows", async |client| {
        client.batch_execute("BEGIN").await?;
        client.execute(INSERT, &[]).await?;
        client.batch_execute("COMMIT AND CHAIN").await
    })
    .await;
    // Whether a transaction is open is not known: so it is asked nobody, and the primary serves.
    seen(&router, "behind an end that has failed", async |client| {
        client.batch_execute("BEGIN").await?;
        client.batch_execute("COMMIT; SELECT broken").await.unwrap_err();
        client.execute(INSERT, &[]).await.map(drop)
    })
    .await;
    let client = router.client_at(Consistency::Strong).await.unwrap();
    let procedure =
        format!("CREATE PROCEDURE half() LANGUAGE plpgsql AS $$BEGIN {INSERT}; COMMIT; RAISE 'broken'; END$$");
    client.batch_execute(&procedure).await.unwrap();
    drop(client);
    for half in [
        format!("BEGIN; {INSERT}; COMMIT; SELECT broken"),
        format!("BEGIN; {INSERT}; COMMIT AND CHAIN; SELECT broken"),
        "CALL half()".to_owned(),
    ] {
        seen(&router, &format!("committed by a call that has failed then: {half}"), async |client| {
            client.batch_execute(&half).await.unwrap_err();
            Ok(())
        })
        .await;
    }
    seen(&router, "sent beside the end of a transaction", async |client| {
        client.batch_execute("BEGIN").await?;
        let (end, insert) = join(client.batch_execute("COMMIT"), client.execute(INSERT, &[])).await;
        end.and_then(|()| insert.map(drop))
    })
    .await;
}

#[tokio::test]
async fn a_session_sees_what_was_committed_without_waiting_for_the_disk() {
    let (cluster, router) = behind().await;
    let local = "SET LOCAL synchronous_commit = off";
    for _ in 0..5 {
        seen(&router, "in SQL", async |client| {
            client.batch_execute(&format!("BEGIN; {local}; {INSERT}; COMMIT")).await
        })
        .await;
        // The replica has all that is on the disk of the primary, and no more.
        catch_up(&cluster).await;
        let client = router.client_at(Consistency::Strong).await.unwrap();
        client.batch_execute(&format!("BEGIN; {local}; {INSERT}; COMMIT")).await.unwrap();
        let token = client.token().await.unwrap();
        assert_eq!(router.client_at(Consistency::AtLeast(token)).await.unwrap().role(), Role::Primary);
        catch_up(&cluster).await;
        let session = Session::new();
        let (token, seen) = with_session(&session, async {
            let transaction = router.transaction().await.unwrap();
            transaction.batch_execute(local).await.unwrap();
            transaction.execute(INSERT, &[]).await.unwrap();
            let token = transaction.commit_with_token().await.unwrap();
            (token, jobs(&router).await)
        })
        .await;
        assert_eq!(seen.0, Role::Primary);
        let by_token = router.client_at(Consistency::AtLeast(token)).await.unwrap();
        assert_eq!(by_token.role(), Role::Primary);
        catch_up(&cluster).await;
    }
}

/// And no further.
async fn catch_up(cluster: &LocalCluster) {
    cluster.replica(0).resume_replay().await.unwrap();
    cluster.wait_until_caught_up().await.unwrap();
    cluster.replica(0).pause_replay().await.unwrap();
}

#[tokio::test]
async fn a_session_sees_what_it_gave_up_and_what_became_of_it() {
    let (_cluster, router) = behind().await;
    let session = Session::new();
    with_session(&session, async {
        let client = router.client().await.unwrap();
        let slow = "INSERT INTO jobs SELECT 1 FROM pg_sleep(20)";
        timeout(Duration::from_millis(100), client.execute(slow, &[])).await.unwrap_err();
        assert_eq!(jobs(&router).await.0, Role::Primary, "a statement was given up");
    })
    .await;
    let session = Session::new();
    with_session(&session, async {
        let transaction = router.transaction().await.unwrap();
        transaction.execute(INSERT, &[]).await.unwrap();
        // Polled once, so that it is sent.
        assert!(transaction.commit().now_or_never().is_none());
        assert_eq!(jobs(&router).await.0, Role::Primary, "a commit was given up");
    })
    .await;
}

#[tokio::test]
async fn a_session_sees_what_a_transaction_has_read_that_was_rolled_back() {
    let (_cluster, router) = behind().await;
    router.client().await.unwrap().execute(INSERT, &[]).await.unwrap();
    with_session(&Session::new(), async {
        let transaction = router.transaction().read_only().await.unwrap();
        let count: i64 = transaction.query_one("SELECT count(*) FROM jobs", &[]).await.unwrap().get(0);
        transaction.rollback().await.unwrap();
        assert_eq!(jobs(&router).await, (Role::Primary, count));
        // One that has failed is rolled back as well.
        for round in 0..3 {
            let transaction = router.transaction().await.unwrap();
            transaction.execute("SELECT 1 / 0", &[]).await.unwrap_err();
            transaction.rollback().await.unwrap_or_else(|error| panic!("{round}: {}", error.report()));
        }
    })
    .await;
}

#[tokio::test]
async fn a_session_sees_an_append_whose_outcome_is_not_known() {
    let (_cluster, router) = behind().await;
    let log = PostgresEventStore::new(&router);
    let store = FailingEventStore::new(log.clone());
    let append = || store.append([event("A", json!({}))], AppendCondition::none());
    let read = async || {
        let history = store.query(&Filter::any_event()).consistency(Consistency::Eventual).await.unwrap();
        (history.role(), history.len())
    };
    assert_eq!(read().await, (Role::Replica, 0));
    with_session(&Session::new(), async {
        let lost = Error::new(ErrorKind::OutcomeUnknown, "the answer was lost");
        store.fail_next_append(AppendFault::AfterCommit(lost));
        assert!(append().await.unwrap_err().is_outcome_unknown());
        assert_eq!(read().await, (Role::Primary, 1), "the answer was lost");
        // The primary has told where it is: from now on that will do.
        assert_eq!(read().await, (Role::Primary, 1));
    })
    .await;
    with_session(&Session::new(), async {
        let lock = LogLock::take(&router).await;
        timeout(Duration::from_millis(300), append().into_future()).await.unwrap_err();
        lock.release().await;
        assert_eq!(read().await.0, Role::Primary, "it was given up");
    })
    .await;
    // Of an append that was refused there is nothing to see.
    let session = Session::new();
    with_session(&session, async {
        let refused = store.append([event("A", json!({}))], AppendCondition::fail_if_events_match(Filter::any_event()));
        assert!(refused.await.unwrap_err().is_conflict());
        drop(append());
        drop(append().into_future());
        assert!(session.token().is_empty());
        assert_eq!(read().await.0, Role::Replica);
    })
    .await;
    timeout(HANG, log.close()).await.expect("no hang");
}
