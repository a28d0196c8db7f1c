//! Following the log when a node says that it does not hold what was read, and when a caller stops in the middle.

use std::{
    future::ready,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use mainstem::{
    AppendCondition, Appended, Consistency, Error, ErrorKind, EventStore, Filter, Mark, MemoryEventStore, NewEvent,
    Result, Start, Subscribe,
    backend::{Answer, AppendRequest, BoxFuture, Piece, QueryRequest, ReadAfterRequest},
};
use serde_json::json;
use tokio::time::timeout;

use crate::support::event;

/// Far longer than anything here may take: what it ends would have hung.
const HANG: Duration = Duration::from_secs(3600);

fn numbered(amount: u64) -> Vec<NewEvent> {
    (0..amount).map(|n| event("A", json!({"n": n}))).collect()
}

/// A log whose replica is on another branch of the history: it shows another event wherever it is asked to go on.
#[derive(Clone, Debug, Default)]
struct Branched {
    log: MemoryEventStore,
    /// How often the replica was asked.
    asked: Arc<AtomicU64>,
    judged: Arc<AtomicU64>,
    /// Whether the primary cannot be reached.
    is_alone: Arc<AtomicBool>,
}

impl EventStore for Branched {
    fn run_append(&self, request: AppendRequest) -> BoxFuture<Result<Appended>> {
        self.log.run_append(request)
    }

    fn run_query(&self, request: QueryRequest) -> BoxFuture<Result<Answer>> {
        self.log.run_query(request)
    }

    fn run_read_after(&self, request: ReadAfterRequest) -> BoxFuture<Result<Piece>> {
        if request.consistency == Consistency::Eventual && request.after.position() > 0 {
            self.asked.fetch_add(1, Ordering::SeqCst);
            let refused = Err(request.diverged(request.after.position()));
            return Box::pin(ready(refused));
        }
        if request.after.position() > 0 && self.is_alone.load(Ordering::SeqCst) {
            return Box::pin(ready(Err(Error::new(ErrorKind::Unavailable, "no primary"))));
        }
        self.judged.fetch_add(u64::from(request.consistency == Consistency::Strong), Ordering::SeqCst);
        self.log.run_read_after(request)
    }
}

/// It may be the one that has not followed a failover.
#[tokio::test(start_paused = true)]
async fn a_diverged_replica_ends_no_subscription_unless_the_primary_agrees() {
    let store = Branched::default();
    store.append(numbered(10), AppendCondition::none()).await.unwrap();
    let mut subscription = store.subscribe(&Filter::any_event()).batch_events(4).build();
    let mut seen = Vec::new();
    while seen.len() < 10 {
        let batch = timeout(HANG, subscription.next_batch()).await.expect("it gets on").unwrap();
        let batch = batch.unwrap_or_else(|error| panic!("{}", error.report()));
        seen.extend(batch.iter().map(mainstem::Event::position));
    }
    assert_eq!(seen, (1..=10).collect::<Vec<_>>());
    let (asked, judged) = (store.asked.load(Ordering::SeqCst), store.judged.load(Ordering::SeqCst));
    assert!((1..=3).contains(&asked) && judged >= 1, "asked {asked} times, and the primary {judged} times");
    // Of what the primary does not hold either, that is the end.
    let lost = Mark::new(7, mainstem::EventId::new());
    let mut subscription = store.subscribe(&Filter::any_event()).start_at(lost).build();
    let error = timeout(HANG, subscription.next_batch()).await.expect("an end").unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LogDiverged, "{}", error.report());
    assert!(subscription.next_batch().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_subscription_on_a_diverged_replica_tells_that_it_cannot_ask_the_primary() {
    let store = Branched::default();
    store.append(numbered(10), AppendCondition::none()).await.unwrap();
    store.is_alone.store(true, Ordering::SeqCst);
    let mut subscription = store.subscribe(&Filter::any_event()).batch_events(4).build();
    let batch = timeout(HANG, subscription.next_batch()).await.expect("the first one").unwrap().unwrap();
    assert_eq!(batch.len(), 4);
    for _ in 0..20 {
        let error = timeout(Duration::from_secs(5), subscription.next_batch()).await.expect("no silence").unwrap();
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Unavailable);
    }
    assert!(store.asked.load(Ordering::SeqCst) <= 21, "it pauses in between");
    // And then it gets on.
    store.is_alone.store(false, Ordering::SeqCst);
    let batch = timeout(HANG, subscription.next_batch()).await.expect("it gets on").unwrap().unwrap();
    assert_eq!(batch[0].position(), 5);
}

/// A log whose replica has not replayed a migration, or is not as far as what was read.
#[derive(Clone, Debug)]
struct Late {
    log: MemoryEventStore,
    /// What the replica says; without it, it shows nothing.
    says: Option<ErrorKind>,
    /// What the primary says the first so many times.
    refusals: Arc<AtomicU64>,
    refuses: ErrorKind,
    asked: Arc<AtomicU64>,
}

impl Late {
    async fn saying(says: Option<ErrorKind>, refusals: u64, refuses: ErrorKind) -> Self {
        let log = MemoryEventStore::new();
        log.append(numbered(10), AppendCondition::none()).await.unwrap();
        Self { log, says, refusals: Arc::new(refusals.into()), refuses, asked: Arc::default() }
    }

    /// Without a fallback, a replica that is fresh serves all but strong reads, whatever it says.
    fn is_for_replica(&self, consistency: &Consistency) -> bool {
        match consistency {
            Consistency::Eventual => true,
            Consistency::Bounded(_) => self.says.is_some(),
            _ => false,
        }
    }

    fn of_replica(&self) -> Result<Piece> {
        self.says.map_or_else(|| Ok(Piece::new(vec![], None)), |kind| Err(Error::new(kind, "of the replica")))
    }
}

impl EventStore for Late {
    fn run_append(&self, request: AppendRequest) -> BoxFuture<Result<Appended>> {
        self.log.run_append(request)
    }

    fn run_query(&self, request: QueryRequest) -> BoxFuture<Result<Answer>> {
        match self.of_replica() {
            Err(error) if self.is_for_replica(&request.consistency) => Box::pin(ready(Err(error))),
            _ => self.log.run_query(request),
        }
    }

    fn run_read_after(&self, request: ReadAfterRequest) -> BoxFuture<Result<Piece>> {
        if self.is_for_replica(&request.consistency) {
            let piece = self.of_replica().map(|piece| piece.served_by("replica", mainstem::Role::Replica));
            return Box::pin(ready(piece));
        }
        self.asked.fetch_add(1, Ordering::SeqCst);
        let left = self.refusals.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        match left {
            Ok(_) => Box::pin(ready(Err(Error::new(self.refuses, "of the primary")))),
            Err(_) => self.log.run_read_after(request),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_start_that_is_not_found_on_a_replica_is_no_reason_for_silence() {
    let store = Late::saying(Some(ErrorKind::Schema), u64::MAX, ErrorKind::Unavailable).await;
    let mut subscription = store.subscribe(&Filter::any_event()).start_at(Start::Now).build();
    let error = timeout(HANG, subscription.next_batch()).await.expect("no silence").unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

#[tokio::test(start_paused = true)]
async fn what_a_replica_lacks_for_good_is_told_after_a_while() {
    let store = Late::saying(Some(ErrorKind::Schema), 0, ErrorKind::Unavailable).await;
    let third = store.log.query(&Filter::any_event()).await.unwrap()[2].mark();
    for start in [Start::Now, Start::After(third)] {
        store.asked.store(0, Ordering::SeqCst);
        let mut subscription = store.subscribe(&Filter::any_event()).start_at(start).build();
        let error = timeout(HANG, subscription.next_batch()).await.expect("no silence").unwrap().unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Schema, "of the replica"));
        assert!(store.asked.load(Ordering::SeqCst) < 100, "it pauses in between");
    }
}

/// A primary that refuses to say whether a replica lags says nothing about the log.
#[tokio::test(start_paused = true)]
async fn a_refused_login_of_the_primary_ends_no_subscription_that_replicas_serve() {
    let store = Late::saying(None, 3, ErrorKind::Configuration).await;
    let third = store.log.query(&Filter::any_event()).await.unwrap()[2].mark();
    let mut subscription = store.subscribe(&Filter::any_event()).start_at(third).build();
    let batch = timeout(HANG, subscription.next_batch()).await.expect("it gets on").expect("it has not ended").unwrap();
    assert_eq!(batch[0].position(), 4);
}

/// Whoever goes on from the mark misses nothing that was read and not handed out.
#[tokio::test]
async fn the_mark_of_a_subscription_that_was_stopped_is_that_of_what_was_handed_out() {
    let store = MemoryEventStore::new();
    store.append(numbered(10), AppendCondition::none()).await.unwrap();
    for handed_out in 1..=10 {
        let mut subscription = store.subscribe(&Filter::any_event()).build();
        for _ in 0..handed_out {
            subscription.next().await.unwrap().unwrap();
        }
        subscription.stop_handle().stop();
        assert!(subscription.next().await.is_none());
        assert!(subscription.next_batch().await.is_none());
        let mark = subscription.mark().unwrap();
        assert_eq!(mark.position(), handed_out);
        let mut rest = store.subscribe(&Filter::any_event()).start_at(mark).build();
        for position in handed_out + 1..=10 {
            assert_eq!(rest.next().await.unwrap().unwrap().position(), position);
        }
    }
    // Before the first one it is the start.
    let third = store.query(&Filter::any_event()).await.unwrap()[2].mark();
    let mut subscription = store.subscribe(&Filter::any_event()).start_at(Start::After(third)).build();
    subscription.stop_handle().stop();
    assert!(subscription.next().await.is_none());
    assert_eq!(subscription.mark(), Some(third));
}
