//! Making and upgrading a log's tables from the application.

use std::time::Duration;

use refinery::{Migration, Runner};

use super::{LogName, PostgresEventStore, failure};
use crate::{
    error::{Cause, Error, ErrorKind, Result},
    router::Deadline,
};

/// The files in `migrations/`, in their order.
const FILES: [(&str, &str); 2] = [
    ("V1__log", include_str!("../../../migrations/V1__log.sql")),
    ("V2__append", include_str!("../../../migrations/V2__append.sql")),
];

/// The first half of the advisory lock's key; the second is the log's name.
const LOCK_CLASS: i32 = 1_296_651_086;

/// Migrations are few and short on an empty log; on a long one an index takes its time.
const LIMIT: Duration = Duration::from_secs(15 * 60);

/// What [`PostgresEventStore::migrate`] has done.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Migrated {
    /// The names of the migrations that were run now, in their order; empty when there was nothing to do.
    pub applied: Vec<String>,
}

impl PostgresEventStore {
    /// Creates the log's schema, tables and procedures, or brings them up to this version.
    ///
    /// Every instance of an application may call it at start: an advisory lock lets one work while the others wait, and
    /// then find nothing to do. What was run is recorded in a table beside the log, `<log>_migrations`.
    ///
    /// # Errors
    ///
    /// [`Schema`](ErrorKind::Schema) when a migration fails or what was run before is not what this version would have
    /// run, [`Unavailable`](ErrorKind::Unavailable) when the primary cannot be reached, and
    /// [`Timeout`](ErrorKind::Timeout) after 15 minutes.
    ///
    /// # Cancel safety
    ///
    /// Each migration is a transaction: dropped, the log is left between two of them, and the next call goes on there.
    pub async fn migrate(&self) -> Result<Migrated> {
        let deadline = Deadline::after(LIMIT);
        let name = self.name().clone();
        let mut lease = self.router.lease_primary(deadline).await?;
        let applied = lease.exclusive(deadline, async |client| run(client, &name).await).await;
        applied.map_err(|error| failure::classify(error, self.name()))
    }
}

async fn run(client: &mut tokio_postgres::Client, name: &LogName) -> Result<Migrated, Cause> {
    let lock = format!("{name}");
    // The session's lock: each migration is a transaction of its own.
    client.execute("SELECT pg_advisory_lock($1, hashtext($2))", &[&LOCK_CLASS, &lock]).await?;
    let outcome = run_locked(client, name).await;
    client.execute("SELECT pg_advisory_unlock($1, hashtext($2))", &[&LOCK_CLASS, &lock]).await?;
    outcome
}

async fn run_locked(client: &mut tokio_postgres::Client, name: &LogName) -> Result<Migrated, Cause> {
    // The history is in the log's schema, and comes before the first migration.
    let there = client.query_opt("SELECT FROM pg_namespace WHERE nspname = $1", &[&name.schema()]).await?;
    if there.is_none() {
        client.batch_execute(&name.put_into(r#"CREATE SCHEMA "mainstem""#)).await?;
    }
    let migrations = FILES.map(|(file, sql)| Migration::unapplied(file, &name.put_into(sql)));
    let migrations = migrations.into_iter().collect::<Result<Vec<_>, _>>()?;
    let mut runner = Runner::new(&migrations);
    runner.set_migration_table_name(name.put_into(r#""mainstem"."events_migrations""#));
    let report = runner.run_async(client).await.map_err(explained)?;
    Ok(Migrated { applied: report.applied_migrations().iter().map(ToString::to_string).collect() })
}

fn explained(error: refinery::Error) -> Error {
    Error::new(ErrorKind::Schema, "the migrations of the log stopped").with_source(error)
}
