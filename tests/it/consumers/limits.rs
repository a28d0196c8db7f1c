//! Limits of calls that read several times, and answers that prove nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use mainstem::{
    AppendCondition, Consistency, ErrorKind, EventStore, Filter, PostgresEventStore, Router, Start, Subscribe,
    testing::{Direction, LocalCluster},
};
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};

use super::{HANG, append, consumer, lose_events_after, next, number};
use crate::{
    subscriptions,
    support::{cluster, event, started, store},
};

/// One connection is the whole pool, and somebody keeps it: the fifty share four more.
#[tokio::test]
async fn however_many_consumers_a_busy_process_has_few_connections_say_that_they_live() {
    let (database, router, store) = store().await;
    append(&store, 1).await;
    // A name of its own: probes of others may log in again meanwhile.
    let builder = Router::builder().primary(format!("{}?application_name=busy", database.primary_url()));
    let tight = builder.max_connections(1).probe_interval(None).connect().await.unwrap();
    let busy = PostgresEventStore::new(&tight);
    let mut consumers = Vec::new();
    for n in 0..50 {
        let builder = busy.consumer(format!("c{n}"), &Filter::any_event()).consistency(Consistency::Strong);
        let mut consumer = builder.takeover(Duration::from_secs(2)).build().unwrap();
        drop(next(&mut consumer).await);
        consumers.push(consumer);
    }
    let kept = tight.client().await.unwrap();
    let client = router.client().await.unwrap();
    let logged_in = async || -> BTreeMap<i32, String> {
        let sql = "SELECT pid, concat_ws(' ', state, wait_event, query_start, left(query, 100)) \
                   FROM pg_stat_activity WHERE application_name = 'busy' AND backend_type = 'client backend'";
        client.query(sql, &[]).await.unwrap().iter().map(|row| (row.get(0), row.get(1))).collect()
    };
    let before = logged_in().await;
    let mut new = BTreeSet::new();
    // More than two leases.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(3) {
        new.extend(logged_in().await.into_keys().filter(|pid| !before.contains_key(pid)));
        sleep(Duration::from_millis(1)).await;
    }
    // A machine without a moment to spare may lose one. With a login for each sign of life there were hundreds.
    assert!((1..=8).contains(&new.len()), "{} have logged in", new.len());
    let alive = "SELECT count(*) FROM mainstem.events_members WHERE alive_until > clock_timestamp()";
    assert_eq!(number(&router, alive).await, 50);
    // They are closed once nobody needs them.
    drop((kept, consumers));
    let begun = Instant::now();
    loop {
        let left: BTreeMap<_, _> = logged_in().await.into_iter().filter(|(pid, _)| new.contains(pid)).collect();
        if left.is_empty() {
            break;
        }
        assert!(begun.elapsed() < HANG, "they are still there: {left:#?}");
        sleep(Duration::from_millis(10)).await;
    }
}

/// If the connection of the call before is not free again, the limit ends while another one is opened.
fn out_of_time(error: &mainstem::Error) -> bool {
    matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Unavailable)
}

/// Finding where it begins takes some ten reads, and each is well within the limit.
#[tokio::test]
async fn a_fetch_has_one_limit_and_a_subscription_one_for_each_read() {
    let (database, _router, store) = store().await;
    append(&store, 500).await;
    let proxy = cluster().await.primary().proxy().unwrap();
    let router = Router::builder().primary(database.url_through(&proxy)).connect().await.unwrap();
    let far = PostgresEventStore::new(&router);
    let middle = store.query(&Filter::any_event().after_position(250)).await.unwrap()[0].recorded_at();
    let start = Start::RecordedFrom(middle);
    far.fetch(&Filter::any_event(), start.clone()).await.unwrap();
    proxy.delay(Direction::ToClient, Duration::from_millis(100));
    let limit = Duration::from_millis(450);
    let error = far.fetch(&Filter::any_event(), start.clone()).timeout(limit).await.unwrap_err();
    assert!(out_of_time(&error), "{}", error.report());
    let control = far.consumer_control("c");
    drop(next(&mut consumer(&store)).await);
    let error = control.clone().timeout(limit).reset(start.clone()).await.unwrap_err();
    assert!(out_of_time(&error), "{}", error.report());
    let mut each = far.subscribe(&Filter::any_event()).start_at(start).timeout(limit).build();
    assert_eq!(subscriptions::next(&mut each).await.recorded_at(), middle);
}

/// One replica shows how far the consumer is, and the other one has not got as far as to say that the event is another one.
#[tokio::test]
async fn a_lagging_replica_never_lets_a_lost_event_count_as_handled() {
    let cluster = started(LocalCluster::builder().replicas(2)).await;
    let builder = Router::builder().primary(cluster.primary().url()).max_replica_lag(HANG * 10);
    let builder = builder.replicas([0, 1].map(|index| cluster.replica(index).url()));
    let router = builder.connect().await.unwrap();
    let store = PostgresEventStore::new(&router);
    store.migrate().await.unwrap();
    append(&store, 5).await;
    let mut consumer = consumer(&store);
    let batch = next(&mut consumer).await;
    cluster.wait_until_caught_up().await.unwrap();
    cluster.replica(1).pause_replay().await.unwrap();
    let lost = store.append([event("A", json!({}))], AppendCondition::none()).await.unwrap().last();
    lose_events_after(&router, 5).await;
    append(&store, 3).await;
    consumer.commit(&batch).await.unwrap();
    let batch = next(&mut consumer).await;
    consumer.commit(&batch).await.unwrap();
    let there = async {
        let client =
            router.client_at(Consistency::AtLeast(router.client().await.unwrap().token().await.unwrap())).await;
        client.unwrap().node().to_owned()
    };
    assert_eq!(timeout(HANG, there).await.unwrap(), *router.status().nodes[1].name, "the other one has all of it");
    for _ in 0..20 {
        let waiting = store.consumer_control("c").wait_until_handled(lost).consistency(Consistency::Eventual);
        let error = waiting.timeout(Duration::from_millis(500)).await.expect_err("it is lost");
        assert!(matches!(error.kind(), ErrorKind::LogDiverged | ErrorKind::Timeout), "{}", error.report());
    }
}
