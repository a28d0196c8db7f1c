//! `drill causal`: clients write, and then read with their token or in their session from replicas that lag, pause and lose
//! connections. They must always see what they have written or seen.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use mainstem::{
    AppendCondition, Consistency, Error, ErrorKind, EventStore, Filter, NewEvent, PostgresEventStore, Role, Router,
    Session, Token, testing::LocalCluster, with_eventual_consistency, with_session,
};
use serde_json::json;
use tokio::time::{Instant, sleep};
use tokio_postgres::types::PgLsn;

use super::{options::Options, report::Report};
use crate::{
    Outcome, database,
    schedule::{self, Lag},
};

/// For each way of reading. Several of them wait at the same time.
const CLIENTS: u64 = 8;

/// How far the replicas always lag. Otherwise most of them would have each write before anybody asks, and the drill would show
/// nothing.
const LAG: Duration = Duration::from_millis(3);

/// The number of reads after each write.
const READS: u64 = 8;

/// How long a read waits for a replica: longer than replicas stand still.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug)]
enum Way {
    /// The client's own SQL, with the token of the connection that wrote.
    Sql,
    /// The log, with the token of the append.
    Log,
    /// Both, in a session.
    Session,
}

/// What all clients count.
#[derive(Debug, Default)]
struct Counts {
    reads: AtomicU64,
    by_replicas: AtomicU64,
    writes: AtomicU64,
    /// Failed calls, by what was called and why: some fail while connections are killed.
    failed: Mutex<HashMap<(&'static str, ErrorKind), Failures>>,
}

#[derive(Debug)]
struct Failures {
    amount: u64,
    first: String,
}

impl Counts {
    fn fail(&self, what: &'static str, error: &Error) {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let first = || Failures { amount: 0, first: error.report() };
        failed.entry((what, error.kind())).or_insert_with(first).amount += 1;
    }
}

struct Client {
    router: Router,
    store: PostgresEventStore,
    id: i64,
    filter: Filter,
    counts: Arc<Counts>,
    /// Whether the token is taken inside the transaction that writes.
    is_early: bool,
    /// Whether the replica reports its own progress in a column of the read itself.
    is_column: bool,
    /// A place in the WAL after the last write of its own SQL.
    written: AtomicU64,
}

pub(crate) async fn run(options: &Options) -> Outcome<Report> {
    let cluster = Arc::new(LocalCluster::builder().replicas(2).start().await?);
    let builder =
        Router::builder().primary(cluster.primary().url()).replicas(cluster.replicas().map(|node| node.url()));
    // Replicas must serve: the primary is never stale, and would hide everything.
    let router = builder.max_connections(32).replay_wait(PATIENCE).connect().await?;
    database::create(&cluster.primary().url(), None).await?;
    let counters = "CREATE TABLE counters (id bigint PRIMARY KEY, value bigint)";
    router.client().await?.batch_execute(counters).await?;
    cluster.wait_until_caught_up().await?;
    let store = PostgresEventStore::new(&router);
    for replica in cluster.replicas() {
        replica.delay_replay(LAG).await?;
    }

    let (counts, ends) = (Arc::<Counts>::default(), Arc::<AtomicBool>::default());
    let goal = u64::from(options.rounds) * Options::READS_OF_A_ROUND;
    let start = Instant::now();
    let mut clients = Vec::new();
    for (number, way) in (0..CLIENTS).flat_map(|n| [Way::Sql, Way::Log, Way::Session].map(|way| (n, way))) {
        let id = i64::try_from(clients.len())?;
        // This fault is rare: it shows in one of some thousands of reads.
        let way = if options.is_broken_by("guard-as-a-column") { Way::Sql } else { way };
        let client = Client {
            router: router.clone(),
            store: store.clone(),
            id,
            filter: Filter::matching().all_tags_of([format!("client:{id}")]).finish()?,
            counts: Arc::clone(&counts),
            is_early: options.is_broken_by("token-inside-the-write"),
            is_column: options.is_broken_by("guard-as-a-column"),
            written: AtomicU64::new(0),
        };
        clients.push(tokio::spawn(async move { client.run(way, goal, number).await }));
    }
    let trouble = tokio::spawn(trouble(options.seed, Arc::clone(&cluster), Arc::clone(&ends)));
    let mut stale = Vec::new();
    for client in clients {
        stale.extend(client.await?.map_err(|error| error.report())?);
    }
    ends.store(true, Ordering::Relaxed);
    let troubles = trouble.await??;

    let mut report = Report::default();
    let [reads, by_replicas, writes] =
        [&counts.reads, &counts.by_replicas, &counts.writes].map(|count| count.load(Ordering::Relaxed));
    let mut failed = 0;
    for ((what, kind), Failures { amount, first }) in counts.failed.lock().map_err(|_| "a client has panicked")?.iter()
    {
        eprintln!("{amount} {what} have failed with {kind:?}, first: {first}");
        failed += amount;
    }
    report.promise("who has written or seen something sees it", stale);
    report.figure("reads", reads);
    report.figure("writes", writes);
    report.figure("replicas_percent", by_replicas * 100 / reads.max(1));
    report.figure("failed", failed);
    report.figure("troubles", troubles);
    report.figure("seconds", start.elapsed().as_secs());
    report.figure("reads_per_s", (reads as f64 / start.elapsed().as_secs_f64()).round());
    report.shows(by_replicas * 2 > reads, format!("replicas have served {by_replicas} of {reads} reads"));
    report.shows(troubles > 2, format!("only {troubles} troubles"));
    Ok(report)
}

impl Client {
    /// Writes and reads until everybody has read enough; returns each stale read.
    async fn run(self, way: Way, goal: u64, number: u64) -> mainstem::Result<Vec<String>> {
        let insert = "INSERT INTO counters VALUES ($1, 0)";
        self.router.client_at(Consistency::Strong).await?.execute(insert, &[&self.id]).await?;
        let (session, mut stale, mut written, mut in_sql, mut in_log) = (Session::new(), Vec::new(), 0, 0, 0);
        while self.counts.reads.load(Ordering::Relaxed) < goal {
            written += 1;
            let token = match way {
                Way::Sql => self.write_sql(written).await,
                Way::Log => self.write_log(written).await,
                // Alternately, so that each has to carry over to the other.
                Way::Session => {
                    with_session(&session, async {
                        match (written + number.cast_signed()) % 2 {
                            0 => self.write_sql(written).await,
                            _ => self.write_log(written).await,
                        }
                    })
                    .await
                }
            };
            let (token, is_log) = match token {
                Ok(token) => token,
                // It may have been written; the next write has a greater number in any case.
                Err(error) => {
                    self.counts.fail("writes", &error);
                    continue;
                }
            };
            self.counts.writes.fetch_add(1, Ordering::Relaxed);
            if is_log {
                in_log = written
            } else {
                in_sql = written
            }
            for read in 0..READS {
                let level = Consistency::AtLeast(token.clone());
                let seen = match way {
                    Way::Sql if self.is_column => self.read_sql_by_column().await,
                    Way::Sql => self.read_sql(level).await,
                    Way::Log => self.read_log(level).await,
                    Way::Session => {
                        with_session(&session, async {
                            with_eventual_consistency(async {
                                match read % 2 {
                                    0 => self.read_sql(Consistency::Eventual).await,
                                    _ => self.read_log(Consistency::Eventual).await,
                                }
                            })
                            .await
                        })
                        .await
                    }
                };
                let (value, role, is_log) = match seen {
                    Ok(seen) => seen,
                    Err(error) => {
                        self.counts.fail("reads", &error);
                        continue;
                    }
                };
                self.counts.reads.fetch_add(1, Ordering::Relaxed);
                self.counts.by_replicas.fetch_add(u64::from(role == Role::Replica), Ordering::Relaxed);
                let least = if is_log { &mut in_log } else { &mut in_sql };
                if value < *least {
                    stale.push(format!("client {} ({way:?}) has seen {value} behind {least}, on the {role}", self.id));
                }
                // No read may go back behind what was already seen, either.
                *least = value.max(*least);
            }
        }
        Ok(stale)
    }

    async fn write_sql(&self, value: i64) -> mainstem::Result<(Token, bool)> {
        let client = self.router.client_at(Consistency::Strong).await?;
        let update = "UPDATE counters SET value = $2 WHERE id = $1";
        if self.is_early {
            client.batch_execute("BEGIN").await?;
            client.execute(update, &[&self.id, &value]).await?;
            let token = client.token().await?;
            client.batch_execute("COMMIT").await?;
            return Ok((token, false));
        }
        client.execute(update, &[&self.id, &value]).await?;
        if self.is_column {
            let flushed: PgLsn = client.query_one("SELECT pg_current_wal_flush_lsn()", &[]).await?.get(0);
            self.written.store(flushed.into(), Ordering::Relaxed);
        }
        Ok((client.token().await?, false))
    }

    async fn write_log(&self, value: i64) -> mainstem::Result<(Token, bool)> {
        let event = NewEvent::new("Counted", &json!({"value": value}))?.with_tag(format!("client:{}", self.id));
        let appended = self.store.append([event], AppendCondition::none()).await?;
        Ok((appended.token().clone(), true))
    }

    async fn read_sql(&self, level: Consistency) -> mainstem::Result<(i64, Role, bool)> {
        let client = self.router.client_at(level).await?;
        let row = client.query_one("SELECT value FROM counters WHERE id = $1", &[&self.id]).await?;
        Ok((row.get(0), client.role(), false))
    }

    /// The way others do it. The snapshot is older than the functions called under it: writes that are replayed in between are
    /// reported as present, but are missing from the answer.
    async fn read_sql_by_column(&self) -> mainstem::Result<(i64, Role, bool)> {
        let client = self.router.client_at(Consistency::Eventual).await?;
        // A slow read: what is replayed during it comes after its snapshot, but before its guard.
        let sql = "SELECT coalesce(pg_last_wal_replay_lsn() >= $2, true), (SELECT value FROM counters WHERE id = $1) \
                   FROM (SELECT pg_sleep(0.002)) AS meanwhile";
        let written = PgLsn::from(self.written.load(Ordering::Relaxed));
        let end = Instant::now() + PATIENCE;
        loop {
            let row = client.query_one(sql, &[&self.id, &written]).await?;
            // If the wait is in vain, read from the primary.
            if row.get(0) {
                // Without a value, the client's own row is not there yet.
                return Ok((row.get::<_, Option<i64>>(1).unwrap_or(0), client.role(), false));
            }
            if Instant::now() > end {
                return self.read_sql(Consistency::Strong).await;
            }
        }
    }

    async fn read_log(&self, level: Consistency) -> mainstem::Result<(i64, Role, bool)> {
        let last = self.store.last(&self.filter).consistency(level).await?;
        let value = last.as_ref().map(|event| event.decode::<serde_json::Value>()).transpose()?;
        let value = value.and_then(|value| value["value"].as_i64()).unwrap_or(0);
        Ok((value, last.role(), true))
    }
}

/// Replicas stand still, lag and lose their connections, one at a time.
async fn trouble(seed: u64, cluster: Arc<LocalCluster>, ends: Arc<AtomicBool>) -> Outcome<u64> {
    let mut troubles = 0;
    for (lag, replica) in schedule::lags(seed, 2) {
        if ends.load(Ordering::Relaxed) {
            break;
        }
        let replica = cluster.replica(usize::try_from(replica)?);
        match lag {
            Lag::StandsStill => {
                replica.pause_replay().await?;
                sleep(Duration::from_millis(150)).await;
                replica.resume_replay().await?;
            }
            Lag::FallsBehind => {
                replica.delay_replay(Duration::from_millis(20)).await?;
                sleep(Duration::from_millis(500)).await;
                replica.delay_replay(LAG).await?;
            }
            Lag::LosesItsSessions => {
                let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                            WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
                // In a session of its own: the router's might be on the other replica.
                let session = database::connect(&replica.url()).await?;
                session.query(kill, &[]).await?;
            }
        }
        troubles += 1;
        sleep(Duration::from_millis(200)).await;
    }
    Ok(troubles)
}
