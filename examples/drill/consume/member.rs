//! A process that consumes, until it is killed: this program, started again as `consumers`.

use std::{borrow::Cow, time::Duration};

use mainstem::{Consumer, ConsumerBatch, ErrorKind, Event, Filter, PostgresEventStore};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    time::sleep,
};

use super::router;
use crate::{Outcome, may_pass};

/// The first line of its standard input.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Task {
    pub(crate) nodes: [String; 2],
    pub(crate) kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) enum Kind {
    /// One of a group that shares partitions by key, and writes what it handles in the checkpoint's transaction.
    Ledger,
    /// Alone, with others waiting to take over; it writes first, and then saves the checkpoint.
    Notes,
}

impl Kind {
    pub(crate) fn table(self) -> &'static str {
        match self {
            Self::Ledger => "ledger",
            Self::Notes => "notes",
        }
    }
}

pub(crate) async fn work() -> Outcome {
    let mut input = BufReader::new(tokio::io::stdin()).lines();
    let first = input.next_line().await?.ok_or("consumers are started by `drill consume` only")?;
    let Task { nodes, kind } = serde_json::from_str(&first)?;
    // This process ends together with the one that started it.
    tokio::spawn(async move {
        while let Ok(Some(_)) = input.next_line().await {}
        std::process::exit(1);
    });
    let store = PostgresEventStore::new(&router(&nodes)?);
    let builder = store.consumer(kind.table(), &Filter::any_event()).batch_events(300).takeover(Duration::from_secs(3));
    let mut consumer = match kind {
        Kind::Ledger => builder.partitions(8, key).build()?,
        Kind::Notes => builder.build()?,
    };
    while let Some(batch) = consumer.next_batch().await {
        let error = match batch {
            Ok(batch) => match handle(&store, &consumer, &batch, kind).await {
                Ok(()) => continue,
                Err(error) => error,
            },
            Err(error) => error,
        };
        if std::env::var_os("DRILL_TRACE").is_some() {
            eprintln!("{} {kind:?}: {}", std::process::id(), error.report());
        }
        // Both tables are lost together with the events that the log loses, and so are the checkpoints: no consumer may
        // diverge.
        let is_expected = may_pass(&error) || matches!(error.kind(), ErrorKind::OwnershipLost | ErrorKind::SplitBrain);
        if !is_expected && error.kind() != ErrorKind::Database {
            return Err(error.into());
        }
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

fn key(event: &Event) -> Option<Cow<'_, str>> {
    event.tags().find(|tag| tag.starts_with("key:")).map(Into::into)
}

/// One statement for a whole batch.
const INSERT: &str = "(key, position, id, member) \
    SELECT w.key, w.position, w.id::uuid, $4 FROM unnest($1::text[], $2::int8[], $3::text[]) \
    WITH ORDINALITY AS w(key, position, id, n) ORDER BY w.n";

async fn handle(
    store: &PostgresEventStore,
    consumer: &Consumer,
    batch: &ConsumerBatch,
    kind: Kind,
) -> mainstem::Result<()> {
    let keys: Vec<Cow<'_, str>> = batch.iter().map(|event| key(event).unwrap_or_default()).collect();
    let positions: Vec<i64> = batch.iter().map(|event| event.position().cast_signed()).collect();
    let ids: Vec<String> = batch.iter().map(|event| event.id().to_string()).collect();
    let member = i64::from(std::process::id());
    let sql = format!("INSERT INTO {} {INSERT}", kind.table());
    match kind {
        Kind::Ledger => {
            let transaction = consumer.transaction(batch).await?;
            transaction.execute(&sql, &[&keys, &positions, &ids, &member]).await?;
            transaction.commit().await
        }
        Kind::Notes => {
            let client = store.router().client().await?;
            if let Err(error) = client.execute(&sql, &[&keys, &positions, &ids, &member]).await {
                consumer.rewind();
                return Err(error);
            }
            consumer.commit(batch).await
        }
    }
}
