//! Indexes of the log that are there by choice: built and dropped while appends and reads go on.

use std::{fmt, future::IntoFuture, time::Duration};

use tokio_postgres::Client;

use super::{LogName, PostgresEventStore, alone::alone, failure, hot_key, hot_key::HotKey, read_sql::Template};
use crate::{
    error::{Cause, Error, ErrorKind, Result},
    filter::Side,
    router::Deadline,
    store::BoxFuture,
};

/// An index of the log that is there by choice.
///
/// What every log needs (positions, ids, types, tags, fixed streams) is not among them. Each makes a kind of question
/// fast, and every append of an event that it holds a little slower:
///
/// | index | there | serves | disk | WAL | without it |
/// |---|---|---|---|---|---|
/// | [`payload`](Self::payload) | by default | any predicate on payloads | 140 bytes | 630 bytes | such predicates look at the whole log; so do conditions on them that reach far back |
/// | [`metadata`](Self::metadata) | if you build it | any predicate on metadata | 70 bytes | 300 bytes | the same for metadata |
/// | [`key`](Self::key) | if you build it | one member, together with a bound on positions | 40 bytes | 140 bytes | all events with its value are looked at, whatever their positions |
///
/// The bytes are what an event with a payload of 280 bytes in 8 members and metadata of 100 bytes in 3 adds on disk, and what its
/// append adds to the WAL (and sends to each replica), counted by `docs/index_cost.sql` on PostgreSQL 15. New entries wait in a
/// list, and those that have a value in common are merged together; one by one, `metadata` would cost 2300 bytes of WAL, since
/// the list of a value that some hundreds of events share is written anew each time.
///
/// ```no_run
/// # async fn run(router: mainstem::Router) -> mainstem::Result<()> {
/// use mainstem::{HotKey, LogIndex, PostgresEventStore};
///
/// let tenant = HotKey::metadata("tenant")?;
/// let store = PostgresEventStore::builder(&router).hot_keys([tenant.clone()]).build();
/// store.create_index(&LogIndex::key(tenant)).await?;
/// // Nobody asks by anything else of the payload.
/// store.drop_index(&LogIndex::payload()).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LogIndex(Kind);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Contained(Side),
    Key(HotKey),
}

/// What [`PostgresEventStore::create_index`] has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum IndexCreated {
    /// It is there now.
    New,
    /// It is there now, instead of the rest of an earlier try that was interrupted.
    Rebuilt,
    /// It was there.
    Already,
}

impl LogIndex {
    /// The index on all members of the payload. The migrations create it.
    #[must_use]
    pub fn payload() -> Self {
        Self(Kind::Contained(Side::Payload))
    }

    /// The index on all members of the metadata.
    #[must_use]
    pub fn metadata() -> Self {
        Self(Kind::Contained(Side::Metadata))
    }

    /// The index on one member, in the order of positions.
    #[must_use]
    pub fn key(key: HotKey) -> Self {
        Self(Kind::Key(key))
    }

    /// What its name adds to the log's.
    pub(super) fn suffix(&self) -> String {
        match &self.0 {
            Kind::Contained(side) => format!("_{}", hot_key::column(*side)),
            Kind::Key(key) => key.suffix(),
        }
    }

    fn create_sql(&self, name: &LogName) -> String {
        let (template, indexed) = match &self.0 {
            Kind::Contained(side) => {
                (include_str!("sql/create_contained_index.sql"), hot_key::column(*side).to_owned())
            }
            Kind::Key(key) => (include_str!("sql/create_key_index.sql"), key.sql(key.column())),
        };
        let index = name.with_suffix(&self.suffix());
        Template::new(name, template).with(|place| if place == "index" { &index } else { &indexed })
    }

    fn drop_sql(&self, name: &LogName) -> String {
        let index = name.with_suffix(&self.suffix());
        Template::new(name, include_str!("sql/drop_index.sql")).with(|_| &index)
    }
}

/// What it holds.
impl fmt::Display for LogIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Contained(side) => f.write_str(hot_key::column(*side)),
            Kind::Key(key) => key.fmt(f),
        }
    }
}

/// An index that is about to be built: await it, after changing its limit if need be.
///
/// # Errors
///
/// [`Configuration`](ErrorKind::Configuration) when this role does not own the log, [`Schema`](ErrorKind::Schema) when
/// something else has its name, [`Unavailable`](ErrorKind::Unavailable) and [`Timeout`](ErrorKind::Timeout). Whatever the
/// error, calling it again begins anew.
///
/// # Cancel safety
///
/// Dropped, or out of time, the server is told to stop. What it leaves is no index that anybody reads from, but one that
/// appends go on to write to, until this is called again, or [`drop_index`](PostgresEventStore::drop_index).
#[derive(Debug)]
#[must_use = "nothing is built until it is awaited"]
pub struct CreateIndex<'a>(Change<'a>);

/// An index that is about to be dropped: await it, after changing its limit if need be. Whether it was there.
///
/// # Errors
///
/// As for [`CreateIndex`].
///
/// # Cancel safety
///
/// Dropped, the index may be there, not be there, or be there and of no use; calling it again settles it.
#[derive(Debug)]
#[must_use = "nothing is dropped until it is awaited"]
pub struct DropIndex<'a>(Change<'a>);

#[derive(Debug)]
struct Change<'a> {
    store: &'a PostgresEventStore,
    index: LogIndex,
    limit: Duration,
}

impl CreateIndex<'_> {
    /// The limit, unless [`timeout`](Self::timeout) sets another: an hour.
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60 * 60);

    /// Replaces the limit, waiting for another session that changes the log's tables, and for the transactions with
    /// older snapshots, included. Defaults to [`DEFAULT_TIMEOUT`](Self::DEFAULT_TIMEOUT).
    ///
    /// Too small, and the work on a long log is thrown away at its end; too large, and a transaction that is left open
    /// anywhere in this database is waited for that long.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.0.limit = limit;
        self
    }
}

impl DropIndex<'_> {
    /// The limit, unless [`timeout`](Self::timeout) sets another: a minute.
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);

    /// Replaces the limit. Defaults to [`DEFAULT_TIMEOUT`](Self::DEFAULT_TIMEOUT).
    ///
    /// All that takes time is to wait for the transactions that may still use the index. Too small, and that is not enough;
    /// too large, and a transaction that is left open is waited for that long.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.0.limit = limit;
        self
    }
}

impl PostgresEventStore {
    /// Builds an index of the log, if it is not there, without holding up appends or reads. Await what it returns; see
    /// [`CreateIndex`].
    ///
    /// It reads the whole log twice, and waits for every transaction of this database with an older snapshot. The
    /// rest of an earlier try that was interrupted is replaced. Its role must own the log, as the one that migrates
    /// does.
    pub fn create_index(&self, index: &LogIndex) -> CreateIndex<'_> {
        CreateIndex(Change { store: self, index: index.clone(), limit: CreateIndex::DEFAULT_TIMEOUT })
    }

    /// Drops an index of the log, if it is there, without holding up appends or reads. Await what it returns; see
    /// [`DropIndex`].
    pub fn drop_index(&self, index: &LogIndex) -> DropIndex<'_> {
        DropIndex(Change { store: self, index: index.clone(), limit: DropIndex::DEFAULT_TIMEOUT })
    }
}

/// The future owns all that it needs: it may be spawned.
impl IntoFuture for CreateIndex<'_> {
    type Output = Result<IndexCreated>;
    type IntoFuture = BoxFuture<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        let Change { store, index, limit } = self.0;
        Box::pin(create(store.clone(), index, Deadline::after(limit)))
    }
}

/// The future owns all that it needs: it may be spawned.
impl IntoFuture for DropIndex<'_> {
    type Output = Result<bool>;
    type IntoFuture = BoxFuture<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        let Change { store, index, limit } = self.0;
        Box::pin(drop_index(store.clone(), index, Deadline::after(limit)))
    }
}

async fn create(store: PostgresEventStore, index: LogIndex, deadline: Deadline) -> Result<IndexCreated> {
    let (name, mut lease) = (store.name().clone(), store.router.lease_primary(deadline).await?);
    let work = async |client: &mut Client| {
        alone(client, &name, async |client| {
            let created = match state(client, &name, &index).await? {
                Some(State::Usable) => return Ok(IndexCreated::Already),
                Some(State::Left) => {
                    client.batch_execute(&index.drop_sql(&name)).await?;
                    IndexCreated::Rebuilt
                }
                None => IndexCreated::New,
            };
            client.batch_execute(&index.create_sql(&name)).await?;
            Ok(created)
        })
        .await
    };
    let created = lease.exclusive(deadline, work).await;
    created.map_err(|error| failure::classify(error, &name).within(&format!("the index of {name} on {index}")))
}

async fn drop_index(store: PostgresEventStore, index: LogIndex, deadline: Deadline) -> Result<bool> {
    let (name, mut lease) = (store.name().clone(), store.router.lease_primary(deadline).await?);
    let work = async |client: &mut Client| {
        alone(client, &name, async |client| {
            let there = state(client, &name, &index).await?.is_some();
            if there {
                client.batch_execute(&index.drop_sql(&name)).await?;
            }
            Ok(there)
        })
        .await
    };
    let dropped = lease.exclusive(deadline, work).await;
    dropped.map_err(|error| failure::classify(error, &name).within(&format!("the index of {name} on {index}")))
}

enum State {
    Usable,
    /// Of a try that was interrupted.
    Left,
}

async fn state(client: &Client, name: &LogName, index: &LogIndex) -> Result<Option<State>, Cause> {
    let full = name.full_with_suffix(&index.suffix());
    let row = client.query_opt(&name.put_into(include_str!("sql/index_state.sql")), &[&full]).await?;
    let Some(row) = row else { return Ok(None) };
    match (row.try_get(0)?, row.try_get(1)?) {
        (true, true) => Ok(Some(State::Usable)),
        (true, false) => Ok(Some(State::Left)),
        (false, _) => {
            let message = format!("{full} is there already, and no index of {name}");
            Err(Error::new(ErrorKind::Schema, message).into())
        }
    }
}
