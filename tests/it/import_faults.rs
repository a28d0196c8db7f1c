//! Imports into PostgreSQL that fail in the middle: what they report, and that resuming neither loses nor duplicates an
//! event.

use std::{
    collections::HashSet,
    future::Future,
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use mainstem::{
    AppendCondition, Error, ErrorKind, Event, EventId, EventStore, Filter, Import, Imported, NewEvent,
    PostgresEventStore, Predicate, Result, Router,
};
use serde_json::json;
use tokio::{
    sync::oneshot,
    task::{JoinHandle, block_in_place},
    time::{Instant, sleep, timeout},
};

use crate::support::{self, LogLock, event};

/// Far longer than anything here may take: what it ends would have hung.
const HANG: Duration = Duration::from_secs(60);

/// The events of a chunk, and of all five.
const CHUNK: u64 = 10;
const ALL: u64 = 50;

/// In the log when the third chunk meets its fault.
const BEFORE: u64 = 20;

async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(HANG, what).await.expect("no hang")
}

fn numbered(amount: u64) -> Vec<NewEvent> {
    (0..amount).map(|n| event("Imported", json!({"n": n}))).collect()
}

type Told = Arc<Mutex<Vec<Imported>>>;

/// In chunks of always the same size, however slow the machine is.
fn in_chunks<'a>(
    store: &'a PostgresEventStore,
    events: impl IntoIterator<Item = NewEvent, IntoIter: Send + 'a>,
    condition: AppendCondition,
) -> Import<'a> {
    store.import(events, condition).chunk_events(CHUNK).lock_time(Duration::MAX)
}

/// An import in a task of its own. It stops once, in front of its third chunk.
struct Running {
    import: JoinHandle<Result<Imported>>,
    arrived: oneshot::Receiver<()>,
    go: mpsc::Sender<()>,
    told: Told,
}

impl Running {
    fn start(store: &PostgresEventStore, events: &[NewEvent], condition: AppendCondition, limit: Duration) -> Self {
        let (arrives, arrived) = oneshot::channel();
        let (go, goes) = mpsc::channel();
        let (store, told, mut arrives) = (store.clone(), Told::default(), Some(arrives));
        let events = events.to_vec();
        let events = events.into_iter().enumerate().map(move |(n, event)| {
            if n as u64 == BEFORE
                && let Some(arrives) = arrives.take()
            {
                arrives.send(()).unwrap();
                block_in_place(|| goes.recv_timeout(HANG)).unwrap();
            }
            event
        });
        let tell = Arc::clone(&told);
        let import = tokio::spawn(async move {
            let import = in_chunks(&store, events, condition).timeout(limit);
            import.on_progress(move |so_far| tell.lock().unwrap().push(so_far)).await
        });
        Self { import, arrived, go, told }
    }

    /// Waits until two chunks are written and the third one is not sent.
    async fn arrived(&mut self) {
        soon(&mut self.arrived).await.unwrap();
        assert_eq!(progress(&self.told), [(10, 0, 1), (20, 0, 2)]);
    }

    fn go(&self) {
        self.go.send(()).unwrap();
    }

    /// Lets the third chunk go as far as the log's lock, which `admin` has.
    async fn wait_for_lock(&mut self, admin: &Router) -> LogLock {
        self.arrived().await;
        let lock = LogLock::take(admin).await;
        self.go();
        LogLock::is_waited_for(admin).await;
        lock
    }

    /// How it failed: with its third chunk, and it says what is written.
    async fn failed(self) -> Error {
        let error = soon(self.import).await.unwrap().unwrap_err();
        assert_eq!(progress(&self.told), [(10, 0, 1), (20, 0, 2)], "{error}");
        let last = self.told.lock().unwrap().last().unwrap().last;
        let so_far = format!("after 20 imported events, up to {last}: ");
        assert!(error.to_string().contains(&so_far), "{so_far:?} is not in {error}");
        error
    }
}

/// Events, those that had been there, and chunks.
fn progress(told: &Told) -> Vec<(u64, u64, u64)> {
    told.lock().unwrap().iter().map(|it| (it.events, it.repeated, it.chunks)).collect()
}

async fn imported(store: &PostgresEventStore) -> Vec<Event> {
    let filter = Filter::matching().any_type_of(["Imported"]).finish().unwrap();
    soon(async { store.query(&filter).await.unwrap() }).await.into_iter().collect()
}

/// Waits until so many are there: what nobody waits for any more may still be written.
async fn until_there(store: &PostgresEventStore, amount: u64) {
    let deadline = Instant::now() + HANG;
    while imported(store).await.len() as u64 != amount {
        assert!(Instant::now() < deadline, "{amount} events are not there");
        sleep(Duration::from_millis(10)).await;
    }
}

fn ids<'a>(events: impl IntoIterator<Item = &'a NewEvent>) -> Vec<EventId> {
    events.into_iter().map(NewEvent::id).collect()
}

/// Makes the import again, of whose events so many are there. Then all are, once and in their order.
async fn goes_on(store: &PostgresEventStore, events: &[NewEvent], there: u64) {
    let is_there = ids(&events[..there as usize]);
    assert_eq!(imported(store).await.iter().map(Event::id).collect::<Vec<_>>(), is_there, "before it goes on");
    let told = Told::default();
    let import = in_chunks(store, events.to_vec(), AppendCondition::none());
    let import = import.on_progress(|so_far| told.lock().unwrap().push(so_far));
    let done = soon(async { import.await }).await.unwrap_or_else(|error| panic!("{}", error.report()));
    let chunks = (1..=events.len() as u64 / CHUNK).map(|n| (n * CHUNK, there.min(n * CHUNK), n));
    assert_eq!(progress(&told), chunks.collect::<Vec<_>>());
    let log = imported(store).await;
    assert_eq!(log.iter().map(Event::id).collect::<Vec<_>>(), ids(events));
    assert_eq!(Some(done.last), log.last().map(Event::mark));
}

async fn terminate_who_waits(admin: &Router) {
    let sql = "SELECT pg_terminate_backend(l.pid) FROM pg_locks l JOIN pg_database d ON d.oid = l.database \
               WHERE l.locktype = 'advisory' AND NOT l.granted AND d.datname = current_database()";
    assert_eq!(admin.client().await.unwrap().query(sql, &[]).await.unwrap().len(), 1);
}

/// The server may have got the chunk or not, and goes on with it or not: nobody knows, until the import is made again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_is_lost_with_a_chunk_under_way() {
    for is_written in [true, false] {
        let (database, admin, _store) = support::store().await;
        let proxy = support::cluster().await.primary().proxy().unwrap();
        let router = Router::builder().primary(database.url_through(&proxy)).connect().await.unwrap();
        let store = PostgresEventStore::new(&router);
        let events = numbered(ALL);
        let mut running = Running::start(&store, &events, AppendCondition::none(), HANG);
        let lock = running.wait_for_lock(&admin).await;
        match is_written {
            true => proxy.cut().unwrap(),
            false => terminate_who_waits(&admin).await,
        }
        let error = running.failed().await;
        assert!(error.is_outcome_unknown(), "{}", error.report());
        lock.release().await;
        let there = if is_written { BEFORE + CHUNK } else { BEFORE };
        until_there(&store, there).await;
        goes_on(&store, &events, there).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_is_killed_with_a_chunk_under_way() {
    let (cluster, router, store) = support::cluster_with_log(0, |builder| builder).await;
    let events = numbered(ALL);
    let mut running = Running::start(&store, &events, AppendCondition::none(), HANG);
    let lock = running.wait_for_lock(&router).await;
    cluster.primary().kill().await.unwrap();
    let error = running.failed().await;
    assert!(error.is_outcome_unknown(), "{}", error.report());
    drop(lock);
    cluster.primary().start().await.unwrap();
    goes_on(&store, &events, BEFORE).await;

    // And at any moment: what it has told is there, and of the chunk after that all or nothing.
    let more = numbered(40 * ALL);
    let before = imported(&store).await.len();
    let (sender, mut progress) = tokio::sync::watch::channel(0);
    let import = tokio::spawn({
        let (store, more) = (store.clone(), more.clone());
        async move {
            let import = in_chunks(&store, more, AppendCondition::none());
            import.on_progress(|so_far| _ = sender.send_replace(so_far.events)).await
        }
    });
    soon(progress.wait_for(|events| *events >= 300)).await.unwrap();
    cluster.primary().kill().await.unwrap();
    let error = soon(import).await.unwrap().unwrap_err();
    let told = *progress.borrow();
    assert!(error.to_string().contains(&format!("after {told} imported events")), "{error}");
    cluster.primary().start().await.unwrap();
    let there = imported(&store).await.len() as u64 - before as u64;
    assert!(there == told || there == told + CHUNK, "{there} are there, and {told} were told");
    assert!(there < 40 * ALL, "killed too late to show anything");
    let done = in_chunks(&store, more.clone(), AppendCondition::none()).await.unwrap();
    assert_eq!((done.events, done.repeated), (40 * ALL, there));
    let log = imported(&store).await;
    assert_eq!(log.iter().skip(before).map(Event::id).collect::<Vec<_>>(), ids(&more));
    assert_eq!(log.iter().map(Event::id).collect::<HashSet<_>>().len(), log.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chunk_conflicts() {
    let (_database, admin, store) = support::store().await;
    let events = numbered(ALL);
    let predicate = Predicate::payload("b", "intruder");
    let filter = Filter::matching().any_predicate_of([predicate]).finish().unwrap();
    let nobody_else = || AppendCondition::fail_if_events_match(filter.clone());
    let mut running = Running::start(&store, &events, nobody_else(), HANG);
    running.wait_for_lock(&admin).await.append("intruder").await;
    let error = running.failed().await;
    assert_eq!(error.conflict().map(|conflict| conflict.position), Some(BEFORE + 1), "{}", error.report());
    // It stays one, however often it is made again: what was written in between is not forgotten.
    for _ in 0..2 {
        let again = in_chunks(&store, events.clone(), nobody_else()).await.unwrap_err();
        assert_eq!(again.conflict(), error.conflict(), "{}", again.report());
        assert!(again.to_string().contains("after 20 imported events"), "{again}");
    }
    goes_on(&store, &events, BEFORE).await;
}

/// By a constraint of the user's, and by an index of theirs that takes no value of 6 kB.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_refuses_a_chunk() {
    let constraint = ["ADD CONSTRAINT small CHECK (payload->>'n' <> '25')", "DROP CONSTRAINT small"];
    let constraint = constraint.map(|change| format!("ALTER TABLE mainstem.events {change}"));
    let index = ["CREATE INDEX long ON mainstem.events ((payload->>'key'))", "DROP INDEX mainstem.long"];
    // Compressed it must not fit, either.
    let long: String = (0..3000).map(|_| NewEvent::new("A", &()).unwrap().id().to_string()).collect();
    for ([refuse, allow], state) in [(constraint, "23514"), (index.map(str::to_owned), "54000")] {
        let (_database, admin, store) = support::store().await;
        let mut events = numbered(ALL);
        events[25] = event("Imported", json!({"n": 25, "key": long}));
        let mut running = Running::start(&store, &events, AppendCondition::none(), HANG);
        running.arrived().await;
        admin.client().await.unwrap().batch_execute(&refuse).await.unwrap();
        running.go();
        let error = running.failed().await;
        assert_eq!((error.kind(), error.sqlstate()), (ErrorKind::InvalidInput, Some(state)), "{}", error.report());
        // Made again, it stops at the same place.
        let again = in_chunks(&store, events.clone(), AppendCondition::none()).await.unwrap_err();
        assert!(again.to_string().contains("after 20 imported events"), "{again}");
        admin.client().await.unwrap().batch_execute(&allow).await.unwrap();
        goes_on(&store, &events, BEFORE).await;
    }
}

/// What no log takes is refused where it is, and nothing of its chunk is sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tag_is_too_long() {
    let (_database, _admin, store) = support::store().await;
    let mut events = numbered(ALL);
    let right = std::mem::replace(&mut events[25], event("Imported", json!({})).with_tag("x".repeat(6 * 1024)));
    let mut running = Running::start(&store, &events, AppendCondition::none(), HANG);
    running.arrived().await;
    running.go();
    let error = running.failed().await;
    assert_eq!((error.kind(), error.sqlstate()), (ErrorKind::InvalidInput, None), "{}", error.report());
    events[25] = right;
    goes_on(&store, &events, BEFORE).await;
}

/// Nothing of a chunk that is not sent yet; of one that is, all of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_is_dropped() {
    for is_sent in [false, true] {
        let (_database, admin, store) = support::store().await;
        let events = numbered(ALL);
        let mut running = Running::start(&store, &events, AppendCondition::none(), HANG);
        running.arrived().await;
        let lock = LogLock::take(&admin).await;
        let mut other = None;
        if is_sent {
            running.go();
            LogLock::is_waited_for(&admin).await;
        } else {
            // It stands in line behind somebody who waits for the lock.
            let store = store.clone();
            let append = async move { store.append([event("Other", json!({}))], AppendCondition::none()).await };
            other = Some(tokio::spawn(append));
            LogLock::is_waited_for(&admin).await;
            running.go();
            sleep(Duration::from_millis(50)).await;
        }
        running.import.abort();
        assert!(soon(running.import).await.unwrap_err().is_cancelled());
        lock.release().await;
        if let Some(other) = other {
            soon(other).await.unwrap().unwrap();
        }
        let there = if is_sent { BEFORE + CHUNK } else { BEFORE };
        until_there(&store, there).await;
        goes_on(&store, &events, there).await;
    }
}

/// The limit is of each chunk: one that waits for the lock for so long is not written, and those before it had theirs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chunk_runs_out_of_time() {
    let (_database, admin, store) = support::store().await;
    let events = numbered(ALL);
    let limit = Duration::from_secs(2);
    let mut running = Running::start(&store, &events, AppendCondition::none(), limit);
    running.arrived().await;
    // Longer than its limit: it is not one for the import.
    sleep(limit).await;
    let lock = LogLock::take(&admin).await;
    running.go();
    let error = running.failed().await;
    assert_eq!(error.kind(), ErrorKind::Timeout, "{}", error.report());
    assert!(error.to_string().contains("of the limit of 2s"), "{error}");
    lock.release().await;
    goes_on(&store, &events, BEFORE).await;
}
