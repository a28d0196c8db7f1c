//! What statements read in a long log: the planner may choose any plan that reads few rows, but not one that walks the log.
//!
//! The server counts the rows that it reads from tables and indexes. That shows more than `EXPLAIN`, which does not see into the append
//! procedure, and it is the same in every version.

mod plans;

use std::{future::IntoFuture, time::Duration};

use mainstem::{
    AppendCondition, Event, EventStore, Filter, Mark, NewEvent, PostgresEventStore, Predicate, Router,
    testing::{LocalCluster, TestDatabase},
};
use serde_json::json;

use crate::support::{LogLock, event, rows, started};

/// Long enough that a walk through it is cheap in the planner's eyes and is not in ours.
const EVENTS: u64 = 1_000_000;

/// What a call may look at that has nothing to find: the descents of its indexes, the head, and what came since.
const FEW: i64 = 2_500;

/// So many events are of the boundary `many`.
const MANY: u64 = 20_000;

/// … of `some`.
const SOME: u64 = 30;

struct LongLog<'a> {
    database: TestDatabase<'a>,
    admin: Router,
    /// With one connection, so that its counters can be asked to be told.
    router: Router,
    store: PostgresEventStore,
    head: Mark,
}

impl<'a> LongLog<'a> {
    async fn new(cluster: &'a LocalCluster) -> Self {
        let database = cluster.database().await.unwrap();
        let connect = |size| Router::builder().primary(database.primary_url()).max_connections(size).connect();
        let (admin, router) = (connect(2).await.unwrap(), connect(1).await.unwrap());
        let store = PostgresEventStore::new(&router);
        store.migrate().await.unwrap();
        fill(&admin).await;
        let last = store.query(&Filter::any_event().after_position(EVENTS - 1)).await.unwrap();
        Self { database, admin, router, store, head: last.last().map(Event::mark).unwrap() }
    }

    /// How many rows a call takes from the log and its indexes.
    async fn rows<T>(&self, call: impl IntoFuture<Output = T>) -> (T, i64) {
        rows(&self.admin, &self.router, call).await
    }

    async fn append(&self, condition: AppendCondition) -> Result<u64, mainstem::Error> {
        let append = self.store.append([event("Unrelated", json!({}))], condition).timeout(Duration::from_secs(60));
        append.await.map(|appended| appended.first_position())
    }
}

/// A million events of 1000 boundaries of 980, of one of 20000 and of one of 30, half of them of four types and half of two hundred others
/// and with a tag. Loaded as the owner may: the log refuses only changes.
async fn fill(admin: &Router) {
    let client = admin.client().await.unwrap();
    let indexes = ["events_type", "events_tags", "events_payload", "events_stream"];
    let mut again = Vec::new();
    for index in indexes {
        let sql = "SELECT indexdef FROM pg_indexes WHERE schemaname = 'mainstem' AND indexname = $1";
        again.push(client.query_one(sql, &[&index]).await.unwrap().get::<_, String>(0));
        client.batch_execute(&format!("DROP INDEX mainstem.{index}")).await.unwrap();
    }
    // In parts, each within the limit of a call.
    for part in 0..10 {
        let sql = format!(
            "INSERT INTO mainstem.events (position, following, id, type, tags, metadata, payload, occurred_at, recorded_at) \
             SELECT n, 0, gen_random_uuid(), CASE WHEN n % 2 = 0 THEN 'Type' || n % 8 ELSE 'Rare' || n % 400 END, \
                    ARRAY['tag:' || b, CASE WHEN n % 2 = 1 THEN 'tag:odd' ELSE 'tag:even' END], '{{}}', \
                    jsonb_build_object('BookID', b, 'ReaderID', 'r' || n % 5000, 'Note', 'something'), now(), now() \
             FROM (SELECT n, CASE WHEN n % 50 = 0 THEN 'many' WHEN n % 33350 = 12 THEN 'some' ELSE 'b' || n % 1000 END AS b \
                   FROM generate_series({} + 1, {}) AS n) AS t",
            part * EVENTS / 10,
            (part + 1) * EVENTS / 10
        );
        client.batch_execute(&sql).await.unwrap();
    }
    for index in again {
        client.batch_execute(&index).await.unwrap();
    }
    client.batch_execute("ANALYZE mainstem.events").await.unwrap();
    // What this session has counted is told now, and not when somebody else is measured.
    client.query("SELECT pg_stat_force_next_flush()", &[]).await.unwrap();
}

fn by_predicate(book: &str) -> Filter {
    let types = Filter::matching().any_type_of(["Type0", "Type2", "Type4", "Type6"]);
    types
        .and_any_predicate_of([Predicate::payload("BookID", book), Predicate::payload("ReaderID", book)])
        .finish()
        .unwrap()
}

fn by_types_and_tag(book: &str) -> Filter {
    let types = Filter::matching().any_type_of(["Type0", "Type2", "Type4", "Type6"]);
    types.and_all_tags_of([format!("tag:{book}")]).finish().unwrap()
}

fn by_tag_and_predicate(book: &str) -> Filter {
    let tagged = Filter::matching().all_tags_of([format!("tag:{book}")]);
    tagged.and_any_predicate_of([Predicate::payload("Note", "something")]).finish().unwrap()
}

fn by_tag(book: &str) -> Filter {
    Filter::matching().all_tags_of([format!("tag:{book}")]).finish().unwrap()
}

fn by_type(event_type: &str) -> Filter {
    Filter::matching().any_type_of([event_type]).finish().unwrap()
}

/// Nothing, few and many events match: each is read and judged by what there is of it. Several times, since the server makes
/// another plan after a statement was used five times.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_looks_at_more_of_a_long_log_than_it_must() {
    let builder = LocalCluster::builder().replicas(0).setting("statement_timeout", "5min").setting("autovacuum", "off");
    let builder = builder.setting("log_min_messages", "debug1");
    let cluster = started(builder).await;
    let log = LongLog::new(&cluster).await;

    for round in 0..7 {
        // What is read.
        for (filter, found) in [
            (by_predicate("nobody"), 0),
            (by_predicate("b1"), 0),
            (by_predicate("b2"), 1000),
            (by_tag("nobody"), 0),
            (by_tag("b1"), 1000),
            (by_type("Nobody"), 0),
            (by_types_and_tag("b2"), 1000),
            (by_tag_and_predicate("many"), MANY as usize),
        ] {
            let (history, rows) = log.rows(log.store.query(&filter)).await;
            assert_eq!(history.unwrap().len(), found, "{filter:?}");
            assert!(
                rows <= FEW + 3 * found as i64,
                "round {round}: a read of {found} events took {rows} rows: {filter:?}"
            );
        }

        for (filter, found) in [(by_predicate("many"), MANY), (by_types_and_tag("b2"), 1000)] {
            let behind = filter.after_position(1);
            let (count, rows) = log.rows(log.store.count(&behind)).await;
            assert_eq!(*count.unwrap(), found);
            let most = FEW + 3 * i64::try_from(found).unwrap();
            assert!(rows <= most, "round {round}: a count of {found} took {rows} rows: {behind:?}");
        }

        // None of the type, and half of the log with the tag: the first times it is looked for by the tag, as what comes before it, of
        // the same shape, is rightly.
        let rare = Filter::matching().any_type_of(["Never"]).and_all_tags_of(["tag:odd"]).finish().unwrap();
        let (none, rows) = log.rows(log.store.query(&rare)).await;
        assert!(none.unwrap().is_empty() && (round < 3 || rows <= FEW), "round {round}: {rows} rows for nothing");

        // What is judged: before the lock, far behind, near, and in a batch.
        for (filter, matches) in [
            (by_predicate("nobody"), 0),
            (by_tag("nobody"), 0),
            (by_type("Nobody"), 0),
            (by_tag("b1"), 1000),
            (by_predicate("b2"), 1000),
            (by_predicate("many"), MANY as i64),
            (by_tag("many"), MANY as i64),
            (by_types_and_tag("b2"), 1000),
            (by_tag_and_predicate("b2"), 1000),
        ] {
            let guard = AppendCondition::fail_if_events_match(filter.clone());
            for (name, condition) in [
                ("of everything", guard.clone()),
                ("from far back", guard.clone().after_position(10)),
                ("near", guard.clone().after(log.head)),
            ] {
                let (result, rows) = log.rows(log.append(condition)).await;
                let broken = matches > 0 && name != "near";
                assert_eq!(result.is_err(), broken, "{name} {filter:?}");
                assert!(result.is_ok() || result.unwrap_err().is_conflict());
                assert!(rows <= FEW + 3 * matches, "round {round}: a condition {name} took {rows} rows: {filter:?}");
            }
        }
        // Any event breaks this one: the next one does.
        let any = AppendCondition::fail_if_events_match(Filter::any_event());
        for (condition, position) in [(any.clone(), 1), (any.after_position(10), 11)] {
            let (result, rows) = log.rows(log.append(condition)).await;
            assert_eq!(result.unwrap_err().conflict().map(|conflict| conflict.position), Some(position));
            assert!(rows <= FEW, "round {round}: a condition on any event took {rows} rows");
        }
        let appends = |n: usize| {
            let filter = by_predicate(&format!("nobody{n}"));
            (
                vec![event("Unrelated", json!({"BookID": n}))],
                AppendCondition::fail_if_events_match(filter).after(log.head),
            )
        };
        let (_, rows) = log.rows(batch(&log, (0..20).map(appends).collect())).await;
        assert!(rows <= FEW, "round {round}: a batch took {rows} rows");
        let of_everything = |n: usize| {
            let filter = by_tag(&format!("nobody{n}"));
            (vec![event("Unrelated", json!({}))], AppendCondition::fail_if_events_match(filter))
        };
        let (_, rows) = log.rows(batch(&log, (0..20).map(of_everything).collect())).await;
        assert!(rows <= FEW, "round {round}: a batch of conditions on everything took {rows} rows");

        // An append that is made again.
        let again = event("Unrelated", json!({}));
        for repeated in [false, true] {
            let (result, rows) = log.rows(log.store.append([again.clone()], AppendCondition::none())).await;
            assert_eq!(result.unwrap().is_repeated(), repeated);
            assert!(rows <= FEW, "round {round}: an append took {rows} rows");
        }
    }

    // A plan for values of which it is not known how rare they are would like to have help, which takes longer to start than
    // the search takes.
    let eager = ["parallel_setup_cost", "parallel_tuple_cost", "min_parallel_table_scan_size"];
    let any_value = ("plan_cache_mode", "force_generic_plan");
    for (setting, value) in eager.map(|setting| (setting, "0")).into_iter().chain([any_value]) {
        let sql = format!("ALTER DATABASE {} SET {setting} = {value}", log.database.name());
        log.admin.client().await.unwrap().batch_execute(&sql).await.unwrap();
    }
    let router = Router::builder().primary(log.database.primary_url()).max_connections(1).connect().await.unwrap();
    let store = PostgresEventStore::new(&router);
    let workers = || cluster.primary().log().unwrap().matches("parallel worker for PID").count();
    // It says so when there is some.
    let before = workers();
    router.client().await.unwrap().query("SELECT max(payload::text) FROM mainstem.events", &[]).await.unwrap();
    let asked_for = workers();
    assert!(asked_for > before, "the log does not tell of workers");
    for (filter, found) in [(by_predicate("b1"), 0), (by_predicate("b2"), 1000), (by_predicate("r7"), 0)] {
        assert_eq!(store.query(&filter).await.unwrap().len(), found, "{filter:?}");
    }
    assert_eq!(workers(), asked_for, "a search has started workers");
    for (filter, found) in
        [(by_predicate("b1"), false), (by_predicate("b2"), true), (by_tag("nobody"), false), (by_tag("many"), true)]
    {
        assert_eq!(*store.exists(&filter).await.unwrap(), found);
        let condition = AppendCondition::fail_if_events_match(filter);
        let append = store.append([event("Unrelated", json!({}))], condition).await;
        assert_eq!(append.is_err_and(|error| error.is_conflict()), found);
    }
    assert_eq!(workers(), asked_for, "a condition has started workers");
    plans::hold(&cluster, &log).await;
}

/// Makes these appends while the log's lock is held, so that they go together.
async fn batch(log: &LongLog<'_>, appends: Vec<(Vec<NewEvent>, AppendCondition)>) {
    let lock = LogLock::take(&log.admin).await;
    let first = tokio::spawn(log.store.append([event("First", json!({}))], AppendCondition::none()).into_future());
    LogLock::is_waited_for(&log.admin).await;
    let calls = appends.into_iter().map(|(events, condition)| {
        let store = log.store.clone();
        tokio::spawn(async move { store.append(events, condition).await })
    });
    let calls: Vec<_> = calls.collect();
    tokio::time::sleep(Duration::from_millis(20)).await;
    lock.release().await;
    first.await.unwrap().unwrap();
    for call in calls {
        call.await.unwrap().unwrap();
    }
}
