//! The connection that carries all appends of a process.

use std::{collections::HashSet, time::Duration};

use mainstem::{AppendCondition, EventStore, PostgresEventStore, Router};
use serde_json::json;
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::support::{event, store};

/// Far longer than anything here may take: what it ends would have hung.
const HANG: Duration = Duration::from_secs(60);

/// While there is always a batch under way, it never comes back to the pool, which would see to its age.
#[tokio::test]
async fn a_busy_append_connection_is_replaced_after_its_max_lifetime() {
    let (database, observer, _) = store().await;
    let builder = Router::builder().primary(database.primary_url()).max_connections(4);
    let router = builder.max_lifetime(Duration::from_millis(300)).connect().await.unwrap();
    let appending = PostgresEventStore::new(&router);
    let mut writers = JoinSet::new();
    for _ in 0..64 {
        let store = appending.clone();
        writers.spawn(async move {
            loop {
                store.append([event("A", json!({}))], AppendCondition::none()).await.unwrap();
            }
        });
    }
    let observer = observer.client().await.unwrap();
    let calls = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'CALL%'";
    let mut seen = HashSet::new();
    let renewed = async {
        while seen.len() < 4 {
            seen.extend(observer.query(calls, &[]).await.unwrap().iter().map(|row| row.get::<_, i32>(0)));
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(HANG, renewed).await.expect("other connections");
    assert!(writers.try_join_next().is_none(), "no append has failed");
}
