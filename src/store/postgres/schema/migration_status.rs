//! Which migrations a log has, and which are still pending.

use refinery::Migration;

use super::migrate::FILES;
use crate::{
    error::{Error, ErrorKind, Result},
    router::Effect,
    store::postgres::{PostgresEventStore, failure, wire},
};

/// A migration, and whether the log has it; see [`PostgresEventStore::migration_status`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MigrationStatus {
    /// The name, such as `V1__log`.
    pub name: String,
    /// Whether the log has it.
    pub state: MigrationState,
}

/// Whether a log has a migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MigrationState {
    /// It has been applied.
    Applied,
    /// One of its name has been applied, with other content than this version's:
    /// [`migrate`](PostgresEventStore::migrate) refuses to continue.
    Changed,
    /// It has not been applied yet.
    Pending,
    /// It has been applied, and this version does not know it: a newer version has applied it.
    Unknown,
}

impl PostgresEventStore {
    /// Returns the migrations of this version and those of the log, in order: what [`migrate`](Self::migrate) would
    /// apply is [`Pending`](MigrationState::Pending). It only reads, on the primary.
    ///
    /// It relies on the history that `migrate` keeps. If another tool runs the files of `migrations/`, all are pending
    /// here, and [`check`](Self::check) says whether the tables are right.
    ///
    /// # Errors
    ///
    /// [`Schema`](ErrorKind::Schema) if the history cannot be read, [`Configuration`](ErrorKind::Configuration) if this
    /// role may not read it, [`Unavailable`](ErrorKind::Unavailable) and [`Timeout`](ErrorKind::Timeout) if the primary
    /// does not answer within the router's [`call_timeout`](crate::RouterBuilder::call_timeout).
    ///
    /// # Cancel safety
    ///
    /// It only reads.
    pub async fn migration_status(&self) -> Result<Vec<MigrationStatus>> {
        let name = self.name();
        let deadline = self.deadline(None);
        let lease = self.router.lease_primary(deadline).await?;
        let history = name.put_into(r#""mainstem"."events_migrations""#);
        let ask = async |sql: &str, params: &[&(dyn tokio_postgres::types::ToSql + Sync)]| {
            lease.query(Effect::Read, deadline, sql, params).await.map_err(|error| failure::classify(error, name))
        };
        let there = ask("SELECT FROM pg_class WHERE oid = to_regclass($1)", &[&history]).await?;
        let mut applied: Vec<(String, u64)> = Vec::new();
        if !there.is_empty() {
            let sql = include_str!("../sql/migrations_applied.sql").replace("/* history */", &history);
            for row in ask(&sql, &[]).await? {
                let read = |column| row.try_get::<_, String>(column).map_err(|error| wire::unreadable(error.into()));
                let (file, checksum) = (read(0)?, read(1)?);
                let checksum = checksum.parse().map_err(|_| {
                    let message = format!("the table {history} is no history of migrations that can be read");
                    Error::new(ErrorKind::Schema, message)
                })?;
                applied.push((file, checksum));
            }
        }
        let mut all = Vec::with_capacity(FILES.len());
        for (file, sql) in FILES {
            let ours = Migration::unapplied(file, &name.put_into(sql));
            let ours = ours
                .map_err(|error| Error::new(ErrorKind::Schema, format!("{file} is no migration")).with_source(error))?;
            let found = applied.iter().position(|(name, _)| name == file).map(|at| applied.remove(at).1);
            let state = match found {
                None => MigrationState::Pending,
                Some(checksum) if checksum == ours.checksum() => MigrationState::Applied,
                Some(_) => MigrationState::Changed,
            };
            all.push(MigrationStatus { name: file.to_owned(), state });
        }
        let unknown = applied.into_iter().map(|(name, _)| MigrationStatus { name, state: MigrationState::Unknown });
        all.extend(unknown);
        Ok(all)
    }
}
