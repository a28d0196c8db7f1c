//! A function that runs SQL on whatever client it is given.

use std::time::Duration;

use mainstem::{AppendCondition, Client, ErrorKind, EventStore, Filter, GenericClient, Result, Role, Transaction};
use serde_json::json;
use tokio::time::timeout;

use crate::support::{event, store};

/// Far longer than anything here may take: what it ends would have hung.
const HANG: Duration = Duration::from_secs(60);

/// Each method once. Says what is in the table behind it.
async fn write(client: &impl GenericClient, name: &str) -> Result<Vec<String>> {
    client.batch_execute("CREATE TABLE IF NOT EXISTS readers (name text); SELECT 1").await?;
    assert_eq!(client.execute("INSERT INTO readers VALUES ($1)", &[&name]).await?, 1);
    let found = client.query_opt("SELECT name FROM readers WHERE name = $1", &[&name]).await?;
    assert_eq!(found.map(|row| row.get(0)), Some(name.to_owned()));
    let count: i64 = client.query_one("SELECT count(*) FROM readers", &[]).await?.get(0);
    let rows = client.query("SELECT name FROM readers ORDER BY name", &[]).await?;
    assert_eq!((rows.len() as i64, client.role()), (count, Role::Primary));
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// For what has to be `Send`: the methods' futures, too.
async fn write_elsewhere<C: GenericClient + 'static>(client: C, name: &'static str) -> (C, Result<Vec<String>>) {
    let writing = tokio::spawn(async move {
        let written = write(&client, name).await;
        (client, written)
    });
    timeout(HANG, writing).await.expect("no hang").unwrap()
}

#[tokio::test]
async fn a_function_runs_sql_in_a_client_and_in_transactions() {
    let (_database, router, store) = store().await;
    let (client, written): (Client, _) = write_elsewhere(router.client().await.unwrap(), "ada").await;
    assert_eq!(written.unwrap(), ["ada"]);

    let (transaction, written): (Transaction, _) = write_elsewhere(router.transaction().await.unwrap(), "ben").await;
    assert_eq!(written.unwrap(), ["ada", "ben"]);
    assert_eq!(GenericClient::node(&transaction), client.node());
    transaction.rollback().await.unwrap();

    store.append(vec![event("Added", json!({}))], AppendCondition::none()).await.unwrap();
    let mut consumer = store.consumer("readers", &Filter::any_event()).build().unwrap();
    let batch = timeout(HANG, consumer.next_batch()).await.expect("no hang").unwrap().unwrap();
    let transaction = consumer.transaction(&batch).await.unwrap();
    assert_eq!(write(&transaction, "cem").await.unwrap(), ["ada", "cem"]);
    // By itself, and not as what it stands in for: an end in SQL is refused as by the transaction's own method.
    let error = GenericClient::batch_execute(&transaction, "COMMIT").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{}", error.report());
    transaction.commit().await.unwrap();
    let rows = client.query("SELECT name FROM readers ORDER BY name", &[]).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.get(0)).collect::<Vec<String>>(), ["ada", "cem"], "{rows:?}");
}
