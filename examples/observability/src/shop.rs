//! A shop whose last copies are in demand: conflicting commands, reads from replicas, a read model, a snapshot.

use std::time::Duration;

use mainstem::{
    AppendCondition, Command, CommandExecutor, CommandRecord, Consistency, ConsumerTransaction, Decision, Error,
    ErrorKind, Event, EventStore, Filter, LogName, NewEvent, PoisonPolicy, PostgresEventStore, Projection, ReadModel,
    ReadModels, Result, Router, SnapshotKey, SnapshotStore, with_eventual_consistency,
};
use serde_json::json;
use tokio::{task::JoinSet, time::timeout};
use tracing::Instrument;

/// The shop's own log: the cluster may belong to somebody else, whose log and tables the shop must not touch.
///
/// # Errors
///
/// None: the names are valid.
pub fn log() -> Result<LogName> {
    LogName::new("mainstem_observability", "shop")
}

/// A book, and how many of its copies are left.
struct Stock {
    book: u32,
    left: i64,
}

impl Projection for Stock {
    fn filter(&self) -> Result<Filter> {
        let types = Filter::matching().any_type_of(["CopyAdded", "CopySold"]);
        types.and_all_tags_of([format!("book:{}", self.book)]).finish()
    }

    fn apply(&mut self, event: &Event) -> Result<()> {
        self.left += if event.event_type() == "CopyAdded" { 1 } else { -1 };
        Ok(())
    }
}

/// Sells a copy, if there is one.
struct SellCopy(u32);

impl Command for SellCopy {
    type Model = Stock;
    type Refusal = String;

    fn model(&self) -> Stock {
        Stock { book: self.0, left: 0 }
    }

    fn decide(&self, stock: &Stock) -> Result<Decision<String>> {
        if stock.left <= 0 {
            return Ok(Decision::refuse("sold out".to_owned()));
        }
        Ok(Decision::append([NewEvent::new("CopySold", &json!({}))?.with_tag(format!("book:{}", self.0))]))
    }
}

/// Sales by book, kept in a table beside the log. Some events it cannot handle, and skips.
struct Sales;

impl ReadModel for Sales {
    fn name(&self) -> String {
        "observability_sales".to_owned()
    }

    fn filter(&self) -> Result<Filter> {
        Filter::matching().any_type_of(["CopySold", "Nonsense"]).finish()
    }

    async fn clear(&mut self, transaction: &ConsumerTransaction) -> Result<()> {
        let sql = "CREATE TABLE IF NOT EXISTS mainstem_observability.sales (book text); \
                   TRUNCATE mainstem_observability.sales";
        transaction.batch_execute(sql).await
    }

    async fn apply(&mut self, event: &Event, transaction: &ConsumerTransaction) -> Result<()> {
        let Some(book) = event.tags().next() else {
            return Err(Error::new(ErrorKind::InvalidData, "an event without a book"));
        };
        transaction.execute("INSERT INTO mainstem_observability.sales VALUES ($1)", &[&book]).await.map(drop)
    }
}

/// Runs the shop for this long, or for ever.
///
/// # Errors
///
/// Database errors, except those that are part of the show.
pub async fn run(router: &Router, store: &PostgresEventStore, duration: Option<Duration>) -> Result<()> {
    let policy = PoisonPolicy::skip().retries(1, Duration::from_millis(10));
    let read_models = ReadModels::builder(store).with(Sales)?.poison_policy(policy).start()?;
    let open = async {
        for day in 0.. {
            let span = tracing::info_span!("day", day);
            let sold = one_day(router, store, day).instrument(span.clone()).await?;
            span.in_scope(|| tracing::info!(day, sold, "the shop has closed"));
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Ok(())
    };
    let outcome = match duration {
        Some(duration) => timeout(duration, open).await.unwrap_or(Ok(())),
        None => open.await,
    };
    read_models.stop().await;
    outcome
}

/// Some copies come in, many want them, and somebody looks at what is left. Returns how many were sold.
async fn one_day(router: &Router, store: &PostgresEventStore, day: u32) -> Result<usize> {
    let executor = CommandExecutor::new(store.clone()).base_delay(Duration::from_millis(1)).max_attempts(3);
    let tag = format!("book:{day}");
    let copies = (0..20).map(|_| Ok(NewEvent::new("CopyAdded", &json!({}))?.with_tag(&*tag)));
    let added = store.append(copies.collect::<Result<Vec<_>>>()?, AppendCondition::none()).await?;
    store.append([NewEvent::new("Nonsense", &json!({}))?], AppendCondition::none()).await?;
    let mut buyers = JoinSet::new();
    for _ in 0..20 {
        let executor = executor.clone();
        buyers.spawn(async move { executor.execute(&SellCopy(day)).await.is_ok() }.in_current_span());
    }
    let sold = buyers.join_all().await.into_iter().filter(|is_sold| *is_sold).count();
    let record = CommandRecord::new(format!("last-of-{day}"), "SellCopy");
    for _ in 0..2 {
        let _ = executor.execute(&SellCopy(day)).recorded(record.clone()).await;
    }

    // Everybody's view, from any replica; and one's own, from a replica that has one's own writes.
    let filter = Stock { book: day, left: 0 }.filter()?;
    let events = with_eventual_consistency(async { store.query(&filter).await }).await?;
    tracing::debug!(events = events.len(), node = events.node(), "looked");
    store.query(&filter).consistency(Consistency::AtLeast(added.token().clone())).await?;
    let client = router.client_at(Consistency::Eventual).await?;
    client.query("SELECT count(*) FROM pg_stat_activity", &[]).await?;
    let key = SnapshotKey::new("everything", 1, &Filter::any_event());
    let count = |events: &mut u64, _: &Event| {
        *events += 1;
        Ok(())
    };
    store.project(&key, 0_u64, count).save_every(1).await?;
    Ok(sold)
}
