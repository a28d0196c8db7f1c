//! Hello world, in memory: append, read, and an append that is refused because somebody was faster.
//!
//!     cargo run --example in_memory

use mainstem::{AppendCondition, EventStore, Filter, MemoryEventStore, NewEvent, Result};
use serde_json::json;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    run(MemoryEventStore::new()).await
}

/// Works on any store: change the type in `main` to run it on PostgreSQL.
pub(crate) async fn run(store: impl EventStore) -> Result<()> {
    let greeted = NewEvent::new("Greeted", &json!({"who": "world"}))?.with_tag("who:world");
    let appended = store.append([greeted], AppendCondition::none()).await?;
    println!("hello, world, at position {}", appended.first_position());

    // Everybody is greeted once; the log knows who has been.
    let of_ada = Filter::matching().any_type_of(["Greeted"]).and_all_tags_of(["who:ada"]).finish()?;
    let (one, other) = (store.query(&of_ada).await?, store.query(&of_ada).await?);
    let greeting =
        |by: &str| Ok::<_, mainstem::Error>(NewEvent::new("Greeted", &json!({"by": by}))?.with_tag("who:ada"));
    store.append([greeting("one")?], one.unchanged()).await?;
    let error = store.append([greeting("other")?], other.unchanged()).await.expect_err("ada was greeted already");
    println!("refused: {error}");

    for event in &store.query(&Filter::any_event()).await? {
        println!("{:>3} {} {}", event.position(), event.event_type(), event.payload());
    }
    Ok(())
}
