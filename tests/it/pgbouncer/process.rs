//! A real PgBouncer in transaction mode in front of one node, for as long as the test runs.

use std::{
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use mainstem::testing::{LocalCluster, Node};
use tokio::time::{Instant, sleep};

use crate::support::files;

/// Fewer than the clients of any test, so that they share sessions.
const SESSIONS: u32 = 2;

pub(crate) struct PgBouncer {
    child: Child,
    port: u16,
    password: String,
    log: PathBuf,
}

/// The program, unless this machine has none.
pub(crate) fn program() -> Option<PathBuf> {
    let named = std::env::var_os("MAINSTEM_PGBOUNCER").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places: Vec<PathBuf> = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]).collect();
    let mut candidates = named.into_iter().chain(places.iter().map(|place| place.join("pgbouncer")));
    candidates.find(|program| program.is_file())
}

/// Whether this version may end after a cancel request: 1.18 and 1.19.0, see `docs/operations.md`.
pub(crate) fn ends_after_a_cancel() -> bool {
    let said = program().and_then(|program| Command::new(program).arg("--version").output().ok());
    let said = said.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    ["PgBouncer 1.18.", "PgBouncer 1.19.0"].iter().any(|version| said.contains(version))
}

impl PgBouncer {
    pub(crate) async fn start(program: &Path, cluster: &LocalCluster, node: &Node) -> Self {
        // Somebody else may have taken the port meanwhile.
        for _ in 0..5 {
            if let Some(bouncer) = Self::try_start(program, cluster, node).await {
                return bouncer;
            }
        }
        panic!("PgBouncer ends at once");
    }

    async fn try_start(program: &Path, cluster: &LocalCluster, node: &Node) -> Option<Self> {
        let password = node.url().split(['@', ':']).nth(2).unwrap().to_owned();
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let name = format!("pgbouncer-{port}");
        let users =
            files::write(&cluster.folder().join(format!("{name}.txt")), &format!("\"mainstem\" \"{password}\"\n"));
        let log = cluster.folder().join(format!("{name}.log"));
        let settings = format!(
            "[databases]\n* = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             unix_socket_dir =\nauth_type = scram-sha-256\nauth_file = {}\npool_mode = transaction\n\
             default_pool_size = {SESSIONS}\nmax_client_conn = 200\nlogfile = {}\n",
            node.port(),
            users.display(),
            log.display(),
        );
        let settings = files::write(&cluster.folder().join(format!("{name}.ini")), &settings);
        let child = Self::command(program, &settings).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut bouncer = Self { child, port, password, log };
        let deadline = Instant::now() + Duration::from_secs(20);
        while !bouncer.listens() {
            if bouncer.child.try_wait().unwrap().is_some() {
                return None;
            }
            assert!(Instant::now() < deadline, "PgBouncer does not listen");
            sleep(Duration::from_millis(10)).await;
        }
        Some(bouncer)
    }

    /// Whether it is this one that listens at its port: it has said so.
    fn listens(&self) -> bool {
        let said = std::fs::read_to_string(&self.log).unwrap_or_default();
        said.contains("process up") && TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok()
    }

    /// It ends with the thread that starts it, and refuses to run as root, as the server does.
    fn command(program: &Path, settings: &Path) -> Command {
        let mut command = Command::new("setpriv");
        let (user, group) = files::owner(settings);
        if files::owner(Path::new("/proc/self")).0 != user {
            command.args([format!("--reuid={user}"), format!("--regid={group}"), "--clear-groups".to_owned()]);
        }
        command.args(["--pdeathsig", "KILL"]).arg(program).arg(settings);
        command
    }

    /// The URL of a database through it.
    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgres://mainstem:{}@127.0.0.1:{}/{database}", self.password, self.port)
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            let last: Vec<&str> = log.lines().rev().take(30).collect();
            eprintln!("PgBouncer at {}, the last lines first: {last:#?}", self.port);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
