//! The log in PostgreSQL.
//!
//! | file | what it holds |
//! |---|---|
//! | `builder` | the settings of a store |
//! | `append` | appends: what waits goes together in one statement |
//! | `read` | reads, and their statements |
//! | `known`, `tail` | what this process knows of the log, and what it has itself written at its end |
//! | `news` | waiting for new events, noticing them, and notifying other processes |
//! | `snapshot` | the states of projections |
//! | `consumer` | consumers of the log, and their progress |
//! | `names`, `filter_sql`, `wire`, `array` | the user's names, filters and values in SQL, and back |
//! | `hostile` | rows that no server of ours would send, for tests |
//! | `failure` | what the server's errors mean here |
//! | `schema` | the tables and indexes: migrating, checking and explaining them, and the privileges of roles |

mod append;
mod array;
mod builder;
mod consumer;
mod failure;
mod filter_sql;
#[cfg(any(test, feature = "testing"))]
mod hostile;
mod known;
mod names;
mod news;
mod read;
mod schema;
mod snapshot;
mod tail;
mod wire;

use std::{sync::Arc, time::Duration};

pub(crate) use self::consumer::{
    CheckpointRequest, Claimed, Definition, Member, Membership, PartitionCheckpoint, PartitionRow, Pulse, Skip,
    SkippedRow, no_consumer,
};
#[cfg(feature = "testing")]
#[doc(hidden)]
pub use self::hostile::{__column, __row};
#[cfg(feature = "migrations")]
pub use self::schema::{
    migrate::{Migrate, Migrated},
    migration_status::{MigrationState, MigrationStatus},
};
use self::{
    append::{group::Group, search::Searches},
    builder::GroupLimits,
    known::LogKnowledge,
    news::{News, announce::Announcements},
    read::{read_sql::ReadSql, shared_reads::Shared},
};
pub use self::{
    builder::PostgresEventStoreBuilder,
    names::LogName,
    schema::{
        access::Access,
        check::Check,
        explain::{ConditionPlan, ExplainCondition},
        hot_key::HotKey,
        index::{CreateIndex, DropIndex, IndexCreated, LogIndex},
    },
};
use super::{
    Answer, AppendRequest, Appended, BoxFuture, BoxStream, EventStore, LoadStreamAnswer, LoadStreamRequest, Piece,
    QueryRequest, ReadAfterRequest, Served, WaitRequest,
};
use crate::{Result, Router, Token, router::Deadline};

/// A log in PostgreSQL: the primary executes the appends, and the scope determines where reads go.
///
/// Cloning is cheap. [`migrate`](Self::migrate) (feature `migrations`) creates the tables, or you run the files in
/// `migrations/`.
///
/// ```no_run
/// # async fn run(router: mainstem::Router) -> mainstem::Result<()> {
/// use mainstem::{
///     EventStore, Filter, NewEvent, PostgresEventStore, Predicate, with_eventual_consistency, with_strong_consistency,
/// };
/// use serde_json::json;
///
/// let store = PostgresEventStore::new(&router);
/// let copy = Filter::matching()
///     .any_type_of(["BookLent", "BookReturned"])
///     .and_any_predicate_of([Predicate::payload("BookID", "b-1")])
///     .finish()?;
///
/// // A command reads, decides and writes on the primary.
/// with_strong_consistency(async {
///     let history = store.query(&copy).await?;
///     if history.last().is_none_or(|event| event.event_type() == "BookReturned") {
///         let lent = NewEvent::new("BookLent", &json!({"BookID": "b-1", "ReaderID": "r-7"}))?;
///         store.append([lent], history.unchanged()).await?;
///     }
///     mainstem::Result::Ok(())
/// })
/// .await?;
///
/// // A query reads from a replica.
/// let history = with_eventual_consistency(async { store.query(&copy).await }).await?;
/// # Ok(())
/// # }
/// ```
///
/// # Grants
///
/// [`LogName::grants`] gives roles what they need: a reader, a consumer, a writer, a migrator. In detail, a role needs
/// the following privileges, with the default names; each includes `USAGE` on the schema. Nothing else is needed, and a
/// call that lacks a privilege fails with [`Configuration`](crate::ErrorKind::Configuration).
///
/// | to | on `mainstem.events` | on `mainstem.events_snapshots` | and |
/// |---|---|---|---|
/// | query | `SELECT` | | |
/// | append | `SELECT`, `INSERT` | | `EXECUTE` on the procedure `mainstem.events_append_1` and, for speed, on the function `mainstem.events_merge_pending`, which everybody has by default |
/// | load snapshots, project | `SELECT` | `SELECT` | |
/// | save snapshots | `SELECT` | `SELECT`, `INSERT`, `UPDATE` | |
/// | subscribe, ask for the progress of consumers | `SELECT` | | `SELECT` on the tables of consumers |
/// | follow as a [consumer](Self::consumer) | `SELECT` | | `SELECT`, `INSERT`, `UPDATE`, `DELETE` on `mainstem.events_consumers`, `_members`, `_progress` and `_skipped` |
/// | delete snapshots | | `SELECT`, `DELETE` | |
/// | migrate | | | `CREATE` on the schema, or on the database if the schema does not exist |
/// | build and drop [indexes](LogIndex) | ownership, which the migrating role has | | |
///
/// A role that may not save can still [project](crate::SnapshotStore::project): only its saves fail, unless they are
/// turned [off](crate::Project::without_saving).
#[derive(Clone, Debug)]
pub struct PostgresEventStore {
    router: Router,
    log: Arc<Log>,
    group: Arc<Group>,
    known: Arc<LogKnowledge>,
    news: Arc<News>,
    announcements: Arc<Announcements>,
    shared: Arc<Shared>,
}

/// A log's names, and the statements that contain them.
#[derive(Debug)]
struct Log {
    name: LogName,
    /// The number of this log in tokens.
    number: u64,
    append: String,
    notify: String,
    merge: String,
    precheck: FilterStatement,
    snapshots: snapshot::Statements,
    floor: read::floor::Statements,
    consumers: consumer::Statements,
    read: ReadSql,
    searches: Arc<Searches>,
}

/// A statement with a placeholder for a filter's condition. It is split before the names are put in: they may look like
/// the placeholder.
#[derive(Debug)]
struct FilterStatement {
    before_filter: String,
    after_filter: String,
}

impl Log {
    fn new(name: LogName, database: Option<&str>, keys: Arc<[HotKey]>) -> Self {
        let searches = Searches::new(keys);
        Self {
            append: name.put_into(include_str!("sql/append.sql")),
            notify: name.put_into(include_str!("sql/notify.sql")),
            merge: name.put_into(include_str!("sql/merge.sql")),
            precheck: FilterStatement::new(&name, include_str!("sql/precheck.sql")),
            read: ReadSql::new(&name, Arc::clone(&searches)),
            snapshots: snapshot::Statements::new(&name),
            floor: read::floor::Statements::new(&name),
            number: read::floor::number(database, &name),
            consumers: consumer::Statements::new(&name),
            searches,
            name,
        }
    }
}

impl FilterStatement {
    fn new(name: &LogName, sql: &str) -> Self {
        let (before, after) = sql.split_once("/* filter */").unwrap_or((sql, ""));
        Self { before_filter: name.put_into(before), after_filter: name.put_into(after) }
    }

    fn with(&self, condition: &str) -> String {
        [&self.before_filter, condition, &self.after_filter].concat()
    }
}

impl PostgresEventStore {
    /// Creates a store for the log `mainstem.events`, with default settings. Nothing is sent.
    ///
    /// Create one store for a log, and clone it: appends through one store share batches, which makes them fast, and
    /// identical reads share a statement; those of two stores do not.
    #[must_use]
    pub fn new(router: &Router) -> Self {
        Self::builder(router).build()
    }

    /// Creates a store for a log of another name. Nothing is sent.
    #[must_use]
    pub fn with_name(router: &Router, name: LogName) -> Self {
        Self::builder(router).name(name).build()
    }

    /// Creates a builder with default settings.
    pub fn builder(router: &Router) -> PostgresEventStoreBuilder {
        PostgresEventStoreBuilder::new(router.clone())
    }

    /// Stops accepting appends, and waits until the accepted ones are answered. Reads continue.
    ///
    /// Use it for an orderly shutdown: without it, appends in flight when the process ends have an unknown outcome. It
    /// affects all clones of this store. Later appends fail with [`Closed`](crate::ErrorKind::Closed).
    ///
    /// It takes no longer than the limits of those appends: an append that is not answered by then is `OutcomeUnknown`
    /// to its caller.
    ///
    /// # Cancel safety
    ///
    /// If it is dropped, the store stays closed, and the appends are still answered. Calling it again waits again.
    pub async fn close(&self) {
        self.group.close().await;
        self.known.unmerged.close();
    }

    /// Returns the router that connects to it.
    #[must_use]
    pub fn router(&self) -> &Router {
        &self.router
    }

    /// Returns the log's name.
    #[must_use]
    pub fn name(&self) -> &LogName {
        &self.log.name
    }
}

impl PostgresEventStore {
    pub(crate) fn deadline(&self, timeout: Option<Duration>) -> Deadline {
        Deadline::after(timeout.unwrap_or_else(|| self.router.call_timeout()))
    }
}

impl EventStore for PostgresEventStore {
    fn run_append(&self, request: AppendRequest) -> BoxFuture<Result<Appended>> {
        let deadline = self.deadline(request.timeout);
        Box::pin(append::run(self.clone(), request, deadline))
    }

    fn run_query(&self, request: QueryRequest) -> BoxFuture<Result<Answer>> {
        let deadline = self.deadline(request.timeout);
        Box::pin(read::query::run(self.clone(), request, deadline))
    }

    fn run_load_stream(&self, request: LoadStreamRequest) -> BoxFuture<Result<LoadStreamAnswer>> {
        let deadline = self.deadline(request.timeout);
        Box::pin(read::load::run(self.clone(), request, deadline))
    }

    fn run_count(&self, request: QueryRequest) -> BoxFuture<Result<Served<u64>>> {
        let deadline = self.deadline(request.timeout);
        Box::pin(read::query::count(self.clone(), request, deadline))
    }

    fn run_exists(&self, request: QueryRequest) -> BoxFuture<Result<Served<bool>>> {
        let deadline = self.deadline(request.timeout);
        Box::pin(read::query::exists(self.clone(), request, deadline))
    }

    fn run_query_stream(&self, request: QueryRequest) -> BoxStream<Result<Answer>> {
        read::stream::run(self.clone(), request)
    }

    fn run_read_after(&self, request: ReadAfterRequest) -> BoxFuture<Result<Piece>> {
        let deadline = self.deadline(request.timeout);
        Box::pin(read::read_after::run(self.clone(), request, deadline))
    }

    fn run_wait(&self, request: WaitRequest) -> BoxFuture<Result<()>> {
        Box::pin(news::wait(self.clone(), request))
    }

    fn token_of_unknown_place(&self) -> Token {
        Token::of_unknown_place(self.router.system())
    }
}
