//! A router whose settings name nodes without their roles: it finds out the roles.

use std::time::Duration;

use mainstem::{
    Consistency, ErrorKind, Role, RouterBuilder,
    testing::{LocalCluster, TestDatabase},
};
use tokio::time::timeout;

use crate::support::{database, started};

const HANG: Duration = Duration::from_secs(30);

/// The hosts of these URLs behind the credentials of the first one, and the database.
fn list(urls: &[String]) -> String {
    let (credentials, rest) = urls[0].split_once('@').unwrap();
    let (_, database) = rest.split_once('/').unwrap();
    let hosts: Vec<&str> = urls.iter().map(|url| url.split(['@', '/']).nth(3).unwrap()).collect();
    format!("{credentials}@{}/{database}", hosts.join(","))
}

/// Of the shared cluster, the primary last.
fn urls(database: &TestDatabase<'_>) -> Vec<String> {
    let mut urls = database.replica_urls();
    urls.push(database.primary_url());
    urls
}

#[tokio::test]
async fn roles_of_nodes_in_a_url_list_are_discovered() {
    let database = database().await;
    let list = list(&urls(&database));
    let separator = if list.contains('?') { '&' } else { '?' };
    let url = format!("{list}{separator}mainstem.max_connections=3&mainstem.require_replicas=true");
    let primary = database.primary_url();
    for is_checked in [true, false] {
        let builder = RouterBuilder::from_url(&url).unwrap();
        // Without the check the first call waits until everybody was asked.
        let router = if is_checked { builder.connect().await.unwrap() } else { builder.build().unwrap() };
        let client = timeout(HANG, router.client()).await.unwrap().unwrap();
        assert!(primary.contains(client.node()) && client.role() == Role::Primary);
        client.batch_execute("CREATE TABLE IF NOT EXISTS here ()").await.unwrap();
        let status = router.status();
        assert_eq!(status.primary.known().map(|name| &**name), Some(client.node()));
        let roles: Vec<Role> = status.nodes.iter().map(|node| node.role).collect();
        assert_eq!(roles, [Role::Replica, Role::Replica, Role::Primary]);
        assert!(status.nodes.iter().all(|node| node.capacity == Some(3)));
        for _ in 0..5 {
            assert_eq!(router.client_at(Consistency::Eventual).await.unwrap().role(), Role::Replica);
        }
    }
}

#[tokio::test]
async fn the_environment_is_enough_to_connect() {
    let database = database().await;
    let list = list(&urls(&database));
    // As secrets are handed to containers: apart.
    let (credentials, rest) = list.strip_prefix("postgres://").unwrap().split_once('@').unwrap();
    let (user, password) = credentials.split_once(':').unwrap();
    let vars = [
        ("MAINSTEM_URL", format!("postgres://{rest}")),
        ("PGUSER", user.to_owned()),
        ("PGPASSWORD", password.to_owned()),
        ("MAINSTEM_CALL_TIMEOUT", "10s".to_owned()),
    ];
    let router = RouterBuilder::from_vars(vars.clone()).unwrap().connect().await.unwrap();
    router.client().await.unwrap().query_one("SELECT 1", &[]).await.unwrap();
    let wrong = vars.map(|(name, value)| (name, if name == "PGPASSWORD" { "wrong".to_owned() } else { value }));
    let error = RouterBuilder::from_vars(wrong).unwrap().connect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration, "{}", error.report());
}

#[tokio::test]
async fn a_url_list_outlives_failovers_and_says_when_nobody_or_two_take_writes() {
    let cluster = started(LocalCluster::builder().replicas(2)).await;
    let urls: Vec<String> = cluster.nodes().iter().map(|node| node.url()).collect();
    let connect = async || timeout(HANG, RouterBuilder::from_url(list(&urls)).unwrap().connect()).await.unwrap();
    let router = connect().await.unwrap();
    let names: Vec<_> = router.status().nodes.iter().map(|node| node.name.clone()).collect();
    cluster.nodes()[0].stop().await.unwrap();
    let error = connect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", error.report());
    let report = error.report();
    assert!(report.contains("none of the nodes takes writes") && report.contains(&*names[0]), "{report}");

    cluster.nodes()[1].promote().await.unwrap();
    let promoted = Some(&names[1]);
    let mut watch = router.watch();
    let found = async { while watch.next().await.is_some_and(|status| status.primary.known() != promoted) {} };
    timeout(HANG, found).await.unwrap();
    assert_eq!(connect().await.unwrap().client().await.unwrap().node(), &*names[1]);

    // Nobody has told it that the other one has been promoted.
    cluster.nodes()[2].promote().await.unwrap();
    let error = connect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SplitBrain, "{}", error.report());
    assert!(names[1..].iter().all(|name| error.report().contains(&**name)), "{}", error.report());
}

/// The words in the files of a folder and in those below that begin with `MAINSTEM_`.
fn variables_in(path: &std::path::Path, found: &mut std::collections::BTreeSet<String>) {
    if path.is_dir() {
        let files = std::fs::read_dir(path).unwrap();
        return files.for_each(|file| variables_in(&file.unwrap().path(), found));
    }
    let bytes = std::fs::read(path).unwrap();
    let text = String::from_utf8_lossy(&bytes);
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    found.extend(words.filter(|word| word.len() > 9 && word.starts_with("MAINSTEM_")).map(str::to_owned));
}

#[test]
fn the_variables_of_the_scripts_and_containers_here_are_no_errors() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = std::collections::BTreeSet::new();
    for part in ["scripts", ".ci", "docker-compose.yml", "replication"] {
        variables_in(&root.join(part), &mut found);
    }
    assert!(found.contains("MAINSTEM_GRAFANA_PORT") && found.contains("MAINSTEM_PG_BIN"), "{found:?}");
    for name in found {
        let vars = [("MAINSTEM_URL", "postgres://a/d"), (&*name, "x")];
        let said = RouterBuilder::from_vars(vars).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(!said.contains("is unknown"), "{said}");
    }
    let own = RouterBuilder::from_vars([("MAINSTEM_URL", "postgres://a/d"), ("MAINSTEM_SHOP", "x")]);
    assert!(own.unwrap_err().to_string().contains("MAINSTEM_SHOP is unknown"));
}
