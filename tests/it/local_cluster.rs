//! The cluster that all other tests rely on.

use std::{fs, net::TcpListener, os::unix::fs::PermissionsExt, time::Duration};

use mainstem::{
    ErrorKind,
    testing::{LocalCluster, Node, Programs, Rejoined},
};
use tokio::time::{Instant, timeout};
use tokio_postgres::{Client, NoTls};

use crate::support::{self, started};

/// Longer than anything takes that a test waits for.
const LIMIT: Duration = Duration::from_secs(30);

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("a connection");
    tokio::spawn(async move { drop(connection.await) });
    client
}

async fn execute(node: &Node, sql: &str) {
    let result = connect(&node.url()).await.batch_execute(sql).await;
    result.unwrap_or_else(|error| panic!("{sql} on {node:?}: {error:?}"));
}

async fn number(node: &Node, sql: &str) -> i64 {
    let row = connect(&node.url()).await.query_one(sql, &[]).await;
    row.unwrap_or_else(|error| panic!("{sql} on {node:?}: {error:?}")).get(0)
}

/// A cluster of its own with a table `t` on all nodes, for a test that hurts nodes.
async fn with_table(replicas: usize) -> LocalCluster {
    let cluster = started(LocalCluster::builder().replicas(replicas)).await;
    execute(cluster.primary(), "CREATE TABLE t (n bigint)").await;
    cluster.wait_until_caught_up().await.expect("the table on all nodes");
    cluster
}

async fn insert(cluster: &LocalCluster, value: i64) {
    execute(cluster.primary(), &format!("INSERT INTO t VALUES ({value})")).await;
}

async fn sum(node: &Node) -> i64 {
    number(node, "SELECT coalesce(sum(n), 0)::bigint FROM t").await
}

#[tokio::test]
async fn replicas_stream_what_the_primary_commits() {
    let database = support::database().await;
    let primary = connect(&database.primary_url()).await;
    primary.batch_execute("CREATE TABLE t (n bigint); INSERT INTO t VALUES (1), (2)").await.unwrap();
    support::cluster().await.wait_until_caught_up().await.unwrap();
    let urls = database.replica_urls();
    assert_eq!(urls.len(), 2);
    for url in urls {
        let replica = connect(&url).await;
        let row = replica.query_one("SELECT sum(n)::bigint, pg_is_in_recovery() FROM t", &[]).await.unwrap();
        assert_eq!((row.get(0), row.get(1)), (3_i64, true));
    }
    for replica in support::cluster().await.replicas() {
        assert!(replica.is_in_recovery().await.unwrap());
    }
    assert!(!support::cluster().await.primary().is_in_recovery().await.unwrap());
    database.drop().await.unwrap();
}

#[tokio::test]
async fn each_test_has_a_database_for_itself_on_all_nodes() {
    let (one, other) = tokio::join!(support::database(), support::database());
    assert_ne!(one.name(), other.name());
    connect(&one.primary_url()).await.batch_execute("CREATE TABLE only_here ()").await.unwrap();
    let sql = "SELECT to_regclass('only_here') IS NULL";
    assert!(connect(&other.primary_url()).await.query_one(sql, &[]).await.unwrap().get::<_, bool>(0));
    for url in other.replica_urls() {
        connect(&url).await;
    }
    let (name, node) = (one.name().to_owned(), support::cluster().await.primary());
    let open = connect(&one.primary_url()).await;
    one.drop().await.unwrap();
    assert_eq!(number(node, &format!("SELECT count(*) FROM pg_database WHERE datname = '{name}'")).await, 0);
    open.batch_execute("SELECT 1").await.unwrap_err();
    other.drop().await.unwrap();
}

#[tokio::test]
async fn every_version_on_this_machine_works() {
    let all = Programs::all();
    assert!(!all.is_empty());
    for programs in all {
        for replicas in [1, 2] {
            let builder = LocalCluster::builder().replicas(replicas).programs(programs.folder());
            let cluster = started(builder.version(programs.version())).await;
            let version = "SELECT current_setting('server_version_num')::bigint";
            let version = number(cluster.replica(replicas - 1), version).await;
            assert_eq!(version / 10_000, i64::from(programs.version()));
        }
    }
}

#[tokio::test]
async fn a_wrong_password_is_refused() {
    for node in support::cluster().await.nodes() {
        let url = format!("postgres://mainstem:wrong@127.0.0.1:{}/postgres", node.port());
        let error = tokio_postgres::connect(&url, NoTls).await.err().expect("a refusal");
        assert_eq!(error.code().map(|code| code.code()), Some("28P01"), "{error:?}");
        let url = format!("postgres://mainstem@127.0.0.1:{}/postgres", node.port());
        assert!(tokio_postgres::connect(&url, NoTls).await.is_err());
    }
}

#[tokio::test]
async fn settings_reach_every_node_and_a_wrong_one_shows_the_servers_words() {
    let builder = LocalCluster::builder().setting("synchronous_standby_names", "node_2").durable(true);
    let cluster = started(builder).await;
    for node in cluster.nodes() {
        let sql = "SELECT count(*) FROM pg_settings WHERE name = 'fsync' AND setting = 'on'";
        assert_eq!(number(node, sql).await, 1);
    }
    let sql = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync' AND application_name = 'node_2'";
    assert_eq!(number(cluster.primary(), sql).await, 1);

    let error = LocalCluster::builder().setting("work_mem", "a lot").start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("invalid value for parameter \"work_mem\""), "{error}");
    for name in ["port", "logging_collector"] {
        let error = LocalCluster::builder().setting(name, "1").start().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration, "{error}");
    }
    let error = LocalCluster::builder().version(14).start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration, "{error}");
}

#[tokio::test]
async fn the_log_has_what_the_server_wrote() {
    let cluster = support::cluster().await;
    let database = cluster.database().await.unwrap();
    let wrong = format!("SELECT nonsense_{}", database.name());
    connect(&database.primary_url()).await.batch_execute(&wrong).await.unwrap_err();
    assert!(cluster.primary().log().unwrap().contains(&wrong));
    assert!(!cluster.replica(0).log().unwrap().contains(&wrong));
    database.drop().await.unwrap();
}

#[tokio::test]
async fn a_paused_replica_stays_behind_until_it_resumes() {
    let cluster = with_table(2).await;
    let (paused, other) = (cluster.replica(0), cluster.replica(1));
    paused.pause_replay().await.unwrap();
    insert(&cluster, 1).await;
    until(async || sum(other).await == 1).await;
    assert_eq!(sum(paused).await, 0);
    paused.resume_replay().await.unwrap();
    cluster.wait_until_caught_up().await.unwrap();
    assert_eq!(sum(paused).await, 1);
    assert_eq!(cluster.primary().pause_replay().await.unwrap_err().kind(), ErrorKind::Database);
}

#[tokio::test]
async fn a_delayed_replica_shows_a_commit_after_its_delay() {
    let cluster = with_table(1).await;
    let replica = cluster.replica(0);
    replica.delay_replay(Duration::from_secs(3600)).await.unwrap();
    insert(&cluster, 1).await;
    // That the commit is here, and held back, shows in the position received.
    let received = "SELECT count(*) FROM pg_stat_replication WHERE write_lsn = pg_current_wal_flush_lsn() \
                    AND replay_lsn < write_lsn";
    until(async || number(cluster.primary(), received).await == 1).await;
    assert_eq!(sum(replica).await, 0);
    replica.delay_replay(Duration::ZERO).await.unwrap();
    cluster.wait_until_caught_up().await.unwrap();
    assert_eq!(sum(replica).await, 1);

    let delay = Duration::from_millis(700);
    replica.delay_replay(delay).await.unwrap();
    let start = Instant::now();
    insert(&cluster, 2).await;
    cluster.wait_until_caught_up().await.unwrap();
    assert!(start.elapsed() >= delay, "{:?}", start.elapsed());
    assert_eq!(sum(replica).await, 3);
}

#[tokio::test]
async fn a_stopped_replica_comes_back_with_all_that_it_missed() {
    let cluster = with_table(2).await;
    let replica = cluster.replica(0);
    let url = replica.url();
    replica.stop().await.unwrap();
    replica.stop().await.unwrap();
    assert!(!replica.is_running() && replica.pid().is_none());
    assert!(tokio_postgres::connect(&url, NoTls).await.is_err());
    insert(&cluster, 1).await;
    // Those that run are waited for, and a database can be made, without it.
    cluster.wait_until_caught_up().await.unwrap();
    cluster.database().await.unwrap();
    replica.start().await.unwrap();
    replica.start().await.unwrap();
    assert_eq!(replica.url(), url);
    cluster.wait_until_caught_up().await.unwrap();
    assert_eq!(sum(replica).await, 1);

    let before = cluster.primary().pid();
    cluster.primary().restart().await.unwrap();
    assert_ne!(cluster.primary().pid(), before);
    insert(&cluster, 1).await;
    cluster.wait_until_caught_up().await.unwrap();
    assert_eq!(sum(replica).await, 2);
}

#[tokio::test]
async fn a_killed_server_leaves_its_port_and_keeps_its_commits() {
    let cluster = with_table(1).await;
    let primary = cluster.primary();
    insert(&cluster, 1).await;
    let sleeper = connect(&primary.url()).await;
    let (busy, pids) = (sleeper.batch_execute("SELECT pg_sleep(3600)"), children(primary));
    let killer = async {
        assert!(pids.len() > 4, "{pids:?}");
        primary.kill().await.unwrap();
        TcpListener::bind(("127.0.0.1", primary.port())).expect("the port is free");
        assert!(!primary.is_running());
    };
    let (broken, ()) = timeout(LIMIT, async { tokio::join!(busy, killer) }).await.unwrap();
    broken.unwrap_err();
    assert!(pids.iter().all(|pid| !is_alive(*pid)), "{pids:?}");
    primary.kill().await.unwrap();
    primary.start().await.unwrap();
    assert!(primary.log().unwrap().contains("automatic recovery in progress"));
    assert_eq!(sum(primary).await, 1);
    insert(&cluster, 1).await;
    cluster.wait_until_caught_up().await.unwrap();
    assert_eq!(sum(cluster.replica(0)).await, 2);
}

#[tokio::test]
async fn a_frozen_server_answers_nothing_until_it_is_thawed() {
    let cluster = with_table(2).await;
    let replica = cluster.replica(0);
    let client = connect(&replica.url()).await;
    client.batch_execute("SELECT 1").await.unwrap();
    replica.freeze().await.unwrap();
    assert!(replica.is_running() && replica.is_frozen());
    let mute = Duration::from_millis(500);
    let url = replica.url();
    assert!(timeout(mute, tokio_postgres::connect(&url, NoTls)).await.is_err(), "a new session was answered");
    let query = client.batch_execute("SELECT 1");
    tokio::pin!(query);
    assert!(timeout(mute, &mut query).await.is_err(), "an old session was answered");
    // It is left out: nobody waits for it.
    insert(&cluster, 1).await;
    cluster.wait_until_caught_up().await.unwrap();
    replica.thaw().await.unwrap();
    assert!(!replica.is_frozen());
    timeout(LIMIT, query).await.unwrap().unwrap();
    cluster.wait_until_caught_up().await.unwrap();
    assert_eq!(sum(replica).await, 1);

    replica.freeze().await.unwrap();
    replica.stop().await.unwrap();
    replica.start().await.unwrap();
    replica.freeze().await.unwrap();
    replica.kill().await.unwrap();
    assert!(!replica.is_frozen());
    assert_eq!(replica.freeze().await.unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn a_promoted_replica_is_the_primary_and_the_others_rejoin_it() {
    let cluster = with_table(2).await;
    let (old, new, third) = (cluster.primary(), cluster.replica(0), cluster.replica(1));
    new.delay_replay(Duration::from_millis(1)).await.unwrap();
    old.kill().await.unwrap();
    new.promote().await.unwrap();
    assert_eq!(cluster.primary().name(), new.name());
    assert_eq!(cluster.replicas().map(Node::name).collect::<Vec<_>>(), [old.name(), third.name()]);
    assert!(!new.is_in_recovery().await.unwrap());
    insert(&cluster, 1).await;
    assert_eq!(third.rejoin().await.unwrap(), Rejoined::Rewound);
    cluster.wait_until_caught_up().await.unwrap();
    assert_eq!(sum(third).await, 1);
    assert_eq!(new.rejoin().await.unwrap_err().kind(), ErrorKind::Configuration);
    assert_eq!(new.promote().await.unwrap_err().kind(), ErrorKind::Database);
    assert_eq!(new.delay_replay(LIMIT).await.unwrap_err().kind(), ErrorKind::Configuration);
}

#[tokio::test]
async fn an_old_primary_is_rewound_and_loses_what_only_it_had() {
    let cluster = with_table(1).await;
    let (old, new) = (cluster.primary(), cluster.replica(0));
    new.promote().await.unwrap();
    execute(old, "INSERT INTO t VALUES (100)").await;
    insert(&cluster, 1).await;
    assert_eq!((sum(old).await, sum(new).await), (100, 1), "a split brain");
    old.kill().await.unwrap();
    assert_eq!(old.rejoin().await.unwrap(), Rejoined::Rewound);
    assert!(old.is_in_recovery().await.unwrap());
    cluster.wait_until_caught_up().await.unwrap();
    assert_eq!(sum(old).await, 1);
    // And back: the roles can change any number of times.
    new.stop().await.unwrap();
    old.promote().await.unwrap();
    insert(&cluster, 1).await;
    assert_eq!(new.rejoin().await.unwrap(), Rejoined::Rewound);
    cluster.wait_until_caught_up().await.unwrap();
    assert_eq!((sum(old).await, sum(new).await), (2, 2));
    let slots = "SELECT count(*) FROM pg_replication_slots";
    assert_eq!((number(old, slots).await, number(new, slots).await), (1, 0));
}

#[tokio::test]
async fn an_old_primary_that_cannot_be_rewound_gets_a_base_backup() {
    let cluster = with_table(1).await;
    let (old, new) = (cluster.primary(), cluster.replica(0));
    old.stop().await.unwrap();
    new.promote().await.unwrap();
    insert(&cluster, 1).await;
    fs::remove_file(old.data_folder().join("global/pg_control")).unwrap();
    assert_eq!(old.rejoin().await.unwrap(), Rejoined::BaseBackup);
    cluster.wait_until_caught_up().await.unwrap();
    assert_eq!(sum(old).await, 1);
    assert!(old.is_in_recovery().await.unwrap());
}

#[tokio::test]
async fn a_cluster_begins_with_what_another_one_has_saved() {
    let place = tempfile::tempdir().unwrap();
    // Whoever the servers run as has to be able to write there.
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let saved = place.path().join("saved");
    let first = with_table(0).await;
    insert(&first, 7).await;
    assert_eq!(first.primary().save(&saved).await.unwrap_err().kind(), ErrorKind::Configuration);
    let used = first.database().await.unwrap().name().to_owned();
    first.primary().stop().await.unwrap();
    // From where this program runs: the servers run elsewhere.
    let up: std::path::PathBuf = std::env::current_dir().unwrap().components().skip(1).map(|_| "..").collect();
    let relative = up.join(saved.strip_prefix("/").unwrap());
    first.primary().save(&relative).await.unwrap();
    drop(first);

    for value in [1, 2] {
        let later = started(LocalCluster::builder().place(place.path()).begin_with(&relative)).await;
        assert_ne!(later.database().await.unwrap().name(), used);
        assert_eq!(later.folder().parent(), Some(place.path()));
        insert(&later, value).await;
        later.wait_until_caught_up().await.unwrap();
        assert_eq!(sum(later.replica(0)).await, 7 + value);
    }

    let error = LocalCluster::builder().begin_with(place.path()).start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration, "{error}");
    fs::write(saved.join("data/PG_VERSION"), "9.6\n").unwrap();
    let error = LocalCluster::builder().begin_with(&saved).start().await.unwrap_err();
    assert!(error.kind() == ErrorKind::Configuration && error.to_string().contains("9.6"), "{error}");
}

#[test]
fn the_cluster_outlives_the_runtime_that_started_it() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let cluster = runtime().block_on(with_table(1));
    runtime().block_on(async {
        insert(&cluster, 1).await;
        cluster.wait_until_caught_up().await.unwrap();
        cluster.replica(0).kill().await.unwrap();
    });
    runtime().block_on(cluster.replica(0).start()).unwrap();
    assert_eq!(runtime().block_on(sum(cluster.replica(0))), 1);
    drop(cluster);
}

async fn until(mut check: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !check().await {
        assert!(Instant::now() < deadline, "not within {LIMIT:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The processes of a server.
fn children(node: &Node) -> Vec<u32> {
    let postmaster = node.pid().expect("a running server");
    let output = std::process::Command::new("ps").args(["-A", "-o", "pid=,ppid="]).output().expect("the output of ps");
    let text = String::from_utf8(output.stdout).expect("the output of ps");
    let pairs = text.lines().filter_map(|line| {
        let mut fields = line.split_whitespace().filter_map(|field| field.parse::<u32>().ok());
        Some((fields.next()?, fields.next()?))
    });
    pairs.filter(|(pid, parent)| [*pid, *parent].contains(&postmaster)).map(|(pid, _)| pid).collect()
}

fn is_alive(pid: u32) -> bool {
    let output = std::process::Command::new("ps")
        .args(["-o", "stat=", "-p", &pid.to_string()])
        .output()
        .expect("the output of ps");
    let state = String::from_utf8(output.stdout).expect("the output of ps");
    // A zombie waits for a parent that may never ask.
    !state.trim().is_empty() && !state.starts_with('Z')
}
