//! What only snapshots in PostgreSQL do. `mainstem::testing::event_store::snapshots` tests what every store with
//! snapshots does.

use std::{future::IntoFuture, time::Duration};

use mainstem::{
    AppendCondition, Appended, Consistency, ErrorKind, Event, EventStore, Filter, LoadOutcome, Mark,
    PostgresEventStore, Result, Role, Router, SaveOutcome, Saved, Scope, Snapshot, SnapshotKey, SnapshotStore,
    backend::{
        Answer, AppendRequest, BoxFuture, DeleteSnapshotRequest, LoadSnapshotRequest, QueryRequest,
        ReadAfterSnapshotRequest, SaveSnapshotRequest,
    },
    testing::LocalCluster,
    with_eventual_consistency,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::support::{cluster, event, sessions, started, store};

const LIMIT: Duration = Duration::from_secs(30);

/// A snapshot, in a session of a test's own, as a saver elsewhere would write it.
const OVERWRITE: &str = "UPDATE mainstem.events_snapshots SET position = $1, id = $2::text::uuid, state = '\"theirs\"'";

fn key() -> SnapshotKey {
    SnapshotKey::new("types", 1, &Filter::any_event())
}

async fn append(store: &PostgresEventStore, event_type: &str) -> Mark {
    store.append([event(event_type, json!({}))], AppendCondition::none()).await.unwrap().last()
}

async fn save(store: &PostgresEventStore, mark: Mark, state: &str) -> Saved {
    store.save_snapshot(&key(), mark, state).await.unwrap_or_else(|error| panic!("{}", error.report()))
}

async fn state(store: &PostgresEventStore) -> Option<String> {
    let loaded = store.load_snapshot(&key()).await.unwrap_or_else(|error| panic!("{}", error.report()));
    loaded.map(|snapshot| snapshot.decode().unwrap())
}

fn types(state: &mut Vec<String>, event: &Event) -> Result<()> {
    state.push(event.event_type().to_owned());
    Ok(())
}

/// What a restore to a point in time does to the log, but not to the snapshots: so the last events are as good as never
/// written, and their positions free.
async fn lose_events_after(router: &Router, position: u64) {
    let lose = format!(
        "ALTER TABLE mainstem.events DISABLE TRIGGER events_append_only; \
         DELETE FROM mainstem.events WHERE position > {position}; \
         ALTER TABLE mainstem.events ENABLE ALWAYS TRIGGER events_append_only"
    );
    router.client().await.unwrap().batch_execute(&lose).await.unwrap();
}

#[tokio::test]
async fn a_snapshot_of_events_that_are_lost_is_told_and_replaced_and_never_handed_out() {
    let (_database, router, store) = store().await;
    let first = append(&store, "A").await;
    append(&store, "B").await;
    let lost = append(&store, "C").await;
    assert_eq!(save(&store, lost, "of another history").await, Saved::Stored);
    assert_eq!(save(&store, first, "lower").await, Saved::Outdated);
    for others in [false, true] {
        lose_events_after(&router, 1).await;
        if others {
            append(&store, "X").await;
            append(&store, "Y").await;
            append(&store, "Z").await;
        }
        cluster().await.wait_until_caught_up().await.unwrap();
        for consistency in [Consistency::Strong, Consistency::Eventual] {
            let error = store.load_snapshot(&key()).consistency(consistency).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::LogDiverged, "{}", error.report());
            assert!(error.node().is_some() && error.to_string().contains(&lost.to_string()), "{error}");
        }
        let error = store.save_snapshot(&key(), lost, "again").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LogDiverged, "{}", error.report());
    }
    // What is valid takes its place, also at a lower position, and is then as good as any.
    assert_eq!(save(&store, first, "valid").await, Saved::Stored);
    assert_eq!(state(&store).await.unwrap(), "valid");
}

/// Otherwise each call would read everything, and save the same again.
#[tokio::test]
async fn a_state_that_does_not_decode_from_its_own_json_is_not_saved() {
    #[derive(Debug, Serialize, Deserialize)]
    struct Lowest {
        price: f64,
    }
    let (_database, _router, store) = store().await;
    append(&store, "A").await;
    for _ in 0..2 {
        let lowest = store.project(&key(), Lowest { price: f64::INFINITY }, |_, _| Ok(())).save_every(1).await.unwrap();
        assert!(lowest.state().price.is_infinite());
        let SaveOutcome::Failed(error) = lowest.saved() else { panic!("{:?}", lowest.saved()) };
        assert_eq!(error.kind(), ErrorKind::InvalidData, "{}", error.report());
        assert!(matches!(lowest.loaded(), LoadOutcome::NotFound), "{:?}", lowest.loaded());
    }
    // Every other number comes back as it was.
    let price = 449.491_064_788_738_13;
    let lowest = |price| store.project(&key(), Lowest { price }, |_, _| Ok(())).save_every(1);
    assert!(matches!(lowest(price).await.unwrap().saved(), SaveOutcome::Saved(_)));
    let loaded = lowest(0.0).await.unwrap();
    assert_eq!(loaded.state().price.to_bits(), price.to_bits());
}

#[tokio::test]
async fn a_projection_passes_a_snapshot_of_lost_events_over_and_replaces_it() {
    let (_database, router, store) = store().await;
    append(&store, "A").await;
    append(&store, "B").await;
    let projected = store.project(&key(), vec![], types).save_every(1).await.unwrap();
    assert_eq!(projected.state(), &["A", "B"]);
    lose_events_after(&router, 1).await;
    append(&store, "X").await;
    append(&store, "Y").await;
    let projected = store.project(&key(), vec![], types).await.unwrap();
    assert_eq!(projected.state(), &["A", "X", "Y"]);
    let LoadOutcome::Unusable(error) = projected.loaded() else { panic!("{:?}", projected.loaded()) };
    assert_eq!(error.kind(), ErrorKind::LogDiverged);
    // At once, though three events are less than a hundred.
    assert!(matches!(projected.saved(), SaveOutcome::Saved(Saved::Stored)), "{:?}", projected.saved());
    let projected = store.project(&key(), vec![], types).await.unwrap();
    assert!(matches!(projected.loaded(), LoadOutcome::Used(mark) if mark.position() == 3), "{:?}", projected.loaded());
    assert_eq!(projected.state(), &["A", "X", "Y"]);
}

#[tokio::test]
async fn a_snapshot_that_is_newer_than_the_saver_is_not_taken_for_one_of_lost_events() {
    let (database, router, store) = store().await;
    let first = append(&store, "A").await;
    save(&store, first, "first").await;
    let other = router.client().await.unwrap();
    let newer = event("B", json!({}));
    other.batch_execute("BEGIN").await.unwrap();
    other.execute(OVERWRITE, &[&2_i64, &newer.id().to_string()]).await.unwrap();
    // Its statement has begun before the event is there that the other snapshot has, and waits for that snapshot's row.
    let saving = tokio::spawn(store.save_snapshot(&key(), first, "old").into_future());
    sessions(&database, "wait_event = 'transactionid'", 1).await;
    store.append([newer], AppendCondition::none()).await.unwrap();
    other.batch_execute("COMMIT").await.unwrap();
    assert_eq!(saving.await.unwrap().unwrap(), Saved::Outdated);
    assert_eq!(state(&store).await.unwrap(), "theirs");
}

#[tokio::test]
async fn a_mark_that_only_a_replica_shows_yet_is_waited_for() {
    let (database, router, store) = store().await;
    append(&store, "A").await;
    for (end, expected) in [("COMMIT", Ok(Saved::Stored)), ("ROLLBACK", Err(ErrorKind::LogDiverged))] {
        // As an append whose commit still waits for its standby: it holds the lock, and here it cannot be seen.
        let appending = router.client().await.unwrap();
        let head = store.query(&Filter::any_event()).await.unwrap().head().unwrap();
        let coming = Mark::new(head.position() + 1, event("B", json!({})).id());
        let insert = format!(
            "BEGIN; SELECT pg_advisory_xact_lock(1296651085, \
                 ('mainstem.events'::regclass::oid::bigint - 2147483648)::int4); \
             INSERT INTO mainstem.events VALUES ({}, now(), now(), 0, '{}', 'B', '{{}}', '{{}}', '{{}}')",
            coming.position(),
            coming.id()
        );
        appending.batch_execute(&insert).await.unwrap();
        let saving = tokio::spawn(store.save_snapshot(&key(), coming, end).timeout(LIMIT).into_future());
        sessions(&database, "wait_event = 'advisory'", 1).await;
        appending.batch_execute(end).await.unwrap();
        assert_eq!(saving.await.unwrap().map_err(|error| error.kind()), expected, "{end}");
    }
    assert_eq!(state(&store).await.unwrap(), "COMMIT");
}

#[tokio::test]
async fn snapshots_are_read_where_the_scope_says_and_written_on_the_primary() {
    let (_database, _router, store) = store().await;
    let mark = append(&store, "A").await;
    let saved = with_eventual_consistency(async { store.save_snapshot(&key(), mark, "s").await }).await;
    assert_eq!(saved.unwrap(), Saved::Stored);
    cluster().await.wait_until_caught_up().await.unwrap();
    let eventual = Scope::new().with_consistency(Consistency::Eventual);
    // Where the call is made, not where it is awaited.
    let (inside, outside) = (eventual.run_sync(|| store.load_snapshot(&key())), store.load_snapshot(&key()));
    let roles = |snapshot: Option<Snapshot>| snapshot.map(|snapshot| snapshot.role());
    assert_eq!(roles(with_eventual_consistency(async { outside.await }).await.unwrap()), Some(Role::Primary));
    assert_eq!(roles(inside.await.unwrap()), Some(Role::Replica));
    let explicit = store.load_snapshot(&key()).consistency(Consistency::Eventual).await.unwrap();
    assert_eq!(roles(explicit), Some(Role::Replica));
    assert!(with_eventual_consistency(async { store.delete_snapshot(&key()).await }).await.unwrap());
    cluster().await.wait_until_caught_up().await.unwrap();

    // A projection reads from a replica, and its snapshot is on the primary.
    let inside = eventual.run_sync(|| store.project(&key(), vec![], types).save_every(1));
    let projected = inside.await.unwrap();
    assert_eq!((projected.role(), projected.state().len()), (Role::Replica, 1));
    assert!(matches!(projected.saved(), SaveOutcome::Saved(Saved::Stored)), "{:?}", projected.saved());
    let outside = store.project(&key(), vec![], types);
    let projected = with_eventual_consistency(async { outside.await }).await.unwrap();
    assert_eq!((projected.role(), projected.applied()), (Role::Primary, 0));
}

#[tokio::test]
async fn a_save_that_cannot_be_made_in_time_costs_its_limit_and_not_the_answer() {
    let (database, router, store) = store().await;
    let mark = append(&store, "A").await;
    save(&store, mark, "not a list").await;
    append(&store, "B").await;
    let other = router.client().await.unwrap();
    other.batch_execute("BEGIN; SELECT FROM mainstem.events_snapshots FOR UPDATE").await.unwrap();
    let projecting = store.project(&key(), vec![], types).timeout(LIMIT).save_timeout(Duration::from_millis(200));
    let projected = tokio::time::timeout(LIMIT, projecting.into_future()).await.expect("the limit").unwrap();
    assert_eq!(projected.state(), &["A", "B"]);
    let LoadOutcome::Unusable(error) = projected.loaded() else { panic!("{:?}", projected.loaded()) };
    assert!(error.kind() == ErrorKind::InvalidData && error.to_string().contains("\"types\" version 1"), "{error}");
    let SaveOutcome::Failed(error) = projected.saved() else { panic!("{:?}", projected.saved()) };
    assert!(error.is_outcome_unknown() && error.to_string().contains("200ms"), "{error}");
    // Neither what ran out of time nor what is dropped goes on waiting on the server.
    let dropped = tokio::spawn(store.save_snapshot(&key(), mark, "dropped").timeout(LIMIT).into_future());
    sessions(&database, "wait_event = 'transactionid' AND query LIKE '%INSERT INTO%'", 1).await;
    dropped.abort();
    sessions(&database, "wait_event = 'transactionid'", 0).await;
    other.batch_execute("COMMIT").await.unwrap();
    assert_eq!(state(&store).await.unwrap(), "not a list");
    let error = store.load_snapshot(&key()).timeout(Duration::ZERO).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    let error = store.project(&key(), vec![], types).timeout(Duration::ZERO).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
}

/// Has loaded a snapshot a moment ago, from a node that may be another one than now serves the events.
#[derive(Clone, Debug)]
struct HasLoaded(PostgresEventStore, Snapshot);

impl EventStore for HasLoaded {
    fn run_append(&self, request: AppendRequest) -> BoxFuture<Result<Appended>> {
        self.0.run_append(request)
    }

    fn run_query(&self, request: QueryRequest) -> BoxFuture<Result<Answer>> {
        self.0.run_query(request)
    }
}

impl SnapshotStore for HasLoaded {
    fn run_save_snapshot(&self, request: SaveSnapshotRequest) -> BoxFuture<Result<Saved>> {
        self.0.run_save_snapshot(request)
    }

    fn run_load_snapshot(&self, _: LoadSnapshotRequest) -> BoxFuture<Result<Option<Snapshot>>> {
        let snapshot = self.1.clone();
        Box::pin(async { Ok(Some(snapshot)) })
    }

    fn run_delete_snapshot(&self, request: DeleteSnapshotRequest) -> BoxFuture<Result<bool>> {
        self.0.run_delete_snapshot(request)
    }

    fn run_read_after_snapshot(&self, request: ReadAfterSnapshotRequest) -> BoxFuture<Result<Answer>> {
        self.0.run_read_after_snapshot(request)
    }
}

#[tokio::test]
async fn a_replica_behind_the_snapshot_is_not_a_lost_history_but_a_primary_is() {
    let cluster = started(LocalCluster::builder().replicas(1)).await;
    let database = cluster.database().await.unwrap();
    let builder = Router::builder().primary(database.primary_url()).replicas(database.replica_urls());
    let router = builder.connect().await.unwrap_or_else(|error| panic!("no router: {}", error.report()));
    let store = PostgresEventStore::new(&router);
    store.migrate().await.unwrap();
    append(&store, "A").await;
    cluster.wait_until_caught_up().await.unwrap();
    cluster.replica(0).pause_replay().await.unwrap();
    let last = append(&store, "B").await;
    append(&store, "C").await;
    let state = mainstem::Json::from_text(r#"["A", "B"]"#).unwrap();
    let loaded = HasLoaded(store.clone(), Snapshot::new(last, state, std::time::SystemTime::now()));
    let project = |consistency: Consistency| loaded.project(&key(), vec![], types).consistency(consistency);

    let projected = project(Consistency::Eventual).await.unwrap();
    assert_eq!((projected.role(), projected.applied(), projected.state().len()), (Role::Replica, 0, 2));
    assert!(matches!(projected.loaded(), LoadOutcome::Used(mark) if *mark == last), "{:?}", projected.loaded());
    // Behind the replica's head is what the state has in it already.
    assert_eq!(projected.head(), Some(last));
    let projected = project(Consistency::Strong).await.unwrap();
    assert_eq!((projected.role(), projected.state().join("")), (Role::Primary, "ABC".to_owned()));

    // The primary's log has lost what the snapshot was computed from: it ends before, or has other events there.
    lose_events_after(&router, 1).await;
    for expected in ["A", "AXYZ"] {
        let projected = project(Consistency::Strong).await.unwrap();
        assert_eq!(projected.state().join(""), expected);
        let LoadOutcome::Unusable(error) = projected.loaded() else { panic!("{:?}", projected.loaded()) };
        assert!(error.kind() == ErrorKind::LogDiverged && error.node().is_some(), "{}", error.report());
        if expected == "A" {
            for event_type in ["X", "Y", "Z"] {
                append(&store, event_type).await;
            }
        }
    }
    // … and a replica that has got there says so, too.
    cluster.replica(0).resume_replay().await.unwrap();
    cluster.wait_until_caught_up().await.unwrap();
    let projected = project(Consistency::Eventual).await.unwrap();
    assert_eq!((projected.role(), projected.state().join("")), (Role::Replica, "AXYZ".to_owned()));
    assert!(matches!(projected.loaded(), LoadOutcome::Unusable(_)), "{:?}", projected.loaded());
}
