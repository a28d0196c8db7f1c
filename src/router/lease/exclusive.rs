//! A connection for work that needs exclusive use of the driver's client: migrations, and index builds.

use std::sync::{Arc, atomic::Ordering};

use tokio::time::timeout_at;
use tokio_postgres::Client;

use super::failure::{self, Effect};
use crate::{
    error::{Cause, Error, ErrorKind},
    router::{Deadline, Lease, pool::connection::Planning},
};

/// Lifts the time limits of the session, which are for short statements, and has the session remember them. The last one exists
/// from PostgreSQL 17 on.
pub(crate) const LIFT_LIMITS: &str = "SELECT pg_catalog.set_config('mainstem.' || l.name, pg_catalog.current_setting(l.name, true), false), \
     pg_catalog.set_config(l.name, '0', false) \
     FROM pg_catalog.unnest(ARRAY['statement_timeout', 'lock_timeout', 'transaction_timeout']) AS l(name) \
     WHERE pg_catalog.current_setting(l.name, true) IS NOT NULL";

/// Sets them again, if they were lifted.
pub(crate) const RESTORE_LIMITS: &str = "SELECT pg_catalog.set_config(l.name, pg_catalog.current_setting('mainstem.' || l.name, true), false), \
     pg_catalog.set_config('mainstem.' || l.name, '', false) \
     FROM pg_catalog.unnest(ARRAY['statement_timeout', 'lock_timeout', 'transaction_timeout']) AS l(name) \
     WHERE pg_catalog.current_setting('mainstem.' || l.name, true) <> ''";

/// Undoes what work that was cancelled has left in a session of a pool that was handed in.
pub(in crate::router) async fn give_back(client: &Client) {
    for sql in ["SELECT pg_catalog.pg_advisory_unlock_all()", RESTORE_LIMITS] {
        let _ = client.batch_execute(sql).await;
    }
}

impl Lease {
    /// Lends the driver's client to work that needs it exclusively. If the work is cancelled, the connection is not
    /// reused.
    pub(crate) async fn exclusive<T>(
        &mut self,
        deadline: Deadline,
        work: impl AsyncFnOnce(&mut Client) -> Result<T, Cause>,
    ) -> Result<T, Error> {
        let node = Arc::clone(self.node.name());
        let named = |error: Error| error.with_node(Arc::clone(&node));
        if self.is_pooled() {
            let message = "migrations and builds of indexes need a session of their own, which a pooler in transaction mode \
                           does not give: do them over a router with the URL of the server itself";
            return Err(named(Error::configuration(message)));
        }
        self.exclusive = true;
        self.plan(Planning::ByTheServer);
        let Some(held) = &mut self.held else { return Err(named(failure::on_deadline(deadline, Effect::Read))) };
        held.pending().fetch_add(1, Ordering::AcqRel);
        let outcome = timeout_at(deadline.at(), work(held.client_mut())).await;
        let Ok(outcome) = outcome else { return Err(named(failure::on_deadline(deadline, Effect::Read))) };
        held.pending().fetch_sub(1, Ordering::AcqRel);
        outcome.map_err(|cause| {
            named(match cause.downcast::<tokio_postgres::Error>() {
                Ok(error) => {
                    self.note_end(&error);
                    failure::on_call(*error, Effect::Read, self.role)
                }
                Err(cause) => match cause.downcast::<Error>() {
                    Ok(error) => *error,
                    Err(cause) => Error::new(ErrorKind::Database, "the work on a connection failed").with_source(cause),
                },
            })
        })
    }
}
