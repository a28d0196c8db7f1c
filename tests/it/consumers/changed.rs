//! A consumer that gets another filter, or another version.

use std::time::Duration;

use mainstem::{Consistency, Consumer, ConsumerBuilder, ErrorKind, Filter, PostgresEventStore, Start};
use tokio::time::timeout;

use super::{HANG, append_of, failure, next, number, positions};
use crate::support::store;

fn of_types(store: &PostgresEventStore, types: &[&str]) -> ConsumerBuilder {
    let filter = Filter::matching().any_type_of(types.iter().copied()).finish().unwrap();
    store.consumer("c", &filter).consistency(Consistency::Strong).takeover(Duration::from_secs(1))
}

/// Handles what is there.
async fn handle(consumer: &mut Consumer) -> Vec<u64> {
    let batch = next(consumer).await;
    consumer.commit(&batch).await.unwrap();
    positions(&batch)
}

#[tokio::test]
async fn a_member_with_another_filter_is_refused_before_it_passes_over_anything() {
    let (_database, _router, store) = store().await;
    append_of(&store, ["A", "B", "A"]).await;
    let mut old = of_types(&store, &["A"]).build().unwrap();
    assert_eq!(handle(&mut old).await, [1, 3]);
    old.close().await.unwrap();

    let mut new = of_types(&store, &["A", "B"]).build().unwrap();
    let error = failure(&mut new).await;
    assert_eq!(error.kind(), ErrorKind::Configuration, "{}", error.report());
    for choice in ["another name", "reset", "accept_change"] {
        assert!(error.to_string().contains(choice), "{error}");
    }
    assert!(new.next_batch().await.is_none(), "it has ended");
    // The same events in another spelling are the same.
    append_of(&store, ["A"]).await;
    let mut same = of_types(&store, &["A", "A"]).build().unwrap();
    assert_eq!(handle(&mut same).await, [4]);
    same.close().await.unwrap();

    // With no member running.
    store.consumer_control("c").reset(Start::Beginning).await.unwrap();
    new.rewind();
    assert_eq!(handle(&mut new).await, [1, 2, 3, 4]);
    let error = failure(&mut of_types(&store, &["A"]).build().unwrap()).await;
    assert_eq!(error.kind(), ErrorKind::Configuration, "{}", error.report());
}

#[tokio::test]
async fn who_accepts_the_change_goes_on_and_shuts_out_whoever_has_the_old_filter() {
    let (_database, router, store) = store().await;
    append_of(&store, ["A"]).await;
    let mut old = of_types(&store, &["A"]).build().unwrap();
    assert_eq!(handle(&mut old).await, [1]);
    // It waits to take over, and has nothing to commit.
    let mut standby = of_types(&store, &["A"]).build().unwrap();
    assert!(timeout(Duration::from_millis(300), standby.next_batch()).await.is_err(), "it stands by");
    append_of(&store, ["A", "B"]).await;
    let late = next(&mut old).await;

    let mut new = of_types(&store, &["A", "B"]).version(2).accept_change().build().unwrap();
    assert_eq!(handle(&mut new).await, [2, 3]);
    assert_eq!(old.commit(&late).await.unwrap_err().kind(), ErrorKind::OwnershipLost);
    for shut_out in [&mut old, &mut standby] {
        let error = failure(shut_out).await;
        assert_eq!(error.kind(), ErrorKind::Configuration, "{}", error.report());
        assert!(timeout(HANG, shut_out.next_batch()).await.unwrap().is_none());
    }
    // Not even if it accepts changes: its version is lower.
    let mut again = of_types(&store, &["A"]).accept_change().build().unwrap();
    assert_eq!(failure(&mut again).await.kind(), ErrorKind::Configuration);
    assert_eq!(number(&router, "SELECT count(*) FROM mainstem.events_members").await, 1);
    append_of(&store, ["B"]).await;
    assert_eq!(handle(&mut new).await, [4]);
}

#[tokio::test]
async fn two_that_accept_changes_do_not_shut_each_other_out_for_ever() {
    let (_database, _router, store) = store().await;
    append_of(&store, ["A"]).await;
    let mut first = of_types(&store, &["A"]).accept_change().build().unwrap();
    assert_eq!(handle(&mut first).await, [1]);
    let mut second = of_types(&store, &["A", "B"]).accept_change().build().unwrap();
    append_of(&store, ["A"]).await;
    assert_eq!(handle(&mut second).await, [2]);
    assert_eq!(failure(&mut first).await.kind(), ErrorKind::Configuration);
}

/// One that is refused afterwards would otherwise still count as a member, and keep its share of the partitions from others.
#[tokio::test]
async fn a_reset_lets_go_of_all_members() {
    let (_database, router, store) = store().await;
    append_of(&store, ["A"]).await;
    let mut old = of_types(&store, &["A"]).build().unwrap();
    assert_eq!(handle(&mut old).await, [1]);
    store.consumer_control("c").reset(Start::Beginning).await.unwrap();
    assert_eq!(number(&router, "SELECT count(*) FROM mainstem.events_members").await, 0);
    let mut new = of_types(&store, &["A", "B"]).build().unwrap();
    assert_eq!(handle(&mut new).await, [1]);
    assert_eq!(failure(&mut old).await.kind(), ErrorKind::Configuration);
}

/// As with code that is deployed before its migration.
#[tokio::test]
async fn a_missing_column_asks_for_the_migrations() {
    let (_database, router, store) = store().await;
    append_of(&store, ["A"]).await;
    let client = router.client().await.unwrap();
    client.batch_execute("ALTER TABLE mainstem.events_members DROP COLUMN lease").await.unwrap();
    let error = failure(&mut of_types(&store, &["A"]).build().unwrap()).await;
    assert_eq!(error.kind(), ErrorKind::Schema, "{}", error.report());
}
