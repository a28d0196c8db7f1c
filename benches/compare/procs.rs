//! The store in several processes: this program, started again as `worker`, driven by lines.
//!
//! The first line to a worker says what it is. Then `begin` is answered by `ready`, and `run MILLISECONDS` by what was
//! done. The end of its input is its end.

use std::{process::Stdio, time::Duration};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

use crate::{
    Outcome,
    fill::LOG,
    guarded,
    library::Library,
    side::{Boxed, Sample, Side, Table, begin, drive},
};

/// For one answer, beyond the length of the round.
pub(crate) const LIMIT: Duration = Duration::from_secs(180);

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
    Run(u64),
}

/// A process that answers line by line.
pub(crate) struct Process {
    // Killed when dropped.
    _child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Process {
    /// This program once more, as `role`; the first line tells it the rest.
    pub(crate) async fn start(role: &str, first: &impl Serialize) -> Outcome<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg(role)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let input = child.stdin.take().ok_or("no standard input")?;
        let output = BufReader::new(child.stdout.take().ok_or("no standard output")?).lines();
        let mut process = Self { _child: child, input, output };
        process.send(first).await?;
        Ok(process)
    }

    pub(crate) async fn send(&mut self, what: &impl Serialize) -> Outcome {
        let line = serde_json::to_string(what)? + "\n";
        Ok(self.input.write_all(line.as_bytes()).await?)
    }

    pub(crate) async fn receive<T: DeserializeOwned>(&mut self, limit: Duration) -> Outcome<T> {
        let line =
            timeout(limit, self.output.next_line()).await.map_err(|_| format!("no answer within {limit:?}"))??;
        Ok(serde_json::from_str(&line.ok_or("a worker has ended; its reason is on standard error")?)?)
    }
}

/// `processes` with `tasks` each, on as many connections each.
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

/// The life of a worker.
pub(crate) async fn work() -> Outcome {
    let mut input = BufReader::new(tokio::io::stdin()).lines();
    let mut output = tokio::io::stdout();
    let first = input.next_line().await?.ok_or("a worker is started by `compare append` only")?;
    let task: Task = serde_json::from_str(&first)?;
    let library = Library::new(task.seed, task.events);
    let store = guarded::store(&task.url, task.connections).await?;
    let mut crew = guarded::crew(&store, &library, task.first, task.tasks, task.connections)?;
    while let Some(line) = input.next_line().await? {
        let answer = match serde_json::from_str(&line)? {
            Order::Begin => {
                begin(&mut crew.workers).await?;
                serde_json::to_string(&())?
            }
            Order::Run(millis) => {
                let sample = drive(&mut crew.workers, Duration::from_millis(millis)).await?;
                let Sample { done, written, conflicts, elapsed, micros: latencies } = sample;
                let micros = u64::try_from(elapsed.as_micros())?;
                serde_json::to_string(&Answer { done, written, conflicts, micros, latencies })?
            }
        };
        output.write_all((answer + "\n").as_bytes()).await?;
        output.flush().await?;
    }
    Ok(())
}
