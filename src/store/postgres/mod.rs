//! The log in PostgreSQL.
//!
//! `names` puts the user's names into the SQL, `filter_sql` turns filters into conditions, `wire` turns values into
//! bytes and back, `read_sql` puts the statements that read together, `append`, `query` and `stream` are the calls,
//! `migrate` makes the tables, `failure` says what the server's errors mean here.

mod append;
mod failure;
mod filter_sql;
#[cfg(feature = "migrations")]
mod migrate;
mod names;
mod query;
mod read_sql;
mod stream;
mod wire;

use std::{sync::Arc, time::Duration};

#[cfg(feature = "migrations")]
pub use self::migrate::Migrated;
pub use self::names::LogName;
use self::read_sql::ReadSql;
use super::{Answer, AppendRequest, Appended, BoxFuture, BoxStream, EventStore, QueryRequest, Served};
use crate::{Result, Router, router::Deadline};

/// A log in PostgreSQL: the primary takes the appends, and reads go where the scope says.
///
/// Cloning is cheap. The tables are made by [`migrate`](Self::migrate) (feature `migrations`) or by running the files
/// in `migrations/`.
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
#[derive(Clone, Debug)]
pub struct PostgresEventStore {
    router: Router,
    log: Arc<Log>,
}

/// A log's names, and the statements that hold them.
#[derive(Debug)]
struct Log {
    name: LogName,
    append: String,
    judge: FilterStatement,
    read: ReadSql,
}

/// A statement with a place for a filter's condition. It is split before the names are put in: they may look like
/// that place.
#[derive(Debug)]
struct FilterStatement {
    before: String,
    behind: String,
}

impl FilterStatement {
    fn new(name: &LogName, sql: &str) -> Self {
        let (before, behind) = sql.split_once("/* filter */").unwrap_or((sql, ""));
        Self { before: name.put_into(before), behind: name.put_into(behind) }
    }

    fn with(&self, condition: &str) -> String {
        [&self.before, condition, &self.behind].concat()
    }
}

impl PostgresEventStore {
    /// The store of the log `mainstem.events`. Nothing is sent.
    #[must_use]
    pub fn new(router: &Router) -> Self {
        Self::with_name(router, LogName::default())
    }

    /// The store of a log of another name. Nothing is sent.
    #[must_use]
    pub fn with_name(router: &Router, name: LogName) -> Self {
        let log = Log {
            append: name.put_into(include_str!("sql/append.sql")),
            judge: FilterStatement::new(&name, include_str!("sql/judge.sql")),
            read: ReadSql::new(&name),
            name,
        };
        Self { router: router.clone(), log: Arc::new(log) }
    }

    /// The log's name.
    #[must_use]
    pub fn name(&self) -> &LogName {
        &self.log.name
    }
}

impl PostgresEventStore {
    fn deadline(&self, timeout: Option<Duration>) -> Deadline {
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
        Box::pin(query::run(self.clone(), request, deadline))
    }

    fn run_count(&self, request: QueryRequest) -> BoxFuture<Result<Served<u64>>> {
        let deadline = self.deadline(request.timeout);
        Box::pin(query::count(self.clone(), request, deadline))
    }

    fn run_exists(&self, request: QueryRequest) -> BoxFuture<Result<Served<bool>>> {
        let deadline = self.deadline(request.timeout);
        Box::pin(query::exists(self.clone(), request, deadline))
    }

    fn run_stream(&self, request: QueryRequest) -> BoxStream<Result<Answer>> {
        stream::run(self.clone(), request)
    }
}
