//! Optional indexes of the log: built and dropped while appends and reads continue.

use std::{fmt, future::IntoFuture, time::Duration};

use tokio_postgres::Client;

use super::{
    hot_key::{self, HotKey},
    schema_lock::alone,
};
use crate::{
    error::{Cause, Error, ErrorKind, Result},
    filter::Side,
    router::Deadline,
    store::{
        BoxFuture,
        postgres::{LogName, PostgresEventStore, failure, read::read_sql::Template},
    },
};

/// An optional index of the log.
///
/// The indexes that every log needs (positions, ids, types, tags, fixed streams) are not among them. Each optional
/// index makes one kind of query fast, and every append of an event that it contains a little slower:
///
/// | index | exists | serves | disk | WAL | without it |
/// |---|---|---|---|---|---|
/// | [`payload`](Self::payload) | by default | any predicate on payloads | 140 bytes | 630 bytes | such predicates look at the whole log; so do conditions on them that reach far back |
/// | [`metadata`](Self::metadata) | if you build it | any predicate on metadata | 70 bytes | 300 bytes | the same for metadata |
/// | [`key`](Self::key) | if you build it | one member, together with a bound on positions | 40 bytes | 140 bytes | all events with its value are looked at, whatever their positions |
///
/// The bytes are what an event with a payload of 280 bytes in 8 members and metadata of 100 bytes in 3 adds on disk,
/// and what its append adds to the WAL (and sends to each replica), measured by `docs/index_cost.sql` on PostgreSQL 15.
/// New entries wait in a list, and those with a value in common are merged together; one by one, `metadata` would cost
/// 2300 bytes of WAL, since the list of a value that some hundreds of events share is rewritten each time.
///
/// ```no_run
/// # async fn run(router: mainstem::Router) -> mainstem::Result<()> {
/// use mainstem::{PostgresEventStore, schema::{HotKey, LogIndex}};
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

/// The result of [`PostgresEventStore::create_index`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum IndexCreated {
    /// The index was built.
    New,
    /// The index was built, replacing the remains of an interrupted attempt.
    Rebuilt,
    /// The index already existed.
    Already,
}

impl LogIndex {
    /// Selects the index on all members of the payload. The migrations create it.
    #[must_use]
    pub fn payload() -> Self {
        Self(Kind::Contained(Side::Payload))
    }

    /// Selects the index on all members of the metadata.
    #[must_use]
    pub fn metadata() -> Self {
        Self(Kind::Contained(Side::Metadata))
    }

    /// Selects the index on one member, ordered by position.
    #[must_use]
    pub fn key(key: HotKey) -> Self {
        Self(Kind::Key(key))
    }

    /// The suffix of its name after the log's.
    pub(in crate::store::postgres) fn suffix(&self) -> String {
        match &self.0 {
            Kind::Contained(side) => format!("_{}", hot_key::column(*side)),
            Kind::Key(key) => key.suffix(),
        }
    }

    fn create_sql(&self, name: &LogName) -> String {
        let (template, indexed) = match &self.0 {
            Kind::Contained(side) => {
                (include_str!("../sql/create_contained_index.sql"), hot_key::column(*side).to_owned())
            }
            Kind::Key(key) => (include_str!("../sql/create_key_index.sql"), key.sql(key.column())),
        };
        let index = name.with_suffix(&self.suffix());
        Template::new(name, template).with(|place| if place == "index" { &index } else { &indexed })
    }

    fn drop_sql(&self, name: &LogName) -> String {
        let index = name.with_suffix(&self.suffix());
        Template::new(name, include_str!("../sql/drop_index.sql")).with(|_| &index)
    }
}

/// What it contains.
impl fmt::Display for LogIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Contained(side) => f.write_str(hot_key::column(*side)),
            Kind::Key(key) => key.fmt(f),
        }
    }
}

/// The construction of an index: await it, after changing its limit if needed.
///
/// # Errors
///
/// [`Configuration`](ErrorKind::Configuration) if this role does not own the log, [`Schema`](ErrorKind::Schema) if
/// something else has its name, [`Unavailable`](ErrorKind::Unavailable) and [`Timeout`](ErrorKind::Timeout). After any
/// error, calling it again starts anew.
///
/// # Cancel safety
///
/// If it is dropped or times out, the server is told to stop. What remains is an index that no read uses, but that
/// appends continue to write to, until this is called again, or [`drop_index`](PostgresEventStore::drop_index).
#[derive(Debug)]
#[must_use = "nothing is built until it is awaited"]
pub struct CreateIndex<'a>(Change<'a>);

/// The removal of an index: await it, after changing its limit if needed. It returns whether the index existed.
///
/// # Errors
///
/// As for [`CreateIndex`].
///
/// # Cancel safety
///
/// If it is dropped, the index may exist, not exist, or exist and be unusable; calling it again settles it.
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
    /// The default time limit, which [`timeout`](Self::timeout) replaces: an hour.
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60 * 60);

    /// Replaces the time limit, including the waits for another session that changes the log's tables, and for
    /// transactions with older snapshots. Defaults to [`DEFAULT_TIMEOUT`](Self::DEFAULT_TIMEOUT).
    ///
    /// If the limit is too short, the work on a long log is thrown away at its end; if it is too long, a transaction
    /// left open anywhere in this database is waited for that long.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.0.limit = limit;
        self
    }
}

impl DropIndex<'_> {
    /// The default time limit, which [`timeout`](Self::timeout) replaces: a minute.
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);

    /// Replaces the time limit. Defaults to [`DEFAULT_TIMEOUT`](Self::DEFAULT_TIMEOUT).
    ///
    /// The only part that takes time is the wait for transactions that may still use the index. If the limit is too
    /// short, it does not suffice for that; if it is too long, a transaction left open is waited for that long.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.0.limit = limit;
        self
    }
}

impl PostgresEventStore {
    /// Builds an index of the log, if it does not exist, without blocking appends or reads. Await the returned value;
    /// see [`CreateIndex`].
    ///
    /// It reads the whole log twice, and waits for every transaction of this database with an older snapshot. It
    /// replaces the remains of an interrupted attempt. The role must own the log, as the migrating role does.
    pub fn create_index(&self, index: &LogIndex) -> CreateIndex<'_> {
        CreateIndex(Change { store: self, index: index.clone(), limit: CreateIndex::DEFAULT_TIMEOUT })
    }

    /// Drops an index of the log, if it exists, without blocking appends or reads. Await the returned value; see
    /// [`DropIndex`].
    pub fn drop_index(&self, index: &LogIndex) -> DropIndex<'_> {
        DropIndex(Change { store: self, index: index.clone(), limit: DropIndex::DEFAULT_TIMEOUT })
    }
}

/// The future owns all it needs, so it can be spawned.
impl IntoFuture for CreateIndex<'_> {
    type Output = Result<IndexCreated>;
    type IntoFuture = BoxFuture<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        let Change { store, index, limit } = self.0;
        Box::pin(create(store.clone(), index, Deadline::after(limit)))
    }
}

/// The future owns all it needs, so it can be spawned.
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
    /// Left by an interrupted attempt.
    Left,
}

async fn state(client: &Client, name: &LogName, index: &LogIndex) -> Result<Option<State>, Cause> {
    let full = name.full_with_suffix(&index.suffix());
    let row = client.query_opt(&name.put_into(include_str!("../sql/index_state.sql")), &[&full]).await?;
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
