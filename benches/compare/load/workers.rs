//! The processes that generate the load: this program, started again as `loader`.

use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};

use super::{
    appender::Appender,
    arrivals::Arrivals,
    drive::{Ran, drive},
    latencies::Latencies,
    options::Shape,
};
use crate::{
    Outcome,
    child_process::{LIMIT, Orders, Process},
    guarded,
    library::Library,
    side::begin,
};

/// From the order to begin until all processes begin.
const LEAD: Duration = Duration::from_millis(100);

/// The connections of a process; additional writers share them.
const CONNECTIONS: u64 = 32;

/// The first line.
#[derive(Debug, Deserialize, Serialize)]
struct Task {
    url: String,
    seed: u64,
    events: u64,
    first: u64,
    writers: u64,
    payload: Option<u64>,
}

#[derive(Debug, Deserialize, Serialize)]
enum Order {
    Begin,
    Run {
        /// Nanoseconds since 1970: one clock for all of them.
        at: u64,
        millis: u64,
        arrivals: Option<(u64, u64)>,
    },
}

/// The results of all of them in a round.
#[derive(Debug)]
pub(super) struct Round {
    pub(super) done: u64,
    pub(super) waiting: u64,
    pub(super) elapsed: Duration,
    pub(super) latencies: Latencies,
}

pub(super) struct Workers {
    processes: Vec<Process>,
}

impl Workers {
    pub(super) async fn start(url: &str, (seed, events): (u64, u64), first: u64, shape: &Shape) -> Outcome<Self> {
        let mut processes = Vec::new();
        let mut begun = 0;
        for process in 0..shape.processes {
            // As equal as possible.
            let until = shape.writers * (process + 1) / shape.processes;
            let (first, writers) = (first + begun, until - begun);
            begun = until;
            let task = Task { url: url.to_owned(), seed, events, first, writers, payload: shape.payload };
            processes.push(Process::start("loader", &task).await?);
        }
        Ok(Self { processes })
    }

    /// Before a round: catches up with what others have written.
    pub(super) async fn begin(&mut self) -> Outcome {
        for process in &mut self.processes {
            process.send(&Order::Begin).await?;
        }
        for process in &mut self.processes {
            process.receive::<()>(LIMIT).await?;
        }
        Ok(())
    }

    pub(super) async fn run(&mut self, span: Duration, rate: Option<f64>) -> Outcome<Round> {
        let at = u64::try_from((SystemTime::now() + LEAD).duration_since(SystemTime::UNIX_EPOCH)?.as_nanos())?;
        let (count, millis) = (self.processes.len() as u64, u64::try_from(span.as_millis())?);
        for (number, process) in (0..).zip(&mut self.processes) {
            let arrivals = rate.map(|rate| Arrivals::shared(rate, number, count).parts());
            process.send(&Order::Run { at, millis, arrivals }).await?;
        }
        let mut round = Round { done: 0, waiting: 0, elapsed: Duration::ZERO, latencies: Latencies::new()? };
        for process in &mut self.processes {
            let ran: Ran = process.receive(span + LIMIT).await?;
            round.done += ran.done;
            round.waiting += ran.waiting;
            round.elapsed = round.elapsed.max(Duration::from_micros(ran.micros));
            round.latencies.add(&ran.latencies)?;
        }
        Ok(round)
    }
}

/// Runs such a process.
pub(crate) async fn work() -> Outcome {
    let (mut orders, task) = Orders::open::<Task>("`compare load` and `compare scale`").await?;
    let library = Library::new(task.seed, task.events);
    let store = guarded::store(&task.url, u32::try_from(task.writers.min(CONNECTIONS))?).await?;
    let numbers = task.first..task.first + task.writers;
    let mut workers: Vec<Appender> =
        numbers.map(|number| Appender::new(&store, &library, number, task.payload)).collect::<Outcome<_>>()?;
    while let Some(order) = orders.next().await? {
        match order {
            Order::Begin => orders.answer(&begin(&mut workers).await?).await?,
            Order::Run { at, millis, arrivals } => {
                let now = u64::try_from(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_nanos())?;
                let start = Instant::now() + Duration::from_nanos(at.saturating_sub(now));
                let span = Duration::from_millis(millis);
                let ran = drive(&mut workers, start, span, arrivals.map(Arrivals::from_parts)).await?;
                orders.answer(&ran).await?;
            }
        }
    }
    Ok(())
}
