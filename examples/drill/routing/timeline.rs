//! What readers see over time while primaries come and go: `--timeline FILE` writes it as JSON lines.
//!
//! Each line covers a tenth of a second: how many eventual reads each node served, how many of them as the primary, how many failed,
//! the age of the newest write that a read saw (the greatest of the answers; writes never stop, so the age grows while there is no
//! primary), and how many appends were acknowledged. Other lines are marks: what was done to which node.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use mainstem::{Consistency, Role, Router, testing::LocalCluster};
use serde_json::{Value, json};
use tokio::{
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval, timeout},
};

use super::writers::{CALL, Journal};
use crate::Outcome;

const READERS: usize = 4;
const READS_PER_SECOND: u32 = 50;
const WINDOW: Duration = Duration::from_millis(100);

/// In milliseconds. A writer writes many times in a window.
const AGE: &str = "SELECT (extract(epoch FROM clock_timestamp() - max(at)) * 1000)::float8 FROM drill_written";

#[derive(Debug, Default, PartialEq)]
struct Window {
    served: BTreeMap<String, u64>,
    by_primary: u64,
    oldest_ms: Option<f64>,
    errors: u64,
    appends: u64,
}

#[derive(Debug, Default)]
struct Samples {
    windows: BTreeMap<u64, Window>,
    marks: Vec<(u64, String)>,
}

/// An eventual read: which node served it, in which role, and the age of what it saw.
type Answer = Option<(String, Role, Option<f64>)>;

impl Samples {
    fn window(&mut self, at: Duration) -> &mut Window {
        let number = at.as_millis() / WINDOW.as_millis();
        self.windows.entry(u64::try_from(number).unwrap_or(u64::MAX)).or_default()
    }

    /// At the moment of the answer. Without an answer, the read failed.
    fn read(&mut self, at: Duration, answer: Answer) {
        let window = self.window(at);
        let Some((node, role, age)) = answer else {
            window.errors += 1;
            return;
        };
        *window.served.entry(node).or_default() += 1;
        window.by_primary += u64::from(role == Role::Primary);
        window.oldest_ms = match (window.oldest_ms, age) {
            (Some(oldest), Some(age)) => Some(oldest.max(age)),
            (one, other) => one.or(other),
        };
    }

    /// In order of time. A window without anything is a line, too, since nobody was served in it.
    fn lines(&self) -> Vec<Value> {
        let millis = u64::try_from(WINDOW.as_millis()).unwrap_or(u64::MAX);
        let none = Window::default();
        let last = self.windows.keys().next_back().map_or(0, |last| last + 1);
        let windows = (0..last).map(|number| {
            let Window { served, by_primary, oldest_ms, errors, appends } = self.windows.get(&number).unwrap_or(&none);
            let oldest_ms = oldest_ms.map(|age| (age * 10.0).round() / 10.0);
            let line = json!({
                "ms": number * millis, "served": served, "by_primary": by_primary, "oldest_ms": oldest_ms, "errors": errors,
                "appends": appends,
            });
            (number * millis, line)
        });
        let marks = self.marks.iter().map(|(ms, what)| (*ms, json!({ "ms": ms, "mark": what })));
        let mut lines: Vec<_> = windows.chain(marks).collect();
        lines.sort_by_key(|(ms, _)| *ms);
        lines.into_iter().map(|(_, line)| line).collect()
    }
}

/// Readers that run until the timeline is saved.
pub(super) struct Timeline {
    start: Instant,
    samples: Arc<Mutex<Samples>>,
    ends: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Timeline {
    /// Nodes have the cluster's names.
    pub(super) fn start(cluster: &LocalCluster, router: &Router, journal: &Arc<Journal>) -> Self {
        let names: BTreeMap<String, String> =
            cluster.nodes().iter().map(|node| (format!("127.0.0.1:{}", node.port()), node.name().to_owned())).collect();
        let names = Arc::new(names);
        let (start, samples, ends) = (Instant::now(), Arc::<Mutex<Samples>>::default(), Arc::<AtomicBool>::default());
        let mut tasks = Vec::new();
        for _ in 0..READERS {
            let (router, names) = (router.clone(), Arc::clone(&names));
            tasks.push(tokio::spawn(read(router, names, start, Arc::clone(&samples), Arc::clone(&ends))));
        }
        tasks.push(tokio::spawn(count(Arc::clone(journal), start, Arc::clone(&samples), Arc::clone(&ends))));
        Self { start, samples, ends, tasks }
    }

    /// Marks what was done at this moment.
    pub(super) fn mark(&self, what: String) {
        let ms = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        lock(&self.samples).marks.push((ms, what));
    }

    pub(super) async fn save(self, file: &Path) -> Outcome {
        self.ends.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await?;
        }
        let lines: String = lock(&self.samples).lines().iter().map(|line| format!("{line}\n")).collect();
        std::fs::write(file, lines).map_err(|error| format!("cannot write {}: {error}", file.display()).into())
    }
}

/// One read after the other, at a steady rate as long as they are answered in time.
async fn read(
    router: Router,
    names: Arc<BTreeMap<String, String>>,
    start: Instant,
    samples: Arc<Mutex<Samples>>,
    ends: Arc<AtomicBool>,
) {
    let mut ticks = interval(Duration::from_secs(1) / READS_PER_SECOND);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !ends.load(Ordering::Relaxed) {
        ticks.tick().await;
        let call = async {
            let client = router.client_at(Consistency::Eventual).await?;
            let row = client.query_one(AGE, &[]).await?;
            let name = names.get(client.node()).cloned().unwrap_or_else(|| client.node().to_owned());
            Ok::<_, mainstem::Error>((name, client.role(), row.get::<_, Option<f64>>(0)))
        };
        let answer = timeout(CALL, call).await.ok().and_then(Result::ok);
        lock(&samples).read(start.elapsed(), answer);
    }
}

/// Counts appends by the time of their acknowledgement.
async fn count(journal: Arc<Journal>, start: Instant, samples: Arc<Mutex<Samples>>, ends: Arc<AtomicBool>) {
    let mut ticks = interval(WINDOW / 10);
    let mut before = journal.appended();
    while !ends.load(Ordering::Relaxed) {
        ticks.tick().await;
        let now = journal.appended();
        lock(&samples).window(start.elapsed()).appends += (now - before) as u64;
        before = now;
    }
}

fn lock(samples: &Mutex<Samples>) -> std::sync::MutexGuard<'_, Samples> {
    samples.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_told_by_tenths_of_a_second() {
        let mut samples = Samples::default();
        let at = Duration::from_millis;
        samples.read(at(10), Some(("node_2".to_owned(), Role::Replica, Some(4.0))));
        samples.read(at(99), Some(("node_2".to_owned(), Role::Replica, Some(21.04))));
        samples.read(at(50), Some(("node_1".to_owned(), Role::Primary, Some(1.0))));
        samples.marks.push((210, "node_1 is killed".to_owned()));
        samples.read(at(305), None);
        samples.window(at(310)).appends += 3;
        assert_eq!(
            samples.lines(),
            [
                json!({"ms": 0, "served": {"node_1": 1, "node_2": 2}, "by_primary": 1, "oldest_ms": 21.0, "errors": 0, "appends": 0}),
                json!({"ms": 100, "served": {}, "by_primary": 0, "oldest_ms": null, "errors": 0, "appends": 0}),
                json!({"ms": 200, "served": {}, "by_primary": 0, "oldest_ms": null, "errors": 0, "appends": 0}),
                json!({"ms": 210, "mark": "node_1 is killed"}),
                json!({"ms": 300, "served": {}, "by_primary": 0, "oldest_ms": null, "errors": 1, "appends": 3}),
            ]
        );
    }
}
