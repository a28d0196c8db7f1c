//! Members that die, or are taken for dead.

use std::time::Duration;

use mainstem::{ErrorKind, Filter, PostgresEventStore, Router};
use tokio::time::timeout;

use super::{append, consumer, next, number, positions, run};
use crate::support::{self, store};

#[tokio::test]
async fn a_consumer_that_was_taken_over_can_no_longer_commit_its_batch() {
    let (database, router, store) = store().await;
    run(&router, "CREATE TABLE handled (position int8)").await;
    append(&store, 20).await;
    let mut old = consumer(&store);
    let batch = next(&mut old).await;
    let late = old.transaction(&batch).await.unwrap();
    late.execute("INSERT INTO handled VALUES (1)", &[]).await.unwrap();
    // It does not say that it lives any more, as in a process that hangs.
    let other = PostgresEventStore::new(&support::router(&database).await);
    let mut new = consumer(&other);
    run(&router, "UPDATE mainstem.events_members SET alive_until = '-infinity'").await;
    let taken = next(&mut new).await;
    assert_eq!(positions(&taken), positions(&batch), "from the checkpoint on");
    assert_eq!(old.commit(&batch).await.unwrap_err().kind(), ErrorKind::OwnershipLost);
    assert_eq!(late.commit().await.unwrap_err().kind(), ErrorKind::OwnershipLost);
    assert_eq!(number(&router, "SELECT count(*) FROM handled").await, 0, "with its checkpoint all else is refused");
    new.commit(&taken).await.unwrap();
    // Whoever is dropped leaves, and whoever was evicted goes on when there is something to do again.
    drop(new);
    assert_eq!(positions(&next(&mut old).await), (11..=20).collect::<Vec<_>>());
}

/// A member that has committed a batch and dies with the next one, which it had got.
async fn dies(url: String) -> Vec<u64> {
    // Its runtime ends with everything in it, as a process does.
    let died = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let positions = runtime.block_on(async {
            let store = PostgresEventStore::new(&Router::builder().primary(url).connect().await.unwrap());
            let mut consumer = consumer(&store);
            let batch = next(&mut consumer).await;
            consumer.commit(&batch).await.unwrap();
            let lost = positions(&next(&mut consumer).await);
            std::mem::forget(consumer);
            lost
        });
        drop(runtime);
        positions
    });
    tokio::task::spawn_blocking(|| died.join().unwrap()).await.unwrap()
}

#[tokio::test]
async fn a_dead_members_work_is_taken_over() {
    let (database, _router, store) = store().await;
    append(&store, 20).await;
    let lost = dies(database.primary_url()).await;
    assert_eq!(positions(&next(&mut consumer(&store)).await), lost);
}

/// A replica with a slower clock was promoted: by that, the time of those who died with the primary is far away.
#[tokio::test]
async fn a_slower_clock_after_a_failover_keeps_no_dead_member_alive() {
    let (database, router, store) = store().await;
    append(&store, 40).await;
    let lost = dies(database.primary_url()).await;
    // As long as its own lease is as long as that, it may live.
    run(
        &router,
        "UPDATE mainstem.events_members SET alive_until = clock_timestamp() + interval '10 min', lease = interval '1 h'",
    )
    .await;
    let mut standby = consumer(&store);
    assert!(timeout(Duration::from_millis(500), standby.next_batch()).await.is_err(), "it stands by");
    let short = "UPDATE mainstem.events_members SET lease = interval '1 s'";
    run(&router, short).await;
    let batch = timeout(Duration::from_secs(10), next(&mut standby)).await.expect("it hears of it and takes over");
    assert_eq!(positions(&batch), lost);
    // And so does one that joins only now.
    drop(standby);
    let lost = dies(database.primary_url()).await;
    run(&router, "UPDATE mainstem.events_members SET alive_until = clock_timestamp() + interval '10 min'").await;
    let batch = timeout(Duration::from_secs(10), next(&mut consumer(&store))).await.expect("it takes over");
    assert_eq!(positions(&batch), lost);
}

#[tokio::test]
async fn a_live_consumer_keeps_its_partition_during_a_long_batch() {
    let (database, _router, store) = store().await;
    append(&store, 10).await;
    let mut slow = consumer(&store);
    let batch = next(&mut slow).await;
    let other = PostgresEventStore::new(&support::router(&database).await);
    let mut standby = consumer(&other);
    // Twice as long as one lives who has not said so.
    assert!(timeout(Duration::from_secs(4), standby.next_batch()).await.is_err(), "there is nothing for it to do");
    assert_eq!(standby.partitions().len(), 0);
    slow.commit(&batch).await.unwrap();
}

/// Its batch has the only connection, many times as long as one lives who has not said so.
#[tokio::test]
async fn a_live_consumer_keeps_its_partition_even_if_its_pool_is_full() {
    let (database, _router, store) = store().await;
    append(&store, 10).await;
    let narrow = Router::builder().primary(database.primary_url()).max_connections(1).connect().await.unwrap();
    let narrow = PostgresEventStore::new(&narrow);
    // The shortest that there is.
    let takeover = Duration::from_millis(500);
    let builder = |store: &PostgresEventStore| store.consumer("c", &Filter::any_event()).takeover(takeover);
    let mut slow = builder(&narrow).build().unwrap();
    let batch = next(&mut slow).await;
    let transaction = slow.transaction(&batch).await.unwrap();
    let mut standby = builder(&store).build().unwrap();
    assert!(timeout(Duration::from_secs(3), standby.next_batch()).await.is_err(), "there is nothing for it to do");
    assert_eq!(standby.partitions().len(), 0);
    transaction.commit().await.unwrap();
}
