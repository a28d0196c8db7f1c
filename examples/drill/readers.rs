//! The readers of the log while it is written: one on the primary, one on the replica.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use mainstem::{Consistency, EventId, EventStore, Filter, PostgresEventStore, Role, Router};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use crate::Outcome;

/// The limit of one call.
const CALL: Duration = Duration::from_secs(5);

/// How long the last events may take to arrive after the writing is over.
const LIMIT: Duration = Duration::from_secs(60);

/// The pause between two reads.
const PAUSE: Duration = Duration::from_millis(2);

pub(crate) struct Reader {
    name: &'static str,
    reading: JoinHandle<Outcome<Vec<(u64, EventId)>>>,
    last: Arc<AtomicU64>,
    /// The position that it must reach.
    end: watch::Sender<Option<u64>>,
}

/// What a reader saw, in that order.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) by: &'static str,
    pub(crate) events: Vec<(u64, EventId)>,
}

impl Reader {
    pub(crate) fn start(primary: &str, replica: &str, role: Role) -> Outcome<Self> {
        let router = Router::builder().primary(primary).replica(replica).max_connections(1).call_timeout(CALL);
        let store = PostgresEventStore::new(&router.build()?);
        let last = Arc::<AtomicU64>::default();
        let (end, ends) = watch::channel(None);
        let reading = tokio::spawn(read(store, role, Arc::clone(&last), ends));
        let name = if role == Role::Primary { "primary" } else { "replica" };
        Ok(Self { name, reading, last, end })
    }

    pub(crate) fn last(&self) -> u64 {
        self.last.load(Ordering::Relaxed)
    }

    /// Lets it read up to `head`, and returns what it saw.
    pub(crate) async fn finish(mut self, head: u64) -> Outcome<Seen> {
        self.end.send_replace(Some(head));
        match timeout(LIMIT, &mut self.reading).await {
            Ok(seen) => Ok(Seen { by: self.name, events: seen?? }),
            Err(_) => {
                let last = self.last();
                Err(format!("the reader of the {} is at {last} after {LIMIT:?}, not at {head}", self.name).into())
            }
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

/// Reads on from the last event it has seen, repeatedly, whatever happens to its connection.
async fn read(
    store: PostgresEventStore,
    role: Role,
    at: Arc<AtomicU64>,
    end: watch::Receiver<Option<u64>>,
) -> Outcome<Vec<(u64, EventId)>> {
    let level = if role == Role::Primary { Consistency::Strong } else { Consistency::Eventual };
    let (mut seen, mut last) = (Vec::new(), 0);
    let mut answered = Instant::now();
    while end.borrow().is_none_or(|end| last < end) {
        match store.query(&Filter::any_event().after_position(last)).consistency(level.clone()).await {
            // While the replica does not answer, the primary answers instead, which is the other reader's business.
            Ok(news) if news.role() == role => {
                seen.extend(news.iter().map(|event| (event.position(), event.id())));
                last = seen.last().map_or(0, |(position, _)| *position);
                at.store(last, Ordering::Relaxed);
                answered = Instant::now();
            }
            Ok(_) => {}
            Err(error) if error.is_retryable() => {}
            Err(error) => return Err(error.into()),
        }
        if answered.elapsed() > LIMIT {
            return Err(format!("no answer from the {role:?} within {LIMIT:?}").into());
        }
        sleep(PAUSE).await;
    }
    Ok(seen)
}
