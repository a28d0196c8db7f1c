//! The router's transactions: their options, their end, and repeating them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use futures_util::future::{join_all, try_join_all};
use mainstem::{
    Consistency, Error, ErrorKind, Fallback, Isolation, Result, Role, Router, Transaction,
    testing::{Direction, TestDatabase},
    with_eventual_consistency,
};
use tokio::{
    sync::Barrier,
    task::yield_now,
    time::{Instant, sleep, timeout},
};

use crate::support::{cluster, database, router, sessions};

/// Far longer than anything here may take: what it ends would have hung.
const HANG: Duration = Duration::from_secs(60);

/// A database with a table of numbers by name: a and b, both 0.
pub(crate) async fn numbers() -> (TestDatabase<'static>, Router) {
    let database = database().await;
    let router = router(&database).await;
    let sql =
        "CREATE TABLE numbers (name text PRIMARY KEY, n int8 NOT NULL); INSERT INTO numbers VALUES ('a', 0), ('b', 0)";
    router.client().await.unwrap().batch_execute(sql).await.unwrap();
    cluster().await.wait_until_caught_up().await.unwrap();
    (database, router)
}

pub(crate) async fn add(transaction: &Transaction, name: &str) -> Result<()> {
    transaction.execute("UPDATE numbers SET n = n + 1 WHERE name = $1", &[&name]).await.map(drop)
}

pub(crate) async fn number(router: &Router, name: &str) -> i64 {
    let client = router.client_at(Consistency::Strong).await.unwrap();
    client.query_one("SELECT n FROM numbers WHERE name = $1", &[&name]).await.unwrap().get(0)
}

async fn setting(transaction: &Transaction, name: &str) -> String {
    transaction.query_one("SELECT current_setting($1)", &[&name]).await.unwrap().get(0)
}

#[tokio::test]
async fn only_committed_work_of_a_transaction_is_kept() {
    let (_database, router) = numbers().await;
    let transaction = router.transaction().await.unwrap();
    add(&transaction, "a").await.unwrap();
    assert_eq!(number(&router, "a").await, 0);
    transaction.commit().await.unwrap();
    assert_eq!(number(&router, "a").await, 1);
    let transaction = router.transaction().await.unwrap();
    add(&transaction, "a").await.unwrap();
    transaction.rollback().await.unwrap();
    let transaction = router.transaction().await.unwrap();
    add(&transaction, "a").await.unwrap();
    drop(transaction);
    let transaction = router.transaction().await.unwrap();
    add(&transaction, "a").await.unwrap();
    transaction.batch_execute("SAVEPOINT mine; UPDATE numbers SET n = 10; ROLLBACK TO mine").await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(number(&router, "a").await, 2);
}

#[tokio::test]
async fn nothing_of_it_reaches_the_next_user_of_the_connection() {
    let (database, _) = numbers().await;
    let builder = Router::builder().primary(database.primary_url()).max_connections(1).probe_interval(None);
    let router = builder.connect().await.unwrap();
    for is_committed in [true, false] {
        let transaction = router.transaction().await.unwrap();
        transaction.batch_execute("SET work_mem = '1MB'; SET LOCAL jit = on").await.unwrap();
        transaction.advisory_lock(1).await.unwrap();
        if is_committed {
            transaction.commit().await.unwrap()
        } else {
            drop(transaction)
        }
        let client = router.client().await.unwrap();
        let sql = "SELECT current_setting('work_mem'), current_setting('idle_in_transaction_session_timeout'), \
                   pg_current_xact_id_if_assigned() IS NULL, (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' \
                   AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))";
        let row = client.query_one(sql, &[]).await.unwrap();
        assert_ne!(row.get::<_, &str>(0), "1MB");
        assert_eq!((row.get::<_, &str>(1), row.get(2), row.get::<_, i64>(3)), ("0", true, 0));
    }
}

#[tokio::test]
async fn a_commit_that_rolls_back_is_an_error() {
    let (_database, router) = numbers().await;
    let transaction = router.transaction().await.unwrap();
    add(&transaction, "a").await.unwrap();
    transaction.batch_execute("SELECT 1/0").await.unwrap_err();
    let error = transaction.commit().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Database);
    assert!(error.to_string().contains("nothing of it was committed"), "{error}");
    // The server finds out at the commit.
    let client = router.client().await.unwrap();
    let sql = "CREATE TABLE later (name text REFERENCES numbers DEFERRABLE INITIALLY DEFERRED)";
    client.batch_execute(sql).await.unwrap();
    let transaction = router.transaction().await.unwrap();
    add(&transaction, "a").await.unwrap();
    transaction.batch_execute("INSERT INTO later VALUES ('nobody')").await.unwrap();
    let error = transaction.commit().await.unwrap_err();
    assert_eq!((error.kind(), error.sqlstate()), (ErrorKind::Database, Some("23503")), "{}", error.report());
    assert_eq!(number(&router, "a").await, 0);
}

#[tokio::test]
async fn sql_that_ends_its_transaction_is_refused_or_detected_at_commit() {
    let (_database, router) = numbers().await;
    let transaction = router.transaction().await.unwrap();
    for sql in ["COMMIT", "rollback", "SELECT 1; ROLLBACK"] {
        assert_eq!(transaction.batch_execute(sql).await.unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(transaction.execute(sql, &[]).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    add(&transaction, "a").await.unwrap();
    // What is a text by the rules of SQL is none by those of old, and nobody sees it before.
    transaction.batch_execute("SET LOCAL standard_conforming_strings = off").await.unwrap();
    transaction.batch_execute("SELECT 'a\\''; ROLLBACK; --'").await.unwrap();
    let error = transaction.commit().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{}", error.report());
}

#[tokio::test]
async fn transaction_options_take_effect_and_invalid_ones_are_refused() {
    let (_database, router) = numbers().await;
    let shown = async |transaction: Transaction| {
        let names = ["transaction_isolation", "transaction_read_only", "transaction_deferrable"];
        join_all(names.map(|name| setting(&transaction, name))).await.join(" ")
    };
    let begin = || router.transaction();
    assert_eq!(shown(begin().await.unwrap()).await, "read committed off off");
    assert_eq!(shown(begin().isolation(Isolation::RepeatableRead).await.unwrap()).await, "repeatable read off off");
    let serializable = begin().isolation(Isolation::Serializable);
    assert_eq!(shown(serializable.clone().await.unwrap()).await, "serializable off off");
    assert_eq!(shown(serializable.read_only().deferrable().await.unwrap()).await, "serializable on on");
    let transaction = begin().isolation(Isolation::ReadCommitted).read_only().await.unwrap();
    let error = add(&transaction, "a").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ReadOnly, "{}", error.report());
    for wrong in [
        begin().deferrable(),
        begin().isolation(Isolation::Serializable).deferrable(),
        begin().isolation(Isolation::Serializable).consistency(Consistency::Eventual),
        begin().max_attempts(0),
        begin().timeout(Duration::ZERO),
    ] {
        assert_eq!(wrong.await.unwrap_err().kind(), ErrorKind::InvalidInput);
    }
}

#[tokio::test]
async fn in_an_eventual_scope_it_reads_on_a_replica() {
    let (database, router) = numbers().await;
    // The scope at the time of the call, wherever it is awaited.
    let begin = with_eventual_consistency(async { router.transaction().isolation(Isolation::RepeatableRead) }).await;
    let transaction = begin.await.unwrap();
    assert_eq!(transaction.role(), Role::Replica);
    assert_eq!(transaction.query("SELECT FROM numbers", &[]).await.unwrap().len(), 2);
    transaction.commit().await.unwrap();
    // Also when the primary serves for them, it only reads.
    let alone = Router::builder().primary(database.primary_url()).fallback(Fallback::Unlimited);
    let alone = alone.connect().await.unwrap();
    let transaction = alone.transaction().consistency(Consistency::Eventual).await.unwrap();
    assert_eq!(transaction.role(), Role::Primary);
    assert_eq!(add(&transaction, "a").await.unwrap_err().kind(), ErrorKind::ReadOnly);
}

#[tokio::test]
async fn a_lock_that_nobody_else_would_see_is_refused() {
    let (_database, router) = numbers().await;
    let transaction = router.transaction().consistency(Consistency::Eventual).await.unwrap();
    assert_eq!(transaction.advisory_lock(7).await.unwrap_err().kind(), ErrorKind::ReadOnly);
    let lock = "SELECT pg_advisory_lock(7)";
    let client = router.client_at(Consistency::Eventual).await.unwrap();
    assert_eq!(client.query(lock, &[]).await.unwrap_err().kind(), ErrorKind::ReadOnly);
    assert_eq!(client.execute(lock, &[]).await.unwrap_err().kind(), ErrorKind::ReadOnly);
    assert_eq!(client.batch_execute(lock).await.unwrap_err().kind(), ErrorKind::ReadOnly);
    client.query_one("SELECT 1", &[]).await.unwrap();
    // On the primary it holds until the end, and no longer.
    let transaction = router.transaction().await.unwrap();
    transaction.advisory_lock(7).await.unwrap();
    let other = router.client().await.unwrap();
    let is_free = async || {
        let row = other.query_one("SELECT pg_try_advisory_xact_lock(7)", &[]).await.unwrap();
        row.get::<_, bool>(0)
    };
    assert!(!is_free().await);
    transaction.commit().await.unwrap();
    assert!(is_free().await);
}

#[tokio::test]
async fn losing_transactions_are_retried_until_every_increment_counts() {
    let (_database, router) = numbers().await;
    let begun = Arc::new(AtomicU32::new(0));
    let adders = (0..6).map(|_| {
        let (router, begun) = (router.clone(), Arc::clone(&begun));
        tokio::spawn(async move {
            for _ in 0..5 {
                let transaction = router.transaction().isolation(Isolation::Serializable).max_attempts(1000);
                let added = transaction.run(async |transaction| {
                    begun.fetch_add(1, Ordering::Relaxed);
                    let sql = "SELECT n FROM numbers WHERE name = 'a'";
                    let n: i64 = transaction.query_one(sql, &[]).await?.get(0);
                    yield_now().await;
                    transaction.execute("UPDATE numbers SET n = $1 WHERE name = 'a'", &[&(n + 1)]).await?;
                    Ok::<_, Error>(n)
                });
                added.await.unwrap();
            }
        })
    });
    timeout(HANG, try_join_all(adders)).await.expect("no hang").unwrap();
    assert_eq!(number(&router, "a").await, 30);
    assert!(begun.load(Ordering::Relaxed) > 30, "nobody ever lost: this has tested nothing");
}

#[tokio::test]
async fn both_transactions_of_a_deadlock_succeed() {
    let (_database, router) = numbers().await;
    let both_have_one = Barrier::new(2);
    let cross = async |first: &str, second: &str| {
        let attempts = AtomicU32::new(0);
        let crossed = router.transaction().run(async |transaction| {
            add(&transaction, first).await?;
            if attempts.fetch_add(1, Ordering::Relaxed) == 0 {
                both_have_one.wait().await;
            }
            add(&transaction, second).await
        });
        crossed.await.unwrap();
        attempts.into_inner()
    };
    let crossing = async { tokio::join!(cross("a", "b"), cross("b", "a")) };
    let (one, other) = timeout(HANG, crossing).await.expect("no hang");
    assert_eq!(one + other, 3);
    assert_eq!((number(&router, "a").await, number(&router, "b").await), (2, 2));
}

#[tokio::test]
async fn transactions_retry_only_conflicts_and_only_up_to_max_attempts() {
    let (_database, router) = numbers().await;
    let attempts = AtomicU32::new(0);
    let begin = || router.transaction().isolation(Isolation::RepeatableRead).max_attempts(3);
    let always_late = begin().run(async |transaction| {
        attempts.fetch_add(1, Ordering::Relaxed);
        transaction.query("SELECT FROM numbers", &[]).await?;
        router.client().await?.execute("UPDATE numbers SET n = n + 1", &[]).await?;
        add(&transaction, "a").await
    });
    let error = always_late.await.unwrap_err();
    assert_eq!((attempts.swap(0, Ordering::Relaxed), error.sqlstate()), (3, Some("40001")));
    assert!(error.is_retryable(), "the whole of it may be done again: {error}");
    let twice = router.client().await.unwrap().execute("INSERT INTO numbers VALUES ('a', 1)", &[]).await.unwrap_err();
    assert_eq!((twice.kind(), twice.is_retryable()), (ErrorKind::Database, false));
    // An error of the user's own type comes through as it is.
    let refused = begin().run(async |transaction| {
        attempts.fetch_add(1, Ordering::Relaxed);
        add(&transaction, "a").await?;
        Err::<(), Box<dyn std::error::Error + Send + Sync>>("no".into())
    });
    assert_eq!(refused.await.unwrap_err().to_string(), "no");
    assert_eq!((attempts.into_inner(), number(&router, "a").await), (1, 3));
}

#[tokio::test]
async fn work_may_end_its_transaction_itself_and_cannot_use_it_any_more() {
    let (_database, router) = numbers().await;
    let committed = router.transaction().run(async |transaction| {
        add(&transaction, "a").await?;
        transaction.commit().await
    });
    committed.await.unwrap();
    let rolled_back = router.transaction().run(async |transaction| {
        add(&transaction, "a").await?;
        transaction.rollback().await
    });
    rolled_back.await.unwrap();
    assert_eq!(number(&router, "a").await, 1);
    let kept = std::sync::Mutex::new(None);
    let keeping = router.transaction().run(async |transaction| {
        add(&transaction, "a").await?;
        *kept.lock().unwrap() = Some(transaction);
        Ok::<_, Error>(())
    });
    keeping.await.unwrap();
    let kept = kept.into_inner().unwrap().unwrap();
    assert_eq!(add(&kept, "b").await.unwrap_err().kind(), ErrorKind::InvalidInput);
    kept.commit().await.unwrap();
    assert_eq!((number(&router, "a").await, number(&router, "b").await), (2, 0));
}

/// A statement is prepared before it is run: behind a COMMIT that is sent in between, it would run in no transaction, and be committed by
/// itself.
#[tokio::test]
async fn no_end_is_sent_while_a_call_may_have_its_statement_to_send() {
    for ends_by_itself in [false, true] {
        let (_database, router) = numbers().await;
        let straying = std::sync::Mutex::new(None);
        let run = router.transaction().run(async |transaction| {
            add(&transaction, "a").await?;
            let call = tokio::spawn(async move { transaction.execute("UPDATE numbers SET n = n + 10", &[]).await });
            *straying.lock().unwrap() = Some(call);
            yield_now().await;
            if ends_by_itself { Err(Box::from("it changed its mind")) } else { Ok(()) }
        });
        let error: Box<dyn std::error::Error + Send + Sync> = run.await.unwrap_err();
        assert_eq!(
            error.to_string().contains("another call of this transaction is under way"),
            !ends_by_itself,
            "{error}"
        );
        let straying = straying.into_inner().unwrap().unwrap();
        let _ = timeout(HANG, straying).await.unwrap().unwrap();
        assert_eq!(number(&router, "a").await, 0, "ends by itself: {ends_by_itself}");
    }
}

#[tokio::test]
async fn a_loss_that_the_work_has_not_told_of_is_found_out_at_the_commit() {
    let (_database, router) = numbers().await;
    let attempts = AtomicU32::new(0);
    let forgetful = router.transaction().isolation(Isolation::RepeatableRead).run(async |transaction| {
        transaction.query("SELECT FROM numbers", &[]).await?;
        if attempts.fetch_add(1, Ordering::Relaxed) == 0 {
            router.client().await?.execute("UPDATE numbers SET n = n + 1", &[]).await?;
        }
        let _ = add(&transaction, "a").await;
        Ok::<_, Error>(())
    });
    forgetful.await.unwrap();
    assert_eq!((attempts.into_inner(), number(&router, "a").await), (2, 2));
}

#[tokio::test]
async fn a_commit_whose_answer_was_lost_is_unknown_and_not_done_again() {
    let (database, router) = numbers().await;
    let proxy = cluster().await.primary().proxy().unwrap();
    let far = Router::builder().primary(database.url_through(&proxy)).probe_interval(None).connect().await.unwrap();
    let attempts = AtomicU32::new(0);
    let cut = far.transaction().timeout(Duration::from_secs(2)).run(async |transaction| {
        attempts.fetch_add(1, Ordering::Relaxed);
        add(&transaction, "a").await?;
        proxy.silence(Direction::ToClient);
        Ok::<_, Error>(())
    });
    let error = timeout(HANG, cut).await.expect("no hang").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{}", error.report());
    assert_eq!((attempts.into_inner(), number(&router, "a").await), (1, 1));
}

#[tokio::test]
async fn before_the_commit_an_interruption_is_no_unknown_outcome() {
    let (database, router) = numbers().await;
    let transaction = router.transaction().timeout(Duration::from_millis(500)).await.unwrap();
    add(&transaction, "a").await.unwrap();
    let error = transaction.batch_execute("SELECT pg_sleep(600)").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{}", error.report());
    assert_eq!(transaction.commit().await.unwrap_err().kind(), ErrorKind::Timeout);
    // Also on the server it is over.
    sessions(&database, "query LIKE '%pg_sleep%'", 0).await;
    assert_eq!(number(&router, "a").await, 0);
    // Whoever gives one call up cannot commit the others.
    let transaction = router.transaction().await.unwrap();
    add(&transaction, "a").await.unwrap();
    timeout(Duration::from_millis(100), transaction.batch_execute("SELECT pg_sleep(5)")).await.unwrap_err();
    let error = transaction.commit().await.unwrap_err();
    assert!(error.to_string().contains("given up"), "{error}");
    sessions(&database, "query LIKE '%pg_sleep%'", 0).await;
    assert_eq!(number(&router, "a").await, 0);
}

#[tokio::test]
async fn the_locks_of_a_program_that_hangs_are_freed() {
    let (_database, router) = numbers().await;
    let forgotten = router.transaction().timeout(Duration::from_millis(300)).await.unwrap();
    add(&forgotten, "a").await.unwrap();
    let client = router.client().await.unwrap();
    // It waits for the lock, within the limit of a call.
    timeout(HANG, client.execute("UPDATE numbers SET n = 7", &[])).await.expect("no hang").unwrap();
    assert!(forgotten.commit().await.is_err());
    assert_eq!(number(&router, "a").await, 7);
    let started = Instant::now();
    while router.transaction().await.is_err() {
        assert!(started.elapsed() < HANG, "the router does not get over a lost session");
        sleep(Duration::from_millis(20)).await;
    }
}
