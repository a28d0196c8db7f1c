//! The processes of writers: this program, started again as `writers` or `deciders`.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde::de::DeserializeOwned;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, Command},
    task::JoinHandle,
    time::{Instant, timeout_at},
};

use crate::{
    Outcome,
    writer::{Count, SETTLE, Task},
};

/// The time for starting, connecting and writing the end of the journal.
const SLACK: Duration = Duration::from_secs(30);

/// The processes. Each is killed when this is dropped.
pub(crate) struct Processes {
    processes: Vec<Process>,
}

struct Process {
    child: Child,
    counts: JoinHandle<()>,
    last: Arc<Mutex<Count>>,
    journal: PathBuf,
}

impl Processes {
    pub(crate) async fn start(as_what: &str, task: &Task, processes: u64, folder: &Path) -> Outcome<Self> {
        let (first, amount) = (task.writers.start, task.writers.end - task.writers.start);
        let mut started = Vec::new();
        for process in 0..processes {
            let journal = folder.join(format!("process-{process}.jsonl"));
            let writers = first + amount * process / processes..first + amount * (process + 1) / processes;
            let task = Task { journal: journal.clone(), writers, ..task.clone() };
            let mut child = Command::new(std::env::current_exe()?)
                .arg(as_what)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .kill_on_drop(true)
                .spawn()?;
            // Not in the arguments, which everybody can see: the URLs hold a password.
            let line = serde_json::to_string(&task)? + "\n";
            child.stdin.as_mut().ok_or("no standard input")?.write_all(line.as_bytes()).await?;
            let mut lines = BufReader::new(child.stdout.take().ok_or("no standard output")?).lines();
            let last = Arc::<Mutex<Count>>::default();
            let latest = Arc::clone(&last);
            let counts = tokio::spawn(async move {
                while let Ok(Some(line)) = lines.next_line().await {
                    if let (Ok(count), Ok(mut latest)) = (serde_json::from_str(&line), latest.lock()) {
                        *latest = count;
                    }
                }
            });
            started.push(Process { child, counts, last, journal });
        }
        Ok(Self { processes: started })
    }

    /// What they have done so far.
    pub(crate) fn count(&self) -> Count {
        let counts = self.processes.iter().filter_map(|process| process.last.lock().ok().map(|count| *count));
        counts.fold(Count::default(), |all, one| Count {
            appends: all.appends + one.appends,
            conflicts: all.conflicts + one.conflicts,
            lost: all.lost + one.lost,
        })
    }

    /// Waits for them to end, and reads their journals, one for each process.
    pub(crate) async fn finish<E: DeserializeOwned>(&mut self, seconds: u64) -> Outcome<Vec<Vec<E>>> {
        let limit = Instant::now() + Duration::from_secs(seconds) + SETTLE + SLACK;
        let mut journals = Vec::new();
        for process in &mut self.processes {
            // Keep its standard input open: `wait` would close it, which ends a process.
            let input = process.child.stdin.take();
            let status =
                timeout_at(limit, process.child.wait()).await.map_err(|_| "a process of writers does not end")??;
            drop(input);
            if !status.success() {
                return Err(format!("a process of writers has ended with {status}").into());
            }
            timeout_at(limit, &mut process.counts)
                .await
                .map_err(|_| "a process of writers does not close its output")??;
            let text = std::fs::read_to_string(&process.journal)?;
            journals.push(text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?);
        }
        Ok(journals)
    }
}
