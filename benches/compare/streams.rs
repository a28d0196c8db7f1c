//! The whole log, event by event: the store's stream, and the server's own COPY of the same rows.

use std::{pin::pin, time::Duration};

use futures_util::TryStreamExt;
use mainstem::{EventStore, Filter, PostgresEventStore};
use tokio::time::Instant;
use tokio_postgres::Client;

use crate::{
    Outcome,
    side::{Boxed, Sample, Side, Table},
};

/// How many events are read between two measurements of the memory.
const EVENTS_PER_LOOK: u64 = 10_000;

/// The stream of all events. A round is one complete read, however long that takes.
pub(crate) struct Streamed(pub(crate) PostgresEventStore);

impl Side for Streamed {
    fn connections(&self) -> usize {
        1
    }

    fn table(&self) -> Option<Table> {
        None
    }

    fn run(&mut self, _: Duration) -> Boxed<'_, Outcome<Sample>> {
        Box::pin(async move {
            let start = Instant::now();
            let (done, _) = drain(&self.0, false).await?;
            Ok(Sample { done, elapsed: start.elapsed(), ..Sample::default() })
        })
    }
}

/// `COPY … TO STDOUT (FORMAT binary)`, discarded as it arrives.
pub(crate) struct Copied {
    pub(crate) client: Client,
    pub(crate) events: u64,
}

impl Side for Copied {
    fn connections(&self) -> usize {
        1
    }

    fn table(&self) -> Option<Table> {
        None
    }

    fn run(&mut self, _: Duration) -> Boxed<'_, Outcome<Sample>> {
        Box::pin(async move {
            let start = Instant::now();
            let mut rows = pin!(self.client.copy_out(include_str!("sql/copy_out.sql")).await?);
            let mut bytes = 0;
            while let Some(row) = rows.try_next().await? {
                bytes += row.len() as u64;
            }
            if bytes < self.events * 300 {
                return Err(format!("{bytes} bytes are not the {} events", self.events).into());
            }
            Ok(Sample { done: self.events, elapsed: start.elapsed(), ..Sample::default() })
        })
    }
}

/// How many MiB this process grows by while it streams all events.
pub(crate) async fn growth(store: &PostgresEventStore, events: u64) -> Outcome<f64> {
    let before = resident()?;
    let (streamed, highest) = drain(store, true).await?;
    if streamed < events {
        return Err(format!("the stream had {streamed} of {events} events").into());
    }
    Ok(highest.saturating_sub(before) as f64 / 1024.0)
}

/// Reads all events; returns their number, and the most memory seen meanwhile, in kiB.
async fn drain(store: &PostgresEventStore, look: bool) -> Outcome<(u64, u64)> {
    let mut stream = store.query_stream(&Filter::any_event());
    let (mut events, mut highest) = (0, 0);
    while let Some(event) = stream.next().await {
        events += 1;
        let position = event?.position();
        if position != events {
            return Err(format!("event {events} of the stream is at position {position}").into());
        }
        if look && events.is_multiple_of(EVENTS_PER_LOOK) {
            highest = highest.max(resident()?);
        }
    }
    stream.end().ok_or("the stream ended before its end")?;
    Ok((events, highest))
}

/// This process's resident memory, in kiB.
fn resident() -> Outcome<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS in /proc/self/status")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
