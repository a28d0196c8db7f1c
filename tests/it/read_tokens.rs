//! The tokens of the reads that are no queries: of streams, of projections, and of fetches.

use std::time::Duration;

use mainstem::{
    AppendCondition, Consistency, EventStore, ExpectedVersion, Fallback, Filter, PostgresEventStore, Role, Router,
    Session, SnapshotKey, SnapshotStore, Start, Subscribe, Token, with_session,
};
use serde_json::json;

use crate::support::{cluster_with_log, database, event};

/// Far longer than anything here may take: what it ends would have hung.
const HANG: Duration = Duration::from_secs(60);

async fn append(store: &PostgresEventStore) -> Token {
    let append = store.append([event("A", json!({}))], AppendCondition::none());
    append.to_stream("s", ExpectedVersion::Any).await.unwrap().token().clone()
}

fn count(sum: &mut usize, _: &mainstem::Event) -> mainstem::Result<()> {
    *sum += 1;
    Ok(())
}

#[tokio::test]
async fn a_token_is_of_what_was_read_and_of_a_load_there_is_one_in_a_session() {
    let database = database().await;
    let builder = Router::builder().primary(database.primary_url()).replicas(database.replica_urls());
    let router = builder.acquire_timeout(HANG).replay_wait(HANG).connect().await.unwrap();
    let store = PostgresEventStore::new(&router);
    store.migrate().await.unwrap();
    let (all, key) = (Filter::any_event(), SnapshotKey::new("count", 1, &Filter::any_event()));
    assert_eq!(store.fetch(&all, Start::Beginning).await.unwrap().token(), &Token::new(), "of an empty log");
    assert_eq!(store.project(&key, 0, count).await.unwrap().token(), &Token::new());
    for written in 1..=10 {
        append(&store).await;
        let tokens = async || {
            let loaded = store.load_stream("s").limit(1).await.unwrap().token().clone();
            // From the beginning at first, and then on from the snapshot.
            let projected = store.project(&key, 0, count).save_every(1).await.unwrap().token().clone();
            let fetched = store.fetch(&all, Start::Beginning).limit(1).await.unwrap().token().clone();
            [loaded, projected, fetched]
        };
        let mut outside = tokens().await.to_vec();
        assert_eq!(outside.remove(0), Token::new());
        let inside = with_session(&Session::new(), tokens()).await;
        for token in outside.into_iter().chain(inside) {
            let history = store.query(&all).consistency(Consistency::AtLeast(token)).await.unwrap();
            assert_eq!((history.role(), history.len()), (Role::Replica, written));
        }
    }
}

#[tokio::test]
async fn the_token_of_a_projection_is_also_of_the_snapshot_where_the_events_are_behind_it() {
    let settings = |builder: mainstem::RouterBuilder| {
        builder.replay_wait(Duration::from_millis(200)).fallback(Fallback::Unlimited)
    };
    let (cluster, _router, store) = cluster_with_log(2, settings).await;
    let all = Filter::any_event();
    append(&store).await;
    cluster.wait_until_caught_up().await.unwrap();
    cluster.replica(1).pause_replay().await.unwrap();
    for _ in 0..5 {
        append(&store).await;
    }
    let key = SnapshotKey::new("count", 1, &all);
    let saved = store.project(&key, 0, count).save_every(1).consistency(Consistency::Strong).await.unwrap();
    let level = Consistency::AtLeast(saved.token().clone());
    let on_replica = async || store.load_snapshot(&key).consistency(level.clone()).await.unwrap();
    while on_replica().await.is_none_or(|snapshot| snapshot.role() == Role::Primary) {}
    let mut behind = 0;
    for _ in 0..200 {
        let projected =
            store.project(&key, 0, count).without_saving().consistency(Consistency::Eventual).await.unwrap();
        let level = Consistency::AtLeast(projected.token().clone());
        let seen = store.query(&all).consistency(level).await.unwrap().len();
        assert!(seen >= *projected.state(), "{seen} events behind a state of {}", projected.state());
        behind += usize::from(projected.node().ends_with(&format!(":{}", cluster.replica(1).port())) && seen == 6);
        if behind == 5 {
            return;
        }
    }
    panic!("no snapshot of one replica was read on with the events of the other");
}
