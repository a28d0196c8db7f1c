//! Following a log: in order and without gaps, whatever happens to servers and connections.

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt;
use mainstem::{
    AppendCondition, Appended, Consistency, Cursor, Error, ErrorKind, Event, EventId, EventStore, Filter, Mark,
    MemoryEventStore, NewEvent, PostgresEventStore, Result, Role, Router, Start, Subscribe, Subscription,
    backend::{Answer, AppendRequest, BoxFuture, QueryRequest},
    testing::{FailingEventStore, LocalCluster},
    tokio_postgres::{self, NoTls},
};
use serde_json::json;
use tokio::time::{sleep, timeout};

use crate::support::{cluster, event, router, started, store};

/// Far longer than anything here may take: what it ends would have hung.
const HANG: Duration = Duration::from_secs(30);

async fn append(store: &impl EventStore, types: &[&str]) -> Mark {
    let events: Vec<NewEvent> = types.iter().map(|event_type| event(event_type, json!({}))).collect();
    store.append(events, AppendCondition::none()).await.unwrap_or_else(|error| panic!("{}", error.report())).last()
}

fn of_type(event_type: &str) -> Filter {
    Filter::matching().any_type_of([event_type]).finish().unwrap()
}

/// The next event, over all errors.
pub(crate) async fn next(subscription: &mut Subscription) -> Event {
    let mut said = Vec::new();
    let next = async {
        loop {
            match subscription.next().await.expect("it goes on") {
                Ok(event) => return event,
                Err(error) => {
                    assert!(error.is_retryable(), "{}", error.report());
                    said.push(error.report());
                }
            }
        }
    };
    let next = timeout(HANG, next).await;
    next.unwrap_or_else(|_| {
        panic!("no event in time behind {:?}; {} errors: {:?}", subscription.mark(), said.len(), said.last())
    })
}

async fn positions(subscription: &mut Subscription, amount: usize) -> Vec<u64> {
    let mut positions = Vec::new();
    for _ in 0..amount {
        positions.push(next(subscription).await.position());
    }
    positions
}

/// The error that ends it.
async fn end(subscription: &mut Subscription) -> Error {
    let end = async {
        loop {
            match subscription.next().await.expect("an error comes before the end") {
                Ok(event) => panic!("an event at {}", event.position()),
                Err(error) if error.is_retryable() => {}
                Err(error) => return error,
            }
        }
    };
    let error = timeout(HANG, end).await.expect("an end in time");
    assert!(subscription.next().await.is_none(), "there is nothing behind it");
    error
}

async fn lose_events_after(router: &Router, position: u64) {
    lose_events(router, &format!("position > {position}")).await;
}

async fn lose_events(router: &Router, which: &str) {
    let lose = format!(
        "ALTER TABLE mainstem.events DISABLE TRIGGER events_append_only; \
         DELETE FROM mainstem.events WHERE {which}; \
         ALTER TABLE mainstem.events ENABLE ALWAYS TRIGGER events_append_only"
    );
    router.client().await.unwrap().batch_execute(&lose).await.unwrap();
}

/// What holds in every store: what is there, what comes, from any place, in batches of any size.
async fn follows(store: impl EventStore + Clone + 'static, level: Consistency) {
    let everything = Filter::any_event();
    let subscribe = |filter: &Filter| store.subscribe(filter).consistency(level.clone());
    let mut idle = subscribe(&everything).build();
    assert!(timeout(Duration::from_millis(200), idle.next()).await.is_err(), "the log is empty");
    append(&store, &["A", "B", "A", "C"]).await;
    assert_eq!(positions(&mut idle, 4).await, [1, 2, 3, 4]);
    let third = idle.mark().unwrap();
    append(&store, &["A", "B", "A"]).await;
    assert_eq!(positions(&mut idle, 3).await, [5, 6, 7]);

    for batch_events in [1, 2, 3, 100] {
        let mut all = subscribe(&everything).batch_events(batch_events).build();
        assert_eq!(positions(&mut all, 7).await, [1, 2, 3, 4, 5, 6, 7], "{batch_events} at a time");
        let mut some = subscribe(&of_type("A")).batch_events(batch_events).build();
        assert_eq!(positions(&mut some, 4).await, [1, 3, 5, 7], "{batch_events} at a time");
        let mut behind = subscribe(&of_type("A")).batch_events(batch_events).start_at(third).build();
        assert_eq!(positions(&mut behind, 2).await, [5, 7], "{batch_events} at a time");
    }
    let mut bare = subscribe(&everything).start_at(Start::AfterPosition(5)).build();
    assert_eq!(positions(&mut bare, 2).await, [6, 7]);

    // A step forward without events is told, too.
    let mut others = subscribe(&of_type("X")).build();
    let batch = timeout(HANG, others.next_batch()).await.expect("in time").unwrap().unwrap();
    assert_eq!((batch.len(), batch.mark().position(), batch.events_behind()), (0, 7, 0));

    // The mark is that of what was handed out, whatever was read.
    let mut one_by_one = subscribe(&everything).build();
    for position in 1..=7 {
        assert_eq!(next(&mut one_by_one).await.position(), position);
        assert_eq!(one_by_one.mark().unwrap().position(), position);
    }

    let waiting = subscribe(&everything).start_at(third).build();
    let stop = waiting.stop_handle();
    let collecting = tokio::spawn(waiting.map(|event| event.unwrap().position()).collect::<Vec<_>>());
    sleep(Duration::from_millis(100)).await;
    stop.stop();
    assert_eq!(timeout(HANG, collecting).await.expect("it ends").unwrap(), [5, 6, 7]);

    let unknown = Mark::new(3, EventId::new());
    let error = end(&mut subscribe(&everything).start_at(unknown).build()).await;
    assert_eq!(error.kind(), ErrorKind::LogDiverged, "{}", error.report());
    assert!(error.to_string().contains(&unknown.to_string()), "{error}");
    let error = end(&mut subscribe(&everything).start_at(Mark::new(70, EventId::new())).build()).await;
    assert_eq!(error.kind(), ErrorKind::LogDiverged, "{}", error.report());
}

/// Has nothing of its own but what a store must have.
#[derive(Clone, Debug)]
struct Plain(MemoryEventStore);

impl EventStore for Plain {
    fn run_append(&self, request: AppendRequest) -> BoxFuture<Result<Appended>> {
        self.0.run_append(request)
    }

    fn run_query(&self, request: QueryRequest) -> BoxFuture<Result<Answer>> {
        self.0.run_query(request)
    }
}

#[tokio::test]
async fn a_log_in_memory_is_followed() {
    follows(MemoryEventStore::new(), Consistency::Strong).await;
}

#[tokio::test]
async fn a_store_that_only_answers_queries_is_followed() {
    follows(Plain(MemoryEventStore::new()), Consistency::Strong).await;
}

#[tokio::test]
async fn the_primary_is_followed() {
    let (_database, _router, store) = store().await;
    follows(store, Consistency::Strong).await;
}

#[tokio::test]
async fn replicas_are_followed() {
    let (_database, _router, store) = store().await;
    follows(store, Consistency::Eventual).await;
}

#[tokio::test]
async fn following_begins_at_a_time_or_now() {
    let (_database, _router, store) = store().await;
    let mut times = Vec::new();
    for _ in 0..20 {
        append(&store, &["A", "B"]).await;
        times.push(store.last(&Filter::any_event()).await.unwrap().as_ref().unwrap().recorded_at());
        sleep(Duration::from_millis(3)).await;
    }
    let from = |time| store.subscribe(&Filter::any_event()).consistency(Consistency::Strong).start_at(time).build();
    for (index, time) in times.iter().enumerate() {
        let first = index as u64 * 2 + 1;
        assert_eq!(next(&mut from(Start::RecordedFrom(*time))).await.position(), first);
        let behind = from(Start::RecordedFrom(*time + Duration::from_micros(1)));
        let (mut behind, last) = (behind, index + 1 == times.len());
        if !last {
            assert_eq!(next(&mut behind).await.position(), first + 2);
        }
    }
    assert_eq!(next(&mut from(Start::RecordedFrom(std::time::UNIX_EPOCH))).await.position(), 1);
    let mut now = from(Start::Now);
    assert!(timeout(Duration::from_millis(200), now.next()).await.is_err(), "nothing has come");
    append(&store, &["C"]).await;
    assert_eq!(next(&mut now).await.position(), 41);
}

#[tokio::test]
async fn polling_goes_on_from_a_cursor() {
    let (_database, router, store) = store().await;
    append(&store, &["A", "B", "A", "B", "A"]).await;
    let mut cursor = Cursor::default();
    let mut read = Vec::new();
    loop {
        let fetched = store.fetch(&of_type("A"), cursor).limit(2).await.unwrap();
        read.extend(fetched.iter().map(Event::position));
        cursor = fetched.cursor().to_string().parse().unwrap();
        if fetched.is_at_head() {
            break;
        }
    }
    assert_eq!((read, cursor.mark().map(|mark| mark.position())), (vec![1, 3, 5], Some(5)));
    let none = store.fetch(&of_type("A"), cursor).await.unwrap();
    assert_eq!((none.len(), none.cursor()), (0, cursor), "nothing new leaves it where it is");
    let beyond = store.fetch(&of_type("A"), Start::AfterPosition(9)).await.unwrap();
    assert_eq!(beyond.cursor().to_string().parse::<Cursor>().unwrap(), beyond.cursor());
    append(&store, &["A", "A", "A", "A", "A"]).await;
    let behind = store.fetch(&of_type("A"), beyond.cursor()).await.unwrap();
    assert_eq!(behind.iter().map(Event::position).collect::<Vec<_>>(), [10], "no bare position is the beginning");
    for text in ["x", "m1.0.", "m1.5", "m1.5.x", "p1.0", "p1.", "m2.5", "17"] {
        assert_eq!(text.parse::<Cursor>().unwrap_err().kind(), ErrorKind::InvalidInput, "{text:?}");
    }
    lose_events_after(&router, 3).await;
    let error = store.fetch(&of_type("A"), cursor).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LogDiverged, "{}", error.report());
}

#[tokio::test]
async fn a_live_subscription_notices_that_the_log_has_lost_what_it_has_read() {
    let (_database, router, store) = store().await;
    append(&store, &["A", "B", "C"]).await;
    for level in [Consistency::Strong, Consistency::Eventual] {
        let mut subscription = store.subscribe(&Filter::any_event()).consistency(level.clone()).build();
        let read = store.query(&Filter::any_event()).await.unwrap().len();
        positions(&mut subscription, read).await;
        let live = subscription.mark().unwrap();
        // Nothing is appended behind it: the end alone has to tell.
        lose_events_after(&router, live.position() - 1).await;
        let error = end(&mut subscription).await;
        assert_eq!(error.kind(), ErrorKind::LogDiverged, "{level}: {}", error.report());
        assert_eq!(subscription.mark(), Some(live));
        append(&store, &["X", "Y"]).await;
        let error = end(&mut store.subscribe(&of_type("X")).consistency(level).start_at(live).build()).await;
        assert_eq!(error.kind(), ErrorKind::LogDiverged, "{}", error.report());
    }
}

/// There are no holes in a log, but where somebody has deleted by hand; then there are still events behind them.
#[tokio::test]
async fn a_hole_wider_than_what_is_looked_through_at_a_time_is_passed() {
    let (_database, router, store) = store().await;
    append(&store, &["A"]).await;
    append(&store, &["B"; 100]).await;
    append(&store, &["C"]).await;
    lose_events(&router, "position BETWEEN 2 AND 100").await;
    // A replica that still shows them would be believed, and the next one would lack them.
    cluster().await.wait_until_caught_up().await.unwrap();
    for start in [Start::Beginning, Start::AfterPosition(1)] {
        let mut subscription = store.subscribe(&of_type("C")).batch_events(1).start_at(start).build();
        assert_eq!(next(&mut subscription).await.position(), 102);
    }
}

#[tokio::test]
async fn a_replica_that_is_behind_is_waited_for() {
    let cluster = started(LocalCluster::builder()).await;
    let database = cluster.database().await.unwrap();
    let router = router(&database).await;
    let store = PostgresEventStore::new(&router);
    store.migrate().await.unwrap();
    append(&store, &["A"]).await;
    cluster.wait_until_caught_up().await.unwrap();
    cluster.replica(0).pause_replay().await.unwrap();
    let last = append(&store, &["B", "C"]).await;
    let mut subscription = store.subscribe(&Filter::any_event()).start_at(last).build();
    // Longer than it takes until the primary is asked whether the event is lost.
    assert!(timeout(Duration::from_millis(2500), subscription.next()).await.is_err(), "neither an end nor an error");
    append(&store, &["D"]).await;
    cluster.replica(0).resume_replay().await.unwrap();
    let batch = timeout(HANG, subscription.next_batch()).await.unwrap().unwrap().unwrap();
    assert_eq!((batch.mark().position(), batch.role()), (4, Role::Replica));
}

/// Its checkpoint was saved when another node served, and this one gets nothing more.
#[tokio::test]
async fn a_replica_that_stays_behind_keeps_no_subscription_from_what_the_primary_has() {
    let cluster = started(LocalCluster::builder()).await;
    let database = cluster.database().await.unwrap();
    let store = PostgresEventStore::new(&router(&database).await);
    store.migrate().await.unwrap();
    append(&store, &["A"]).await;
    cluster.wait_until_caught_up().await.unwrap();
    cluster.replica(0).pause_replay().await.unwrap();
    let read = append(&store, &["B", "C"]).await;
    append(&store, &["D"]).await;
    let mut subscription = store.subscribe(&Filter::any_event()).start_at(read).build();
    let batch = timeout(Duration::from_secs(8), subscription.next_batch()).await.expect("the primary is asked");
    let batch = batch.unwrap().unwrap_or_else(|error| panic!("{}", error.report()));
    assert_eq!((batch.mark().position(), batch.role()), (4, Role::Primary));
    cluster.replica(0).resume_replay().await.unwrap();
}

#[tokio::test]
async fn errors_are_told_and_survived() {
    let store = Arc::new(FailingEventStore::new(MemoryEventStore::new()));
    append(&store, &["A", "B"]).await;
    store.pass_next_read();
    (0..3).for_each(|_| store.fail_next_read(Error::new(ErrorKind::Unavailable, "lost")));
    let mut subscription = store.subscribe(&Filter::any_event()).batch_events(1).build();
    let mut told = Vec::new();
    for _ in 0..5 {
        told.push(match timeout(HANG, subscription.next()).await.unwrap().unwrap() {
            Ok(event) => Ok(event.position()),
            Err(error) => Err(error.kind()),
        });
    }
    let lost = || Err(ErrorKind::Unavailable);
    assert_eq!(told, [Ok(1), lost(), lost(), lost(), Ok(2)]);
    // A replica says so, and the primary too.
    (0..2).for_each(|_| store.fail_next_read(Error::new(ErrorKind::Schema, "no table")));
    append(&store, &["C"]).await;
    assert_eq!(end(&mut subscription).await.kind(), ErrorKind::Schema);
}

#[tokio::test]
async fn a_subscription_goes_over_killed_connections_and_a_failover_without_a_hole() {
    let cluster = started(LocalCluster::builder().replicas(2)).await;
    let database = cluster.database().await.unwrap();
    let builder = Router::builder().primary(database.primary_url()).replicas(database.replica_urls());
    let router = builder.probe_interval(Duration::from_millis(100)).call_timeout(Duration::from_secs(2));
    let router = router.connect().await.unwrap();
    let store = PostgresEventStore::new(&router);
    store.migrate().await.unwrap();
    let writing = {
        let store = store.clone();
        tokio::spawn(async move {
            for number in 0..400 {
                // The same event until it is there.
                let event = event("A", json!({"n": number}));
                while store.append([event.clone()], AppendCondition::none()).await.is_err() {
                    sleep(Duration::from_millis(20)).await;
                }
                sleep(Duration::from_millis(5)).await;
            }
        })
    };
    let follow = |level: Consistency| {
        let mut subscription = store.subscribe(&Filter::any_event()).consistency(level).batch_events(7).build();
        tokio::spawn(async move { positions(&mut subscription, 400).await })
    };
    let following = [follow(Consistency::Strong), follow(Consistency::Eventual)];
    for node in cluster.nodes() {
        sleep(Duration::from_millis(150)).await;
        let (admin, connection) = tokio_postgres::connect(&node.url_for(database.name()), NoTls).await.unwrap();
        let connection = tokio::spawn(connection);
        let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                    WHERE datname = current_database() AND pid <> pg_backend_pid()";
        admin.query(kill, &[]).await.unwrap();
        drop(admin);
        connection.await.unwrap().unwrap();
    }
    sleep(Duration::from_millis(300)).await;
    // Nothing is lost: the new primary has everything.
    cluster.wait_until_caught_up().await.unwrap();
    cluster.primary().stop().await.unwrap();
    cluster.replica(0).promote().await.unwrap();
    timeout(HANG * 2, writing).await.expect("all is written").unwrap();
    for following in following {
        let read = timeout(HANG * 2, following).await.expect("all is read");
        let read = read.unwrap_or_else(|error| panic!("{error}; {:#?}", router.status()));
        assert_eq!(read, (1..=400).collect::<Vec<_>>());
    }
}
