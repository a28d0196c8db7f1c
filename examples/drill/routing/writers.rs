//! The writers while primaries come and go, and the answers they got.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use mainstem::{AppendCondition, EventId, EventStore, NewEvent, PostgresEventStore, Router, Token};
use serde_json::json;
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use crate::{Failure, Outcome, may_pass};

/// The limit of one attempt of an append. Shorter than any trouble, so that outcomes become unknown.
pub(crate) const CALL: Duration = Duration::from_secs(1);

/// How long after the end of the trouble an append is still repeated.
const SETTLE: Duration = Duration::from_secs(30);

const APPENDERS: u64 = 4;
const WRITERS: usize = 2;

/// Returns the timeline on which it was executed.
const WRITE: &str = "INSERT INTO drill_written VALUES (now()) \
    RETURNING ('x' || left(pg_walfile_name(pg_current_wal_flush_lsn()), 8))::bit(32)::int4";

/// An append that was acknowledged.
#[derive(Clone, Debug)]
pub(crate) struct Acknowledged {
    pub(crate) id: EventId,
    pub(crate) position: u64,
    pub(crate) token: Token,
}

#[derive(Debug, Default)]
pub(crate) struct Journal {
    pub(crate) acknowledged: Mutex<Vec<Acknowledged>>,
    /// Outcomes that were unknown when the call returned.
    pub(crate) unknown: AtomicU64,
    /// Repeated appends whose first attempt had been written.
    pub(crate) repeated: AtomicU64,
    pub(crate) unresolved: Mutex<Vec<String>>,
    pub(crate) written: AtomicU64,
    /// Writes that were acknowledged behind the fence.
    pub(crate) behind: Mutex<Vec<String>>,
}

impl Journal {
    pub(crate) fn appended(&self) -> usize {
        self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

pub(crate) struct Writers {
    tasks: Vec<JoinHandle<Outcome>>,
    ends: Arc<AtomicBool>,
    pub(crate) journal: Arc<Journal>,
}

impl Writers {
    /// `with_new_ids` is a fault: a writer whose outcome is unknown makes another append.
    pub(crate) fn start(router: &Router, with_new_ids: bool) -> Self {
        let (journal, ends) = (Arc::<Journal>::default(), Arc::<AtomicBool>::default());
        let store = PostgresEventStore::new(router);
        let mut tasks = Vec::new();
        for appender in 0..APPENDERS {
            let appender = Appender { appender, store: store.clone(), journal: Arc::clone(&journal), with_new_ids };
            tasks.push(tokio::spawn(appender.run(Arc::clone(&ends))));
        }
        for _ in 0..WRITERS {
            tasks.push(tokio::spawn(write(router.clone(), Arc::clone(&journal), Arc::clone(&ends))));
        }
        Self { tasks, ends, journal }
    }

    pub(crate) fn appended(&self) -> usize {
        self.journal.appended()
    }

    /// Waits until this many more appends are acknowledged.
    pub(crate) async fn progress(&self, appends: usize) -> Outcome {
        let target = self.appended() + appends;
        let progress = async {
            while self.appended() < target {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(SETTLE, progress).await.map_err(|_| "nobody could append any more".into())
    }

    pub(crate) async fn finish(self) -> Outcome<Arc<Journal>> {
        self.ends.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await??;
        }
        Ok(self.journal)
    }
}

struct Appender {
    appender: u64,
    store: PostgresEventStore,
    journal: Arc<Journal>,
    with_new_ids: bool,
}

impl Appender {
    async fn run(self, ends: Arc<AtomicBool>) -> Outcome {
        for serial in 0_u64.. {
            if ends.load(Ordering::Relaxed) {
                break;
            }
            self.append(serial, &ends).await?;
            sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    }

    /// Repeats one append until its outcome is known.
    async fn append(&self, serial: u64, ends: &AtomicBool) -> Outcome {
        let new = || NewEvent::new("Counted", &json!({"appender": self.appender, "serial": serial}));
        let (mut event, mut is_unknown, mut last_try) = (new()?, false, None);
        loop {
            let error = match self.store.append([event.clone()], AppendCondition::none()).timeout(CALL).await {
                Ok(appended) => {
                    self.journal.repeated.fetch_add(u64::from(is_unknown && appended.is_repeated()), Ordering::Relaxed);
                    let (id, position) = (event.id(), appended.first_position());
                    let told = Acknowledged { id, position, token: appended.token().clone() };
                    self.journal.acknowledged.lock().unwrap_or_else(PoisonError::into_inner).push(told);
                    return Ok(());
                }
                Err(error) if may_pass(&error) => error,
                Err(error) => return Err(Failure::from(error)),
            };
            if error.is_outcome_unknown() {
                self.journal.unknown.fetch_add(1, Ordering::Relaxed);
                is_unknown = true;
                if self.with_new_ids {
                    event = new()?;
                }
            }
            if ends.load(Ordering::Relaxed) && Instant::now() > *last_try.get_or_insert_with(|| Instant::now() + SETTLE)
            {
                let report = error.report();
                self.journal.unresolved.lock().unwrap_or_else(PoisonError::into_inner).push(report);
                return Ok(());
            }
            sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Other SQL, which cannot be repeated, but says where it was executed.
async fn write(router: Router, journal: Arc<Journal>, ends: Arc<AtomicBool>) -> Outcome {
    while !ends.load(Ordering::Relaxed) {
        let seen = router.status().timeline;
        let call = async {
            let client = router.client().await?;
            let row = client.query_one(WRITE, &[]).await?;
            Ok::<_, mainstem::Error>((client.node().to_owned(), row.get::<_, i32>(0)))
        };
        // A cancelled call has no answer, and so no acknowledgement.
        if let Ok(Ok((node, timeline))) = timeout(CALL, call).await {
            journal.written.fetch_add(1, Ordering::Relaxed);
            if seen.is_some_and(|seen| timeline.cast_unsigned() < seen) {
                let how = format!("{node} took a write on timeline {timeline} when {seen:?} had been seen");
                journal.behind.lock().unwrap_or_else(PoisonError::into_inner).push(how);
            }
        }
        sleep(Duration::from_millis(3)).await;
    }
    Ok(())
}
