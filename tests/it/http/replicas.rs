//! Over real HTTP, on real replicas: the example's server, and browsers that switch from one instance to the other.

use std::{net::SocketAddr, time::Duration};

use mainstem::{PostgresEventStore, Router, RouterBuilder, TokenKey, testing::LocalCluster};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use self::example::{app::app, browser::Browser};
use crate::support::{cluster_with_log, database};

#[path = "../../../examples/http/main.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    clippy::duplicate_mod,
    reason = "it is a program of its own, with the domain of another one that is tested here"
)]
mod example;

/// Far longer than anything here may take: what it ends would have hung.
const HANG: Duration = Duration::from_secs(60);

async fn instance(store: PostgresEventStore) -> SocketAddr {
    let key = TokenKey::new("the secret of all instances").unwrap();
    example::serve(app(store, key)).await.unwrap()
}

/// Two instances, each with a router of its own, on a cluster of their own.
async fn instances(settings: impl Fn(RouterBuilder) -> RouterBuilder) -> (LocalCluster, [SocketAddr; 2]) {
    let (cluster, _router, store) = cluster_with_log(1, &settings).await;
    let builder = Router::builder().primary(cluster.primary().url()).replica(cluster.replica(0).url());
    let another = settings(builder.probe_interval(Duration::from_millis(100))).connect().await.unwrap();
    let instances = [instance(store).await, instance(PostgresEventStore::new(&another)).await];
    (cluster, instances)
}

async fn posted(browser: &Browser, path: &str, body: Value) {
    let answer = browser.post(path, &body).await.unwrap();
    assert_eq!(answer.status, 200, "POST {path} {body}: {}", answer.body);
}

async fn titles(browser: &Browser) -> (String, usize) {
    let answer = browser.get("/copies").await.unwrap();
    assert_eq!(answer.status, 200);
    let role = answer.header("served-by").split(' ').next().unwrap().to_owned();
    (role, answer.body["titles"].as_object().unwrap().len())
}

#[tokio::test]
async fn a_browser_goes_through_the_example_from_one_instance_to_the_other() {
    let database = database().await;
    let mut instances = Vec::new();
    for _ in 0..2 {
        let builder = Router::builder().primary(database.primary_url()).replicas(database.replica_urls());
        let router = builder.acquire_timeout(HANG).replay_wait(HANG).connect().await.unwrap();
        let store = PostgresEventStore::new(&router);
        store.migrate().await.unwrap();
        instances.push(instance(store).await);
    }
    example::tour(&instances).await.unwrap();
}

#[tokio::test]
async fn a_writer_sees_its_writes_on_any_instance_while_others_lag() {
    let (cluster, instances) = instances(|builder| builder.replay_wait(Duration::from_millis(300))).await;
    let ada = Browser::new(instances);
    cluster.replica(0).pause_replay().await.unwrap();
    for copy in 1..=3 {
        let another = Browser::new(instances);
        posted(&ada, "/copies", json!({"copy": copy, "title": "Logic"})).await;
        for _ in 0..2 {
            assert_eq!(titles(&ada).await, ("primary".to_owned(), copy), "the replica does not have it");
            assert_eq!(titles(&another).await, ("replica".to_owned(), 0));
        }
        // A command is decided on what is there.
        posted(&another, "/readers", json!({"reader": copy, "name": "Grace"})).await;
        let lent = another.post("/loans", &json!({"copy": copy, "reader": copy})).await.unwrap();
        assert_eq!(lent.status, 200, "{}", lent.body);
        let stranger = Browser::new(instances);
        assert_eq!(titles(&stranger).await, ("replica".to_owned(), 0));
        let desk = stranger.get(&format!("/desk/readers/{copy}/loans")).await.unwrap();
        assert_eq!(desk.body["copies"], json!([copy]));
    }
    cluster.replica(0).resume_replay().await.unwrap();
    let by_replica = async {
        while titles(&ada).await != ("replica".to_owned(), 3) {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(HANG, by_replica).await.expect("the replica serves her again");
}

#[tokio::test]
async fn a_write_that_a_failover_has_lost_is_told_once() {
    let (cluster, instances) = instances(|builder| builder.replay_wait(Duration::from_millis(300))).await;
    let ada = Browser::new(instances);
    posted(&ada, "/copies", json!({"copy": 1, "title": "Logic"})).await;
    cluster.wait_until_caught_up().await.unwrap();
    cluster.replica(0).stop().await.unwrap();
    posted(&ada, "/copies", json!({"copy": 2, "title": "Poems"})).await;
    let before = ada.cookie_line();
    assert!(!before.is_empty());
    cluster.primary().stop().await.unwrap();
    cluster.replica(0).start().await.unwrap();
    cluster.replica(0).promote().await.unwrap();
    let writes = async {
        // By somebody else, through each instance.
        let (mut answered, another) = (0, Browser::new(instances));
        while answered < 4 {
            let answer = another.post("/copies", &json!({"copy": 3, "title": "Maps"})).await.unwrap();
            answered = if answer.status == 200 { answered + 1 } else { 0 };
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(HANG, writes).await.expect("both instances find the new primary");
    let mut told = Vec::new();
    for _ in 0..4 {
        let answer = ada.get("/copies").await.unwrap();
        told.push((answer.status.as_u16(), answer.body["titles"].clone()));
    }
    let now = json!({"1": "Logic", "3": "Maps"});
    assert_eq!(told[0], (412, Value::Null), "{told:?}");
    assert!(told[1..].iter().all(|answer| *answer == (200, now.clone())), "{told:?}");
}
