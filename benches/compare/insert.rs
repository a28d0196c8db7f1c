//! The plain side: one prepared INSERT of one event, committed by itself, on a connection for each task.

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
    /// On a connection of its own, for the boundary of this number.
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
