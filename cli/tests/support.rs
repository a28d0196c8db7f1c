//! What the tests share: one cluster for all that do not hurt it, and the program.

use std::{process::Stdio, time::Duration};

use mainstem::{
    AppendCondition, EventStore, NewEvent, PostgresEventStore, Router,
    testing::{ClusterBuilder, LocalCluster, TestDatabase},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    sync::OnceCell,
    time::timeout,
};

/// Far longer than anything here may take: what it ends would have hung.
pub(crate) const HANG: Duration = Duration::from_secs(90);

/// A primary and two replicas, started by the first test that asks. It ends with the process.
pub(crate) async fn cluster() -> &'static LocalCluster {
    static CLUSTER: OnceCell<LocalCluster> = OnceCell::const_new();
    CLUSTER.get_or_init(async || started(LocalCluster::builder().replicas(2)).await).await
}

pub(crate) async fn started(builder: ClusterBuilder) -> LocalCluster {
    builder.start().await.unwrap_or_else(|error| panic!("no cluster: {}", error.report()))
}

/// A database of the shared cluster with a migrated log, for one test.
pub(crate) async fn log() -> (TestDatabase<'static>, Vec<String>, PostgresEventStore) {
    let database = cluster().await.database().await.unwrap();
    let urls = urls(&database);
    let store = store(&urls).await;
    (database, urls, store)
}

/// The nodes of a database, the primary first.
pub(crate) fn urls(database: &TestDatabase<'_>) -> Vec<String> {
    std::iter::once(database.primary_url()).chain(database.replica_urls()).collect()
}

/// The nodes of a cluster, the primary first.
pub(crate) fn nodes(cluster: &LocalCluster) -> Vec<String> {
    std::iter::once(cluster.primary().url()).chain(cluster.replicas().map(|node| node.url())).collect()
}

/// The log there, migrated.
pub(crate) async fn store(urls: &[String]) -> PostgresEventStore {
    let router = Router::builder().primary(&urls[0]).replicas(&urls[1..]).connect().await.unwrap();
    let store = PostgresEventStore::new(&router);
    store.migrate().await.unwrap();
    store
}

pub(crate) async fn sql(url: &str, sql: &str) {
    let router = Router::builder().primary(url).connect().await.unwrap();
    router.client().await.unwrap().batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {}", error.report()));
}

/// The one text that a query gives.
pub(crate) async fn text(url: &str, sql: &str) -> String {
    let router = Router::builder().primary(url).connect().await.unwrap();
    router.client().await.unwrap().query_one(sql, &[]).await.unwrap().get(0)
}

/// Changes what nobody may change.
pub(crate) async fn change(url: &str, statement: &str) {
    let table = "ALTER TABLE mainstem.events";
    let trigger = "TRIGGER events_append_only";
    sql(url, &format!("{table} DISABLE {trigger}; {statement}; {table} ENABLE ALWAYS {trigger}")).await;
}

/// Appends so many events of a type, one by one.
pub(crate) async fn fill(store: &PostgresEventStore, event_type: &str, amount: u64) {
    for number in 1..=amount {
        let event = NewEvent::new(event_type, &serde_json::json!({"n": number})).unwrap();
        store.append([event.with_tag(format!("n:{number}"))], AppendCondition::none()).await.unwrap();
    }
}

/// What a run of the program has left.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// Its standard output, if it has succeeded.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.status, 0, "{self:#?}");
        self.stdout
    }

    /// Its standard error, if it ended with this status, which says all of these.
    #[track_caller]
    pub(crate) fn failed(self, status: i32, says: &[&str]) -> String {
        assert_eq!(self.status, status, "{self:#?}");
        for part in says {
            assert!(self.stderr.contains(part), "standard error does not say {part:?}: {self:#?}");
        }
        self.stderr
    }

    #[track_caller]
    pub(crate) fn lines(self) -> Vec<serde_json::Value> {
        self.ok().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

pub(crate) fn command(urls: &[String], args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mainstem"));
    // What the environment of the tests says is not for it.
    let is_for_it = |name: &str| name.starts_with("PG") || name.starts_with("MAINSTEM_");
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(is_for_it)) {
        command.env_remove(name);
    }
    command.kill_on_drop(true).args(args).args(urls.iter().flat_map(|url| ["--url", url]));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

pub(crate) async fn run(urls: &[String], args: &[&str]) -> Ran {
    run_with(urls, args, "").await
}

/// The same with something on standard input.
pub(crate) async fn run_with(urls: &[String], args: &[&str], stdin: &str) -> Ran {
    ran(command(urls, args), stdin).await
}

pub(crate) async fn ran(mut command: Command, stdin: &str) -> Ran {
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let write = async {
        // It may end without reading it.
        let _ = input.write_all(stdin.as_bytes()).await;
        drop(input);
    };
    let (output, ()) = timeout(HANG, async { tokio::join!(child.wait_with_output(), write) }).await.expect("no hang");
    let output = output.unwrap();
    Ran {
        status: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A run that goes on.
pub(crate) struct Running {
    pub(crate) child: Child,
    pub(crate) lines: Lines<BufReader<ChildStdout>>,
}

pub(crate) fn start(urls: &[String], args: &[&str]) -> Running {
    let mut child = command(urls, args).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    Running { child, lines }
}

impl Running {
    pub(crate) async fn line(&mut self) -> String {
        timeout(HANG, self.lines.next_line()).await.expect("no hang").unwrap().expect("a line")
    }

    /// Sends Ctrl-C once it is heard, and waits for the end.
    pub(crate) async fn interrupt(self) -> Ran {
        let pid = self.child.id().unwrap().to_string();
        let is_heard = || {
            // Where there is no such file, the test takes its chance.
            let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) else { return true };
            let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
            u64::from_str_radix(caught.trim(), 16).unwrap() & 0b10 != 0
        };
        let heard = async {
            while !is_heard() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(HANG, heard).await.expect("it listens to Ctrl-C");
        assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
        self.end().await
    }

    pub(crate) async fn end(mut self) -> Ran {
        let mut stdout = String::new();
        let rest = async {
            while let Some(line) = self.lines.next_line().await.unwrap() {
                stdout.push_str(&line);
                stdout.push('\n');
            }
            self.child.wait_with_output().await.unwrap()
        };
        let output = timeout(HANG, rest).await.expect("no hang");
        let stderr = String::from_utf8(output.stderr).unwrap();
        Ran { status: output.status.code().unwrap_or(-1), stdout, stderr }
    }
}
