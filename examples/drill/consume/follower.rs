//! A follower with a subscription, which is dropped repeatedly and resumes from its mark.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use mainstem::{Consistency, ErrorKind, EventId, EventStore, Filter, Mark, PostgresEventStore, Start, Subscribe};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Duration, sleep, timeout},
};

use super::router;
use crate::{Outcome, plan::Dice};

/// How many events a follower goes back at a time to find what the log still holds.
const BACK: usize = 2000;

pub(crate) struct Follower {
    name: &'static str,
    filter: Filter,
    following: JoinHandle<Outcome<Seen>>,
    last: Arc<AtomicU64>,
    end: watch::Sender<Option<u64>>,
}

/// What a follower saw, in that order, without the events that the log lost.
pub(crate) struct Seen {
    pub(crate) name: &'static str,
    pub(crate) events: Vec<Mark>,
    /// Events that it saw and the log lost.
    pub(crate) lost: usize,
    pub(crate) restarts: u64,
    /// How often it was told that the log had lost events although it had not.
    pub(crate) false_alarms: u64,
}

impl Follower {
    pub(crate) fn start(
        name: &'static str,
        nodes: &[String; 2],
        filter: Filter,
        level: Consistency,
        seed: u64,
    ) -> Outcome<Self> {
        let (store, last) = (PostgresEventStore::new(&router(nodes)?), Arc::<AtomicU64>::default());
        let (end, ends) = watch::channel(None);
        let dice = Dice::new(seed, name.len() as u64 + 1000);
        let seen = Seen { name, events: Vec::new(), lost: 0, restarts: 0, false_alarms: 0 };
        let following = tokio::spawn(follow(store, filter.clone(), level, dice, Arc::clone(&last), ends, seen));
        Ok(Self { name, filter, following, last, end })
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn filter(&self) -> &Filter {
        &self.filter
    }

    pub(crate) fn last(&self) -> u64 {
        self.last.load(Ordering::Relaxed)
    }

    /// Lets it reach the end of the log; `None` if it does not.
    pub(crate) async fn finish(&mut self, log: &[(Mark, bool)], limit: Duration) -> Outcome<Option<Seen>> {
        self.end.send_replace(Some(log.last().map_or(0, |(mark, _)| mark.position())));
        match timeout(limit, &mut self.following).await {
            Ok(seen) => seen?.map(Some),
            Err(_) => Ok(None),
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.following.abort();
    }
}

async fn follow(
    store: PostgresEventStore,
    filter: Filter,
    level: Consistency,
    mut dice: Dice,
    at: Arc<AtomicU64>,
    mut end: watch::Receiver<Option<u64>>,
    mut seen: Seen,
) -> Outcome<Seen> {
    // Where to resume, whether or not there were events.
    let mut mark: Option<Mark> = None;
    loop {
        let start = mark.map_or(Start::Beginning, Start::After);
        let builder = store.subscribe(&filter).consistency(level.clone()).start_at(start);
        let mut subscription = builder.batch_events(1 + dice.roll(800)).build();
        let mut left = 1 + dice.roll(400);
        while left > 0 {
            if end.borrow().is_some_and(|end| mark.is_some_and(|mark| mark.position() >= end)) {
                return Ok(seen);
            }
            let batch = tokio::select! {
                batch = subscription.next_batch() => batch,
                // The end is now known.
                Ok(()) = end.changed() => continue,
            };
            match batch {
                Some(Ok(batch)) => {
                    seen.events.extend(batch.iter().map(mainstem::Event::mark));
                    mark = Some(batch.mark());
                    at.store(batch.mark().position(), Ordering::Relaxed);
                    left -= 1;
                }
                Some(Err(error)) if error.kind() == ErrorKind::LogDiverged => {
                    let before = seen.events.len();
                    mark = common(&store, &mut seen.events, mark).await?;
                    seen.lost += before - seen.events.len();
                    // The mark's own event may be the only one that was lost.
                    seen.false_alarms += u64::from(subscription.mark() == mark);
                    break;
                }
                Some(Err(error)) if error.is_retryable() || error.kind() == ErrorKind::SplitBrain => {}
                Some(Err(error)) => return Err(error.into()),
                None => break,
            }
        }
        seen.restarts += 1;
    }
}

/// Drops what the log no longer holds, and returns where to resume: after the last event that is still there.
async fn common(store: &PostgresEventStore, events: &mut Vec<Mark>, mark: Option<Mark>) -> Outcome<Option<Mark>> {
    if let Some(mark) = mark
        && held(store, mark).await?
    {
        return Ok(Some(mark));
    }
    while let Some(last) = events.last().copied() {
        if held(store, last).await? {
            break;
        }
        // In steps, and then one by one: everything before an event that is still there is there, too.
        let back = events.len().saturating_sub(BACK);
        match events.get(back).copied() {
            Some(earlier) if !held(store, earlier).await? => events.truncate(back),
            _ => drop(events.pop()),
        }
    }
    Ok(events.last().copied())
}

async fn held(store: &PostgresEventStore, mark: Mark) -> Outcome<bool> {
    let at = Filter::any_event().after_position(mark.position() - 1).until_position(mark.position());
    loop {
        match store.query(&at).await {
            Ok(found) => {
                let id: Option<EventId> = found.first().map(mainstem::Event::id);
                return Ok(id == Some(mark.id()));
            }
            Err(error) if error.is_retryable() => sleep(Duration::from_millis(50)).await,
            Err(error) => return Err(error.into()),
        }
    }
}
