//! Following the log: by polling, by a subscription, as a consumer with a checkpoint, and by a read model.
//!
//!     scripts/example consumers

use std::time::Duration;

use mainstem::{
    AppendCondition, ConsumerTransaction, Event, EventStore, Filter, NewEvent, PostgresEventStore, ReadModel,
    ReadModelProgress, ReadModels, Result, Router, Start, Subscribe, testing::LocalCluster,
};
use serde_json::json;

async fn deposit(store: &PostgresEventStore, account: &str, amount: i64) -> Result<mainstem::Mark> {
    let event = NewEvent::new("Deposited", &json!({"account": account, "amount": amount}))?;
    Ok(store.append([event], AppendCondition::none()).await?.last())
}

fn amount(event: &Event) -> (String, i64) {
    let payload: serde_json::Value = event.decode().unwrap_or_default();
    (payload["account"].as_str().unwrap_or_default().to_owned(), payload["amount"].as_i64().unwrap_or_default())
}

/// The balance of each account, in a table.
struct Balances;

impl ReadModel for Balances {
    fn name(&self) -> String {
        "balances".to_owned()
    }

    fn filter(&self) -> Result<Filter> {
        Filter::matching().any_type_of(["Deposited"]).finish()
    }

    async fn clear(&mut self, transaction: &ConsumerTransaction) -> Result<()> {
        let sql = "CREATE TABLE IF NOT EXISTS balances (account text PRIMARY KEY, balance int8); TRUNCATE balances";
        transaction.batch_execute(sql).await
    }

    async fn apply(&mut self, event: &Event, transaction: &ConsumerTransaction) -> Result<()> {
        let (account, amount) = amount(event);
        let sql = "INSERT INTO balances AS b VALUES ($1, $2) \
                   ON CONFLICT (account) DO UPDATE SET balance = b.balance + excluded.balance";
        transaction.execute(sql, &[&account, &amount]).await.map(drop)
    }
}

/// Prints how far a read model that is being built has got.
fn bar(progress: &ReadModelProgress) {
    let done = (20.0 * progress.fraction()) as usize;
    println!("{:>10} [{:20}] {:3.0} %", progress.name, "#".repeat(done), 100.0 * progress.fraction());
}

#[tokio::main]
async fn main() -> Result<()> {
    let cluster = LocalCluster::start().await?;
    let urls: Vec<String> = cluster.replicas().map(mainstem::testing::Node::url).collect();
    let router = Router::builder().primary(cluster.primary().url()).replicas(urls).connect().await?;
    let store = PostgresEventStore::new(&router);
    store.migrate().await?;
    run(store).await
}

pub(crate) async fn run(store: PostgresEventStore) -> Result<()> {
    let deposits = Filter::matching().any_type_of(["Deposited"]).finish()?;
    for number in 1..=5 {
        deposit(&store, "ada", number).await?;
    }

    // Polling: the caller keeps the cursor.
    let fetched = store.fetch(&deposits, Start::Beginning).limit(3).await?;
    let rest = store.fetch(&deposits, fetched.cursor()).await?;
    println!("polled: {} events, then {}", fetched.len(), rest.len());

    // A subscription, from a replica: first the existing events, then new ones as soon as they arrive.
    let mut subscription = store.subscribe(&deposits).start_at(rest.cursor()).build();
    deposit(&store, "bob", 10).await?;
    if let Some(batch) = subscription.next_batch().await {
        let batch = batch?;
        for event in &batch {
            let (account, amount) = amount(event);
            println!("subscribed: {account} deposits {amount}, read from the {:?}", batch.role());
        }
    }

    // A consumer: the database keeps the checkpoint, and another process resumes from it.
    let mut consumer = store.consumer("printer", &deposits).batch_events(4).build()?;
    while let Some(batch) = consumer.next_batch().await {
        let batch = batch?;
        println!("consumed: {} events, {} of the log behind them", batch.len(), batch.events_behind());
        consumer.commit(&batch).await?;
        if batch.events_behind() == 0 {
            break;
        }
    }
    consumer.close().await?;
    let status = store.consumer_control("printer").status().await?;
    println!("the consumer is {} events behind", status.events_behind());

    // A read model: each event takes effect exactly once, and users see their own writes.
    let read_models = ReadModels::builder(&store).with(Balances)?.start()?;
    read_models.wait_until_caught_up(Duration::from_secs(30), |all| all.iter().for_each(bar)).await?;
    let mark = deposit(&store, "ada", 100).await?;
    read_models.wait_until_handled("balances", mark).await?;
    let row =
        store.router().client().await?.query_one("SELECT balance FROM balances WHERE account = 'ada'", &[]).await?;
    let balance: i64 = row.get(0);
    println!("kept: ada has {balance}");
    assert_eq!(balance, 115);
    read_models.stop().await;
    Ok(())
}
