//! The measured server, and connections to it.

use std::{path::Path, process::Command, time::Duration};

use mainstem::testing::{ClusterBuilder, LocalCluster};
use serde_json::json;
use tokio::time::{Instant, sleep};
use tokio_postgres::{Client, NoTls};

use crate::{
    Outcome,
    args::Args,
    disk, fixture,
    library::Library,
    report::{self, Report},
};

/// More than the defaults of a test cluster: the settings of a small dedicated server. No checkpoint happens during a run; otherwise
/// the first write of each page after it would slow whichever side comes next. The WAL files that a run leaves are kept.
const SETTINGS: [(&str, &str); 6] = [
    ("shared_buffers", "1GB"),
    ("min_wal_size", "6GB"),
    ("max_wal_size", "16GB"),
    ("checkpoint_timeout", "1h"),
    ("max_slot_wal_keep_size", "-1"),
    ("max_connections", "300"),
];

/// How many WAL files of 16 MB exist before anything is measured, in a short and in a full run. A server that has been in use for a
/// while recycles old files. A new one is first filled with zeros by whichever session commits, which takes tens of milliseconds,
/// during which all sessions wait; the more a side writes in a second, the more often that happens. No set of rounds writes more than
/// these files hold (the longest, of `append`, 5 GB).
const WAL_FILES: (u32, u32) = (128, 384);

/// How long replicas may take to fetch and replay what fills the files.
const PATIENCE: Duration = Duration::from_secs(300);

/// How many events to sample for their length.
const SAMPLE: u64 = 1000;

/// Starts a durable cluster with the data of a fixture.
pub(crate) async fn start(args: &Args, saved: &Path, replicas: usize, more: &[(&str, &str)]) -> Outcome<LocalCluster> {
    eprintln!("copying the fixture, and starting 1 + {replicas} servers …");
    let builder = durable(args)?.replicas(replicas).begin_with(saved);
    let builder = more.iter().fold(builder, |builder, (name, value)| builder.setting(*name, *value));
    let cluster = builder.start().await?;
    make_wal_files(&cluster, args.pick(WAL_FILES.0, WAL_FILES.1)).await?;
    // Unwritten data of the copy must not be written during the first rounds.
    let _ = Command::new("sync").status();
    Ok(cluster)
}

/// Fills the files by switching to the next one, and lets a checkpoint make them ready for recycling.
async fn make_wal_files(cluster: &LocalCluster, files: u32) -> Outcome {
    let client = connect(&cluster.primary().url()).await?;
    let switch = "SELECT pg_logical_emit_message(false, 'compare', ''), pg_switch_wal()";
    for _ in 0..files {
        client.simple_query(switch).await?;
    }
    // A file that a replica has yet to fetch is not recycled, and would be sent during the first rounds.
    replicas_follow(&client).await?;
    client.batch_execute("CHECKPOINT").await?;
    // A replica has its own files, which it recycles after a checkpoint there, which follows the primary's.
    replicas_follow(&client).await?;
    for replica in cluster.replicas() {
        connect(&replica.url()).await?.batch_execute("CHECKPOINT").await?;
    }
    Ok(())
}

/// Waits until the replicas have everything that the primary has written.
async fn replicas_follow(client: &Client) -> Outcome {
    let behind =
        "SELECT count(*) FROM pg_stat_replication WHERE replay_lsn IS NULL OR replay_lsn < pg_current_wal_lsn()";
    let until = Instant::now() + PATIENCE;
    while client.query_one(behind, &[]).await?.get::<_, i64>(0) > 0 {
        if Instant::now() > until {
            return Err(format!("a replica has not followed within {PATIENCE:?}").into());
        }
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// Starts a durable cluster without data.
pub(crate) async fn start_empty(args: &Args, replicas: usize) -> Outcome<LocalCluster> {
    Ok(durable(args)?.replicas(replicas).start().await?)
}

fn durable(args: &Args) -> Outcome<ClusterBuilder> {
    let builder = LocalCluster::builder().durable(true).place(fixture::place(args)?);
    Ok(SETTINGS.iter().fold(builder, |builder, (name, value)| builder.setting(*name, *value)))
}

/// A connection whose driver runs on this runtime until the client is dropped.
pub(crate) async fn connect(url: &str) -> Outcome<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(async move { drop(connection.await) });
    Ok(client)
}

/// Prints and keeps the facts behind the figures.
pub(crate) async fn print_facts(args: &Args, cluster: &LocalCluster, client: &Client, report: &mut Report) -> Outcome {
    let version: String = client.query_one("SELECT version()", &[]).await?.get(0);
    let cpus = std::thread::available_parallelism()?;
    let version = version.split(" on ").next().unwrap_or_default();
    println!("server      {version}");
    println!("machine     {cpus} CPUs; {} threads in each client process", crate::THREADS);
    let disk = disk::fdatasync(cluster.programs(), &args.folder).await?;
    println!("disk        {disk}");
    let names = ["fsync", "full_page_writes", "synchronous_commit", "wal_sync_method", "shared_buffers", "jit"];
    let settings = shown(client, &names).await?;
    println!("settings    {settings}");
    let library = Library::new(args.seed, args.events);
    let lengths = (1..=SAMPLE).map(|position| library.at(position).payload_json().map(|json| json.len() as u64));
    let length = lengths.sum::<Outcome<u64>>()? / SAMPLE;
    println!(
        "events      {} of a lending library, seed {}, payloads of {length} bytes of JSON",
        args.events, args.seed
    );
    report.facts(json!({
        "at": report::now(), "server": version, "cpus": cpus, "threads": crate::THREADS, "disk": disk,
        "settings": settings, "payload_bytes": length,
    }));
    for (name, expected) in [("fsync", "on"), ("full_page_writes", "on"), ("synchronous_commit", "on")] {
        let found: String = client.query_one(&format!("SHOW {name}"), &[]).await?.get(0);
        if found != expected {
            return Err(format!("{name} is {found}: the server would not be durable").into());
        }
    }
    Ok(())
}

/// Settings as the server reports them.
pub(crate) async fn shown(client: &Client, names: &[&str]) -> Outcome<String> {
    let mut all = Vec::new();
    for name in names {
        let value: String = client.query_one(&format!("SHOW {name}"), &[]).await?.get(0);
        all.push(format!("{name}={value}"));
    }
    Ok(all.join(" "))
}
