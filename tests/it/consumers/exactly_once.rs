//! Writes in the same transaction as the checkpoint.

use std::time::Duration;

use mainstem::{
    Consistency, ErrorKind, Filter, PostgresEventStore,
    tokio_postgres::{self, NoTls},
};
use tokio::time::sleep;

use super::{append, append_of, consumer, next, number, positions, run};
use crate::support::store;

#[tokio::test]
async fn writes_in_a_consumers_transaction_take_effect_exactly_once() {
    let (database, router, store) = store().await;
    run(&router, "CREATE TABLE handled (position int8, attempt int8)").await;
    append(&store, 60).await;
    let mut consumer = consumer(&store);
    let mut round = 0_i64;
    while number(&router, "SELECT count(*) FROM handled").await < 60 {
        round += 1;
        let batch = next(&mut consumer).await;
        let transaction = consumer.transaction(&batch).await.unwrap();
        for event in &batch {
            let position = i64::try_from(event.position()).unwrap();
            transaction.execute("INSERT INTO handled VALUES ($1, $2)", &[&position, &round]).await.unwrap();
        }
        match round % 4 {
            // Given up, failed, lost in the middle: nothing of it is there, and it comes again.
            0 => drop(transaction),
            1 => {
                transaction.execute("SELECT 1 / 0", &[]).await.unwrap_err();
                transaction.commit().await.unwrap_err();
            }
            2 => {
                let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE state = 'idle in transaction' \
                            AND datname = current_database()";
                assert_eq!(router.client().await.unwrap().query(kill, &[]).await.unwrap().len(), 1);
                transaction.commit().await.unwrap_err();
            }
            _ => transaction.commit().await.unwrap(),
        }
    }
    assert_eq!(round, 23, "one of four is committed");
    assert_eq!(number(&router, "SELECT count(DISTINCT position) FROM handled").await, 60);

    // The same in a transaction of the user's own connection.
    append(&store, 5).await;
    let (mut client, connection) = tokio_postgres::connect(&database.primary_url(), NoTls).await.unwrap();
    tokio::spawn(connection);
    for commits in [false, true] {
        let batch = next(&mut consumer).await;
        assert_eq!(positions(&batch), (61..=65).collect::<Vec<_>>());
        let transaction = client.transaction().await.unwrap();
        transaction.execute("INSERT INTO handled VALUES (61, 0)", &[]).await.unwrap();
        consumer.commit_in(&batch, &transaction).await.unwrap();
        match commits {
            true => transaction.commit().await.unwrap(),
            false => {
                transaction.rollback().await.unwrap();
                consumer.rewind();
            }
        }
    }
    assert_eq!(number(&router, "SELECT count(*) FROM handled WHERE position = 61").await, 1);
}

/// The checkpoint would be saved by itself then, behind what belongs to it or without it.
#[tokio::test]
async fn the_transaction_of_a_batch_is_not_ended_in_sql() {
    let (_database, router, store) = store().await;
    run(&router, "CREATE TABLE handled (position int8)").await;
    append(&store, 10).await;
    let mut consumer = consumer(&store);
    // What is a text by the rules of SQL is none by those of old.
    let hidden = "SELECT 'a\\''; COMMIT; --'";
    for (end, is_written) in
        [("COMMIT", false), ("SELECT 1; ROLLBACK", false), ("SELECT 1; COMMIT", false), (hidden, true)]
    {
        let batch = next(&mut consumer).await;
        assert_eq!(positions(&batch), (1..=10).collect::<Vec<_>>());
        let transaction = consumer.transaction(&batch).await.unwrap();
        transaction.execute("INSERT INTO handled VALUES (1)", &[]).await.unwrap();
        transaction.batch_execute("SET LOCAL standard_conforming_strings = off").await.unwrap();
        let error = match transaction.batch_execute(end).await {
            // Seen before it was sent.
            Err(error) => error,
            Ok(()) => transaction.commit().await.unwrap_err(),
        };
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{end}: {}", error.report());
        assert!(error.to_string().contains("commit()"), "{error}");
        assert_eq!(number(&router, "SELECT count(*) FROM handled").await, i64::from(is_written), "{end}");
    }
    let batch = next(&mut consumer).await;
    let transaction = consumer.transaction(&batch).await.unwrap();
    transaction.commit().await.unwrap();
    append(&store, 1).await;
    assert_eq!(positions(&next(&mut consumer).await), [11]);
}

/// Who does not know whether a commit has arrived may handle the same batch again.
#[tokio::test]
async fn writes_with_an_already_committed_batch_are_refused() {
    let (database, router, store) = store().await;
    run(&router, "CREATE TABLE handled (position int8)").await;
    append(&store, 10).await;
    let mut consumer = consumer(&store);
    let batch = next(&mut consumer).await;
    let (mut client, connection) = tokio_postgres::connect(&database.primary_url(), NoTls).await.unwrap();
    tokio::spawn(connection);
    let insert = "INSERT INTO handled VALUES (1)";
    let first = consumer.transaction(&batch).await.unwrap();
    first.execute(insert, &[]).await.unwrap();
    first.commit().await.unwrap();
    let again = consumer.transaction(&batch).await.unwrap();
    again.execute(insert, &[]).await.unwrap();
    let error = again.commit().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OwnershipLost, "{}", error.report());
    assert!(error.to_string().contains("committed before"), "{error}");
    let own = client.transaction().await.unwrap();
    own.execute(insert, &[]).await.unwrap();
    assert_eq!(consumer.commit_in(&batch, &own).await.unwrap_err().kind(), ErrorKind::OwnershipLost);
    own.rollback().await.unwrap();
    assert_eq!(number(&router, "SELECT count(*) FROM handled").await, 1);
    // By itself the checkpoint may be saved again.
    consumer.commit(&batch).await.unwrap();
    append(&store, 1).await;
    assert_eq!(positions(&next(&mut consumer).await), [11]);
}

/// A commit that nobody has heard of is still under way when the events are read again, and more have come.
#[tokio::test]
async fn a_batch_that_was_read_again_and_is_longer_is_not_written_twice() {
    let (database, router, store) = store().await;
    run(&router, "CREATE TABLE handled (position int8)").await;
    append(&store, 5).await;
    let mut consumer = consumer(&store);
    let batch = next(&mut consumer).await;
    let insert = "INSERT INTO handled SELECT generate_series(1, $1::int8)";
    let (mut client, connection) = tokio_postgres::connect(&database.primary_url(), NoTls).await.unwrap();
    tokio::spawn(connection);
    let late = client.transaction().await.unwrap();
    late.execute(insert, &[&5_i64]).await.unwrap();
    consumer.commit_in(&batch, &late).await.unwrap();
    append(&store, 5).await;
    consumer.rewind();
    let longer = next(&mut consumer).await;
    assert_eq!(positions(&longer), (1..=10).collect::<Vec<_>>());
    late.commit().await.unwrap();
    let again = consumer.transaction(&longer).await.unwrap();
    again.execute(insert, &[&10_i64]).await.unwrap();
    let error = again.commit().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OwnershipLost, "{}", error.report());
    assert!(error.to_string().contains("a part of the batch"), "{error}");
    assert_eq!(number(&router, "SELECT count(*) FROM handled").await, 5);
    // What is left comes by itself.
    let rest = next(&mut consumer).await;
    assert_eq!(positions(&rest), (6..=10).collect::<Vec<_>>());
    consumer.transaction(&rest).await.unwrap().commit().await.unwrap();
    // Saved by itself it may go further than what was saved before: it was all done twice.
    append(&store, 5).await;
    let batch = next(&mut consumer).await;
    consumer.commit(&batch).await.unwrap();
    consumer.rewind();
    run(&router, "UPDATE mainstem.events_progress p SET position = e.position, id = e.id FROM mainstem.events e WHERE e.position = 10").await;
    let again = next(&mut consumer).await;
    consumer.commit(&batch).await.unwrap();
    append(&store, 5).await;
    consumer.commit(&again).await.unwrap();
}

/// What a first batch clears is written, too. Nothing is in the first one that was read again, and the commit of the one
/// before it was still under way.
#[tokio::test]
async fn a_first_batch_without_events_clears_nothing_that_was_committed_meanwhile() {
    let (database, router, store) = store().await;
    run(&router, "CREATE TABLE handled (position int8)").await;
    append_of(&store, vec!["B"; 60]).await;
    append(&store, 1).await;
    append_of(&store, vec!["B"; 60]).await;
    let of_a = Filter::matching().any_type_of(["A"]).finish().unwrap();
    let builder = store.consumer("c", &of_a).batch_events(10).consistency(Consistency::Strong);
    let mut consumer = builder.build().unwrap();
    let batch = consumer.next_batch().await.unwrap().unwrap();
    assert!(batch.is_first() && positions(&batch) == [61], "{batch:?}");
    let (mut client, connection) = tokio_postgres::connect(&database.primary_url(), NoTls).await.unwrap();
    tokio::spawn(connection);
    let late = client.transaction().await.unwrap();
    late.execute("INSERT INTO handled VALUES (61)", &[]).await.unwrap();
    consumer.commit_in(&batch, &late).await.unwrap();
    consumer.rewind();
    // Long enough for it to be handed out so that its checkpoint gets on.
    sleep(Duration::from_millis(1100)).await;
    let empty = consumer.next_batch().await.unwrap().unwrap();
    assert!(empty.is_first() && empty.is_empty() && empty.mark().position() < 61, "{empty:?}");
    late.commit().await.unwrap();
    for _ in 0..2 {
        let clearing = consumer.transaction(&empty).await.unwrap();
        clearing.execute("DELETE FROM handled", &[]).await.unwrap();
        let error = clearing.commit().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OwnershipLost, "{}", error.report());
    }
    let clearing = client.transaction().await.unwrap();
    clearing.execute("DELETE FROM handled", &[]).await.unwrap();
    assert_eq!(consumer.commit_in(&empty, &clearing).await.unwrap_err().kind(), ErrorKind::OwnershipLost);
    drop(clearing);
    assert_eq!(number(&router, "SELECT count(*) FROM handled").await, 1);
}

/// The member is the same one, but what it had begun was of the time before somebody else had the partition.
#[tokio::test]
async fn a_transaction_begun_before_a_takeover_and_return_is_refused() {
    let (database, router, store) = store().await;
    run(&router, "CREATE TABLE handled (position int8)").await;
    append(&store, 10).await;
    let mut old = consumer(&store);
    let batch = next(&mut old).await;
    let late = old.transaction(&batch).await.unwrap();
    late.execute("INSERT INTO handled VALUES (1)", &[]).await.unwrap();
    let other = PostgresEventStore::new(&crate::support::router(&database).await);
    let mut new = consumer(&other);
    run(&router, "UPDATE mainstem.events_members SET alive_until = '-infinity'").await;
    assert_eq!(positions(&next(&mut new).await), positions(&batch));
    // It has not committed when it leaves.
    new.close().await.unwrap();
    assert_eq!(positions(&next(&mut old).await), positions(&batch), "it is back");
    assert_eq!(late.commit().await.unwrap_err().kind(), ErrorKind::OwnershipLost);
    assert_eq!(number(&router, "SELECT count(*) FROM handled").await, 0);
}
