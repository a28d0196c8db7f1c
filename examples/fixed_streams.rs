//! Fixed streams in PostgreSQL: an id, versions without gaps, and an append that says which version it expects.
//!
//!     cargo run --example fixed_streams --features migrations,testing

use mainstem::{
    AppendCondition, EventStore, ExpectedVersion, Filter, NewEvent, PostgresEventStore, Result, Router,
    testing::LocalCluster,
};

#[tokio::main]
async fn main() -> Result<()> {
    let cluster = LocalCluster::start().await?;
    let router = Router::builder().primary(cluster.primary().url()).connect().await?;
    let store = PostgresEventStore::new(&router);
    store.migrate().await?;
    run(store).await
}

pub(crate) async fn run(store: impl EventStore) -> Result<()> {
    let added = |what: &str| NewEvent::new("ItemAdded", what);
    let none = AppendCondition::none;

    let begun =
        store.append([added("lamp")?, added("bulb")?], none()).to_stream("cart-1", ExpectedVersion::NoStream).await?;
    println!("cart-1 has the versions {:?}", begun.stream_versions());
    let error = store.append([added("lamp")?], none()).to_stream("cart-1", ExpectedVersion::NoStream).await;
    println!("refused: {}", error.expect_err("it is there already"));

    // Two writers have read version 2, and the first to append wins.
    let cart = store.load_stream("cart-1").await?;
    store.append([added("wire")?], none()).to_stream("cart-1", cart.unchanged()).await?;
    let error = store.append([added("rope")?], none()).to_stream("cart-1", cart.unchanged()).await;
    let error = error.expect_err("it is at version 3");
    let mismatch = error.version_mismatch().expect("the versions");
    println!("refused: expected {}, and it is {}", mismatch.expected, mismatch.actual);
    store.append([added("rope")?], none()).to_stream("cart-1", ExpectedVersion::Any).await?;

    for event in store.load_stream("cart-1").after_version(1).await?.events() {
        let version = event.stream().map_or(0, |place| place.version());
        println!("version {version}, position {}: {}", event.position(), event.payload());
    }
    let last = store.load_stream("cart-1").newest_first().limit(1).await?;
    assert_eq!(last.events()[0].stream().map(|place| place.version()), Some(4));

    // It is the same log: filters find the events of all streams.
    let items = Filter::matching().any_type_of(["ItemAdded"]).finish()?;
    assert_eq!(store.query(&items).await?.len(), 4);
    Ok(())
}
