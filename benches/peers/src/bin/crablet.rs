//! go-crablet (September 2025): its statements, sent as pgx sends them. Prepared once on each connection. An append is its function in
//! a transaction of its own, READ COMMITTED as by default; a read is a transaction, too. **Not safe**: concurrent appends do not see
//! each other, and the guard ignores anything newer than the oldest running transaction.

#[path = "../connect.rs"]
mod connect;
#[path = "../../../compare/peers/driver/mod.rs"]
mod driver;
#[path = "../json.rs"]
mod json;

use std::{error::Error, time::SystemTime};

use connect::connect;
use driver::{Client, Draft, Opening, Outcome, Store, serve, tag};
use futures_util::StreamExt;
use json::JsonText;
use serde::Deserialize;
use tokio_postgres::{
    Row, Statement,
    types::{FromSql, IsNull, Json, ToSql, Type, private::BytesMut, to_sql_checked},
};

const BEGIN: &str = "begin isolation level read committed";

struct Crablet {
    url: String,
}

struct Connection {
    client: tokio_postgres::Client,
    append: Statement,
    read: Statement,
    read_after: Statement,
    all: Statement,
    all_after: Statement,
}

/// Its cursor: transaction and position.
#[derive(Clone, Copy, Debug)]
struct Cursor(Xid8, i64);

#[derive(Clone, Copy, Debug)]
struct Xid8(u64);

#[tokio::main(worker_threads = 2)]
async fn main() -> Outcome {
    serve::<Crablet>().await
}

impl Store for Crablet {
    type Client = Connection;

    async fn open(opening: &Opening) -> Outcome<Self> {
        Ok(Self { url: opening.url.clone() })
    }

    async fn prepare(&self) -> Outcome {
        Ok(connect(&self.url).await?.batch_execute(include_str!("../../sql/crablet.sql")).await?)
    }

    async fn clients(&self, count: u64) -> Outcome<Vec<Connection>> {
        let mut clients = Vec::new();
        for _ in 0..count {
            let client = connect(&self.url).await?;
            let select = |filter: &str| {
                format!(
                    "SELECT type, tags, data, transaction_id, position, occurred_at FROM events {filter} \
                     ORDER BY transaction_id ASC, position ASC"
                )
            };
            let after = "((transaction_id = $1 AND position > $2) OR (transaction_id > $1))";
            clients.push(Connection {
                append: client.prepare("SELECT append_events_if($1, $2, $3, $4, $5, $6, $7)").await?,
                read: client.prepare(&select("WHERE (tags @> $1::text[])")).await?,
                read_after: client.prepare(&select(&format!("WHERE {after} AND (tags @> $3::text[])"))).await?,
                all: client.prepare(&select("")).await?,
                all_after: client.prepare(&select(&format!("WHERE {after}"))).await?,
                client,
            });
        }
        Ok(clients)
    }
}

#[derive(Deserialize)]
struct Answer {
    success: bool,
}

impl Connection {
    /// Rolled back when refused, as its caller does.
    async fn append_in_transaction(&self, parameters: &[&(dyn ToSql + Sync)]) -> Outcome<bool> {
        self.client.batch_execute(BEGIN).await?;
        let answered = self.client.query_one(&self.append, parameters).await;
        let written = match &answered {
            Ok(row) => row.try_get::<_, Json<Answer>>(0)?.0.success,
            Err(_) => false,
        };
        self.client.batch_execute(if written { "commit" } else { "rollback" }).await?;
        answered?;
        Ok(written)
    }
}

impl Client for Connection {
    /// The last event's cursor; none if no event was seen.
    type Known = Option<Cursor>;
    type Place = Cursor;
    type Event = (String, String);

    async fn read(
        &mut self,
        book: &str,
        known: Option<&Option<Cursor>>,
    ) -> Outcome<(Vec<(String, String)>, Option<Cursor>)> {
        let (tags, mut known) = (vec![tag(book)], known.copied().flatten());
        self.client.batch_execute(BEGIN).await?;
        let rows = match &known {
            None => self.client.query(&self.read, &[&tags]).await?,
            Some(Cursor(transaction, position)) => {
                self.client.query(&self.read_after, &[transaction, position, &tags]).await?
            }
        };
        self.client.batch_execute("commit").await?;
        let mut events = Vec::with_capacity(rows.len());
        for row in rows {
            let (event, cursor) = event(&row)?;
            known = Some(cursor);
            events.push(event);
        }
        Ok((events, known))
    }

    async fn append(&mut self, book: &str, known: Option<&Option<Cursor>>, drafts: Vec<Draft>) -> Outcome<bool> {
        let types: Vec<&str> = drafts.iter().map(|draft| draft.event_type).collect();
        let literals = vec![format!("{{\"{}\"}}", tag(book)); drafts.len()];
        let payloads: Vec<_> = drafts.iter().map(|draft| Json(&draft.payload)).collect();
        let tags = vec![tag(book)];
        let known = known.copied().flatten();
        let (transaction, position) = (known.map(|cursor| cursor.0), known.map(|cursor| cursor.1));
        let no_types: Option<Vec<&str>> = None;
        self.append_in_transaction(&[&types, &literals, &payloads, &no_types, &tags, &transaction, &position]).await
    }

    async fn read_all(
        &mut self,
        behind: Option<&Cursor>,
        mut each: impl FnMut((String, String)) -> Outcome + Send,
    ) -> Outcome<Option<Cursor>> {
        let none: [&(dyn ToSql + Sync); 0] = [];
        let rows = match behind {
            None => self.client.query_raw(&self.all, none).await?,
            Some(Cursor(transaction, position)) => {
                self.client.query_raw(&self.all_after, [transaction as &(dyn ToSql + Sync), position]).await?
            }
        };
        let mut rows = std::pin::pin!(rows);
        let mut last = None;
        while let Some(row) = rows.next().await {
            let (event, cursor) = event(&row?)?;
            last = Some(cursor);
            each(event)?;
        }
        Ok(last)
    }
}

fn event(row: &Row) -> Outcome<((String, String), Cursor)> {
    let (JsonText(data), _, _): (_, Vec<String>, SystemTime) = (row.try_get(2)?, row.try_get(1)?, row.try_get(5)?);
    Ok(((row.try_get(0)?, data), Cursor(row.try_get(3)?, row.try_get(4)?)))
}

impl ToSql for Xid8 {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.extend_from_slice(&self.0.to_be_bytes());
        Ok(IsNull::No)
    }

    fn accepts(of: &Type) -> bool {
        *of == Type::XID8
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for Xid8 {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(u64::from_be_bytes(raw.try_into()?)))
    }

    fn accepts(of: &Type) -> bool {
        *of == Type::XID8
    }
}
