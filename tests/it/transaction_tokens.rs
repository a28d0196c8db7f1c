//! A transaction's token: reads elsewhere contain what it wrote and saw, and it costs no extra round trip.

use std::time::Duration;

use mainstem::{
    Consistency, Error, ErrorKind, Isolation, Result, Role, Router, Session, Token, Transaction,
    testing::{Direction, LocalCluster, TestDatabase},
    with_eventual_consistency, with_session,
};
use tokio::time::Instant;

use crate::support::{cluster, database, started};

/// Far longer than anything here may take: what it ends would have hung.
const HANG: Duration = Duration::from_secs(60);

/// A router that waits as long as the replicas take on a busy machine, and a table that they all have.
async fn kept() -> (TestDatabase<'static>, Router) {
    let database = database().await;
    let builder = Router::builder().primary(database.primary_url()).replicas(database.replica_urls());
    let router = builder.acquire_timeout(HANG).replay_wait(HANG).connect().await.unwrap();
    router.client().await.unwrap().batch_execute("CREATE TABLE kept (n int8)").await.unwrap();
    cluster().await.wait_until_caught_up().await.unwrap();
    (database, router)
}

async fn insert(transaction: &Transaction) -> Result<()> {
    transaction.execute("INSERT INTO kept VALUES ($1)", &[&1_i64]).await.map(drop)
}

/// Who serves a read at least as new as this, and how many rows it sees.
async fn read(router: &Router, token: Token) -> (Role, i64) {
    let client = router.client_at(Consistency::AtLeast(token)).await.unwrap();
    let count = client.query_one("SELECT count(*) FROM kept", &[]).await.unwrap();
    (client.role(), count.get(0))
}

#[tokio::test]
async fn replicas_asked_with_a_transactions_token_show_what_it_committed() {
    let (_database, router) = kept().await;
    for written in 1..=30 {
        let token = if written % 3 == 0 {
            let work = router.transaction().run(async |transaction| {
                insert(&transaction).await?;
                transaction.commit_with_token().await
            });
            work.await.unwrap()
        } else {
            let transaction = router.transaction().await.unwrap();
            insert(&transaction).await.unwrap();
            transaction.commit_with_token().await.unwrap()
        };
        assert_eq!(read(&router, token).await, (Role::Replica, written));
    }
}

#[tokio::test]
async fn a_transaction_that_has_read_on_a_replica_gives_a_token_of_what_it_saw() {
    let (_database, router) = kept().await;
    let transaction = router.transaction().await.unwrap();
    insert(&transaction).await.unwrap();
    let written = transaction.commit_with_token().await.unwrap();
    let reading = router.transaction().consistency(Consistency::AtLeast(written)).await.unwrap();
    assert_eq!(reading.role(), Role::Replica);
    reading.query("SELECT FROM kept", &[]).await.unwrap();
    let seen = reading.commit_with_token().await.unwrap();
    assert_ne!(seen, Token::new());
    assert_eq!(read(&router, seen).await, (Role::Replica, 1));
}

#[tokio::test]
async fn in_a_session_the_token_is_of_this_commit_and_the_session_has_it_as_well() {
    let (_database, router) = kept().await;
    let before = router.client().await.unwrap().token().await.unwrap();
    let session = Session::new();
    let elsewhere = Token::of_log(7, mainstem::Mark::new(3, mainstem::EventId::new()));
    session.see(&elsewhere);
    let token = with_session(&session, async {
        let transaction = router.transaction().await.unwrap();
        insert(&transaction).await.unwrap();
        transaction.commit_with_token().await.unwrap()
    });
    let token = token.await;
    assert!(token != before && token.merge(&before) == token, "it is behind what was there before");
    assert_eq!(session.token(), elsewhere.merge(&token));
    let in_session = with_session(&session, with_eventual_consistency(async { router.client().await.unwrap() }));
    drop(in_session.await);
    assert_eq!(read(&router, token).await, (Role::Replica, 1));
}

#[tokio::test]
async fn a_commit_that_fails_gives_no_token() {
    let (_database, router) = kept().await;
    let transaction = router.transaction().await.unwrap();
    transaction.query("SELECT 1 / 0", &[]).await.unwrap_err();
    let error = transaction.commit_with_token().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Database, "{}", error.report());
    // What it is done again for is found out here as well.
    let attempts = std::sync::atomic::AtomicU32::new(0);
    let lost = router.transaction().max_attempts(2).run(async |transaction| {
        attempts.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let raised = "DO $$ BEGIN RAISE EXCEPTION 'lost' USING ERRCODE = '40001'; END $$";
        transaction.batch_execute(raised).await.unwrap_err();
        transaction.commit_with_token().await
    });
    lost.await.unwrap_err();
    assert_eq!(attempts.into_inner(), 2);
}

#[tokio::test]
async fn the_token_comes_with_the_answer_to_the_commit_and_who_wants_none_asks_for_nothing() {
    const DELAY: Duration = Duration::from_millis(500);
    let (database, _router) = kept().await;
    let proxy = cluster().await.primary().proxy().unwrap();
    let builder = Router::builder().primary(database.url_through(&proxy)).max_connections(1);
    let far = builder.acquire_timeout(HANG).probe_interval(None).connect().await.unwrap();
    let begun = async || {
        proxy.delay(Direction::ToClient, Duration::ZERO);
        let transaction = far.transaction().await?;
        insert(&transaction).await?;
        proxy.delay(Direction::ToClient, DELAY);
        Ok::<_, Error>((transaction, Instant::now()))
    };
    // The question is prepared once on each connection: it would be here, in a round trip of its own.
    let (transaction, since) = begun().await.unwrap();
    transaction.commit().await.unwrap();
    assert!((DELAY..2 * DELAY).contains(&since.elapsed()), "{:?}", since.elapsed());
    let (transaction, _) = begun().await.unwrap();
    transaction.commit_with_token().await.unwrap();
    let (transaction, since) = begun().await.unwrap();
    transaction.commit_with_token().await.unwrap();
    assert!((DELAY..2 * DELAY).contains(&since.elapsed()), "{:?}", since.elapsed());
    proxy.delay(Direction::ToClient, Duration::ZERO);
}

/// The server would say of a ROLLBACK where there is nothing to roll back.
#[tokio::test]
async fn nothing_is_rolled_back_behind_an_end_of_the_work_s_own() {
    let cluster = started(LocalCluster::builder().replicas(0)).await;
    let router = Router::builder().primary(cluster.primary().url()).connect().await.unwrap();
    router.client().await.unwrap().batch_execute("CREATE TABLE kept (n int8)").await.unwrap();
    let run = || router.transaction().isolation(Isolation::Serializable);
    let committed = run().run(async |transaction| {
        insert(&transaction).await?;
        transaction.commit().await
    });
    committed.await.unwrap();
    let with_token = run().run(async |transaction| {
        insert(&transaction).await?;
        transaction.commit_with_token().await.map(drop)
    });
    with_token.await.unwrap();
    let rolled_back = run().run(async |transaction| {
        insert(&transaction).await?;
        transaction.rollback().await
    });
    rolled_back.await.unwrap();
    // Behind it the sessions have been put in order.
    let client = router.client().await.unwrap();
    let warned = "there is no transaction in progress";
    assert_eq!(client.query_one("SELECT count(*) FROM kept", &[]).await.unwrap().get::<_, i64>(0), 2);
    drop((client, router));
    cluster.primary().stop().await.unwrap();
    let log = cluster.primary().log().unwrap();
    assert!(!log.contains(warned), "{log}");
    assert!(log.contains("shut down"), "it is the whole log: {log}");
}
