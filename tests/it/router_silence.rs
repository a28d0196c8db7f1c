//! A node that falls silent with its sockets open: at the log-in, while idle, in the middle of an answer.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use futures_util::future::{join_all, try_join_all};
use mainstem::{
    AppendCondition, Client, Consistency, EventStore, Fallback, Filter, NodeCondition, PostgresEventStore, Result,
    Role, Router, RouterBuilder,
    testing::{Direction, FaultProxy, TestDatabase},
};
use serde_json::json;
use tokio::time::{sleep, timeout};

use crate::support::{cluster, database, event, sessions};

/// Far longer than anything here may take: what it ends would have hung.
const HANG: Duration = Duration::from_secs(60);

/// The limits of these routers on connecting and on a call. A call that waits for both has them and the slack.
const LIMIT: Duration = Duration::from_millis(400);
const SLACK: Duration = Duration::from_secs(3);

/// An answer of many packets.
const LONG: &str = "SELECT string_agg(md5(n::text), '') FROM generate_series(1, 20000) AS n";

async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(HANG, what).await.expect("no hang")
}

/// A router of which the first replica is behind a proxy. The other nodes answer all the time.
async fn rig(database: &TestDatabase<'_>) -> (RouterBuilder, FaultProxy) {
    let proxy = cluster().await.replica(0).proxy().unwrap();
    let builder = Router::builder().primary(database.primary_url()).replica(database.url_through(&proxy));
    // There is always somebody who may serve: what a call waits for is the silent node only.
    let builder = builder.fallback(Fallback::Unlimited).max_connections(4);
    (builder.connect_timeout(LIMIT).call_timeout(LIMIT).acquire_timeout(4 * LIMIT), proxy)
}

async fn ask(client: &Client) -> Result<()> {
    client.query_one("SELECT 1", &[]).await.map(drop)
}

/// How long a call takes at most, of which some come at once, again and again. Says what became of them.
async fn longest(calls: usize, call: impl AsyncFn() -> Result<()>) -> (Duration, usize) {
    let (mut longest, mut failed) = (Duration::ZERO, 0);
    for _ in 0..calls / 4 {
        let timed = (0..4).map(|_| async {
            let start = Instant::now();
            let outcome = soon(call()).await;
            (start.elapsed(), outcome)
        });
        for (took, outcome) in join_all(timed).await {
            longest = longest.max(took);
            failed += usize::from(outcome.is_err());
        }
    }
    (longest, failed)
}

/// Waits until the node behind the proxy serves again, and says how long that took.
async fn healed(router: &Router, proxy: &FaultProxy) -> Duration {
    let start = Instant::now();
    let name = proxy.address().to_string();
    let serves = async || match router.client_at(Consistency::Eventual).await {
        Ok(client) => client.node() == name && ask(&client).await.is_ok(),
        Err(_) => false,
    };
    soon(async {
        while !serves().await {
            sleep(Duration::from_millis(2)).await
        }
    })
    .await;
    start.elapsed()
}

/// As many connections at once as the pool may have, of the role, and each of them works.
async fn all_places(router: &Router, level: Consistency, role: Role) {
    let capacity = router.status().nodes.iter().find(|node| node.role == role).unwrap().capacity.unwrap();
    let all = try_join_all((0..capacity).map(|_| router.client_at(level.clone())));
    let clients = soon(all).await.unwrap_or_else(|error| panic!("{}", error.report()));
    assert!(clients.iter().all(|client| client.role() == role));
    for client in &clients {
        ask(client).await.unwrap();
    }
}

#[tokio::test]
async fn a_silent_log_in_costs_no_call_more_than_the_connect_timeout() {
    let database = database().await;
    let (builder, proxy) = rig(&database).await;
    let others = database.replica_urls().remove(1);
    let router = builder.replica(others).build().unwrap();
    proxy.silence(Direction::Both);
    let served = async || ask(&router.client_at(Consistency::Eventual).await?).await;
    let (longest, failed) = longest(100, served).await;
    assert!(longest < LIMIT + SLACK && failed == 0, "{longest:?}, {failed} failed");
    let state = router.status().nodes[1].condition.clone();
    assert!(matches!(state, NodeCondition::Ejected { .. }), "{state:?}");
    proxy.restore().unwrap();
    eprintln!(
        "silent at the log-in: the longest call took {longest:?}, healed after {:?}",
        healed(&router, &proxy).await
    );
}

#[tokio::test]
async fn silent_idle_connections_cost_no_call_more_than_its_limit() {
    let database = database().await;
    let (builder, proxy) = rig(&database).await;
    let router = builder.max_connections(8).build().unwrap();
    let ask_one = async || ask(&router.client_at(Consistency::Eventual).await?).await;
    all_places(&router, Consistency::Eventual, Role::Replica).await;
    proxy.silence(Direction::Both);
    let (longest, failed) = longest(100, ask_one).await;
    // The first four get one each; then the node is left alone, with the silent ones that are left.
    assert!(longest < 2 * LIMIT + SLACK && (1..8).contains(&failed), "{longest:?}, {failed} failed");
    proxy.restore().unwrap();
    eprintln!("silent while idle: {failed} of 100 failed, healed after {:?}", healed(&router, &proxy).await);
    all_places(&router, Consistency::Eventual, Role::Replica).await;
}

#[tokio::test]
async fn calls_that_time_out_on_a_silent_node_leave_no_session_behind() {
    let database = database().await;
    let proxy = cluster().await.primary().proxy().unwrap();
    let builder = Router::builder().primary(database.url_through(&proxy)).max_connections(2);
    // A probe would have a session of its own now and then.
    let router = builder.call_timeout(LIMIT).probe_interval(None).build().unwrap();
    all_places(&router, Consistency::Strong, Role::Primary).await;
    let clients = [soon(router.client()).await.unwrap(), soon(router.client()).await.unwrap()];
    // The server hears that the client is gone; the client hears nothing any more.
    proxy.silence(Direction::ToClient);
    for client in clients {
        let error = soon(ask(&client)).await.unwrap_err();
        assert!(error.is_outcome_unknown(), "{}", error.report());
    }
    sessions(&database, "state IS NOT NULL", 0).await;
}

#[tokio::test]
async fn nobody_waits_behind_answers_that_have_stopped_in_their_middle() {
    let database = database().await;
    let (builder, proxy) = rig(&database).await;
    // Those who hold the connections have much time.
    let router = builder.call_timeout(HANG).build().unwrap();
    all_places(&router, Consistency::Eventual, Role::Replica).await;
    proxy.silence_after(100_000);
    let hung = (0..4).map(|_| async {
        let client = router.client_at(Consistency::Eventual).await?;
        client.query_one(LONG, &[]).await.map(|row| row.get::<_, &str>(0).len())
    });
    let mut hung = std::pin::pin!(join_all(hung));
    timeout(LIMIT, hung.as_mut()).await.expect_err("the answers have stopped");
    // Besides these, a probe that finds the pool full.
    assert!(proxy.counts().open >= 4);
    // Everybody else waits for the full pool no longer than for another connection, and is served by another node.
    let (longest, failed) = longest(12, async || ask(&router.client_at(Consistency::Eventual).await?).await).await;
    assert!(longest < LIMIT + SLACK && failed == 0, "{longest:?}, {failed} failed");
    proxy.restore().unwrap();
    for answer in soon(hung).await {
        assert_eq!(answer.unwrap(), 32 * 20_000);
    }
    eprintln!(
        "silent in an answer: the longest call took {longest:?}, healed after {:?}",
        healed(&router, &proxy).await
    );
    all_places(&router, Consistency::Eventual, Role::Replica).await;
}

#[tokio::test]
async fn a_read_of_the_store_ends_within_its_budget_and_goes_on_elsewhere_when_the_node_is_cut() {
    let database = database().await;
    let (builder, proxy) = rig(&database).await;
    let router = builder.build().unwrap();
    let store = PostgresEventStore::new(&router);
    store.migrate().await.unwrap();
    let events = (0..200).map(|n| event("A", json!({"n": n, "text": "x".repeat(500)})));
    store.append(events, AppendCondition::none()).await.unwrap();
    cluster().await.wait_until_caught_up().await.unwrap();
    let all = Filter::any_event();
    let read = || store.query(&all).consistency(Consistency::Eventual).timeout(LIMIT).into_future();
    assert_eq!(read().await.unwrap().role(), Role::Replica);
    proxy.silence_after(20_000);
    let start = Instant::now();
    let error = soon(read()).await.unwrap_err();
    assert!(error.is_timeout() && start.elapsed() < LIMIT + SLACK, "{:?}: {}", start.elapsed(), error.report());
    proxy.restore().unwrap();
    healed(&router, &proxy).await;
    proxy.silence_after(20_000);
    let interrupted = tokio::spawn(store.query(&all).consistency(Consistency::Eventual).timeout(HANG).into_future());
    sleep(LIMIT).await;
    proxy.cut().unwrap();
    let history = soon(interrupted).await.unwrap().unwrap();
    assert_eq!((history.role(), history.len()), (Role::Primary, 200));
}

/// What is given up in one round: whoever gives up is gone before the node is back.
async fn round(router: &Router, primary: &FaultProxy, replica: &FaultProxy, number: u32) {
    let given_up = Duration::from_millis(15);
    let strong = async || ask(&router.client_at(Consistency::Strong).await?).await;
    let eventual = async || ask(&router.client_at(Consistency::Eventual).await?).await;
    match number % 4 {
        // At the log-in: without a connection in the pool, and on the primary, which is never left alone.
        0 => {
            primary.cut().unwrap();
            primary.silence(Direction::Both);
            let _ = timeout(given_up, join_all((0..3).map(|_| strong()))).await;
        }
        // While idle. Two at a time, so that the node is not taken out of service for the next rounds.
        1 => {
            replica.silence(Direction::Both);
            let _ = timeout(given_up, join_all((0..2).map(|_| eventual()))).await;
        }
        // In the middle of an answer, by one who gives up and one who holds on for a while.
        2 => {
            replica.silence_after(u64::from(number) * 37);
            let long = async || -> Result<()> {
                router.client_at(Consistency::Eventual).await?.query_one(LONG, &[]).await.map(drop)
            };
            let _ = timeout(given_up * 4, join_all([long(), long()])).await;
        }
        // Half-open, and cut in the end. A replica would be left alone for a while after that.
        _ => {
            primary.silence(Direction::ToClient);
            let _ = timeout(given_up, join_all((0..2).map(|_| strong()))).await;
            primary.cut().unwrap();
        }
    }
    primary.restore().unwrap();
    replica.restore().unwrap();
}

#[tokio::test]
async fn no_place_leaks_over_many_rounds_of_silence() {
    const ROUNDS: u32 = 200;
    let database = database().await;
    let primary = cluster().await.primary().proxy().unwrap();
    let replica = cluster().await.replica(0).proxy().unwrap();
    let builder = Router::builder().primary(database.url_through(&primary)).replica(database.url_through(&replica));
    let builder = builder.max_connections(4).connect_timeout(LIMIT).call_timeout(LIMIT).acquire_timeout(HANG / 4);
    let router = builder.connect().await.unwrap();
    let (start, mut elsewhere) = (Instant::now(), 0);
    for number in 0..ROUNDS {
        soon(round(&router, &primary, &replica, number)).await;
        // The next round is to meet connections that work.
        let client = soon(router.client_at(Consistency::Eventual)).await;
        elsewhere += u32::from(!client.as_ref().is_ok_and(|client| client.role() == Role::Replica));
        for client in [client, soon(router.client()).await].into_iter().flatten() {
            let _ = ask(&client).await;
        }
    }
    let took = start.elapsed();
    let back = healed(&router, &replica).await;
    eprintln!("{ROUNDS} rounds in {took:?}, {elsewhere} without the replica, healed after {back:?}");
    assert!(elsewhere < ROUNDS / 4, "{elsewhere} rounds have not met the replica");
    all_places(&router, Consistency::Strong, Role::Primary).await;
    all_places(&router, Consistency::Eventual, Role::Replica).await;
    assert!(router.status().nodes.iter().all(|node| node.in_flight == 0));
    // Neither does a connection: what was given up is closed, and so is what was to cancel it.
    let closed = async {
        while [&primary, &replica].iter().any(|proxy| proxy.counts().open > 4) {
            sleep(Duration::from_millis(5)).await;
        }
    };
    soon(closed).await;
}
