//! Imports: more events than fit in one append.

use std::{
    future::IntoFuture,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::{FutureExt, TryFutureExt};

use mainstem::{
    Append, AppendCondition, Appended, Error, ErrorKind, Event, EventStore, ExpectedVersion, Filter, Import, Imported,
    MemoryEventStore, NewEvent,
    backend::{Answer, AppendRequest, BoxFuture, Piece, QueryRequest, ReadAfterRequest},
    testing::{AppendFault, FailingEventStore},
};
use serde_json::json;

use crate::support::{self, LogLock, event};

fn numbered(amount: u64) -> Vec<NewEvent> {
    (0..amount).map(|n| event("Imported", json!({"n": n}))).collect()
}

async fn numbers(store: &impl EventStore) -> Vec<u64> {
    let filter = Filter::matching().any_type_of(["Imported"]).finish().unwrap();
    let history = store.query(&filter).await.unwrap();
    history.iter().map(|event| event.decode::<serde_json::Value>().unwrap()["n"].as_u64().unwrap()).collect()
}

fn no_other(filter: &str) -> AppendCondition {
    AppendCondition::fail_if_events_match(Filter::matching().any_type_of([filter]).finish().unwrap())
}

#[tokio::test]
async fn everything_is_written_in_order_and_in_chunks() {
    let (_database, _router, postgres) = support::store().await;
    let stores: [Box<dyn EventStore>; 2] = [Box::new(MemoryEventStore::new()), Box::new(postgres)];
    for store in stores {
        let mut told = Vec::new();
        let import = store.import(numbered(2_500), AppendCondition::none()).lock_time(Duration::MAX);
        let import = import.on_progress(|it: Imported| told.push(it));
        let imported = import.await.unwrap();
        assert_eq!(
            told.iter().map(|it| (it.events, it.chunks)).collect::<Vec<_>>(),
            [(500, 1), (1000, 2), (1500, 3), (2000, 4), (2500, 5)]
        );
        assert_eq!((Some(&imported), imported.repeated, imported.last.position()), (told.last(), 0, 2500));
        assert_eq!(numbers(&store).await, (0..2_500).collect::<Vec<_>>());
        let error = store.import([], AppendCondition::none()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
}

#[tokio::test]
async fn an_import_that_failed_goes_on_when_it_is_made_again() {
    for (at, behind) in [(1, false), (1, true), (3, false), (3, true)] {
        let store = FailingEventStore::new(MemoryEventStore::new());
        (1..at).for_each(|_| store.pass_next_append());
        let lost = Error::new(ErrorKind::OutcomeUnknown, "as the test wants it");
        store.fail_next_append(if behind { AppendFault::AfterCommit(lost) } else { AppendFault::BeforeCommit(lost) });
        let events = numbered(50);
        let import = || store.import(events.clone(), AppendCondition::none()).chunk_events(10).lock_time(Duration::MAX);
        let error = import().await.unwrap_err();
        let so_far = if at == 1 { "before the first event" } else { "after 20 imported events" };
        assert!(error.is_outcome_unknown() && error.to_string().contains(so_far), "{error}");
        let imported = import().await.unwrap();
        let repeated = (at - 1 + u64::from(behind)) * 10;
        assert_eq!(store.planned(), 0);
        assert_eq!((imported.events, imported.repeated), (50, repeated));
        assert_eq!(numbers(&store).await, (0..50).collect::<Vec<_>>());
    }
}

/// Sizes follow the server's speed, so another try has others. Others have written in between.
#[tokio::test]
async fn an_import_goes_on_in_chunks_of_another_size() {
    let (_database, _router, postgres) = support::store().await;
    let memory = MemoryEventStore::new();
    for store in [&memory as &dyn EventStore, &postgres] {
        for (number, (first, then)) in [(10, 4), (4, 10), (7, 3), (1, 50), (20, 1)].into_iter().enumerate() {
            let events = numbered(50);
            let store = FailingEventStore::new(store);
            (0..3).for_each(|_| store.pass_next_append());
            store.fail_next_append(AppendFault::BeforeCommit(Error::new(
                ErrorKind::Unavailable,
                "as the test wants it",
            )));
            let import = async |part: &[NewEvent]| {
                store.import(part.to_vec(), AppendCondition::none()).chunk_events(first).lock_time(Duration::MAX).await
            };
            // One chunk, something else, and one more of the rest.
            import(&events[..first as usize]).await.unwrap();
            store.append([event("Other", json!({}))], AppendCondition::none()).await.unwrap();
            assert!(import(&events[first as usize..]).await.unwrap_err().is_retryable());
            let mut told = Vec::new();
            let again =
                store.import(events.clone(), AppendCondition::none()).chunk_events(then).lock_time(Duration::MAX);
            let done = again.on_progress(|it: Imported| told.push(it)).await.unwrap();
            assert_eq!((done.events, done.repeated), (50, 2 * first), "{first} and then {then}");
            let at_most = |pair: &[Imported]| pair[1].events - pair[0].events <= then;
            assert!(told.windows(2).all(at_most) && told.last() == Some(&done), "{told:?}");
            let log = numbers(&store).await;
            assert_eq!(log[50 * number..], (0..50).collect::<Vec<_>>(), "{first} and then {then}");
        }
    }
}

/// What is found is not judged, since it is what the condition would find. What comes behind it is.
#[tokio::test]
async fn an_import_goes_on_in_other_chunks_under_its_condition() {
    let (_database, _router, postgres) = support::store().await;
    let memory = MemoryEventStore::new();
    for store in [&memory as &dyn EventStore, &postgres] {
        let events = numbered(20);
        let import = async |amount: usize, chunk: u64| {
            let import = (&store).import(events[..amount].to_vec(), no_other("Imported"));
            import.chunk_events(chunk).lock_time(Duration::MAX).await
        };
        import(5, 5).await.unwrap();
        let done = import(10, 3).await.unwrap();
        assert_eq!((done.events, done.repeated), (10, 5));
        let other = event("Imported", json!({"n": "another's"}));
        let other = (&store).append([other], AppendCondition::none()).await.unwrap().first_position();
        let error = import(20, 4).await.unwrap_err();
        assert_eq!(error.conflict().map(|conflict| conflict.position), Some(other), "{}", error.report());
        assert!(error.to_string().contains("after 10 imported events"), "{error}");
    }
}

#[tokio::test]
async fn a_repeated_import_with_differing_events_is_refused() {
    let store = FailingEventStore::new(MemoryEventStore::new());
    let events = numbered(20);
    store.import(events[..10].to_vec(), AppendCondition::none()).await.unwrap();
    let import = async |events: &[NewEvent]| {
        store.import(events.to_vec(), AppendCondition::none()).chunk_events(4).lock_time(Duration::MAX).await
    };
    let refused = async |events: &[NewEvent], so_far: &str| {
        let error = import(events).await.unwrap_err();
        let message = error.to_string();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{message}");
        assert!(message.contains(so_far) && message.contains("one of these ids, at position"), "{message}");
    };
    // Other content, another order, something before it, and something in between.
    let mut other = events.clone();
    other[5] = event("Imported", json!({"n": "other"})).with_id(events[5].id());
    refused(&other, "after 5 imported events").await;
    let mut swapped = events.clone();
    swapped.swap(0, 1);
    refused(&swapped, "before the first event").await;
    let with_more = |at: usize| {
        let mut with_more = events.clone();
        with_more.insert(at, event("Imported", json!({})));
        with_more
    };
    refused(&with_more(0), "before the first event").await;
    refused(&with_more(6), "after 6 imported events").await;
    // In a stream they are others.
    let in_stream = numbered(8);
    store.append(in_stream.clone(), AppendCondition::none()).to_stream("s", ExpectedVersion::NoStream).await.unwrap();
    refused(&in_stream, "before the first event").await;
    // Where it cannot be read, it is not known.
    store.fail_next_read(Error::new(ErrorKind::Unavailable, "as the test wants it"));
    let error = import(&events).await.unwrap_err();
    assert!(error.is_retryable() && error.to_string().contains("before the first event"), "{error}");
    assert_eq!(*store.count(&Filter::any_event()).await.unwrap(), 18);
    assert_eq!(import(&events).await.unwrap().repeated, 10);
}

#[tokio::test]
async fn the_condition_holds_between_the_chunks_and_not_against_them() {
    let store = MemoryEventStore::new();
    // The import's own events match it.
    store.import(numbered(30), no_other("Imported")).chunk_events(10).lock_time(Duration::MAX).await.unwrap();
    let error = store.import(numbered(10), no_other("Imported")).await.unwrap_err();
    assert!(error.is_conflict(), "{error}");

    // Somebody gets in between.
    let intruder = store.clone();
    let mut waits = true;
    let events = numbered(30).into_iter().inspect(move |event| {
        let n: serde_json::Value = event.payload().decode().unwrap();
        if n["n"] == 15 && std::mem::take(&mut waits) {
            let append = intruder.append([support::event("Other", json!({}))], AppendCondition::none());
            append.into_future().now_or_never().unwrap().unwrap();
        }
    });
    let error = store.import(events, no_other("Other")).chunk_events(10).lock_time(Duration::MAX).await.unwrap_err();
    assert_eq!(error.conflict().map(|it| it.position), Some(41), "{error}");
    assert_eq!(numbers(&store).await.len(), 40);
}

#[tokio::test]
async fn a_chunk_has_no_more_bytes_than_it_may_have() {
    let store = MemoryEventStore::new();
    let sized = |bytes: usize, amount: u64| {
        let large = "x".repeat(bytes);
        (0..amount).map(move |n| event("Imported", json!({"n": n, "large": large})))
    };
    let chunks = async |events, chunk_bytes: Option<usize>| {
        let import = store.import(events, AppendCondition::none());
        let import = if let Some(bytes) = chunk_bytes { import.chunk_bytes(bytes) } else { import };
        let imported = import.await.unwrap();
        (imported.events, imported.chunks)
    };
    let many = |bytes, amount| sized(bytes, amount).collect::<Vec<_>>();
    assert_eq!(chunks(many(Import::DEFAULT_CHUNK_BYTES / 4, 6), None).await, (6, 2), "three of them, and not four");
    assert_eq!(chunks(many(Import::DEFAULT_CHUNK_BYTES, 2), None).await, (2, 2), "each alone, since none fits");
    assert_eq!(chunks(many(100, 6), Some(0)).await, (6, 6));
    // Nothing makes an append larger than it may be.
    let large = 15 * 1024 * 1024;
    assert!(4 * large < Append::MAX_LEN && 5 * large > Append::MAX_LEN);
    assert_eq!(chunks(many(large, 6), Some(usize::MAX)).await, (6, 2));
    // Wrong events are refused where they are.
    let wrong = [event("Imported", json!({"n": 7})), event("", json!({}))];
    assert_eq!(store.import(wrong, AppendCondition::none()).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(numbers(&store).await.len(), 20);
}

const SLOW: &str = "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN IF (NEW.payload->>'n')::int < 200 THEN PERFORM pg_sleep(0.01); END IF; RETURN NEW; END $$;
    CREATE TRIGGER slow BEFORE INSERT ON mainstem.events FOR EACH ROW EXECUTE FUNCTION slow()";

/// While each event takes 10 ms a chunk has few of them, and behind that as many as it may.
#[tokio::test]
async fn chunks_shrink_while_the_server_is_slow_and_grow_again() {
    let (_database, router, store) = support::store().await;
    router.client().await.unwrap().batch_execute(SLOW).await.unwrap();
    let sizes = async |events: u64, lock_time: Option<Duration>| {
        let (mut sizes, mut before) = (Vec::new(), 0);
        let import = store.import(numbered(events), AppendCondition::none()).chunk_events(64);
        let import = if let Some(limit) = lock_time { import.lock_time(limit) } else { import };
        let import = import.on_progress(|it: Imported| {
            sizes.push(it.events - before);
            before = it.events;
        });
        import.await.unwrap();
        sizes
    };
    let default = sizes(1_500, None).await;
    let slow = default.iter().scan(0, |before, size| Some(std::mem::replace(before, *before + size)));
    let slow = slow.take_while(|before| before + 64 < 200).count();
    assert_eq!(default[0], 64, "nothing is known of the first");
    assert!(default[1..slow].iter().all(|size| (1..=10).contains(size)), "{default:?}");
    assert!(default[slow..].contains(&64), "{default:?}");
    assert_eq!(sizes(128, Some(Duration::MAX)).await, [64, 64]);
    assert!(sizes(80, Some(Duration::ZERO)).await[1..].iter().all(|size| *size == 1));
}

/// It is what takes longer for more events: neither what an append waits for before, nor what its commit waits for.
#[tokio::test]
async fn the_lock_time_is_that_of_the_work_under_the_lock() {
    const WAIT: Duration = Duration::from_secs(1);
    let (_database, router, store) = support::store().await;
    let append = || store.append(numbered(1), AppendCondition::none()).into_future();
    let lock = LogLock::take(&router).await;
    let waits = tokio::spawn(append());
    LogLock::is_waited_for(&router).await;
    tokio::time::sleep(WAIT).await;
    lock.release().await;
    let lock_time = waits.await.unwrap().unwrap().lock_time().unwrap();
    assert!(lock_time < WAIT, "{lock_time:?}");
    let sleeps =
        "CREATE FUNCTION sleeps() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(1); RETURN NULL; END'";
    let client = router.client().await.unwrap();
    client.batch_execute(sleeps).await.unwrap();
    let (at_once, at_commit) = (("TRIGGER", ""), ("CONSTRAINT TRIGGER", "DEFERRABLE INITIALLY DEFERRED"));
    for (kind, when) in [at_once, at_commit] {
        let on = "sleeps AFTER INSERT ON mainstem.events";
        let create = format!("CREATE {kind} {on} {when} FOR EACH ROW EXECUTE FUNCTION sleeps()");
        client.batch_execute(&create).await.unwrap();
        let lock_time = append().await.unwrap().lock_time().unwrap();
        assert_eq!(lock_time >= WAIT, kind == "TRIGGER", "{kind}: {lock_time:?}");
        client.batch_execute("DROP TRIGGER sleeps ON mainstem.events").await.unwrap();
    }
    assert_eq!(MemoryEventStore::new().append(numbered(1), AppendCondition::none()).await.unwrap().lock_time(), None);
}

/// A store that remembers the largest piece, and the largest answer, that it has given.
#[derive(Debug, Default)]
struct Measured {
    log: MemoryEventStore,
    largest: Arc<AtomicUsize>,
}

fn len(events: &[Event]) -> usize {
    events.iter().map(Event::byte_len).sum()
}

impl EventStore for Measured {
    fn run_append(&self, request: AppendRequest) -> BoxFuture<mainstem::Result<Appended>> {
        self.log.run_append(request)
    }

    fn run_query(&self, request: QueryRequest) -> BoxFuture<mainstem::Result<Answer>> {
        let (query, largest) = (self.log.run_query(request), Arc::clone(&self.largest));
        Box::pin(query.inspect_ok(move |answer| _ = largest.fetch_max(len(&answer.events), Ordering::Relaxed)))
    }

    fn run_read_after(&self, request: ReadAfterRequest) -> BoxFuture<mainstem::Result<Piece>> {
        let (read, largest) = (self.log.run_read_after(request), Arc::clone(&self.largest));
        Box::pin(read.inspect_ok(move |piece| _ = largest.fetch_max(len(&piece.events), Ordering::Relaxed)))
    }
}

/// What an import finds of itself may have large events of others behind it.
#[tokio::test]
async fn an_import_that_goes_on_reads_little_of_what_others_have_written() {
    let store = Measured::default();
    let events = numbered(10);
    store.import(events[..3].to_vec(), AppendCondition::none()).await.unwrap();
    for _ in 0..5 {
        let large = event("Other", json!("x".repeat(3 * 1024 * 1024)));
        store.append([large], AppendCondition::none()).await.unwrap();
    }
    let imported = store.import(events, AppendCondition::none()).await.unwrap();
    assert_eq!((imported.events, imported.repeated), (10, 3));
    let largest = store.largest.load(Ordering::Relaxed);
    assert!((1..=4 * 1024 * 1024).contains(&largest), "{largest} bytes at a time");
}
