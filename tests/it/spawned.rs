//! Calls in separate tasks: most own everything they need, and one that borrows something takes it along.

use std::future::IntoFuture;

use mainstem::{
    AppendCondition, Command, CommandExecutor, Decision, DecisionModel, Event, EventStore, Filter, MemoryEventStore,
    Projection, Result, SnapshotKey, SnapshotStore, Start, Subscribe,
};
use serde_json::json;

use crate::support::event;

struct Names(u64);

impl Projection for Names {
    fn filter(&self) -> Result<Filter> {
        Filter::matching().any_type_of(["Named"]).finish()
    }

    fn apply(&mut self, _: &Event) -> Result<()> {
        self.0 += 1;
        Ok(())
    }
}

struct Name;

impl Command for Name {
    type Model = Names;
    type Refusal = String;

    fn model(&self) -> Names {
        Names(0)
    }

    fn decide(&self, _: &Names) -> Result<Decision<String>> {
        Ok(Decision::append([event("Named", json!({}))]))
    }
}

async fn spawned<T: Send + 'static>(call: impl IntoFuture<Output = T, IntoFuture: Send + 'static>) -> T {
    tokio::spawn(call.into_future()).await.unwrap()
}

#[tokio::test]
async fn a_call_may_be_spawned_and_what_borrows_takes_it_along() {
    let store = MemoryEventStore::new();
    let (all, key) = (Filter::any_event(), SnapshotKey::new("names", 1, &Filter::any_event()));
    let first = spawned(store.append([event("Named", json!({}))], AppendCondition::none())).await.unwrap();
    assert_eq!(spawned(store.query(&all)).await.unwrap().len(), 1);
    assert_eq!(*spawned(store.count(&all)).await.unwrap(), 1);
    spawned(store.last(&all)).await.unwrap();
    spawned(store.exists(&all)).await.unwrap();
    spawned(store.load_stream("s")).await.unwrap();
    spawned(store.fetch(&all, Start::Beginning)).await.unwrap();
    spawned(store.save_snapshot(&key, first.last(), &1)).await.unwrap();
    spawned(store.load_snapshot(&key)).await.unwrap();
    spawned(store.delete_snapshot(&key)).await.unwrap();

    let own = store.clone();
    let import = async move { own.import([event("Named", json!({}))], AppendCondition::none()).await };
    spawned(import).await.unwrap();
    let (own, of_names) = (store.clone(), key.clone());
    let project = async move { own.project(&of_names, 0, |_: &mut i32, _| Ok(())).await };
    spawned(project).await.unwrap();
    let executor = CommandExecutor::new(store.clone());
    spawned(async move { executor.execute(&Name).await }).await.unwrap();
    let read = spawned(async move { Names(0).read_from(&store).await }).await.unwrap();
    assert_eq!(read.state().0, 3);
}
