//! The plain side: one prepared INSERT of one event, committed by itself, on a connection for each task.

use tokio_postgres::{Client, Statement};

use crate::{
    Outcome,
    json_text::JsonText,
    library::{Boundary, Library},
    server,
    side::{Crew, Step, Table, Worker},
};

const PLAIN: Table = Table { name: "plain.events", position: "position" };

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
        let client = server::connect(url).await?;
        let insert = client.prepare(include_str!("sql/insert.sql")).await?;
        workers.push(Insert { client, insert, library: *library, boundary: library.boundary(number), number: 0 });
    }
    Ok(Crew { connections: workers.len(), workers, table: Some(PLAIN) })
}

impl Worker for Insert {
    async fn step(&mut self) -> Outcome<Step> {
        self.number += 1;
        let draft = self.library.next(self.boundary, self.number);
        let (payload, metadata) = (draft.payload_json()?, draft.metadata_json()?);
        let (id, now) = (uuid::Uuid::now_v7(), std::time::SystemTime::now());
        let (payload, metadata) = (JsonText(&payload), JsonText(&metadata));
        let rows = self.client.execute(&self.insert, &[&id, &draft.event_type, &payload, &metadata, &now]).await?;
        if rows == 1 { Ok(Step::WRITTEN) } else { Err(format!("an INSERT wrote {rows} rows").into()) }
    }
}
