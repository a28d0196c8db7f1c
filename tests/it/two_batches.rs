//! A second batch after the one in flight: when there is one, and what it must not change.

use std::{
    future::IntoFuture,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use mainstem::{
    AppendCondition, Appended, Error, ErrorKind, EventId, EventStore, ExpectedVersion, NewEvent, PostgresEventStore,
    Router, testing::TestDatabase,
};
use serde_json::json;
use tokio::{task::JoinHandle, time::sleep};

use crate::support::{
    LogLock,
    boundary::{boundary, in_boundary, unless},
    event, store,
};

/// How many events each transaction has written.
async fn sizes(router: &Router) -> Vec<i64> {
    let sizes = "SELECT count(*) FROM mainstem.events GROUP BY xmin::text ORDER BY min(position)";
    router.client().await.unwrap().query(sizes, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

/// For the lock and for looking. Of the store's own router that would take the session that has written, and a session that
/// is opened instead knows nothing of what was written before it.
async fn elsewhere(database: &TestDatabase<'_>) -> Router {
    Router::builder().primary(database.primary_url()).connect().await.unwrap()
}

/// So many appends that arrive together, each in a boundary of its own and on the condition that nothing is there.
fn arrive(store: &PostgresEventStore, amount: u64, limit: Duration) -> Vec<JoinHandle<Result<Appended, Error>>> {
    let appends = (0..amount).map(|_| {
        let name = EventId::new().to_string();
        let append = store.append(in_boundary(&name), unless(&boundary(&name)));
        tokio::spawn(append.timeout(limit).into_future())
    });
    appends.collect()
}

const LIMIT: Duration = Duration::from_secs(20);

async fn all_are_written(appends: impl IntoIterator<Item = JoinHandle<Result<Appended, Error>>>) {
    for append in join_all(appends).await {
        append.unwrap().unwrap();
    }
}

/// A second batch is sent while the first is under way, if it is worth it, and both are settled. It goes over the same
/// connection.
#[tokio::test]
async fn many_appends_are_under_way_in_two_batches() {
    let (_database, router, store) = store().await;
    for amount in [60, 100] {
        let lock = LogLock::take(&router).await;
        let first = arrive(&store, 1, LIMIT);
        LogLock::is_waited_for(&router).await;
        let many = arrive(&store, amount, LIMIT);
        sleep(Duration::from_millis(50)).await;
        let few = arrive(&store, 3, LIMIT);
        sleep(Duration::from_millis(50)).await;
        assert_eq!(LogLock::waiting(&router).await, 1);
        lock.release().await;
        all_are_written(first.into_iter().chain(many).chain(few)).await;
    }
    assert_eq!(sizes(&router).await, [1, 60 + 3, 1, 100, 3]);
    store.close().await;
}

/// While nobody else writes, it is worth it for fewer.
#[tokio::test]
async fn a_process_that_is_alone_sends_smaller_batches_behind_each_other() {
    let (_database, router, store) = store().await;
    for _ in 0..10 {
        all_are_written(arrive(&store, 1, LIMIT)).await;
    }
    let lock = LogLock::take(&router).await;
    let first = arrive(&store, 1, LIMIT);
    LogLock::is_waited_for(&router).await;
    let sent = arrive(&store, 16, LIMIT);
    sleep(Duration::from_millis(50)).await;
    let few = arrive(&store, 3, LIMIT);
    sleep(Duration::from_millis(50)).await;
    lock.release().await;
    all_are_written(first.into_iter().chain(sent).chain(few)).await;
    assert_eq!(sizes(&router).await[10..], [1, 16, 3]);
    store.close().await;
}

/// What is sent behind a batch is looked at as if that had been written at the end of what this process knows. Here somebody
/// else writes between the two.
#[tokio::test]
async fn a_second_batch_notices_what_others_wrote_before_the_first() {
    let (database, _router, store) = store().await;
    let elsewhere = elsewhere(&database).await;
    let other = PostgresEventStore::new(&elsewhere);
    for _ in 0..10 {
        all_are_written(arrive(&store, 1, LIMIT)).await;
    }
    let mut head = store.append(in_boundary("ours"), AppendCondition::none()).await.unwrap().last();
    for round in 0..2 {
        let lock = LogLock::take(&elsewhere).await;
        let theirs =
            (round == 1).then(|| tokio::spawn(other.append(in_boundary("7"), AppendCondition::none()).into_future()));
        LogLock::is_waited_for_by(&elsewhere, i64::from(theirs.is_some())).await;
        let first = tokio::spawn(store.append(in_boundary("first"), AppendCondition::none()).into_future());
        LogLock::is_waited_for_by(&elsewhere, 1 + i64::from(theirs.is_some())).await;
        let behind = (0..20).map(|n| {
            let condition = AppendCondition::fail_if_events_match(boundary(&n.to_string())).after(head);
            tokio::spawn(store.append(in_boundary("ours"), condition).into_future())
        });
        let behind: Vec<_> = behind.collect();
        sleep(Duration::from_millis(50)).await;
        lock.release().await;
        let expected =
            if let Some(theirs) = theirs { Some(theirs.await.unwrap().unwrap().first_position()) } else { None };
        first.await.unwrap().unwrap();
        for (n, append) in join_all(behind).await.into_iter().enumerate() {
            let outcome = append.unwrap();
            if let (7, Some(position)) = (n, expected) {
                let error = outcome.unwrap_err();
                assert_eq!(error.conflict().map(|conflict| conflict.position), Some(position));
            } else {
                head = outcome.unwrap_or_else(|error| panic!("{n} of round {round}: {error}")).last();
            }
        }
    }
    store.close().await;
}

/// Has the append procedure count: a part of its text is followed by a step of the sequence.
async fn count(router: &Router, sequence: &str, part: &str) {
    let client = router.client().await.unwrap();
    let source = "SELECT pg_get_functiondef('mainstem.events_append_1'::regproc)";
    let source: String = client.query_one(source, &[]).await.unwrap().get(0);
    assert!(source.contains(part));
    let counting = source.replace(part, &format!("{part} done := nextval('public.{sequence}')::text;"));
    client.batch_execute(&format!("CREATE SEQUENCE public.{sequence}; {counting}")).await.unwrap();
}

async fn counted(router: &Router, sequence: &str) -> i64 {
    let sql = format!("SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM public.{sequence}");
    router.client().await.unwrap().query_one(&sql, &[]).await.unwrap().get(0)
}

/// The client knows what the session remembers of the batch before: its conditions need not be judged under the lock.
#[tokio::test]
async fn a_batch_sent_after_another_is_checked_as_if_that_were_written() {
    let (database, _router, store) = store().await;
    let elsewhere = elsewhere(&database).await;
    count(&elsewhere, "taken_over", "after_positions := predecessor_positions;").await;
    for _ in 0..10 {
        all_are_written(arrive(&store, 1, LIMIT)).await;
    }
    let head = store.append(in_boundary("ours"), AppendCondition::none()).await.unwrap().last();
    let lock = LogLock::take(&elsewhere).await;
    let first = arrive(&store, 1, LIMIT);
    LogLock::is_waited_for(&elsewhere).await;
    let behind = (0..20).map(|n| {
        let condition = AppendCondition::fail_if_events_match(boundary(&n.to_string())).after(head);
        tokio::spawn(store.append(in_boundary("ours"), condition).into_future())
    });
    let behind: Vec<_> = behind.collect();
    sleep(Duration::from_millis(50)).await;
    assert_eq!(counted(&elsewhere, "taken_over").await, 0);
    lock.release().await;
    all_are_written(first.into_iter().chain(behind)).await;
    assert_eq!(counted(&elsewhere, "taken_over").await, 1);
    store.close().await;
}

/// Two batches take turns, and somebody takes the lock for longer than anybody waits. They are not sent again and again.
#[tokio::test]
async fn while_the_lock_is_not_to_be_had_there_are_few_calls_and_everybody_is_told_in_time() {
    let (_database, router, store) = store().await;
    count(&router, "calls", "BEGIN\n").await;
    let limit = Duration::from_secs(2);
    let over = Arc::new(AtomicBool::new(false));
    let busy = (0..64).map(|n| {
        let (store, over) = (store.clone(), Arc::clone(&over));
        tokio::spawn(async move {
            let (mut written, mut errors) = (0, Vec::new());
            while !over.load(Ordering::Relaxed) {
                let append = store.append(in_boundary(&n.to_string()), AppendCondition::none());
                match append.timeout(limit).into_future().await {
                    Ok(_) => written += 1,
                    Err(error) => errors.push(error),
                }
            }
            (written, errors)
        })
    });
    let busy: Vec<_> = busy.collect();
    sleep(Duration::from_millis(500)).await;
    let lock = LogLock::take(&router).await;
    let before = counted(&router, "calls").await;
    sleep(limit * 9 / 10).await;
    let calls = counted(&router, "calls").await - before;
    over.store(true, Ordering::Relaxed);
    lock.release().await;
    let (mut written, mut errors) = (0, Vec::new());
    for task in busy {
        let (amount, failed) = task.await.unwrap();
        written += amount;
        errors.extend(failed);
    }
    assert!(written > 64, "{written}");
    assert!(calls <= 8, "{calls}");
    assert!(errors.iter().all(|error| error.kind() == ErrorKind::Timeout), "{errors:?}");
    store.close().await;
}

/// Nobody waits for a lock behind somebody else who does, until his limit has run out: he would not know what became of it.
#[tokio::test]
async fn appends_after_a_batch_that_gets_no_lock_are_reported_unwritten() {
    let (_database, router, store) = store().await;
    let lock = LogLock::take(&router).await;
    let limits = [Duration::from_secs(1), Duration::from_millis(600)];
    // Some are sent behind the first one, but for those whose limit is shorter than the first one's wait.
    for [sent, short] in [[100, 100], [0, 100]] {
        let first = arrive(&store, 1, limits[0]);
        LogLock::is_waited_for(&router).await;
        let sent = arrive(&store, sent, limits[0]);
        sleep(Duration::from_millis(50)).await;
        let short = arrive(&store, short, limits[1]);
        for (n, append) in join_all(first.into_iter().chain(sent).chain(short)).await.into_iter().enumerate() {
            let error = append.unwrap().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Timeout, "{n}: {}", error.report());
        }
    }
    lock.release().await;
    all_are_written(arrive(&store, 1, LIMIT)).await;
    assert_eq!(sizes(&router).await, [1]);
    store.close().await;
}

/// Those who arrive together are sent in two halves, if each is worth it: the server reads the second while it writes the first.
#[tokio::test]
async fn many_events_that_arrive_together_are_sent_in_two_halves() {
    let (_database, router, store) = store().await;
    for appends in [12, 20] {
        let lock = LogLock::take(&router).await;
        let arrive = (0..appends).map(|n| {
            let (store, name) = (store.clone(), format!("{appends} {n}"));
            let events: Vec<NewEvent> = (0..10).flat_map(|_| in_boundary(&name)).collect();
            tokio::spawn(async move { store.append(events, unless(&boundary(&name))).await })
        });
        let arrived: Vec<_> = arrive.collect();
        LogLock::is_waited_for(&router).await;
        sleep(Duration::from_millis(50)).await;
        lock.release().await;
        let mut firsts = Vec::new();
        for append in join_all(arrived).await {
            firsts.push(append.unwrap().unwrap().first_position());
        }
        firsts.sort_unstable();
        let begin = firsts[0];
        assert_eq!(firsts, (0..appends).map(|n| begin + 10 * n).collect::<Vec<_>>(), "each is whole");
    }
    assert_eq!(sizes(&router).await, [120, 100, 100]);
    store.close().await;
}

/// Also when there are enough of them for two batches, and the second would be ready first.
#[tokio::test]
async fn appends_to_one_stream_that_arrive_together_are_settled_in_their_order() {
    let (_database, _, store) = store().await;
    for round in 0..10 {
        let stream = format!("stream {round}");
        let events =
            |amount: usize| (0..amount).map(|_| event("A", json!({"b": "x".repeat(2000)}))).collect::<Vec<_>>();
        let to_stream = |version, amount| {
            let (store, stream, events) = (store.clone(), stream.clone(), events(amount));
            tokio::spawn(async move {
                store.append(events, AppendCondition::none()).to_stream(&*stream, version).await.map(drop)
            })
        };
        let first = to_stream(ExpectedVersion::NoStream, 400);
        let second = to_stream(ExpectedVersion::Exact(400), 1);
        let others = (0..130).map(|n| {
            let (store, name) = (store.clone(), format!("{round} {n}"));
            tokio::spawn(async move { store.append(in_boundary(&name), AppendCondition::none()).await.map(drop) })
        });
        let all: Vec<_> = [first, second].into_iter().chain(others).collect();
        for (number, append) in join_all(all).await.into_iter().enumerate() {
            append.unwrap().unwrap_or_else(|error| panic!("append {number} of round {round}: {error}"));
        }
    }
    store.close().await;
}
