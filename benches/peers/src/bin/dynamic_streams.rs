//! dynamic-streams-eventstore-go 1.4: the statements of its builder, sent as pgx sends them. Literals are in the text. An
//! append uses the simple protocol, at the server's default isolation and without a lock; a query is prepared, executed
//! once, and discarded. **Not safe**: two concurrent appends see the same maximum, and both are written.

#[path = "../connect.rs"]
mod connect;
#[path = "../../../compare/peers/driver/mod.rs"]
mod driver;
#[path = "../json.rs"]
mod json;
#[path = "../../../compare/utc.rs"]
mod utc;

use std::time::SystemTime;

use connect::connect;
use driver::{Client, Draft, Opening, Outcome, Store, serve};
use json::JsonText;
use tokio_postgres::SimpleQueryMessage;
use utc::utc;

struct DynamicStreams {
    url: String,
}

struct Connection(tokio_postgres::Client);

#[tokio::main(worker_threads = 2)]
async fn main() -> Outcome {
    serve::<DynamicStreams>().await
}

impl Store for DynamicStreams {
    type Client = Connection;

    async fn open(opening: &Opening) -> Outcome<Self> {
        Ok(Self { url: opening.url.clone() })
    }

    async fn prepare(&self) -> Outcome {
        Ok(connect(&self.url).await?.batch_execute(include_str!("../../sql/dynamic_streams.sql")).await?)
    }

    async fn clients(&self, count: u64) -> Outcome<Vec<Connection>> {
        let mut clients = Vec::new();
        for _ in 0..count {
            clients.push(Connection(connect(&self.url).await?));
        }
        Ok(clients)
    }
}

/// A filter of one predicate, as its builder writes it.
fn boundary(book: &str) -> String {
    format!(r#"(payload @> '{{"BookID": "{book}"}}')"#)
}

impl Connection {
    async fn query(&self, filter: &str) -> Outcome<(Vec<(String, String)>, i64)> {
        let sql = format!(
            r#"SELECT "event_type", "occurred_at", "payload", "metadata", "sequence_number" FROM "events" {filter} ORDER BY "sequence_number" ASC"#
        );
        let statement = self.0.prepare(&sql).await?;
        let rows = self.0.query(&statement, &[]).await?;
        let mut events = Vec::with_capacity(rows.len());
        let mut last = 0;
        for row in rows {
            let (_, JsonText(payload), JsonText(_)): (SystemTime, _, _) =
                (row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
            last = row.try_get(4)?;
            events.push((row.try_get(0)?, payload));
        }
        Ok((events, last))
    }
}

impl Client for Connection {
    /// The maximum position of a boundary.
    type Known = i64;
    type Place = i64;
    type Event = (String, String);

    async fn read(&mut self, book: &str, known: Option<&i64>) -> Outcome<(Vec<(String, String)>, i64)> {
        let boundary = boundary(book);
        let filter = match known {
            Some(after) if *after > 0 => format!(r#"WHERE ({boundary} AND ("sequence_number" > {after}))"#),
            _ => format!("WHERE ({boundary})"),
        };
        let (events, last) = self.query(&filter).await?;
        Ok((events, last.max(known.copied().unwrap_or_default())))
    }

    async fn append(&mut self, book: &str, known: Option<&i64>, drafts: Vec<Draft>) -> Outcome<bool> {
        let expected = known.copied().unwrap_or_default();
        let context = format!(
            r#"WITH context AS (SELECT MAX("sequence_number") AS "max_seq" FROM "events" WHERE ({}))"#,
            boundary(book)
        );
        let insert = r#"INSERT INTO "events" ("event_type", "occurred_at", "payload", "metadata")"#;
        let guard = format!(r#"(COALESCE("max_seq", 0) = {expected})"#);
        let mut events = Vec::with_capacity(drafts.len());
        for draft in &drafts {
            events.push((draft.event_type, utc(SystemTime::now())?, serde_json::to_string(&draft.payload)?));
        }
        let sql = if let [(event_type, occurred_at, payload)] = &events[..] {
            format!(
                r#"{context} {insert} SELECT '{event_type}', '{occurred_at}', '{payload}', '{{}}' FROM "context" WHERE {guard}"#
            )
        } else {
            let values = events.iter().map(|(event_type, occurred_at, payload)| {
                format!(
                    r#"SELECT '{event_type}'::text AS "event_type", '{occurred_at}'::timestamp with time zone AS "occurred_at", '{payload}'::jsonb AS "payload", '{{}}'::jsonb AS "metadata""#
                )
            });
            let values = values.collect::<Vec<_>>().join(" UNION ALL ");
            format!(
                r#"{context}, vals AS ({values}) {insert} SELECT "vals"."event_type", "vals"."occurred_at", "vals"."payload", "vals"."metadata" FROM "context", "vals" WHERE {guard}"#
            )
        };
        let messages = self.0.simple_query(&sql).await?;
        let written = messages.iter().find_map(|message| match message {
            SimpleQueryMessage::CommandComplete(rows) => Some(*rows),
            _ => None,
        });
        Ok(written.ok_or("an INSERT without an end")? == drafts.len() as u64)
    }

    async fn read_all(
        &mut self,
        behind: Option<&i64>,
        mut each: impl FnMut((String, String)) -> Outcome + Send,
    ) -> Outcome<Option<i64>> {
        let filter = behind.map_or(String::new(), |place| format!(r#"WHERE ("sequence_number" > {place})"#));
        let (events, last) = self.query(&filter).await?;
        for event in events {
            each(event)?;
        }
        Ok(Some(last).filter(|last| *last > 0))
    }
}
