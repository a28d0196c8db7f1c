//! Several events in one append, all or none; many appends at once; and more events than fit in one append.
//!
//!     cargo run --release --example batch_append --features migrations,testing

use std::future::IntoFuture;

use futures_util::future::try_join_all;
use mainstem::{
    AppendCondition, EventStore, Filter, NewEvent, PostgresEventStore, Result, Router, testing::LocalCluster,
};
use tokio::time::Instant;

#[tokio::main]
async fn main() -> Result<()> {
    let cluster = LocalCluster::start().await?;
    let router = Router::builder().primary(cluster.primary().url()).connect().await?;
    let store = PostgresEventStore::new(&router);
    store.migrate().await?;
    run(store).await
}

pub(crate) async fn run(store: impl EventStore) -> Result<()> {
    let item = |n: u32| Ok::<_, mainstem::Error>(NewEvent::new("ItemAdded", &n)?.with_tag(format!("order:{}", n / 10)));

    // An order and its items belong together: their positions are consecutive, and no reader sees only some of them.
    let placed = NewEvent::new("OrderPlaced", &0)?.with_tag("order:0");
    let order: Vec<_> = [Ok(placed)].into_iter().chain((0..5).map(item)).collect::<Result<_>>()?;
    let once = Filter::matching().any_type_of(["OrderPlaced"]).and_all_tags_of(["order:0"]).finish()?;
    let condition = AppendCondition::fail_if_events_match(once);
    let appended = store.append(order.clone(), condition.clone()).await?;
    println!("one order at {:?}", appended.positions());

    // A repeat of the same append is recognised; another order of that number is refused as a whole.
    assert!(store.append(order, condition.clone()).await?.is_repeated());
    let other = vec![NewEvent::new("OrderPlaced", &0)?.with_tag("order:0"), item(7)?];
    let error = store.append(other, condition).await.expect_err("there is an order of that number");
    println!("refused: {error}");
    assert_eq!(store.count(&Filter::any_event()).await?.into_inner(), 6);

    // Concurrent appends share a transaction automatically.
    let begin = Instant::now();
    let events = (10..1_010).map(item).collect::<Result<Vec<_>>>()?;
    try_join_all(events.into_iter().map(|event| store.append([event], AppendCondition::none()).into_future())).await?;
    println!("1000 appends of one event at once: {:.1} ms", begin.elapsed().as_secs_f64() * 1_000.0);

    // An import runs in chunks, and resumes where it stopped when it is repeated.
    let begin = Instant::now();
    let imported = store.import((2_000..7_000).filter_map(|n| item(n).ok()), AppendCondition::none()).await?;
    println!("an import up to {imported:?}: {:.1} ms", begin.elapsed().as_secs_f64() * 1_000.0);
    assert_eq!(store.count(&Filter::any_event()).await?.into_inner(), 6_006);
    Ok(())
}
