//! The server that is measured, and connections to it.

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

/// More than the defaults of a test cluster: those of a small server that is used for this. No checkpoint falls into a
/// run, whose first writes of each page would hit whoever comes next; what it leaves of the write-ahead log's files is kept.
const SETTINGS: [(&str, &str); 6] = [
    ("shared_buffers", "1GB"),
    ("min_wal_size", "6GB"),
    ("max_wal_size", "16GB"),
    ("checkpoint_timeout", "1h"),
    ("max_slot_wal_keep_size", "-1"),
    ("max_connections", "300"),
];

/// So many files of the write-ahead log, of 16 MB, there are before anything is measured, in a short and in a full run, as on a server
/// that has been in use for a while: it uses old ones again. A new one is written full of zeros first, by whoever commits, which takes
/// tens of milliseconds, in which all wait: the more a side writes in a second, the more of them it meets. No set of rounds
/// writes more (the longest, of `append`, 5 GB).
const WAL_FILES: (u32, u32) = (128, 384);

/// For replicas to fetch and replay what fills the files.
const PATIENCE: Duration = Duration::from_secs(300);

/// Events of which the length is told.
const SAMPLE: u64 = 1000;

/// Starts a durable cluster with the data of a fixture.
pub(crate) async fn start(args: &Args, saved: &Path, replicas: usize, more: &[(&str, &str)]) -> Outcome<LocalCluster> {
    eprintln!("copying the fixture, and starting 1 + {replicas} servers …");
    let builder = durable(args)?.replicas(replicas).begin_with(saved);
    let builder = more.iter().fold(builder, |builder, (name, value)| builder.setting(*name, *value));
    let cluster = builder.start().await?;
    make_wal_files(&cluster, args.pick(WAL_FILES.0, WAL_FILES.1)).await?;
    // What the copy has left to be written must not be written during the first rounds.
    let _ = Command::new("sync").status();
    Ok(cluster)
}

/// Fills the files by switching to the next one, and has a checkpoint make them ready to be used again.
async fn make_wal_files(cluster: &LocalCluster, files: u32) -> Outcome {
    let client = connect(&cluster.primary().url()).await?;
    let switch = "SELECT pg_logical_emit_message(false, 'compare', ''), pg_switch_wal()";
    for _ in 0..files {
        client.simple_query(switch).await?;
    }
    // What a replica has still to fetch is not used again, and would be sent in the first rounds.
    replicas_follow(&client).await?;
    client.batch_execute("CHECKPOINT").await?;
    // A replica has files of its own, which it uses again after a checkpoint there, behind the primary's.
    replicas_follow(&client).await?;
    for replica in cluster.replicas() {
        connect(&replica.url()).await?.batch_execute("CHECKPOINT").await?;
    }
    Ok(())
}

/// Waits until the replicas have all that the primary has written.
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

/// Prints and keeps what the figures stand on.
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

/// Settings as the server has them.
pub(crate) async fn shown(client: &Client, names: &[&str]) -> Outcome<String> {
    let mut all = Vec::new();
    for name in names {
        let value: String = client.query_one(&format!("SHOW {name}"), &[]).await?.get(0);
        all.push(format!("{name}={value}"));
    }
    Ok(all.join(" "))
}
