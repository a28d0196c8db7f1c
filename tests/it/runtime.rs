//! The runtimes that the library works on: one thread is enough, and without a runtime there is an error.

use std::{future::IntoFuture, panic::resume_unwind, pin::pin, sync::mpsc, thread, time::Duration};

use futures_util::{FutureExt, TryStreamExt, future::join_all};
use mainstem::{
    AppendCondition, CommandExecutor, Consistency, ConsumerTransaction, Decision, DecisionModel, Error, ErrorKind,
    Event, EventStore, Filter, MemoryEventStore, NewEvent, PostgresEventStore, Projection, ReadModel, ReadModels,
    Result, Router, Session, Subscribe, testing::Direction, with_eventual_consistency, with_session,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::{
    runtime::{Builder, Handle, Runtime, RuntimeFlavor},
    time::timeout,
};

use crate::support::{cluster, database, event, store};

/// Far longer than anything here may take: what it ends would have hung.
const HANG: Duration = Duration::from_secs(120);

fn one_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// How many events there are, as a state with snapshots and as a table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Counted(u64);

impl Projection for Counted {
    fn filter(&self) -> Result<Filter> {
        Filter::matching().any_type_of(["Counted"]).finish()
    }

    fn apply(&mut self, _: &Event) -> Result<()> {
        self.0 += 1;
        Ok(())
    }
}

impl ReadModel for Counted {
    fn name(&self) -> String {
        "counted".to_owned()
    }

    fn filter(&self) -> Result<Filter> {
        Projection::filter(self)
    }

    async fn clear(&mut self, transaction: &ConsumerTransaction) -> Result<()> {
        transaction.batch_execute("CREATE TABLE IF NOT EXISTS counted (position int8); TRUNCATE counted").await
    }

    async fn apply(&mut self, event: &Event, transaction: &ConsumerTransaction) -> Result<()> {
        let position = event.position().cast_signed();
        transaction.execute("INSERT INTO counted VALUES ($1)", &[&position]).await.map(drop)
    }
}

/// Adds one more, whatever there is.
struct Count;

impl mainstem::Command for Count {
    type Model = Counted;
    type Refusal = std::convert::Infallible;

    fn model(&self) -> Counted {
        Counted::default()
    }

    fn decide(&self, _: &Counted) -> Result<Decision<Self::Refusal>> {
        Ok(Decision::append([event("Counted", json!({}))]))
    }
}

fn counted(amount: usize) -> Vec<NewEvent> {
    (0..amount).map(|_| event("Counted", json!({}))).collect()
}

async fn append(store: &PostgresEventStore, amount: usize) -> mainstem::Mark {
    store.append(counted(amount), AppendCondition::none()).await.unwrap().last()
}

/// On a thread of its own, since whoever blocks the only thread of a runtime stops its clock, too.
#[test]
fn the_library_works_on_a_single_threaded_runtime() {
    let (done, ended) = mpsc::channel();
    let thread = thread::spawn(move || {
        one_thread().block_on(everything_on_this_thread());
        done.send(()).unwrap();
    });
    if let Err(mpsc::RecvTimeoutError::Timeout) = ended.recv_timeout(HANG) {
        panic!("something waits for the only thread");
    }
    thread.join().unwrap_or_else(|panic| resume_unwind(panic));
}

async fn everything_on_this_thread() {
    assert_eq!(Handle::current().runtime_flavor(), RuntimeFlavor::CurrentThread);
    let (_database, router, store) = store().await;
    cluster().await.wait_until_caught_up().await.unwrap();
    let everything = Filter::any_event();

    // Appends that share batches, and a command among them.
    join_all((0..20).map(|_| append(&store, 1))).await;
    CommandExecutor::new(store.clone()).execute(&Count).await.unwrap();
    let session = Session::new();
    let seen = with_session(&session, async {
        append(&store, 1).await;
        with_eventual_consistency(async { store.query(&everything).await }).await.unwrap()
    });
    assert_eq!(seen.await.len(), 22);

    // The router's own SQL, transactions and probes.
    let one = router
        .transaction()
        .run(async |transaction| transaction.query_one("SELECT 1", &[]).await.map(|row| row.get::<_, i32>(0)));
    assert_eq!(one.await.unwrap(), 1);
    let mut watch = router.watch();
    while router.status().nodes.iter().any(|node| node.timeline.is_none()) {
        watch.next().await;
    }
    assert!(router.ask_readiness().await.is_ready());

    // What follows the log: what is there, and what comes from a task of the same thread.
    let mut subscription = store.subscribe(&everything).build();
    for _ in 0..22 {
        subscription.next().await.unwrap().unwrap();
    }
    let later = store.clone();
    tokio::spawn(async move { append(&later, 1).await });
    assert_eq!(subscription.next().await.unwrap().unwrap().position(), 23);

    let mut consumer = store.consumer("c", &everything).batch_events(10).build().unwrap();
    let mut handled = 0;
    while handled < 23 {
        let batch = consumer.next_batch().await.unwrap().unwrap();
        handled += batch.len();
        consumer.commit(&batch).await.unwrap();
    }
    consumer.close().await.unwrap();

    let read_models = ReadModels::builder(&store).with(Counted::default()).unwrap().start().unwrap();
    read_models.wait_until_caught_up(HANG, |_| ()).await.unwrap();
    let last = append(&store, 1).await;
    read_models.wait_until_handled("counted", last).await.unwrap();
    read_models.stop().await;

    let state = Counted::default().resume_from(&store, "counted", 1).unwrap().save_every(1).await.unwrap();
    assert_eq!(*state.state(), Counted(24));
    store.close().await;
}

/// Polls a call once, on a thread without a runtime: it has failed by then, and has not panicked.
#[track_caller]
fn refused<T>(what: &str, call: impl IntoFuture<Output = Result<T>>) {
    match pin!(call.into_future()).now_or_never() {
        Some(Err(error)) => says_so(what, &error),
        Some(Ok(_)) => panic!("{what} has succeeded"),
        None => panic!("{what} waits for what nobody does"),
    }
}

#[track_caller]
fn says_so(what: &str, error: &Error) {
    assert_eq!(error.kind(), ErrorKind::Configuration, "{what}: {}", error.report());
    assert!(error.to_string().contains("there is no tokio runtime here"), "{what}: {}", error.report());
}

#[test]
fn a_router_needs_a_runtime_and_says_so() {
    let runtime = one_thread();
    let database = runtime.block_on(database());
    let builder = || Router::builder().primary(database.primary_url()).replicas(database.replica_urls());
    says_so("build", &builder().build().unwrap_err());
    refused("connect", builder().connect());

    let router = runtime.block_on(builder().connect()).unwrap();
    let client = runtime.block_on(router.client()).unwrap();
    let transaction = runtime.block_on(router.transaction().into_future()).unwrap();
    for level in [Consistency::Strong, Consistency::Eventual, Consistency::Bounded(Duration::from_secs(1))] {
        refused("client", router.client_at(level));
    }
    refused("a transaction", router.transaction());
    refused("a transaction that is run", router.transaction().run(async |_| Ok::<_, Error>(())));
    refused("a statement", client.query("SELECT 1", &[]));
    refused("a statement in a transaction", transaction.query("SELECT 1", &[]));
    says_so("set_replicas", &router.set_replicas(database.replica_urls()).unwrap_err());
    assert!(router.ask_readiness().now_or_never().expect("nobody to wait for").is_ready());
    refused("a stream", client.query_stream("SELECT 1", &[]));
    refused("a COPY", client.copy_in("COPY kept FROM STDIN"));
    runtime.block_on(client.batch_execute("CREATE TABLE kept (n int8)")).unwrap();
    let mut copy = runtime.block_on(client.copy_in("COPY kept FROM STDIN")).unwrap();
    refused("a part of a COPY", copy.send("1\n"));
    drop(copy);
    let mut rows = runtime.block_on(transaction.query_stream("SELECT generate_series(1, 3)", &[])).unwrap();
    refused("the next row", rows.try_next());
    drop(rows);
    drop((client, transaction));

    // Nothing of that has hurt it.
    let one = runtime.block_on(async { router.client().await?.query_one("SELECT 1", &[]).await });
    assert_eq!(one.unwrap().get::<_, i32>(0), 1);
}

/// A connect goes on when its caller has given up, for whoever comes next; but it ends with its runtime.
#[test]
fn a_runtime_that_ends_during_a_connect_keeps_no_place() {
    let (first, second) = (one_thread(), one_thread());
    let (database, proxy) = second.block_on(async { (database().await, cluster().await.primary().proxy().unwrap()) });
    let router = second.block_on(async {
        let builder = Router::builder().primary(database.url_through(&proxy)).probe_interval(None);
        builder.max_connections(1).build().unwrap()
    });
    proxy.silence(Direction::Both);
    first.block_on(async {
        let mut connecting = Box::pin(router.client());
        while proxy.counts().connections == 0 {
            timeout(Duration::from_millis(20), &mut connecting).await.unwrap_err();
        }
    });
    drop(first);
    proxy.restore().unwrap();
    let one = second.block_on(async { router.client().await?.query_one("SELECT 1", &[]).await });
    assert_eq!(one.unwrap().get::<_, i32>(0), 1);
}

#[test]
fn a_log_needs_a_runtime_and_says_so() {
    let runtime = one_thread();
    let (_database, _router, store) = runtime.block_on(store());
    let everything = Filter::any_event();
    let last = runtime.block_on(append(&store, 3));
    let mut idle = store.subscribe(&everything).build();
    runtime.block_on(async { idle.next().await }).unwrap().unwrap();

    refused("an append", store.append(counted(1), AppendCondition::none()));
    let far = AppendCondition::fail_if_events_match(Projection::filter(&Counted(0)).unwrap()).after_position(0);
    refused("a guarded append", store.append(counted(1), far));
    refused("a query", store.query(&everything));
    refused("a count", store.count(&everything));
    refused("a stream's events", store.load_stream("s"));
    refused("a migration", store.migrate());
    refused("a check", store.check());
    refused("a read of a command", CommandExecutor::new(store.clone()).read(Counted::default()));
    refused("a state", Counted::default().resume_from(&store, "counted", 1).unwrap());
    let control = store.consumer_control("c");
    refused("a status", control.status());
    refused("a wait", control.wait_until_handled(last));
    let executor = CommandExecutor::new(store.clone());
    let executed = pin!(executor.execute(&Count).into_future()).now_or_never().expect("it fails at once");
    says_so("a command", executed.unwrap_err().error().expect("it was not refused"));

    let mut consumer = store.consumer("c", &everything).build().unwrap();
    says_so("a batch", &consumer.next_batch().now_or_never().unwrap().unwrap().unwrap_err());
    let mut fresh = store.subscribe(&everything).build();
    says_so("a subscription", &fresh.next().now_or_never().unwrap().unwrap().unwrap_err());
    says_so("read models", &ReadModels::builder(&store).with(Counted::default()).unwrap().start().unwrap_err());
    drop((consumer, fresh, idle));

    let history = runtime.block_on(store.query(&everything).into_future()).unwrap();
    assert_eq!(history.len(), 3, "nothing was written");
    runtime.block_on(append(&store, 1));
}

#[test]
fn a_log_in_memory_needs_no_runtime() {
    let store = MemoryEventStore::new();
    let everything = Filter::any_event();
    let appended = store.append(counted(2), AppendCondition::none()).into_future().now_or_never();
    appended.expect("nobody to wait for").unwrap();
    let mut subscription = store.subscribe(&everything).build();
    assert_eq!(subscription.next().now_or_never().unwrap().unwrap().unwrap().position(), 1);
    assert_eq!(subscription.next().now_or_never().unwrap().unwrap().unwrap().position(), 2);
    assert!(subscription.next().now_or_never().is_none(), "there is no third event");
    let executor = CommandExecutor::new(store);
    pin!(executor.execute(&Count).into_future()).now_or_never().expect("nobody to wait for").unwrap();
    assert_eq!(subscription.next().now_or_never().unwrap().unwrap().unwrap().position(), 3);
}
