//! A side of a comparison: workers that repeat the same step for the length of a round.

use std::{future::Future, pin::Pin, time::Duration};

use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};

use crate::Outcome;

pub(crate) type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The time for a step in flight at a round's end, and for what precedes the round.
const GRACE: Duration = Duration::from_secs(180);

/// One side, as the rounds see it.
pub(crate) trait Side: Send {
    /// The maximum number of connections to the server.
    fn connections(&self) -> usize;

    /// Where each step's row is found.
    fn table(&self) -> Option<Table>;

    /// Works for this long.
    fn run(&mut self, span: Duration) -> Boxed<'_, Outcome<Sample>>;
}

/// A table whose rows are in an order that only grows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Table {
    pub(crate) name: &'static str,
    pub(crate) position: &'static str,
}

/// The result of one round.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sample {
    /// The steps that count.
    pub(crate) done: u64,
    /// The rows that must now be there.
    pub(crate) written: u64,
    pub(crate) conflicts: u64,
    pub(crate) elapsed: Duration,
    /// The latency of each step that counts, sorted.
    pub(crate) micros: Vec<u32>,
}

impl Sample {
    #[expect(clippy::cast_precision_loss, reason = "figures with three digits")]
    pub(crate) fn per_second(&self) -> f64 {
        self.done as f64 / self.elapsed.as_secs_f64()
    }

    #[expect(clippy::cast_precision_loss, reason = "figures with three digits")]
    pub(crate) fn written_per_second(&self) -> f64 {
        self.written as f64 / self.elapsed.as_secs_f64()
    }

    /// The latency that this percentage of steps did not exceed, in microseconds.
    pub(crate) fn percentile(&self, hundredths: usize) -> f64 {
        let index = (self.micros.len() * hundredths / 100).min(self.micros.len().saturating_sub(1));
        self.micros.get(index).map_or(f64::NAN, |&micros| f64::from(micros))
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.done += other.done;
        self.written += other.written;
        self.conflicts += other.conflicts;
        self.micros.extend(other.micros);
    }
}

/// One task.
pub(crate) trait Worker: Send + 'static {
    /// Runs before each round; not counted.
    fn begin(&mut self) -> impl Future<Output = Outcome> + Send {
        async { Ok(()) }
    }

    /// The unit that is measured.
    fn step(&mut self) -> impl Future<Output = Outcome<Step>> + Send;

    /// Runs between two steps; not measured.
    fn rest(&mut self) -> impl Future<Output = ()> + Send {
        async {}
    }
}

/// The result of a step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    /// False for work that only adds load.
    pub(crate) counts: bool,
    pub(crate) written: u64,
    pub(crate) conflicts: u64,
}

impl Step {
    pub(crate) const READ: Self = Self { counts: true, written: 0, conflicts: 0 };
    pub(crate) const WRITTEN: Self = Self { counts: true, written: 1, conflicts: 0 };
}

/// Workers of one kind.
pub(crate) struct Crew<W> {
    pub(crate) workers: Vec<W>,
    pub(crate) connections: usize,
    pub(crate) table: Option<Table>,
}

impl<W: Worker> Side for Crew<W> {
    fn connections(&self) -> usize {
        self.connections
    }

    fn table(&self) -> Option<Table> {
        self.table
    }

    fn run(&mut self, span: Duration) -> Boxed<'_, Outcome<Sample>> {
        Box::pin(async move {
            begin(&mut self.workers).await?;
            drive(&mut self.workers, span).await
        })
    }
}

/// Prepares all workers.
pub(crate) async fn begin<W: Worker>(workers: &mut Vec<W>) -> Outcome {
    let mut set = JoinSet::new();
    for mut worker in workers.drain(..) {
        set.spawn(async move { worker.begin().await.map(|()| worker) });
    }
    workers.extend(timeout(GRACE, joined(set)).await.map_err(|_| format!("not ready within {GRACE:?}"))??);
    Ok(())
}

/// Runs all workers; what is in flight at the end is waited for, and counts.
pub(crate) async fn drive<W: Worker>(workers: &mut Vec<W>, span: Duration) -> Outcome<Sample> {
    let start = Instant::now();
    let end = start + span;
    let mut set = JoinSet::new();
    for mut worker in workers.drain(..) {
        set.spawn(async move {
            let mut sample = Sample::default();
            let mut now = Instant::now();
            while now < end {
                let before = now;
                let step = worker.step().await?;
                let after = Instant::now();
                sample.written += step.written;
                sample.conflicts += step.conflicts;
                if step.counts {
                    sample.done += 1;
                    let micros = after.duration_since(before).as_micros();
                    sample.micros.push(u32::try_from(micros).unwrap_or(u32::MAX));
                }
                worker.rest().await;
                now = Instant::now();
            }
            Outcome::Ok((worker, sample))
        });
    }
    let limit = span + GRACE;
    let ended = timeout(limit, joined(set)).await.map_err(|_| format!("a round did not end within {limit:?}"))??;
    let mut whole = Sample { elapsed: start.elapsed(), ..Sample::default() };
    for (worker, sample) in ended {
        workers.push(worker);
        whole.add(sample);
    }
    whole.micros.sort_unstable();
    Ok(whole)
}

async fn joined<T: 'static>(mut set: JoinSet<Outcome<T>>) -> Outcome<Vec<T>> {
    let mut all = Vec::with_capacity(set.len());
    while let Some(ended) = set.join_next().await {
        all.push(ended??);
    }
    Ok(all)
}
