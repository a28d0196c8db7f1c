//! The PostgreSQL store's fences, removed one by one in the database while the suite's races run: the suite detects what
//! gets through, and what the remaining fence still stops.

use mainstem::{Router, testing::event_store::Case};

use crate::support::{Processes, store};

/// How the race for a boundary ends in a log whose append procedure has lost these parts.
fn race_without(parts: &[(&str, &str)]) -> String {
    let race = Case::named("each_version_of_a_boundary_has_one_winner").expect("the case");
    let outcome = race.outcome(async {
        let (_database, router, store) = store().await;
        router.client().await.unwrap().batch_execute("CREATE SEQUENCE drawn").await.unwrap();
        sabotage(&router, parts).await;
        // The appends of one process follow each other anyway.
        Processes::new(&router, &store, 4)
    });
    outcome.map_or_else(|failure| failure.message().to_owned(), |()| "nothing was noticed".to_owned())
}

/// Replaces a part of the append procedure in the database of this test.
pub(crate) async fn sabotage(router: &Router, changes: &[(&str, &str)]) {
    let mut sql = include_str!("../../migrations/V2__append.sql").to_owned();
    for (part, replacement) in changes {
        assert!(sql.contains(part), "the procedure has no {part:?} any more: adapt the mutation");
        sql = sql.replace(part, replacement);
    }
    let sql = sql.replace("CREATE PROCEDURE", "CREATE OR REPLACE PROCEDURE");
    router.client().await.unwrap().batch_execute(&sql).await.unwrap();
}

pub(crate) const LOCK: (&str, &str) = ("done := pg_advisory_xact_lock(", "done := concat(");
pub(crate) const FROM_SEQUENCE: (&str, &str) =
    ("SELECT head + row_number() OVER (ORDER BY n.index),", "SELECT nextval('drawn'),");
pub(crate) const FROM_SEQUENCE_ALONE: (&str, &str) = ("VALUES (head + 1,", "VALUES (nextval('drawn'),");

/// On a busy machine the racers of one race may happen to run one after the other.
const RACES: usize = 10;

#[test]
fn mutation_without_lock_and_with_drawn_positions_conflicts_are_lost() {
    let mut outcomes = (0..RACES).map(|_| race_without(&[LOCK, FROM_SEQUENCE, FROM_SEQUENCE_ALONE]));
    assert!(outcomes.any(|outcome| outcome.contains("\n- lost conflict: ")), "no lost conflict in {RACES} races");
}

/// The lock is waited for in the statement that judges, in the snapshot from before the wait.
const LOCK_IN_THE_GUARD: [(&str, &str); 4] = [
    LOCK,
    // Nor is there a look before it.
    ("NOT coalesce(crowded, false)", "true"),
    // It has to run in any case, since the head was read without the lock.
    ("IF since < head AND key_appends", "IF since <= head AND key_appends"),
    (
        "WHERE l.position > since",
        "WHERE (SELECT pg_advisory_xact_lock(1296651085, 1)) IS NOT NULL AND l.position > since",
    ),
];

#[test]
fn mutation_with_the_lock_in_the_guard_statement_and_drawn_positions_conflicts_are_lost() {
    let changes = [&LOCK_IN_THE_GUARD[..], &[FROM_SEQUENCE, FROM_SEQUENCE_ALONE]].concat();
    let mut outcomes = (0..RACES).map(|_| race_without(&changes));
    assert!(outcomes.any(|outcome| outcome.contains("\n- lost conflict: ")), "no lost conflict in {RACES} races");
}

#[test]
fn mutation_with_the_lock_in_the_guard_statement_the_primary_key_still_lets_no_conflict_through() {
    only_unique_violations_without(&LOCK_IN_THE_GUARD);
}

#[test]
fn mutation_without_lock_the_primary_key_still_lets_no_conflict_through() {
    only_unique_violations_without(&[LOCK]);
}

#[test]
fn mutation_without_a_second_look_under_the_lock_conflicts_are_lost() {
    let mut outcomes = (0..RACES).map(|_| race_without(&[("since := looked_until;", "since := head;")]));
    assert!(outcomes.any(|outcome| outcome.contains("\n- lost conflict: ")), "no lost conflict in {RACES} races");
}

fn only_unique_violations_without(parts: &[(&str, &str)]) {
    for _ in 0..RACES {
        let outcome = race_without(parts);
        let broken: Vec<&str> = outcome.lines().filter(|line| line.starts_with("- ")).collect();
        // The suite tells of errors last: there is nothing else.
        let by_the_key = |line: &&str| line.starts_with("- unexpected error: ") && line.contains("_pkey");
        assert!(broken.iter().all(by_the_key), "{outcome}");
        if !broken.is_empty() {
            return;
        }
    }
    panic!("no unique violation in {RACES} races: was the lock still there?");
}

/// Appends of one process share their batches; those of several meet at the server.
#[test]
fn several_processes_race_by_the_same_rules() {
    for case in Case::all().iter().filter(|case| ["concurrency", "repeat"].contains(&case.topic())) {
        case.run(async {
            let (_database, router, store) = store().await;
            Processes::new(&router, &store, 3)
        });
    }
}
