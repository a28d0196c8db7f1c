//! Creating and upgrading a log's tables from the application.

use std::{future::IntoFuture, time::Duration};

use refinery::{Migration, Runner, error::Kind};
use tokio_postgres::{Client, error::SqlState};

use super::{check, schema_lock::alone};
use crate::{
    error::{Cause, Error, ErrorKind, Result},
    router::Deadline,
    store::{
        BoxFuture,
        postgres::{LogName, PostgresEventStore, failure},
    },
};

/// The files in `migrations/`, in order.
pub(in crate::store::postgres) const FILES: [(&str, &str); 4] = [
    ("V1__log", include_str!("../../../../migrations/V1__log.sql")),
    ("V2__append", include_str!("../../../../migrations/V2__append.sql")),
    ("V3__snapshots", include_str!("../../../../migrations/V3__snapshots.sql")),
    ("V4__consumers", include_str!("../../../../migrations/V4__consumers.sql")),
];

/// The placeholder for the history's table in the statement that checks it.
const HISTORY: &str = "/* history */";

const DENIED: SqlState = SqlState::INSUFFICIENT_PRIVILEGE;

/// The result of [`PostgresEventStore::migrate`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Migrated {
    /// The names of the migrations that were applied now, in order; empty if there was nothing to do.
    pub applied: Vec<String>,
}

/// The migration of a log: await it, after changing its limit if needed.
///
/// # Errors
///
/// [`Schema`](ErrorKind::Schema) if a migration fails or earlier migrations differ from those of this version,
/// [`Configuration`](ErrorKind::Configuration) if this role may not create, [`Unavailable`](ErrorKind::Unavailable) if
/// the primary cannot be reached or is lost, and [`Timeout`](ErrorKind::Timeout) if the limit runs out. After any
/// error, calling it again continues where it stopped.
///
/// # Cancel safety
///
/// Each migration is a transaction: if it is dropped, the log is left between two of them, and the next call continues
/// there.
#[derive(Debug)]
#[must_use = "nothing is migrated until it is awaited"]
pub struct Migrate<'a> {
    store: &'a PostgresEventStore,
    limit: Duration,
}

impl Migrate<'_> {
    /// The default time limit, which [`timeout`](Self::timeout) replaces: 15 minutes.
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(15 * 60);

    /// Replaces the time limit, including the wait for another instance that migrates. Defaults to
    /// [`DEFAULT_TIMEOUT`](Self::DEFAULT_TIMEOUT).
    ///
    /// Migrations are few, and short on an empty log; on a long one, building an index takes time, and the changelog
    /// says which migration does. If the limit is too short, such a migration is rolled back each time, at its full
    /// cost; if it is too long, an instance that waits for one that hangs starts late.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }
}

impl PostgresEventStore {
    /// Creates the log's schema, tables and procedures, or upgrades them to this version. Await the returned value; see
    /// [`Migrate`].
    ///
    /// Every instance of an application may call it at start: an advisory lock lets one work while the others wait, and
    /// then find nothing to do. Applied migrations are recorded in a table next to the log, `<log>_migrations`. The
    /// role needs the privilege to create in the schema, even if there is nothing to do, and in the database, if the
    /// schema does not exist yet. An application whose role lacks this privilege leaves the migration to a role that
    /// has it, and [checks](Self::check) the result at its start.
    pub fn migrate(&self) -> Migrate<'_> {
        Migrate { store: self, limit: Migrate::DEFAULT_TIMEOUT }
    }
}

/// The future owns all it needs, so it can be spawned.
impl IntoFuture for Migrate<'_> {
    type Output = Result<Migrated>;
    type IntoFuture = BoxFuture<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(run(self.store.clone(), Deadline::after(self.limit)))
    }
}

async fn run(store: PostgresEventStore, deadline: Deadline) -> Result<Migrated> {
    let error = match run_alone(&store, deadline).await {
        Ok(migrated) => return Ok(migrated),
        Err(error) => failure::classify(error, store.name()),
    };
    let stopped = format!("the migrations of {} stopped", store.name());
    Err(match error.kind() {
        ErrorKind::Schema if is_taken(error.sqlstate()) => compared(&store, error, deadline).await,
        // This contains no user data, whatever the server said.
        ErrorKind::Database | ErrorKind::InvalidInput => {
            let message = format!("{stopped}: {}", error.message());
            error.reworded(ErrorKind::Schema, message)
        }
        ErrorKind::Timeout => error.within(&stopped),
        _ => error,
    })
}

async fn run_alone(store: &PostgresEventStore, deadline: Deadline) -> Result<Migrated> {
    let name = store.name().clone();
    let mut lease = store.router.lease_primary(deadline).await?;
    let work = async |client: &mut Client| alone(client, &name, async |client| run_locked(client, &name).await).await;
    lease.exclusive(deadline, work).await
}

/// Whether something with the log's name exists that the history does not know.
fn is_taken(state: Option<&str>) -> bool {
    [SqlState::DUPLICATE_TABLE, SqlState::DUPLICATE_FUNCTION].iter().any(|taken| Some(taken.code()) == state)
}

/// Adds to the error what is wrong with the existing tables.
async fn compared(store: &PostgresEventStore, error: Error, deadline: Deadline) -> Error {
    let Ok(lease) = store.router.lease_primary(deadline).await else { return error };
    match check::faults(store, &lease, deadline).await {
        Ok(faults) if !faults.is_empty() => {
            let message = format!("{}; what is there: {}", error.message(), check::not_ours(store, &faults));
            error.reworded(ErrorKind::Schema, message)
        }
        _ => error,
    }
}

async fn run_locked(client: &mut Client, name: &LogName) -> Result<Migrated, Cause> {
    // The history is in the log's schema, and comes before the first migration.
    let there = client.query_opt("SELECT FROM pg_namespace WHERE nspname = $1", &[&name.schema()]).await?;
    if there.is_none() {
        client.batch_execute(&name.put_into(r#"CREATE SCHEMA "mainstem""#)).await?;
    }
    let history = name.put_into(r#""mainstem"."events_migrations""#);
    check_history(client, &history).await?;
    let migrations = FILES.map(|(file, sql)| Migration::unapplied(file, &name.put_into(sql)));
    let migrations = migrations.into_iter().collect::<Result<Vec<_>, _>>()?;
    let mut runner = Runner::new(&migrations);
    runner.set_migration_table_name(&history);
    let report = runner.run_async(client).await.map_err(|error| explained(error, name))?;
    Ok(Migrated { applied: report.applied_migrations().iter().map(ToString::to_string).collect() })
}

/// refinery panics on a history that it cannot read.
async fn check_history(client: &Client, history: &str) -> Result<(), Cause> {
    let there = client.query_one("SELECT to_regclass($1) IS NOT NULL", &[&history]).await?;
    if !there.try_get::<_, bool>(0)? {
        return Ok(());
    }
    let sql = include_str!("../sql/history.sql").replace(HISTORY, history);
    let unreadable = || {
        let message = format!(
            "the table {history} is no history of migrations that can be read; undo what was changed in it, or give \
             the log another name"
        );
        Error::new(ErrorKind::Schema, message)
    };
    match client.query(&sql, &[]).await {
        Ok(wrong) if wrong.is_empty() => Ok(()),
        Ok(_) => Err(unreadable().into()),
        // Another table has other columns.
        Err(error) if error.code().is_some_and(|state| state.code().starts_with("42") && *state != DENIED) => {
            Err(unreadable().with_source(error).into())
        }
        Err(error) => Err(error.into()),
    }
}

/// Explains what stopped the migrations, and what to do about it.
fn explained(error: refinery::Error, name: &LogName) -> Error {
    let (kind, message) = match error.kind() {
        Kind::DivergentVersion(applied, ours) => (
            ErrorKind::Schema,
            format!(
                "the history of {name} says that {applied} was run with another content than this version's; if the \
                 log is what this version's migrations make, set its checksum to {} in the table of the history, \
                 otherwise restore what was changed",
                ours.checksum()
            ),
        ),
        Kind::MissingVersion(missing) if FILES.iter().any(|(file, _)| *file == missing.to_string()) => (
            ErrorKind::Schema,
            format!(
                "the history of {name} has later migrations than {missing}, but not that; restore what was removed"
            ),
        ),
        Kind::MissingVersion(newer) => (
            ErrorKind::Schema,
            format!("{name} was migrated by a newer version, which has {newer}; run at least that version here"),
        ),
        Kind::Connection(what, cause) => {
            let Some(driver) = cause.downcast_ref::<tokio_postgres::Error>() else {
                return Error::new(ErrorKind::Schema, format!("the migrations of {name} stopped")).with_source(error);
            };
            let why = driver.as_db_error().map_or_else(|| driver.to_string(), |db| db.message().to_owned());
            let message = format!("the migrations of {name} stopped: {what}: {why}");
            match driver.code() {
                state if is_taken(state.map(SqlState::code)) => (
                    ErrorKind::Schema,
                    format!(
                        "{message}; if another tool has run the files of `migrations/`, go on with that tool, otherwise \
                         give the log another name"
                    ),
                ),
                Some(&DENIED) => (ErrorKind::Database, message),
                Some(&(SqlState::LOCK_NOT_AVAILABLE | SqlState::QUERY_CANCELED)) => (ErrorKind::Timeout, message),
                // transaction_timeout, from PostgreSQL 17 on: the driver has no name for it.
                Some(state) if state.code() == "25P04" => (ErrorKind::Timeout, message),
                Some(state) if !state.code().starts_with("57P") => (ErrorKind::Schema, message),
                // The server went away, with or without saying so.
                _ => (ErrorKind::Unavailable, message),
            }
        }
        _ => (ErrorKind::Schema, format!("the migrations of {name} stopped")),
    };
    Error::new(kind, message).with_source(error)
}
