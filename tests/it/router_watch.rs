//! Watchers of the router learn about changes of the cluster, and a readiness probe learns which calls can be served.

use std::time::Duration;

use futures_util::StreamExt;
use mainstem::{
    Availability, Fallback, NodeCondition, Role, Router, RouterStatus, RouterWatch,
    testing::{Direction, LocalCluster},
};
use tokio::time::{sleep, timeout};

use crate::support::{database, router, started};

const HANG: Duration = Duration::from_secs(30);
const MS: Duration = Duration::from_millis(1);

/// Waits until the watch says this.
async fn told(watch: &mut RouterWatch, what: &str, is_it: impl Fn(&RouterStatus) -> bool) -> RouterStatus {
    let told = async {
        while let Some(status) = watch.next().await {
            if is_it(&status) {
                return status;
            }
        }
        panic!("it has ended");
    };
    timeout(HANG, told).await.unwrap_or_else(|_| panic!("not told: {what}"))
}

fn is_ejected(status: &RouterStatus, node: usize) -> bool {
    matches!(status.nodes[node].condition, NodeCondition::Ejected { .. })
}

fn by(availability: &Availability) -> Option<(&str, Role)> {
    match availability {
        Availability::Available { node, role, .. } => Some((&**node, *role)),
        _ => None,
    }
}

#[tokio::test]
async fn a_watch_reports_outages_returns_and_failovers() {
    let cluster = started(LocalCluster::builder()).await;
    let builder = Router::builder().primary(cluster.primary().url()).replica(cluster.replica(0).url());
    let router = builder.probe_interval(50 * MS).slow_start(100 * MS).connect().await.unwrap();
    let mut watch = router.watch();
    let first = timeout(HANG, watch.next()).await.unwrap().unwrap();
    let [primary, replica] = [0, 1].map(|node| first.nodes[node].name.clone());
    assert_eq!((first.primary.known(), first.timeline), (Some(&primary), Some(1)));

    cluster.replica(0).stop().await.unwrap();
    let out = told(&mut watch, "the replica is out", |status| is_ejected(status, 1)).await;
    // Still ready: the primary takes some of its reads.
    let readiness = out.readiness();
    assert!(readiness.is_ready() && by(&readiness.eventual) == Some((&*primary, Role::Primary)), "{readiness}");
    cluster.replica(0).start().await.unwrap();
    let back = |status: &RouterStatus| status.nodes[1].condition == NodeCondition::Serving;
    let back = told(&mut watch, "it is back, and its slow start is over", back).await;
    assert_eq!(by(&back.readiness().eventual), Some((&*replica, Role::Replica)));

    cluster.nodes()[0].stop().await.unwrap();
    let out = told(&mut watch, "the primary is out", |status| is_ejected(status, 0)).await;
    // Nobody takes writes, and reads go on.
    let readiness = out.readiness();
    assert!(readiness.is_ready() && by(&readiness.strong).is_none(), "{readiness}");
    assert!(readiness.to_string().contains(&format!("the primary {primary}: out of service")), "{readiness}");
    assert_eq!(by(&readiness.eventual), Some((&*replica, Role::Replica)));
    cluster.replica(0).promote().await.unwrap();
    let failed_over =
        told(&mut watch, "the replica is the primary", |status| status.primary.known() == Some(&replica)).await;
    assert_eq!((failed_over.timeline, failed_over.nodes[1].role), (Some(2), Role::Primary));
    assert_eq!(by(&router.readiness().strong), Some((&*replica, Role::Primary)));

    cluster.nodes()[0].start().await.unwrap();
    let fenced = |status: &RouterStatus| status.nodes[0].condition == NodeCondition::Fenced;
    told(&mut watch, "the old primary is back, and fenced", fenced).await;
    // Whoever asks for it by its name gets it, and nobody else.
    let client = router.client_on(&primary).await.unwrap();
    assert_eq!((client.node(), client.role()), (&*primary, Role::Primary));
    client.query_one("SELECT 1", &[]).await.unwrap();
    drop(client);
    assert_eq!(router.client().await.unwrap().node(), &*replica);
    cluster.nodes()[1].stop().await.unwrap();
    // Nobody is left to serve anything: what is written to the old one would be lost.
    let alone = told(&mut watch, "the new primary is out", |status| is_ejected(status, 1)).await;
    assert!(!alone.readiness().is_ready(), "{}", alone.readiness());
}

#[tokio::test]
async fn a_watch_ends_with_the_last_clone_of_its_router() {
    let database = database().await;
    let router = router(&database).await;
    let mut stream = Box::pin(router.watch().into_stream());
    assert!(timeout(HANG, stream.next()).await.unwrap().is_some());
    // A connection that is still in use keeps nothing alive but itself.
    let (client, clone) = (router.client().await.unwrap(), router.clone());
    let waiting = tokio::spawn(async move { while stream.next().await.is_some() {} });
    drop(router);
    assert!(clone.watch().next().await.is_some() && !waiting.is_finished());
    drop(clone);
    timeout(HANG, waiting).await.expect("it ends").unwrap();
    client.query_one("SELECT 1", &[]).await.unwrap();
}

#[tokio::test]
async fn nobody_is_ready_before_anybody_was_asked() {
    let database = database().await;
    let urls = || database.replica_urls();
    // Not within this test.
    let silent = crate::support::cluster().await.primary().proxy().unwrap();
    silent.silence(Direction::Both);
    let through = database.primary_url().replace(
        &format!(":{}", crate::support::cluster().await.primary().port()),
        &format!(":{}", silent.address().port()),
    );
    let router = Router::builder().primary(through).replicas(urls()).connect_timeout(HANG).build().unwrap();
    let readiness = router.readiness();
    assert!(!readiness.is_ready(), "{readiness}");
    // Replicas answer, and serve; who is the primary nobody knows yet.
    let mut watch = router.watch();
    let readiness = told(&mut watch, "replicas serve", |status| status.readiness().is_ready()).await.readiness();
    let replica = by(&readiness.eventual);
    assert!(replica.is_some_and(|(_, role)| role == Role::Replica) && by(&readiness.strong).is_none(), "{readiness}");
    let why = readiness.strong.to_string();
    assert!(why.contains("not asked yet") && why.contains(&silent.address().to_string()), "{why}");
}

#[tokio::test]
async fn without_probes_readiness_is_what_calls_have_told_and_can_be_asked_for() {
    let cluster = started(LocalCluster::builder()).await;
    let builder = Router::builder().primary(cluster.primary().url()).replica(cluster.replica(0).url());
    let builder = builder.probe_interval(None).fallback(Fallback::Never).connect_timeout(HANG);
    let router = builder.connect().await.unwrap();
    assert!(router.readiness().eventual.is_available());
    cluster.replica(0).stop().await.unwrap();
    // It asks nobody, however often it is called.
    for _ in 0..100 {
        assert!(router.readiness().eventual.is_available());
    }
    let asked = timeout(HANG, async {
        loop {
            let readiness = router.ask_readiness().await;
            if !readiness.eventual.is_available() {
                return readiness;
            }
            sleep(10 * MS).await;
        }
    });
    let readiness = asked.await.expect("it is found out by asking");
    assert!(readiness.is_ready() && readiness.strong.is_available(), "{readiness}");
    cluster.replica(0).start().await.unwrap();
    let asked = timeout(HANG, async {
        while !router.ask_readiness().await.eventual.is_available() {
            sleep(10 * MS).await;
        }
    });
    asked.await.expect("it is back");
}
