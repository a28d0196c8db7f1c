//! Resuming a read: from a cursor stored as text, from a bare offset, from a time.
//!
//!     scripts/example offsets

use std::time::SystemTime;

use mainstem::{
    AppendCondition, Cursor, EventStore, Filter, NewEvent, PostgresEventStore, Result, Router, Start, Subscribe,
    testing::LocalCluster,
};
use serde_json::json;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let cluster = LocalCluster::builder().replicas(0).start().await?;
    let store = PostgresEventStore::new(&Router::builder().primary(cluster.primary().url()).connect().await?);
    store.migrate().await?;
    run(store).await
}

pub(crate) async fn run(store: impl EventStore + Clone + 'static) -> Result<()> {
    for order in 1..=6 {
        let placed = NewEvent::new("OrderPlaced", &json!({"order": order}))?;
        store.append([placed], AppendCondition::none()).await?;
    }
    let orders = Filter::matching().any_type_of(["OrderPlaced"]).finish()?;

    // By cursor, two events at a time. Between two reads it may be stored anywhere, as text.
    let mut kept = String::new();
    loop {
        let fetched = store.fetch(&orders, kept.parse::<Cursor>()?).limit(2).await?;
        let positions: Vec<u64> = fetched.iter().map(mainstem::Event::position).collect();
        println!("by cursor: {positions:?}");
        kept = fetched.cursor().to_string();
        if fetched.is_at_head() {
            break;
        }
    }

    // By offset: the position of the last event that was read. Unlike a cursor, an offset cannot tell whether the log is
    // still the same one.
    let behind = store.fetch(&orders, Start::AfterPosition(4)).await?;
    println!("behind offset 4: {} events, the first at {}", behind.len(), behind[0].position());

    // By the time at which the events were recorded.
    let third = store.fetch(&orders, Start::AfterPosition(2)).limit(1).await?[0].recorded_at();
    let since = store.fetch(&orders, Start::RecordedFrom(third)).await?;
    println!("since the third was recorded: {} events", since.len());
    let future = store.fetch(&orders, Start::RecordedFrom(SystemTime::now())).await?;
    println!("from now on: {} events yet", future.len());
    assert_eq!((behind.len(), since.len(), future.len()), (2, 4, 0));
    Ok(())
}
