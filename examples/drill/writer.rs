//! A process of writers: each reads, decides and appends until time is up, and keeps a journal.

use std::{
    io::Write as _,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use mainstem::{
    AppendCondition, Consistency, Error, Event, EventStore, Filter, Mark, NewEvent, PostgresEventStore, Router,
};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    time::{Instant, sleep, timeout},
};

use crate::{
    Failure, Outcome,
    args::FirstRead,
    journal::{Answer, Condition, Entry, Read, Written},
    may_pass,
    plan::{self, Dice, Subject},
};

/// The first line of a process's standard input. The process prints a [`Count`] every second.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Task {
    pub(crate) primary: String,
    pub(crate) replica: String,
    pub(crate) journal: PathBuf,
    pub(crate) seed: u64,
    /// The numbers of this process's writers.
    pub(crate) writers: std::ops::Range<u64>,
    pub(crate) seconds: u64,
    pub(crate) first_read: FirstRead,
}

/// What a process has done so far.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Count {
    pub(crate) appends: u64,
    pub(crate) conflicts: u64,
    /// Attempts without an answer.
    pub(crate) lost: u64,
}

/// The limit of one call. Shorter than an outage, so that some outcomes are unknown for this reason, too.
const CALL: Duration = Duration::from_secs(5);

/// How long after the end unknown outcomes are still asked for.
pub(crate) const SETTLE: Duration = Duration::from_secs(60);

/// How far back most reads begin: the log is long, and the drill itself chooses what a decision must know.
const RECENT: u64 = 400;

/// What the writers of a process share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) store: PostgresEventStore,
    journal: Arc<Mutex<std::io::BufWriter<std::fs::File>>>,
    pub(crate) appends: Arc<AtomicU64>,
    pub(crate) conflicts: Arc<AtomicU64>,
    pub(crate) lost: Arc<AtomicU64>,
    pub(crate) end: Instant,
    pub(crate) first_read: FirstRead,
}

/// Runs a process; `run` runs one of its writers, identified by a number.
pub(crate) async fn work<F>(run: fn(Shared, u64, u64) -> F) -> Outcome
where
    F: Future<Output = Outcome> + Send + 'static,
{
    let mut input = BufReader::new(tokio::io::stdin()).lines();
    let first = input.next_line().await?.ok_or("writers are started by `drill append` only")?;
    let task: Task = serde_json::from_str(&first)?;
    // This process ends together with the one that started it.
    tokio::spawn(async move {
        while let Ok(Some(_)) = input.next_line().await {}
        std::process::exit(1);
    });
    let end = Instant::now() + Duration::from_secs(task.seconds);
    let shared = Shared {
        store: PostgresEventStore::new(&connected(&task, end).await?),
        journal: Arc::new(Mutex::new(std::io::BufWriter::new(std::fs::File::create(&task.journal)?))),
        appends: Arc::default(),
        conflicts: Arc::default(),
        lost: Arc::default(),
        end,
        first_read: task.first_read,
    };
    let writers: Vec<_> =
        task.writers.clone().map(|writer| tokio::spawn(run(shared.clone(), task.seed, writer))).collect();
    let all = async {
        for writer in writers {
            writer.await??;
        }
        Ok::<_, Failure>(())
    };
    tokio::pin!(all);
    loop {
        let ended = timeout(Duration::from_secs(1), &mut all).await;
        let done = ended.is_ok();
        if let Ok(outcome) = ended {
            outcome?;
            shared.journal.lock().map_err(|_| "a writer panicked")?.flush()?;
        }
        let [appends, conflicts, lost] =
            [&shared.appends, &shared.conflicts, &shared.lost].map(|count| count.load(Ordering::Relaxed));
        let line = serde_json::to_string(&Count { appends, conflicts, lost })? + "\n";
        let mut output = tokio::io::stdout();
        output.write_all(line.as_bytes()).await?;
        output.flush().await?;
        if done {
            return Ok(());
        }
    }
}

/// Sessions are killed from the very beginning, even one in which a router probes a node for the first time.
async fn connected(task: &Task, end: Instant) -> Outcome<Router> {
    let connections = u32::try_from(task.writers.end - task.writers.start)?.min(8) + 2;
    loop {
        let router = Router::builder().primary(&task.primary).replica(&task.replica).max_connections(connections);
        match router.call_timeout(CALL).connect().await {
            Err(error) if error.is_retryable() && Instant::now() < end => pause().await,
            outcome => return Ok(outcome?),
        }
    }
}

/// One writer.
pub(crate) async fn run(shared: Shared, seed: u64, writer: u64) -> Outcome {
    let mut dice = Dice::new(seed, writer);
    let mut head = 0_u64;
    // An earlier read, for outdated decisions.
    let mut old: Option<(Subject, Condition)> = None;
    while Instant::now() < shared.end {
        let subject = Subject::roll(&mut dice);
        let (events, condition) = match (dice.roll(16), old.take()) {
            (0 | 1, _) => (subject.events(&mut dice), None),
            (2, _) => {
                let (filter, events) = plan::claim(&mut dice)?;
                (events, Some(Condition { filter, after: None, read: None }))
            }
            (3 | 4, Some((subject, condition))) => (subject.events(&mut dice), Some(condition)),
            _ => {
                let filter = subject.boundary(&mut dice)?;
                // A decision may be based on a replica's past: the append detects it.
                let level = if dice.one_in(6) { Consistency::Eventual } else { Consistency::Strong };
                let from = if dice.one_in(24) { 0 } else { head.saturating_sub(RECENT) };
                let Some(condition) = shared.read(filter, from, level).await? else { continue };
                head = condition.after.map_or(0, |mark| mark.position());
                old = Some((subject, condition.clone()));
                (subject.events(&mut dice), Some(condition))
            }
        };
        shared.append(writer, events, condition, &mut dice).await?;
    }
    Ok(())
}

impl Shared {
    /// Reads the matching events after a position. `None` if nobody answers.
    async fn read(&self, filter: Filter, from: u64, consistency: Consistency) -> Outcome<Option<Condition>> {
        let news = filter.clone().after_position(from);
        loop {
            match self.store.query(&news).consistency(consistency.clone()).await {
                Ok(history) => {
                    let positions = history.iter().map(Event::position).collect();
                    let read = Some(Read { from, positions });
                    return Ok(Some(Condition { filter, after: history.head(), read }));
                }
                Err(error) if error.is_retryable() && Instant::now() < self.end => pause().await,
                Err(error) if error.is_retryable() => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn append(
        &self,
        writer: u64,
        events: Vec<Written>,
        condition: Option<Condition>,
        dice: &mut Dice,
    ) -> Outcome {
        let new = events.iter().map(Written::event).collect::<mainstem::Result<Vec<_>>>()?;
        let mut lost = 0;
        if dice.one_in(20) {
            // Cancelled half-way, and then repeated.
            let limit = Duration::from_micros(dice.roll(3_000));
            let _ = timeout(limit, self.store.append(new.clone(), sent(condition.as_ref())).into_future()).await;
        }
        let mut answers = Vec::new();
        if dice.one_in(20) {
            let ((one, lost_by_one), (other, lost_by_other)) =
                tokio::join!(self.settle(&new, condition.as_ref()), self.settle(&new, condition.as_ref()));
            answers.extend([one, other]);
            lost += lost_by_one + lost_by_other;
        } else {
            let (answer, tries) = self.settle(&new, condition.as_ref()).await;
            answers.push(answer);
            lost += tries;
        }
        if dice.one_in(12) {
            let (answer, tries) = self.settle(&new, condition.as_ref()).await;
            answers.push(answer);
            lost += tries;
        }
        let entry = Entry { writer, events, condition, answers, lost };
        let count = match (entry.acknowledged().is_some(), entry.refused()) {
            (true, _) => &self.appends,
            (_, true) => &self.conflicts,
            _ => &self.lost,
        };
        count.fetch_add(1, Ordering::Relaxed);
        self.lost.fetch_add(lost, Ordering::Relaxed);
        self.note(&entry)
    }

    /// Writes a line to the journal.
    pub(crate) fn note(&self, entry: &impl Serialize) -> Outcome {
        let line = serde_json::to_string(entry)? + "\n";
        Ok(self.journal.lock().map_err(|_| "a writer panicked")?.write_all(line.as_bytes())?)
    }

    /// Repeats the same append until it is answered; also returns how many attempts got no answer.
    async fn settle(&self, events: &[NewEvent], condition: Option<&Condition>) -> (Answer, u64) {
        for lost in 0.. {
            let outcome = self.store.append(events.to_vec(), sent(condition)).await;
            let answer = match outcome {
                Ok(appended) => Answer::Appended {
                    first: appended.first_position(),
                    last: appended.last().position(),
                    repeated: appended.is_repeated(),
                },
                Err(error) if may_pass(&error) && Instant::now() < self.end + SETTLE => {
                    pause().await;
                    continue;
                }
                Err(error) if may_pass(&error) => Answer::None(error.report()),
                Err(error) => told(&error),
            };
            return (answer, lost);
        }
        unreachable!("the loop ends by its limit")
    }
}

fn told(error: &Error) -> Answer {
    match error.conflict() {
        Some(conflict) => Answer::Conflict { position: conflict.position, event_type: conflict.event_type.clone() },
        None => Answer::Other(error.report()),
    }
}

fn sent(condition: Option<&Condition>) -> AppendCondition {
    let Some(Condition { filter, after, .. }) = condition else { return AppendCondition::none() };
    let condition = AppendCondition::fail_if_events_match(filter.clone());
    match after {
        Some(mark) => condition.after(Mark::new(mark.position(), mark.id())),
        None => condition,
    }
}

async fn pause() {
    sleep(Duration::from_millis(20)).await;
}
