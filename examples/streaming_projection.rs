//! A projection of more events than one would hold: applied as they arrive, in little memory, and good for a decision.
//!
//!     cargo run --release --example streaming_projection --features migrations,testing -- 100000

use mainstem::{
    AppendCondition, DecisionModel, Event, EventStore, Filter, NewEvent, PostgresEventStore, Projection, Result,
    Router, testing::LocalCluster,
};
use tokio::time::Instant;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let readings = std::env::args().nth(1).map_or(Ok(20_000), |word| word.parse())?;
    let cluster = LocalCluster::start().await?;
    let router = Router::builder().primary(cluster.primary().url()).connect().await?;
    let store = PostgresEventStore::new(&router);
    store.migrate().await?;
    Ok(run(store, readings).await?)
}

/// The mean of all readings; the readings themselves are not kept.
#[derive(Default)]
struct Mean {
    readings: u64,
    sum: f64,
}

impl Projection for Mean {
    fn filter(&self) -> Result<Filter> {
        Filter::matching().any_type_of(["Measured"]).finish()
    }

    fn apply(&mut self, event: &Event) -> Result<()> {
        self.sum += event.decode::<f64>()?;
        self.readings += 1;
        Ok(())
    }
}

pub(crate) async fn run(store: impl EventStore, readings: u32) -> Result<()> {
    let events = (0..readings).filter_map(|n| NewEvent::new("Measured", &f64::from(n % 100)).ok());
    store.import(events, AppendCondition::none()).await?;

    let begin = Instant::now();
    let read = Mean::default().read_from(&store).streaming().await?;
    let Mean { readings: read_now, sum } = read.state();
    let mean = sum / *read_now as f64;
    let per_second = *read_now as f64 / begin.elapsed().as_secs_f64();
    println!("{read_now} readings, the mean is {mean:.2}; {per_second:.0} events/s");
    assert_eq!(*read_now, u64::from(readings));

    // The stream has ended, so an append can rely on this read as on any other.
    let averaged = NewEvent::new("Averaged", &mean)?;
    store.append([averaged.clone()], read.unchanged()).await?;
    store.append([NewEvent::new("Measured", &1.0)?], AppendCondition::none()).await?;
    let again = NewEvent::new("Averaged", &mean)?;
    let error = store.append([again], read.unchanged()).await.expect_err("there is a new reading");
    println!("refused: {error}");
    Ok(())
}
