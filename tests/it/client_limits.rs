//! A client's calls: their limit, and the reason why a write is refused.

use std::time::Duration;

use mainstem::{AppendCondition, Consistency, ErrorKind, EventStore, PostgresEventStore, Role, Token};
use serde_json::json;
use tokio::time::{Instant, timeout};

use crate::support::{database, event, router, store};

/// Far longer than anything here may take: what it ends would have hung.
const HANG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn the_limit_of_a_clients_calls_is_its_own() {
    const LIMIT: Duration = Duration::from_millis(300);
    let database = database().await;
    let patient = router(&database).await;
    let begun = Instant::now();
    let client = patient.client().await.unwrap().timeout(LIMIT);
    client.query("SELECT pg_sleep(0.01)", &[]).await.unwrap();
    let error = timeout(HANG, client.query("SELECT pg_sleep(20)", &[])).await.expect("no hang").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{}", error.report());
    assert!(error.to_string().contains("300ms") && begun.elapsed() < Duration::from_secs(15), "{error}");
    // The other way round: the router's limit is the shorter one.
    let hasty = mainstem::Router::builder().primary(database.primary_url()).call_timeout(LIMIT);
    let hasty = hasty.connect().await.unwrap();
    let client = hasty.client().await.unwrap().timeout(HANG);
    client.batch_execute("SELECT pg_sleep(1)").await.unwrap();
    client.execute("SELECT pg_sleep(1)", &[]).await.unwrap();
    client.token().await.unwrap();
    drop(client);
    // And the next client has the router's again.
    let error = hasty.client().await.unwrap().query("SELECT pg_sleep(20)", &[]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{}", error.report());
}

/// Who writes by mistake finds out on the first day, and not when the first replica is there.
#[tokio::test]
async fn non_strong_clients_are_read_only_even_on_the_primary() {
    let database = database().await;
    let alone = mainstem::Router::builder().primary(database.primary_url()).max_connections(1).connect().await.unwrap();
    let strong = async || alone.client_at(Consistency::Strong).await.unwrap();
    strong().await.batch_execute("CREATE TABLE kept (n int8)").await.unwrap();
    for level in [Consistency::Eventual, Consistency::Bounded(HANG), Consistency::AtLeast(Token::new())] {
        let client = alone.client_at(level.clone()).await.unwrap();
        assert_eq!((client.role(), client.query("SELECT * FROM kept", &[]).await.unwrap().len()), (Role::Primary, 0));
        let error = client.execute("INSERT INTO kept VALUES (1)", &[]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ReadOnly, "{level:?}");
        assert!(error.to_string().contains("ask for a strong connection"), "{error}");
        drop(client);
        // It is the same connection, which writes again; also if nobody has used it.
        drop(alone.client_at(level.clone()).await.unwrap());
        strong().await.batch_execute("INSERT INTO kept VALUES (1); DELETE FROM kept").await.unwrap();
        let name = alone.status().nodes[0].name.clone();
        drop(alone.client_at(level).await.unwrap());
        alone
            .client_on(&name)
            .await
            .unwrap()
            .batch_execute("INSERT INTO kept VALUES (1); DELETE FROM kept")
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn an_error_names_the_constraint_that_was_broken() {
    let (_database, router, store) = store().await;
    let client = router.client().await.unwrap();
    client
        .batch_execute(
            "CREATE TABLE users (email text CONSTRAINT a_mail CHECK (email LIKE '%@%') UNIQUE, n int8 NOT NULL);
             CREATE UNIQUE INDEX one_email ON mainstem.events ((payload ->> 'email'))",
        )
        .await
        .unwrap();
    let insert = "INSERT INTO users VALUES ($1, $2)";
    client.execute(insert, &[&"ada@x", &1_i64]).await.unwrap();
    for (email, n, state, constraint) in [
        ("ada@x", Some(1_i64), "23505", Some("users_email_key")),
        ("nobody", Some(1), "23514", Some("a_mail")),
        // What has no name.
        ("ben@x", None, "23502", None),
    ] {
        let error = client.execute(insert, &[&email, &n]).await.unwrap_err();
        assert_eq!((error.sqlstate(), error.constraint()), (Some(state), constraint), "{}", error.report());
    }
    let transaction = router.transaction().await.unwrap();
    let error = transaction.execute(insert, &[&"ada@x", &1_i64]).await.unwrap_err();
    assert_eq!(error.constraint(), Some("users_email_key"));

    let registers = async |store: &PostgresEventStore, email: &str| {
        store.append([event("Registered", json!({"email": email}))], AppendCondition::none()).await
    };
    registers(&store, "ada@x").await.unwrap();
    registers(&store, "ben@x").await.unwrap();
    let error = registers(&store, "ada@x").await.unwrap_err();
    assert_eq!((error.kind(), error.sqlstate()), (ErrorKind::InvalidInput, Some("23505")), "{}", error.report());
    assert_eq!(error.constraint(), Some("one_email"));
    // Nor has an error that no server has told of.
    assert_eq!(mainstem::Error::new(ErrorKind::Database, "x").constraint(), None);
}
