//! Replicas that do not tell their timeline.

use std::time::Duration;

use mainstem::{Consistency, EventStore, Filter, PostgresEventStore, Role, Router};

use super::{HANG, append};
use crate::support::store;

/// A role that is no member of `pg_read_all_stats` is not told a replica's timeline.
#[tokio::test]
async fn a_replica_that_keeps_its_timeline_to_itself_proves_events_and_no_places() {
    let (database, router, store) = store().await;
    let admin = router.client().await.unwrap();
    let role = format!("plain_{}", database.name());
    let sql = format!(
        "CREATE ROLE \"{role}\" LOGIN PASSWORD 'p'; GRANT USAGE ON SCHEMA mainstem TO \"{role}\"; \
         GRANT SELECT ON mainstem.events TO \"{role}\""
    );
    admin.batch_execute(&sql).await.unwrap();
    let written = append(&store).await;
    let as_plain = |url: String| {
        let (_, rest) = url.split_once('@').expect("a user");
        format!("postgres://{role}:p@{rest}")
    };
    let builder = Router::builder().primary(as_plain(database.primary_url()));
    let builder = builder.replicas(database.replica_urls().into_iter().map(as_plain));
    let builder = builder.acquire_timeout(HANG).replay_wait(Duration::from_secs(5));
    let plain = builder.probe_interval(Duration::from_millis(100)).connect().await.unwrap();
    let level = || Consistency::AtLeast(written.token().clone());
    let reader = PostgresEventStore::new(&plain);
    for _ in 0..10 {
        let history = reader.query(&Filter::any_event()).consistency(level()).await.unwrap();
        assert_eq!((history.role(), history.len()), (Role::Replica, 1));
        assert_eq!(plain.client_at(level()).await.unwrap().role(), Role::Primary, "nobody else is sure to have it");
    }
    let replica = plain.client_at(Consistency::Eventual).await.unwrap();
    let error = replica.token().await.unwrap_err();
    assert!(replica.role() == Role::Replica && error.to_string().contains("pg_read_all_stats"), "{error}");
    drop(replica);
    admin.batch_execute(&format!("DROP OWNED BY \"{role}\"; DROP ROLE \"{role}\"")).await.unwrap();
}
