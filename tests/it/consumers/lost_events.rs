//! A log that has lost events which were already handled.

use std::time::Duration;

use mainstem::{AppendCondition, Consistency, Consumer, ErrorKind, EventStore, Filter, PostgresEventStore};
use tokio::time::{sleep, timeout};

use super::{
    HANG, append, append_of, consumer, failure, keyed, lose_events_after, member, next, number, positions, run,
};
use crate::support::store;

#[tokio::test]
async fn a_consumer_whose_log_has_lost_events_says_how_far_the_two_agree() {
    let (_database, router, store) = store().await;
    let mut consumer = consumer(&store);
    for _ in 0..10 {
        append(&store, 10).await;
        let batch = next(&mut consumer).await;
        consumer.commit(&batch).await.unwrap();
    }
    lose_events_after(&router, 75).await;
    append(&store, 50).await;
    let error = failure(&mut consumer).await;
    assert_eq!(error.kind(), ErrorKind::LogDiverged, "{}", error.report());
    let common = error.last_common().expect("a place in common");
    assert!((50..=75).contains(&common.position()), "{common}");
    assert!(error.to_string().contains(&common.to_string()) && error.to_string().contains("reset"), "{error}");
    assert!(consumer.next_batch().await.is_none(), "it has stopped");
    // Another process finds the same.
    let mut other = self::consumer(&store);
    drop(consumer);
    assert_eq!(failure(&mut other).await.kind(), ErrorKind::LogDiverged);
    store.consumer_control("c").reset(common).await.unwrap();
    other.rewind();
    assert_eq!(positions(&next(&mut other).await)[0], common.position() + 1);
}

/// A consumer that has handled twenty events, in two batches.
async fn twenty_handled(store: &PostgresEventStore) -> Consumer {
    append(store, 20).await;
    let mut consumer = consumer(store);
    for _ in 0..2 {
        let batch = next(&mut consumer).await;
        consumer.commit(&batch).await.unwrap();
    }
    consumer
}

/// A failover has lost the checkpoints behind this one, and no event.
const LOST: &str = "UPDATE mainstem.events_progress SET position = e.position, id = e.id \
                    FROM mainstem.events e WHERE e.position = 10";

#[tokio::test]
async fn a_saved_checkpoint_that_is_lost_is_noticed_though_nothing_comes() {
    let (_database, router, store) = store().await;
    let mut consumer = twenty_handled(&store).await;
    run(&router, LOST).await;
    assert_eq!(positions(&next(&mut consumer).await), (11..=20).collect::<Vec<_>>());
}

/// It was claimed anew since it was saved, as behind an answer that was lost, and nothing was saved since.
#[tokio::test]
async fn a_checkpoint_that_was_claimed_and_is_lost_is_noticed_as_well() {
    let (_database, router, store) = store().await;
    let mut consumer = twenty_handled(&store).await;
    let claimed_anew = async |consumer: &mut Consumer| {
        consumer.rewind();
        assert!(timeout(Duration::from_millis(300), consumer.next_batch()).await.is_err(), "nothing is left to do");
    };
    claimed_anew(&mut consumer).await;
    run(&router, LOST).await;
    let again = next(&mut consumer).await;
    assert_eq!(positions(&again), (11..=20).collect::<Vec<_>>(), "heard by a heartbeat");
    consumer.commit(&again).await.unwrap();

    // Before any is heard: what comes next must not be saved on top of the older one.
    claimed_anew(&mut consumer).await;
    append(&store, 5).await;
    let batch = next(&mut consumer).await;
    run(&router, LOST).await;
    let error = consumer.commit(&batch).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OwnershipLost, "{}", error.report());
    assert_eq!(positions(&next(&mut consumer).await)[0], 11);
}

/// A first batch without events has cleared a table, and nothing else.
#[tokio::test]
async fn a_first_batch_that_is_lost_is_not_covered_by_the_next_one() {
    let (_database, router, store) = store().await;
    append_of(&store, ["B"; 5]).await;
    let of_a = Filter::matching().any_type_of(["A"]).finish().unwrap();
    let mut consumer = store.consumer("c", &of_a).consistency(Consistency::Strong).build().unwrap();
    let first = timeout(HANG, consumer.next_batch()).await.unwrap().unwrap().unwrap();
    assert!(first.is_first() && first.is_empty(), "{first:?}");
    consumer.transaction(&first).await.unwrap().commit().await.unwrap();
    append(&store, 1).await;
    let batch = next(&mut consumer).await;
    // A failover has lost that checkpoint, and no event.
    run(&router, "UPDATE mainstem.events_progress SET position = 0, id = NULL").await;
    let error = consumer.transaction(&batch).await.unwrap().commit().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OwnershipLost, "{}", error.report());
    assert!(next(&mut consumer).await.is_first(), "it clears again");
}

#[tokio::test]
async fn a_partition_ahead_of_the_others_is_checked_as_well() {
    let (_database, router, store) = store().await;
    store.append((0..40).map(keyed), AppendCondition::none()).await.unwrap();
    let mut group = member(&store);
    let batch = next(&mut group).await;
    group.commit(&batch).await.unwrap();
    group.close().await.unwrap();
    // As if a member had been further with one of them.
    let ahead = store.last(&Filter::any_event()).await.unwrap().into_inner().unwrap();
    let client = router.client().await.unwrap();
    let id: String = ahead.id().to_string();
    let sql = "UPDATE mainstem.events_progress SET position = $1, id = $2::text::uuid WHERE partition = 3";
    client.execute(sql, &[&ahead.position().cast_signed(), &id]).await.unwrap();
    lose_events_after(&router, 30).await;
    store.append((0..40).map(keyed), AppendCondition::none()).await.unwrap();
    let error = failure(&mut member(&store)).await;
    assert_eq!(error.kind(), ErrorKind::LogDiverged, "its new events would be skipped: {}", error.report());
}

#[tokio::test]
async fn events_handed_out_but_not_committed_may_be_lost_without_error() {
    let (_database, router, store) = store().await;
    append(&store, 20).await;
    let mut consumer = consumer(&store);
    let batch = next(&mut consumer).await;
    consumer.commit(&batch).await.unwrap();
    assert_eq!(next(&mut consumer).await.mark().position(), 20);
    lose_events_after(&router, 15).await;
    append(&store, 5).await;
    // The checkpoint is there, so it is no error: the events behind it are handed out as they are now.
    let again = next(&mut consumer).await;
    assert_eq!(positions(&again), (11..=20).collect::<Vec<_>>());
    consumer.commit(&again).await.unwrap();
}

/// The failover has lost the checkpoints, too, and there are other partitions to take over at the same time.
#[tokio::test]
async fn a_member_that_keeps_some_partitions_goes_on_from_their_checkpoints() {
    let (database, router, store) = store().await;
    store.append((0..40).map(keyed), AppendCondition::none()).await.unwrap();
    let mut one = member(&store);
    while number(&router, "SELECT coalesce(min(position), 0) FROM mainstem.events_progress").await < 40 {
        let batch = next(&mut one).await;
        one.commit(&batch).await.unwrap();
    }
    // It keeps half of them when another one joins.
    let mut other = member(&PostgresEventStore::new(&crate::support::router(&database).await));
    let owned_by = "SELECT count(*) FROM mainstem.events_progress GROUP BY member HAVING count(*) = 4";
    let halves = async {
        while router.client().await.unwrap().query(owned_by, &[]).await.unwrap().len() < 2 {
            let _ = timeout(Duration::from_millis(100), other.next_batch()).await;
            let _ = timeout(Duration::from_millis(100), one.next_batch()).await;
        }
    };
    timeout(HANG, halves).await.expect("each has a half");
    lose_events_after(&router, 30).await;
    let back = "UPDATE mainstem.events_progress SET position = e.position, id = e.id \
                FROM mainstem.events e WHERE e.position = 30";
    run(&router, back).await;
    other.close().await.unwrap();
    // It hears that it may have the other half before it reads, and asks for that first.
    sleep(Duration::from_millis(1500)).await;
    store.append((0..20).map(keyed), AppendCondition::none()).await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < 20 {
        let batch = next(&mut one).await;
        seen.extend(positions(&batch));
        one.commit(&batch).await.unwrap();
    }
    assert_eq!(seen, (31..=50).collect::<Vec<_>>());
}
