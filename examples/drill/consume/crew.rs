//! Starts the consuming processes, kills one now and then, and starts another in its place.

use std::{
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use mainstem::PostgresEventStore;
use tokio::{
    io::AsyncWriteExt,
    process::{Child, Command},
    task::JoinHandle,
    time::{Instant, sleep},
};

use super::member::{Kind, Task};
use crate::{Outcome, plan::Dice};

const KINDS: [Kind; 5] = [Kind::Ledger, Kind::Ledger, Kind::Ledger, Kind::Notes, Kind::Notes];

/// Consumers that handle nothing for this long while nobody kills them will not handle what is missing.
const STANDSTILL: Duration = Duration::from_secs(60);

/// Kills and starts processes; all of them end when this is dropped.
pub(crate) struct Crew {
    killing: JoinHandle<Outcome>,
    killed: Arc<AtomicU64>,
    is_over: tokio::sync::watch::Sender<bool>,
}

impl Crew {
    pub(crate) async fn start(nodes: &[String; 2], seed: u64) -> Outcome<Self> {
        let mut children = Vec::new();
        for kind in KINDS {
            children.push(start(Task { nodes: nodes.clone(), kind }).await?);
        }
        let killed = Arc::<AtomicU64>::default();
        let (is_over, over) = tokio::sync::watch::channel(false);
        let dice = Dice::new(seed, 2000);
        let killing = tokio::spawn(kill(nodes.clone(), children, dice, Arc::clone(&killed), over));
        Ok(Self { killing, killed, is_over })
    }

    pub(crate) fn killed(&self) -> u64 {
        self.killed.load(Ordering::Relaxed)
    }

    /// Stops the killing, and waits until everything has been handled, or nothing is handled any more. The verdict then
    /// reports what is missing.
    pub(crate) async fn finish(&self, store: &PostgresEventStore, events: u64, limit: Duration) -> Outcome {
        self.is_over.send_replace(true);
        let until = Instant::now() + limit;
        let (mut last, mut moved) = (Vec::new(), Instant::now());
        loop {
            if self.killing.is_finished() {
                return Err("a consumer has ended by itself; see its error above".into());
            }
            let mut handled = Vec::new();
            for table in [Kind::Ledger, Kind::Notes].map(Kind::table) {
                let sql = format!("SELECT count(DISTINCT id) FROM {table}");
                let count: i64 = store.router().client().await?.query_one(&sql, &[]).await?.get(0);
                handled.push(count.unsigned_abs());
            }
            // A consumer that skipped an event never reaches that count, but its checkpoint shows that it is at the end.
            let mut behind = 0;
            for name in [Kind::Ledger, Kind::Notes].map(Kind::table) {
                behind += store.consumer_control(name).status().await?.events_behind();
            }
            if handled.iter().all(|count| *count >= events) || behind == 0 {
                return Ok(());
            }
            if handled != last {
                (last, moved) = (handled.clone(), Instant::now());
            }
            let stands_still = moved.elapsed() > STANDSTILL;
            if stands_still || Instant::now() > until {
                let mut at = String::new();
                for name in [Kind::Ledger, Kind::Notes].map(Kind::table) {
                    for one in store.consumer_control(name).status().await?.partitions() {
                        let place = one.checkpoint.map_or(0, |mark| mark.position());
                        at += &format!("; {name} {} at {place}, owned: {}", one.partition, one.is_owned);
                    }
                }
                let told = format!("{handled:?} of {events} events are handled{at}");
                if !stands_still {
                    return Err(format!("not through after {limit:?}: {told}").into());
                }
                eprintln!("nothing has been handled for {STANDSTILL:?}: {told}");
                return Ok(());
            }
            sleep(Duration::from_millis(200)).await;
        }
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.killing.abort();
    }
}

async fn start(task: Task) -> Outcome<(Task, Child)> {
    let mut child = Command::new(std::env::current_exe()?)
        .arg("consumers")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    // Not in the arguments, which everybody can see: the URLs hold a password.
    let line = serde_json::to_string(&task)? + "\n";
    child.stdin.as_mut().ok_or("no standard input")?.write_all(line.as_bytes()).await?;
    Ok((task, child))
}

async fn kill(
    nodes: [String; 2],
    mut children: Vec<(Task, Child)>,
    mut dice: Dice,
    killed: Arc<AtomicU64>,
    mut over: tokio::sync::watch::Receiver<bool>,
) -> Outcome {
    loop {
        let pause = Duration::from_millis(300 + dice.roll(1500));
        tokio::select! {
            () = sleep(pause) => {}
            _ = over.wait_for(|over| *over) => break,
        }
        let victim = usize::try_from(dice.roll(children.len() as u64))?;
        let (task, mut child) = children.swap_remove(victim);
        if let Some(status) = child.try_wait()? {
            return Err(format!("a consumer of {} has ended with {status}", task.kind.table()).into());
        }
        child.kill().await?;
        killed.fetch_add(1, Ordering::Relaxed);
        // Sometimes nobody replaces it for a while.
        sleep(Duration::from_millis(dice.roll(500))).await;
        children.push(start(Task { nodes: nodes.clone(), ..task }).await?);
    }
    // They work until this is dropped, and none may end by itself.
    loop {
        sleep(Duration::from_millis(200)).await;
        for (task, child) in &mut children {
            if let Some(status) = child.try_wait()? {
                return Err(format!("a consumer of {} has ended with {status}", task.kind.table()).into());
            }
        }
    }
}
