//! The grants that a role needs to append, to read, to migrate. Each grant is needed, and together they suffice.

use mainstem::{
    AppendCondition, Consistency, Error, ErrorKind, EventStore, ExpectedVersion, Filter, LogName, PostgresEventStore,
    Role, Router, SaveOutcome, Saved, SnapshotKey, SnapshotStore,
    schema::{Access, HotKey, IndexCreated, LogIndex},
    testing::TestDatabase,
};
use serde_json::json;

use crate::support::{database, event, migrations, store};

const READ: [&str; 2] = ["USAGE ON SCHEMA mainstem", "SELECT ON mainstem.events"];
const LOAD: [&str; 3] =
    ["USAGE ON SCHEMA mainstem", "SELECT ON mainstem.events", "SELECT ON mainstem.events_snapshots"];
const SAVE: [&str; 5] = [
    "USAGE ON SCHEMA mainstem",
    "SELECT ON mainstem.events",
    "SELECT ON mainstem.events_snapshots",
    "INSERT ON mainstem.events_snapshots",
    "UPDATE ON mainstem.events_snapshots",
];
const DELETE: [&str; 3] =
    ["USAGE ON SCHEMA mainstem", "SELECT ON mainstem.events_snapshots", "DELETE ON mainstem.events_snapshots"];
const APPEND: [&str; 4] = [
    "USAGE ON SCHEMA mainstem",
    "SELECT ON mainstem.events",
    "INSERT ON mainstem.events",
    "EXECUTE ON PROCEDURE mainstem.events_append_1",
];

/// A role of this database alone that may nothing, and a router for it.
async fn role(database: &TestDatabase<'_>, admin: &Router) -> (String, Router) {
    let role = format!("app_{}", database.name());
    admin.client().await.unwrap().batch_execute(&format!("CREATE ROLE {role} LOGIN PASSWORD 'secret'")).await.unwrap();
    let url = database.primary_url();
    let (_, host) = url.split_once('@').unwrap();
    let router = Router::builder().primary(format!("postgres://{role}:secret@{host}")).connect().await.unwrap();
    (role, router)
}

async fn run(admin: &Router, sql: &str) {
    admin.client().await.unwrap().batch_execute(sql).await.unwrap();
}

#[tokio::test]
async fn the_grants_for_appending_are_these_and_no_others() {
    let (database, admin, _store) = store().await;
    // A new procedure is everybody's; a careful administrator changes that.
    run(&admin, "REVOKE ALL ON PROCEDURE mainstem.events_append_1 FROM public").await;
    let (role, router) = role(&database, &admin).await;
    let store = PostgresEventStore::new(&router);
    let filter = Filter::matching().any_type_of(["A"]).finish().unwrap();
    for grant in APPEND {
        run(&admin, &format!("GRANT {} TO {role}", APPEND.join(&format!(" TO {role}; GRANT ")))).await;
        run(&admin, &format!("REVOKE {grant} FROM {role}")).await;
        let error = store.append([event("A", json!({}))], AppendCondition::none()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration, "without {grant}: {}", error.report());
        assert!(error.to_string().contains("EXECUTE on its append procedure"), "{error}");
    }
    run(&admin, &format!("GRANT {} TO {role}", APPEND.join(&format!(" TO {role}; GRANT ")))).await;
    let history = store.query(&filter).await.unwrap();
    let events = [event("A", json!({})).with_tag("t")];
    store.append(events.clone(), history.unchanged()).await.unwrap();
    // The repeat writes a record to the server's log as well.
    assert!(store.append(events, history.unchanged()).await.unwrap().is_repeated());
    for condition in [history.unchanged(), AppendCondition::fail_if_events_match(filter.clone())] {
        assert!(store.append([event("A", json!({}))], condition).await.unwrap_err().is_conflict());
    }
    // Not even with these can what is written be changed.
    for sql in ["UPDATE mainstem.events SET type = 'B'", "DELETE FROM mainstem.events", "TRUNCATE mainstem.events"] {
        let error = router.client().await.unwrap().execute(sql, &[]).await.unwrap_err();
        assert_eq!(error.sqlstate(), Some("42501"), "{sql}");
    }
}

#[tokio::test]
async fn the_grants_for_reading_are_these_and_no_others() {
    let (database, admin, by_admin) = store().await;
    by_admin.append([event("A", json!({}))], AppendCondition::none()).await.unwrap();
    let (role, router) = role(&database, &admin).await;
    let store = PostgresEventStore::new(&router);
    for grant in READ {
        run(&admin, &format!("GRANT {} TO {role}", READ.join(&format!(" TO {role}; GRANT ")))).await;
        run(&admin, &format!("REVOKE {grant} FROM {role}")).await;
        let error = store.query(&Filter::any_event()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration, "without {grant}: {}", error.report());
        assert!(error.to_string().contains("SELECT on its table"), "{error}");
    }
    run(&admin, &format!("GRANT {} TO {role}", READ.join(&format!(" TO {role}; GRANT ")))).await;
    assert_eq!(store.query(&Filter::any_event()).await.unwrap().len(), 1);
    let error = store.append([event("A", json!({}))], AppendCondition::none()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration, "{}", error.report());
}

/// Without each of the grants the call is refused, with all of them it is not.
async fn needs<T>(admin: &Router, role: &str, grants: &[&str], call: impl AsyncFn() -> Result<T, Error>) -> T {
    let all = || format!("GRANT {} TO {role}", grants.join(&format!(" TO {role}; GRANT ")));
    for grant in grants {
        run(admin, &all()).await;
        run(admin, &format!("REVOKE {grant} FROM {role}")).await;
        let Err(error) = call().await else { panic!("possible without {grant}") };
        assert_eq!(error.kind(), ErrorKind::Configuration, "without {grant}: {}", error.report());
        assert!(error.to_string().contains("_snapshots"), "{error}");
    }
    run(admin, &all()).await;
    let outcome = call().await.unwrap_or_else(|error| panic!("with {grants:?}: {}", error.report()));
    for grant in grants {
        run(admin, &format!("REVOKE {grant} FROM {role}")).await;
    }
    outcome
}

#[tokio::test]
async fn the_grants_for_snapshots_are_these_and_no_others() {
    let (database, admin, by_admin) = store().await;
    let mark = by_admin.append([event("A", json!({}))], AppendCondition::none()).await.unwrap().last();
    let (role, router) = role(&database, &admin).await;
    let store = PostgresEventStore::new(&router);
    let key = SnapshotKey::new("p", 1, &Filter::any_event());
    let save = async || store.save_snapshot(&key, mark, &1).await;
    assert_eq!(needs(&admin, &role, &SAVE, save).await, Saved::Stored);
    let load = async || store.load_snapshot(&key).await;
    assert!(needs(&admin, &role, &LOAD, load).await.is_some());
    assert!(needs(&admin, &role, &DELETE, async || store.delete_snapshot(&key).await).await);
    // A reader may project; only the saving fails, and not the call.
    let project = async || store.project(&key, 0, |_, _| Ok(())).save_every(1).await;
    let projected = needs(&admin, &role, &LOAD, project).await;
    let SaveOutcome::Failed(error) = projected.saved() else { panic!("{:?}", projected.saved()) };
    assert_eq!((projected.applied(), error.kind()), (1, ErrorKind::Configuration), "{}", error.report());
}

#[tokio::test]
async fn a_migrating_role_must_own_the_schema_or_be_granted_create() {
    let database = database().await;
    let admin = crate::support::router(&database).await;
    let (role, router) = role(&database, &admin).await;
    let of = |schema: &str| PostgresEventStore::with_name(&router, LogName::new(schema, "events").unwrap());
    run(&admin, &format!("CREATE SCHEMA own AUTHORIZATION {role}; CREATE SCHEMA other")).await;
    // The schema is there: no right to create one is asked for.
    assert_eq!(of("own").migrate().await.unwrap().applied.len(), migrations().len());
    of("own").append([event("A", json!({}))], AppendCondition::none()).await.unwrap();
    for schema in ["new", "other"] {
        let error = of(schema).migrate().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration, "{schema}: {}", error.report());
        assert!(error.to_string().contains("CREATE on the schema"), "{error}");
    }
    run(&admin, &format!("GRANT USAGE, CREATE ON SCHEMA other TO {role}")).await;
    assert_eq!(of("other").migrate().await.unwrap().applied.len(), migrations().len());
    run(&admin, &format!("GRANT CREATE ON DATABASE {} TO {role}", database.name())).await;
    assert_eq!(of("new").migrate().await.unwrap().applied.len(), migrations().len());
}

/// What each of the roles may not, as SQL; whoever may more has the statements of his own before them.
const FOR_NOBODY: [&str; 3] =
    ["UPDATE mainstem.events SET type = 'B'", "DELETE FROM mainstem.events", "TRUNCATE mainstem.events"];
const FOR_THE_OWNER: [&str; 6] = [
    "DROP TRIGGER events_append_only ON mainstem.events",
    "ALTER TABLE mainstem.events DISABLE TRIGGER ALL",
    "DROP TABLE mainstem.events_snapshots",
    "CREATE TABLE mainstem.other ()",
    "CREATE INDEX other ON mainstem.events (recorded_at)",
    "INSERT INTO mainstem.events_migrations VALUES (9, 'x', 'x', 'x')",
];
const FOR_WRITERS: [&str; 2] =
    ["INSERT INTO mainstem.events (position) VALUES (99)", "DELETE FROM mainstem.events_snapshots"];

async fn all_refused(router: &Router, statements: &[&str], role: &str) {
    for sql in statements {
        let error = router.client().await.unwrap().batch_execute(sql).await.expect_err(sql);
        assert_eq!(error.sqlstate(), Some("42501"), "{role}: {sql}: {error}");
    }
}

#[tokio::test]
async fn a_migrator_a_writer_and_a_reader_may_what_they_are_for_and_no_more() {
    let database = database().await;
    let admin = crate::support::router(&database).await;
    let name = LogName::default();
    // A quote and a space must not matter.
    let router = async |what: &str| {
        let role = format!("{what} \"{}\"", database.name());
        let create = format!("CREATE ROLE \"{}\" LOGIN PASSWORD 'secret'", role.replace('"', "\"\""));
        run(&admin, &create).await;
        let at = |url: String| {
            let (_, host) = url.split_once('@').unwrap();
            let user: String = role.bytes().map(|byte| format!("%{byte:02x}")).collect();
            format!("postgres://{user}:secret@{host}")
        };
        crate::support::cluster().await.wait_until_caught_up().await.unwrap();
        let builder = Router::builder().primary(at(database.primary_url()));
        let router = builder.replicas(database.replica_urls().into_iter().map(at)).connect().await.unwrap();
        (role, router)
    };
    let grant = async |access, role: &str| run(&admin, &name.grants(access, role).unwrap()).await;
    let (migrator, by_migrator) = router("migrator").await;
    let (writer, by_writer) = router("writer").await;
    let (reader, by_reader) = router("reader").await;
    let (consumer, by_consumer) = router("consumer").await;
    let stores = [&by_migrator, &by_writer, &by_reader].map(PostgresEventStore::new);
    let [migrating, writing, reading] = &stores;

    grant(Access::Migrator, &migrator).await;
    assert_eq!(writing.migrate().await.unwrap_err().kind(), ErrorKind::Configuration);
    assert_eq!(migrating.migrate().await.unwrap().applied.len(), migrations().len());
    run(&by_migrator, "REVOKE ALL ON PROCEDURE mainstem.events_append_1 FROM public").await;
    grant(Access::Writer, &writer).await;
    assert_eq!(reading.check().await.unwrap_err().kind(), ErrorKind::Configuration);
    grant(Access::Reader, &reader).await;
    grant(Access::Consumer, &consumer).await;
    assert_eq!(migrating.create_index(&LogIndex::metadata()).await.unwrap(), IndexCreated::New);
    assert_eq!(migrating.migrate().await.unwrap().applied.len(), 0);

    let all = Filter::any_event();
    let none = Filter::matching().any_type_of(["B"]).finish().unwrap();
    let key = SnapshotKey::new("p", 1, &all);
    for store in [migrating, writing] {
        let append = store.append([event("A", json!({}))], AppendCondition::fail_if_events_match(none.clone()));
        let last = append.to_stream("s", ExpectedVersion::Any).await.unwrap().last();
        assert_eq!(store.save_snapshot(&key, last, &1).await.unwrap(), Saved::Stored);
        assert!(store.delete_snapshot(&key).await.unwrap());
        assert_eq!(store.save_snapshot(&key, last, &1).await.unwrap(), Saved::Stored);
    }
    crate::support::cluster().await.wait_until_caught_up().await.unwrap();
    for store in &stores {
        store.check().await.unwrap();
        for (level, role) in [(Consistency::Strong, Role::Primary), (Consistency::Eventual, Role::Replica)] {
            let history = store.query(&all).consistency(level.clone()).await.unwrap();
            assert_eq!((history.len(), history.role()), (2, role));
            assert_eq!(*store.count(&all).consistency(level.clone()).await.unwrap(), 2);
            assert_eq!(store.load_stream("s").consistency(level.clone()).await.unwrap().version(), 2);
            assert!(store.load_snapshot(&key).consistency(level).await.unwrap().is_some());
        }
        let mut stream = store.query_stream(&all);
        while let Some(event) = stream.next().await {
            event.unwrap();
        }
    }

    let consuming = PostgresEventStore::new(&by_consumer);
    for store in [migrating, writing, &consuming] {
        let mut consumer = store.consumer("c", &all).build().unwrap();
        let batch = consumer.next_batch().await.unwrap().unwrap();
        let transaction = consumer.transaction(&batch).await.unwrap();
        transaction.skip(&batch.events()[0], "no", 1).await.unwrap();
        transaction.commit().await.unwrap();
        consumer.commit(&batch).await.unwrap();
        consumer.close().await.unwrap();
        for change in [store.consumer_control("c").pause().await, store.consumer_control("c").delete().await] {
            change.unwrap();
        }
    }
    let mut refused = reading.consumer("c", &all).build().unwrap();
    assert_eq!(refused.next_batch().await.unwrap().map(drop).unwrap_err().kind(), ErrorKind::Configuration);
    assert_eq!(reading.consumer_control("c").skipped(1).await.unwrap(), []);
    for store in [reading, &consuming] {
        let append = store.append([event("A", json!({}))], AppendCondition::none()).await;
        assert_eq!(append.unwrap_err().kind(), ErrorKind::Configuration);
    }
    all_refused(&by_consumer, &FOR_WRITERS, &consumer).await;
    all_refused(&by_reader, &FOR_WRITERS, &reader).await;
    for (router, store, role) in [(&by_writer, writing, &writer), (&by_reader, reading, &reader)] {
        all_refused(router, &FOR_NOBODY, role).await;
        all_refused(router, &FOR_THE_OWNER, role).await;
        let errors = [
            store.migrate().await.map(drop).unwrap_err(),
            store.create_index(&LogIndex::key(HotKey::payload("a").unwrap())).await.map(drop).unwrap_err(),
            store.drop_index(&LogIndex::metadata()).await.map(drop).unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.kind(), ErrorKind::Configuration, "{role}: {}", error.report());
        }
    }
    // The owner could take the defence away, and not by accident.
    for sql in FOR_NOBODY {
        let error = by_migrator.client().await.unwrap().execute(sql, &[]).await.unwrap_err();
        assert!(error.to_string().contains("append-only"), "{sql}: {error}");
    }
}
