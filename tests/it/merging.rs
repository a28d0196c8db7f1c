//! The indexes' pending lists: kept short while others append, by any role that may append.

use std::time::Duration;

use mainstem::{AppendCondition, EventStore, Filter, PostgresEventStore, Predicate, Router, testing::TestDatabase};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::support::{database, event, router, store};

/// A log in whose database the calls of functions are counted.
async fn counted() -> (TestDatabase<'static>, Router, PostgresEventStore) {
    let database = database().await;
    let admin = router(&database).await;
    let count = format!("ALTER DATABASE {} SET track_functions = 'all'", database.name());
    admin.client().await.unwrap().batch_execute(&count).await.unwrap();
    let router = router(&database).await;
    let store = PostgresEventStore::new(&router);
    store.migrate().await.unwrap();
    (database, router, store)
}

/// Waits until the lists were merged this often.
async fn merged(router: &Router, times: i64) {
    let client = router.client().await.unwrap();
    let sql =
        "SELECT coalesce(sum(calls), 0)::int8 FROM pg_stat_user_functions WHERE funcname = 'events_merge_pending'";
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let calls: i64 = client.query_one(sql, &[]).await.unwrap().get(0);
        if calls >= times {
            return;
        }
        assert!(Instant::now() < deadline, "merged {calls} times, not {times}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// Pages that were left in the lists. It merges them.
async fn left(router: &Router) -> Option<i64> {
    let client = router.client().await.unwrap();
    client.query_one("SELECT mainstem.events_merge_pending()", &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn a_log_that_rests_has_nothing_left_to_merge() {
    let (_database, router, store) = counted().await;
    for round in 1..=2 {
        let tagged = event("A", json!({"n": round})).with_tag("t");
        store.append([tagged], AppendCondition::none()).await.unwrap();
        merged(&router, round).await;
    }
    assert_eq!(left(&router).await, Some(0));
}

/// As from two processes: two stores know nothing of each other.
#[tokio::test]
async fn many_events_are_merged_together_while_more_of_them_come() {
    const EVENTS: u64 = 256;
    const ROUNDS: u64 = 48;
    let (_database, router, store) = counted().await;
    let stores = [store, PostgresEventStore::new(&router)];
    // With so many members, 512 of them are a block: there are 24.
    let payload = |n: u64, round: u64| {
        let member = |place: u64| (format!("m{place}"), json!(n * place));
        let members: serde_json::Map<_, _> = (0..22).map(member).chain([("round".to_owned(), json!(round))]).collect();
        members.into()
    };
    let start = Instant::now();
    for (round, store) in (0..ROUNDS).zip(stores.iter().cycle()) {
        let events: Vec<_> = (0..EVENTS).map(|n| event("A", payload(n, round))).collect();
        store.append(events, AppendCondition::none()).await.unwrap();
    }
    // Four blocks at once are six times, or fewer if a merge takes longer; fewer blocks at once, where the machine is slow, are one each 250 ms. And what is left of each
    // store's, after a second.
    let most = 10 + i64::try_from(start.elapsed().as_millis() / 250).unwrap();
    merged(&router, 3).await;
    let client = router.client().await.unwrap();
    let sql = "SELECT calls FROM pg_stat_user_functions WHERE funcname = 'events_merge_pending'";
    let calls: i64 = client.query_one(sql, &[]).await.unwrap().get(0);
    assert!(calls <= most, "{calls} merges of {ROUNDS} appends, not {most}");
    let found = Filter::matching().any_predicate_of([Predicate::payload_contains(&json!({"round": 1}))]);
    assert_eq!(stores[0].query(&found.finish().unwrap()).await.unwrap().len() as u64, EVENTS);
}

/// Somebody at work is not waited for, and what is not merged is found all the same.
#[tokio::test]
async fn pending_entries_are_found_while_another_merge_holds_the_lock() {
    let (_database, router, store) = store().await;
    let client = router.client().await.unwrap();
    let lock = "BEGIN; SELECT pg_advisory_xact_lock(1296651087, \
                (('mainstem.events'::regclass)::oid::bigint - 2147483648)::int4)";
    client.batch_execute(lock).await.unwrap();
    store.append([event("A", json!({"k": "v"})).with_tag("t")], AppendCondition::none()).await.unwrap();
    assert_eq!(left(&router).await, None);
    let by_tag = Filter::matching().all_tags_of(["t"]).finish().unwrap();
    let by_value = Filter::matching().any_predicate_of([Predicate::payload("k", "v")]).finish().unwrap();
    for filter in [by_tag, by_value] {
        assert_eq!(store.query(&filter).await.unwrap().len(), 1);
    }
    client.batch_execute("ROLLBACK").await.unwrap();
    assert!(left(&router).await.is_some_and(|pages| pages > 0), "nobody had merged it");
}

/// Without the function, or the right to it, an append costs more and says no less.
#[tokio::test]
async fn appends_go_on_where_nothing_can_be_merged() {
    let (_database, router, store) = store().await;
    router.client().await.unwrap().batch_execute("DROP FUNCTION mainstem.events_merge_pending").await.unwrap();
    for n in 0..5 {
        let events: Vec<_> = (0..400).map(|_| event("A", json!({"n": n}))).collect();
        store.append(events, AppendCondition::none()).await.unwrap();
    }
    sleep(Duration::from_millis(1200)).await;
    let last = store.append([event("A", json!({"n": "last"}))], AppendCondition::none()).await.unwrap();
    assert_eq!(last.first_position(), 2001);
}
