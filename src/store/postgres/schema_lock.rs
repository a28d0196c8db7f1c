//! Changes to the tables of a schema, one session at a time.

use std::time::Duration;

use tokio_postgres::Client;

use super::LogName;
use crate::error::Cause;

/// The first half of the advisory lock's key. The second is the schema's name, since the first log in a schema creates
/// it.
const LOCK_CLASS: i32 = 1_296_651_086;

/// How often a waiting session asks again.
const PAUSE: Duration = Duration::from_millis(100);

/// The time limits of the session. The last one exists from PostgreSQL 17 on.
const LIMITS: &str = "SELECT pg_catalog.array_remove(ARRAY[pg_catalog.current_setting('statement_timeout'), \
                      pg_catalog.current_setting('lock_timeout'), pg_catalog.current_setting('transaction_timeout', true)], NULL)";
const SET_LIMITS: &str = "SELECT pg_catalog.set_config(l.name, l.value, false) FROM ROWS FROM (pg_catalog.unnest(ARRAY[\
                          'statement_timeout', 'lock_timeout', 'transaction_timeout']), pg_catalog.unnest($1::text[])) AS l(name, value) \
                          WHERE l.value IS NOT NULL";

/// Does the work while no other session of this crate changes anything in the log's schema. The caller sets the limit.
///
/// It is a session lock, since the work may consist of several transactions, or of none. It is polled: a statement that
/// waits for the lock would keep its snapshot, and `CREATE INDEX CONCURRENTLY` in the session that holds the lock would
/// in turn wait for that snapshot.
pub(super) async fn alone<T>(
    client: &mut Client,
    name: &LogName,
    work: impl AsyncFnOnce(&mut Client) -> Result<T, Cause>,
) -> Result<T, Cause> {
    let lock = "SELECT pg_catalog.pg_try_advisory_lock($1, pg_catalog.hashtext($2))";
    while !client.query_one(lock, &[&LOCK_CLASS, &name.schema()]).await?.try_get::<_, bool>(0)? {
        tokio::time::sleep(PAUSE).await;
    }
    // The limit of the call applies, not those that the session has for short statements. It gets them back: it may be that of
    // a pool which was handed in.
    let limits: Vec<String> = client.query_one(LIMITS, &[]).await?.try_get(0)?;
    client.execute(SET_LIMITS, &[&vec!["0"; limits.len()]]).await?;
    let outcome = work(client).await;
    let reset = client.execute(SET_LIMITS, &[&limits]).await;
    let unlock = "SELECT pg_catalog.pg_advisory_unlock($1, pg_catalog.hashtext($2))";
    let unlocked = client.execute(unlock, &[&LOCK_CLASS, &name.schema()]).await;
    let done = outcome?;
    reset?;
    unlocked?;
    Ok(done)
}
