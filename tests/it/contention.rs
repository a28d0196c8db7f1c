//! Many tasks race for one boundary; an oracle looks at what the log holds afterwards.
//!
//! A test like this is worth what it catches, so the same race is run with the fences taken down one by one, in the
//! database: without the lock, and without the lock *and* the positions that the primary key protects.

use std::{collections::BTreeMap, sync::Arc};

use mainstem::{Error, EventStore, Filter, PostgresEventStore, Predicate, Router};
use serde::Deserialize;
use serde_json::json;

use crate::support::{event, store};

const TASKS: usize = 32;
const ROUNDS: usize = 12;
const BOUNDARIES: usize = 2;

/// What each racer writes: which boundary, and how many events of it the decision was based on.
#[derive(Deserialize)]
struct Raced {
    boundary: String,
    seen: usize,
}

/// What became of a race.
#[derive(Debug, Default)]
struct Outcome {
    won: usize,
    conflicts: usize,
    unique_violations: usize,
    /// Broken rules, in words.
    anomalies: Vec<String>,
}

fn boundary(index: usize) -> Filter {
    let name = format!("b{index}");
    Filter::matching()
        .any_type_of(["Raced"])
        .and_any_predicate_of([Predicate::payload("boundary", name)])
        .finish()
        .unwrap()
}

/// Every task reads a boundary, and appends an event that says how many it has seen, if nothing has changed.
async fn race(store: &PostgresEventStore) -> Outcome {
    let start = Arc::new(tokio::sync::Barrier::new(TASKS));
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..TASKS {
        let (store, start) = (store.clone(), Arc::clone(&start));
        tasks.spawn(async move {
            start.wait().await;
            let mut tries: Vec<Result<(usize, usize, u64), Error>> = Vec::new();
            for round in 0..ROUNDS {
                let index = (task + round) % BOUNDARIES;
                let history = store.query(&boundary(index)).await.unwrap();
                let raced = event("Raced", json!({"boundary": format!("b{index}"), "seen": history.len()}));
                let appended = store.append([raced], history.unchanged()).await;
                tries.push(appended.map(|appended| (index, history.len(), appended.first_position())));
            }
            tries
        });
    }
    let tries = tasks.join_all().await.into_iter().flatten().collect();
    judge(store, tries).await
}

/// The oracle: what the log holds against what the racers were told.
async fn judge(store: &PostgresEventStore, tries: Vec<Result<(usize, usize, u64), Error>>) -> Outcome {
    let mut outcome = Outcome::default();
    let mut acknowledged = BTreeMap::new();
    for tried in tries {
        match tried {
            Ok((index, seen, position)) => {
                outcome.won += 1;
                acknowledged.insert(position, (format!("b{index}"), seen));
            }
            Err(error) if error.is_conflict() => outcome.conflicts += 1,
            Err(error) if error.sqlstate() == Some("23505") => outcome.unique_violations += 1,
            Err(error) => outcome.anomalies.push(format!("unexpected error: {}", error.report())),
        }
    }
    let log = store.query(&Filter::any_event()).await.unwrap();
    let mut versions: BTreeMap<String, usize> = BTreeMap::new();
    for event in &log {
        let raced: Raced = event.decode().unwrap();
        let version = versions.entry(raced.boundary.clone()).or_default();
        if raced.seen != *version {
            let (at, seen) = (event.position(), raced.seen);
            outcome.anomalies.push(format!("the winner at {at} had seen {seen} events of its boundary, not {version}"));
        }
        *version += 1;
        if acknowledged.remove(&event.position()) != Some((raced.boundary, raced.seen)) {
            outcome.anomalies.push(format!("nobody was told of the event at {}", event.position()));
        }
    }
    outcome.anomalies.extend(acknowledged.keys().map(|position| format!("the event at {position} is missing")));
    outcome
}

/// Replaces a part of the append procedure in the database of this test.
async fn sabotage(router: &Router, changes: &[(&str, &str)]) {
    let mut sql = include_str!("../../migrations/V2__append.sql").to_owned();
    for (part, replacement) in changes {
        assert!(sql.contains(part), "the procedure has no {part:?} any more: adapt the mutation");
        sql = sql.replace(part, replacement);
    }
    let sql = sql.replace("CREATE PROCEDURE", "CREATE OR REPLACE PROCEDURE");
    router.client().await.unwrap().batch_execute(&sql).await.unwrap();
}

const LOCK: (&str, &str) = ("PERFORM pg_advisory_xact_lock(", "PERFORM abs(1) WHERE (0, 0) = (");
const FROM_SEQUENCE: (&str, &str) = ("SELECT head_position + n.index,", "SELECT nextval('drawn'),");

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn each_version_of_a_boundary_has_one_winner_who_saw_its_predecessor() {
    let (_database, _router, store) = store().await;
    let outcome = race(&store).await;
    assert_eq!(outcome.anomalies, Vec::<String>::new());
    assert!(outcome.conflicts > 0, "without contention nothing was shown: {outcome:?}");
    assert_eq!(outcome.unique_violations, 0);
    assert_eq!(outcome.won + outcome.conflicts, TASKS * ROUNDS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn mutation_without_lock_and_with_drawn_positions_the_oracle_finds_lost_conflicts() {
    let mut anomalies = Vec::new();
    for _ in 0..10 {
        let (_database, router, store) = store().await;
        router.client().await.unwrap().batch_execute("CREATE SEQUENCE drawn").await.unwrap();
        sabotage(&router, &[LOCK, FROM_SEQUENCE]).await;
        anomalies.append(&mut race(&store).await.anomalies);
        if anomalies.iter().any(|anomaly| anomaly.contains("had seen")) {
            return;
        }
    }
    panic!("no lost conflict was found in ten races without the lock, only {anomalies:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn mutation_without_lock_the_primary_key_still_lets_no_conflict_through() {
    // On a busy machine the racers of one race may happen to run one after the other.
    let mut unique_violations = 0;
    for _ in 0..10 {
        let (_database, router, store) = store().await;
        sabotage(&router, &[LOCK]).await;
        let outcome = race(&store).await;
        assert_eq!(outcome.anomalies, Vec::<String>::new());
        unique_violations += outcome.unique_violations;
        if unique_violations > 0 {
            return;
        }
    }
    panic!("no unique violation in ten races: was the lock still there?");
}
