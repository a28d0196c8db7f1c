//! Replicas that come and go.

use std::{
    collections::BTreeSet,
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::stream;
use mainstem::{
    Consistency, ErrorKind, HostResolver, NodeCondition, Role, Router, RouterBuilder,
    testing::{LocalCluster, Node},
};
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};

use crate::support::{cluster, started};

/// Far longer than anything here may take: what it ends would have hung.
const HANG: Duration = Duration::from_secs(30);
const MS: Duration = Duration::from_millis(1);

/// A name service of one name, or one that is down.
#[derive(Clone, Default)]
struct Names(Arc<Mutex<Option<Vec<SocketAddr>>>>);

impl Names {
    fn of(addresses: impl IntoIterator<Item = SocketAddr>) -> Self {
        let names = Self::default();
        names.say(addresses);
        names
    }

    fn say(&self, addresses: impl IntoIterator<Item = SocketAddr>) {
        *self.0.lock().unwrap() = Some(addresses.into_iter().collect());
    }

    fn fail(&self) {
        *self.0.lock().unwrap() = None;
    }
}

impl HostResolver for Names {
    fn resolve(&self, host: &str, _: u16) -> Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>> {
        assert_eq!(host, "replicas.test");
        let answer = self.0.lock().unwrap().clone().ok_or_else(|| io::Error::other("the name server is down"));
        Box::pin(async { answer })
    }
}

fn address(node: &Node) -> SocketAddr {
    ([127, 0, 0, 1], node.port()).into()
}

/// The URL of a name, which no certificate speaks of here.
fn name_url(cluster: &LocalCluster) -> String {
    let url = cluster.primary().url();
    let (login, rest) = url.rsplit_once('@').unwrap();
    let database = rest.split_once('/').unwrap().1;
    format!("{login}@replicas.test/{database}{}sslmode=disable", if database.contains('?') { '&' } else { '?' })
}

fn by_name(cluster: &LocalCluster, names: &Names) -> RouterBuilder {
    let builder = Router::builder().primary(cluster.primary().url()).replicas_by_name(name_url(cluster));
    builder.resolver(names.clone()).resolve_interval(10 * MS).probe_interval(50 * MS)
}

fn listed(router: &Router) -> BTreeSet<String> {
    router.status().nodes.iter().skip(1).map(|node| node.name.to_string()).collect()
}

fn names<'a>(nodes: impl IntoIterator<Item = &'a Node>) -> BTreeSet<String> {
    nodes.into_iter().map(|node| address(node).to_string()).collect()
}

async fn until(router: &Router, what: impl Fn(&Router) -> bool) {
    let known = async {
        while !what(router) {
            sleep(MS).await;
        }
    };
    timeout(HANG, known).await.unwrap_or_else(|_| panic!("{:#?}", router.status()));
}

/// Reads until this node serves one.
async fn until_it_serves(router: &Router, node: &Node) {
    let name = address(node).to_string();
    let served = async {
        loop {
            let client = router.client_at(Consistency::Eventual).await.unwrap();
            client.query_one("SELECT 1", &[]).await.unwrap();
            if client.node().ends_with(name.rsplit_once(':').unwrap().1) {
                return;
            }
        }
    };
    timeout(HANG, served).await.unwrap_or_else(|_| panic!("{name} does not serve: {:#?}", router.status()));
}

#[tokio::test]
async fn the_addresses_of_a_name_are_replicas_that_come_and_go() {
    let cluster = cluster().await;
    let (one, two) = (cluster.replica(0), cluster.replica(1));
    let names_of = Names::of([address(one)]);
    let router = by_name(cluster, &names_of).connect().await.unwrap();
    assert_eq!(listed(&router), names([one]));
    until_it_serves(&router, one).await;
    let held = router.client_at(Consistency::Eventual).await.unwrap();
    assert_eq!(held.node(), address(one).to_string());

    names_of.say([address(two), address(one), address(one)]);
    until(&router, |router| listed(router) == names([one, two])).await;
    until(&router, |router| router.status().nodes[2].condition == NodeCondition::SlowStart).await;
    until_it_serves(&router, two).await;

    // Who has it keeps it, and nobody else gets one.
    names_of.say([address(two)]);
    until(&router, |router| listed(router) == names([two])).await;
    for _ in 0..50 {
        let client = router.client_at(Consistency::Eventual).await.unwrap();
        assert_eq!(client.node(), address(two).to_string());
    }
    held.query_one("SELECT 1", &[]).await.unwrap();
    drop(held);

    // An answer without addresses, or none, is no answer.
    let error = |router: &Router| router.status().sources[0].error.clone();
    names_of.say([]);
    until(&router, |router| error(router).is_some_and(|error| error.contains("has no address"))).await;
    names_of.fail();
    until(&router, |router| error(router).is_some_and(|error| error.contains("the name server is down"))).await;
    let source = router.status().sources.remove(0);
    assert_eq!((&*source.name, source.nodes.len()), ("replicas.test:5432", 1));
    assert!(source.age.is_some() && listed(&router) == names([two]));
    until_it_serves(&router, two).await;

    names_of.say([address(one)]);
    until(&router, |router| error(router).is_none() && listed(router) == names([one])).await;
    until_it_serves(&router, one).await;
}

#[tokio::test]
async fn a_name_is_looked_up_when_connecting_fails() {
    let cluster = cluster().await;
    let (proxy, two) = (cluster.replica(0).proxy().unwrap(), cluster.replica(1));
    let names_of = Names::of([proxy.address()]);
    let builder = by_name(cluster, &names_of).resolve_interval(Duration::MAX);
    let router = builder.connect().await.unwrap();
    names_of.say([address(two)]);
    proxy.refuse().unwrap();
    proxy.cut().unwrap();
    until(&router, |router| listed(router) == names([two])).await;
    until_it_serves(&router, two).await;
}

#[tokio::test]
async fn a_name_that_cannot_be_looked_up_keeps_nobody_from_starting() {
    let cluster = cluster().await;
    let names_of = Names::default();
    let error = by_name(cluster, &names_of).require_replicas(true).connect().await.unwrap_err();
    assert!(error.kind() == ErrorKind::Unavailable && error.report().contains("replicas.test"), "{}", error.report());
    for router in [by_name(cluster, &names_of).connect().await.unwrap(), by_name(cluster, &names_of).build().unwrap()] {
        router.client().await.unwrap();
        names_of.say([address(cluster.replica(0))]);
        until_it_serves(&router, cluster.replica(0)).await;
        names_of.fail();
    }
}

#[tokio::test]
async fn a_list_replaces_the_one_before_if_it_can_be_read() {
    let cluster = cluster().await;
    let [one, two] = [0, 1].map(|replica| cluster.replica(replica).url());
    let builder = Router::builder().primary(cluster.primary().url()).replica(&one).probe_interval(50 * MS);
    let router = builder.max_connections(1).connect().await.unwrap();
    let before = listed(&router);
    let wrong: [(&[&str], _); 3] = [
        (&[], ErrorKind::InvalidInput),
        (&[&two, "postgres://app:secret@a,b/shop"], ErrorKind::Configuration),
        (&["postgres://app:secret@/shop"], ErrorKind::Configuration),
    ];
    for (urls, kind) in wrong {
        let error = router.set_replicas(urls.iter().copied()).unwrap_err();
        assert!(error.kind() == kind && !error.report().contains("secret"), "{}", error.report());
        assert_eq!(listed(&router), before);
        assert!(!format!("{router:?}").contains("secret"));
    }
    let pid = async || -> i32 {
        let client = router.client_at(Consistency::Eventual).await.unwrap();
        client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0)
    };
    let kept = pid().await;
    router.set_replicas([&one]).unwrap();
    assert_eq!(pid().await, kept, "the same URL is the same node");
    router.set_replicas([&two]).unwrap();
    until_it_serves(&router, cluster.replica(1)).await;
    assert!(router.status().nodes.iter().all(|node| !before.contains(&*node.name)));
    // Many more than there are places.
    for round in 0..100 {
        router.set_replicas([if round % 2 == 0 { &one } else { &two }]).unwrap();
        until_it_serves(&router, cluster.replica(round % 2)).await;
    }
}

#[tokio::test]
async fn a_stream_of_lists_is_followed() {
    let cluster = cluster().await;
    let (lists, receiver) = mpsc::unbounded_channel();
    let changes = stream::unfold(receiver, async |mut lists: mpsc::UnboundedReceiver<_>| {
        lists.recv().await.map(|list| (list, lists))
    });
    let builder = Router::builder().primary(cluster.primary().url()).replica_changes(changes);
    let router = builder.probe_interval(50 * MS).connect().await.unwrap();
    for replica in [0, 1] {
        lists.send(vec![cluster.replica(replica).url()]).unwrap();
        until_it_serves(&router, cluster.replica(replica)).await;
        lists.send(Vec::new()).unwrap();
        until(&router, |router| router.status().sources[0].error.is_some()).await;
        assert_eq!(listed(&router).len(), 1);
    }
    drop(lists);
    until_it_serves(&router, cluster.replica(1)).await;
}

#[tokio::test]
async fn a_server_of_another_cluster_that_is_added_serves_nobody() {
    let (cluster, other) = (cluster().await, started(LocalCluster::builder().replicas(0)).await);
    let builder = Router::builder().primary(cluster.primary().url()).replica(cluster.replica(0).url());
    let router = builder.probe_interval(20 * MS).connect().await.unwrap();
    router.set_replicas([other.primary().url(), cluster.replica(0).url()]).unwrap();
    // It is not asked for anything before it is known what it is.
    let foreign = || {
        let nodes = router.status().nodes;
        nodes.into_iter().find(|node| node.name.ends_with(&other.primary().port().to_string())).unwrap()
    };
    loop {
        let client = timeout(HANG, router.client_at(Consistency::Eventual)).await.expect("no hang").unwrap();
        client.query_one("SELECT 1", &[]).await.unwrap();
        assert_eq!((client.role(), client.node() == &*foreign().name), (Role::Replica, false));
        match foreign().condition {
            NodeCondition::Joining => {}
            NodeCondition::Foreign => break,
            state => panic!("{state:?}"),
        }
    }
    for _ in 0..50 {
        let client = router.client_at(Consistency::Eventual).await.unwrap();
        assert_ne!(client.node(), &*foreign().name);
    }
}

#[tokio::test]
async fn the_node_that_takes_writes_stays_until_another_takes_over() {
    let cluster = started(LocalCluster::builder().replicas(2)).await;
    let (old, urls) = (cluster.primary(), [0, 1].map(|replica| cluster.replica(replica).url()));
    let builder = Router::builder().primary(old.url()).replicas(&urls);
    let router = builder.probe_interval(20 * MS).resolve_interval(20 * MS).connect().await.unwrap();
    let new = cluster.replica(0);
    let name = router.status().nodes[1].name.clone();
    let (old_address, other) = (address(old), address(cluster.replica(1)));
    new.promote().await.unwrap();
    until(&router, |router| router.status().primary.known() == Some(&name)).await;
    // It is no replica any more, as lists of these say.
    router.set_replicas([&urls[1]]).unwrap();
    for _ in 0..50 {
        assert_eq!(router.client().await.unwrap().node(), &*name);
    }
    // Only a name leads to it, from the beginning; and the primary of the settings runs and takes writes.
    let names_of = Names::of([address(new), other]);
    let login = urls[0].rsplit_once('@').unwrap().0.to_owned();
    let by_name = format!("{login}@replicas.test/postgres?sslmode=disable");
    let old_url = format!("{login}@{old_address}/postgres");
    for _ in 0..5 {
        let builder = Router::builder().primary(&old_url).replicas_by_name(&by_name).resolver(names_of.clone());
        let router = builder.build().unwrap();
        assert_eq!(router.client().await.unwrap().node(), address(new).to_string());
    }
}
