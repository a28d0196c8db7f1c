//! What only the PostgreSQL store does. `mainstem::testing::event_store` tests what every store does.

use mainstem::{
    AppendCondition, ErrorKind, EventStore, Filter, History, Mark, PostgresEventStore, Role, Router, Scope,
    with_eventual_consistency,
};
use serde_json::json;

use crate::support::{cluster, event, store};

fn of_type(event_type: &str) -> Filter {
    Filter::matching().any_type_of([event_type]).finish().unwrap()
}

async fn append(store: &PostgresEventStore, event_type: &str) -> Mark {
    store.append([event(event_type, json!({}))], AppendCondition::none()).await.unwrap().last()
}

#[tokio::test]
async fn answers_and_refusals_name_the_node() {
    let (_database, _router, store) = store().await;
    let node = cluster().await.primary().name().to_owned();
    let ids = [event("A", json!({})), event("A", json!({}))];
    let appended = store.append(ids.clone(), AppendCondition::none()).await.unwrap();
    let history = store.query(&Filter::any_event()).await.unwrap();
    assert_eq!((appended.node(), history.node()), (history.node(), appended.node()), "not on {node}");
    let guard = AppendCondition::fail_if_events_match(of_type("A"));
    let refused = [
        store.append([event("B", json!({}))], guard.clone()).await,
        store.append([event("B", json!({}))], guard.clone().after_position(1)).await,
        store.append([event("B", json!({}))], guard.after_position(9)).await,
        store.append(ids.into_iter().take(1), AppendCondition::none()).await,
    ];
    for outcome in refused {
        let error = outcome.unwrap_err();
        assert_eq!(error.node(), Some(appended.node()), "{error}");
    }
}

#[tokio::test]
async fn the_log_only_grows() {
    let (_database, router, store) = store().await;
    append(&store, "A").await;
    let client = router.client().await.unwrap();
    // Also for sessions whose ordinary triggers are off.
    for role in ["origin", "replica"] {
        client.batch_execute(&format!("SET session_replication_role = {role}")).await.unwrap();
        for sql in ["UPDATE mainstem.events SET type = 'B'", "DELETE FROM mainstem.events", "TRUNCATE mainstem.events"]
        {
            let error = client.execute(sql, &[]).await.unwrap_err();
            assert!(error.to_string().contains("append-only"), "{sql}: {error}");
        }
    }
    assert_eq!(store.query(&of_type("A")).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_log_without_tables_says_what_to_do() {
    let database = crate::support::database().await;
    let router = crate::support::router(&database).await;
    let store = PostgresEventStore::new(&router);
    let appended = store.append([event("A", json!({}))], AppendCondition::none()).await.unwrap_err();
    let read = store.query(&Filter::any_event()).await.unwrap_err();
    for error in [appended, read] {
        assert_eq!(error.kind(), ErrorKind::Schema);
        assert!(error.to_string().contains("migrations"), "{error}");
    }
}

#[tokio::test]
async fn queries_go_where_the_scope_says_and_appends_always_to_the_primary() {
    let (_database, _router, store) = store().await;
    with_eventual_consistency(async { store.append([event("A", json!({}))], AppendCondition::none()).await })
        .await
        .unwrap();
    cluster().await.wait_until_caught_up().await.unwrap();
    let all = Filter::any_event();
    let roles = |history: History| (history.role(), history.len());
    assert_eq!(roles(store.query(&all).await.unwrap()), (Role::Primary, 1));
    let eventual = with_eventual_consistency(async { store.query(&all).await }).await.unwrap();
    assert_eq!(roles(eventual), (Role::Replica, 1));
    let explicit = store.query(&all).consistency(mainstem::Consistency::Eventual).await.unwrap();
    assert_eq!(roles(explicit), (Role::Replica, 1));
}

#[tokio::test]
async fn the_scope_counts_where_the_method_is_called_not_where_the_future_is_polled() {
    let (_database, _router, store) = store().await;
    let all = Filter::any_event();
    let eventual = Scope::new().with_consistency(mainstem::Consistency::Eventual);
    let outside = store.query(&all);
    let inside = eventual.run_sync(|| store.query(&all));
    cluster().await.wait_until_caught_up().await.unwrap();
    let from_outside = with_eventual_consistency(async { outside.await }).await.unwrap();
    assert_eq!(from_outside.role(), Role::Primary);
    assert_eq!(inside.await.unwrap().role(), Role::Replica);
}

#[tokio::test]
async fn without_replicas_the_primary_serves_eventual_reads() {
    let (database, _router, _store) = store().await;
    let alone = Router::builder().primary(database.primary_url()).connect().await.unwrap();
    let store = PostgresEventStore::new(&alone);
    append(&store, "A").await;
    let history = with_eventual_consistency(async { store.query(&of_type("A")).await }).await.unwrap();
    assert_eq!((history.len(), history.role()), (1, Role::Primary));
}
