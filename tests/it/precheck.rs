//! Where others write as well, an append is checked before it waits for the log's lock, and again when it has it.

use std::{future::IntoFuture, time::Duration};

use mainstem::{
    AppendCondition, Appended, Error, ErrorKind, EventStore, Filter, Mark, NewEvent, PostgresEventStore, Predicate,
    Router,
};
use serde_json::json;

use crate::{
    contention::sabotage,
    support::{
        LogLock,
        boundary::{boundary, in_boundary},
        event, store,
    },
};

/// One event that somebody has read, and behind it one in the boundary "a".
async fn read_and_written(store: &PostgresEventStore) -> Mark {
    let read = store.append(in_boundary("read"), AppendCondition::none()).await.unwrap().last();
    store.append(in_boundary("a"), AppendCondition::none()).await.unwrap();
    read
}

/// Appends through a store of its own, which knows nothing of what others have written.
fn append(
    router: &Router,
    filter: &Filter,
    after: Mark,
) -> impl Future<Output = Result<Appended, Error>> + Send + use<> {
    let condition = AppendCondition::fail_if_events_match(filter.clone()).after(after);
    PostgresEventStore::new(router).append(in_boundary("own"), condition).into_future()
}

fn conflict(result: Result<Appended, Error>) -> Option<u64> {
    result.err().and_then(|error| error.conflict().map(|conflict| conflict.position))
}

#[tokio::test]
async fn an_append_with_an_existing_conflict_does_not_wait_for_the_lock() {
    let (_database, router, store) = store().await;
    let read = read_and_written(&store).await;
    let lock = LogLock::take(&router).await;
    assert_eq!(conflict(append(&router, &boundary("a"), read).await), Some(2));
    let late = AppendCondition::fail_if_events_match(boundary("b")).after(read);
    let other = PostgresEventStore::new(&router);
    let late = other.append(in_boundary("b"), late).timeout(Duration::from_millis(300)).await;
    assert_eq!(late.unwrap_err().kind(), ErrorKind::Timeout, "who has not waits");
    lock.release().await;
}

#[tokio::test]
async fn conflicts_appended_while_waiting_for_the_lock_are_found() {
    let (_database, router, store) = store().await;
    let read = read_and_written(&store).await;
    let lock = LogLock::take(&router).await;
    let [broken, held] = ["b", "c"].map(|name| tokio::spawn(append(&router, &boundary(name), read)));
    LogLock::is_waited_for_by(&router, 2).await;
    lock.append("b").await;
    assert_eq!(conflict(broken.await.unwrap()), Some(3));
    assert_eq!(held.await.unwrap().unwrap().first_position(), 4);
}

/// A replica shows what its primary does not before its commit has heard from the standby: that is no other history.
#[tokio::test]
async fn an_event_that_only_a_replica_shows_so_far_is_waited_for() {
    let (_database, router, store) = store().await;
    read_and_written(&store).await;
    let lock = LogLock::take(&router).await;
    lock.insert("b").await;
    let seen = AppendCondition::fail_if_events_match(boundary("b")).after_position(3);
    let other = PostgresEventStore::new(&router);
    let behind = tokio::spawn(other.append(in_boundary("b"), seen).into_future());
    LogLock::is_waited_for(&router).await;
    lock.commit().await;
    assert_eq!(behind.await.unwrap().unwrap().first_position(), 4);
}

/// Its events may match its own condition: that is how most commands are made sure to run once.
#[tokio::test]
async fn the_first_try_that_is_committed_meanwhile_is_no_conflict() {
    let (_database, router, store) = store().await;
    let read = read_and_written(&store).await;
    // The call stops behind the look-up of its ids, before it has the lock.
    let behind_look_up = "        -- Is what the clients have read";
    let stop = format!("IF NOT locked THEN done := pg_advisory_xact_lock_shared(77, 77); END IF;\n{behind_look_up}");
    sabotage(&router, &[(behind_look_up, &stop)]).await;
    let gate = router.client().await.unwrap();
    gate.batch_execute("BEGIN; SELECT pg_advisory_xact_lock(77, 77)").await.unwrap();
    let again = in_boundary("own").remove(0).occurred_when_recorded();
    let insert = format!(
        "INSERT INTO mainstem.events (position, occurred_at, recorded_at, following, id, type, tags, metadata, payload) \
         VALUES (3, now(), now(), 0, '{}', 'A', '{{}}', '{{}}', '{{\"b\": \"own\"}}')",
        again.id()
    );
    let condition = AppendCondition::fail_if_events_match(boundary("own")).after(read);
    let other = PostgresEventStore::new(&router);
    let again = tokio::spawn(other.append([again], condition).into_future());
    LogLock::is_waited_for(&router).await;
    router.client().await.unwrap().batch_execute(&insert).await.unwrap();
    gate.batch_execute("COMMIT").await.unwrap();
    let again = again.await.unwrap().unwrap();
    assert_eq!((again.first_position(), again.is_repeated()), (3, true));
}

/// Whatever a condition looks for, and in as many places: by the first look as by the one under the lock.
#[tokio::test]
async fn conflicts_are_found_for_every_kind_of_filter() {
    let (_database, router, store) = store().await;
    let payload = |name: &str, value| Filter::matching().any_predicate_of([Predicate::payload(name, value)]);
    let five = || ["p", "q", "r", "s", "t"].map(|name| Predicate::payload(name, 1));
    let found: [(Filter, NewEvent); 9] = [
        (Filter::any_event(), event("X", json!({}))),
        (Filter::matching().any_type_of(["B", "C"]).finish().unwrap(), event("C", json!({}))),
        (Filter::matching().all_tags_of(["u", "v"]).finish().unwrap(), event("A", json!({})).with_tags(["v", "u"])),
        (payload("n", json!(1.50)).finish().unwrap(), event("A", json!({"n": 1.5}))),
        (payload("z", json!(null)).finish().unwrap(), event("A", json!({"z": null}))),
        (
            payload("o", json!({"i": {"j\"}": true}})).finish().unwrap(),
            event("A", json!({"o": {"i": {"j\"}": true}, "k": 1}})),
        ),
        (payload("l", json!(["x"])).finish().unwrap(), event("A", json!({"l": ["y", "x"]}))),
        (Filter::matching().any_predicate_of(five()).finish().unwrap(), event("A", json!({"t": 1}))),
        (
            Filter::matching().any_predicate_of([Predicate::metadata("m", "w")]).finish().unwrap(),
            event("A", json!({})).with_metadata(&json!({"m": "w"})).unwrap(),
        ),
    ];
    for (filter, event) in found {
        let read = store.append(in_boundary("read"), AppendCondition::none()).await.unwrap().last();
        // Something that has nothing to do with it, unless everything has.
        let other =
            store.append([self::event("Other", json!({"n": 2}))], AppendCondition::none()).await.unwrap().last();
        let by_any = (filter == Filter::any_event()).then_some(other.position());
        assert_eq!(conflict(append(&router, &filter, read).await), by_any, "{filter:?}");
        let written = store.append([event], AppendCondition::none()).await.unwrap().last().position();
        assert_eq!(conflict(append(&router, &filter, read).await), by_any.or(Some(written)), "{filter:?}");
    }
}

/// Two appends in one call, each on the condition that no event of a type is behind the first.
const TWO: &str = r#"CALL mainstem.events_append_1(ARRAY[gen_random_uuid(), gen_random_uuid()], ARRAY['N', 'N'], ARRAY['{}', '{}'],
    ARRAY['{}', '{}']::jsonb[], ARRAY['{}', '{}']::jsonb[], NULL, NULL, ARRAY[NULL, NULL]::timestamptz[], ARRAY[1, 2], ARRAY[0, 0],
    ARRAY[1, 1], ARRAY[NULL, NULL]::uuid[], ARRAY['[{"types": ["A"]}]', '[{"types": ["B"]}]'], NULL, NULL, NULL,
    ARRAY[1, 2], ARRAY[-1, -1], '["A", "B"]', NULL, NULL, NULL, NULL, 5000, true, NULL, NULL, NULL, NULL,
    NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)"#;

#[tokio::test]
async fn the_first_event_that_breaks_a_condition_is_told_whenever_it_was_seen() {
    let (_database, router, store) = store().await;
    read_and_written(&store).await;
    let lock = LogLock::take(&router).await;
    let client = router.client().await.unwrap();
    let call = tokio::spawn(async move { client.query_one(TWO, &[]).await });
    LogLock::is_waited_for(&router).await;
    lock.append("another of the same type").await;
    let row = call.await.unwrap().unwrap();
    let outcomes: Vec<Option<String>> = row.get("outcomes");
    assert_eq!(outcomes, [Some("conflict".to_owned()), None]);
    assert_eq!(row.get::<_, Vec<Option<i64>>>("positions"), [Some(2), None]);
    assert_eq!(row.get::<_, i64>("head"), 3);
}

/// Of two appends in one call the second one comes behind the first: another event has the version that it expects.
#[tokio::test]
async fn an_append_that_expects_a_replaced_stream_event_is_refused() {
    let (_database, router, store) = store().await;
    let client = router.client().await.unwrap();
    let call = TWO.replace(
        "ARRAY['[{\"types\": [\"A\"]}]', '[{\"types\": [\"B\"]}]'], NULL, NULL, NULL,",
        "ARRAY[NULL, NULL]::text[], \
         ARRAY['s', 's'], ARRAY[NULL, 1]::int8[], ARRAY[NULL, gen_random_uuid()]::uuid[],",
    );
    let call =
        call.replace("ARRAY[1, 1], ARRAY[NULL, NULL]::uuid[]", "ARRAY[NULL, NULL]::int8[], ARRAY[NULL, NULL]::uuid[]");
    let call = call.replace("ARRAY[1, 2], ARRAY[-1, -1], '[\"A\", \"B\"]'", "NULL, NULL, NULL");
    let row = client.query_one(&call, &[]).await.unwrap();
    assert_eq!(row.get::<_, Vec<Option<String>>>("outcomes"), [None, Some("replaced".to_owned())]);
    assert_eq!(row.get::<_, Vec<Option<i64>>>("positions"), [None, Some(1)]);
    assert_eq!(store.load_stream("s").await.unwrap().version(), 1);
}
