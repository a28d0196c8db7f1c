//! A connection whose driver runs on this runtime until the client is dropped.

use tokio_postgres::{Client, NoTls};

pub(crate) async fn connect(url: &str) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(async move { drop(connection.await) });
    Ok(client)
}
