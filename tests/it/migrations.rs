//! The migrations: run once, by many at the same time, by other tools, and under any name.

use std::{collections::BTreeSet, future::IntoFuture, process::Command, time::Duration};

use futures_util::future::join_all;
use mainstem::{
    AppendCondition, ErrorKind, EventStore, Filter, LogName, PostgresEventStore, Router, Saved, SnapshotKey,
    SnapshotStore, schema::MigrationState, testing::TestDatabase,
};
use serde_json::json;

use crate::support::{cluster, database, event, migrations, router, store};

const V1: &str = include_str!("../../migrations/V1__log.sql");
const LIMIT: Duration = Duration::from_secs(30);

fn named(router: &Router, schema: &str, log: &str) -> PostgresEventStore {
    PostgresEventStore::with_name(router, LogName::new(schema, log).unwrap())
}

async fn migrate(store: &PostgresEventStore) -> Vec<String> {
    store.migrate().await.unwrap_or_else(|error| panic!("{}", error.report())).applied
}

/// A router with a connection of its own, which counts as another instance of the application.
pub(crate) async fn instance(database: &TestDatabase<'_>) -> Router {
    Router::builder().primary(database.primary_url()).connect().await.unwrap()
}

#[tokio::test]
async fn a_fresh_database_gets_all_and_a_second_run_nothing() {
    let database = database().await;
    let store = PostgresEventStore::new(&router(&database).await);
    assert_eq!(migrate(&store).await, migrations());
    assert_eq!(migrate(&store).await, [] as [&str; 0]);
}

#[tokio::test]
async fn migration_status_reports_pending_migrations_without_migrating() {
    let database = database().await;
    let router = router(&database).await;
    let store = PostgresEventStore::new(&router);
    let told = async || {
        let status = store.migration_status().await.unwrap();
        status.into_iter().map(|it| (it.name, it.state)).collect::<Vec<_>>()
    };
    let all = |state| migrations().into_iter().map(|name| (name, state)).collect::<Vec<_>>();
    for _ in 0..2 {
        assert_eq!(told().await, all(MigrationState::Pending));
    }
    migrate(&store).await;
    assert_eq!(told().await, all(MigrationState::Applied));
    let change = "UPDATE mainstem.events_migrations SET checksum = '1' WHERE version = 1;
                  INSERT INTO mainstem.events_migrations SELECT 99, 'later', applied_on, '1' FROM mainstem.events_migrations LIMIT 1;
                  DELETE FROM mainstem.events_migrations WHERE version = 2";
    router.client().await.unwrap().batch_execute(change).await.unwrap();
    let told = told().await;
    let states: Vec<_> = told.iter().map(|(_, state)| *state).collect();
    assert_eq!(states[..2], [MigrationState::Changed, MigrationState::Pending]);
    assert_eq!(told.last(), Some(&("V99__later".to_owned(), MigrationState::Unknown)));
}

#[tokio::test]
async fn eight_concurrent_instances_migrate_once_and_can_append() {
    let database = database().await;
    let routers = join_all((0..8).map(|_| instance(&database))).await;
    let stores: Vec<_> = routers.iter().map(PostgresEventStore::new).collect();
    let migrated = join_all(stores.iter().map(|store| store.migrate().into_future())).await;
    let mut applied: Vec<String> = migrated.into_iter().flat_map(|migrated| migrated.unwrap().applied).collect();
    applied.sort();
    assert_eq!(applied, migrations());
    let history = "SELECT count(*) FROM mainstem.events_migrations";
    assert_eq!(
        routers[0].client().await.unwrap().query_one(history, &[]).await.unwrap().get::<_, i64>(0),
        migrations().len() as i64
    );
    for store in stores {
        store.append([event("A", json!({}))], AppendCondition::none()).await.unwrap();
    }
}

#[tokio::test]
async fn eight_logs_of_one_new_schema_can_be_made_at_once() {
    let database = database().await;
    let routers = join_all((0..8).map(|_| instance(&database))).await;
    let stores: Vec<_> =
        routers.iter().zip('a'..).map(|(router, log)| named(router, "shared", &log.to_string())).collect();
    for migrated in join_all(stores.iter().map(|store| store.migrate().into_future())).await {
        assert_eq!(migrated.unwrap_or_else(|error| panic!("{}", error.report())).applied.len(), migrations().len());
    }
}

/// Runs a program of PostgreSQL on a database and returns what it prints.
async fn run(database: &TestDatabase<'_>, program: &str, arguments: &[&str]) -> String {
    let programs = cluster().await.programs().folder();
    let output = Command::new(programs.join(program)).args(arguments).arg(database.primary_url()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{program}: {}", text(&output.stderr));
    text(&output.stdout)
}

async fn schema_of(database: &TestDatabase<'_>) -> Vec<String> {
    let dump = run(database, "pg_dump", &["--schema-only", "--exclude-table=*_migrations", "--dbname"]).await;
    // Since 2025 every dump has a random key in it.
    dump.lines().filter(|line| !line.contains("restrict ")).map(str::to_owned).collect()
}

#[tokio::test]
async fn psql_and_the_library_make_the_same_schema() {
    let (by_library, _router, _store) = store().await;
    let by_psql = database().await;
    for file in migrations() {
        let file = format!("{}/migrations/{file}.sql", env!("CARGO_MANIFEST_DIR"));
        run(&by_psql, "psql", &["-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", &file, "--dbname"]).await;
    }
    let dump = schema_of(&by_psql).await;
    assert_eq!(dump, schema_of(&by_library).await);
    for part in ["CREATE PROCEDURE", "CREATE TRIGGER", "CREATE INDEX", "PRIMARY KEY", "UNIQUE", "CHECK", "COLLATE"] {
        assert!(dump.iter().any(|line| line.contains(part)), "no {part} in {dump:#?}");
    }
    // The library finds the other tool's tables, and no history.
    let store = PostgresEventStore::new(&router(&by_psql).await);
    store.append([event("A", json!({}))], AppendCondition::none()).await.unwrap();
    let error = store.migrate().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Schema);
    assert!(error.to_string().contains("another tool"), "{error}");
}

#[tokio::test]
async fn logs_have_any_name_and_nothing_to_do_with_each_other() {
    let database = database().await;
    let router = router(&database).await;
    let longest = "x".repeat(LogName::MAX_LOG_LEN);
    let sibling = "x".repeat(LogName::MAX_LOG_LEN - 1) + "y";
    let emoji = "😀".repeat(12);
    let schema = "s".repeat(LogName::MAX_SCHEMA_LEN);
    let names = [
        ("mainstem", "events"),
        ("mainstem", "Events"),
        ("mainstem", "mainstem"),
        ("mainstem", "a /* filter */ b"),
        ("events", "events"),
        ("My \"Schema\"", "library log"),
        ("\"", "\"\""),
        ("public", "%MIGRATION_TABLE_NAME% {} ; -- /* */"),
        ("public", "SELECT"),
        ("öffentlich", &*emoji),
        (&*schema, &*longest),
        (&*schema, &*sibling),
    ];
    let once = event("A", json!({"n": 1})).with_tag("t");
    for (schema, log) in names {
        let store = named(&router, schema, log);
        assert_eq!(migrate(&store).await.len(), migrations().len(), "{}", store.name());
        assert_eq!(migrate(&store).await.len(), 0, "{}", store.name());
        // The same id in every log, at the same position.
        let guard = AppendCondition::fail_if_events_match(Filter::any_event());
        let appended = store.append([once.clone()], guard.clone()).await;
        assert_eq!(appended.unwrap_or_else(|error| panic!("{}", error.report())).first_position(), 1);
        assert!(store.append([event("B", json!({}))], guard.clone()).await.unwrap_err().is_conflict());
        assert!(store.append([event("B", json!({}))], guard.after_position(0)).await.unwrap_err().is_conflict());
        assert!(store.append([once.clone()], AppendCondition::none()).await.unwrap().is_repeated());
        assert_eq!(store.query(&Filter::any_event()).await.unwrap().len(), 1);
        only_its_own_snapshot(&store).await;
        let update = format!("DELETE FROM {}", store.name());
        assert!(router.client().await.unwrap().execute(&update, &[]).await.unwrap_err().to_string().contains("append"));
    }
    whole_names(&router, &names).await;
}

/// A snapshot under a key that every log has.
async fn only_its_own_snapshot(store: &PostgresEventStore) {
    let key = SnapshotKey::new("p", 1, &Filter::any_event());
    assert!(store.load_snapshot(&key).await.unwrap().is_none(), "{}", store.name());
    let head = store.query(&Filter::any_event()).await.unwrap().head().unwrap();
    let name = store.name().to_string();
    assert_eq!(store.save_snapshot(&key, head, &name).await.unwrap(), Saved::Stored);
    assert_eq!(store.load_snapshot(&key).await.unwrap().unwrap().decode::<String>().unwrap(), name);
}

/// PostgreSQL cuts long names off without a word, and then two of them are the same.
async fn whole_names(router: &Router, logs: &[(&str, &str)]) {
    let sql = "SELECT relname::text FROM pg_class c WHERE relnamespace = $1::text::regnamespace \
                   AND relkind IN ('r', 'i') \
               UNION ALL SELECT proname FROM pg_proc WHERE pronamespace = $1::text::regnamespace \
               UNION ALL SELECT tgname FROM pg_trigger t JOIN pg_class c ON tgrelid = c.oid \
                   WHERE relnamespace = $1::text::regnamespace";
    let constraints = "SELECT conname::text FROM pg_constraint WHERE connamespace = $1::text::regnamespace";
    let client = router.client().await.unwrap();
    let schemas: BTreeSet<&str> = logs.iter().map(|(schema, _)| *schema).collect();
    for schema in schemas {
        let quoted = format!("\"{}\"", schema.replace('"', "\"\""));
        let names = async |sql| -> Vec<String> {
            client.query(sql, &[&quoted]).await.unwrap().iter().map(|row| row.get(0)).collect()
        };
        let suffixes = [
            "",
            "_pkey",
            "_id",
            "_type",
            "_tags",
            "_payload",
            "_migrations",
            "_stream",
            "_migrations_pkey",
            "_append_1",
            "_refuse_change",
            "_merge_pending",
            "_append_only",
            "_snapshots",
            "_snapshots_key",
            "_consumers",
            "_consumers_key",
            "_members",
            "_members_key",
            "_progress",
            "_progress_key",
            "_skipped",
            "_skipped_key",
        ];
        let of_schema = logs.iter().filter(|(of, _)| *of == schema);
        let mut expected: Vec<String> =
            of_schema.flat_map(|(_, log)| suffixes.map(|suffix| format!("{log}{suffix}"))).collect();
        let mut found = names(sql).await;
        // The key of refinery's table is named by the server, which shortens it in its middle.
        let key =
            |name: &String| name.ends_with("_pkey") && (name.contains("_migrations") || name.contains("_migratio"));
        let keys = |names: &[String]| names.iter().filter(|name| key(name)).count();
        assert_eq!(keys(&found), keys(&expected));
        expected.retain(|name| !key(name));
        found.retain(|name| !key(name));
        expected.sort();
        found.sort();
        assert_eq!(found, expected);
        assert!(expected.iter().all(|name| name.len() <= 63));
        let mut constraints = names(constraints).await;
        let all = constraints.len();
        constraints.sort();
        constraints.dedup();
        assert_eq!(constraints.len(), all);
    }
}

#[tokio::test]
async fn a_lock_that_is_held_long_on_one_log_holds_up_no_other() {
    let (_database, router, held) = store().await;
    let other = named(&router, "mainstem", "other");
    migrate(&other).await;
    let client = router.client().await.unwrap();
    let lock = "BEGIN; SELECT pg_advisory_xact_lock(1296651085, \
                ('mainstem.events'::regclass::oid::bigint - 2147483648)::int4)";
    client.batch_execute(lock).await.unwrap();
    let append = |store: &PostgresEventStore, limit| {
        store.append([event("A", json!({}))], AppendCondition::none()).timeout(limit).into_future()
    };
    append(&other, LIMIT).await.unwrap();
    let error = append(&held, Duration::from_millis(300)).await.unwrap_err();
    assert_eq!((error.kind(), error.sqlstate()), (ErrorKind::Timeout, Some("55P03")), "{error}");
    client.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(append(&held, LIMIT).await.unwrap().first_position(), 1);
}

#[tokio::test]
async fn a_name_that_is_taken_by_something_else_is_refused() {
    let (_database, router, _store) = store().await;
    // An index of the log "events", and its history.
    for log in ["events_type", "events_migrations"] {
        let error = named(&router, "mainstem", log).migrate().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Schema, "{log}: {}", error.report());
        assert!(error.to_string().contains("another name"), "{error}");
    }
    // The other way round: what should be the history is a log, or anything.
    migrate(&named(&router, "mainstem", "a_migrations")).await;
    let client = router.client().await.unwrap();
    client
        .batch_execute("CREATE TABLE mainstem.b_migrations (version text, name text, applied_on text, checksum text)")
        .await
        .unwrap();
    client.batch_execute("INSERT INTO mainstem.b_migrations VALUES ('1', 'log', 'now', '1')").await.unwrap();
    for log in ["a", "b"] {
        let error = named(&router, "mainstem", log).migrate().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Schema, "{log}: {}", error.report());
        assert!(error.to_string().contains("_migrations"), "{error}");
    }
}

#[tokio::test]
async fn a_history_that_was_changed_is_refused_with_what_to_do() {
    let (_database, router, store) = store().await;
    let cases = [
        ("UPDATE mainstem.events_migrations SET checksum = '1' WHERE version = 1", "set its checksum to"),
        ("UPDATE mainstem.events_migrations SET name = 'other' WHERE version = 2", "V2__other"),
        ("UPDATE mainstem.events_migrations SET checksum = 'x' WHERE version = 1", "can be read"),
        ("UPDATE mainstem.events_migrations SET checksum = NULL", "can be read"),
        ("UPDATE mainstem.events_migrations SET checksum = '18446744073709551616'", "can be read"),
        ("UPDATE mainstem.events_migrations SET applied_on = 'yesterday'", "can be read"),
        ("UPDATE mainstem.events_migrations SET applied_on = '2026-13-01T00:00:00Z'", "out of range"),
        ("UPDATE mainstem.events_migrations SET name = NULL", "can be read"),
        ("ALTER TABLE mainstem.events_migrations DROP COLUMN checksum", "can be read"),
        ("ALTER TABLE mainstem.events_migrations ALTER version TYPE int8", "can be read"),
        ("DELETE FROM mainstem.events_migrations WHERE version = 1", "V1__log"),
        ("DELETE FROM mainstem.events_migrations WHERE version = 2", "V2__append"),
        (
            "DELETE FROM mainstem.events_migrations WHERE version = (SELECT max(version) FROM mainstem.events_migrations)",
            "another tool",
        ),
        ("DELETE FROM mainstem.events_migrations", "another tool"),
        (
            "INSERT INTO mainstem.events_migrations SELECT 99, 'future', applied_on, checksum \
             FROM mainstem.events_migrations WHERE version = 1",
            "newer version, which has V99__future",
        ),
    ];
    let client = router.client().await.unwrap();
    client.batch_execute("CREATE TABLE saved AS TABLE mainstem.events_migrations").await.unwrap();
    for (change, part) in cases {
        client.batch_execute(change).await.unwrap();
        let error = store.migrate().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Schema, "{change}: {}", error.report());
        assert!(error.to_string().contains(part), "{change}: {error}");
        let restore = "DROP TABLE mainstem.events_migrations; \
                       CREATE TABLE mainstem.events_migrations AS TABLE saved";
        client.batch_execute(restore).await.unwrap();
    }
    // Every run has freed the lock, and what the message about the checksum says does help.
    client.batch_execute(cases[0].0).await.unwrap();
    let message = store.migrate().await.unwrap_err().to_string();
    let checksum = message.split("checksum to ").nth(1).unwrap().split(' ').next().unwrap();
    let sql = "UPDATE mainstem.events_migrations SET checksum = $1 WHERE version = 1";
    client.execute(sql, &[&checksum]).await.unwrap();
    assert_eq!(migrate(&store).await.len(), 0);
}

#[tokio::test]
async fn a_half_made_log_says_what_to_do() {
    let database = database().await;
    let router = router(&database).await;
    router.client().await.unwrap().batch_execute(V1).await.unwrap();
    let store = PostgresEventStore::new(&router);
    let error = store.append([event("A", json!({}))], AppendCondition::none()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Schema, "{}", error.report());
    assert!(error.to_string().contains("migrations"), "{error}");
    assert_eq!(store.query(&Filter::any_event()).await.unwrap().len(), 0);
}

#[tokio::test]
async fn a_log_of_the_version_before_snapshots_works_and_is_brought_up() {
    let database = database().await;
    let router = router(&database).await;
    let store = PostgresEventStore::new(&router);
    let client = router.client().await.unwrap();
    migrate(&store).await;
    // As that version has left it: its files, in its history.
    let undo = "DROP TABLE mainstem.events_snapshots, mainstem.events_consumers, mainstem.events_members, \
                    mainstem.events_progress, mainstem.events_skipped; \
                DELETE FROM mainstem.events_migrations WHERE version > 2";
    client.batch_execute(undo).await.unwrap();
    let all = Filter::any_event();
    let mark = store.append([event("A", json!({}))], AppendCondition::none()).await.unwrap().last();
    let key = SnapshotKey::new("p", 1, &all);
    let projected = store.project(&key, 0, |_, _| Ok(())).await.map(|projected| projected.into_state());
    let failures = [
        store.save_snapshot(&key, mark, &1).await.unwrap_err(),
        store.load_snapshot(&key).await.unwrap_err(),
        store.delete_snapshot(&key).await.unwrap_err(),
        projected.unwrap_err(),
    ];
    let mut consumer = store.consumer("c", &all).build().unwrap();
    let consuming = consumer.next_batch().await.unwrap().map(drop).unwrap_err();
    for error in failures.into_iter().chain([consuming]) {
        assert_eq!(error.kind(), ErrorKind::Schema, "{}", error.report());
        assert!(error.to_string().contains("migrations"), "{error}");
    }
    assert_eq!(migrate(&store).await, migrations()[2..]);
    assert_eq!(store.save_snapshot(&key, mark, &1).await.unwrap(), Saved::Stored);
    assert_eq!(store.query(&all).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_log_of_the_version_before_consumers_works_and_is_brought_up() {
    let database = database().await;
    let router = router(&database).await;
    let store = PostgresEventStore::new(&router);
    migrate(&store).await;
    let undo = "DROP TABLE mainstem.events_consumers, mainstem.events_members, mainstem.events_progress, \
                    mainstem.events_skipped; \
                DELETE FROM mainstem.events_migrations WHERE version > 3";
    router.client().await.unwrap().batch_execute(undo).await.unwrap();
    let all = Filter::any_event();
    let mark = store.append([event("A", json!({}))], AppendCondition::none()).await.unwrap().last();
    let key = SnapshotKey::new("p", 1, &all);
    assert_eq!(store.save_snapshot(&key, mark, &1).await.unwrap(), Saved::Stored);
    let mut consumer = store.consumer("c", &all).build().unwrap();
    let error = consumer.next_batch().await.unwrap().map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Schema, "{}", error.report());
    assert_eq!(migrate(&store).await, migrations()[3..]);
    let mut consumer = store.consumer("c", &all).build().unwrap();
    assert_eq!(consumer.next_batch().await.unwrap().unwrap().len(), 1);
    assert_eq!(store.load_snapshot(&key).await.unwrap().map(|snapshot| snapshot.mark()), Some(mark));
}
