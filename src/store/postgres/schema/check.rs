//! Whether the tables are what this version needs.

use std::{future::IntoFuture, sync::Arc, time::Duration};

use tokio_postgres::types::ToSql;

use crate::{
    error::{Error, ErrorKind, Result},
    router::{Deadline, Effect, Lease},
    store::{
        BoxFuture,
        postgres::{LogIndex, PostgresEventStore, failure, wire},
    },
};

const APPEND: &str = "_append_1";

/// A check of the log's tables: await it, after changing its limit if needed.
///
/// # Errors
///
/// [`Schema`](ErrorKind::Schema) if something is not as it must be: the message lists everything that is wrong.
/// [`Configuration`](ErrorKind::Configuration) if this role may not use the schema,
/// [`Unavailable`](ErrorKind::Unavailable) and [`Timeout`](ErrorKind::Timeout) if the primary does not answer.
///
/// # Cancel safety
///
/// It only reads.
#[derive(Debug)]
#[must_use = "nothing is checked until it is awaited"]
pub struct Check<'a> {
    store: &'a PostgresEventStore,
    limit: Option<Duration>,
}

impl Check<'_> {
    /// Replaces the time limit of this call, including the wait for a connection. Defaults to the router's
    /// [`call_timeout`](crate::RouterBuilder::call_timeout).
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }
}

impl PostgresEventStore {
    /// Checks whether the log's tables are what this version needs, and reports exactly what is not. Await the returned
    /// value; see [`Check`].
    ///
    /// Use it at the start of an application whose tables are created by another tool, or by a person. It reports
    /// missing tables, columns, indexes, constraints, triggers and procedures, and those that are not as they must be:
    /// types, collations, nullability, unusable indexes, a procedure of another version, a trigger that does not refuse
    /// changes, row-level security that would hide events from a condition, and declared [hot keys](crate::schema::HotKey)
    /// without their index. It ignores your own additions: columns with a default, constraints, triggers and indexes. (A
    /// trigger of yours may refuse an event, but must not change one: conditions are also judged by what was sent.)
    /// It only reads catalogs, on the primary: the only privilege needed is `USAGE` on the schema.
    ///
    /// ```no_run
    /// # async fn run(store: mainstem::PostgresEventStore) -> mainstem::Result<()> {
    /// store.check().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn check(&self) -> Check<'_> {
        Check { store: self, limit: None }
    }
}

/// The future owns all it needs, so it can be spawned.
impl IntoFuture for Check<'_> {
    type Output = Result<()>;
    type IntoFuture = BoxFuture<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        let (store, deadline) = (self.store.clone(), self.store.deadline(self.limit));
        Box::pin(async move {
            let lease = store.router.lease_primary(deadline).await?;
            let faults = faults(&store, &lease, deadline).await;
            match faults.map_err(|error| failure::classify(error, store.name()))? {
                none if none.is_empty() => Ok(()),
                faults => {
                    let error = Error::new(ErrorKind::Schema, not_ours(&store, &faults));
                    Err(error.with_node(Arc::clone(lease.node().name())))
                }
            }
        })
    }
}

/// Formats what is wrong, for an error.
pub(in crate::store::postgres) fn not_ours(store: &PostgresEventStore, faults: &[String]) -> String {
    format!("the log {} is not what this version needs: {}", store.name(), faults.join("; "))
}

/// Returns everything that is not as it must be.
pub(in crate::store::postgres) async fn faults(
    store: &PostgresEventStore,
    lease: &Lease,
    deadline: Deadline,
) -> Result<Vec<String>> {
    let name = store.name();
    let body_of = |migration: &str, number: usize| {
        let sql = name.put_into(migration);
        // Each body stands between two of these.
        sql.split("$body$").nth(2 * number + 1).unwrap_or_default().to_owned()
    };
    let log = include_str!("../../../../migrations/V1__log.sql");
    let body = body_of(include_str!("../../../../migrations/V2__append.sql"), 0);
    // The first one is what creates the schema.
    let [merge, refuse] = [body_of(log, 1), body_of(log, 2)];
    let [procedure, any_version] = [APPEND, "_append_"].map(|suffix| format!("{}{suffix}", name.log()));
    let keys = || store.log.searches.keys.iter().cloned().map(LogIndex::key);
    let indexes: Vec<String> = keys().map(|index| name.full_with_suffix(&index.suffix())).collect();
    let shown: Vec<String> = keys().map(|index| index.to_string()).collect();
    let params: [&(dyn ToSql + Sync); 7] = [&body, &procedure, &any_version, &indexes, &shown, &refuse, &merge];
    let sql = name.put_into(include_str!("../sql/check.sql"));
    let rows = lease.query(Effect::Read, deadline, &sql, &params).await?;
    let faults = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>();
    faults.map_err(|error| wire::unreadable(error.into()))
}
