//! factstr-postgres, through its own API. It is blocking, and does everything on a single connection.

#[path = "../../../compare/peers/driver/mod.rs"]
mod driver;

use std::sync::Arc;

use driver::{Client, Draft, Failure, Opening, Outcome, Payload, Recorded, Store, serve};
use factstr::{EventFilter, EventQuery, EventRecord, EventStore, EventStoreError, NewEvent};
use factstr_postgres::PostgresStore;
use serde_json::json;
use tokio::task::spawn_blocking;

struct Factstr {
    store: Arc<PostgresStore>,
}

struct FactstrClient(Arc<PostgresStore>);

#[tokio::main(worker_threads = 2)]
async fn main() -> Outcome {
    serve::<Factstr>().await
}

impl Store for Factstr {
    type Client = FactstrClient;

    /// Connecting creates its tables.
    async fn open(opening: &Opening) -> Outcome<Self> {
        let url = opening.url.clone();
        let store = spawn_blocking(move || PostgresStore::connect(&url)).await??;
        Ok(Self { store: Arc::new(store) })
    }

    async fn prepare(&self) -> Outcome {
        Ok(())
    }

    async fn clients(&self, count: u64) -> Outcome<Vec<FactstrClient>> {
        Ok((0..count).map(|_| FactstrClient(Arc::clone(&self.store))).collect())
    }
}

fn boundary(book: &str) -> EventQuery {
    let filter = EventFilter::default().with_payload_predicates([json!({ "BookID": book })]);
    EventQuery::all().with_filters([filter])
}

impl FactstrClient {
    async fn query(&self, query: EventQuery) -> Outcome<factstr::QueryResult> {
        let store = Arc::clone(&self.0);
        spawn_blocking(move || store.query(&query).map_err(Failure::from)).await?
    }
}

impl Client for FactstrClient {
    /// The version of the boundary.
    type Known = Option<u64>;
    type Place = u64;
    type Event = EventRecord;

    async fn read(&mut self, book: &str, known: Option<&Option<u64>>) -> Outcome<(Vec<EventRecord>, Option<u64>)> {
        let mut query = boundary(book);
        if let Some(Some(version)) = known {
            query = query.with_min_sequence_number(*version);
        }
        let read = self.query(query).await?;
        Ok((read.event_records, read.current_context_version))
    }

    async fn append(&mut self, book: &str, known: Option<&Option<u64>>, drafts: Vec<Draft>) -> Outcome<bool> {
        let mut events = Vec::with_capacity(drafts.len());
        for draft in &drafts {
            events.push(NewEvent::new(draft.event_type, serde_json::to_value(&draft.payload)?));
        }
        let (store, query, known) = (Arc::clone(&self.0), boundary(book), known.copied().flatten());
        match spawn_blocking(move || store.append_if(events, &query, known)).await? {
            Ok(_) => Ok(true),
            Err(EventStoreError::ConditionalAppendConflict { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    async fn read_all(
        &mut self,
        behind: Option<&u64>,
        mut each: impl FnMut(EventRecord) -> Outcome + Send,
    ) -> Outcome<Option<u64>> {
        let mut query = EventQuery::all();
        if let Some(place) = behind {
            query = query.with_min_sequence_number(*place);
        }
        let mut last = None;
        for event in self.query(query).await?.event_records {
            last = Some(event.sequence_number);
            each(event)?;
        }
        Ok(last)
    }
}

impl Recorded for EventRecord {
    fn decode(&self) -> Outcome<(String, Payload)> {
        Ok((self.event_type.clone(), serde_json::from_value(self.payload.clone())?))
    }
}
