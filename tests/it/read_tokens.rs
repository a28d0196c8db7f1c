//! The tokens of reads other than queries: of streams, of projections, and of fetches.

use std::time::Duration;

use mainstem::{
    AppendCondition, Consistency, EventStore, ExpectedVersion, Fallback, Filter, PostgresEventStore, Role, Session,
    SnapshotKey, SnapshotStore, Start, Subscribe, Token, testing::LocalCluster, with_session,
};
use serde_json::json;

use crate::support::{cluster_with_log, event, store};

async fn append(store: &PostgresEventStore) -> Token {
    let append = store.append([event("A", json!({}))], AppendCondition::none());
    append.to_stream("s", ExpectedVersion::Any).await.unwrap().token().clone()
}

fn count(sum: &mut usize, _: &mainstem::Event) -> mainstem::Result<()> {
    *sum += 1;
    Ok(())
}

/// A log of one event, on a replica that will not get any further, and on another one that may.
async fn with_a_replica_that_stands_still(replicas: usize) -> (LocalCluster, PostgresEventStore) {
    let settings = |builder: mainstem::RouterBuilder| {
        builder.replay_wait(Duration::from_millis(200)).fallback(Fallback::Unlimited)
    };
    let (cluster, _router, store) = cluster_with_log(replicas, settings).await;
    append(&store).await;
    cluster.wait_until_caught_up().await.unwrap();
    cluster.replica(replicas - 1).pause_replay().await.unwrap();
    (cluster, store)
}

#[tokio::test]
async fn a_token_is_of_what_was_read_and_of_a_load_there_is_one_in_a_session() {
    let (_cluster, store) = with_a_replica_that_stands_still(1).await;
    let (all, key) = (Filter::any_event(), SnapshotKey::new("count", 1, &Filter::any_event()));
    let seen = async |token: &Token| {
        let history = store.query(&all).consistency(Consistency::AtLeast(token.clone())).await.unwrap();
        (history.role(), history.len())
    };
    assert_eq!(seen(&Token::new()).await, (Role::Replica, 1));
    for written in 2..=5 {
        append(&store).await;
        let tokens = async || {
            let loaded = store.load_stream("s").limit(1).await.unwrap().token().clone();
            // From the beginning at first, and then on from the snapshot.
            let projected = store.project(&key, 0, count).save_every(1).await.unwrap().token().clone();
            let fetched = store.fetch(&all, Start::Beginning).limit(1).await.unwrap().token().clone();
            [loaded, projected, fetched]
        };
        let [loaded, projected, fetched] = tokens().await;
        assert_eq!(loaded, Token::new());
        let inside = with_session(&Session::new(), tokens()).await;
        let mut reads = Vec::new();
        for token in [projected, fetched].iter().chain(&inside) {
            reads.push(seen(token).await);
        }
        assert_eq!(reads, [(Role::Primary, written); 5]);
    }
}

#[tokio::test]
async fn reads_of_an_empty_log_return_an_empty_token() {
    let (_database, _router, store) = store().await;
    let all = Filter::any_event();
    assert_eq!(store.fetch(&all, Start::Beginning).await.unwrap().token(), &Token::new());
    assert_eq!(store.project(&SnapshotKey::new("count", 1, &all), 0, count).await.unwrap().token(), &Token::new());
    assert_eq!(store.load_stream("s").await.unwrap().token(), &Token::new());
}

#[tokio::test]
async fn the_token_of_a_projection_is_also_of_the_snapshot_where_the_events_are_behind_it() {
    let (cluster, store) = with_a_replica_that_stands_still(2).await;
    let all = Filter::any_event();
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
