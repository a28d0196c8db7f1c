//! The quickstart as its users meet it: a process, its lines and its status, on healthy clusters and with wrong
//! settings.

use std::{
    ffi::OsString,
    os::unix::ffi::OsStringExt,
    path::PathBuf,
    process::{Output, Stdio},
    time::Duration,
};

use futures_util::future::join_all;
use mainstem::testing::LocalCluster;
use tokio::{net::TcpListener, process::Command, sync::OnceCell, time::timeout};

use crate::support;

const PRIMARY: &str = "MAINSTEM_PRIMARY_URL";
const REPLICAS: &str = "MAINSTEM_REPLICA_URLS";
const SECRET: &str = "sesame";

/// For one run: bad settings are told within seconds, a good run is over in less on a machine that has time.
const LIMIT: Duration = Duration::from_secs(60);

/// The example's program, built now if it is not up to date: `cargo test --test it` alone does not build examples, and
/// would run an old one.
async fn program() -> &'static PathBuf {
    static PROGRAM: OnceCell<PathBuf> = OnceCell::const_new();
    PROGRAM.get_or_init(build).await
}

async fn build() -> PathBuf {
    // <target>/<profile>/deps/it-…: the example is to be built like this test, or cargo builds everything anew.
    let this = std::env::current_exe().expect("the path of this program");
    let profile = this.ancestors().nth(2).expect("a profile's folder");
    let features = if cfg!(feature = "testcontainers") { "testcontainers,migrations" } else { "testing,migrations" };
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| env!("CARGO").into()));
    cargo.args(["build", "--quiet", "--example", "quickstart", "--features", features, "--message-format", "json"]);
    cargo.arg("--target-dir").arg(profile.parent().expect("a target folder"));
    match profile.file_name().and_then(|name| name.to_str()) {
        Some("debug") => &mut cargo,
        Some(name) => cargo.args(["--profile", name]),
        None => panic!("{} is in no profile's folder", this.display()),
    };
    let cargo = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).stderr(Stdio::inherit()).kill_on_drop(true).output();
    let output = timeout(Duration::from_secs(900), cargo).await.expect("cargo takes too long").expect("cargo");
    assert!(output.status.success(), "cargo could not build the example");
    let messages = String::from_utf8(output.stdout).expect("UTF-8");
    let program = messages.lines().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        (message["target"]["name"] == "quickstart").then(|| message["executable"].as_str().map(PathBuf::from))?
    });
    program.expect("cargo tells where the example is")
}

async fn run(variables: &[(&str, OsString)]) -> Output {
    let mut command = Command::new(program().await);
    command.env_remove(PRIMARY).env_remove(REPLICAS).envs(variables.iter().cloned());
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output();
    timeout(LIMIT, output).await.unwrap_or_else(|_| panic!("no end within {LIMIT:?}")).expect("a process")
}

async fn run_on(primary: &str, replicas: &str) -> Output {
    run(&[(PRIMARY, primary.into()), (REPLICAS, replicas.into())]).await
}

fn password(url: &str) -> &str {
    url.split_once("://").and_then(|(_, rest)| rest.split_once('@')?.0.split_once(':')).expect("a password").1
}

/// The lines of a run that went well.
fn lines(output: &Output, secrets: &[&str]) -> Vec<String> {
    let [out, err] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
    assert!(output.status.success(), "{out}{err}");
    assert_eq!(out.lines().last(), Some("quickstart: ok"), "{out}{err}");
    assert!(secrets.iter().all(|secret| !out.contains(secret) && !err.contains(secret)), "{out}{err}");
    out.lines().map(str::to_owned).collect()
}

fn has(lines: &[String], parts: &[&str]) -> bool {
    lines.iter().any(|line| parts.iter().all(|part| line.contains(part)))
}

/// Asserts that a run has ended with one message, which says `parts` and no password.
fn refused(case: &str, output: &Output, secrets: &[&str], parts: &[&str]) {
    let [out, err] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
    eprint!("{case}: {err}");
    assert_eq!(output.status.code(), Some(1), "{case}: {out}{err}");
    assert!(err.starts_with("quickstart: ") && err.trim_end().lines().count() == 1, "{case}: {err}");
    for secret in secrets.iter().chain([&SECRET]) {
        assert!(!out.contains(secret) && !err.contains(secret), "{case}: {out}{err}");
    }
    assert!(!out.contains("quickstart: ok"), "{case}: {out}");
    for part in parts {
        assert!(err.contains(part), "{case}: {err:?} does not say {part:?}");
    }
}

#[tokio::test]
async fn without_settings_it_starts_a_cluster_of_its_own() {
    let lines = lines(&run(&[]).await, &[]);
    assert!(has(&lines, &["replica 127.0.0.1:", "who has copy-1? still ada"]), "{lines:#?}");
    assert!(has(&lines, &["the event has arrived"]), "{lines:#?}");
}

#[tokio::test]
async fn on_a_cluster_that_runs_it_pauses_replay_resumes_it_and_can_be_repeated() {
    let cluster = support::started(LocalCluster::builder().replicas(2)).await;
    let database = cluster.database().await.unwrap();
    let primary = database.primary_url();
    for migrations in ["4 migrations", "0 migrations"] {
        let lines = lines(&run_on(&primary, &database.replica_urls().join(" , ")).await, &[password(&primary)]);
        assert!(has(&lines, &[migrations]), "{lines:#?}");
        assert!(has(&lines, &["who has copy-1? still ada"]) && !has(&lines, &["skipped"]), "{lines:#?}");
        // Replay that stayed paused would end this by its limit.
        cluster.wait_until_caught_up().await.unwrap();
    }

    // Two clusters, and what is said when their nodes are taken for one.
    let mine = support::database().await;
    let (other, replicas) = (mine.primary_url(), [mine.replica_urls().remove(0), cluster.replica(0).url()].join(","));
    let secrets = [password(&primary), password(&other)];
    let output = run_on(&other, &replicas).await;
    refused("replica of another cluster", &output, &secrets, &["not of the same cluster", "127.0.0.1", REPLICAS]);
}

#[tokio::test]
async fn without_the_right_to_pause_replay_it_says_so_and_goes_on() {
    let database = support::database().await;
    let role = format!("reader_of_{}", database.name());
    let admin = support::router(&database).await;
    let setup =
        format!("CREATE ROLE {role} LOGIN PASSWORD '{SECRET}'; GRANT CREATE ON DATABASE {} TO {role}", database.name());
    admin.client().await.unwrap().batch_execute(&setup).await.unwrap();
    support::cluster().await.wait_until_caught_up().await.unwrap();
    let primary = as_role(&database.primary_url(), &role);
    let replicas: Vec<_> = database.replica_urls().iter().map(|url| as_role(url, &role)).collect();
    let lines = lines(&run_on(&primary, &replicas.join(",")).await, &[SECRET]);
    assert!(has(&lines, &["skipped", "permission denied"]), "{lines:#?}");
    assert!(has(&lines, &["replica 127.0.0.1:", "who has copy-1? ada"]), "{lines:#?}");

    // Nor may it make its schema in a database of others.
    let [primary, replica] = [&primary, &replicas[0]].map(|url| in_database(url, "postgres"));
    refused("no right to create", &run_on(&primary, &replica).await, &[], &["permission denied", "postgres"]);
}

fn in_database(url: &str, name: &str) -> String {
    format!("{}/{name}", url.rsplit_once('/').expect("a database").0)
}

fn as_role(url: &str, role: &str) -> String {
    url.replace(&format!("mainstem:{}", password(url)), &format!("{role}:{SECRET}"))
}

#[tokio::test]
async fn bad_settings_end_with_one_message_that_says_what_to_do() {
    let database = support::database().await;
    let (primary, replica) = (database.primary_url(), database.replica_urls().remove(0));
    let secret = password(&primary);
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = async || TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let at = |port: u16| format!("postgres://app:{SECRET}@127.0.0.1:{port}/shop");
    let nobody = at(port().await);
    let silent = at(mute.local_addr().unwrap().port());
    let wrong = |url: &str| url.replace(secret, SECRET);
    let app = |rest: &str| format!("postgres://app:{SECRET}@{rest}");
    let (utf8, empty) = (OsString::from_vec(b"sesame\xff".to_vec()), format!("{replica},"));
    let garbage = format!("{replica},http//{SECRET}");
    let elsewhere = in_database(&primary, "no_such_database");
    let (primary, replica) = (&*primary, &*replica);
    let one = |name, value: &str| vec![(name, OsString::from(value))];
    let two = |primary: &str, replicas: &str| vec![(PRIMARY, primary.into()), (REPLICAS, replicas.into())];
    let cases = vec![
        ("no replicas", one(PRIMARY, primary), vec![PRIMARY, REPLICAS, "set both"]),
        ("blank replicas", two(primary, " "), vec![PRIMARY, REPLICAS, "set both"]),
        ("no primary", one(REPLICAS, replica), vec![PRIMARY, REPLICAS, "set both"]),
        ("garbage primary", two(SECRET, replica), vec![PRIMARY, "postgres://"]),
        ("garbage replica", two(primary, &garbage), vec![REPLICAS, "postgres://"]),
        ("an empty replica", two(primary, &empty), vec![REPLICAS, "postgres://"]),
        ("another scheme", two(&format!("jdbc:{nobody}?ssl=off"), replica), vec![PRIMARY, "postgres://"]),
        ("not UTF-8", vec![(PRIMARY, utf8), (REPLICAS, replica.into())], vec![PRIMARY, "UTF-8"]),
        ("no port", two(&app("db:port/shop"), replica), vec!["URL of the primary", "port", PRIMARY]),
        ("no host", two(&app("/shop"), replica), vec!["the primary names no host", PRIMARY]),
        ("several hosts", two("postgres://a,b/shop", replica), vec!["names 2 hosts", PRIMARY]),
        ("an @ in the password", two(&app(&format!("{SECRET}@nowhere.invalid/a")), replica), vec![PRIMARY, "%40"]),
        ("unreachable primary", two(&nobody, replica), vec!["127.0.0.1:", "refused", PRIMARY]),
        ("unreachable replica", two(primary, &nobody), vec!["127.0.0.1:", "refused", REPLICAS]),
        ("silent primary", two(&silent, replica), vec!["127.0.0.1:", "within", PRIMARY]),
        ("silent replica", two(primary, &silent), vec!["127.0.0.1:", "within", REPLICAS]),
        ("unknown host", two(&app("nowhere.invalid/a?sslmode=disable"), replica), vec!["nowhere.invalid", PRIMARY]),
        ("wrong password", two(&wrong(primary), replica), vec!["password authentication failed", PRIMARY]),
        ("a replica's password", two(primary, &wrong(replica)), vec!["password authentication failed", REPLICAS]),
        ("no such database", two(&elsewhere, replica), vec!["no_such_database", "does not exist", PRIMARY]),
        ("a primary as replica", two(primary, primary), vec!["list each once", "127.0.0.1:", REPLICAS]),
        ("a replica as primary", two(replica, replica), vec!["list each once", "127.0.0.1:", REPLICAS]),
        ("no programs", one("MAINSTEM_PG_BIN", "/no/such/folder"), vec!["MAINSTEM_PG_BIN", "initdb", PRIMARY]),
    ];
    for cases in cases.chunks(4) {
        let outputs = join_all(cases.iter().map(|(_, variables, _)| run(variables))).await;
        for ((case, _, parts), output) in cases.iter().zip(outputs) {
            refused(case, &output, &[secret], parts);
        }
    }
    drop(mute);
}
