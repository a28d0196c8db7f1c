//! Optional indexes: created and dropped while the log is in use, and used by the queries they are for.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use mainstem::{
    AppendCondition, ErrorKind, EventStore, Filter, LogName, PostgresEventStore, Predicate, Router, SnapshotKey,
    SnapshotStore,
    schema::{HotKey, IndexCreated, LogIndex},
};
use serde_json::json;
use tokio::time::timeout;

use crate::support::{cluster, database, event, router, rows, sessions, store};

const HANG: Duration = Duration::from_secs(60);

fn tenant() -> HotKey {
    HotKey::payload("tenant").unwrap()
}

/// What the server says about an index: whether it can be used; `None` when it is not there.
async fn is_valid(router: &Router, name: &str) -> Option<bool> {
    let sql = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass($1)";
    router.client().await.unwrap().query_opt(sql, &[&name]).await.unwrap().map(|row| row.get(0))
}

#[tokio::test]
async fn indexes_come_and_go_while_events_are_appended() {
    let (_database, router, store) = store().await;
    let over = Arc::new(AtomicBool::new(false));
    let appending = {
        let (store, over) = (store.clone(), Arc::clone(&over));
        tokio::spawn(async move {
            let mut appended = 0;
            while !over.load(Ordering::Relaxed) {
                let next = event("A", json!({"tenant": appended % 3})).with_metadata(&json!({"m": appended})).unwrap();
                store.append([next], AppendCondition::none()).await.unwrap();
                appended += 1;
            }
            appended
        })
    };
    let indexes = [
        (LogIndex::metadata(), "mainstem.events_metadata"),
        (LogIndex::key(tenant()), "mainstem.events_key_1cf1d458"),
        (LogIndex::payload(), "mainstem.events_payload"),
    ];
    for (index, name) in &indexes[..2] {
        assert_eq!(is_valid(&router, name).await, None, "{index}");
        assert_eq!(store.create_index(index).await.unwrap(), IndexCreated::New, "{index}");
        assert_eq!(is_valid(&router, name).await, Some(true), "{index}");
    }
    for (index, name) in &indexes {
        assert_eq!(store.create_index(index).await.unwrap(), IndexCreated::Already, "{index}");
        assert!(store.drop_index(index).await.unwrap(), "{index}");
        assert_eq!(is_valid(&router, name).await, None, "{index}");
        assert!(!store.drop_index(index).await.unwrap(), "{index}");
    }
    over.store(true, Ordering::Relaxed);
    let appended = timeout(HANG, appending).await.expect("no hang").unwrap();
    assert!(appended > 0);
    assert_eq!(*store.count(&Filter::any_event()).await.unwrap(), appended);
    // The migrations' own index comes back as it was.
    let definition = "SELECT indexdef FROM pg_indexes WHERE indexname = 'events_payload'";
    assert_eq!(store.create_index(&LogIndex::payload()).await.unwrap(), IndexCreated::New);
    let rebuilt: String = router.client().await.unwrap().query_one(definition, &[]).await.unwrap().get(0);
    let (_other, other_router, _store) = crate::support::store().await;
    let first: String = other_router.client().await.unwrap().query_one(definition, &[]).await.unwrap().get(0);
    assert_eq!(rebuilt, first);
}

#[tokio::test]
async fn logs_of_any_name_have_indexes_of_their_own() {
    let database = database().await;
    let router = router(&database).await;
    let longest = "x".repeat(LogName::MAX_LOG_LEN);
    let key = HotKey::metadata(["O'Rei\\lly\"", "/* index */ $1", "😀"]).unwrap();
    for (schema, log) in [("mainstem", "events"), ("My \"Schema\"", "a /* index */ b"), ("s", &*longest)] {
        let name = LogName::new(schema, log).unwrap();
        let store = PostgresEventStore::builder(&router).name(name).hot_keys([key.clone()]).build();
        store.migrate().await.unwrap();
        for index in [LogIndex::metadata(), LogIndex::key(key.clone())] {
            assert_eq!(store.create_index(&index).await.unwrap(), IndexCreated::New, "{}", store.name());
            assert_eq!(store.create_index(&index).await.unwrap(), IndexCreated::Already, "{}", store.name());
        }
        let filter = Filter::matching()
            .all_predicates_of([Predicate::metadata(["O'Rei\\lly\"", "/* index */ $1", "😀"], 1)])
            .finish()
            .unwrap();
        assert_eq!(store.query(&filter).await.unwrap().len(), 0);
        assert!(store.drop_index(&LogIndex::key(key.clone())).await.unwrap());
    }
}

#[tokio::test]
async fn an_index_left_invalid_by_an_interrupted_build_is_rebuilt() {
    let (database, router, _) = store().await;
    // The build gets the connection of an append, and appends are never cancelled.
    let single = Router::builder().primary(database.primary_url()).max_connections(1).probe_interval(None);
    let store = PostgresEventStore::new(&single.connect().await.unwrap());
    store.append([event("A", json!({"tenant": 1}))], AppendCondition::none()).await.unwrap();
    let index = LogIndex::key(tenant());
    let name = "mainstem.events_key_1cf1d458";
    // An older transaction, for which the index has to wait.
    let older = router.client().await.unwrap();
    older.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1").await.unwrap();
    let error = store.create_index(&index).timeout(Duration::from_millis(700)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{}", error.report());
    assert!(error.to_string().contains("payload.tenant") && error.to_string().contains("700ms"), "{error}");
    // The server does not go on for nobody.
    sessions(&database, "query LIKE '%INDEX CONCURRENTLY%' AND state = 'active'", 0).await;
    assert_eq!(is_valid(&router, name).await, Some(false));
    older.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(store.create_index(&index).await.unwrap(), IndexCreated::Rebuilt);
    assert_eq!(is_valid(&router, name).await, Some(true));
    assert_eq!(store.create_index(&index).await.unwrap(), IndexCreated::Already);
}

#[tokio::test]
async fn the_limits_of_a_role_are_for_short_statements() {
    let is_17 = cluster().await.programs().version() >= 17;
    for limit in ["statement_timeout"].into_iter().chain(is_17.then_some("transaction_timeout")) {
        let (database, admin, _store) = store().await;
        let older = admin.client().await.unwrap();
        older.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1").await.unwrap();
        let short = format!("ALTER DATABASE {} SET {limit} = 300", database.name());
        admin.client().await.unwrap().batch_execute(&short).await.unwrap();
        let router = Router::builder().primary(database.primary_url()).max_connections(1).connect().await.unwrap();
        let store = PostgresEventStore::new(&router);
        let index = LogIndex::metadata();
        let building = tokio::spawn(async move { store.create_index(&index).await });
        sessions(&database, "query LIKE '%INDEX CONCURRENTLY%' AND state = 'active'", 1).await;
        tokio::time::sleep(Duration::from_millis(600)).await;
        older.batch_execute("ROLLBACK").await.unwrap();
        let built = timeout(HANG, building).await.expect("no hang").unwrap();
        assert_eq!(built.unwrap_or_else(|error| panic!("{limit}: {}", error.report())), IndexCreated::New);
        // And afterwards they hold again.
        let client = router.client().await.unwrap();
        let shown: String = client.query_one(&format!("SHOW {limit}"), &[]).await.unwrap().get(0);
        assert_eq!(shown, "300ms", "{limit}");
    }
}

#[tokio::test]
async fn a_name_that_something_else_has_is_not_touched() {
    let (_database, router, store) = store().await;
    let client = router.client().await.unwrap();
    let taken = "CREATE TABLE mainstem.other (a jsonb); CREATE INDEX events_metadata ON mainstem.other USING gin (a); \
                 CREATE TABLE mainstem.events_key_1cf1d458 ()";
    client.batch_execute(taken).await.unwrap();
    for index in [LogIndex::metadata(), LogIndex::key(tenant())] {
        for error in [store.create_index(&index).await.unwrap_err(), store.drop_index(&index).await.unwrap_err()] {
            assert_eq!(error.kind(), ErrorKind::Schema, "{index}: {}", error.report());
            assert!(error.to_string().contains("no index of"), "{error}");
        }
    }
    assert_eq!(is_valid(&router, "mainstem.events_metadata").await, Some(true));
}

/// A log is of a few tenants. Who asks for the newest of it does not look at the rest.
#[tokio::test]
async fn by_a_hot_key_nothing_is_looked_at_that_is_older() {
    const EVENTS: i64 = 40_000;
    let (database, admin, _store) = store().await;
    let one = Router::builder().primary(database.primary_url()).max_connections(1).connect().await.unwrap();
    let fill = "INSERT INTO mainstem.events (position, following, id, type, tags, metadata, payload, occurred_at, recorded_at)
                SELECT n, 0, gen_random_uuid(), 'A', '{}', '{}', jsonb_build_object('tenant', CASE WHEN n > 12000 THEN n % 2 ELSE 2 END, 'n', n), now(), now()
                FROM generate_series(1, 40000) n";
    let client = admin.client().await.unwrap();
    client.batch_execute(fill).await.unwrap();
    let plain = PostgresEventStore::new(&one);
    let hot = PostgresEventStore::builder(&one).hot_keys([tenant()]).build();
    assert_eq!(hot.create_index(&LogIndex::key(tenant())).await.unwrap(), IndexCreated::New);
    client.batch_execute("ANALYZE mainstem.events").await.unwrap();
    let of_tenant = Filter::matching().all_predicates_of([Predicate::payload("tenant", 1)]).finish().unwrap();
    let of_an_old_one = Filter::matching().all_predicates_of([Predicate::payload("tenant", 2)]).finish().unwrap();
    let newest = of_tenant.clone().after_position(EVENTS as u64 - 100);
    // There are 20000 behind it, and 12000 of this tenant, but none is both.
    let guard = AppendCondition::fail_if_events_match(of_an_old_one).after_position(EVENTS as u64 / 2);
    let key = SnapshotKey::new("p", 1, &of_tenant);
    let head = plain.last(&Filter::any_event()).await.unwrap().as_ref().unwrap().mark();
    plain.save_snapshot(&key, head, &()).await.unwrap();
    // Several times: the server makes another plan for a statement that was used five times.
    for round in 0..7 {
        let (history, taken) = rows(&admin, &one, hot.query(&newest)).await;
        assert_eq!(history.unwrap().len(), 50);
        assert!(taken < 300, "round {round}: 50 events took {taken} rows");
        let probe = hot.append([event("B", json!({}))], guard.clone());
        let (appended, taken) = rows(&admin, &one, probe).await;
        appended.unwrap();
        assert!(taken < 300, "round {round}: a condition from far back took {taken} rows");
        let projected = hot.project(&key, (), |(), _| Ok(())).without_saving();
        let (projected, taken) = rows(&admin, &one, projected).await;
        assert_eq!(projected.unwrap().applied(), 0);
        assert!(taken < 300, "round {round}: going on from a snapshot took {taken} rows");
    }
    // That is the index's doing.
    let (_, taken) = rows(&admin, &one, plain.append([event("B", json!({}))], guard)).await;
    assert!(taken > 10_000, "without it, it took {taken} rows");
}
