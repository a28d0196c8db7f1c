//! Cancelled calls, and what may be done with the futures of all calls.

use std::{
    future::{Future, IntoFuture},
    pin::Pin,
};

use mainstem::{AppendCondition, EventStore, Filter, MemoryEventStore, PostgresEventStore, SnapshotKey, SnapshotStore};
use serde_json::json;

use crate::support::{event, sessions, store};

type Call = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Each way to read.
fn reads(store: &PostgresEventStore) -> Vec<(&'static str, Call)> {
    let any = Filter::any_event();
    let key = SnapshotKey::new("p", 1, &any);
    fn call<T>(future: impl IntoFuture<Output = T, IntoFuture: Send + 'static>) -> Call {
        let future = future.into_future();
        Box::pin(async move { drop(future.await) })
    }
    vec![
        ("query", call(store.query(&any))),
        ("page", call(store.query(&any).limit(10))),
        ("last", call(store.last(&any))),
        ("count", call(store.count(&any))),
        ("exists", call(store.exists(&any))),
        ("load_stream", call(store.load_stream("s"))),
        ("load_snapshot", call(store.load_snapshot(&key))),
    ]
}

#[tokio::test]
async fn a_read_that_is_dropped_leaves_nothing_running_on_the_server() {
    let (database, router, store) = store().await;
    store.append([event("A", json!({}))], AppendCondition::none()).await.unwrap();
    let admin = router.client().await.unwrap();
    let waits = "wait_event_type = 'Lock'";
    for (name, read) in reads(&store) {
        admin.batch_execute("BEGIN; LOCK TABLE mainstem.events, mainstem.events_snapshots").await.unwrap();
        let read = tokio::spawn(read);
        sessions(&database, waits, 1).await;
        assert!(!read.is_finished(), "{name}");
        read.abort();
        // The lock is still held: who waited for it has been told to stop.
        sessions(&database, waits, 0).await;
        admin.batch_execute("ROLLBACK").await.unwrap();
        assert_eq!(*store.count(&Filter::any_event()).await.unwrap(), 1, "{name}");
    }
}

/// It is enough that this compiles.
#[tokio::test]
async fn the_future_of_each_call_may_be_sent_to_another_thread_and_outlive_the_store() {
    fn check<T>(future: impl IntoFuture<Output = T, IntoFuture: Send + 'static>) {
        drop(future.into_future());
    }
    let (any, store) = (Filter::any_event(), MemoryEventStore::new());
    let key = SnapshotKey::new("p", 1, &any);
    check(store.append([event("A", json!({}))], AppendCondition::none()));
    check(store.query(&any));
    check(store.query(&any).limit(1));
    check(store.last(&any));
    check(store.count(&any));
    check(store.exists(&any));
    check(store.load_stream("s"));
    check(store.load_snapshot(&key));
    check(store.delete_snapshot(&key));
    drop(store);
}
