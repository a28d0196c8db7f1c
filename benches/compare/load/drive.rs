//! Drives workers: as fast as they can, or by arrivals.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::sleep,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use tokio::{
    sync::Semaphore,
    task::{JoinSet, spawn_blocking},
    time::{sleep_until, timeout},
};

use super::{
    arrivals::Arrivals,
    latencies::{Counted, Latencies},
};
use crate::{Outcome, side::Worker};

/// How long what is in flight at the end may take.
const GRACE: Duration = Duration::from_secs(120);

/// The result of a round.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(crate) struct Ran {
    pub(crate) done: u64,
    /// Arrivals that nobody had begun by the end. Each is among the latencies, with its wait until then, which is less than it
    /// would have taken.
    pub(crate) waiting: u64,
    /// From the start to the last answer.
    pub(crate) micros: u64,
    pub(crate) latencies: Counted,
}

/// Works for this long from the start. Latencies are measured from each arrival to its answer; without arrivals, from each
/// beginning.
pub(crate) async fn drive<W: Worker>(
    workers: &mut Vec<W>,
    start: Instant,
    span: Duration,
    arrivals: Option<Arrivals>,
) -> Outcome<Ran> {
    let (permits, taken) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicU64::new(0)));
    let door = arrivals.map(|arrivals| {
        let permits = Arc::clone(&permits);
        spawn_blocking(move || open(arrivals, start, span, &permits))
    });
    sleep_until(start.into()).await;
    let mut set = JoinSet::new();
    for mut worker in workers.drain(..) {
        let (permits, taken) = (Arc::clone(&permits), Arc::clone(&taken));
        set.spawn(async move {
            let (mut latencies, mut done) = (Latencies::new()?, 0);
            while start.elapsed() < span {
                let began = match arrivals {
                    None => Instant::now(),
                    Some(arrivals) => {
                        // Closed at the end, whatever is left.
                        let Ok(permit) = permits.acquire().await else { break };
                        permit.forget();
                        start + arrivals.at(taken.fetch_add(1, Ordering::Relaxed))
                    }
                };
                worker.step().await?;
                latencies.record(began.elapsed());
                done += 1;
            }
            Outcome::Ok((worker, latencies, done))
        });
    }
    let limit = span + GRACE;
    let joined = async {
        let mut all = Vec::with_capacity(set.len());
        while let Some(ended) = set.join_next().await {
            all.push(ended??);
        }
        Outcome::Ok(all)
    };
    let ended = timeout(limit, joined).await.map_err(|_| format!("a round did not end within {limit:?}"))??;
    let micros = u64::try_from(start.elapsed().as_micros())?;
    let (mut whole, mut ran) = (Latencies::new()?, Ran { micros, ..Ran::default() });
    for (worker, latencies, done) in ended {
        workers.push(worker);
        whole.add(&latencies.counted())?;
        ran.done += done;
    }
    if let (Some(door), Some(arrivals)) = (door, arrivals) {
        let arrived = door.await?;
        for number in taken.load(Ordering::Relaxed)..arrived {
            whole.record(span.saturating_sub(arrivals.at(number)));
            ran.waiting += 1;
        }
    }
    ran.latencies = whole.counted();
    Ok(ran)
}

/// Admits arrivals, on a thread of its own: the runtime's clock counts milliseconds. Returns how many there were.
fn open(arrivals: Arrivals, start: Instant, span: Duration, permits: &Semaphore) -> u64 {
    sleep(start.saturating_duration_since(Instant::now()));
    let mut told = 0;
    loop {
        let since = start.elapsed();
        if since >= span {
            break;
        }
        let arrived = arrivals.by(since);
        permits.add_permits(usize::try_from(arrived - told).unwrap_or_default());
        told = arrived;
        sleep(arrivals.at(told).min(span).saturating_sub(start.elapsed()));
    }
    permits.close();
    arrivals.by(span.saturating_sub(Duration::from_nanos(1)))
}
