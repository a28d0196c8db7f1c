//! What a role must be granted: to append, to read, to migrate. Each grant is needed, and all of them are enough.

use mainstem::{
    AppendCondition, Error, ErrorKind, EventStore, Filter, LogName, PostgresEventStore, Router, SaveOutcome, Saved,
    SnapshotKey, SnapshotStore, testing::TestDatabase,
};
use serde_json::json;

use crate::support::{database, event, store};

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
async fn who_migrates_must_own_the_schema_or_be_let_in() {
    let database = database().await;
    let admin = crate::support::router(&database).await;
    let (role, router) = role(&database, &admin).await;
    let of = |schema: &str| PostgresEventStore::with_name(&router, LogName::new(schema, "events").unwrap());
    run(&admin, &format!("CREATE SCHEMA own AUTHORIZATION {role}; CREATE SCHEMA other")).await;
    // The schema is there: no right to create one is asked for.
    assert_eq!(of("own").migrate().await.unwrap().applied.len(), 3);
    of("own").append([event("A", json!({}))], AppendCondition::none()).await.unwrap();
    for schema in ["new", "other"] {
        let error = of(schema).migrate().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration, "{schema}: {}", error.report());
        assert!(error.to_string().contains("CREATE on the schema"), "{error}");
    }
    run(&admin, &format!("GRANT USAGE, CREATE ON SCHEMA other TO {role}")).await;
    assert_eq!(of("other").migrate().await.unwrap().applied.len(), 3);
    run(&admin, &format!("GRANT CREATE ON DATABASE {} TO {role}", database.name())).await;
    assert_eq!(of("new").migrate().await.unwrap().applied.len(), 3);
}
