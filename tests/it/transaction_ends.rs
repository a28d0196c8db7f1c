//! What is said of a transaction whose own work has ended it, or has given one of its calls up.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use futures_util::TryStreamExt;
use mainstem::{Error, ErrorKind, Isolation, Router, testing::Direction};
use tokio::time::{Instant, timeout};

use crate::{
    support::{cluster, sessions},
    transactions::{add, number, numbers},
};

/// Far longer than anything here may take: what it ends would have hung.
const HANG: Duration = Duration::from_secs(60);

/// Work sends the commit itself, does not wait for the answer or takes its loss for nothing, and says that all is well.
#[tokio::test]
async fn a_commit_unanswered_within_the_work_has_an_unknown_outcome() {
    let (database, router) = numbers().await;
    let proxy = cluster().await.primary().proxy().unwrap();
    for (gives_up, written) in [(true, 1), (false, 2)] {
        let far = Router::builder().primary(database.url_through(&proxy)).probe_interval(None).connect().await.unwrap();
        let attempts = AtomicU32::new(0);
        let run = far.transaction().timeout(Duration::from_secs(2)).run(async |transaction| {
            attempts.fetch_add(1, Ordering::Relaxed);
            add(&transaction, "a").await?;
            proxy.silence(Direction::ToClient);
            if gives_up {
                timeout(Duration::from_millis(300), transaction.commit()).await.unwrap_err();
            } else {
                transaction.commit().await.unwrap_err();
            }
            Ok::<_, Error>(())
        });
        let error = timeout(HANG, run).await.expect("no hang").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{}", error.report());
        assert!(!error.is_retryable(), "what may have been written is not written again");
        assert_eq!((attempts.into_inner(), number(&router, "a").await), (1, written));
        proxy.restore().unwrap();
    }
}

/// Once it has committed, whatever the work fails with afterwards.
#[tokio::test]
async fn work_that_has_committed_is_not_repeated() {
    let (_database, router) = numbers().await;
    let attempts = AtomicU32::new(0);
    let run = router.transaction().run(async |transaction| {
        attempts.fetch_add(1, Ordering::Relaxed);
        transaction.batch_execute("SAVEPOINT a").await?;
        let conflict = "DO $$ BEGIN RAISE SQLSTATE '40001'; END $$";
        transaction.batch_execute(conflict).await.unwrap_err();
        transaction.query_stream("ROLLBACK TO a", &[]).await?.try_collect::<Vec<_>>().await?;
        add(&transaction, "a").await?;
        transaction.commit().await?;
        Err::<(), _>(Error::application("behind the commit"))
    });
    let error = run.await.unwrap_err();
    assert!(error.to_string().contains("behind the commit"), "{}", error.report());
    assert_eq!((attempts.into_inner(), number(&router, "a").await), (1, 1));
}

/// What has conflicted is repeated, although the work has rolled back by itself, or took the refusal of its commit for nothing.
#[tokio::test]
async fn a_conflict_is_repeated_whatever_the_work_has_made_of_it() {
    let (_database, router) = numbers().await;
    for rolls_back in [true, false] {
        let attempts = AtomicU32::new(0);
        let run = router.transaction().isolation(Isolation::RepeatableRead).run(async |transaction| {
            transaction.query("SELECT FROM numbers", &[]).await?;
            if attempts.fetch_add(1, Ordering::Relaxed) == 0 {
                router.client().await?.execute("UPDATE numbers SET n = n + 1", &[]).await?;
            }
            match add(&transaction, "a").await {
                Err(error) if rolls_back => {
                    transaction.rollback().await?;
                    Err(error)
                }
                Err(_) => {
                    transaction.commit().await.unwrap_err();
                    Ok(())
                }
                Ok(()) => transaction.commit().await,
            }
        });
        run.await.unwrap_or_else(|error| panic!("{}", error.report()));
        assert_eq!(attempts.into_inner(), 2, "rolls back: {rolls_back}");
    }
    assert_eq!(number(&router, "a").await, 4);
    // Refused at the commit itself: the first time.
    let refuses = "CREATE SEQUENCE tries;
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN IF nextval('tries') = 1 THEN RAISE SQLSTATE '40001'; END IF; RETURN NULL; END $$;
        CREATE CONSTRAINT TRIGGER refuses AFTER UPDATE ON numbers DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION refuse()";
    router.client().await.unwrap().batch_execute(refuses).await.unwrap();
    let attempts = AtomicU32::new(0);
    let run = router.transaction().run(async |transaction| {
        attempts.fetch_add(1, Ordering::Relaxed);
        add(&transaction, "a").await?;
        let _ = transaction.commit().await;
        Ok::<_, Error>(())
    });
    run.await.unwrap_or_else(|error| panic!("{}", error.report()));
    assert_eq!((attempts.into_inner(), number(&router, "a").await), (2, 5));
}

#[tokio::test]
async fn rolling_back_does_not_wait_for_a_call_that_was_given_up() {
    let (database, router) = numbers().await;
    let transaction = router.transaction().await.unwrap();
    add(&transaction, "a").await.unwrap();
    timeout(Duration::from_millis(100), transaction.batch_execute("SELECT pg_sleep(20)")).await.unwrap_err();
    let start = Instant::now();
    transaction.rollback().await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(10), "it has waited for the statement");
    sessions(&database, "query LIKE '%pg_sleep%'", 0).await;
    assert_eq!(number(&router, "a").await, 0);
}
