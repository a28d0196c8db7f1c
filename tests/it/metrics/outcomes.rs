//! Succeeded, refused, conflicted, failed, timed out, cancelled: the outcomes of operations, commands, calls and
//! batches.

use std::{future::IntoFuture, sync::Arc};

use mainstem::{
    AppendCondition, Client, CommandExecutor, CommandRecord, Consistency, ErrorKind, EventStore, Filter, LogName,
    MemoryEventStore, NewEvent, PostgresEventStore, Role, Router, SnapshotKey, SnapshotStore,
    telemetry::{
        COMMAND, CONSUMER, EFFECT, ERROR_TYPE, MODEL, OPERATION, OUTCOME, ROLE,
        metrics::{
            COMMAND_CONFLICTS, COMMAND_DURATION, COMMAND_GAVE_UP, COMMAND_REPEATED, COMMAND_RETRIES,
            COMMAND_RETRY_DELAY, CONFLICT, CONNECTION_TIMEOUTS, CONNECTION_WAIT_TIME, CONSUMER_DURATION,
            CONSUMER_EVENTS, CONSUMER_RESTARTS, LIMIT, MODEL_DURATION, MODEL_EVENTS, OPERATION_DURATION,
            STORE_CONFLICTS, STORE_DURATION, STORE_EVENTS,
        },
    },
};
use serde_json::json;
use tokio::time::timeout;

use super::{HANG, MS, Take, Taken, given_up};
use crate::support::{RecordedMetrics, database, event, router, store};

fn one(outcome: &str) -> Vec<(String, u64)> {
    vec![(outcome.to_owned(), 1)]
}

/// Whoever reads the log or appends to it waits.
async fn locked(router: &Router) -> Client {
    let client = router.client().await.unwrap();
    client.batch_execute("BEGIN; LOCK TABLE mainstem.events").await.unwrap();
    client
}

#[tokio::test]
async fn operations_of_a_store_end_in_six_ways() {
    let (_database, router, store) = store().await;
    let any = Filter::any_event();
    let taken = Filter::matching().any_type_of(["Taken"]).finish().unwrap();
    store.append([event("Taken", json!({"secret": "hunter2"}))], AppendCondition::none()).await.unwrap();
    let read = store.query(&taken).await.unwrap();

    let (metrics, _kept) = RecordedMetrics::keep();
    let append = [(OPERATION, "append")];
    let ended = |operation: &str| {
        let outcomes = metrics.outcomes(&STORE_DURATION, &[(OPERATION, operation)]);
        metrics.clear();
        outcomes
    };
    store.append([event("Taken", json!({})), event("Other", json!({}))], AppendCondition::none()).await.unwrap();
    assert_eq!(metrics.sum(&STORE_EVENTS, &append), 2.0);
    assert_eq!(ended("append"), one("succeeded"));
    store.append([event("Other", json!({}))], read.unchanged()).await.unwrap_err();
    assert_eq!(metrics.sum(&STORE_CONFLICTS, &[(CONFLICT, "condition")]), 1.0);
    assert_eq!(metrics.sum(&STORE_EVENTS, &append), 0.0);
    assert_eq!(ended("append"), one("conflicted"));
    let none: [NewEvent; 0] = [];
    store.append(none, AppendCondition::none()).await.unwrap_err();
    assert_eq!(metrics.times(&STORE_DURATION, &[(ERROR_TYPE, "invalid_input")]), 1);
    assert_eq!(ended("append"), one("refused"));

    // Each node is asked by its own name.
    for (level, role) in [(Consistency::Strong, "primary"), (Consistency::AtLeast(read.token().clone()), "replica")] {
        let found = store.query(&taken).consistency(level).await.unwrap();
        assert_eq!(
            metrics.sum(&STORE_EVENTS, &[(OPERATION, "query"), (ROLE, found.role().to_string().as_str())]),
            found.len() as f64
        );
        assert_eq!(found.role() == Role::Primary, role == "primary");
        let of = [(OPERATION, "query"), (ROLE, role)];
        assert_eq!(metrics.times(&STORE_DURATION, &of), 1);
        assert_eq!(ended("query"), one("succeeded"));
    }

    let lock = locked(&router).await;
    metrics.clear();
    given_up(store.query(&any).consistency(Consistency::Strong).into_future()).await;
    assert_eq!(ended("query"), one("cancelled"));
    let late = store.query(&any).timeout(1000 * MS).await.unwrap_err();
    assert!(late.is_timeout(), "{late}");
    assert_eq!(ended("query"), one("timed_out"));
    given_up(store.append([event("Late", json!({}))], AppendCondition::none()).into_future()).await;
    assert_eq!(ended("append"), one("cancelled"));
    let late = store.append([event("Late", json!({}))], AppendCondition::none()).timeout(1000 * MS).await.unwrap_err();
    assert!(late.is_timeout() || late.is_outcome_unknown(), "{late}");
    assert_eq!(ended("append"), one("timed_out"));
    given_up(async {
        let mut stream = store.query_stream(&any);
        while stream.next().await.is_some() {}
    })
    .await;
    assert_eq!(ended("query_stream"), one("cancelled"));
    // It may have been saved, but the limit has run out.
    let head = read.head().unwrap();
    let key = SnapshotKey::new("state", 1, &any);
    lock.batch_execute("ROLLBACK; BEGIN; LOCK TABLE mainstem.events_snapshots").await.unwrap();
    metrics.clear();
    let late = store.save_snapshot(&key, head, &1).timeout(1000 * MS).await.unwrap_err();
    assert!(late.is_timeout() || late.is_outcome_unknown(), "{late}");
    assert_eq!(ended("save_snapshot"), one("timed_out"));
    drop(lock);

    let mut stream = store.query_stream(&any);
    while let Some(event) = stream.next().await {
        event.unwrap();
    }
    assert!(metrics.sum(&STORE_EVENTS, &[(OPERATION, "query_stream")]) >= 3.0);
    assert_eq!(ended("query_stream"), one("succeeded"));
    let nowhere = PostgresEventStore::with_name(&router, LogName::new("mainstem", "nowhere").unwrap());
    nowhere.query(&any).await.unwrap_err();
    assert_eq!(metrics.times(&STORE_DURATION, &[(ERROR_TYPE, "42P01")]), 1);
    assert_eq!(ended("query"), one("failed"));
    store.count(&any).await.unwrap();
    assert!(metrics.label_values().iter().all(|value| !value.contains("hunter2")), "no payload is a label");
    assert_eq!(ended("count"), one("succeeded"));
    // A future that nobody has polled was no operation.
    drop(store.query(&any).into_future());
    assert_eq!(ended("query"), []);
}

#[tokio::test]
async fn commands_end_in_seven_ways_and_tell_their_retries() {
    let (metrics, _kept) = RecordedMetrics::keep();
    let executor = CommandExecutor::new(MemoryEventStore::new()).base_delay(MS);
    let command = [(COMMAND, "Take")];
    let ended = || {
        let outcomes = metrics.outcomes(&COMMAND_DURATION, &command);
        metrics.clear();
        outcomes
    };
    executor.execute(&Take::IfNobodyHas).await.unwrap();
    assert_eq!((metrics.sum(&COMMAND_RETRIES, &command), metrics.sum(&COMMAND_CONFLICTS, &command)), (0.0, 0.0));
    assert_eq!(metrics.times(&COMMAND_RETRY_DELAY, &command), 0);
    assert_eq!(metrics.outcomes(&MODEL_DURATION, &[(MODEL, "Taken"), (ROLE, "primary")]), one("succeeded"));
    assert_eq!(ended(), one("succeeded"));
    executor.execute(&Take::IfNobodyHas).await.unwrap();
    assert_eq!(metrics.sum(&MODEL_EVENTS, &[(MODEL, "Taken")]), 1.0);
    assert_eq!(ended(), one("nothing"));
    executor.execute(&Take::Never).await.unwrap_err();
    assert_eq!(metrics.times(&COMMAND_DURATION, &[(ERROR_TYPE, "database")]), 0);
    assert_eq!(ended(), one("refused"));
    executor.execute(&Take::Badly).await.unwrap_err();
    assert_eq!(metrics.times(&COMMAND_DURATION, &[(ERROR_TYPE, "database")]), 1);
    assert_eq!(ended(), one("failed"));
    let record = CommandRecord::new("take-1", "Take");
    executor.execute(&Take::Always).recorded(record.clone()).await.unwrap();
    assert_eq!(metrics.sum(&COMMAND_REPEATED, &command), 0.0);
    executor.execute(&Take::Always).recorded(record).await.unwrap();
    assert_eq!(metrics.sum(&COMMAND_REPEATED, &command), 1.0);
    metrics.clear();
    executor.read(Taken::default()).await.unwrap();
    assert_eq!(metrics.outcomes(&MODEL_DURATION, &[(MODEL, "Taken")]), one("succeeded"));
    metrics.clear();

    // Somebody is always faster.
    let rivalled = CommandExecutor::new(Rivalled(Arc::new(MemoryEventStore::new()))).base_delay(MS).max_attempts(3);
    let error = rivalled.execute(&Take::Always).await.unwrap_err();
    assert!(error.error().unwrap().is_conflict());
    assert_eq!((metrics.sum(&COMMAND_RETRIES, &command), metrics.sum(&COMMAND_CONFLICTS, &command)), (2.0, 3.0));
    assert_eq!(metrics.times(&COMMAND_RETRY_DELAY, &command), 1);
    assert_eq!(metrics.sum(&COMMAND_GAVE_UP, &[(LIMIT, "attempts")]), 1.0);
    assert_eq!(ended(), one("conflicted"));
    let waiting = CommandExecutor::new(Rivalled(Arc::new(MemoryEventStore::new()))).base_delay(HANG).max_delay(HANG);
    let in_time = waiting.clone().timeout(10 * HANG);
    given_up(in_time.execute(&Take::Always).into_future()).await;
    assert_eq!((metrics.sum(&COMMAND_CONFLICTS, &command), metrics.sum(&COMMAND_GAVE_UP, &command)), (1.0, 0.0));
    assert_eq!(ended(), one("cancelled"));
    waiting.timeout(100 * MS).execute(&Take::Always).await.unwrap_err();
    assert_eq!(metrics.sum(&COMMAND_GAVE_UP, &[(LIMIT, "time")]), 1.0);
    assert_eq!(ended(), one("conflicted"));

    let (_database, router, store) = store().await;
    let executor = CommandExecutor::new(store).call_timeout(1000 * MS).max_attempts(1);
    let _lock = locked(&router).await;
    metrics.clear();
    executor.execute(&Take::Always).await.unwrap_err();
    assert_eq!(metrics.outcomes(&MODEL_DURATION, &[(MODEL, "Taken")]), one("timed_out"));
    assert_eq!(ended(), one("timed_out"));
}

/// A store in which another append comes before each.
#[derive(Clone, Debug)]
struct Rivalled(Arc<MemoryEventStore>);

impl EventStore for Rivalled {
    fn run_append(
        &self,
        request: mainstem::backend::AppendRequest,
    ) -> mainstem::backend::BoxFuture<mainstem::Result<mainstem::Appended>> {
        let store = Arc::clone(&self.0);
        Box::pin(async move {
            let mut rival = request.clone();
            (rival.events, rival.condition) = (vec![event("Taken", json!({}))], AppendCondition::none());
            store.run_append(rival).await?;
            store.run_append(request).await
        })
    }

    fn run_query(
        &self,
        request: mainstem::backend::QueryRequest,
    ) -> mainstem::backend::BoxFuture<mainstem::Result<mainstem::backend::Answer>> {
        self.0.run_query(request)
    }
}

#[tokio::test]
async fn calls_end_in_six_ways_and_name_the_node_that_was_asked() {
    let database = database().await;
    let (metrics, _kept) = RecordedMetrics::keep();
    let primary = router(&database).await;
    let client = primary.client().await.unwrap();
    client.batch_execute("CREATE TABLE t (a int4); INSERT INTO t VALUES (1)").await.unwrap();
    metrics.clear();
    let ended = || {
        let outcomes = metrics.outcomes(&OPERATION_DURATION, &[(ROLE, "primary")]);
        metrics.clear();
        outcomes
    };
    client.batch_execute("SELECT 'hunter2'").await.unwrap();
    assert_eq!(metrics.times(&OPERATION_DURATION, &[("mainstem.node", client.node()), (EFFECT, "write")]), 1);
    assert!(metrics.label_values().iter().all(|value| !value.contains("hunter2")), "no SQL is a label");
    assert_eq!(ended(), one("succeeded"));
    client.batch_execute("SELECT 1/0").await.unwrap_err();
    assert_eq!(metrics.times(&OPERATION_DURATION, &[(ERROR_TYPE, "22012")]), 1);
    assert_eq!(ended(), one("failed"));
    given_up(client.batch_execute("SELECT pg_sleep(60)")).await;
    assert_eq!(ended(), one("cancelled"));
    drop(client);

    // Two transactions in each other's way.
    let (one_side, other_side) = (primary.client().await.unwrap(), primary.client().await.unwrap());
    for side in [&one_side, &other_side] {
        side.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT * FROM t").await.unwrap();
    }
    one_side.batch_execute("UPDATE t SET a = 2; COMMIT").await.unwrap();
    metrics.clear();
    let error = other_side.batch_execute("UPDATE t SET a = 3").await.unwrap_err();
    assert_eq!(error.sqlstate(), Some("40001"));
    assert_eq!(ended(), one("conflicted"));
    drop((one_side, other_side));

    let replica = primary.client_at(Consistency::Eventual).await.unwrap();
    metrics.clear();
    replica.batch_execute("CREATE TABLE never ()").await.unwrap_err();
    assert_eq!(metrics.outcomes(&OPERATION_DURATION, &[(ROLE, "replica")]), one("refused"));
    drop(replica);

    let builder = || Router::builder().primary(database.primary_url()).max_connections(1).probe_interval(None);
    let narrow = builder().call_timeout(1000 * MS).acquire_timeout(HANG).build().unwrap();
    let held = narrow.client().await.unwrap();
    metrics.clear();
    let error = held.batch_execute("SELECT pg_sleep(60)").await.unwrap_err();
    assert!(error.is_outcome_unknown());
    assert_eq!(ended(), one("timed_out"));
    drop(held);
    let held = narrow.client().await.unwrap();
    metrics.clear();
    given_up(narrow.client()).await;
    assert_eq!(metrics.outcomes(&CONNECTION_WAIT_TIME, &[]), one("cancelled"));
    assert_eq!(metrics.times(&CONNECTION_TIMEOUTS, &[]), 0);
    drop((held, narrow));
    let narrow = builder().acquire_timeout(2000 * MS).build().unwrap();
    let held = narrow.client().await.unwrap();
    metrics.clear();
    assert_eq!(narrow.client().await.unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(metrics.outcomes(&CONNECTION_WAIT_TIME, &[]), one("timed_out"));
    assert_eq!(metrics.sum(&CONNECTION_TIMEOUTS, &[]), 1.0);
    drop(held);
}

#[tokio::test]
async fn batches_of_consumers_are_committed_or_overtaken_or_given_up() {
    let (_database, _router, store) = store().await;
    store.append((0..5).map(|n| event("A", json!(n))), AppendCondition::none()).await.unwrap();
    let (metrics, _kept) = RecordedMetrics::keep();
    let mut consumer =
        store.consumer("c", &Filter::any_event()).consistency(Consistency::Strong).batch_events(2).build().unwrap();
    let of = [(CONSUMER, "c")];
    let next =
        async |consumer: &mut mainstem::Consumer| timeout(HANG, consumer.next_batch()).await.unwrap().unwrap().unwrap();
    let first = next(&mut consumer).await;
    consumer.commit(&first).await.unwrap();
    assert_eq!(metrics.sum(&CONSUMER_EVENTS, &of), 2.0);
    assert_eq!(metrics.outcomes(&CONSUMER_DURATION, &of), one("succeeded"));
    metrics.clear();
    // The same once more: it is nobody's to save any more.
    let error = consumer.transaction(&first).await.unwrap().commit().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OwnershipLost);
    assert_eq!(metrics.outcomes(&CONSUMER_DURATION, &of), one("conflicted"));
    assert_eq!((metrics.sum(&CONSUMER_EVENTS, &of), metrics.sum(&CONSUMER_RESTARTS, &of)), (0.0, 0.0));
    metrics.clear();
    let second = next(&mut consumer).await;
    assert_eq!(metrics.sum(&CONSUMER_RESTARTS, &of), 1.0);
    drop(consumer.transaction(&second).await.unwrap());
    assert_eq!(metrics.outcomes(&CONSUMER_DURATION, &of), one("cancelled"));
    metrics.clear();
    let second = next(&mut consumer).await;
    consumer.transaction(&second).await.unwrap().commit().await.unwrap();
    assert_eq!(metrics.sum(&CONSUMER_EVENTS, &of), 2.0);
    assert_eq!(metrics.outcomes(&CONSUMER_DURATION, &[(OUTCOME, "succeeded")]), one("succeeded"));
}
