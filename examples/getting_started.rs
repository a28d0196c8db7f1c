//! The program of the manual's first chapter: appends on the primary, reads from a replica.
//!
//!     docker compose up --wait
//!     export MAINSTEM_PRIMARY_URL=… MAINSTEM_REPLICA_URLS=…,…    # docs/getting-started.md
//!     scripts/example getting_started

use mainstem::{
    Consistency, EventStore, Filter, NewEvent, PostgresEventStore, Result, Router, with_consistency,
    with_strong_consistency,
};
use serde_json::json;

pub(crate) async fn lend(router: &Router) -> Result<()> {
    let store = PostgresEventStore::new(router);
    store.migrate().await?;

    // All that a decision about copy 7 depends on.
    let copy = Filter::matching().all_tags_of(["copy:7"]).finish()?;

    // A command reads, decides and appends on the primary.
    let token = with_strong_consistency(async {
        let history = store.query(&copy).await?;
        if history.last().is_some_and(|event| event.event_type() == "CopyLent") {
            println!("copy 7 is lent already, said the {}", history.role());
            return Ok(history.token().clone());
        }
        let lent = NewEvent::new("CopyLent", &json!({"copy": 7, "reader": "ada"}))?.with_tag("copy:7");
        let appended = store.append([lent], history.unchanged()).await?;
        println!("copy 7 was lent, at position {}", appended.first_position());
        Result::Ok(appended.token().clone())
    })
    .await?;

    // A query reads from a replica that has got as far as this.
    let history = with_consistency(Consistency::AtLeast(token), async { store.query(&copy).await }).await?;
    println!("{} events of copy 7, served by the {} {}", history.len(), history.role(), history.node());
    Ok(())
}

#[tokio::main]
async fn main() -> Result<()> {
    let url = |name| std::env::var(name).unwrap_or_default();
    let (primary, replicas) = (url("MAINSTEM_PRIMARY_URL"), url("MAINSTEM_REPLICA_URLS"));
    let replicas = replicas.split(',').filter(|url| !url.is_empty());
    let router = Router::builder().primary(primary).replicas(replicas).connect().await?;
    lend(&router).await
}
