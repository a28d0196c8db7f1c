//! Changes to the tables of a schema, one session at a time.

use std::time::Duration;

use tokio_postgres::Client;

use crate::{
    error::Cause,
    router::{LIFT_LIMITS, RESTORE_LIMITS},
    store::postgres::LogName,
};

/// The first half of the advisory lock's key. The second is the schema's name, since the first log in a schema creates
/// it.
const LOCK_CLASS: i32 = 1_296_651_086;

/// How often a waiting session asks again.
const PAUSE: Duration = Duration::from_millis(100);

/// Does the work while no other session of this crate changes anything in the log's schema. The caller sets the limit.
///
/// It is a session lock, since the work may consist of several transactions, or of none. It is polled: a statement that
/// waits for the lock would keep its snapshot, and `CREATE INDEX CONCURRENTLY` in the session that holds the lock would
/// in turn wait for that snapshot.
pub(in crate::store::postgres) async fn alone<T>(
    client: &mut Client,
    name: &LogName,
    work: impl AsyncFnOnce(&mut Client) -> Result<T, Cause>,
) -> Result<T, Cause> {
    let lock = "SELECT pg_catalog.pg_try_advisory_lock($1, pg_catalog.hashtext($2))";
    while !client.query_one(lock, &[&LOCK_CLASS, &name.schema()]).await?.try_get::<_, bool>(0)? {
        tokio::time::sleep(PAUSE).await;
    }
    // The limit of the call applies.
    let outcome = match client.batch_execute(LIFT_LIMITS).await {
        Ok(()) => work(client).await,
        Err(error) => Err(error.into()),
    };
    let reset = client.batch_execute(RESTORE_LIMITS).await;
    let unlock = "SELECT pg_catalog.pg_advisory_unlock($1, pg_catalog.hashtext($2))";
    let unlocked = client.execute(unlock, &[&LOCK_CLASS, &name.schema()]).await;
    let done = outcome?;
    reset?;
    unlocked?;
    Ok(done)
}
