//! Sides take turns, round after round, so that changes in the meantime (the disk, other load) affect all of them.

use std::{ops::Deref, sync::Arc, time::Duration};

use tokio_postgres::Client;

pub(crate) use crate::stats::median;
use crate::{
    Outcome,
    progress::Progress,
    server,
    side::{Sample, Side, Table},
};

/// How many rounds, and how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) rounds: usize,
    pub(crate) span: Duration,
}

/// A connection that checks what the sides have done.
#[derive(Clone)]
pub(crate) struct Control(Arc<Client>);

impl Control {
    pub(crate) async fn connect(url: &str) -> Outcome<Self> {
        Ok(Self(Arc::new(server::connect(url).await?)))
    }
}

impl Deref for Control {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.0
    }
}

/// One side, and the results of its rounds.
pub(crate) struct Lane {
    pub(crate) name: &'static str,
    side: Box<dyn Side>,
    control: Control,
    pub(crate) samples: Vec<Sample>,
}

impl Lane {
    pub(crate) fn new(name: &'static str, side: impl Side + 'static, control: &Control) -> Self {
        Self { name, side: Box::new(side), control: control.clone(), samples: Vec::new() }
    }

    pub(crate) fn connections(&self) -> usize {
        self.side.connections()
    }

    /// A figure of each round, in order.
    pub(crate) fn each(&self, figure: impl Fn(&Sample) -> f64) -> Vec<f64> {
        self.samples.iter().map(figure).collect()
    }
}

/// One round that does not count, then `plan.rounds` of each side. Each round begins with another side.
///
/// After each round, the table must have exactly the rows that the side says it has written.
pub(crate) async fn take_turns(what: &str, lanes: &mut [Lane], plan: Plan) -> Outcome {
    if let Some(lane) = lanes.first() {
        lane.control.batch_execute("CHECKPOINT").await?;
    }
    let mut progress = Progress::new(what, ((plan.rounds + 1) * lanes.len()) as u64);
    for round in 0..=plan.rounds {
        for turn in 0..lanes.len() {
            // Forwards and backwards, so that no side always follows the same neighbour.
            let place = if round % 2 == 0 { turn } else { lanes.len() - 1 - turn };
            let index = (round / 2 + place) % lanes.len();
            let Some(lane) = lanes.get_mut(index) else { continue };
            let table = lane.side.table();
            let before = head(&lane.control, table).await?;
            let ran = lane.side.run(plan.span).await;
            let sample = ran.map_err(|error| format!("{}: {}", lane.name, crate::peers::chain(&*error)))?;
            check(&lane.control, table, before, &sample).await.map_err(|error| format!("{}: {error}", lane.name))?;
            if sample.done == 0 {
                return Err(format!("{}: nothing was done in a round of {:?}", lane.name, plan.span).into());
            }
            if round > 0 {
                lane.samples.push(sample);
            }
            progress.step(lane.name);
        }
    }
    progress.finish();
    Ok(())
}

async fn head(control: &Client, table: Option<Table>) -> Outcome<i64> {
    let Some(Table { name, position }) = table else { return Ok(0) };
    let sql = format!("SELECT coalesce(max({position}), 0) FROM {name}");
    Ok(control.query_one(&sql, &[]).await?.get(0))
}

async fn check(control: &Client, table: Option<Table>, before: i64, sample: &Sample) -> Outcome {
    let Some(Table { name, position }) = table else { return Ok(()) };
    let sql = format!("SELECT count(*) FROM {name} WHERE {position} > $1");
    let there: i64 = control.query_one(&sql, &[&before]).await?.get(0);
    if u64::try_from(there)? == sample.written {
        return Ok(());
    }
    Err(format!("{} writes were acknowledged in a round, and {there} rows are there", sample.written).into())
}

/// The median, over the rounds, of `combine` applied to the two sides' figures of the same round.
pub(crate) fn paired(
    one: &Lane,
    other: &Lane,
    figure: impl Fn(&Sample) -> f64 + Copy,
    combine: impl Fn(f64, f64) -> f64,
) -> f64 {
    median(one.each(figure).into_iter().zip(other.each(figure)).map(|(one, other)| combine(one, other)).collect())
}
