//! The manual, the environment, and what is never printed.

use crate::support::{command, log, ran, run};

const COMMANDS: [&str; 8] = ["doctor", "watch", "migrate", "tail", "append", "export", "import", "verify"];

#[tokio::test]
async fn the_manual_names_each_command_and_each_exit_status() {
    let manual = run(&[], &["--help"]).await.ok();
    for part in COMMANDS.iter().chain(&["  130  Ctrl-C", "   20  doctor or verify", "MAINSTEM_REPLICA_URLS"]) {
        assert!(manual.contains(part), "{part} is not in\n{manual}");
    }
    for name in COMMANDS {
        let manual = run(&[], &[name, "--help"]).await.ok();
        assert!(manual.contains("Usage: mainstem"), "{manual}");
    }
}

#[tokio::test]
async fn without_a_database_it_says_how_to_name_one() {
    for name in COMMANDS {
        run(&[], &[name]).await.failed(2, &["--url", "MAINSTEM_PRIMARY_URL", "MAINSTEM_REPLICA_URLS"]);
    }
}

#[tokio::test]
async fn the_environment_names_the_nodes() {
    let (_database, urls, _store) = log().await;
    let mut command = command(&[], &["migrate", "--dry-run"]);
    command.env("MAINSTEM_PRIMARY_URL", &urls[0]).env("MAINSTEM_REPLICA_URLS", urls[1..].join(","));
    assert!(ran(command, "").await.ok().contains("V1__log applied"));
}

#[tokio::test]
async fn no_password_is_ever_printed() {
    const SECRET: &str = "s3cr3t";
    let url = |rest: &str| format!("postgres://ada:{SECRET}@{rest}");
    let nowhere = url("127.0.0.1:1/library");
    for args in [
        vec!["doctor", "--timeout", "2", "--url", &nowhere],
        vec!["migrate", "--timeout", "2", "--url", &nowhere],
        vec!["doctor", &nowhere],
        vec![&*nowhere],
        vec!["--uri", &nowhere, "doctor"],
        vec!["--log", &nowhere, "--schema", "pg_x", "--url", &nowhere, "doctor"],
        vec!["doctor", "--url", "postgres://ada:s3cr3t@a@b/c"],
        vec!["doctor", "--url", "host=/nowhere password=s3cr3t port=x"],
        vec!["doctor", "host=/nowhere password=s3cr3t"],
    ] {
        let ran = run(&[], &args).await;
        assert_ne!(ran.status, 0, "{ran:#?}");
        assert!(!format!("{}{}", ran.stdout, ran.stderr).contains(SECRET), "{ran:#?}");
    }
}
