//! go-simple-eventstore 0.0.8: its statements, sent as lib/pq sends them. Anything with arguments is prepared, executed and
//! discarded, each a round trip, and events are inserted one by one. Its boundaries are **streams**: one stream for each book,
//! and conditions can be about nothing else. Appends are safe; a consumer may miss events whose numbers were drawn earlier and
//! committed later.

#[path = "../connect.rs"]
mod connect;
#[path = "../../../compare/peers/driver/mod.rs"]
mod driver;

use std::time::SystemTime;

use connect::connect;
use driver::{Client, Draft, Opening, Outcome, Store, serve};
use tokio_postgres::{
    Row,
    types::{Json, ToSql},
};

/// The limit of a consumer's fetch.
const LIMIT: i64 = 1000;

struct SimpleEventStore {
    url: String,
}

struct Connection(tokio_postgres::Client);

type NoMetadata = Option<Json<()>>;

#[tokio::main(worker_threads = 2)]
async fn main() -> Outcome {
    serve::<SimpleEventStore>().await
}

impl Store for SimpleEventStore {
    type Client = Connection;

    async fn open(opening: &Opening) -> Outcome<Self> {
        Ok(Self { url: opening.url.clone() })
    }

    async fn prepare(&self) -> Outcome {
        Ok(connect(&self.url).await?.batch_execute(include_str!("../../sql/simple_eventstore.sql")).await?)
    }

    async fn clients(&self, count: u64) -> Outcome<Vec<Connection>> {
        let mut clients = Vec::new();
        for _ in 0..count {
            clients.push(Connection(connect(&self.url).await?));
        }
        Ok(clients)
    }
}

impl Connection {
    /// Prepared, executed, discarded.
    async fn query(&self, sql: &str, arguments: &[&(dyn ToSql + Sync)]) -> Outcome<Vec<Row>> {
        let statement = self.0.prepare(sql).await?;
        Ok(self.0.query(&statement, arguments).await?)
    }

    /// Inside a transaction: false if the stream is not as expected.
    async fn append_in_transaction(&self, stream: &str, expected: i64, drafts: &[Draft]) -> Outcome<bool> {
        self.query("SELECT pg_advisory_xact_lock(hashtext($1))", &[&stream]).await?;
        let sql = r#"SELECT COALESCE(MAX(version), 0) FROM "events" WHERE stream_id = $1"#;
        let version: i64 = self.query(sql, &[&stream]).await?.first().ok_or("no version")?.try_get(0)?;
        if version != expected {
            return Ok(false);
        }
        let insert = r#"INSERT INTO "events" (stream_id, version, event_id, event_type, event_data, metadata)
                        VALUES ($1, $2, $3, $4, $5, $6)"#;
        let insert = self.0.prepare(insert).await?;
        for (version, draft) in (expected + 1..).zip(drafts) {
            let (id, data) = (format!("{stream}-{version}"), serde_json::to_vec(&draft.payload)?);
            let metadata: NoMetadata = None;
            self.0.execute(&insert, &[&stream, &version, &id, &draft.event_type, &data, &metadata]).await?;
        }
        Ok(true)
    }
}

impl Client for Connection {
    /// The stream's version.
    type Known = i64;
    type Place = i32;
    type Event = (String, Vec<u8>);

    async fn read(&mut self, book: &str, known: Option<&i64>) -> Outcome<(Vec<(String, Vec<u8>)>, i64)> {
        let sql = r#"SELECT event_id, event_type, event_data, metadata, timestamp, version
                     FROM "events" WHERE stream_id = $1 AND version > $2 ORDER BY version ASC"#;
        let mut version = known.copied().unwrap_or_default();
        let mut events = Vec::new();
        for row in self.query(sql, &[&book, &version]).await? {
            let _: (String, NoMetadata, SystemTime) = (row.try_get(0)?, row.try_get(3)?, row.try_get(4)?);
            version = row.try_get(5)?;
            events.push((row.try_get(1)?, row.try_get(2)?));
        }
        Ok((events, version))
    }

    async fn append(&mut self, book: &str, known: Option<&i64>, drafts: Vec<Draft>) -> Outcome<bool> {
        self.0.batch_execute("BEGIN").await?;
        let appended = self.append_in_transaction(book, known.copied().unwrap_or_default(), &drafts).await;
        let written = matches!(appended, Ok(true));
        self.0.batch_execute(if written { "COMMIT" } else { "ROLLBACK" }).await?;
        appended
    }

    async fn read_all(
        &mut self,
        behind: Option<&i32>,
        mut each: impl FnMut((String, Vec<u8>)) -> Outcome + Send,
    ) -> Outcome<Option<i32>> {
        let sql = "SELECT id, stream_id, event_id, event_type, event_data, metadata, timestamp, version
                   FROM events WHERE id > $1 ORDER BY id ASC LIMIT $2";
        let mut cursor = behind.copied().unwrap_or_default();
        loop {
            let rows = self.query(sql, &[&cursor, &LIMIT]).await?;
            if rows.is_empty() {
                return Ok(Some(cursor).filter(|cursor| *cursor > 0));
            }
            for row in rows {
                let _: (String, String, NoMetadata, SystemTime) =
                    (row.try_get(1)?, row.try_get(2)?, row.try_get(5)?, row.try_get(6)?);
                cursor = row.try_get(0)?;
                each((row.try_get(3)?, row.try_get(4)?))?;
            }
        }
    }
}
