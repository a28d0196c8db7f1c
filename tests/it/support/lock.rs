//! The log's lock, held by a test.

use std::time::Duration;

use mainstem::{Client, Router};
use tokio::time::{Instant, sleep};

/// The lock of the log `mainstem.events`: appends wait for it.
pub(crate) struct LogLock(Client);

impl LogLock {
    pub(crate) async fn take(router: &Router) -> Self {
        let client = router.client().await.unwrap();
        let lock = "BEGIN; SELECT pg_advisory_xact_lock(1296651085, \
                    (('mainstem.events'::regclass)::oid::bigint - 2147483648)::int4)";
        client.batch_execute(lock).await.unwrap();
        Self(client)
    }

    pub(crate) async fn release(self) {
        self.0.batch_execute("ROLLBACK").await.unwrap();
    }

    /// Appends an event of a boundary and releases the lock.
    pub(crate) async fn append(self, boundary: &str) {
        self.insert(boundary).await;
        self.commit().await;
    }

    pub(crate) async fn commit(self) {
        self.0.batch_execute("COMMIT").await.unwrap();
    }

    /// Inserts an event of a boundary, which nobody sees yet.
    pub(crate) async fn insert(&self, boundary: &str) {
        let append = format!(
            "INSERT INTO mainstem.events (position, occurred_at, recorded_at, following, id, type, tags, metadata, payload) \
             SELECT max(position) + 1, now(), now(), 0, gen_random_uuid(), 'A', '{{}}', '{{}}', '{{\"b\": \"{boundary}\"}}' \
             FROM mainstem.events"
        );
        self.0.batch_execute(&append).await.unwrap();
    }

    /// Waits until one session waits for it.
    pub(crate) async fn is_waited_for(router: &Router) {
        Self::is_waited_for_by(router, 1).await;
    }

    /// Waits until this many sessions wait for it.
    pub(crate) async fn is_waited_for_by(router: &Router, amount: i64) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while Self::waiting(router).await < amount {
            assert!(Instant::now() < deadline, "fewer than {amount} wait for the lock");
            sleep(Duration::from_millis(2)).await;
        }
    }

    /// How many sessions wait for it.
    pub(crate) async fn waiting(router: &Router) -> i64 {
        let sql = "SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database \
                   WHERE l.locktype = 'advisory' AND NOT l.granted AND d.datname = current_database()";
        router.client().await.unwrap().query_one(sql, &[]).await.unwrap().get(0)
    }
}
