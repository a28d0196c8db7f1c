//! A transaction that rolls back to a savepoint after something was in its way.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use mainstem::{Error, ErrorKind, Router, Transaction, testing::Direction};
use tokio::time::timeout;

use crate::{
    support::cluster,
    transactions::{add, number, numbers},
};

/// Far longer than anything here may take: what it ends would have hung.
const HANG: Duration = Duration::from_secs(60);

/// Fails as one does whom another transaction is in the way of.
const DEADLOCK: &str = "DO $$ BEGIN RAISE EXCEPTION 'in the way' USING ERRCODE = '40P01'; END $$";

#[tokio::test]
async fn a_deadlock_undone_by_rollback_to_savepoint_causes_no_retry() {
    let (database, router) = numbers().await;
    let proxy = cluster().await.primary().proxy().unwrap();
    let far = Router::builder().primary(database.url_through(&proxy)).probe_interval(None).connect().await.unwrap();
    let attempts = AtomicU32::new(0);
    let goes_back = async |transaction: &Transaction| {
        attempts.fetch_add(1, Ordering::Relaxed);
        transaction.batch_execute("SAVEPOINT before").await?;
        assert_eq!(transaction.batch_execute(DEADLOCK).await.unwrap_err().sqlstate(), Some("40P01"));
        transaction.batch_execute("ROLLBACK TO before").await
    };
    // The application's own refusal is not asked for again,
    let refused = router.transaction().run(async |transaction| {
        goes_back(&transaction).await?;
        Err::<(), _>(Error::application("no"))
    });
    assert_eq!(refused.await.unwrap_err().kind(), ErrorKind::Application);
    // nor is a commit that may have gone through.
    let cut = far.transaction().timeout(Duration::from_secs(2)).run(async |transaction| {
        goes_back(&transaction).await?;
        add(&transaction, "a").await?;
        proxy.silence(Direction::ToClient);
        Ok::<_, Error>(())
    });
    let error = timeout(HANG, cut).await.expect("no hang").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{}", error.report());
    assert_eq!((attempts.load(Ordering::Relaxed), number(&router, "a").await), (2, 1));
    // Without going back it is all done again.
    let tries = AtomicU32::new(0);
    let again = router.transaction().run(async |transaction| {
        if tries.fetch_add(1, Ordering::Relaxed) == 0 {
            transaction.batch_execute(DEADLOCK).await.unwrap_err();
        }
        add(&transaction, "b").await
    });
    timeout(HANG, again).await.expect("no hang").unwrap();
    assert_eq!((tries.into_inner(), number(&router, "b").await), (2, 1));
}
