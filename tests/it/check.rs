//! What the check at start reports about tables that are not as they must be.

use mainstem::{
    ErrorKind, LogName, PostgresEventStore, Router,
    schema::{HotKey, LogIndex},
    testing::TestDatabase,
};

use crate::support::{database, router, store};

async fn run(router: &Router, sql: &str) {
    router.client().await.unwrap().batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {}", error.report()));
}

/// What it says is wrong, one by one.
async fn faults(store: &PostgresEventStore) -> Vec<String> {
    let Err(error) = store.check().await else { return Vec::new() };
    assert_eq!(error.kind(), ErrorKind::Schema, "{}", error.report());
    let message = error.to_string();
    let (log, faults) = message.split_once(" is not what this version needs: ").expect("what is wrong");
    assert_eq!(log, format!("the log {}", store.name()));
    // (The role has the name of the schema, which is in its search path, so that some names come without it.)
    faults.rsplit_once(" (node ").expect("the node").0.split("; ").map(str::to_owned).collect()
}

#[tokio::test]
async fn migrated_logs_of_any_name_have_no_faults() {
    let database = database().await;
    let router = router(&database).await;
    let longest = "x".repeat(LogName::MAX_LOG_LEN);
    for (schema, log) in [
        ("mainstem", "events"),
        ("My \"Schema\"", "library log"),
        ("\"", "\"\""),
        ("events", "%_ {} , --"),
        ("public", "SELECT"),
        ("s", &*longest),
    ] {
        let store = PostgresEventStore::with_name(&router, LogName::new(schema, log).unwrap());
        let missing = faults(&store).await;
        assert_eq!(missing.len(), 6, "{missing:?}");
        assert!(missing.iter().all(|fault| fault.starts_with("there is no table ")), "{missing:?}");
        store.migrate().await.unwrap();
        assert_eq!(faults(&store).await, [""; 0]);
    }
}

/// A change, what it must say, and how to undo it.
const FAULTS: &[(&str, &str, &str)] = &[
    (
        "ALTER TABLE mainstem.events RENAME content_type TO kind",
        "the column content_type of \"mainstem\".\"events\" is missing",
        "ALTER TABLE mainstem.events RENAME kind TO content_type",
    ),
    (
        "ALTER TABLE mainstem.events ALTER following TYPE int8",
        "the column following of \"mainstem\".\"events\" is of the type bigint, not integer",
        "ALTER TABLE mainstem.events ALTER following TYPE int4",
    ),
    (
        "ALTER TABLE mainstem.events ALTER content_type TYPE text COLLATE \"POSIX\"",
        "the column content_type of \"mainstem\".\"events\" compares by the collation \"POSIX\", not \"C\"",
        "ALTER TABLE mainstem.events ALTER content_type TYPE text COLLATE \"C\"",
    ),
    (
        "ALTER TABLE mainstem.events ALTER metadata DROP NOT NULL",
        "the column metadata of \"mainstem\".\"events\" may be null",
        "ALTER TABLE mainstem.events ALTER metadata SET NOT NULL",
    ),
    (
        "ALTER TABLE mainstem.events ALTER stream SET NOT NULL",
        "the column stream of \"mainstem\".\"events\" may not be null",
        "ALTER TABLE mainstem.events ALTER stream DROP NOT NULL",
    ),
    (
        "ALTER TABLE mainstem.events ADD tenant text NOT NULL",
        "the column tenant of \"mainstem\".\"events\" is not ours, and without a default it refuses every row of ours",
        "ALTER TABLE mainstem.events DROP tenant",
    ),
    (
        "ALTER TABLE mainstem.events SET UNLOGGED",
        "the table \"mainstem\".\"events\" is not logged: replicas do not have it, and a crash empties it",
        "ALTER TABLE mainstem.events SET LOGGED",
    ),
    (
        "ALTER TABLE mainstem.events ENABLE ROW LEVEL SECURITY",
        "the table \"mainstem\".\"events\" has row-level security: what it hides, no condition can see",
        "ALTER TABLE mainstem.events DISABLE ROW LEVEL SECURITY",
    ),
    (
        "DROP INDEX mainstem.events_tags",
        "the index \"mainstem\".\"events_tags\" is missing",
        "CREATE INDEX events_tags ON mainstem.events USING gin (tags) WITH (gin_pending_list_limit = 2048) \
         WHERE tags <> '{}'",
    ),
    (
        "ALTER INDEX mainstem.events_tags RESET (gin_pending_list_limit)",
        "the list of new entries of the index \"mainstem\".\"events_tags\" may become long: \
         ALTER INDEX \"mainstem\".\"events_tags\" SET (gin_pending_list_limit = 2048)",
        "ALTER INDEX mainstem.events_tags SET (gin_pending_list_limit = 2048)",
    ),
    (
        "ALTER FUNCTION mainstem.events_merge_pending RENAME TO other",
        "nothing merges the new entries of indexes: there is no function events_merge_pending",
        "ALTER FUNCTION mainstem.other RENAME TO events_merge_pending",
    ),
    (
        "DROP INDEX mainstem.events_type; CREATE INDEX events_type ON mainstem.events (type)",
        "the index \"mainstem\".\"events_type\" is CREATE INDEX events_type ON mainstem.events USING btree (type)",
        "DROP INDEX mainstem.events_type; CREATE INDEX events_type ON mainstem.events (type, position)",
    ),
    (
        "DROP INDEX mainstem.events_stream; \
         CREATE INDEX events_stream ON mainstem.events (stream, version) WHERE stream IS NOT NULL",
        "the index \"mainstem\".\"events_stream\" is CREATE INDEX events_stream ON mainstem.events \
         USING btree (stream, version) WHERE (stream IS NOT NULL)",
        "DROP INDEX mainstem.events_stream; \
         CREATE UNIQUE INDEX events_stream ON mainstem.events (stream, version) WHERE stream IS NOT NULL",
    ),
    (
        "ALTER TABLE mainstem.events DROP CONSTRAINT events_id",
        "the index \"mainstem\".\"events_id\" is missing",
        "ALTER TABLE mainstem.events ADD CONSTRAINT events_id UNIQUE (id)",
    ),
    (
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'mainstem.events_payload'::regclass",
        "the index \"mainstem\".\"events_payload\" is of no use: the rest of a build that was interrupted",
        "UPDATE pg_index SET indisvalid = true WHERE indexrelid = 'mainstem.events_payload'::regclass",
    ),
    (
        "ALTER TABLE mainstem.events RENAME CONSTRAINT events_stream_place TO other",
        "the constraint events_stream_place of \"mainstem\".\"events\" is missing",
        "ALTER TABLE mainstem.events RENAME CONSTRAINT other TO events_stream_place",
    ),
    (
        "ALTER PROCEDURE mainstem.events_append_1 RENAME TO events_append_7",
        "the procedure events_append_1 is missing, and there is events_append_7: the log is of another version",
        "ALTER PROCEDURE mainstem.events_append_7 RENAME TO events_append_1",
    ),
    (
        "UPDATE pg_proc SET prosrc = prosrc || ' ' WHERE proname = 'events_append_1'",
        "the procedure events_append_1 is not as this version has it",
        "UPDATE pg_proc SET prosrc = left(prosrc, -1) WHERE proname = 'events_append_1'",
    ),
    (
        "ALTER PROCEDURE mainstem.events_append_1 SET search_path = public",
        "the procedure events_append_1 is not as this version has it",
        "ALTER PROCEDURE mainstem.events_append_1 RESET search_path",
    ),
    (
        "ALTER PROCEDURE mainstem.events_append_1 SECURITY DEFINER",
        "the procedure events_append_1 is not as this version has it",
        "ALTER PROCEDURE mainstem.events_append_1 SECURITY INVOKER",
    ),
    (
        "ALTER FUNCTION mainstem.events_merge_pending SECURITY INVOKER",
        "the function events_merge_pending is not as this version has it",
        "ALTER FUNCTION mainstem.events_merge_pending SECURITY DEFINER",
    ),
    (
        "UPDATE pg_proc SET prosrc = prosrc || '-' WHERE proname = 'events_refuse_change'",
        "the function events_refuse_change is not as this version has it: it may let changes through",
        "UPDATE pg_proc SET prosrc = left(prosrc, -1) WHERE proname = 'events_refuse_change'",
    ),
    (
        "ALTER TABLE mainstem.events_consumers DROP CONSTRAINT events_consumers_key; \
         ALTER TABLE mainstem.events_consumers ADD CONSTRAINT events_consumers_key PRIMARY KEY (consumer) DEFERRABLE",
        "the index \"mainstem\".\"events_consumers_key\" is CREATE UNIQUE INDEX events_consumers_key ON mainstem.events_consumers \
         USING btree (consumer)",
        "ALTER TABLE mainstem.events_consumers DROP CONSTRAINT events_consumers_key; \
         ALTER TABLE mainstem.events_consumers ADD CONSTRAINT events_consumers_key PRIMARY KEY (consumer)",
    ),
    (
        "ALTER TABLE mainstem.events ENABLE TRIGGER events_append_only",
        "the trigger events_append_only of \"mainstem\".\"events\" is not enabled always",
        "ALTER TABLE mainstem.events ENABLE ALWAYS TRIGGER events_append_only",
    ),
    (
        "DROP TRIGGER events_append_only ON mainstem.events",
        "nothing refuses changes of \"mainstem\".\"events\": there is no trigger events_append_only",
        "CREATE TRIGGER events_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON mainstem.events \
         FOR EACH STATEMENT EXECUTE FUNCTION mainstem.events_refuse_change(); \
         ALTER TABLE mainstem.events ENABLE ALWAYS TRIGGER events_append_only",
    ),
    (
        "DROP TRIGGER events_append_only ON mainstem.events; \
         CREATE TRIGGER events_append_only BEFORE DELETE OR TRUNCATE ON mainstem.events \
         FOR EACH STATEMENT EXECUTE FUNCTION mainstem.events_refuse_change(); \
         ALTER TABLE mainstem.events ENABLE ALWAYS TRIGGER events_append_only",
        "the trigger events_append_only of \"mainstem\".\"events\" is CREATE TRIGGER events_append_only \
         BEFORE DELETE OR TRUNCATE ON mainstem.events FOR EACH STATEMENT EXECUTE FUNCTION events_refuse_change()",
        "DROP TRIGGER events_append_only ON mainstem.events; \
         CREATE TRIGGER events_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON mainstem.events \
         FOR EACH STATEMENT EXECUTE FUNCTION mainstem.events_refuse_change(); \
         ALTER TABLE mainstem.events ENABLE ALWAYS TRIGGER events_append_only",
    ),
    (
        "ALTER TABLE mainstem.events_snapshots ALTER state TYPE jsonb",
        "the column state of \"mainstem\".\"events_snapshots\" is of the type jsonb, not json",
        "ALTER TABLE mainstem.events_snapshots ALTER state TYPE json",
    ),
    (
        "ALTER TABLE mainstem.events_snapshots RENAME TO elsewhere",
        "there is no table \"mainstem\".\"events_snapshots\"",
        "ALTER TABLE mainstem.elsewhere RENAME TO events_snapshots",
    ),
    (
        "ALTER TABLE mainstem.events_progress ALTER epoch TYPE int4",
        "the column epoch of \"mainstem\".\"events_progress\" is of the type integer, not bigint",
        "ALTER TABLE mainstem.events_progress ALTER epoch TYPE int8",
    ),
    (
        "ALTER TABLE mainstem.events_skipped RENAME CONSTRAINT events_skipped_key TO elsewhere",
        "the index \"mainstem\".\"events_skipped_key\" is missing",
        "ALTER TABLE mainstem.events_skipped RENAME CONSTRAINT elsewhere TO events_skipped_key",
    ),
];

#[tokio::test]
async fn each_fault_of_a_table_is_told_exactly() {
    let (_database, router, store) = store().await;
    for (change, fault, undo) in FAULTS {
        run(&router, change).await;
        assert_eq!(faults(&store).await, [*fault], "{change}");
        run(&router, undo).await;
        assert_eq!(faults(&store).await, [""; 0], "{undo}");
    }
    // All of them, and not only the first.
    run(&router, FAULTS[0].0).await;
    run(&router, FAULTS[3].0).await;
    assert_eq!(faults(&store).await, [FAULTS[0].1, FAULTS[3].1]);
}

#[tokio::test]
async fn a_users_own_columns_indexes_and_triggers_are_no_faults() {
    let (_database, router, store) = store().await;
    let own = "ALTER TABLE mainstem.events ADD tenant text NOT NULL DEFAULT 'none', ADD note text, \
                   ADD n int8 GENERATED ALWAYS AS (position) STORED NOT NULL, ADD CHECK (type <> 'Never');
               CREATE INDEX events_tenant ON mainstem.events (tenant);
               CREATE FUNCTION mainstem.own() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
               CREATE TRIGGER own BEFORE INSERT ON mainstem.events FOR EACH ROW EXECUTE FUNCTION mainstem.own();
               CREATE PROCEDURE mainstem.events_append_2() LANGUAGE sql AS 'SELECT 1'";
    run(&router, own).await;
    // An index by choice, chosen, and one that is not.
    store.create_index(&LogIndex::metadata()).await.unwrap();
    store.drop_index(&LogIndex::payload()).await.unwrap();
    assert_eq!(faults(&store).await, [""; 0]);
}

#[tokio::test]
async fn a_declared_key_without_its_index_is_told() {
    let (_database, router, store) = store().await;
    let key = HotKey::metadata("tenant").unwrap();
    let hot = PostgresEventStore::builder(&router).hot_keys([key.clone()]).build();
    let told = faults(&hot).await;
    assert!(told.len() == 1 && told[0].starts_with("the index of the hot key metadata.tenant, "), "{told:?}");
    assert!(told[0].ends_with("is missing"), "{told:?}");
    assert_eq!(faults(&store).await, [""; 0]);
    hot.create_index(&LogIndex::key(key.clone())).await.unwrap();
    assert_eq!(faults(&hot).await, [""; 0]);
    // Nor does another index by its name stand in for it.
    let name: String = router
        .client()
        .await
        .unwrap()
        .query_one(
            "SELECT indexname::text FROM pg_indexes WHERE schemaname = 'mainstem' AND indexname LIKE '%_key_%'",
            &[],
        )
        .await
        .unwrap()
        .get(0);
    run(&router, &format!("DROP INDEX mainstem.{name}; CREATE INDEX {name} ON mainstem.events (type)")).await;
    let told = faults(&hot).await;
    assert!(told.len() == 1 && told[0].ends_with("is one of something else"), "{told:?}");
}

/// The server's answers depend on settings of the role.
#[tokio::test]
async fn a_role_that_quotes_all_names_is_told_of_no_fault() {
    let (database, _router, store) = store().await;
    store.create_index(&LogIndex::metadata()).await.unwrap();
    let url = format!("{}?options=-c%20quote_all_identifiers%3Don", database.primary_url());
    let quoting = Router::builder().primary(url).connect().await.unwrap();
    let setting = quoting.client().await.unwrap().query_one("SHOW quote_all_identifiers", &[]).await.unwrap();
    assert_eq!(setting.get::<_, &str>(0), "on");
    assert_eq!(faults(&PostgresEventStore::new(&quoting)).await, [""; 0]);
}

/// A table of the log's name that is somebody else's: the first migration says what it is.
#[tokio::test]
async fn migrating_over_a_foreign_table_says_what_is_wrong_with_it() {
    let database: TestDatabase<'_> = database().await;
    let router = router(&database).await;
    let foreign = "CREATE SCHEMA mainstem; CREATE TABLE mainstem.events (position int8 PRIMARY KEY, tags text)";
    run(&router, foreign).await;
    let error = PostgresEventStore::new(&router).migrate().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Schema, "{}", error.report());
    for part in [
        "already exists",
        "another name",
        "the column tags of \"mainstem\".\"events\" is of the type text, not text[]",
        "the column payload of \"mainstem\".\"events\" is missing",
        "the procedure events_append_1 is missing",
        "there is no table \"mainstem\".\"events_snapshots\"",
    ] {
        assert!(error.to_string().contains(part), "no {part:?} in {error}");
    }
}
