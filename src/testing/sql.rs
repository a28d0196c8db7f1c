//! The few statements that the harness itself runs, each on its own connection: a kept connection would belong to the
//! runtime of the test that opened it.

use std::{future::Future, time::Duration};

use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use crate::{Error, ErrorKind, Result};

/// For one statement, with its connection.
const LIMIT: Duration = Duration::from_secs(30);

const PAUSE: Duration = Duration::from_millis(5);

/// Runs a statement; returns the columns of its first row as text, none if there is no row.
pub(super) async fn ask(url: &str, node: &str, statement: &str) -> Result<Vec<Option<String>>> {
    let answer = async {
        let client = connect(url, node).await?;
        let messages = client.simple_query(statement).await.map_err(|error| {
            Error::new(ErrorKind::Database, format!("{statement:?} failed")).with_node(node).with_source(error)
        })?;
        Ok(messages.iter().find_map(first_row).unwrap_or_default())
    };
    timeout(LIMIT, answer).await.map_err(|_| {
        Error::new(ErrorKind::Timeout, format!("{statement:?} was not answered within {LIMIT:?}")).with_node(node)
    })?
}

/// The same for a statement whose first column is a boolean.
pub(super) async fn ask_bool(url: &str, node: &str, statement: &str) -> Result<bool> {
    let row = ask(url, node, statement).await?;
    Ok(row.first().is_some_and(|value| value.as_deref() == Some("t")))
}

/// Repeats a check until it succeeds.
pub(super) async fn wait_until<F>(what: &str, node: &str, limit: Duration, mut check: impl FnMut() -> F) -> Result<()>
where
    F: Future<Output = Result<bool>>,
{
    let start = Instant::now();
    while !check().await? {
        if start.elapsed() > limit {
            let message = format!("{what} has not happened within {limit:?}");
            return Err(Error::new(ErrorKind::Timeout, message).with_node(node));
        }
        sleep(PAUSE).await;
    }
    Ok(())
}

/// Awaits an answer no longer than this.
pub(super) async fn within<T>(
    what: &str,
    node: &str,
    limit: Duration,
    answer: impl Future<Output = Result<T>>,
) -> Result<T> {
    timeout(limit, answer).await.unwrap_or_else(|_| {
        let message = format!("{what} has not happened within {limit:?}");
        Err(Error::new(ErrorKind::Timeout, message).with_node(node))
    })
}

async fn connect(url: &str, node: &str) -> Result<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls)
        .await
        .map_err(|error| Error::new(ErrorKind::Unavailable, "cannot connect").with_node(node).with_source(error))?;
    // It ends with the client. The statement reports any error of the connection.
    tokio::spawn(async move { drop(connection.await) });
    Ok(client)
}

fn first_row(message: &SimpleQueryMessage) -> Option<Vec<Option<String>>> {
    let SimpleQueryMessage::Row(row) = message else { return None };
    Some((0..row.len()).map(|index| row.get(index).map(str::to_owned)).collect())
}
