//! Read models in tables.

mod blame;
mod changed;
mod deferred;
mod endings;

use std::{
    future::IntoFuture,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use mainstem::{
    AppendCondition, ConsumerTransaction, Error, ErrorKind, Event, EventStore, Filter, Mark, PoisonPolicy,
    PostgresEventStore, ReadModel, ReadModelState, ReadModels, Result, Router, Start,
};
use serde_json::json;
use tokio::time::{sleep, timeout};

use crate::support::{event, store};

const HANG: Duration = Duration::from_secs(30);

/// Counts events by their number, in a table of its own. It cannot apply those that it is told not to.
#[derive(Clone)]
struct Counter {
    name: &'static str,
    refuses: Arc<AtomicBool>,
    attempts: Arc<AtomicU64>,
}

impl Counter {
    fn new(name: &'static str) -> Self {
        Self { name, refuses: Arc::default(), attempts: Arc::default() }
    }
}

impl ReadModel for Counter {
    fn name(&self) -> String {
        self.name.to_owned()
    }

    fn filter(&self) -> Result<Filter> {
        Filter::matching().any_type_of(["A", "Poison"]).finish()
    }

    async fn clear(&mut self, transaction: &ConsumerTransaction) -> Result<()> {
        let sql = format!("CREATE TABLE IF NOT EXISTS {0} (n int8, position int8); TRUNCATE {0}", self.name);
        transaction.batch_execute(&sql).await
    }

    async fn apply(&mut self, event: &Event, transaction: &ConsumerTransaction) -> Result<()> {
        let n: i64 = event.payload().as_json().unwrap().decode().unwrap();
        let sql = format!("INSERT INTO {} VALUES ($1, $2)", self.name);
        transaction.execute(&sql, &[&n, &event.position().cast_signed()]).await?;
        if event.event_type() == "Poison" && self.refuses.load(Ordering::SeqCst) {
            self.attempts.fetch_add(1, Ordering::SeqCst);
            return Err(Error::application("it makes no sense"));
        }
        Ok(())
    }
}

async fn append(store: &PostgresEventStore, types: &[&str]) -> Mark {
    let events: Vec<_> = types.iter().enumerate().map(|(n, event_type)| event(event_type, json!(n))).collect();
    store.append(events, AppendCondition::none()).await.unwrap().last()
}

async fn rows(router: &Router, table: &str) -> Vec<i64> {
    let sql = format!("SELECT position FROM {table} ORDER BY position");
    router.client().await.unwrap().query(&sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn models_are_built_at_the_start_kept_and_rebuilt() {
    let (_database, router, store) = store().await;
    let types: Vec<&str> = (0..1000).map(|n| if n % 2 == 0 { "A" } else { "B" }).collect();
    append(&store, &types).await;
    let builder = ReadModels::builder(&store).with(Counter::new("first")).unwrap();
    let read_models = builder.with(Counter::new("second")).unwrap().batch_events(50).start().unwrap();
    let mut shown: Vec<f64> = Vec::new();
    let show = |all: &[mainstem::ReadModelProgress]| shown.push(all[0].fraction());
    read_models.wait_until_caught_up(HANG, show).await.unwrap_or_else(|error| panic!("{}", error.report()));
    assert!(shown.is_sorted() && shown.len() > 5 && shown.iter().any(|part| (0.1..0.9).contains(part)), "{shown:?}");
    assert!(read_models.progress().iter().all(|one| one.state == ReadModelState::Live && one.applied == 500));
    assert_eq!(rows(&router, "first").await, (1..=1000).step_by(2).collect::<Vec<i64>>());

    // A user sees what he has just written, also when it is not for the model.
    for types in [&["A"][..], &["B"], &["A", "B"]] {
        let mark = append(&store, types).await;
        for name in ["first", "second"] {
            read_models.wait_until_handled(name, mark).timeout(HANG).await.unwrap();
        }
        let expected = store.query(&Counter::new("").filter().unwrap()).await.unwrap();
        let expected: Vec<i64> = expected.iter().map(|event| event.position().cast_signed()).collect();
        assert_eq!(rows(&router, "first").await, expected);
    }

    router.client().await.unwrap().batch_execute("DELETE FROM first WHERE position % 3 = 0").await.unwrap();
    store.consumer_control("first").reset(Start::Beginning).await.unwrap();
    // This process may not have heard of it yet.
    read_models.wait_until_caught_up(HANG, |_| ()).await.unwrap();
    assert_eq!(rows(&router, "first").await, rows(&router, "second").await);
    let head = store.query(&Filter::any_event()).await.unwrap().head().unwrap();
    read_models.wait_until_handled("first", head).timeout(HANG).await.unwrap();
    timeout(HANG, read_models.stop()).await.expect("they stop");

    // What was appended meanwhile is all that the next start applies.
    append(&store, &["A", "A"]).await;
    let read_models = ReadModels::builder(&store).with(Counter::new("second")).unwrap().start().unwrap();
    timeout(HANG, read_models.wait_until_caught_up(Duration::MAX, |_| ())).await.expect("no hang").unwrap();
    assert_eq!(read_models.progress()[0].applied, 2);
    let error = ReadModels::builder(&store).with(Counter::new("a")).unwrap().with(Counter::new("a")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[tokio::test]
async fn waiting_for_a_read_model_that_is_still_starting_succeeds() {
    let (database, router, store) = store().await;
    let mark = append(&store, &["A"]).await;
    // It reads the log, and cannot put down that it is there.
    let another = crate::support::router(&database).await;
    let client = another.client().await.unwrap();
    client.batch_execute("BEGIN; LOCK mainstem.events_consumers IN SHARE MODE").await.unwrap();
    let read_models = ReadModels::builder(&store).with(Counter::new("late")).unwrap().start().unwrap();
    let waiting = tokio::spawn(read_models.wait_until_handled("late", mark).timeout(HANG).into_future());
    sleep(Duration::from_millis(200)).await;
    let error = read_models.wait_until_handled("nobody's", mark).timeout(HANG).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration, "nobody has started it: {error}");
    assert!(!waiting.is_finished());
    client.batch_execute("COMMIT").await.unwrap();
    timeout(HANG, waiting).await.expect("no hang").unwrap().unwrap();
    assert_eq!(rows(&router, "late").await, [1]);
}

#[tokio::test]
async fn poison_stops_a_read_model_until_it_can_be_applied() {
    let (_database, router, store) = store().await;
    append(&store, &["A", "A", "Poison", "A"]).await;
    let counter = Counter::new("stops");
    counter.refuses.store(true, Ordering::SeqCst);
    let policy = PoisonPolicy::stop().retries(2, Duration::from_millis(10));
    let start =
        || ReadModels::builder(&store).poison_policy(policy.clone()).with(counter.clone()).unwrap().start().unwrap();
    let read_models = start();
    let error = read_models.wait_until_caught_up(HANG, |_| ()).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Application && error.to_string().contains("it makes no sense"), "{error}");
    assert_eq!(read_models.progress()[0].state, ReadModelState::Failed);
    assert_eq!(counter.attempts.load(Ordering::SeqCst), 3, "once, and twice more");
    // What came before it in its batch is there, and what came after it is not.
    assert_eq!(rows(&router, "stops").await, [1, 2]);
    let checkpoint = store.consumer_control("stops").status().await.unwrap().checkpoint();
    assert_eq!((checkpoint, read_models.progress()[0].applied), (read_models.progress()[0].handled, 2));
    assert_eq!(checkpoint.unwrap().position(), 2);
    assert_eq!(store.consumer_control("stops").skipped(9).await.unwrap(), []);
    read_models.stop().await;
    counter.refuses.store(false, Ordering::SeqCst);
    let read_models = start();
    read_models.wait_until_caught_up(HANG, |_| ()).await.unwrap();
    assert_eq!(rows(&router, "stops").await, [1, 2, 3, 4]);
}

/// Behind a failure the batches are small again, and those in front of the event are committed meanwhile.
#[tokio::test]
async fn attempts_are_counted_over_the_batches_that_come_before_it_again() {
    let (_database, _router, store) = store().await;
    let types: Vec<&str> = (1..=200).map(|n| if n == 150 { "Poison" } else { "A" }).collect();
    append(&store, &types).await;
    let counter = Counter::new("counts");
    counter.refuses.store(true, Ordering::SeqCst);
    let policy = PoisonPolicy::stop().retries(2, Duration::from_millis(10));
    let read_models =
        ReadModels::builder(&store).poison_policy(policy.clone()).with(counter.clone()).unwrap().start().unwrap();
    read_models.wait_until_caught_up(HANG, |_| ()).await.unwrap_err();
    assert_eq!(counter.attempts.load(Ordering::SeqCst), 3, "once, and twice more");
    let checkpoint = store.consumer_control("counts").status().await.unwrap().checkpoint();
    assert_eq!(checkpoint.map(|mark| mark.position()), Some(149));
}

#[tokio::test]
async fn poison_is_passed_over_and_recorded_and_never_in_silence() {
    let (_database, router, store) = store().await;
    append(&store, &["A", "Poison", "A", "Poison", "A"]).await;
    let counter = Counter::new("skips");
    counter.refuses.store(true, Ordering::SeqCst);
    let policy = PoisonPolicy::skip().retries(1, Duration::from_millis(10));
    let read_models = ReadModels::builder(&store).poison_policy(policy.clone()).with(counter).unwrap().start().unwrap();
    read_models.wait_until_caught_up(HANG, |_| ()).await.unwrap_or_else(|error| panic!("{}", error.report()));
    assert_eq!(rows(&router, "skips").await, [1, 3, 5], "nothing of them is left behind");
    let progress = &read_models.progress()[0];
    assert_eq!((progress.applied, progress.skipped), (3, 2));
    let skipped = store.consumer_control("skips").skipped(9).await.unwrap();
    assert_eq!(skipped.iter().map(|one| (one.mark.position(), one.attempts)).collect::<Vec<_>>(), [(2, 2), (4, 2)]);
    assert!(skipped.iter().all(|one| one.reason.contains("it makes no sense")), "{skipped:?}");
    let control = store.consumer_control("skips");
    assert_eq!(control.status().await.unwrap().skipped(), 2);
    // Whoever goes back meets them again: until then nothing is passed over.
    read_models.stop().await;
    control.reset(Start::AfterPosition(3)).await.unwrap();
    let skipped = control.skipped(9).await.unwrap();
    assert_eq!(skipped.iter().map(|one| one.mark.position()).collect::<Vec<_>>(), [2]);
}

#[tokio::test]
async fn a_second_process_takes_over_a_read_model() {
    let (database, router, store) = store().await;
    append(&store, &["A"]).await;
    let start = |store: &PostgresEventStore| {
        let builder = ReadModels::builder(store).takeover(Duration::from_secs(2));
        builder.with(Counter::new("shared")).unwrap().start().unwrap()
    };
    let first = start(&store);
    first.wait_until_caught_up(HANG, |_| ()).await.unwrap();
    let other = PostgresEventStore::new(&crate::support::router(&database).await);
    let second = start(&other);
    for _ in 0..20 {
        append(&store, &["A"]).await;
        sleep(Duration::from_millis(5)).await;
    }
    // Without a word.
    drop(first);
    let last = append(&store, &["A"]).await;
    second.wait_until_handled("shared", last).timeout(HANG).await.unwrap();
    assert_eq!(rows(&router, "shared").await, (1..=22).collect::<Vec<i64>>());
}

fn counter(store: &PostgresEventStore) -> ReadModels {
    let builder = ReadModels::builder(store).takeover(Duration::from_secs(2));
    builder.with(Counter::new("counter")).unwrap().start().unwrap()
}

async fn becomes(read_models: &ReadModels, state: ReadModelState) {
    let becomes = async {
        while read_models.progress()[0].state != state {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(HANG, becomes).await.unwrap_or_else(|_| panic!("{:?}, not {state:?}", read_models.progress()));
}

/// The error that is told of the first one, as soon as there is one.
async fn told(read_models: &ReadModels) -> Error {
    let error = async {
        loop {
            if let Some(error) = read_models.progress()[0].error.clone() {
                break error;
            }
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(HANG, error).await.expect("an error is told")
}

#[tokio::test]
async fn where_nothing_is_left_to_do_read_models_have_caught_up() {
    let (_database, _router, store) = store().await;
    let empty = counter(&store);
    empty.wait_until_caught_up(HANG, |_| ()).await.unwrap();
    becomes(&empty, ReadModelState::Live).await;
    let mark = append(&store, &["A", "B"]).await;
    empty.wait_until_caught_up(HANG, |_| ()).await.unwrap();
    assert_eq!(empty.progress()[0].handled, Some(mark), "what is not for it, too");
    empty.stop().await;

    // Nothing has come since.
    let again = counter(&store);
    let mut shown = 0.0;
    again.wait_until_caught_up(HANG, |all| shown = all[0].fraction()).await.unwrap();
    becomes(&again, ReadModelState::Live).await;
    let progress = &again.progress()[0];
    assert_eq!((progress.state, progress.applied, progress.handled), (ReadModelState::Live, 0, Some(mark)));
    assert_eq!((shown, progress.head_position), (1.0, 2));
    ReadModels::builder(&store).start().unwrap().wait_until_caught_up(HANG, |_| ()).await.unwrap();
}

#[tokio::test]
async fn catching_up_in_another_process_is_awaited_by_its_checkpoint() {
    let (database, router, store) = store().await;
    append(&store, &["A"]).await;
    let first = counter(&store);
    first.wait_until_caught_up(HANG, |_| ()).await.unwrap();
    let other = PostgresEventStore::new(&crate::support::router(&database).await);
    let second = counter(&other);
    second.wait_until_caught_up(HANG, |_| ()).await.unwrap();
    assert_eq!(second.progress()[0].state, ReadModelState::Waiting, "the other one works");

    let client = router.client().await.unwrap();
    client.batch_execute("BEGIN; LOCK counter IN SHARE MODE").await.unwrap();
    let mark = append(&store, &["A"]).await;
    let mut shown = Vec::new();
    let error =
        second.wait_until_caught_up(Duration::from_millis(300), |all| shown.push(all[0].clone())).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Timeout && error.to_string().contains("at position 1 of 2"), "{error}");
    assert!(error.to_string().contains("not at work in this process"), "{error}");
    let waited = shown.last().unwrap();
    assert_eq!((waited.state, waited.fraction()), (ReadModelState::Waiting, 0.5));
    client.batch_execute("COMMIT").await.unwrap();
    second.wait_until_caught_up(HANG, |all| shown.push(all[0].clone())).await.unwrap();
    assert_eq!(shown.last().unwrap().handled, Some(mark));

    // It takes over where nothing is left to do, and says so.
    drop(first);
    becomes(&second, ReadModelState::Live).await;
    let third = counter(&store);
    second.stop().await;
    becomes(&third, ReadModelState::Live).await;
}

#[tokio::test]
async fn for_want_of_a_table_no_event_is_passed_over() {
    let (_database, router, store) = store().await;
    append(&store, &["A", "A"]).await;
    let policy = PoisonPolicy::skip();
    let start = || {
        ReadModels::builder(&store).poison_policy(policy.clone()).with(Counter::new("gone")).unwrap().start().unwrap()
    };
    let read_models = start();
    read_models.wait_until_caught_up(HANG, |_| ()).await.unwrap();
    let client = router.client().await.unwrap();
    client.batch_execute("ALTER TABLE gone RENAME TO elsewhere").await.unwrap();
    let mark = append(&store, &["A"]).await;
    let error = told(&read_models).await;
    assert_eq!(error.sqlstate(), Some("42P01"), "{}", error.report());
    client.batch_execute("ALTER TABLE elsewhere RENAME TO gone").await.unwrap();
    read_models.wait_until_handled("gone", mark).timeout(HANG).await.unwrap();
    assert_eq!((rows(&router, "gone").await, read_models.progress()[0].skipped), (vec![1, 2, 3], 0));
}

/// A counter whose transactions only read, as long as it is told so.
struct OnlyReads(Arc<AtomicBool>, Counter);

impl ReadModel for OnlyReads {
    fn name(&self) -> String {
        self.1.name()
    }

    fn filter(&self) -> Result<Filter> {
        self.1.filter()
    }

    async fn clear(&mut self, transaction: &ConsumerTransaction) -> Result<()> {
        self.1.clear(transaction).await
    }

    async fn apply(&mut self, event: &Event, transaction: &ConsumerTransaction) -> Result<()> {
        if self.0.load(Ordering::SeqCst) {
            transaction.batch_execute("SET TRANSACTION READ ONLY").await?;
        }
        self.1.apply(event, transaction).await
    }
}

#[tokio::test]
async fn where_the_database_only_reads_no_event_is_passed_over() {
    let (_database, router, store) = store().await;
    let only_reads = Arc::new(AtomicBool::new(true));
    let model = OnlyReads(Arc::clone(&only_reads), Counter::new("writes"));
    let read_models =
        ReadModels::builder(&store).poison_policy(PoisonPolicy::skip()).with(model).unwrap().start().unwrap();
    let mark = append(&store, &["A"]).await;
    let error = told(&read_models).await;
    assert_eq!(error.kind(), ErrorKind::ReadOnly, "{}", error.report());
    only_reads.store(false, Ordering::SeqCst);
    read_models.wait_until_handled("writes", mark).timeout(HANG).await.unwrap();
    assert_eq!((rows(&router, "writes").await, read_models.progress()[0].skipped), (vec![1], 0));
}
