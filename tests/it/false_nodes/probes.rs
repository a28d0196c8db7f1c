//! How often a node is probed whose answers are useless.

use std::time::Duration;

use mainstem::{Fallback, NodeCondition, Router};
use tokio::time::{Instant, sleep};

use super::{Fault, before_a_replica, condition, until};
use crate::support::database;

const INTERVAL: Duration = Duration::from_millis(500);
const WATCHED: Duration = Duration::from_secs(3);

const VERSION: (&str, &str) = ("current_setting('server_version_num')::int4 / 10000", "14");
const NOTHING: (&str, &str) = ("SELECT pg_is_in_recovery(),", "SELECT 1 / (SELECT 0), pg_is_in_recovery(),");

/// How often this has grown while nobody but the router's probes asked, in each such time.
async fn grown(count: impl Fn() -> u64) -> u64 {
    let (before, started) = (count(), Instant::now());
    sleep(WATCHED).await;
    // A machine that stands still for a while makes it longer.
    ((count() - before) as f64 * WATCHED.as_secs_f64() / started.elapsed().as_secs_f64()).round() as u64
}

#[tokio::test]
async fn useless_nodes_are_not_probed_more_often_than_others() {
    let database = database().await;
    let (liar, url) = before_a_replica(&database).await;
    let builder = || Router::builder().primary(database.primary_url()).probe_interval(INTERVAL);

    // Who has an older version than is known is not let in.
    liar.tells(&[VERSION], None);
    let router = builder().connect().await.unwrap();
    let before = liar.asked();
    router.set_replicas([url.clone()]).unwrap();
    until(async || liar.asked() > before).await;
    let times = grown(|| liar.asked()).await;
    assert!((4..9).contains(&times), "asked {times} times within {WATCHED:?}");
    assert_eq!(condition(&router, &liar.name()), NodeCondition::Joining);
    drop(router);

    // Who serves calls, but not that question.
    liar.is_honest();
    let router = builder().replica(url).fallback(Fallback::Unlimited).connect().await.unwrap();
    liar.tells(&[NOTHING], None);
    let before = liar.asked();
    until(async || liar.asked() > before).await;
    let times = grown(|| liar.asked()).await;
    assert!((4..9).contains(&times), "asked {times} times within {WATCHED:?}");

    // Who ends each connection on which he is asked: he might just have been restarted.
    liar.spoils(b'D', Fault::Cut);
    until(async || liar.spoilt() > 0).await;
    let times = grown(|| liar.spoilt()).await;
    assert!((4..16).contains(&times), "asked {times} times within {WATCHED:?}");
    liar.is_honest();
    until(async || condition(&router, &liar.name()) == NodeCondition::Serving).await;
}
