//! One node: the life of its server.

use std::{
    fmt, fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::{Error, ErrorKind, Result};

use super::{
    cluster::Shared,
    ports,
    proxy::FaultProxy,
    server::{Server, tail},
    settings::Upstream,
    sql,
};

/// For a start, with crash recovery, on a slow machine.
const START_LIMIT: Duration = Duration::from_secs(60);
/// For a fast shutdown, which waits until the replicas have all of the log.
const STOP_LIMIT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(3);
/// How often the first start tries another port because a different process was faster.
const PORT_TRIES: usize = 20;

/// A handle to one server of a [`LocalCluster`](super::LocalCluster): inspects it, and stops, kills, freezes or
/// promotes it.
///
/// Its name and its port stay the same for the life of the cluster, whatever its role. The methods that change it wait
/// for each other.
pub struct Node {
    pub(super) index: usize,
    name: String,
    /// Contains the node's configuration, its log, and `data`.
    pub(super) folder: PathBuf,
    pub(super) shared: Arc<Shared>,
    server: Mutex<Option<Server>>,
    pub(super) frozen: AtomicBool,
    pub(super) delay: Mutex<Duration>,
    /// One change at a time.
    pub(super) change: tokio::sync::Mutex<()>,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic elsewhere leaves the process handle as valid as it was, and it is needed to end the process.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Node {
    pub(super) fn new(index: usize, shared: &Arc<Shared>) -> Self {
        let name = Self::name_of(index);
        Self {
            index,
            folder: shared.folder.join(&name),
            name,
            shared: Arc::clone(shared),
            server: Mutex::new(None),
            frozen: AtomicBool::new(false),
            delay: Mutex::new(Duration::ZERO),
            change: tokio::sync::Mutex::new(()),
        }
    }

    /// Neither "primary" nor "replica": the name has to stay correct when roles change.
    pub(super) fn name_of(index: usize) -> String {
        format!("node_{}", index + 1)
    }

    /// Returns its name: `node_1` for the first primary, `node_2` and so on for its replicas. It is also the server's
    /// `cluster_name`, and, for a replica, its `application_name` and the name of its replication slot.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns its port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.shared.members.port(self.index)
    }

    /// Returns the URL of the database `postgres`, with the password of the superuser `mainstem`.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_for("postgres")
    }

    /// Returns the URL of another database. The name goes into the URL unchanged: percent-encode what a URL cannot
    /// contain.
    #[must_use]
    pub fn url_for(&self, database: &str) -> String {
        self.shared.url(database, self.port())
    }

    /// Starts a proxy in front of this node, to inject network faults. It stays in front of the node over restarts.
    ///
    /// # Errors
    ///
    /// As [`FaultProxy::start`].
    pub fn proxy(&self) -> Result<FaultProxy> {
        FaultProxy::start((Ipv4Addr::LOCALHOST, self.port()))
    }

    /// Returns the URL of the database `postgres` through a [proxy](Self::proxy) in front of a node of this cluster.
    #[must_use]
    pub fn url_through(&self, proxy: &FaultProxy) -> String {
        self.shared.url("postgres", proxy.port())
    }

    /// Returns the folder with the server's data.
    #[must_use]
    pub fn data_folder(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Returns the process id of the running server's postmaster.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        let mut server = lock(&self.server);
        let server = server.as_mut()?;
        server.exit_status().is_none().then(|| server.pid())
    }

    /// Returns whether the server runs, frozen or not.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.pid().is_some()
    }

    /// Returns whether the server is [frozen](Self::freeze).
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        self.frozen.load(Ordering::SeqCst) && self.is_running()
    }

    /// Returns everything that the server has written to its log, over all of its starts.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](ErrorKind::Unavailable) if the file cannot be read.
    pub fn log(&self) -> Result<String> {
        let bytes = fs::read(self.log_file()).map_err(|error| {
            Error::new(ErrorKind::Unavailable, "cannot read the server's log").with_node(self.name()).with_source(error)
        })?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Starts the server after [`stop`](Self::stop) or [`kill`](Self::kill), on the same port, and waits until it
    /// accepts connections. Does nothing if it runs.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](ErrorKind::Unavailable) if the server ends, [`Timeout`](ErrorKind::Timeout) if it is not ready
    /// after a minute; both with the end of its log. Another process may have taken the port meanwhile: that is
    /// unlikely, and visible in the log.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the server may have been started all the same, and continues to start.
    pub async fn start(&self) -> Result<()> {
        let _change = self.change.lock().await;
        self.launch().await
    }

    /// Stops the server with a fast shutdown: sessions are ended, a checkpoint is written, and a primary waits until
    /// its replicas have all of its log. Does nothing if it does not run; a frozen one is thawed first.
    ///
    /// # Errors
    ///
    /// [`Timeout`](ErrorKind::Timeout) if it still runs after 30 seconds, perhaps because a replica is frozen.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the shutdown may have been requested, and continues.
    pub async fn stop(&self) -> Result<()> {
        let _change = self.change.lock().await;
        self.shut_down().await
    }

    /// Restarts the server: [`stop`](Self::stop), then [`start`](Self::start).
    ///
    /// # Errors
    ///
    /// As those two.
    ///
    /// # Cancel safety
    ///
    /// As those two; the server may be left stopped.
    pub async fn restart(&self) -> Result<()> {
        let _change = self.change.lock().await;
        self.shut_down().await?;
        self.launch().await
    }

    /// Starts the server, the first time on a port of its choice.
    pub(super) async fn launch(&self) -> Result<()> {
        if self.is_running() {
            return Ok(());
        }
        self.frozen.store(false, Ordering::SeqCst);
        let first_start = self.port() == 0;
        let mut tries = 0;
        loop {
            if first_start {
                self.shared.members.set_port(self.index, ports::free_port()?);
            }
            tries += 1;
            match self.try_launch().await {
                Err(error) if first_start && tries < PORT_TRIES && error.to_string().contains("could not bind") => {}
                result => return result,
            }
        }
    }

    async fn try_launch(&self) -> Result<()> {
        let environment = &self.shared.environment;
        let data = self.data_folder();
        let log_start = fs::metadata(self.log_file()).map_or(0, |metadata| metadata.len());
        let mut command = environment.command("postgres", &data);
        command.arg("-D").arg(&data);
        for (name, value) in [
            ("config_file", self.config_file().to_string_lossy().into_owned()),
            ("listen_addresses", "127.0.0.1".to_owned()),
            ("port", self.port().to_string()),
            ("unix_socket_directories", String::new()),
            ("cluster_name", self.name.clone()),
        ] {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        // Stored before the first await: if this future is dropped, the cluster owns the server.
        *lock(&self.server) = Some(Server::spawn(command, &data, &self.log_file())?);
        let deadline = Instant::now() + START_LIMIT;
        loop {
            let state = lock(&self.server).as_mut().map(|server| (server.exit_status(), server.is_ready()));
            match state {
                Some((None, true)) => return Ok(()),
                Some((None, false)) if Instant::now() < deadline => tokio::time::sleep(POLL).await,
                Some((None, false)) => {
                    let message = format!("the server is not ready after {START_LIMIT:?}");
                    return Err(self.start_error(ErrorKind::Timeout, &message, log_start));
                }
                Some((Some(status), _)) => {
                    let message = format!("the server ended with {status}");
                    return Err(self.start_error(ErrorKind::Unavailable, &message, log_start));
                }
                None => {
                    return Err(self.start_error(ErrorKind::Unavailable, "the server is gone", log_start));
                }
            }
        }
    }

    fn start_error(&self, kind: ErrorKind, message: &str, log_start: u64) -> Error {
        let log = self.log().unwrap_or_default();
        let since_start = usize::try_from(log_start).ok().and_then(|start| log.get(start..)).unwrap_or(&log);
        Error::new(kind, format!("{message}; its log ends with:\n{}\n", tail(since_start))).with_node(self.name())
    }

    pub(super) async fn shut_down(&self) -> Result<()> {
        let Some(pid) = self.pid() else { return Ok(()) };
        if self.is_frozen() {
            self.resume_tree(pid)?;
        }
        self.signal("INT", &[pid])?;
        sql::wait_until("the end of the server", self.name(), STOP_LIMIT, async || Ok(!self.is_running())).await
    }

    /// For the end of the cluster, after the watchdog has done its work or has failed to.
    pub(super) fn end(&self) {
        let Some(mut server) = lock(&self.server).take() else { return };
        if let Err(error) = server.end() {
            tracing::warn!(node = self.name, %error, "could not end a server of a test cluster");
        }
    }

    pub(super) fn write_config(&self, upstream: Option<&Upstream>) -> Result<()> {
        self.write_file(&self.config_file(), &self.shared.settings.render(upstream))
    }

    pub(super) fn write_file(&self, path: &Path, text: &str) -> Result<()> {
        fs::write(path, text)
            .map_err(|error| Error::configuration(format!("cannot write {}", path.display())).with_source(error))?;
        self.shared.environment.account.give(path)
    }

    /// Not in the data folder: a base backup and pg_rewind copy everything in there from another node.
    pub(super) fn config_file(&self) -> PathBuf {
        self.folder.join("postgresql.conf")
    }

    fn log_file(&self) -> PathBuf {
        self.folder.join("log")
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("name", &self.name).field("port", &self.port()).finish_non_exhaustive()
    }
}
