//! What breaks in the meantime: connections, servers, and the quiet of the other databases. `schedule` says what, when and for
//! whom.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use mainstem::testing::LocalCluster;
use tokio::{
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep, sleep_until, timeout},
};

use crate::{
    Outcome,
    database::connect,
    schedule::{self, Blow, Heavy, Nuisance, Small},
};

/// The limit of a nuisance: one that hits a server that is away no longer counts.
const LIMIT: Duration = Duration::from_secs(10);

/// Ends one of the sessions that `$who` selects: the one at this share of them, in order of their connection. The servers' own
/// sessions and the drill's are excluded.
const KILL: &str = "SELECT count(pg_terminate_backend(pid)) FROM (\
        SELECT pid, row_number() OVER (ORDER BY backend_start, pid) - 1 AS place, count(*) OVER () AS amount \
        FROM pg_stat_activity WHERE $who) AS candidates \
    WHERE place = floor(amount * $1::float8)";

/// An append in flight.
const AN_APPEND: &str = "query LIKE 'CALL%' AND state = 'active'";

/// Any session that uses the log, readers too.
const A_SESSION: &str = "datname = 'drill' AND backend_type = 'client backend'";

/// Background tasks, which end when this is dropped.
pub(crate) struct Trouble {
    nuisances: JoinHandle<()>,
    pub(crate) counts: Arc<Counts>,
}

/// What has happened so far.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) appends_killed: AtomicU64,
    pub(crate) sessions_killed: AtomicU64,
    pub(crate) primaries_killed: AtomicU64,
    /// Other servers that were away: frozen ones, and replicas.
    pub(crate) others_away: AtomicU64,
    /// The total time during which a writing transaction was open in another database, in milliseconds.
    pub(crate) old_transaction_ms: AtomicU64,
}

#[derive(Clone)]
struct Place {
    primary: String,
    replica: String,
    elsewhere: String,
    counts: Arc<Counts>,
}

impl Trouble {
    /// Starts this seed's nuisances, which last until this is dropped.
    pub(crate) fn start(cluster: &LocalCluster, seed: u64) -> Self {
        let counts = Arc::<Counts>::default();
        let (primary, replica) = (cluster.primary().url(), cluster.replica(0).url());
        let elsewhere = cluster.primary().url_for("elsewhere");
        let place = Place { primary, replica, elsewhere, counts: Arc::clone(&counts) };
        let nuisances = tokio::spawn(async move {
            let (begin, mut under_way) = (Instant::now(), JoinSet::new());
            for small in schedule::nuisances(seed) {
                sleep_until(begin + small.after).await;
                // One task for each, since one that waits for a frozen server must not delay the others. A nuisance that fails
                // while a server is away does not count: there are more.
                under_way.spawn(timeout(LIMIT, place.clone().meet(small)));
                while under_way.try_join_next().is_some() {}
            }
        });
        Self { nuisances, counts }
    }

    /// Takes a server away for a moment.
    pub(crate) async fn strike(&self, cluster: &LocalCluster, Heavy { what, lasts, .. }: &Heavy) -> Outcome {
        let node = match what {
            Blow::PrimaryKilled | Blow::PrimaryFrozen => cluster.primary(),
            Blow::ReplicaKilled | Blow::ReplicaFrozen => cluster.replica(0),
        };
        match what {
            Blow::PrimaryKilled | Blow::ReplicaKilled => {
                node.kill().await?;
                sleep(*lasts).await;
                node.start().await?;
            }
            Blow::PrimaryFrozen | Blow::ReplicaFrozen => {
                node.freeze().await?;
                sleep(*lasts).await;
                node.thaw().await?;
            }
        }
        let count = match what {
            Blow::PrimaryKilled => &self.counts.primaries_killed,
            _ => &self.counts.others_away,
        };
        count.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

impl Drop for Trouble {
    fn drop(&mut self) {
        self.nuisances.abort();
    }
}

impl Place {
    async fn meet(self, Small { what, victim, lasts, .. }: Small) -> Outcome {
        let Self { primary, replica, elsewhere, counts } = &self;
        match what {
            Nuisance::AppendKilled => kill(primary, AN_APPEND, victim, &counts.appends_killed).await,
            Nuisance::SessionKilled => kill(primary, A_SESSION, victim, &counts.sessions_killed).await,
            Nuisance::ReplicaSessionKilled => kill(replica, A_SESSION, victim, &counts.sessions_killed).await,
            Nuisance::OldTransaction => old_transaction(elsewhere, lasts, &counts.old_transaction_ms).await,
        }
    }
}

async fn kill(url: &str, who: &str, victim: f64, count: &AtomicU64) -> Outcome {
    let sql = KILL.replace("$who", who);
    let killed: i64 = connect(url).await?.query_one(&sql, &[&victim]).await?.get(0);
    count.fetch_add(killed.unsigned_abs(), Ordering::Relaxed);
    Ok(())
}

/// Writes in another database, and stays uncommitted for a long time.
async fn old_transaction(url: &str, lasts: Duration, open_ms: &AtomicU64) -> Outcome {
    let client = connect(url).await?;
    // A writing transaction has a transaction id, and that is what others wait for. Creating a table in each of them would make
    // them wait for each other.
    client.batch_execute("BEGIN; SELECT pg_current_xact_id()").await?;
    let begin = Instant::now();
    while begin.elapsed() < lasts {
        // Fails when the server is gone, and the transaction with it.
        client.batch_execute("SELECT 1").await?;
        sleep(Duration::from_millis(100)).await;
        open_ms.fetch_add(100, Ordering::Relaxed);
    }
    Ok(client.batch_execute("COMMIT").await?)
}
