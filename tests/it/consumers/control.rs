//! Controlling a consumer from outside.

use std::time::Duration;

use mainstem::{
    ErrorKind, PostgresEventStore, Start,
    tokio_postgres::{self, NoTls},
};
use tokio::time::{sleep, timeout};

use super::{append, consumer, failure, member, next, number, positions, run};
use crate::support::{self, store};

#[tokio::test]
async fn a_consumer_is_paused_reset_and_deleted_from_outside() {
    let (_database, _router, store) = store().await;
    append(&store, 5).await;
    let control = store.consumer_control("c");
    for error in [control.pause().await, control.reset(Start::Beginning).await, control.delete().await] {
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Configuration, "there is none yet");
    }
    let mut consumer = consumer(&store);
    let batch = next(&mut consumer).await;
    let status = control.status().await.unwrap();
    assert_eq!((status.checkpoint(), status.events_behind(), status.is_paused()), (None, 5, false));
    assert!(status.time_behind() > Duration::ZERO && status.partitions()[0].is_owned);
    consumer.commit(&batch).await.unwrap();
    let status = control.status().await.unwrap();
    assert_eq!((status.checkpoint(), status.events_behind()), (Some(batch.mark()), 0));
    assert_eq!(status.time_behind(), Duration::ZERO);

    control.pause().await.unwrap();
    assert!(control.status().await.unwrap().is_paused());
    // It has heard of it when it was asked once more and has nothing to say.
    sleep(Duration::from_millis(1000)).await;
    append(&store, 1).await;
    assert!(timeout(Duration::from_millis(500), consumer.next_batch()).await.is_err(), "it is paused");
    control.resume().await.unwrap();
    let sixth = next(&mut consumer).await;
    assert_eq!(positions(&sixth), [6]);

    control.reset(Start::AfterPosition(2)).await.unwrap();
    assert_eq!(consumer.commit(&sixth).await.unwrap_err().kind(), ErrorKind::OwnershipLost, "it is of the time before");
    assert_eq!(positions(&next(&mut consumer).await), [3, 4, 5, 6]);
    control.reset(Start::Beginning).await.unwrap();
    // Without a commit it hears of it as well.
    assert_eq!(positions(&next(&mut consumer).await), [1, 2, 3, 4, 5, 6]);
    control.delete().await.unwrap();
    let error = failure(&mut consumer).await;
    assert_eq!(error.kind(), ErrorKind::Configuration, "{}", error.report());
}

/// A skip that is committed while a reset waits for it is of before the reset.
#[tokio::test]
async fn a_reset_leaves_no_record_of_what_was_skipped_before_it() {
    let (database, router, store) = store().await;
    append(&store, 10).await;
    let mut consumer = consumer(&store);
    let control = store.consumer_control("c");
    for deletes in [false, true] {
        let batch = next(&mut consumer).await;
        let (mut client, connection) = tokio_postgres::connect(&database.primary_url(), NoTls).await.unwrap();
        tokio::spawn(connection);
        let late = client.transaction().await.unwrap();
        let skip = "INSERT INTO mainstem.events_skipped (consumer, position, id, reason, attempts, skipped_at) \
                    SELECT 'c', position, id, 'why', 1, now() FROM mainstem.events WHERE position = 3";
        late.batch_execute(skip).await.unwrap();
        consumer.commit_in(&batch, &late).await.unwrap();
        let control = control.clone();
        let change = tokio::spawn(async move {
            match deletes {
                true => control.delete().await,
                false => control.reset(Start::Beginning).await,
            }
        });
        sleep(Duration::from_millis(300)).await;
        assert!(!change.is_finished(), "it waits for the commit");
        late.commit().await.unwrap();
        change.await.unwrap().unwrap();
        assert_eq!(number(&router, "SELECT count(*) FROM mainstem.events_skipped").await, 0);
    }
    assert_eq!(number(&router, "SELECT count(*) FROM mainstem.events_members").await, 0);
}

/// What locks all partitions does so in the order of a save, whatever plan the server makes: neither waits for the other in turn.
#[tokio::test]
async fn a_change_of_all_partitions_and_a_save_do_not_wait_for_each_other() {
    let (database, router, _store) = store().await;
    // Rows are found where they lie, and the first partition lies behind the others.
    for setting in ["enable_indexscan", "enable_bitmapscan"] {
        let off =
            format!("DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET {setting} = off', current_database()); END $$");
        run(&router, &off).await;
    }
    for change in ["reset", "leave", "delete"] {
        let own = PostgresEventStore::new(&support::router(&database).await);
        let mut group = member(&own);
        assert!(timeout(Duration::from_millis(500), group.next_batch()).await.is_err(), "there is nothing yet");
        run(&router, "VACUUM FULL mainstem.events_progress").await;
        run(&router, "UPDATE mainstem.events_progress SET saved_at = saved_at WHERE partition = 0").await;
        let (mut client, connection) = tokio_postgres::connect(&database.primary_url(), NoTls).await.unwrap();
        tokio::spawn(connection);
        let save = client.transaction().await.unwrap();
        let lock = |partition: i32| {
            format!(
                "SELECT FROM mainstem.events_progress WHERE consumer = 'group' AND partition = {partition} FOR UPDATE"
            )
        };
        save.batch_execute(&lock(0)).await.unwrap();
        let control = own.consumer_control("group");
        let changed = tokio::spawn(async move {
            match change {
                "reset" => control.reset(Start::Beginning).await,
                "leave" => group.close().await,
                _ => control.delete().await,
            }
        });
        sleep(Duration::from_millis(300)).await;
        assert!(!changed.is_finished(), "{change} waits for the save");
        save.batch_execute(&lock(1)).await.unwrap_or_else(|error| panic!("{change}: {error:?}"));
        save.commit().await.unwrap();
        changed.await.unwrap().unwrap_or_else(|error| panic!("{change}: {}", error.report()));
    }
}
