//! Fills a new database with the events of a library.

use std::pin::pin;

use mainstem::{PostgresEventStore, Router};
use tokio_postgres::{
    Client,
    binary_copy::BinaryCopyInWriter,
    types::{ToSql, Type},
};

use crate::{
    Outcome, fixture::Database, json_text::JsonText, library::Library, progress::Progress, server, side::Table,
};

/// Where the store writes.
pub(crate) const LOG: Table = Table { name: "mainstem.events", position: "position" };

const COLUMNS: [(&str, Type); 9] = [
    ("position", Type::INT8),
    ("occurred_at", Type::TIMESTAMPTZ),
    ("recorded_at", Type::TIMESTAMPTZ),
    ("following", Type::INT4),
    ("id", Type::UUID),
    ("type", Type::TEXT),
    ("tags", Type::TEXT_ARRAY),
    ("payload", Type::JSONB),
    ("metadata", Type::JSONB),
];

/// Makes the log, and for `peers` the tables that it is compared with, with the same events. Indexes that no
/// constraint stands on are dropped first and made anew at the end, by their own definitions.
pub(crate) async fn fill(url: &str, library: &Library, database: &Database) -> Outcome {
    let router = Router::builder().primary(url).connect().await?;
    PostgresEventStore::new(&router).migrate().await?;
    let client = server::connect(url).await?;
    client.batch_execute("SET maintenance_work_mem = '1GB'; SET synchronous_commit = off").await?;
    if database.peers {
        client.batch_execute(include_str!("sql/peers.sql")).await?;
    }
    let indexes = drop_indexes(&client).await?;
    copy(&client, library, database).await?;
    let mut progress = Progress::new("fixture: tables and indexes", indexes.len() as u64 + 2);
    if database.peers {
        client.batch_execute(include_str!("sql/fill_peers.sql")).await?;
    }
    progress.step("tables");
    for (name, definition) in &indexes {
        client.batch_execute(definition).await?;
        progress.step(name);
    }
    client.batch_execute("VACUUM (FREEZE, ANALYZE)").await?;
    client.batch_execute("CHECKPOINT").await?;
    progress.step("vacuum");
    progress.finish();
    Ok(())
}

/// Names and definitions of what was dropped.
async fn drop_indexes(client: &Client) -> Outcome<Vec<(String, String)>> {
    let sql = "SELECT format('%I.%I', schemaname, indexname), indexdef FROM pg_indexes \
               WHERE schemaname IN ('mainstem', 'plain', 'origin') AND tablename = 'events' AND NOT EXISTS ( \
                   SELECT FROM pg_constraint WHERE conindid = format('%I.%I', schemaname, indexname)::regclass) \
               ORDER BY 1";
    let mut dropped = Vec::new();
    for row in client.query(sql, &[]).await? {
        let (name, definition): (String, String) = (row.get(0), row.get(1));
        client.batch_execute(&format!("DROP INDEX {name}")).await?;
        dropped.push((name, definition));
    }
    Ok(dropped)
}

async fn copy(client: &Client, library: &Library, database: &Database) -> Outcome {
    let names = COLUMNS.map(|(name, _)| name).join(", ");
    let sink = client.copy_in(&format!("COPY {} ({names}) FROM STDIN (FORMAT binary)", LOG.name)).await?;
    let mut writer = pin!(BinaryCopyInWriter::new(sink, &COLUMNS.map(|(_, of)| of)));
    let events = database.events;
    let mut progress = Progress::new("fixture: events", events);
    for position in 1..=events {
        let draft = library.at(position);
        let time = library.time_at(position);
        let metadata = if database.tagged { "{}".to_owned() } else { draft.metadata_json()? };
        let tags = if database.tagged { vec![crate::peers::tag(&draft.book().to_string())] } else { Vec::new() };
        let payload = draft.payload_json()?;
        let row: [&(dyn ToSql + Sync); 9] = [
            &i64::try_from(position)?,
            &time,
            &time,
            &0_i32,
            &library.id_at(position),
            &draft.event_type,
            &tags,
            &JsonText(&payload),
            &JsonText(&metadata),
        ];
        writer.as_mut().write(&row).await?;
        if position.is_multiple_of(1000) {
            progress.set(position, "");
        }
    }
    let written = writer.as_mut().finish().await?;
    progress.finish();
    if written == events { Ok(()) } else { Err(format!("{written} of {events} events were loaded").into()) }
}
