//! Waiting for new events in the log: waiters are notified, and it costs next to nothing.

use std::time::{Duration, Instant};

use futures_util::future::{poll_fn, try_join_all};
use mainstem::{
    AppendCondition, Consistency, EventStore, Filter, PostgresEventStore, Role, Router, Subscribe, Subscription,
    testing::{LocalCluster, Node, TestDatabase},
    tokio_postgres::{self, AsyncMessage, NoTls},
};
use serde_json::json;
use tokio::time::{sleep, timeout};

use crate::support::{event, router, sessions, started, store};

/// Far longer than anything here may take: what it ends would have hung.
const HANG: Duration = Duration::from_secs(30);

/// A session that listens for appends: the last thing that it has asked for is the head alone. (So have the pool's who have
/// found nothing new: see [`listening`].)
const LISTENS: &str = "query LIKE '-- Where the log ends.%'";

async fn append(store: &PostgresEventStore) -> u64 {
    store.append([event("A", json!({}))], AppendCondition::none()).await.unwrap().last().position()
}

fn follow(store: &PostgresEventStore, level: Consistency) -> Subscription {
    store.subscribe(&Filter::any_event()).consistency(level).build()
}

/// Waits until so many sessions listen. Again and again each session of the pool asks for something else.
async fn listening(database: &TestDatabase<'_>, router: &Router, count: i64) {
    let forgetting = async {
        loop {
            let all = try_join_all((0..10).map(|_| router.client_at(Consistency::Strong))).await.unwrap();
            for client in all {
                client.query("SELECT 1", &[]).await.unwrap();
            }
            sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::select! {
        () = sessions(database, LISTENS, count) => {}
        () = forgetting => {}
    }
}

async fn next(subscription: &mut Subscription) -> u64 {
    let next = async {
        loop {
            if let Ok(event) = subscription.next().await.expect("it goes on") {
                return event.position();
            }
        }
    };
    timeout(HANG, next).await.expect("an event in time")
}

#[tokio::test]
async fn an_append_is_announced_on_the_logs_channel_after_its_commit() {
    let (database, _router, store) = store().await;
    let (client, mut connection) = tokio_postgres::connect(&database.primary_url(), NoTls).await.unwrap();
    let (send, mut told) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
            if let AsyncMessage::Notification(notification) = message {
                let _ = send.send((notification.channel().to_owned(), notification.payload().to_owned()));
            }
        }
    });
    client.batch_execute(&format!("LISTEN {}", store.name().channel())).await.unwrap();
    append(&store).await;
    let first = timeout(HANG, told.recv()).await.expect("a notification").unwrap();
    assert_eq!(first, (store.name().channel(), "1".to_owned()));
    // Many are told of together, and the last one is not forgotten.
    for _ in 0..50 {
        append(&store).await;
    }
    let mut notifications = 0;
    let last = async {
        while told.recv().await.unwrap().1 != "51" {
            notifications += 1;
        }
    };
    timeout(HANG, last).await.expect("the last one");
    assert!(notifications < 50);

    let other = PostgresEventStore::builder(&router(&database).await).notify_interval(None).build();
    append(&other).await;
    append(&store).await;
    assert_eq!(timeout(HANG, told.recv()).await.unwrap().unwrap().1, "53", "it keeps its appends to itself");
}

#[tokio::test]
async fn appends_of_another_process_arrive_and_one_connection_listens() {
    let (database, own_router, store) = store().await;
    // Another store shares nothing with the first one but the database.
    let other = PostgresEventStore::new(&router(&database).await);
    for told in [true, false] {
        let other = match told {
            true => other.clone(),
            false => PostgresEventStore::builder(&router(&database).await).notify_interval(None).build(),
        };
        let levels = [Consistency::Strong, Consistency::Eventual];
        let mut all: Vec<Subscription> =
            (0..20).flat_map(|_| levels.clone()).map(|level| follow(&store.clone(), level)).collect();
        let first = append(&other).await;
        for subscription in &mut all {
            while next(subscription).await != first {}
        }
        let waiting: Vec<_> = all
            .into_iter()
            .map(|mut subscription| tokio::spawn(async move { (next(&mut subscription).await, subscription) }))
            .collect();
        sleep(Duration::from_millis(100)).await;
        listening(&database, &own_router, 1).await;
        let second = append(&other).await;
        for waiting in waiting {
            assert_eq!(timeout(HANG, waiting).await.unwrap().unwrap().0, second);
        }
    }
    // With nobody left to tell, nobody listens.
    listening(&database, &own_router, 0).await;
}

#[tokio::test]
async fn a_hundred_idle_subscriptions_ask_next_to_nothing() {
    let cluster = started(LocalCluster::builder().setting("log_statement", "all")).await;
    let database = cluster.database().await.unwrap();
    let builder = Router::builder().primary(database.primary_url()).replicas(database.replica_urls());
    // Each connection of the pool costs the next probe a statement more, once.
    let router = builder.max_connections(2).connect().await.unwrap();
    let store = PostgresEventStore::new(&router);
    store.migrate().await.unwrap();
    append(&store).await;
    let waiting: Vec<_> = (0..100)
        .map(|number| {
            let level = if number % 2 == 0 { Consistency::Strong } else { Consistency::Eventual };
            let mut subscription = follow(&store, level);
            tokio::spawn(async move { while next(&mut subscription).await != 2 {} })
        })
        .collect();
    sleep(Duration::from_secs(2)).await;
    let count = |node: &Node| {
        let log = node.log().unwrap();
        log.lines().filter(|line| line.contains("execute ") || line.contains("statement: ")).count() as u64
    };
    let before: Vec<u64> = cluster.nodes().iter().map(count).collect();
    let since = Instant::now();
    sleep(Duration::from_secs(5)).await;
    let after: Vec<u64> = cluster.nodes().iter().map(count).collect();
    let seconds = since.elapsed().as_secs();
    for (before, after) in before.into_iter().zip(after) {
        let statements = after - before;
        // Two a second are the probes'.
        assert!(before > 0 && statements <= 2 * (seconds + 1) + 2, "{statements} statements in {seconds} s");
    }
    append(&store).await;
    for waiting in waiting {
        timeout(HANG, waiting).await.expect("all are told").unwrap();
    }
}

#[tokio::test]
async fn with_the_primary_out_of_reach_replicas_are_followed_all_the_same() {
    let cluster = started(LocalCluster::builder()).await;
    let database = cluster.database().await.unwrap();
    let proxy = cluster.primary().proxy().unwrap();
    let builder = Router::builder().primary(database.url_through(&proxy)).replicas(database.replica_urls());
    let store = PostgresEventStore::new(&builder.connect().await.unwrap());
    store.migrate().await.unwrap();
    let direct = Router::builder().primary(database.primary_url()).connect().await.unwrap();
    let elsewhere = PostgresEventStore::new(&direct);
    let mut subscription = follow(&store, Consistency::Eventual);
    append(&elsewhere).await;
    assert_eq!(next(&mut subscription).await, 1);
    // Once it is cut off, and once before anything was heard at all.
    proxy.refuse().unwrap();
    for position in 2..5 {
        append(&elsewhere).await;
        let batch = timeout(HANG, async {
            loop {
                if let Ok(batch) = subscription.next_batch().await.unwrap() {
                    return batch;
                }
            }
        });
        let batch = batch.await.expect("in time");
        assert_eq!((batch.mark().position(), batch.role()), (position, Role::Replica));
    }
    let deaf = PostgresEventStore::new(
        &Router::builder().primary(database.url_through(&proxy)).replicas(database.replica_urls()).build().unwrap(),
    );
    let mut subscription = follow(&deaf, Consistency::Eventual);
    for position in 1..5 {
        assert_eq!(next(&mut subscription).await, position);
    }
    append(&elsewhere).await;
    assert_eq!(next(&mut subscription).await, 5);
    proxy.restore().unwrap();
    append(&elsewhere).await;
    assert_eq!(next(&mut subscription).await, 6);
}

#[cfg(feature = "bb8")]
#[tokio::test]
async fn a_pool_that_cannot_listen_is_asked_instead() {
    let (database, _router, store) = store().await;
    let config = database.primary_url().parse().unwrap();
    let manager = bb8_postgres::PostgresConnectionManager::new(config, NoTls);
    let pool = bb8::Pool::builder().max_size(4).build(manager).await.unwrap();
    let borrowed = PostgresEventStore::new(&Router::builder().primary_pool(pool).build().unwrap());
    let mut subscription = follow(&borrowed, Consistency::Strong);
    for position in 1..4 {
        append(&store).await;
        assert_eq!(next(&mut subscription).await, position);
    }
}
