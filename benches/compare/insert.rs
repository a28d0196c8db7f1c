//! The plain sides: one prepared INSERT in its own transaction, with a connection for each task. It inserts one event, or as
//! many as a batch of the store may have: then it measures what PostgreSQL needs for the rows and their indexes, and nothing
//! else.

use tokio_postgres::{Client, Statement};

use crate::{
    Outcome,
    json_text::JsonText,
    library::{Boundary, Draft, Library},
    server,
    side::{Crew, Step, Table, Worker},
};

pub(crate) const PLAIN: Table = Table { name: "plain.events", position: "position" };

pub(crate) struct Insert {
    client: Client,
    insert: Statement,
    library: Library,
    boundary: Boundary,
    number: u64,
}

pub(crate) async fn crew(url: &str, library: &Library, first: u64, connections: u64) -> Outcome<Crew<Insert>> {
    let mut workers = Vec::new();
    for number in first..first + connections {
        workers.push(Insert::connect(url, library, number).await?);
    }
    Ok(Crew { connections: workers.len(), workers, table: Some(PLAIN) })
}

impl Insert {
    /// Opens a connection for the boundary of this number.
    pub(crate) async fn connect(url: &str, library: &Library, number: u64) -> Outcome<Self> {
        let client = server::connect(url).await?;
        let insert = client.prepare(include_str!("sql/insert.sql")).await?;
        Ok(Self { client, insert, library: *library, boundary: library.boundary(number), number: 0 })
    }

    /// Writes one event.
    pub(crate) async fn put(&self, draft: &Draft) -> Outcome {
        let (payload, metadata) = (draft.payload_json()?, draft.metadata_json()?);
        let (id, now) = (uuid::Uuid::now_v7(), std::time::SystemTime::now());
        let (payload, metadata) = (JsonText(&payload), JsonText(&metadata));
        let rows = self.client.execute(&self.insert, &[&id, &draft.event_type, &payload, &metadata, &now]).await?;
        if rows == 1 { Ok(()) } else { Err(format!("an INSERT wrote {rows} rows").into()) }
    }
}

impl Worker for Insert {
    async fn step(&mut self) -> Outcome<Step> {
        self.number += 1;
        self.put(&self.library.next(self.boundary, self.number)).await?;
        Ok(Step::WRITTEN)
    }
}

/// Inserts of many events in one statement.
pub(crate) struct InsertMany {
    client: Client,
    insert: Statement,
    library: Library,
    boundary: Boundary,
    rows: u64,
    number: u64,
}

/// One connection for each of the boundaries from this number on.
pub(crate) async fn crew_of_many(
    url: &str,
    library: &Library,
    first: u64,
    connections: u64,
    rows: u64,
) -> Outcome<Crew<InsertMany>> {
    let mut workers = Vec::new();
    for number in first..first + connections {
        let client = server::connect(url).await?;
        let insert = client.prepare(include_str!("sql/insert_many.sql")).await?;
        let boundary = library.boundary(number);
        workers.push(InsertMany { client, insert, library: *library, boundary, rows, number: 0 });
    }
    Ok(Crew { connections: workers.len(), workers, table: Some(PLAIN) })
}

impl Worker for InsertMany {
    async fn step(&mut self) -> Outcome<Step> {
        let numbers = self.number..self.number + self.rows;
        self.number = numbers.end;
        let drafts: Vec<Draft> = numbers.map(|number| self.library.next(self.boundary, number)).collect();
        let ids: Vec<uuid::Uuid> = drafts.iter().map(|_| uuid::Uuid::now_v7()).collect();
        let types: Vec<&str> = drafts.iter().map(|draft| draft.event_type).collect();
        let payloads = drafts.iter().map(Draft::payload_json).collect::<Outcome<Vec<_>>>()?;
        let metadata = drafts.iter().map(Draft::metadata_json).collect::<Outcome<Vec<_>>>()?;
        let [payloads, metadata] =
            [&payloads, &metadata].map(|all| all.iter().map(|one| JsonText(one)).collect::<Vec<_>>());
        let now = std::time::SystemTime::now();
        let rows = self.client.execute(&self.insert, &[&ids, &types, &payloads, &metadata, &now]).await?;
        if rows == self.rows {
            Ok(Step { written: rows, ..Step::WRITTEN })
        } else {
            Err(format!("an INSERT of {} rows wrote {rows}", self.rows).into())
        }
    }
}
