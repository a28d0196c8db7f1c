//! The manual, the environment, and what is never printed.

use crate::support::{command, fill, log, ran, run};

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

/// The appends of others have to look at what a chunk has written, and the library knows how much of that they can bear.
#[tokio::test]
async fn an_import_has_the_chunks_of_the_library() {
    let manual = run(&[], &["import", "--help"]).await.ok();
    let default = format!("[default: {}]", mainstem::Import::DEFAULT_CHUNK_EVENTS);
    assert!(manual.contains("--chunk <EVENTS>") && manual.contains(&default), "{manual}");
}

#[tokio::test]
async fn without_a_database_it_says_how_to_name_one() {
    for name in COMMANDS {
        let names = ["--url", "MAINSTEM_URL", "MAINSTEM_PRIMARY_URL", "MAINSTEM_REPLICA_URLS"];
        run(&[], &[name]).await.failed(2, &names);
    }
}

#[tokio::test]
async fn the_environment_names_the_nodes() {
    let (_database, urls, _store) = log().await;
    let mut command = command(&[], &["migrate", "--dry-run"]);
    command.env("MAINSTEM_PRIMARY_URL", &urls[0]).env("MAINSTEM_REPLICA_URLS", urls[1..].join(","));
    assert!(ran(command, "").await.ok().contains("V1__log applied"));
}

/// The nodes of these URLs in one, the last one first.
fn list(urls: &[String]) -> String {
    let parts: Vec<_> = urls.iter().map(|url| url.rsplit_once('@').unwrap()).collect();
    let hosts: Vec<_> = parts.iter().rev().map(|(_, rest)| rest.split('/').next().unwrap()).collect();
    let (user, rest) = parts[0];
    let (_, database) = rest.split_once('/').unwrap();
    format!("{user}@{}/{database}", hosts.join(","))
}

#[tokio::test]
async fn a_single_url_names_all_nodes_in_any_order() {
    let (_database, urls, store) = log().await;
    fill(&store, "A", 1).await;
    let list = list(&urls);
    let by_option = run(std::slice::from_ref(&list), &["verify"]).await.ok();
    assert_eq!(by_option.lines().count(), 3, "{by_option}");
    let mut by_variable = command(&[], &["verify"]);
    by_variable.env("MAINSTEM_URL", &list);
    assert_eq!(ran(by_variable, "").await.ok(), by_option);
}

/// The settings are those of the library, by its names.
#[tokio::test]
async fn settings_come_from_the_url_and_from_the_environment() {
    let (_database, urls, store) = log().await;
    fill(&store, "A", 1).await;
    let list = list(&urls);
    let with = async |url: &str, args: &[&str], vars: &[(&str, &str)]| {
        let mut command = command(&[url.to_owned()], args);
        command.envs(vars.iter().copied());
        ran(command, "").await
    };
    let migrate = ["migrate", "--dry-run"];
    // Whose limit ends a call is seen while no call can go on.
    let router = mainstem::Router::builder().primary(&urls[0]).connect().await.unwrap();
    let lock = router.transaction().timeout(std::time::Duration::from_secs(300)).await.unwrap();
    lock.batch_execute("LOCK TABLE mainstem.events IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let limited = format!("{list}?mainstem.call_timeout=301ms");
    let (export, variable) = (["export", "--primary"], ("MAINSTEM_CALL_TIMEOUT", "302ms"));
    with(&limited, &export, &[]).await.failed(1, &["301ms"]);
    with(&list, &export, &[variable]).await.failed(1, &["302ms"]);
    with(&urls[0], &export, &[variable]).await.failed(1, &["302ms"]);
    // The environment counts more than the URL, and the command line most.
    with(&limited, &export, &[variable]).await.failed(1, &["302ms"]);
    with(&limited, &["export", "--primary", "--timeout", "1"], &[variable]).await.failed(1, &[" 1s"]);
    lock.rollback().await.unwrap();
    // Slips are told, and nodes of the environment are not looked at when there is a URL.
    with(&list, &migrate, &[("MAINSTEM_CAL_TIMEOUT", "1s")]).await.failed(2, &["did you mean MAINSTEM_CALL_TIMEOUT?"]);
    with(&format!("{list}?mainstem.zones=a"), &migrate, &[]).await.failed(2, &["mainstem.zones"]);
    with(&list, &migrate, &[("MAINSTEM_URL", "nonsense"), ("PGHOST", "nowhere.invalid")]).await.ok();
    // What the URL leaves out.
    let (user, rest) = list.split_once("//").unwrap().1.split_once('@').unwrap();
    let (name, password) = user.split_once(':').unwrap_or((user, ""));
    let left_out = [("PGUSER", name), ("PGPASSWORD", password)];
    with(&format!("postgres://{rest}"), &migrate, &left_out).await.ok();
    // No command needs a second connection to a node.
    let single = [("MAINSTEM_MAX_CONNECTIONS", "1")];
    with(&list, &["watch", "--once", "--interval", "0.1"], &single).await.ok();
    with(&list, &["verify"], &single).await.ok();
    let doctor = with(&list, &["doctor"], &single).await;
    // The servers of tests are not made to last, and that is all.
    assert!(doctor.status == 20 && doctor.stderr.contains("3 faults, 0 warnings"), "{doctor:#?}");
    assert_eq!(doctor.stdout.matches("fsync is off").count(), 3, "{doctor:#?}");
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
