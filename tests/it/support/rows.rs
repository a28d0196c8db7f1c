//! What a call reads in the log.

use std::{future::IntoFuture, time::Duration};

use mainstem::Router;

/// How many rows a call reads from the log `mainstem.events` and its indexes. The router has a single connection, so that
/// its counters can be flushed.
pub(crate) async fn rows<T>(admin: &Router, router: &Router, call: impl IntoFuture<Output = T>) -> (T, i64) {
    let before = counted(admin, router).await;
    let output = call.into_future().await;
    (output, counted(admin, router).await - before)
}

async fn counted(admin: &Router, router: &Router) -> i64 {
    // The server session reports its counters when it is next idle; the reset after a raw statement makes it idle again.
    let client = router.client().await.unwrap();
    client.query("SELECT pg_stat_force_next_flush()", &[]).await.unwrap();
    drop(client);
    let sql = "SELECT (seq_tup_read + coalesce(idx_tup_fetch, 0))::int8 \
                   + (SELECT sum(idx_tup_read)::int8 FROM pg_stat_user_indexes WHERE relname = 'events') \
               FROM pg_stat_user_tables WHERE relname = 'events'";
    // Until two consecutive results are the same.
    let mut last = -1;
    loop {
        let count = admin.client().await.unwrap().query_one(sql, &[]).await.unwrap().get(0);
        if count == last {
            return count;
        }
        last = count;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
