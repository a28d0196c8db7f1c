//! On a cluster that has a failover, every metric in the list is recorded, and no other.

use std::{future::IntoFuture, time::Duration};

use futures_util::future::join_all;
use mainstem::{
    AppendCondition, CommandExecutor, CommandRecord, Consistency, ConsumerTransaction, Error, ErrorKind, Event,
    EventStore, Fallback, Filter, PoisonPolicy, PostgresEventStore, ReadModel, ReadModels, Result, Router,
    RouterStatus, SnapshotKey, SnapshotStore,
    telemetry::{
        CONDITION, CONNECTION_STATE, CONSUMER, LEVEL, NODE, OUTCOME, POOL, REASON, ROLE,
        metrics::{
            ALL, CONNECTION_COUNT, CONNECTION_MAX, CONSUMER_EVENTS, CONSUMER_LAG, CONSUMER_SKIPPED, LOADED,
            NODE_CONDITION, NODE_EJECTIONS, NODE_ROLE, PRIMARY_CHANGES, PRIMARY_IS, PRIMARY_STATE, ROUTE_DECISIONS,
            ROUTE_WAIT, SNAPSHOT_PROJECTIONS, STORE_SHARED_READS, WAIT,
        },
    },
};
use serde_json::json;
use tokio::time::{sleep, timeout};

use super::{HANG, MS, Take, Taken};
use crate::support::{RecordedMetrics, cluster_with_log, event};

/// Cannot apply one of its events.
struct Picky;

impl ReadModel for Picky {
    fn name(&self) -> String {
        "picky".to_owned()
    }

    fn filter(&self) -> Result<Filter> {
        Filter::matching().any_type_of(["Good", "Bad"]).finish()
    }

    async fn clear(&mut self, _: &ConsumerTransaction) -> Result<()> {
        Ok(())
    }

    async fn apply(&mut self, event: &Event, _: &ConsumerTransaction) -> Result<()> {
        if event.event_type() == "Bad" { Err(Error::new(ErrorKind::InvalidInput, "bad")) } else { Ok(()) }
    }
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let so = async {
        while !is_so() {
            sleep(20 * MS).await;
        }
    };
    timeout(HANG, so).await.unwrap_or_else(|_| panic!("never {what}"));
}

async fn until_snapshot(what: &str, router: &Router, is_so: impl Fn(&RouterStatus) -> bool) {
    until(what, || is_so(&router.status())).await;
}

#[tokio::test]
async fn all_figures_of_the_list_are_told_and_no_others() {
    let (metrics, _kept) = RecordedMetrics::keep();
    let (cluster, router, store) = cluster_with_log(1, |builder| {
        builder.fallback(Fallback::Protect).fallback_concurrency(1).fallback_wait(50 * MS).replay_wait(50 * MS)
    })
    .await;
    let (primary, replica) = (router.status().nodes[0].name.clone(), router.status().nodes[1].name.clone());
    decides(&store).await;
    projects(&store, &metrics).await;
    shares(&store, &metrics).await;

    let is = |figure, labels: &[(&str, &str)]| metrics.sum(figure, labels) == 1.0;
    // How things stand is told now and then, and not by who appends.
    until("the primary is shown", || is(&NODE_ROLE, &[(NODE, &*primary), (ROLE, "primary")])).await;
    until("it is known", || is(&PRIMARY_STATE, &[(PRIMARY_IS, "known")])).await;
    until("the replica is shown", || is(&NODE_ROLE, &[(NODE, &*replica), (ROLE, "replica")])).await;
    assert!(
        !is(&NODE_ROLE, &[(NODE, &*replica), (ROLE, "primary")]) && !is(&PRIMARY_STATE, &[(PRIMARY_IS, "unknown")])
    );
    until("the pool's size is shown", || metrics.sum(&CONNECTION_MAX, &[(POOL, &*primary)]) > 0.0).await;
    let idle = [(POOL, &*primary), (CONNECTION_STATE, "idle")];
    until("a connection lies idle", || metrics.sum(&CONNECTION_COUNT, &idle) > 0.0).await;

    // The replica is behind, so that its read waits and goes to the primary, which has room for one.
    cluster.replica(0).pause_replay().await.unwrap();
    let appended = store.append([event("Good", json!({}))], AppendCondition::none()).await.unwrap();
    let behind = Consistency::AtLeast(appended.token().clone());
    let served = store.query(&Filter::any_event()).consistency(behind).await.unwrap();
    assert_eq!(served.node(), &*primary);
    assert!(metrics.times(&ROUTE_WAIT, &[(WAIT, "replay"), (LEVEL, "at_least")]) > 0);
    let fallback = [(REASON, "fallback"), (LEVEL, "at_least"), (OUTCOME, "succeeded")];
    assert!(metrics.sum(&ROUTE_DECISIONS, &fallback) > 0.0);
    cluster.replica(0).resume_replay().await.unwrap();
    cluster.wait_until_caught_up().await.unwrap();

    // It dies: it is taken out of service, and the primary serves for it, one at a time.
    cluster.replica(0).stop().await.unwrap();
    until("it is out", || metrics.sum(&NODE_EJECTIONS, &[(NODE, &*replica)]) > 0.0).await;
    until("that is shown", || is(&NODE_CONDITION, &[(NODE, &*replica), (CONDITION, "ejected")])).await;
    assert!(!is(&NODE_CONDITION, &[(NODE, &*replica), (CONDITION, "serving")]));
    let held = router.client_at(Consistency::Eventual).await.unwrap();
    assert_eq!(held.node(), &*primary);
    let refused = router.client_at(Consistency::Eventual).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ReplicasUnavailable);
    drop(held);

    // It is back, and becomes the primary.
    cluster.replica(0).start().await.unwrap();
    until_snapshot("it is back", &router, |it| it.nodes[1].condition == mainstem::NodeCondition::Serving).await;
    assert_eq!(metrics.sum(&PRIMARY_CHANGES, &[]), 0.0);
    cluster.primary().stop().await.unwrap();
    cluster.replica(0).promote().await.unwrap();
    until_snapshot("there is a new primary", &router, |it| it.primary.known() == Some(&replica)).await;
    assert_eq!(metrics.sum(&PRIMARY_CHANGES, &[]), 1.0);
    until("its role is shown", || is(&NODE_ROLE, &[(NODE, &*replica), (ROLE, "primary")])).await;

    let narrow = Router::builder().primary(cluster.primary().url()).max_connections(1).acquire_timeout(500 * MS);
    let narrow = narrow.probe_interval(None).build().unwrap();
    let held = narrow.client().await.unwrap();
    narrow.client().await.unwrap_err();
    drop(held);

    let listed: Vec<&str> = ALL.iter().map(|figure| figure.name).collect();
    for (name, kind, labels) in metrics.shapes() {
        let figure = ALL.iter().find(|figure| figure.name == name).unwrap_or_else(|| panic!("{name} is not listed"));
        assert_eq!(figure.kind, kind, "{name}");
        assert!(labels.iter().all(|label| figure.labels.contains(&label.as_str())), "{labels:?} of {name}");
    }
    let told = metrics.names();
    let missing: Vec<_> = listed.into_iter().filter(|name| !told.contains(*name)).collect();
    assert!(missing.is_empty(), "nobody tells {missing:?}");
}

/// Commands that succeed, repeat, and give up; a state from a snapshot.
async fn decides(store: &PostgresEventStore) {
    let executor = CommandExecutor::new(store.clone()).base_delay(MS).max_attempts(2);
    let record = CommandRecord::new("take-1", "Take");
    for _ in 0..2 {
        executor.execute(&Take::Always).recorded(record.clone()).await.unwrap();
    }
    // Rivals: some conflict, and some of these give up.
    let mut gave_up = false;
    for _ in 0..50 {
        let all = (0..10).map(|_| async { executor.execute(&Take::Always).await.is_err() });
        gave_up |= join_all(all).await.contains(&true);
        if gave_up {
            break;
        }
    }
    assert!(gave_up, "nobody was in anybody's way");
    let any = Filter::any_event();
    let count = |state: &mut u64, _: &Event| {
        *state += 1;
        Ok(())
    };
    for _ in 0..2 {
        let key = SnapshotKey::new("count", 1, &any);
        store.project(&key, 0_u64, count).consistency(Consistency::Strong).save_every(1).await.unwrap();
    }
    executor.read(Taken::default()).await.unwrap();
}

/// A projection that passes over an event.
async fn projects(store: &PostgresEventStore, metrics: &RecordedMetrics) {
    assert_eq!(metrics.sum(&SNAPSHOT_PROJECTIONS, &[(LOADED, "not_found")]), 1.0);
    assert_eq!(metrics.sum(&SNAPSHOT_PROJECTIONS, &[(LOADED, "used")]), 1.0);
    let events = ["Good", "Bad", "Good"].map(|event_type| event(event_type, json!({})));
    store.append(events, AppendCondition::none()).await.unwrap();
    let policy = PoisonPolicy::skip().retries(1, MS);
    let projections = ReadModels::builder(store).with(Picky).unwrap().poison_policy(policy).start().unwrap();
    projections.wait_until_caught_up(HANG, |_| {}).await.unwrap();
    let of = [(CONSUMER, "picky")];
    assert_eq!((metrics.sum(&CONSUMER_EVENTS, &of), metrics.sum(&CONSUMER_SKIPPED, &of)), (3.0, 1.0));
    assert_eq!(metrics.sum(&CONSUMER_LAG, &of), 0.0);
    timeout(Duration::from_secs(30), projections.stop()).await.unwrap();
}

/// Reads that are alike: the first one is made, and the second for all behind it.
async fn shares(store: &PostgresEventStore, metrics: &RecordedMetrics) {
    let before = metrics.sum(&STORE_SHARED_READS, &[]);
    let any = Filter::any_event();
    let reads = join_all((0..8).map(|_| store.query(&any).into_future())).await;
    assert!(reads.iter().all(|read| read.as_ref().is_ok_and(|read| !read.is_empty())));
    assert_eq!(metrics.sum(&STORE_SHARED_READS, &[]) - before, 6.0);
}
