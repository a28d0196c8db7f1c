//! The writers: each repeats its append until it is acknowledged, with small and large amounts.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use mainstem::{AppendCondition, EventStore, NewEvent, PostgresEventStore};
use serde_json::json;
use tokio::{
    task::JoinHandle,
    time::{Duration, sleep},
};

use super::router;
use crate::{Outcome, may_pass, plan::Dice};

/// Keys that events are about.
pub(crate) const KEYS: u64 = 100;

/// The stores, each with its own pool.
const STORES: u64 = 3;

pub(crate) struct Writers {
    tasks: Vec<JoinHandle<Outcome>>,
    written: Arc<AtomicU64>,
    /// How many events the writers take before they end.
    goal: Arc<AtomicU64>,
}

impl Writers {
    /// They write until told how much is enough: on a slow machine a failover takes longer than everything that was asked for.
    pub(crate) fn start(nodes: &[String; 2], writers: u64, seed: u64) -> Outcome<Self> {
        let written = Arc::<AtomicU64>::default();
        let (taken, goal) = (Arc::<AtomicU64>::default(), Arc::new(AtomicU64::new(u64::MAX)));
        let stores = (0..STORES).map(|_| Ok(PostgresEventStore::new(&router(nodes)?))).collect::<Outcome<Vec<_>>>()?;
        let tasks = (0..writers).map(|writer| {
            let store = stores[usize::try_from(writer % STORES).unwrap_or_default()].clone();
            let (taken, written, goal) = (Arc::clone(&taken), Arc::clone(&written), Arc::clone(&goal));
            tokio::spawn(write(store, Dice::new(seed, writer), goal, taken, written))
        });
        Ok(Self { tasks: tasks.collect(), written, goal })
    }

    pub(crate) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// This many events are enough.
    pub(crate) fn end_at(&self, events: u64) {
        self.goal.store(events, Ordering::Relaxed);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.tasks.iter().all(JoinHandle::is_finished)
    }

    pub(crate) async fn finish(self) -> Outcome {
        for task in self.tasks {
            task.await??;
        }
        Ok(())
    }
}

async fn write(
    store: PostgresEventStore,
    mut dice: Dice,
    goal: Arc<AtomicU64>,
    taken: Arc<AtomicU64>,
    written: Arc<AtomicU64>,
) -> Outcome {
    loop {
        let amount = if dice.one_in(20) { 100 + dice.roll(300) } else { 1 + dice.roll(4) };
        if taken.fetch_add(amount, Ordering::Relaxed) >= goal.load(Ordering::Relaxed) {
            return Ok(());
        }
        let batch = (0..amount).map(|_| event(&mut dice)).collect::<mainstem::Result<Vec<_>>>()?;
        // With the same ids, so that what is already there is not written twice.
        loop {
            match store.append(batch.clone(), AppendCondition::none()).await {
                Ok(_) => break,
                Err(error) if may_pass(&error) || error.kind() == mainstem::ErrorKind::SplitBrain => {
                    sleep(Duration::from_millis(50)).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
        written.fetch_add(amount, Ordering::Relaxed);
        if dice.one_in(4) {
            sleep(Duration::from_millis(dice.roll(8))).await;
        }
    }
}

fn event(dice: &mut Dice) -> mainstem::Result<NewEvent> {
    let event_type = if dice.one_in(50) { "Rare" } else { "Common" };
    let event = NewEvent::new(event_type, &json!({"n": dice.roll(1 << 40)}))?;
    Ok(event.with_tag(format!("key:{}", dice.roll(KEYS))))
}
