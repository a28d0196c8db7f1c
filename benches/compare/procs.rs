//! The store in several processes: this program, started again as `worker`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    Outcome,
    child_process::{LIMIT, Orders, Process},
    fill::LOG,
    guarded,
    library::Library,
    side::{Boxed, Sample, Side, Table, begin, drive},
};

/// The first line.
#[derive(Debug, Deserialize, Serialize)]
struct Task {
    /// Not in the arguments, which everybody can see.
    url: String,
    seed: u64,
    events: u64,
    first: u64,
    tasks: u64,
    connections: u32,
}

#[derive(Debug, Deserialize, Serialize)]
struct Answer {
    done: u64,
    written: u64,
    conflicts: u64,
    micros: u64,
    latencies: Vec<u32>,
}

#[derive(Debug, Deserialize, Serialize)]
enum Order {
    Begin,
    /// The round's length in milliseconds.
    Run(u64),
}

/// Several processes with `tasks` each, and as many connections each.
pub(crate) struct Procs {
    processes: Vec<Process>,
    connections: usize,
}

impl Procs {
    pub(crate) async fn start(
        url: &str,
        (seed, events): (u64, u64),
        first: u64,
        processes: u64,
        tasks: u64,
    ) -> Outcome<Self> {
        let mut started = Vec::new();
        for process in 0..processes {
            let (first, connections) = (first + process * tasks, u32::try_from(tasks)?);
            let task = Task { url: url.to_owned(), seed, events, first, tasks, connections };
            started.push(Process::start("worker", &task).await?);
        }
        Ok(Self { processes: started, connections: usize::try_from(processes * tasks)? })
    }

    async fn round(&mut self, span: Duration) -> Outcome<Sample> {
        for process in &mut self.processes {
            process.send(&Order::Begin).await?;
        }
        for process in &mut self.processes {
            process.receive::<()>(LIMIT).await?;
        }
        for process in &mut self.processes {
            process.send(&Order::Run(u64::try_from(span.as_millis())?)).await?;
        }
        let mut sample = Sample::default();
        for process in &mut self.processes {
            let answer: Answer = process.receive(span + LIMIT).await?;
            let Answer { done, written, conflicts, micros, latencies } = answer;
            let elapsed = sample.elapsed.max(Duration::from_micros(micros));
            sample.add(Sample { done, written, conflicts, elapsed, micros: latencies });
            sample.elapsed = elapsed;
        }
        sample.micros.sort_unstable();
        Ok(sample)
    }
}

impl Side for Procs {
    fn connections(&self) -> usize {
        self.connections
    }

    fn table(&self) -> Option<Table> {
        Some(LOG)
    }

    fn run(&mut self, span: Duration) -> Boxed<'_, Outcome<Sample>> {
        Box::pin(self.round(span))
    }
}

/// Runs a worker process.
pub(crate) async fn work() -> Outcome {
    let (mut orders, task) = Orders::open::<Task>("`compare append`").await?;
    let library = Library::new(task.seed, task.events);
    let store = guarded::store(&task.url, task.connections).await?;
    let mut crew = guarded::crew(&store, &library, task.first, task.tasks, task.connections)?;
    while let Some(order) = orders.next().await? {
        match order {
            Order::Begin => orders.answer(&begin(&mut crew.workers).await?).await?,
            Order::Run(millis) => {
                let sample = drive(&mut crew.workers, Duration::from_millis(millis)).await?;
                let Sample { done, written, conflicts, elapsed, micros: latencies } = sample;
                let micros = u64::try_from(elapsed.as_micros())?;
                orders.answer(&Answer { done, written, conflicts, micros, latencies }).await?;
            }
        }
    }
    Ok(())
}
