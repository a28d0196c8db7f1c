//! The read model: each copy with its holder, each reader, and the position up to which they are current. `ReadModels` keeps it in
//! tables on the primary; they reach the replicas by replication, like everything else, a little later.

use mainstem::{Client, ConsumerTransaction, Event, Filter, ReadModel, Result};
use serde::Deserialize;

use super::events::{CODEC, LibraryEvent};

/// The schema of the log and of the read model's tables.
pub(crate) const SCHEMA: &str = "mainstem_library_web";

/// Maintains the read model.
pub(crate) struct Shelf;

impl Shelf {
    pub(crate) const NAME: &'static str = "shelf";
}

impl ReadModel for Shelf {
    fn name(&self) -> String {
        Self::NAME.to_owned()
    }

    /// Refusals too, although they change nothing here: the position is that of the last event.
    fn filter(&self) -> Result<Filter> {
        Ok(Filter::any_event())
    }

    async fn clear(&mut self, transaction: &ConsumerTransaction) -> Result<()> {
        let sql = "SET LOCAL search_path = mainstem_library_web;
            CREATE TABLE IF NOT EXISTS shelf_copies (copy int8 PRIMARY KEY, title text NOT NULL, lent_to int8);
            CREATE TABLE IF NOT EXISTS shelf_readers (reader int8 PRIMARY KEY, name text NOT NULL);
            CREATE TABLE IF NOT EXISTS shelf_position (position int8 NOT NULL);
            TRUNCATE shelf_copies, shelf_readers, shelf_position;
            INSERT INTO shelf_position VALUES (0)";
        transaction.batch_execute(sql).await
    }

    async fn apply(&mut self, event: &Event, transaction: &ConsumerTransaction) -> Result<()> {
        match CODEC.decode(event)? {
            Some(LibraryEvent::CopyAdded { copy, title }) => {
                let sql = "INSERT INTO mainstem_library_web.shelf_copies VALUES ($1, $2)";
                transaction.execute(sql, &[&i64::from(copy), &title]).await?;
            }
            Some(LibraryEvent::CopyRemoved { copy }) => {
                let sql = "DELETE FROM mainstem_library_web.shelf_copies WHERE copy = $1";
                transaction.execute(sql, &[&i64::from(copy)]).await?;
            }
            Some(LibraryEvent::CopyLent { copy, reader }) => lent(transaction, copy, Some(reader)).await?,
            Some(LibraryEvent::CopyReturned { copy, .. }) => lent(transaction, copy, None).await?,
            Some(LibraryEvent::ReaderRegistered { reader, name }) => {
                let sql = "INSERT INTO mainstem_library_web.shelf_readers VALUES ($1, $2)";
                transaction.execute(sql, &[&i64::from(reader), &name]).await?;
            }
            Some(LibraryEvent::ContractCancelled { reader }) => {
                let sql = "DELETE FROM mainstem_library_web.shelf_readers WHERE reader = $1";
                transaction.execute(sql, &[&i64::from(reader)]).await?;
            }
            _ => {}
        }
        let sql = "UPDATE mainstem_library_web.shelf_position SET position = $1";
        let position = i64::try_from(event.position()).unwrap_or(i64::MAX);
        transaction.execute(sql, &[&position]).await.map(drop)
    }
}

async fn lent(transaction: &ConsumerTransaction, copy: u32, reader: Option<u32>) -> Result<()> {
    let sql = "UPDATE mainstem_library_web.shelf_copies SET lent_to = $2 WHERE copy = $1";
    transaction.execute(sql, &[&i64::from(copy), &reader.map(i64::from)]).await.map(drop)
}

/// The whole read model, as of one position.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Shown {
    pub(crate) position: u64,
    pub(crate) copies: Vec<ShownCopy>,
    pub(crate) readers: Vec<ShownReader>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct ShownCopy {
    pub(crate) copy: u32,
    pub(crate) title: String,
    pub(crate) lent_to: Option<u32>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct ShownReader {
    pub(crate) reader: u32,
    pub(crate) name: String,
}

impl Shown {
    /// What this connection's node holds. All parts are from the same moment, since it is one statement.
    pub(crate) async fn read(client: &Client) -> Result<Self> {
        let sql = "SELECT json_build_object(
                'position', (SELECT position FROM mainstem_library_web.shelf_position),
                'copies', (SELECT coalesce(json_agg(c ORDER BY c.copy), '[]') FROM mainstem_library_web.shelf_copies c),
                'readers', (SELECT coalesce(json_agg(r ORDER BY r.reader), '[]') FROM mainstem_library_web.shelf_readers r)
            )::text";
        let text: String = client.query_one(sql, &[]).await?.get(0);
        serde_json::from_str(&text).map_err(|error| {
            mainstem::Error::new(mainstem::ErrorKind::Database, "the read model cannot be read").with_source(error)
        })
    }

    pub(crate) fn holder(&self, copy: u32) -> Option<u32> {
        self.copies.iter().find(|it| it.copy == copy)?.lent_to
    }

    pub(crate) fn name(&self, reader: u32) -> String {
        let found = self.readers.iter().find(|it| it.reader == reader);
        found.map_or_else(|| format!("reader {reader}"), |it| it.name.clone())
    }

    pub(crate) fn title(&self, copy: u32) -> String {
        let found = self.copies.iter().find(|it| it.copy == copy);
        found.map_or_else(|| format!("copy {copy}"), |it| it.title.clone())
    }
}
