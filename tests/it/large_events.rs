//! Events of megabytes among small ones: every reader holds few of them at a time, and gets all of them in order.

use std::{
    borrow::Cow,
    future::IntoFuture,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::TryStreamExt;
use mainstem::{
    AppendCondition, Appended, Consistency, ConsumerTransaction, Cursor, Event, EventStore, Filter, MemoryEventStore,
    NewEvent, Payload, PostgresEventStore, ReadModel, ReadModels, Result, Router, Start, Subscribe,
    SubscriptionBuilder,
    backend::{Answer, AppendRequest, BoxFuture, BoxStream, QueryRequest},
};
use tokio::time::timeout;

use crate::support::{cluster, sessions, store};

/// Far longer than anything here may take: what it ends would have hung.
const HANG: Duration = Duration::from_secs(60);

const MIB: usize = 1 << 20;
/// The size of those that the filters do not ask for.
const OTHER: usize = MIB / 2;
const BUDGET: usize = SubscriptionBuilder::DEFAULT_BATCH_BYTES;

/// An event of about so many bytes, of one of eight keys.
fn sized(n: usize, bytes: usize) -> NewEvent {
    NewEvent::from_payload("Filled", Payload::bytes("text/plain", vec![b'x'; bytes]))
        .with_tag("t")
        .with_tag(format!("key:{}", n % 8))
}

/// Few large ones between many small ones, many at once, some beyond every budget, and again small ones: 120 MiB in 1290 events, every
/// 22nd of another type. The positions of all, and of those that the filters ask for.
async fn fill(store: &impl EventStore) -> [Vec<u64>; 2] {
    let mut sizes = vec![10; 300];
    for n in 0..20 {
        sizes.extend([10; 20]);
        sizes.extend([(n % 3 + 1) * MIB, OTHER]);
    }
    sizes.extend([MIB; 30]);
    sizes.extend([6 * MIB, 10, 6 * MIB, 6 * MIB]);
    sizes.extend([10; 516]);
    let events = sizes.iter().enumerate().map(|(n, bytes)| match *bytes {
        OTHER => NewEvent::from_payload("Other", Payload::bytes("text/plain", vec![b'y'; OTHER])),
        bytes => sized(n, bytes),
    });
    // In whole appends of a few of them: one of all would be too large.
    let mut events = events.peekable();
    while events.peek().is_some() {
        let few: Vec<_> = events.by_ref().take(15).collect();
        store.append(few, AppendCondition::none()).await.unwrap_or_else(|error| panic!("{}", error.report()));
    }
    let positions =
        |keep: fn(&usize) -> bool| (1..).zip(&sizes).filter(|(_, size)| keep(size)).map(|(at, _)| at).collect();
    [positions(|_| true), positions(|size| *size != OTHER)]
}

/// One is read by the primary key, the others by a search; and which of the positions each asks for.
fn filters() -> [(Filter, usize); 3] {
    let by_type = Filter::matching().any_type_of(["Filled"]).finish().unwrap();
    [(Filter::any_event(), 0), (Filter::matching().all_tags_of(["t"]).finish().unwrap(), 1), (by_type, 1)]
}

fn assert_within(events: &[Event], budget: usize) {
    let bytes: usize = events.iter().map(Event::byte_len).sum();
    assert!(bytes <= budget || events.len() == 1, "{} events of {bytes} bytes, of at most {budget}", events.len());
}

/// A store whose streams are looked at as they come, a few events at a time.
#[derive(Debug)]
struct Watched {
    store: PostgresEventStore,
    /// How many came at once.
    most: Arc<AtomicUsize>,
}

impl EventStore for Watched {
    fn run_append(&self, request: AppendRequest) -> BoxFuture<Result<Appended>> {
        self.store.run_append(request)
    }

    fn run_query(&self, request: QueryRequest) -> BoxFuture<Result<Answer>> {
        self.store.run_query(request)
    }

    fn run_query_stream(&self, request: QueryRequest) -> BoxStream<Result<Answer>> {
        let most = Arc::clone(&self.most);
        Box::pin(self.store.run_query_stream(request).inspect_ok(move |answer| {
            assert_within(&answer.events, 4 * MIB);
            most.fetch_max(answer.events.len(), Ordering::Relaxed);
        }))
    }
}

#[tokio::test]
async fn streams_hold_no_more_bytes_than_they_may() {
    let (_database, _router, store) = store().await;
    let positions = fill(&store).await;
    for (filter, which) in filters() {
        let watched = Watched { store: store.clone(), most: Arc::default() };
        let (mut stream, mut read) = (watched.query_stream(&filter), Vec::new());
        while let Some(event) = timeout(HANG, stream.next()).await.expect("no hang") {
            read.push(event.unwrap_or_else(|error| panic!("{}", error.report())).position());
        }
        let most = watched.most.load(Ordering::Relaxed);
        assert!(read == positions[which], "{} events by {filter:?}", read.len());
        assert!(most > 1, "small events come together, and not {most} at a time");
    }
}

/// Reads what is expected, in batches of these bounds.
async fn follow(builder: SubscriptionBuilder, bounds: (u64, usize), expected: &[u64]) {
    let mut subscription = builder.batch_events(bounds.0).batch_bytes(bounds.1).build();
    let (mut read, mut full) = (Vec::new(), 0);
    while subscription.mark().is_none_or(|mark| mark.position() < 1290) {
        let batch = timeout(HANG, subscription.next_batch()).await.expect("no hang").expect("it goes on").unwrap();
        assert_within(&batch, bounds.1);
        assert!(batch.len() as u64 <= bounds.0, "{} events", batch.len());
        assert_eq!(subscription.mark(), Some(batch.mark()));
        full += usize::from(batch.len() as u64 == bounds.0);
        read.extend(batch.iter().map(Event::position));
    }
    let filter = subscription.filter();
    assert!(read == expected, "{} events of {} by {filter:?} in batches of {bounds:?}", read.len(), expected.len());
    assert!(full > 0, "small events fill a batch: {bounds:?} by {filter:?}");
}

#[tokio::test]
async fn batches_of_subscriptions_have_no_more_bytes_than_they_may() {
    let (_database, _router, store) = store().await;
    let positions = fill(&store).await;
    cluster().await.wait_until_caught_up().await.unwrap();
    for ((filter, which), bounds) in filters().into_iter().zip([(200, BUDGET), (7, 3 * MIB), (100, 20 * MIB)]) {
        follow(store.subscribe(&filter), bounds, &positions[which]).await;
    }
    // The last ones are near the end of the log, where they are found in another way.
    for bounds in [(200, BUDGET), (1, 1)] {
        let near = store.subscribe(&filters()[1].0).start_at(Start::AfterPosition(740));
        follow(near, bounds, &positions[1].iter().copied().filter(|at| *at > 740).collect::<Vec<_>>()).await;
    }
    let memory = MemoryEventStore::new();
    fill(&memory).await;
    follow(memory.subscribe(&filters()[1].0), (200, BUDGET), &positions[1]).await;
}

#[tokio::test]
async fn a_fetched_page_stays_within_its_byte_budget() {
    let (_database, _router, store) = store().await;
    let positions = fill(&store).await;
    for ((filter, which), limit) in filters().into_iter().zip([1000, 30, 1000]) {
        let (mut cursor, mut read) = (Cursor::default(), Vec::new());
        loop {
            let fetched =
                timeout(HANG, store.fetch(&filter, cursor).limit(limit).into_future()).await.expect("no hang");
            let fetched = fetched.unwrap_or_else(|error| panic!("{}", error.report()));
            assert_within(&fetched, BUDGET);
            assert!(fetched.is_at_head() || !fetched.is_empty() || fetched.cursor() != cursor, "no step forward");
            read.extend(fetched.iter().map(Event::position));
            cursor = fetched.cursor();
            if fetched.is_at_head() {
                break;
            }
        }
        assert!(read == positions[which], "{} events by {filter:?}, {limit} at a time", read.len());
    }
}

fn key(event: &Event) -> Option<Cow<'_, str>> {
    event.tags().find(|tag| tag.starts_with("key:")).map(Into::into)
}

#[tokio::test]
async fn consumers_go_on_from_a_checkpoint_that_large_events_have_cut() {
    let (_database, _router, store) = store().await;
    let [_, expected] = fill(&store).await;
    let (filter, _) = &filters()[1];
    let member = || {
        let builder = store.consumer("large", filter).batch_bytes(2 * MIB).takeover(Duration::from_millis(500));
        builder.consistency(Consistency::Strong).partitions(8, key).build().unwrap()
    };
    let (mut read, mut runs) = (Vec::new(), 0);
    while read.len() < expected.len() {
        // Each does a few batches, leaves one without a commit, and ends.
        let mut consumer = member();
        for batch_of_run in 0..12 {
            let batch = timeout(HANG, consumer.next_batch()).await.expect("no hang").expect("it goes on").unwrap();
            assert_within(&batch, 2 * MIB);
            if batch_of_run == 11 && read.len() + batch.len() < expected.len() {
                break;
            }
            consumer.commit(&batch).await.unwrap_or_else(|error| panic!("{}", error.report()));
            read.extend(batch.iter().map(Event::position));
            if read.len() >= expected.len() {
                break;
            }
        }
        consumer.close().await.unwrap();
        runs += 1;
    }
    assert!(read == expected, "{} events instead of {}, in {runs} runs", read.len(), expected.len());
    assert!(runs > 3, "{runs} runs");
}

struct Sizes;

impl ReadModel for Sizes {
    fn name(&self) -> String {
        "sizes".to_owned()
    }

    fn filter(&self) -> Result<Filter> {
        Ok(Filter::any_event())
    }

    async fn clear(&mut self, transaction: &ConsumerTransaction) -> Result<()> {
        transaction.batch_execute("CREATE TABLE sizes (n serial, position int8, size int8, tx xid8)").await
    }

    async fn apply(&mut self, event: &Event, transaction: &ConsumerTransaction) -> Result<()> {
        let (position, size) = (event.position().cast_signed(), i64::try_from(event.byte_len()).unwrap());
        let sql = "INSERT INTO sizes (position, size, tx) VALUES ($1, $2, pg_current_xact_id())";
        transaction.execute(sql, &[&position, &size]).await.map(drop)
    }
}

#[tokio::test]
async fn transactions_of_read_models_have_no_more_bytes_than_they_may() {
    let (_database, router, store) = store().await;
    let [all, _] = fill(&store).await;
    let read_models = ReadModels::builder(&store).batch_bytes(2 * MIB).with(Sizes).unwrap().start().unwrap();
    read_models.wait_until_caught_up(HANG, |_| ()).await.unwrap_or_else(|error| panic!("{}", error.report()));
    read_models.stop().await;
    let client = router.client().await.unwrap();
    let rows = client.query("SELECT position FROM sizes ORDER BY n", &[]).await.unwrap();
    let positions: Vec<u64> = rows.iter().map(|row| row.get::<_, i64>(0).cast_unsigned()).collect();
    assert!(positions == all, "{} events", positions.len());
    let too_large =
        "SELECT count(*) FROM (SELECT sum(size)::int8, count(*) FROM sizes GROUP BY tx) t WHERE sum > $1 AND count > 1";
    let too_large: i64 = client.query_one(too_large, &[&i64::try_from(2 * MIB).unwrap()]).await.unwrap().get(0);
    assert_eq!(too_large, 0, "transactions with more");
}

/// The only connection to the primary.
async fn backend(router: &Router) -> i32 {
    router.client().await.unwrap().query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn the_rest_of_a_cut_answer_is_read_or_closed_with_its_connection() {
    cut_and_ended(false).await;
}

#[tokio::test]
async fn the_rest_of_a_cut_answer_is_read_or_closed_with_unnamed_statements() {
    cut_and_ended(true).await;
}

async fn cut_and_ended(is_pooled: bool) {
    let (database, _router, _) = store().await;
    let builder = Router::builder().primary(database.primary_url()).max_connections(1).probe_interval(None);
    let router = builder.transaction_pooling(is_pooled).connect().await.unwrap();
    let store = PostgresEventStore::new(&router);
    let append = async |amount: usize, bytes: usize| {
        for n in 0..amount {
            store.append([sized(n, bytes)], AppendCondition::none()).await.unwrap();
        }
    };
    let fetch = async || {
        let fetched =
            timeout(HANG, store.fetch(&Filter::any_event(), Start::Beginning).limit(1000).into_future()).await;
        let fetched = fetched.expect("no hang").unwrap_or_else(|error| panic!("{}", error.report()));
        (fetched.len(), fetched.is_at_head())
    };
    append(12, MIB).await;
    let first = backend(&router).await;
    assert_eq!(
        (fetch().await, backend(&router).await),
        ((3, false), first),
        "eight megabytes are no reason to connect anew"
    );
    append(60, MIB).await;
    assert_eq!(fetch().await, (3, false));
    assert_ne!(backend(&router).await, first, "the rest of the answer is awaited");
    sessions(&database, &format!("pid = {first}"), 0).await;
    // A transaction that is open would tell.
    assert_eq!(*store.count(&Filter::any_event()).await.unwrap(), 72);
}
