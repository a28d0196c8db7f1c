//! What a role must be granted: to append, to read, to migrate. Each grant is needed, and all of them are enough.

use mainstem::{
    AppendCondition, ErrorKind, EventStore, Filter, LogName, PostgresEventStore, Router, testing::TestDatabase,
};
use serde_json::json;

use crate::support::{database, event, store};

const READ: [&str; 2] = ["USAGE ON SCHEMA mainstem", "SELECT ON mainstem.events"];
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

#[tokio::test]
async fn who_migrates_must_own_the_schema_or_be_let_in() {
    let database = database().await;
    let admin = crate::support::router(&database).await;
    let (role, router) = role(&database, &admin).await;
    let of = |schema: &str| PostgresEventStore::with_name(&router, LogName::new(schema, "events").unwrap());
    run(&admin, &format!("CREATE SCHEMA own AUTHORIZATION {role}; CREATE SCHEMA other")).await;
    // The schema is there: no right to create one is asked for.
    assert_eq!(of("own").migrate().await.unwrap().applied.len(), 2);
    of("own").append([event("A", json!({}))], AppendCondition::none()).await.unwrap();
    for schema in ["new", "other"] {
        let error = of(schema).migrate().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration, "{schema}: {}", error.report());
        assert!(error.to_string().contains("CREATE on the schema"), "{error}");
    }
    run(&admin, &format!("GRANT USAGE, CREATE ON SCHEMA other TO {role}")).await;
    assert_eq!(of("other").migrate().await.unwrap().applied.len(), 2);
    run(&admin, &format!("GRANT CREATE ON DATABASE {} TO {role}", database.name())).await;
    assert_eq!(of("new").migrate().await.unwrap().applied.len(), 2);
}
