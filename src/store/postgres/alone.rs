//! Who changes the tables of a schema does so alone.

use std::time::Duration;

use tokio_postgres::Client;

use super::LogName;
use crate::error::Cause;

/// The first half of the advisory lock's key; the second is the schema's name, since the first log in it creates it.
const LOCK_CLASS: i32 = 1_296_651_086;

/// How often a session that waits asks again.
const PAUSE: Duration = Duration::from_millis(100);

/// Does the work while no other session of this crate changes anything in the log's schema. The limit is the caller's.
///
/// The lock is the session's, since the work may consist of several transactions, or of none. It is asked for again and
/// again: a statement that waits for it would keep its snapshot, for which `CREATE INDEX CONCURRENTLY` waits in turn, in the
/// hands of the one who has the lock.
pub(super) async fn alone<T>(
    client: &mut Client,
    name: &LogName,
    work: impl AsyncFnOnce(&mut Client) -> Result<T, Cause>,
) -> Result<T, Cause> {
    let lock = "SELECT pg_catalog.pg_try_advisory_lock($1, pg_catalog.hashtext($2))";
    while !client.query_one(lock, &[&LOCK_CLASS, &name.schema()]).await?.try_get::<_, bool>(0)? {
        tokio::time::sleep(PAUSE).await;
    }
    // The limit of the call holds, and not one that the role has for short statements.
    client.batch_execute("SET statement_timeout = 0; SET lock_timeout = 0").await?;
    let outcome = work(client).await;
    let reset = client.batch_execute("RESET statement_timeout; RESET lock_timeout").await;
    let unlock = "SELECT pg_catalog.pg_advisory_unlock($1, pg_catalog.hashtext($2))";
    let unlocked = client.execute(unlock, &[&LOCK_CLASS, &name.schema()]).await;
    let done = outcome?;
    reset?;
    unlocked?;
    Ok(done)
}
