//! Creates the log as any tool would: with the files in `migrations/`, one after the other.

use std::{fs, path::Path, time::Duration};

use mainstem::testing::ClusterBuilder;
use tokio::time::timeout;
use tokio_postgres::{Client, NoTls};

use crate::Outcome;

/// The limit of connecting, and of each file.
const LIMIT: Duration = Duration::from_secs(30);

/// Creates the log, intact or with a fault.
pub(crate) async fn create(url: &str, fault: Option<&str>) -> Outcome {
    let client = connect(url).await?;
    let mut sql = migrations()?;
    let mut more = "";
    if let Some(name) = fault {
        (sql, more) = broken(&sql, name)?;
    }
    timeout(LIMIT, client.batch_execute(&sql)).await.map_err(|_| "the migrations take too long")??;
    Ok(client.batch_execute(more).await?)
}

#[cfg(feature = "__faults")]
use crate::faults::broken;

#[cfg(not(feature = "__faults"))]
fn broken(_sql: &str, name: &str) -> Outcome<(String, &'static str)> {
    Err(format!("this build has no fault {name}").into())
}

/// After a kill, a durable server writes each of its thousands of files to disk. That takes seconds on a slow disk, and in a
/// short run nothing else would happen. Where one call can sync all of them at once, the server uses it.
pub(crate) fn quick_to_recover(cluster: ClusterBuilder) -> ClusterBuilder {
    if cfg!(target_os = "linux") { cluster.setting("recovery_init_sync_method", "syncfs") } else { cluster }
}

/// All files, in the order of their numbers.
fn migrations() -> Outcome<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let mut files = Vec::new();
    for file in fs::read_dir(&folder).map_err(|error| format!("cannot read {}: {error}", folder.display()))? {
        let path = file?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let number = name.strip_prefix('V').and_then(|rest| rest.split_once("__")?.0.parse::<u32>().ok());
        files.push((number.ok_or_else(|| format!("{name:?} is no migration"))?, fs::read_to_string(&path)?));
    }
    files.sort();
    Ok(files.into_iter().map(|(_, text)| text + ";\n").collect())
}

/// A connection whose driver runs until the client is dropped.
pub(crate) async fn connect(url: &str) -> Outcome<Client> {
    let connecting = timeout(LIMIT, tokio_postgres::connect(url, NoTls));
    let (client, connection) = connecting.await.map_err(|_| format!("no connection within {LIMIT:?}"))??;
    tokio::spawn(async move { drop(connection.await) });
    Ok(client)
}
