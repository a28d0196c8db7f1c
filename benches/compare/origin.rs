//! The origin's side: its two statements, with literals in the text, sent as its driver sends them.

use std::time::SystemTime;

use tokio_postgres::{Client, Row, SimpleQueryMessage};

use crate::{
    Outcome,
    json_text::JsonText,
    library::{Boundary, DECISIVE, Draft, Library},
    server,
    side::{Crew, Step, Table, Worker},
    utc::utc,
};

pub(crate) const ORIGIN: Table = Table { name: "origin.events", position: "sequence_number" };

/// One of its connections.
pub(crate) struct Origin {
    client: Client,
}

/// The planner's settings in the origin's own configuration of a replica. They keep it from walking the primary key backwards for a
/// boundary that has long not been written to, and may be worse for others.
const BY_ITS_INDEXES: &str =
    "SET random_page_cost = 1.1; SET enable_seqscan = off; SET enable_indexscan = off; SET jit = off";

impl Origin {
    pub(crate) async fn connect(url: &str) -> Outcome<Self> {
        Ok(Self { client: server::connect(url).await? })
    }

    /// The same with the planner held to bitmap scans, as the origin recommends.
    pub(crate) async fn by_its_indexes(url: &str) -> Outcome<Self> {
        let origin = Self::connect(url).await?;
        origin.client.batch_execute(BY_ITS_INDEXES).await?;
        Ok(origin)
    }

    /// Its guarded append. Returns the new position, or nothing when `expected` is no longer the boundary's last one.
    ///
    /// A statement without arguments uses the simple protocol. The origin does not ask for the position; here it is
    /// free, and saves a read before the next append. `before` is sent in front of it, in the same message.
    pub(crate) async fn append(
        &self,
        before: &str,
        boundary: &Boundary,
        expected: i64,
        draft: &Draft,
        behind: &str,
    ) -> Outcome<Option<i64>> {
        let now = utc(SystemTime::now())?;
        let append = include_str!("sql/origin_append.sql")
            .replace("{filter}", &filter(boundary))
            .replace("{type}", draft.event_type)
            .replace("{occurred_at}", &now)
            .replace("{payload}", &draft.payload_json()?)
            .replace("{metadata}", &draft.metadata_json()?)
            .replace("{expected}", &expected.to_string());
        let messages = self.client.simple_query(&[before, &append, behind].concat()).await?;
        let mut written = None;
        for message in &messages {
            if let SimpleQueryMessage::Row(row) = message
                && let Ok(Some(position)) = row.try_get("sequence_number")
            {
                written = Some(position.parse()?);
            }
        }
        Ok(written)
    }

    /// Its query: prepared, executed once, and discarded.
    pub(crate) async fn read(&self, boundary: &Boundary, after: i64) -> Outcome<Vec<Recorded>> {
        let mut filter = filter(boundary);
        if after > 0 {
            filter.push_str(&format!(" AND sequence_number > {after}"));
        }
        let sql = include_str!("sql/origin_read.sql").replace("{filter}", &filter);
        let statement = self.client.prepare(&sql).await?;
        let rows = self.client.query(&statement, &[]).await?;
        rows.iter().map(recorded).collect()
    }

    /// The last position of a boundary, as callers know it from a read.
    pub(crate) async fn last(&self, boundary: &Boundary, after: i64) -> Outcome<i64> {
        Ok(self.read(boundary, after).await?.last().map_or(after, |event| event.position))
    }
}

/// An event with all fields that the origin's has.
#[derive(Debug)]
#[expect(dead_code, reason = "what is decoded is what is measured")]
pub(crate) struct Recorded {
    event_type: String,
    occurred_at: SystemTime,
    payload: String,
    metadata: String,
    pub(crate) position: i64,
}

fn recorded(row: &Row) -> Outcome<Recorded> {
    Ok(Recorded {
        event_type: row.try_get(0)?,
        occurred_at: row.try_get(1)?,
        payload: row.try_get::<_, JsonText<'_>>(2)?.0.to_owned(),
        metadata: row.try_get::<_, JsonText<'_>>(3)?.0.to_owned(),
        position: row.try_get(4)?,
    })
}

/// The form that the origin's builder gives to four types and any of two predicates.
fn filter(boundary: &Boundary) -> String {
    let types = DECISIVE.map(|name| format!("\"event_type\" = '{name}'")).join(" OR ");
    let (book, reader) = (boundary.book, boundary.reader);
    format!(r#"(({types}) AND (payload @> '{{"BookID": "{book}"}}' OR payload @> '{{"ReaderID": "{reader}"}}'))"#)
}

/// A task with its own boundary.
pub(crate) struct Appender {
    origin: Origin,
    library: Library,
    boundary: Boundary,
    expected: i64,
    number: u64,
}

pub(crate) async fn crew(url: &str, library: &Library, first: u64, connections: u64) -> Outcome<Crew<Appender>> {
    let mut workers = Vec::new();
    for number in first..first + connections {
        let origin = Origin::connect(url).await?;
        let boundary = library.boundary(number);
        let expected = origin.last(&boundary, 0).await?;
        workers.push(Appender { origin, library: *library, boundary, expected, number: 0 });
    }
    Ok(Crew { connections: workers.len(), workers, table: Some(ORIGIN) })
}

impl Worker for Appender {
    async fn step(&mut self) -> Outcome<Step> {
        self.number += 1;
        let draft = self.library.next(self.boundary, self.number);
        let written = self.origin.append("", &self.boundary, self.expected, &draft, "").await?;
        self.expected = written.ok_or("the origin's guard refused an append that nobody was in the way of")?;
        Ok(Step::WRITTEN)
    }
}

/// Checks that this guard, too, refuses a decision on the past.
pub(crate) async fn prove(url: &str, library: &Library, number: u64) -> Outcome {
    let origin = Origin::connect(url).await?;
    let boundary = library.boundary(number);
    let known = origin.last(&boundary, 0).await?;
    let first = origin.append("", &boundary, known, &library.next(boundary, 1), "").await?;
    let stale = origin.append("", &boundary, known, &library.next(boundary, 2), "").await?;
    match (first, stale) {
        (Some(_), None) if known > 0 => Ok(()),
        other => Err(format!("the origin's statement does not guard: {other:?} after {known}").into()),
    }
}
