//! UmaDB, through its own client over gRPC, with a connection for each writer. The bench starts its server.

#[path = "../../../compare/peers/driver/mod.rs"]
mod driver;

use std::time::Duration;

use driver::{Client, Draft, Opening, Outcome, Store, serve, tag};
use futures_util::StreamExt;
use tokio::time::{Instant, sleep};
use tokio_postgres::NoTls;
use umadb_client::{AsyncUmaDbClient, UmaDbClient};
use umadb_dcb::{DcbAppendCondition, DcbError, DcbEvent, DcbEventStoreAsync, DcbQuery, DcbQueryItem};
use uuid::Uuid;

/// How long the server may take to start.
const PATIENCE: Duration = Duration::from_secs(20);
/// The number of events in an append of the fixture.
const BATCH: usize = 1000;

struct UmaDb {
    opening: Opening,
    server: String,
}

struct UmaDbConnection(AsyncUmaDbClient);

#[tokio::main(worker_threads = 2)]
async fn main() -> Outcome {
    serve::<UmaDb>().await
}

impl UmaDb {
    async fn connect(&self) -> Outcome<AsyncUmaDbClient> {
        let until = Instant::now() + PATIENCE;
        loop {
            match UmaDbClient::new(self.server.clone()).connect_async().await {
                Ok(client) => return Ok(client),
                Err(error) if Instant::now() > until => return Err(error.into()),
                Err(_) => sleep(Duration::from_millis(100)).await,
            }
        }
    }
}

impl Store for UmaDb {
    type Client = UmaDbConnection;

    async fn open(opening: &Opening) -> Outcome<Self> {
        let server = opening.server.clone().ok_or("no server is named")?;
        let store = Self { opening: opening.clone(), server };
        store.connect().await?;
        Ok(store)
    }

    async fn prepare(&self) -> Outcome {
        Ok(())
    }

    /// Copied from Mainstem's log, which has the fixture.
    async fn fill(&self) -> Outcome {
        let store = self.connect().await?;
        let (client, connection) = tokio_postgres::connect(&self.opening.url, NoTls).await?;
        tokio::spawn(connection);
        let sql = "SELECT type, tags, payload::text FROM mainstem.events ORDER BY position";
        let none: [&str; 0] = [];
        let mut rows = std::pin::pin!(client.query_raw(sql, none).await?);
        let mut batch = Vec::new();
        loop {
            let row = rows.next().await.transpose()?;
            if let Some(row) = &row {
                let (event_type, tags, data): (String, Vec<String>, String) = (row.get(0), row.get(1), row.get(2));
                batch.push(DcbEvent::new().event_type(event_type).tags(tags).data(data).uuid(Uuid::new_v4()));
            }
            if batch.len() == BATCH || (row.is_none() && !batch.is_empty()) {
                store.append(std::mem::take(&mut batch), None, None).await?;
            }
            if row.is_none() {
                return Ok(());
            }
        }
    }

    async fn clients(&self, count: u64) -> Outcome<Vec<UmaDbConnection>> {
        let mut clients = Vec::new();
        for _ in 0..count {
            clients.push(UmaDbConnection(self.connect().await?));
        }
        Ok(clients)
    }
}

fn boundary(book: &str) -> DcbQuery {
    DcbQuery::new().item(DcbQueryItem::new().tags([tag(book)]))
}

impl Client for UmaDbConnection {
    /// The log's head.
    type Known = Option<u64>;
    type Place = u64;
    type Event = (String, Vec<u8>);

    async fn read(
        &mut self,
        book: &str,
        known: Option<&Option<u64>>,
    ) -> Outcome<(Vec<(String, Vec<u8>)>, Option<u64>)> {
        let start = known.copied().flatten().map(|head| head + 1);
        let (events, head) = self.0.read_with_head(Some(boundary(book)), start, false, None).await?;
        Ok((events.into_iter().map(|event| (event.event.event_type, event.event.data)).collect(), head))
    }

    async fn append(&mut self, book: &str, known: Option<&Option<u64>>, drafts: Vec<Draft>) -> Outcome<bool> {
        let mut events = Vec::with_capacity(drafts.len());
        for draft in &drafts {
            let data = serde_json::to_vec(&draft.payload)?;
            let event = DcbEvent::new().event_type(draft.event_type).tags([tag(book)]).data(data);
            events.push(event.uuid(Uuid::new_v4()));
        }
        let condition = DcbAppendCondition::new(boundary(book)).after(known.copied().flatten());
        match self.0.append(events, Some(condition), None).await {
            Ok(_) => Ok(true),
            Err(DcbError::IntegrityError(_)) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    async fn read_all(
        &mut self,
        behind: Option<&u64>,
        mut each: impl FnMut((String, Vec<u8>)) -> Outcome + Send,
    ) -> Outcome<Option<u64>> {
        let mut events = self.0.read(None, behind.map(|place| place + 1), false, None).await?;
        let mut last = None;
        while let Some(event) = events.next().await {
            let event = event?;
            last = Some(event.position);
            each((event.event.event_type, event.event.data))?;
        }
        Ok(last)
    }
}
