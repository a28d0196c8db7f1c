//! The end: nothing of a cluster is left in the engine.

use std::{
    env,
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use futures_util::future::try_join_all;

use crate::{Error, ErrorKind, Result};

use super::engine::Engine;

/// How long a drop waits.
const LIMIT: Duration = Duration::from_secs(60);

/// Everything that a cluster has in the engine, known by its id. Dropping it removes all of that, on its own thread and
/// runtime, since the caller may have none. If this process ends without that, because the cluster is in a `static` or
/// the process was killed, a shell does it, which holds the other end of a pipe; that needs the program `docker`.
pub(super) struct Remains {
    cluster: String,
    network: String,
    watchdog: Option<Child>,
    /// During a start, the engine may still be working on a request whose answer is no longer awaited.
    pub(super) are_settled: bool,
}

impl Remains {
    pub(super) fn of(cluster: &str, network: &str) -> Self {
        let watchdog = if are_kept() { None } else { start_watchdog(cluster, network) };
        Self { cluster: cluster.to_owned(), network: network.to_owned(), watchdog, are_settled: false }
    }

    fn remove(&self) -> Result<()> {
        let (cluster, network) = (self.cluster.clone(), self.network.clone());
        let removal = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|error| Error::configuration("no runtime to clean up").with_source(error))?;
            runtime.block_on(async {
                let swept = tokio::time::timeout(LIMIT, sweep(&cluster, &network)).await;
                swept.unwrap_or_else(|_| Err(Error::new(ErrorKind::Timeout, format!("not done within {LIMIT:?}"))))
            })
        });
        removal.join().unwrap_or_else(|_| Err(Error::configuration("the thread that cleans up panicked")))
    }
}

impl Drop for Remains {
    fn drop(&mut self) {
        if are_kept() {
            return;
        }
        let removed = self.remove();
        if let Err(error) = &removed {
            tracing::warn!(cluster = self.cluster, %error, "could not remove the containers of a test cluster");
        }
        let Some(mut watchdog) = self.watchdog.take() else { return };
        if removed.is_ok() && self.are_settled {
            // It has nothing left to do, and is ended before its pipe is.
            drop(watchdog.kill().and_then(|()| watchdog.wait()));
        }
    }
}

async fn sweep(cluster: &str, network: &str) -> Result<()> {
    let engine = Engine::find().await?;
    let containers = engine.containers(cluster).await?;
    try_join_all(containers.iter().map(|container| engine.remove(container))).await?;
    engine.remove_network(network).await
}

/// The underlying library offers this for inspecting the containers afterwards.
fn are_kept() -> bool {
    env::var("TESTCONTAINERS_COMMAND").is_ok_and(|command| command == "keep")
}

fn start_watchdog(cluster: &str, network: &str) -> Option<Child> {
    let path = env::var_os("PATH")?;
    if !env::split_paths(&path).any(|folder| folder.join("docker").is_file()) {
        tracing::debug!("no program docker in PATH: a test cluster in a static stays when the process ends");
        return None;
    }
    let shell = Command::new("sh")
        .args(["-c", include_str!("watchdog.sh")])
        .env("MAINSTEM_CLUSTER", cluster)
        .env("MAINSTEM_NETWORK", network)
        .stdin(Stdio::piped())
        // A reader of this process's output waits until every process that could write to it has ended.
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // Ctrl-C at the terminal goes to the process group of the test.
        .process_group(0)
        .spawn();
    shell.inspect_err(|error| tracing::debug!(%error, "no sh: a test cluster in a static stays")).ok()
}
