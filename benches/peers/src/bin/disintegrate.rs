//! disintegrate-postgres, through its own API.

#[path = "../../../compare/peers/driver/mod.rs"]
mod driver;

use disintegrate::{Event, EventStore, StreamItem, StreamQuery, query, serde::json::Json};
use disintegrate_postgres::{Error, PgEventId, PgEventStore};
use driver::{Client, Draft, Opening, Outcome, Payload, Recorded, Store, serve};
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use sqlx::{PgPool, postgres::PgPoolOptions};

/// PostgreSQL's code for two transactions that cannot both have run alone.
const SERIALIZATION_FAILURE: &str = "40001";

/// The library's types. The copy is the column that defines its boundaries.
#[derive(Clone, Debug, Deserialize, Event, Serialize)]
enum Lending {
    BookCopyLentToReader {
        #[id]
        book_id: String,
        content: Payload,
    },
    BookCopyReturnedByReader {
        #[id]
        book_id: String,
        content: Payload,
    },
    BookCopyAddedToCirculation {
        #[id]
        book_id: String,
        content: Payload,
    },
    BookCopyRemovedFromCirculation {
        #[id]
        book_id: String,
        content: Payload,
    },
    LendingBookToReaderFailed {
        #[id]
        book_id: String,
        content: Payload,
    },
    ReturningBookFromReaderFailed {
        #[id]
        book_id: String,
        content: Payload,
    },
    ReaderRegistered {
        #[id]
        book_id: String,
        content: Payload,
    },
    ReaderContractCanceled {
        #[id]
        book_id: String,
        content: Payload,
    },
}

type Log = PgEventStore<Lending, Json<Lending>>;

struct Disintegrate {
    url: String,
}

struct DisintegrateClient(Log);

#[tokio::main(worker_threads = 2)]
async fn main() -> Outcome {
    serve::<Disintegrate>().await
}

impl Disintegrate {
    async fn pool(&self, connections: u64) -> Outcome<PgPool> {
        // Like the other pools here, it trusts the connections that it keeps.
        let options = PgPoolOptions::new().test_before_acquire(false);
        Ok(options.max_connections(u32::try_from(connections)?).connect(&self.url).await?)
    }
}

impl Store for Disintegrate {
    type Client = DisintegrateClient;

    async fn open(opening: &Opening) -> Outcome<Self> {
        Ok(Self { url: opening.url.clone() })
    }

    /// Version 4.0.1 writes a number in hexadecimal, which PostgreSQL 15 cannot read. The objects it would still create are
    /// created here.
    async fn prepare(&self) -> Outcome {
        let pool = self.pool(1).await?;
        let sql = "SELECT current_setting('server_version_num')::int < 160000";
        let on_15: bool = sqlx::query_scalar(sql).fetch_one(&pool).await?;
        match Log::try_new(pool.clone(), Json::default()).await {
            Err(_) if on_15 => {
                sqlx::raw_sql(include_str!("../../sql/disintegrate_on_15.sql")).execute(&pool).await?;
            }
            made => drop(made?),
        }
        Ok(())
    }

    async fn clients(&self, count: u64) -> Outcome<Vec<DisintegrateClient>> {
        let log = Log::new_uninitialized(self.pool(count).await?, Json::default());
        Ok((0..count).map(|_| DisintegrateClient(log.clone())).collect())
    }
}

fn boundary(book: &str) -> StreamQuery<PgEventId, Lending> {
    let book = book.to_owned();
    query!(Lending; book_id == book)
}

impl Client for DisintegrateClient {
    /// Its version: the event up to which a read has seen everything.
    type Known = PgEventId;
    type Place = PgEventId;
    type Event = Lending;

    async fn read(&mut self, book: &str, known: Option<&PgEventId>) -> Outcome<(Vec<Lending>, PgEventId)> {
        let query = boundary(book).change_origin(known.copied().unwrap_or_default());
        let mut items = self.0.stream(&query);
        let (mut events, mut version) = (Vec::new(), None);
        while let Some(item) = items.next().await {
            match item? {
                StreamItem::Event(event) => events.push(event.into_inner()),
                StreamItem::End(epoch) => version = Some(epoch),
            }
        }
        // A writer that began long ago sets it back to where the log was then; what has been seen stays seen.
        let version = version.ok_or("a stream without an end")?.max(known.copied().unwrap_or_default());
        Ok((events, version))
    }

    /// A serialization failure is a conflict, whichever statement it hits: the library reports it as one only at the commit.
    async fn append(&mut self, book: &str, known: Option<&PgEventId>, drafts: Vec<Draft>) -> Outcome<bool> {
        let events = drafts.into_iter().map(lending).collect::<Outcome<Vec<_>>>()?;
        match self.0.append(events, boundary(book), known.copied().unwrap_or_default()).await {
            Ok(_) => Ok(true),
            Err(Error::Concurrency) => Ok(false),
            Err(Error::Database(error))
                if error.as_database_error().and_then(|error| error.code()).as_deref()
                    == Some(SERIALIZATION_FAILURE) =>
            {
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn read_all(
        &mut self,
        behind: Option<&PgEventId>,
        mut each: impl FnMut(Lending) -> Outcome + Send,
    ) -> Outcome<Option<PgEventId>> {
        let query = query!(Lending).change_origin(behind.copied().unwrap_or_default());
        let mut items = self.0.stream(&query);
        let mut last = None;
        while let Some(item) = items.next().await {
            if let StreamItem::Event(event) = item? {
                last = Some(event.id());
                each(event.into_inner())?;
            }
        }
        Ok(last)
    }
}

fn lending(draft: Draft) -> Outcome<Lending> {
    let mut content = draft.payload;
    // It is the column already.
    let book_id = std::mem::take(&mut content.book);
    match draft.event_type {
        "BookCopyLentToReader" => Ok(Lending::BookCopyLentToReader { book_id, content }),
        "BookCopyReturnedByReader" => Ok(Lending::BookCopyReturnedByReader { book_id, content }),
        other => Err(format!("no writer makes a {other}").into()),
    }
}

impl Recorded for Lending {
    fn decode(&self) -> Outcome<(String, Payload)> {
        let (Self::BookCopyLentToReader { book_id, content }
        | Self::BookCopyReturnedByReader { book_id, content }
        | Self::BookCopyAddedToCirculation { book_id, content }
        | Self::BookCopyRemovedFromCirculation { book_id, content }
        | Self::LendingBookToReaderFailed { book_id, content }
        | Self::ReturningBookFromReaderFailed { book_id, content }
        | Self::ReaderRegistered { book_id, content }
        | Self::ReaderContractCanceled { book_id, content }) = self;
        let mut payload = content.clone();
        payload.book.clone_from(book_id);
        Ok((self.name().to_owned(), payload))
    }
}
