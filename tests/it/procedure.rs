//! The append procedure under settings, schemas and constraints that it did not create: each append is right or refused, and the
//! log's lock is free afterwards.

use std::{future::IntoFuture, time::Duration};

use mainstem::{
    AppendCondition, Client, Error, ErrorKind, EventId, EventStore, ExpectedVersion, Filter, PostgresEventStore,
    Router, testing::TestDatabase,
};
use serde_json::json;

use crate::support::{cluster, event, sessions, store};

const LIMIT: Duration = Duration::from_secs(10);

/// A store with one connection: who leaves something on it is found out by the next call.
async fn with_one_connection(database: &TestDatabase<'_>) -> (Router, PostgresEventStore) {
    let builder = Router::builder().primary(database.primary_url()).max_connections(1);
    let router = builder.connect().await.unwrap();
    let store = PostgresEventStore::new(&router);
    (router, store)
}

async fn append(store: &PostgresEventStore, payload: serde_json::Value) -> Result<u64, Error> {
    let append = store.append([event("A", json!({})), event("A", payload)], AppendCondition::none());
    append.timeout(LIMIT).into_future().await.map(|appended| appended.first_position())
}

async fn set(database: &TestDatabase<'_>, router: &Router, setting: &str) {
    let sql = format!("ALTER DATABASE {} SET {setting}", database.name());
    router.client().await.unwrap().batch_execute(&sql).await.unwrap();
}

/// The log's lock is free, though its last holder's connection has not been used again. The server sends an error just
/// before it rolls back, so this may take a moment.
async fn lock_is_free(admin: &Router) {
    let sql = "SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database \
               WHERE l.locktype = 'advisory' AND d.datname = current_database()";
    let client = admin.client().await.unwrap();
    let deadline = tokio::time::Instant::now() + LIMIT;
    while client.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) > 0 {
        assert!(tokio::time::Instant::now() < deadline, "the lock is still held");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Text that does not compress: the server would make an index entry of anything else.
fn noise(len: usize) -> String {
    let step = |seed: &mut u64| {
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        Some(char::from(b'0' + (*seed >> 58) as u8))
    };
    std::iter::repeat_n((), len).scan(1, |seed, ()| step(seed)).collect()
}

#[tokio::test]
async fn an_append_refused_by_a_user_constraint_writes_and_blocks_nothing() {
    let (database, admin, _store) = store().await;
    let (_router, store) = with_one_connection(&database).await;
    assert_eq!(append(&store, json!({"serial": 1})).await.unwrap(), 1);
    let incompressible = noise(6_000);
    let cases = [
        ("ADD CONSTRAINT mine CHECK (payload ->> 'bad' IS NULL)", json!({"bad": 1}), "23514", "mine"),
        ("ADD CONSTRAINT mine EXCLUDE ((payload -> 'serial') WITH =)", json!({"serial": 1}), "23P01", "mine"),
        (
            "ADD extra text GENERATED ALWAYS AS (payload ->> 'serial') STORED, ADD CONSTRAINT mine UNIQUE (extra)",
            json!({"serial": 1}),
            "23505",
            "mine",
        ),
        // This one speaks up only at the COMMIT.
        (
            "ADD extra text GENERATED ALWAYS AS (payload ->> 'serial') STORED, ADD CONSTRAINT mine UNIQUE (extra) DEFERRABLE INITIALLY DEFERRED",
            json!({"serial": 1}),
            "23505",
            "mine",
        ),
        (
            "ADD extra varchar(5) GENERATED ALWAYS AS (payload ->> 'name') STORED",
            json!({"name": "longer"}),
            "22001",
            "too long",
        ),
        (
            "ADD extra text GENERATED ALWAYS AS (payload ->> 'name') STORED, ADD CONSTRAINT mine UNIQUE (extra)",
            json!({"name": incompressible}),
            "54000",
            "index row",
        ),
    ];
    let mut length = 2;
    for (change, payload, state, part) in cases {
        let sql = format!("ALTER TABLE mainstem.events {change}");
        admin.client().await.unwrap().batch_execute(&sql).await.unwrap();
        let error = append(&store, payload).await.unwrap_err();
        assert_eq!((error.kind(), error.sqlstate()), (ErrorKind::InvalidInput, Some(state)), "{}", error.report());
        let message = error.to_string();
        assert!(message.contains(part) && message.matches("node").count() == 1, "{message}");
        lock_is_free(&admin).await;
        sessions(&database, "state <> 'idle' AND backend_type = 'client backend'", 0).await;
        assert_eq!(append(&store, json!({})).await.unwrap(), length + 1, "{change}");
        length += 2;
        let undo = "ALTER TABLE mainstem.events DROP CONSTRAINT IF EXISTS mine, DROP IF EXISTS extra";
        admin.client().await.unwrap().batch_execute(undo).await.unwrap();
    }
    assert_eq!(store.query(&Filter::any_event()).await.unwrap().len() as u64, length);
}

#[tokio::test]
async fn another_isolation_is_refused_with_what_to_do() {
    let (database, admin, _store) = store().await;
    for level in ["serializable", "repeatable read"] {
        set(&database, &admin, &format!("default_transaction_isolation TO '{level}'")).await;
        let (_router, store) = with_one_connection(&database).await;
        let error = append(&store, json!({})).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration, "{}", error.report());
        assert!(error.to_string().contains("default_transaction_isolation TO 'read committed'"), "{error}");
        // Reads and migrations do not care.
        assert_eq!(store.query(&Filter::any_event()).await.unwrap().len(), 0);
        assert_eq!(store.migrate().await.unwrap().applied.len(), 0);
        lock_is_free(&admin).await;
    }
}

#[tokio::test]
async fn settings_that_change_plans_and_literals_change_no_answer() {
    let (database, admin, _store) = store().await;
    let settings = [
        "plan_cache_mode TO force_generic_plan",
        "plan_cache_mode TO force_custom_plan",
        "lock_timeout TO 0",
        "statement_timeout TO '20s'",
        "standard_conforming_strings TO off",
        "enable_seqscan TO off",
        "enable_indexscan TO off",
        "jit_above_cost TO 0",
        "search_path TO ''",
        "DateStyle TO 'German'",
        "TimeZone TO 'Asia/Kathmandu'",
        "bytea_output TO escape",
        "extra_float_digits TO -15",
        "plpgsql.variable_conflict TO use_column",
        "default_transaction_deferrable TO on",
    ];
    let tagged = Filter::matching().all_tags_of(["back\\slash"]).finish().unwrap();
    let mut appended_count = 0;
    for (number, setting) in settings.into_iter().enumerate() {
        if setting.starts_with("standard_conforming_strings") && cluster().await.programs().version() >= 19 {
            continue;
        }
        set(&database, &admin, setting).await;
        let (_router, store) = with_one_connection(&database).await;
        let tag = format!("only:{number}");
        let own = Filter::matching().all_tags_of([&*tag]).finish().unwrap();
        let history = store.query(&own).await.unwrap();
        let tagged_event = event("A", json!({"at": "\\n"})).with_tags([&*tag, "back\\slash"]);
        let append = store.append([tagged_event.clone()], history.unchanged());
        let appended = append.to_stream("back\\slash", ExpectedVersion::Exact(appended_count)).await;
        let appended = appended.unwrap_or_else(|error| panic!("{setting}: {}", error.report()));
        appended_count += 1;
        assert_eq!(appended.first_position(), appended_count, "{setting}");
        assert!(
            store.append([event("A", json!({}))], history.unchanged()).await.unwrap_err().is_conflict(),
            "{setting}"
        );
        let again = store.append([tagged_event.clone()], history.unchanged());
        let again = again.to_stream("back\\slash", ExpectedVersion::NoStream).await.unwrap();
        assert!(again.is_repeated() && again.stream_versions() == appended.stream_versions(), "{setting}");
        let read = store.query(&tagged).await.unwrap();
        assert_eq!(read.len() as u64, appended_count, "{setting}");
        let last = read.last().unwrap();
        let expected = tagged_event.into_recorded(last.position(), last.recorded_at());
        assert_eq!(*last, expected.in_stream("back\\slash", appended_count), "{setting}");
        let stream = store.load_stream("back\\slash").newest_first().limit(1).await.unwrap();
        assert_eq!((stream.events(), stream.version()), (std::slice::from_ref(last), appended_count), "{setting}");
        let reset = format!("ALTER DATABASE {} RESET ALL", database.name());
        admin.client().await.unwrap().batch_execute(&reset).await.unwrap();
    }
}

/// A CALL by hand, of one event.
const CALL: &str = "CALL mainstem.events_append_1(ARRAY[gen_random_uuid()], ARRAY['A'], ARRAY['{}'], ARRAY['{}'::jsonb], \
                    ARRAY['{}'::jsonb], NULL, NULL, ARRAY[NULL::timestamptz], ARRAY[1], ARRAY[0], ARRAY[NULL::int8], \
                    ARRAY[NULL::uuid], ARRAY[NULL::text], NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 1000, NULL, NULL, NULL, NULL, NULL, \
                    NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)";

#[tokio::test]
async fn inside_a_transaction_it_fails_and_writes_nothing() {
    let (_database, router, store) = store().await;
    let client = router.client().await.unwrap();
    let in_function = format!(
        "CREATE FUNCTION by_function() RETURNS void LANGUAGE plpgsql AS $$ DECLARE i uuid[]; h bigint; o text[]; p bigint[]; t text[]; v bigint[]; l pg_lsn; k bigint; \
         BEGIN {}; EXCEPTION WHEN invalid_transaction_termination THEN RAISE NOTICE 'caught'; END $$",
        CALL.replace("NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)", "i, h, o, p, t, v, l, k)")
    );
    client.batch_execute(&in_function).await.unwrap();
    // In a block, in a string of several statements, and where somebody catches what it throws.
    for sql in [format!("BEGIN; {CALL}; COMMIT"), format!("SELECT 1; {CALL}"), format!("{CALL}; SELECT 1")] {
        let error = client.batch_execute(&sql).await.unwrap_err();
        assert_eq!(error.sqlstate(), Some("2D000"), "{sql}: {}", error.report());
        client.batch_execute("ROLLBACK").await.unwrap();
    }
    client.batch_execute("BEGIN; SELECT by_function()").await.unwrap();
    lock_is_free(&router).await;
    client.batch_execute("COMMIT").await.unwrap();
    assert_eq!(store.query(&Filter::any_event()).await.unwrap().len(), 0);
    client.batch_execute(CALL).await.unwrap();
    assert_eq!(store.query(&Filter::any_event()).await.unwrap().len(), 1);
}

/// An append that does not look at what the call before it has written gets its answer from the session.
#[tokio::test]
async fn a_session_remembers_the_call_that_it_has_written_whole_and_the_head_that_this_found() {
    let (_database, router, _store) = store().await;
    let client = router.client().await.unwrap();
    let other = router.client().await.unwrap();
    let written = async || -> Option<String> {
        client.query_one("SELECT current_setting('mainstem.written', true)", &[]).await.unwrap().get(0)
    };
    // An event "A", on the condition that there is none behind that position, or behind the other one if the call is behind this.
    let append = |call: &str, after: i64, behind: &str, behind_position: i64| {
        let one = CALL.replace("NULL::int8", &format!("{after}::int8"));
        let condition = r#"ARRAY['[{"types": ["A"]}]'], NULL, NULL, NULL, ARRAY[1], ARRAY[-1], '["A"]'"#;
        let one = one.replace("ARRAY[NULL::text], NULL, NULL, NULL, NULL, NULL, NULL", condition);
        let behind = if behind.is_empty() { "NULL".to_owned() } else { format!("'{behind}'") };
        let brings = format!("1000, NULL, '{call}', {behind}, ARRAY[{behind_position}::int8], ARRAY[NULL::uuid], NULL");
        one.replace("1000, NULL, NULL, NULL, NULL, NULL, NULL", &brings)
    };
    let outcome = async |client: &Client, sql: String| -> Option<String> {
        let row = client.query_one(&sql, &[]).await.unwrap();
        row.get::<_, Option<Vec<Option<String>>>>("outcomes").and_then(|outcomes| outcomes[0].clone())
    };
    let calls: Vec<String> = (0..6).map(|_| EventId::new().to_string()).collect();
    assert_eq!(outcome(&client, append(&calls[0], 0, "", 0)).await, None);
    assert_eq!(written().await.as_deref(), Some(""), "there is no event before it");
    assert_eq!(outcome(&client, append(&calls[1], 1, "", 0)).await, None);
    let id: String =
        client.query_one("SELECT id::text FROM mainstem.events WHERE position = 1", &[]).await.unwrap().get(0);
    let second = format!("{} 1 {id}", calls[1]);
    assert_eq!(written().await.as_deref(), Some(&*second));

    let conflict = Some("conflict".to_owned());
    assert_eq!(outcome(&other, append(&calls[2], 1, &second, 2)).await, conflict, "another session");
    // A call that has failed is not remembered, nor does it make the session forget.
    let failing = append(&calls[2], 2, "", 0).replace("ARRAY['{}']", "ARRAY['{']");
    assert!(client.query_one(&failing, &[]).await.is_err());
    assert_eq!(written().await.as_deref(), Some(&*second));
    assert_eq!(outcome(&client, append(&calls[2], 1, &second, 2)).await, None, "it is behind that call");
    assert_eq!(outcome(&client, append(&calls[3], 1, &second, 3)).await, conflict, "there was one since");
    assert_eq!(written().await.as_deref(), Some(""), "what is refused is not written");
    assert_eq!(outcome(&client, append(&calls[4], 1, "", 3)).await, conflict, "that says nothing of what it is behind");

    // Conditions on the whole log are looked up all the same, also in a log that is too long to be judged under the lock.
    let store = PostgresEventStore::new(&router);
    store.append((0..1100).map(|_| event("B", json!({}))), AppendCondition::none()).await.unwrap();
    assert_eq!(outcome(&client, append(&calls[5], 1103, "", 0)).await, None);
    let remembered = written().await.unwrap();
    assert!(remembered.starts_with(&calls[5]), "{remembered}");
    let whole = append(&calls[0], 0, &remembered, 0)
        .replace("NULL, NULL, NULL, NULL, 1000", "NULL, NULL, ARRAY[1], ARRAY['{new}'], 1000");
    assert!(whole.contains("{new}"));
    assert_eq!(outcome(&client, whole).await, None);
}

/// `statement_timeout` and administrators cancel without asking whether the procedure has committed.
#[tokio::test]
async fn a_cancel_after_the_commit_is_an_unknown_outcome() {
    let (database, admin, _store) = store().await;
    let commit = "    COMMIT;\n";
    let sql = include_str!("../../migrations/V2__append.sql");
    assert!(sql.contains(commit));
    let sql = sql.replace(commit, "    COMMIT;\n    PERFORM pg_sleep(30);\n");
    let sql = sql.replace("CREATE PROCEDURE", "CREATE OR REPLACE PROCEDURE");
    admin.client().await.unwrap().batch_execute(&sql).await.unwrap();
    set(&database, &admin, "statement_timeout TO '300ms'").await;
    let (_router, store) = with_one_connection(&database).await;
    let error = append(&store, json!({})).await.unwrap_err();
    assert!(error.is_outcome_unknown() && !error.is_retryable(), "{}", error.report());
    assert_eq!(store.query(&Filter::any_event()).await.unwrap().len(), 2);
}

/// The wait for the lock counts into the append's limit, and leaves time for the answer.
#[tokio::test]
async fn an_append_that_gets_no_lock_in_time_is_known_to_be_unwritten() {
    let (database, admin, _store) = store().await;
    let (_router, store) = with_one_connection(&database).await;
    let client = admin.client().await.unwrap();
    // Not the log's lock, but one that its holder needs: the limit is the same.
    client.batch_execute("BEGIN; LOCK TABLE mainstem.events IN SHARE MODE").await.unwrap();
    let waiting = store.append([event("A", json!({}))], AppendCondition::none()).timeout(Duration::from_millis(400));
    let error = waiting.await.unwrap_err();
    assert_eq!((error.kind(), error.sqlstate()), (ErrorKind::Timeout, Some("55P03")), "{}", error.report());
    assert!(error.to_string().contains("the lock of the log") && error.to_string().contains("400ms"), "{error}");
    lock_is_free(&admin).await;
    client.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(append(&store, json!({})).await.unwrap(), 1);
}
