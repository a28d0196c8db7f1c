//! Consumers: checkpoints, transactions, groups, and what is done to them from outside.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::IntoFuture,
    time::Duration,
};

use mainstem::{
    AppendCondition, Consistency, Consumer, ConsumerBatch, Error, ErrorKind, EventStore, Filter, NewEvent,
    PostgresEventStore, Router, Start,
    tokio_postgres::{self, NoTls},
};
use serde_json::json;
use tokio::time::{sleep, timeout};

use crate::support::{self, cluster, event, store};

/// Far longer than anything here may take: what it ends would have hung.
const HANG: Duration = Duration::from_secs(30);

async fn append(store: &PostgresEventStore, amount: usize) {
    append_of(store, (0..amount).map(|_| "A")).await;
}

async fn append_of(store: &PostgresEventStore, types: impl IntoIterator<Item = &str>) {
    let events: Vec<NewEvent> = types.into_iter().map(|event_type| event(event_type, json!({}))).collect();
    store.append(events, AppendCondition::none()).await.unwrap_or_else(|error| panic!("{}", error.report()));
}

fn consumer(store: &PostgresEventStore) -> Consumer {
    let builder = store.consumer("c", &Filter::any_event()).batch_size(10).takeover(Duration::from_secs(2));
    builder.consistency(Consistency::Strong).build().unwrap()
}

/// The next batch with events, over errors that time mends.
async fn next(consumer: &mut Consumer) -> ConsumerBatch {
    let next = async {
        loop {
            match consumer.next_batch().await.expect("it goes on") {
                Ok(batch) if !batch.is_empty() => return batch,
                Ok(batch) => drop(consumer.commit(&batch).await),
                Err(error) => assert!(error.is_retryable(), "{}", error.report()),
            }
        }
    };
    timeout(HANG, next).await.expect("a batch in time")
}

async fn failure(consumer: &mut Consumer) -> Error {
    let failure = async {
        loop {
            match consumer.next_batch().await.expect("an error comes before the end") {
                Ok(_) => {}
                Err(error) if error.is_retryable() => {}
                Err(error) => return error,
            }
        }
    };
    timeout(HANG, failure).await.expect("an error in time")
}

fn positions(batch: &ConsumerBatch) -> Vec<u64> {
    batch.iter().map(mainstem::Event::position).collect()
}

async fn run(router: &Router, sql: &str) {
    router.client().await.unwrap().batch_execute(sql).await.unwrap();
}

async fn number(router: &Router, sql: &str) -> i64 {
    router.client().await.unwrap().query_one(sql, &[]).await.unwrap().get(0)
}

async fn lose_events_behind(router: &Router, position: u64) {
    let lose = format!(
        "ALTER TABLE mainstem.events DISABLE TRIGGER events_append_only; \
         DELETE FROM mainstem.events WHERE position > {position}; \
         ALTER TABLE mainstem.events ENABLE ALWAYS TRIGGER events_append_only"
    );
    run(router, &lose).await;
}

#[tokio::test]
async fn a_consumer_goes_on_from_its_checkpoint_and_only_from_there() {
    let (_database, _router, store) = store().await;
    append(&store, 25).await;
    let mut first = consumer(&store);
    let one = next(&mut first).await;
    assert_eq!((positions(&one), one.is_first(), one.events_behind()), ((1..=10).collect(), true, 15));
    first.commit(&one).await.unwrap();
    let two = next(&mut first).await;
    assert_eq!((positions(&two), two.is_first()), ((11..=20).collect(), false));
    first.close().await.unwrap();

    let mut second = consumer(&store);
    let again = next(&mut second).await;
    assert_eq!(positions(&again), (11..=20).collect::<Vec<_>>(), "it was not committed");
    second.commit(&again).await.unwrap();
    second.commit(&again).await.unwrap();
    let rest = next(&mut second).await;
    assert_eq!(positions(&rest), (21..=25).collect::<Vec<_>>());
    second.commit(&rest).await.unwrap();
    append(&store, 1).await;
    assert_eq!(positions(&next(&mut second).await), [26], "what comes is handed out, too");

    // Nobody else of this name has anything to do meanwhile; one of another name begins anew, where it is told to.
    let mut standby = consumer(&store);
    assert!(timeout(Duration::from_millis(300), standby.next_batch()).await.is_err());
    assert_eq!(standby.partitions().len(), 0);
    let begin = async |start: Start| {
        let name = format!("{start:?}");
        let mut other = store.consumer(name, &Filter::any_event()).start(start).build().unwrap();
        positions(&next(&mut other).await)[0]
    };
    cluster().await.wait_until_caught_up().await.unwrap();
    assert_eq!(begin(Start::Beginning).await, 1);
    assert_eq!(begin(Start::AfterPosition(4)).await, 5);
    assert_eq!(begin(Start::After(again.mark())).await, 21);
    let mut beyond = store.consumer("x", &Filter::any_event()).start(Start::AfterPosition(99)).build().unwrap();
    assert_eq!(failure(&mut beyond).await.kind(), ErrorKind::InvalidInput);
    for name in ["", "a\0", &"x".repeat(256)] {
        let error = store.consumer(name, &Filter::any_event()).build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    }
}

#[tokio::test]
async fn what_is_written_in_a_transaction_is_there_once_whatever_fails() {
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

#[tokio::test]
async fn batches_are_committed_in_their_order() {
    let (_database, _router, store) = store().await;
    append(&store, 30).await;
    let mut consumer = consumer(&store);
    let (one, two) = (next(&mut consumer).await, next(&mut consumer).await);
    let error = consumer.commit(&two).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fenced, "the first would be lost: {}", error.report());
    let again = next(&mut consumer).await;
    assert_eq!(positions(&again), positions(&one));
    consumer.commit(&again).await.unwrap();
    let two = next(&mut consumer).await;
    consumer.commit(&two).await.unwrap();
    assert_eq!(positions(&next(&mut consumer).await), (21..=30).collect::<Vec<_>>());
}

#[tokio::test]
async fn one_that_was_taken_for_dead_commits_nothing_any_more() {
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
    assert_eq!(old.commit(&batch).await.unwrap_err().kind(), ErrorKind::Fenced);
    assert_eq!(late.commit().await.unwrap_err().kind(), ErrorKind::Fenced);
    assert_eq!(number(&router, "SELECT count(*) FROM handled").await, 0, "with its checkpoint all else is refused");
    new.commit(&taken).await.unwrap();
    // Whoever is dropped leaves, and whoever was evicted goes on when there is something to do again.
    drop(new);
    assert_eq!(positions(&next(&mut old).await), (11..=20).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_dead_members_work_is_taken_over() {
    let (database, _router, store) = store().await;
    append(&store, 20).await;
    // Its runtime ends with everything in it, as a process does.
    let url = database.primary_url();
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
    let lost = tokio::task::spawn_blocking(|| died.join().unwrap()).await.unwrap();
    assert_eq!(positions(&next(&mut consumer(&store)).await), lost);
}

/// Keys 0 to 19, by a tag.
fn keyed(key: usize) -> NewEvent {
    event("A", json!({})).with_tag(format!("key:{key}"))
}

fn member(store: &PostgresEventStore) -> Consumer {
    let builder = store.consumer("group", &Filter::any_event()).batch_size(7).takeover(Duration::from_secs(2));
    builder.partitions(8, |event| event.tags().find(|tag| tag.starts_with("key:"))).build().unwrap()
}

#[tokio::test]
async fn members_share_and_take_over_and_nothing_is_lost_or_out_of_order() {
    let (database, router, store) = store().await;
    run(&router, "CREATE TABLE handled (n bigserial PRIMARY KEY, key text, position int8)").await;
    let total = 900_usize;
    let writing = {
        let store = store.clone();
        tokio::spawn(async move {
            for first in (0..total).step_by(3) {
                let events: Vec<NewEvent> = (first..first + 3).map(|number| keyed(number * 7 % 20)).collect();
                store.append(events, AppendCondition::none()).await.unwrap();
                sleep(Duration::from_millis(5)).await;
            }
        })
    };
    let work = async |mut consumer: Consumer| {
        loop {
            let Some(batch) = consumer.next_batch().await else { return };
            let Ok(batch) = batch else { continue };
            let handle = async {
                let transaction = consumer.transaction(&batch).await?;
                for event in &batch {
                    let (key, position) = (event.tags().next().unwrap_or("none"), event.position().cast_signed());
                    transaction
                        .execute("INSERT INTO handled (key, position) VALUES ($1, $2)", &[&key, &position])
                        .await?;
                }
                transaction.commit().await
            };
            let _ = handle.await;
        }
    };
    let mut members = Vec::new();
    for _ in 0..3 {
        let own = PostgresEventStore::new(&support::router(&database).await);
        let consumer = member(&own);
        members.push((consumer.stop_handle(), tokio::spawn(work(consumer))));
        sleep(Duration::from_millis(300)).await;
    }
    // All share before one dies in the middle of its work, and another one leaves.
    let owners = "SELECT count(DISTINCT member) FROM mainstem.events_progress WHERE member IS NOT NULL";
    let shared = async {
        while number(&router, owners).await < 3 {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(HANG, shared).await.expect("each has a share");
    members[0].1.abort();
    members[1].0.stop();
    writing.await.unwrap();
    let done = async {
        while number(&router, "SELECT count(*) FROM handled").await < total as i64 {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(HANG, done).await.expect("all is handled");
    let rows = router.client().await.unwrap().query("SELECT key, position FROM handled ORDER BY n", &[]).await.unwrap();
    let mut by_key: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    rows.iter().for_each(|row| by_key.entry(row.get(0)).or_default().push(row.get(1)));
    for (key, positions) in &by_key {
        assert!(positions.is_sorted(), "{key}: {positions:?}");
    }
    let all: BTreeSet<i64> = by_key.values().flatten().copied().collect();
    assert_eq!((rows.len(), all.len(), by_key.len()), (total, total, 20), "each once");
    members.into_iter().for_each(|(_, task)| task.abort());
}

#[tokio::test]
async fn a_group_has_its_number_of_partitions_for_good() {
    let (_database, _router, store) = store().await;
    append(&store, 3).await;
    let mut eight = member(&store);
    let _ = next(&mut eight).await;
    let mut other = store.consumer("group", &Filter::any_event()).partitions(4, |_| None).build().unwrap();
    let error = failure(&mut other).await;
    assert_eq!(error.kind(), ErrorKind::Configuration, "{}", error.report());
    assert!(error.to_string().contains("8 partitions, and not 4"), "{error}");
    assert!(other.next_batch().await.is_none());
}

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
    assert_eq!(consumer.commit(&sixth).await.unwrap_err().kind(), ErrorKind::Fenced, "it is of the time before");
    assert_eq!(positions(&next(&mut consumer).await), [3, 4, 5, 6]);
    control.reset(Start::Beginning).await.unwrap();
    // Without a commit it hears of it as well.
    assert_eq!(positions(&next(&mut consumer).await), [1, 2, 3, 4, 5, 6]);
    control.delete().await.unwrap();
    let error = failure(&mut consumer).await;
    assert_eq!(error.kind(), ErrorKind::Configuration, "{}", error.report());
}

#[tokio::test]
async fn a_consumer_whose_log_has_lost_events_says_how_far_the_two_agree() {
    let (_database, router, store) = store().await;
    let mut consumer = consumer(&store);
    for _ in 0..10 {
        append(&store, 10).await;
        let batch = next(&mut consumer).await;
        consumer.commit(&batch).await.unwrap();
    }
    lose_events_behind(&router, 75).await;
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

#[tokio::test]
async fn a_saved_checkpoint_that_is_lost_is_noticed_though_nothing_comes() {
    let (_database, router, store) = store().await;
    append(&store, 20).await;
    let mut consumer = consumer(&store);
    for _ in 0..2 {
        let batch = next(&mut consumer).await;
        consumer.commit(&batch).await.unwrap();
    }
    // A failover has lost the last checkpoint, and no event.
    let back = "UPDATE mainstem.events_progress SET position = e.position, id = e.id \
                FROM mainstem.events e WHERE e.position = 10";
    run(&router, back).await;
    assert_eq!(positions(&next(&mut consumer).await), (11..=20).collect::<Vec<_>>());
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
    lose_events_behind(&router, 30).await;
    store.append((0..40).map(keyed), AppendCondition::none()).await.unwrap();
    let error = failure(&mut member(&store)).await;
    assert_eq!(error.kind(), ErrorKind::LogDiverged, "its new events would be skipped: {}", error.report());
}

#[tokio::test]
async fn what_is_not_for_a_consumer_moves_its_checkpoint_too() {
    let (_database, _router, store) = store().await;
    append_of(&store, ["A", "B", "B", "B"]).await;
    let of_a = Filter::matching().any_type_of(["A"]).finish().unwrap();
    let mut consumer = store.consumer("a", &of_a).consistency(Consistency::Strong).build().unwrap();
    let batch = next(&mut consumer).await;
    consumer.commit(&batch).await.unwrap();
    append_of(&store, ["B", "B"]).await;
    let quiet = timeout(HANG, consumer.next_batch()).await.unwrap().unwrap().unwrap();
    assert_eq!((quiet.len(), quiet.mark().position()), (0, 6));
    let mark = quiet.mark();
    let control = store.consumer_control("a");
    let early = control.handled(mark).timeout(Duration::from_millis(100)).await.unwrap_err();
    assert_eq!(early.kind(), ErrorKind::Timeout, "{early}");
    let waiting = tokio::spawn(IntoFuture::into_future(control.handled(mark).timeout(HANG)));
    sleep(Duration::from_millis(50)).await;
    consumer.commit(&quiet).await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap().checkpoint(), mark);
    // On a replica, when it has arrived there.
    let handled = control.handled(mark).consistency(Consistency::Eventual).timeout(HANG).await.unwrap();
    assert_eq!(handled.role(), mainstem::Role::Replica);
}
