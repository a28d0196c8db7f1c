//! The races that other event stores on PostgreSQL have lost, each paused at the moment that matters. Where the append procedure
//! contains the defence, a `mutation` removes it in the test's database: then the race must be lost.

use std::{
    future::{Future, IntoFuture},
    time::Duration,
};

use mainstem::{
    AppendCondition, Client, Consistency, Error, EventStore, Filter, PostgresEventStore, Router, testing::TestDatabase,
};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::{
    contention::{FROM_SEQUENCE, FROM_SEQUENCE_ALONE, LOCK, sabotage},
    support::{LogLock, cluster, event, store},
};

const LIMIT: Duration = Duration::from_secs(20);

/// A place on the way of the database where tests stop somebody: whoever calls `halt` waits until this is dropped.
struct Gate(Client);

impl Gate {
    const HALT: &str = "CREATE FUNCTION halt() RETURNS bool LANGUAGE plpgsql AS $$ BEGIN \
        PERFORM pg_advisory_lock_shared(77); PERFORM pg_advisory_unlock_shared(77); RETURN true; END $$;";

    async fn close(router: &Router) -> Self {
        let client = router.client().await.unwrap();
        client.batch_execute("SELECT pg_advisory_lock(77)").await.unwrap();
        Self(client)
    }

    async fn open(self) {
        self.0.batch_execute("SELECT pg_advisory_unlock(77)").await.unwrap();
    }
}

/// How many sessions of this database wait for an advisory lock.
async fn waiting(router: &Router) -> i64 {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'advisory'";
    router.client().await.unwrap().query_one(sql, &[]).await.unwrap().get(0)
}

async fn until(what: &str, mut check: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !check().await {
        assert!(Instant::now() < deadline, "{what} has not happened within {LIMIT:?}");
        sleep(Duration::from_millis(5)).await;
    }
}

async fn run(router: &Router, sql: &str) {
    router.client().await.unwrap().batch_execute(sql).await.unwrap();
}

fn either(one: &str, other: &str) -> Filter {
    Filter::matching().all_tags_of([one]).or_matching().all_tags_of([other]).finish().unwrap()
}

/// One append is in flight, at the lower position, while another one comes; then somebody reads a boundary that both are
/// in, and decides when they are through.
async fn decide_beside_one_in_flight(router: &Router) -> Result<(), Error> {
    let halt = "CREATE FUNCTION halt_row() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM halt(); RETURN NEW; END $$; \
                CREATE TRIGGER slow BEFORE INSERT ON mainstem.events FOR EACH ROW WHEN (NEW.type = 'Slow') \
                EXECUTE FUNCTION halt_row()";
    run(router, &[Gate::HALT, halt].concat()).await;
    // Each of them is a process of its own to the server.
    let [slow, quick, deciding] = [(); 3].map(|()| PostgresEventStore::new(router));
    let gate = Gate::close(router).await;
    let first = event("Slow", json!({})).with_tag("course:1");
    let first = tokio::spawn(slow.append([first], AppendCondition::none()).into_future());
    until("the slow append's wait", async || waiting(router).await == 1).await;
    let second = event("Quick", json!({})).with_tag("student:2");
    let second = tokio::spawn(quick.append([second], AppendCondition::none()).into_future());
    until("the end or the wait of the quick append", async || second.is_finished() || waiting(router).await == 2).await;
    let history = deciding.query(&either("course:1", "student:2")).await.unwrap();
    gate.open().await;
    first.await.unwrap().unwrap();
    second.await.unwrap().unwrap();
    let decision = event("Decided", json!({}));
    deciding.append([decision], history.unchanged()).await.map(drop)
}

#[tokio::test]
async fn an_or_boundary_sees_the_lower_position_that_was_in_flight() {
    let (_database, router, _store) = store().await;
    let error = decide_beside_one_in_flight(&router).await.unwrap_err();
    assert_eq!(error.conflict().map(|it| (it.position, &*it.event_type)), Some((1, "Slow")), "{}", error.report());
}

#[tokio::test]
async fn mutation_with_drawn_positions_and_no_lock_the_one_in_flight_is_missed() {
    let (_database, router, _store) = store().await;
    run(&router, "CREATE SEQUENCE drawn").await;
    sabotage(&router, &[LOCK, FROM_SEQUENCE, FROM_SEQUENCE_ALONE]).await;
    decide_beside_one_in_flight(&router).await.expect("the race is lost without the lock");
}

/// Somebody writes in another database, and does not commit. Meanwhile a boundary is broken.
async fn decide_beside_an_old_transaction(
    database: &TestDatabase<'_>,
    store: &PostgresEventStore,
) -> Result<(), Error> {
    let elsewhere = crate::support::database().await;
    assert_ne!(elsewhere.name(), database.name());
    let other = Router::builder().primary(elsewhere.primary_url()).connect().await.unwrap();
    let old = other.client().await.unwrap();
    old.batch_execute("CREATE TABLE t (x int); BEGIN; INSERT INTO t VALUES (1)").await.unwrap();
    let filter = Filter::matching().any_type_of(["A"]).finish().unwrap();
    let before = store.query(&filter).await.unwrap();
    let appended = store.append([event("A", json!({}))], before.unchanged()).await.unwrap();
    // Everybody sees it, also those who go on from a position.
    assert_eq!(store.query(&filter).await.unwrap().head(), Some(appended.last()));
    cluster().await.wait_until_caught_up().await.unwrap();
    let news = store.query(&filter.clone().after_position(0)).consistency(Consistency::Eventual).await.unwrap();
    assert_eq!((news.len(), news.head()), (1, Some(appended.last())));
    let outcome = store.append([event("A", json!({}))], before.unchanged()).await.map(drop);
    old.batch_execute("COMMIT").await.unwrap();
    outcome
}

#[tokio::test]
async fn an_old_transaction_in_another_database_hides_nothing() {
    let (database, _router, store) = store().await;
    let error = decide_beside_an_old_transaction(&database, &store).await.unwrap_err();
    assert_eq!(error.conflict().map(|conflict| conflict.position), Some(1), "{}", error.report());
}

#[tokio::test]
async fn mutation_with_a_horizon_of_transaction_ids_the_conflict_is_hidden() {
    let (database, router, store) = store().await;
    let horizon =
        "WHERE l.position > since AND l.xmin::text::bigint < pg_snapshot_xmin(pg_current_snapshot())::text::bigint";
    sabotage(&router, &[("WHERE l.position > since", horizon)]).await;
    decide_beside_an_old_transaction(&database, &store)
        .await
        .expect("the conflict is hidden behind the old transaction");
}

/// A store whose scans of the log stop at the first event, while the gate is closed.
async fn slow_reader(database: &TestDatabase<'_>, admin: &Router) -> PostgresEventStore {
    reader_by(database, admin, "position <> 1 OR halt()").await
}

/// A store that sees the events for which this is true. Superusers know no such policies.
async fn reader_by(database: &TestDatabase<'_>, admin: &Router, policy: &str) -> PostgresEventStore {
    let role = format!("slow_{}", database.name());
    let sql = format!(
        "{} ALTER TABLE mainstem.events ENABLE ROW LEVEL SECURITY; \
         CREATE POLICY slow ON mainstem.events USING ({policy}) WITH CHECK (true); \
         CREATE ROLE {role} LOGIN PASSWORD 'secret'; GRANT USAGE ON SCHEMA mainstem TO {role}; \
         GRANT SELECT, INSERT ON mainstem.events TO {role}",
        Gate::HALT
    );
    run(admin, &sql).await;
    let url = database.primary_url();
    let (_, host) = url.split_once('@').unwrap();
    let router = Router::builder().primary(format!("postgres://{role}:secret@{host}")).connect().await.unwrap();
    PostgresEventStore::new(&router)
}

/// An append of the type `A` comes while a call of another store's is in the middle of its scan.
async fn append_amid<T: Send + 'static>(
    router: &Router,
    store: &PostgresEventStore,
    call: impl Future<Output = T> + Send + 'static,
) -> T {
    let gate = Gate::close(router).await;
    let call = tokio::spawn(call);
    until("the scan's halt", async || call.is_finished() || waiting(router).await == 1).await;
    assert!(!call.is_finished(), "the scan was not halted: is the policy still asked?");
    store.append([event("A", json!({}))], AppendCondition::none()).await.unwrap();
    gate.open().await;
    call.await.unwrap()
}

#[tokio::test]
async fn the_head_of_a_read_is_of_the_snapshot_of_its_scan() {
    let (database, router, store) = store().await;
    let begun = store.append([event("A", json!({})), event("B", json!({}))], AppendCondition::none()).await.unwrap();
    let slow = slow_reader(&database, &router).await;
    let filter = Filter::matching().any_type_of(["A"]).finish().unwrap();
    let history = append_amid(&router, &store, slow.query(&filter).into_future()).await.unwrap();
    assert_eq!((history.len(), history.head()), (1, Some(begun.last())), "what came during the scan is not in it");
    let error = slow.append([event("C", json!({}))], history.unchanged()).await.unwrap_err();
    assert_eq!(error.conflict().map(|conflict| conflict.position), Some(3), "{}", error.report());
}

#[tokio::test]
async fn a_condition_that_was_judged_before_the_lock_is_judged_on_from_there() {
    let (database, router, store) = store().await;
    store.append([event("B", json!({})), event("B", json!({}))], AppendCondition::none()).await.unwrap();
    let slow = slow_reader(&database, &router).await;
    // Without `after` it is judged by the index first; the policy makes that look at the first event, too.
    let condition = AppendCondition::fail_if_events_match(either_type_or_tag());
    let append = slow.append([event("C", json!({}))], condition).into_future();
    let error = append_amid(&router, &store, append).await.unwrap_err();
    assert_eq!(error.conflict().map(|conflict| conflict.position), Some(3), "{}", error.report());
}

/// What no index alone can answer.
fn either_type_or_tag() -> Filter {
    Filter::matching().any_type_of(["A"]).or_matching().all_tags_of(["never"]).finish().unwrap()
}

/// More events than are judged under the lock.
async fn long(router: &Router) {
    let sql = "INSERT INTO mainstem.events (position, following, id, type, tags, metadata, payload, occurred_at, recorded_at) \
               SELECT n, 0, gen_random_uuid(), 'Old', '{old}', '{}', '{}', now(), now() FROM generate_series(1, 1500) AS n";
    run(router, sql).await;
}

/// The tags of a condition on the whole log are looked up without the lock; before the lock is free, an event with one of them comes.
async fn append_between_look_up_and_lock(router: &Router, store: &PostgresEventStore) -> Result<(), Error> {
    let lock = LogLock::take(router).await;
    let condition = AppendCondition::fail_if_events_match(either("new:1", "new:2"));
    let append = tokio::spawn(store.append([event("C", json!({}))], condition).into_future());
    LogLock::is_waited_for(router).await;
    let sql = "INSERT INTO mainstem.events (position, following, id, type, tags, metadata, payload, occurred_at, recorded_at) \
               VALUES (1501, 0, gen_random_uuid(), 'A', '{new:2}', '{}', '{}', now(), now())";
    run(router, sql).await;
    lock.release().await;
    append.await.unwrap().map(drop)
}

#[tokio::test]
async fn a_condition_on_the_whole_log_is_judged_on_from_where_its_tags_were_looked_up() {
    let (_database, router, store) = store().await;
    long(&router).await;
    let error = append_between_look_up_and_lock(&router, &store).await.unwrap_err();
    assert_eq!(error.conflict().map(|it| (it.position, &*it.event_type)), Some((1501, "A")), "{}", error.report());
}

const LOOKED_UP: (&str, &str) = ("after_positions[one_append] := searched;", "after_positions[one_append] := NULL;");

#[tokio::test]
async fn mutation_not_judged_on_the_condition_on_the_whole_log_misses_what_has_come() {
    let (_database, router, store) = store().await;
    long(&router).await;
    sabotage(&router, &[LOOKED_UP]).await;
    append_between_look_up_and_lock(&router, &store).await.expect("what has come is not looked at");
}

/// The same, but the event comes while the tags are looked up.
async fn append_amid_look_up(
    database: &TestDatabase<'_>,
    router: &Router,
    store: &PostgresEventStore,
) -> Result<(), Error> {
    // It stops at an event with one of the tags, and does not see it then.
    let slow = reader_by(database, router, "tags <> '{held}' OR NOT halt()").await;
    long(router).await;
    store.append([event("A", json!({})).with_tag("held")], AppendCondition::none()).await.unwrap();
    let condition = AppendCondition::fail_if_events_match(either("held", "never"));
    let append = slow.append([event("C", json!({}))], condition).into_future();
    let gate = Gate::close(router).await;
    let append = tokio::spawn(append);
    until("the look-up's halt", async || append.is_finished() || waiting(router).await == 1).await;
    store.append([event("B", json!({})).with_tag("never")], AppendCondition::none()).await.unwrap();
    gate.open().await;
    append.await.unwrap().map(drop)
}

#[tokio::test]
async fn an_event_appended_during_the_tag_look_up_is_found() {
    let (database, router, store) = store().await;
    let error = append_amid_look_up(&database, &router, &store).await.unwrap_err();
    assert_eq!(error.conflict().map(|it| (it.position, &*it.event_type)), Some((1502, "B")), "{}", error.report());
}

#[tokio::test]
async fn mutation_with_the_head_of_after_the_look_up_what_came_meanwhile_is_missed() {
    let (database, router, store) = store().await;
    let head =
        "searched := coalesce((SELECT e.position FROM \"mainstem\".\"events\" e ORDER BY e.position DESC LIMIT 1), 0);";
    let each = "FOREACH one_append IN ARRAY whole_appends LOOP";
    sabotage(&router, &[(head, ""), (each, &format!("{head} {each}"))]).await;
    append_amid_look_up(&database, &router, &store).await.expect("the head is of after the look-up");
}
