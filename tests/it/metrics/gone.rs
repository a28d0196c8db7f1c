//! Gauges of what is gone do not stay as they were, which would hide an outage from an alarm, or show one for ever.

use std::time::Duration;

use mainstem::{
    Router,
    telemetry::{
        CONDITION, NODE, ROLE,
        metrics::{CONNECTION_MAX, NODE_CONDITION, NODE_ROLE, PRIMARY_IS, PRIMARY_STATE, ROUTER, TIMELINE_NUMBER},
    },
};
use tokio::time::{sleep, timeout};

use super::{HANG, MS};
use crate::support::{RecordedMetrics, database};

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let so = async {
        while !is_so() {
            sleep(20 * MS).await;
        }
    };
    timeout(HANG, so).await.unwrap_or_else(|_| panic!("never {what}"));
}

#[tokio::test]
async fn a_router_that_was_dropped_leaves_no_gauges_as_they_were() {
    let (metrics, _kept) = RecordedMetrics::keep();
    let database = database().await;
    for probe_interval in [Some(Duration::from_millis(50)), None] {
        let builder = Router::builder().primary(database.primary_url()).probe_interval(probe_interval);
        let router = builder.replica(&database.replica_urls()[0]).connect().await.unwrap();
        let [primary, replica] = [0, 1].map(|node| router.status().nodes[node].name.to_string());
        let known = [(ROUTER, &*primary), (PRIMARY_IS, "known")];
        let serving = [(NODE, &*replica), (CONDITION, "serving")];
        until("the state is shown", || {
            metrics.sum(&PRIMARY_STATE, &known) == 1.0 && metrics.sum(&NODE_CONDITION, &serving) == 1.0
        })
        .await;
        drop(router);
        until("the router's is reset", || metrics.sum(&PRIMARY_STATE, &known) == 0.0).await;
        until("the replica's is reset", || metrics.sum(&NODE_CONDITION, &serving) == 0.0).await;
        until("the primary's is reset", || metrics.sum(&NODE_ROLE, &[(NODE, &*primary), (ROLE, "primary")]) == 0.0)
            .await;
        assert!(metrics.sum(&TIMELINE_NUMBER, &[(ROUTER, &*primary)]).is_nan());
        assert_eq!(metrics.sum(&CONNECTION_MAX, &[]), 0.0);
    }
}
