//! What breaks meanwhile: connections, the primary, and the peace of the other databases.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use mainstem::testing::LocalCluster;
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use crate::{Outcome, database::connect};

const LIMIT: Duration = Duration::from_secs(30);

/// Ends the session of an append that is under way. The servers' own and the drill's are not among them.
const KILL_AN_APPEND: &str = "SELECT count(pg_terminate_backend(pid)) FROM (SELECT pid FROM pg_stat_activity \
    WHERE query LIKE 'CALL%' AND state = 'active' ORDER BY random() LIMIT 1) AS one";

/// Ends the session of anybody who uses the log, readers too.
const KILL_A_SESSION: &str = "SELECT count(pg_terminate_backend(pid)) FROM (SELECT pid FROM pg_stat_activity \
    WHERE datname = 'drill' AND backend_type = 'client backend' ORDER BY random() LIMIT 1) AS one";

/// Tasks that end with this.
pub(crate) struct Trouble {
    tasks: Vec<JoinHandle<()>>,
    pub(crate) counts: Arc<Counts>,
}

/// What has happened.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) appends_killed: AtomicU64,
    pub(crate) sessions_killed: AtomicU64,
    pub(crate) primaries_killed: AtomicU64,
    /// How long a writing transaction has been open in another database, in milliseconds, altogether.
    pub(crate) old_transaction_ms: AtomicU64,
}

impl Trouble {
    pub(crate) fn start(cluster: &LocalCluster) -> Self {
        let counts = Arc::<Counts>::default();
        let (primary, replica) = (cluster.primary().url(), cluster.replica(0).url());
        let elsewhere = cluster.primary().url_for("elsewhere");
        let tasks = vec![
            tokio::spawn(kill_on_the_primary(primary, Arc::clone(&counts))),
            tokio::spawn(kill_on_the_replica(replica, Arc::clone(&counts))),
            tokio::spawn(write_elsewhere(elsewhere, Arc::clone(&counts))),
        ];
        Self { tasks, counts }
    }

    /// Kills the primary with -9, leaves it dead for a moment, and starts it again.
    pub(crate) async fn kill_primary(&self, cluster: &LocalCluster) -> Outcome {
        let primary = cluster.primary();
        primary.kill().await?;
        sleep(Duration::from_millis(200)).await;
        primary.start().await?;
        self.counts.primaries_killed.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

impl Drop for Trouble {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

// Again and again; what fails while the primary is dead is tried later.

async fn kill_on_the_primary(url: String, counts: Arc<Counts>) {
    for round in 0_u64.. {
        sleep(Duration::from_millis(150)).await;
        let _ = timeout(LIMIT, kill(&url, KILL_AN_APPEND, &counts.appends_killed)).await;
        if round.is_multiple_of(4) {
            let _ = timeout(LIMIT, kill(&url, KILL_A_SESSION, &counts.sessions_killed)).await;
        }
    }
}

async fn kill_on_the_replica(url: String, counts: Arc<Counts>) {
    loop {
        sleep(Duration::from_millis(700)).await;
        let _ = timeout(LIMIT, kill(&url, KILL_A_SESSION, &counts.sessions_killed)).await;
    }
}

async fn write_elsewhere(url: String, counts: Arc<Counts>) {
    loop {
        sleep(Duration::from_millis(20)).await;
        let _ = timeout(LIMIT, old_transaction(&url, &counts.old_transaction_ms)).await;
    }
}

async fn kill(url: &str, sql: &str, count: &AtomicU64) -> Outcome {
    let killed: i64 = connect(url).await?.query_one(sql, &[]).await?.get(0);
    count.fetch_add(killed.unsigned_abs(), Ordering::Relaxed);
    Ok(())
}

/// Writes in another database, and does not commit for a long time.
async fn old_transaction(url: &str, open_ms: &AtomicU64) -> Outcome {
    let client = connect(url).await?;
    client.batch_execute("CREATE TABLE IF NOT EXISTS old (x int); BEGIN; INSERT INTO old VALUES (1)").await?;
    let begin = Instant::now();
    while begin.elapsed() < LIMIT - Duration::from_secs(5) {
        // It fails when the server is gone, and the transaction with it.
        client.batch_execute("SELECT 1").await?;
        sleep(Duration::from_millis(100)).await;
        open_ms.fetch_add(100, Ordering::Relaxed);
    }
    Ok(client.batch_execute("COMMIT").await?)
}
