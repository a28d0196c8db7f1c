//! A state computed from many events, and the next time from its snapshot and the few events since.
//!
//!     cargo run --example snapshots --features migrations,testing

use std::collections::BTreeMap;

use mainstem::{
    AppendCondition, DecisionModel, Event, Filter, LoadOutcome, NewEvent, PostgresEventStore, Projection, Result,
    Router, SaveOutcome, SnapshotStore, testing::LocalCluster, with_eventual_consistency,
};
use serde::{Deserialize, Serialize};

#[tokio::main]
async fn main() -> Result<()> {
    let cluster = LocalCluster::builder().replicas(1).start().await?;
    let router = Router::builder().primary(cluster.primary().url()).replica(cluster.replica(0).url()).connect().await?;
    let store = PostgresEventStore::new(&router);
    store.migrate().await?;
    cluster.wait_until_caught_up().await?;
    run(store).await
}

/// The stock of each item.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Stock(BTreeMap<String, i64>);

impl Projection for Stock {
    fn filter(&self) -> Result<Filter> {
        Filter::matching().any_type_of(["Delivered", "Sold"]).finish()
    }

    fn apply(&mut self, event: &Event) -> Result<()> {
        let change = if event.event_type() == "Delivered" { 10 } else { -1 };
        *self.0.entry(event.decode()?).or_default() += change;
        Ok(())
    }
}

/// Raise it when `Stock` changes: a snapshot computed by other code holds a different state.
const VERSION: u32 = 1;

pub(crate) async fn run(store: impl SnapshotStore) -> Result<()> {
    let things = ["lamp", "bulb", "wire"];
    let history = (0..300).map(|n| NewEvent::new(if n < 30 { "Delivered" } else { "Sold" }, things[n % 3]));
    store.append(history.collect::<Result<Vec<_>>>()?, AppendCondition::none()).await?;

    for round in 1..=3 {
        let stock = Stock::default().resume_from(&store, "stock", VERSION)?.save_every(50).await?;
        let began = match stock.loaded() {
            LoadOutcome::NotFound => "from the first event on".to_owned(),
            LoadOutcome::Used(mark) => format!("from a snapshot at {} on", mark.position()),
            other => format!("{other:?}"),
        };
        let saved = matches!(stock.saved(), SaveOutcome::Saved(_));
        println!("round {round}: {:?}, {} events read, {began}; saved: {saved}", stock.state().0, stock.applied());
        assert_eq!(stock.applied(), if round == 1 { 300 } else { round - 1 });
        // The next round reads these events, too.
        store.append([NewEvent::new("Sold", "lamp")?], stock.unchanged()).await?;
    }
    // A page that lists the stock reads from a replica.
    let stock =
        with_eventual_consistency(async { Stock::default().resume_from(&store, "stock", VERSION)?.await }).await?;
    println!("on the {} {}: {:?}", stock.role(), stock.node(), stock.state().0);
    Ok(())
}
