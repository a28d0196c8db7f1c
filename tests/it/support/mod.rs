//! What the tests share: one cluster for all that do it no harm.

pub(crate) mod boundary;
#[cfg(unix)]
pub(crate) mod files;
mod lock;
#[cfg(feature = "metrics")]
mod metrics;
mod processes;
pub(crate) mod random;
mod records;
mod rows;

use mainstem::{
    AppendCondition, ErrorKind, EventStore, NewEvent, PostgresEventStore, Router,
    testing::{LocalCluster, TestDatabase},
};
use tokio::sync::OnceCell;

#[cfg(feature = "metrics")]
pub(crate) use self::metrics::RecordedMetrics;
pub(crate) use self::{
    lock::LogLock,
    processes::Processes,
    records::{Records, Told},
    rows::rows,
};

/// A primary and two replicas, started by the first test that needs them. They end with the process.
pub(crate) async fn cluster() -> &'static LocalCluster {
    static CLUSTER: OnceCell<LocalCluster> = OnceCell::const_new();
    CLUSTER.get_or_init(async || started(LocalCluster::builder().replicas(2)).await).await
}

/// A database of the shared cluster, for one test.
pub(crate) async fn database() -> TestDatabase<'static> {
    cluster().await.database().await.expect("a database")
}

/// Starts a cluster and prints how long that took.
pub(crate) async fn started(builder: mainstem::testing::ClusterBuilder) -> LocalCluster {
    let start = std::time::Instant::now();
    let cluster = builder.start().await.unwrap_or_else(|error| panic!("no cluster: {}", error.report()));
    let (version, nodes) = (cluster.programs().version(), cluster.nodes().len());
    eprintln!("PostgreSQL {version}, {nodes} nodes: started in {:?}", start.elapsed());
    cluster
}

/// A router over every node of the shared cluster, for one of its databases.
pub(crate) async fn router(database: &TestDatabase<'_>) -> Router {
    let builder = Router::builder().primary(database.primary_url()).replicas(database.replica_urls());
    builder.connect().await.unwrap_or_else(|error| panic!("no router: {}", error.report()))
}

/// A migrated log on a fresh database of the shared cluster.
pub(crate) async fn store() -> (TestDatabase<'static>, Router, PostgresEventStore) {
    let database = database().await;
    let router = router(&database).await;
    let store = PostgresEventStore::new(&router);
    store.migrate().await.unwrap_or_else(|error| panic!("no log: {}", error.report()));
    (database, router, store)
}

/// The files in `migrations/`, in the order of their numbers, without the extension.
pub(crate) fn migrations() -> Vec<String> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let files = std::fs::read_dir(folder).expect("the migrations").map(|file| file.expect("a file").file_name());
    let mut names: Vec<String> = files
        .map(|name| name.to_str().and_then(|name| name.strip_suffix(".sql")).expect("a .sql").to_owned())
        .collect();
    names.sort_by_key(|name| name[1..].split_once("__").and_then(|(number, _)| number.parse::<u32>().ok()));
    names
}

/// A cluster for one test, a log on it, and a router with these settings.
pub(crate) async fn cluster_with_log(
    replicas: usize,
    settings: impl FnOnce(mainstem::RouterBuilder) -> mainstem::RouterBuilder,
) -> (LocalCluster, Router, PostgresEventStore) {
    let cluster = started(LocalCluster::builder().replicas(replicas)).await;
    let builder = Router::builder().primary(cluster.primary().url());
    let builder = builder.replicas(cluster.replicas().map(|node| node.url()));
    let router = settings(builder.probe_interval(std::time::Duration::from_millis(100))).connect().await.unwrap();
    let store = PostgresEventStore::new(&router);
    store.migrate().await.unwrap();
    cluster.wait_until_caught_up().await.unwrap();
    (cluster, router, store)
}

/// From now on each commit waits until two replicas have applied it.
pub(crate) async fn commits_wait_for_both(router: &Router) {
    let client = router.client().await.unwrap();
    for sql in [
        "ALTER SYSTEM SET synchronous_standby_names = '2 (*)'",
        "ALTER SYSTEM SET synchronous_commit = 'remote_apply'",
        "SELECT pg_reload_conf()",
    ] {
        client.batch_execute(sql).await.unwrap();
    }
    // The processes of the server read it one by one.
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
}

/// An event with a payload.
pub(crate) fn event(event_type: &str, payload: serde_json::Value) -> NewEvent {
    NewEvent::new(event_type, &payload).expect("an event")
}

/// Waits until this many sessions of a database satisfy `condition` on `pg_stat_activity`.
pub(crate) async fn sessions(database: &TestDatabase<'_>, condition: &str, count: i64) {
    let router = Router::builder().primary(database.primary_url()).connect().await.expect("a router");
    let client = router.client().await.expect("a connection");
    let sql = format!(
        "SELECT count(*) FROM pg_stat_activity \
         WHERE datname = current_database() AND pid <> pg_backend_pid() AND {condition}"
    );
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    loop {
        let found: i64 = client.query_one(&sql, &[]).await.expect("a count").get(0);
        if found == count {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "{found} sessions, not {count}, with {condition}");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

/// Makes the log refuse events of the type `Probe`, so that a guard can be evaluated without writing anything.
pub(crate) async fn refuse_probes(router: &Router) {
    let refuse = "ALTER TABLE mainstem.events ADD CHECK (type <> 'Probe')";
    router.client().await.expect("a connection").batch_execute(refuse).await.expect("a constraint");
}

/// Position and type of the event that breaks a condition, on a log that refuses probes.
pub(crate) async fn broken_by(
    store: &PostgresEventStore,
    condition: AppendCondition,
) -> Result<Option<(u64, String)>, String> {
    let error = match store.append([event("Probe", serde_json::json!({}))], condition).await {
        Err(error) => error,
        Ok(appended) => return Err(format!("the constraint let {appended:?} through")),
    };
    match error.conflict() {
        Some(conflict) => Ok(Some((conflict.position, conflict.event_type.clone()))),
        None if error.kind() == ErrorKind::InvalidInput && error.sqlstate() == Some("23514") => Ok(None),
        None => Err(error.report()),
    }
}
