//! What a process itself has written is not checked again under the lock, and no append is checked wrongly because of that.

use mainstem::{AppendCondition, ErrorKind, EventStore, Filter, Mark, NewEvent, PostgresEventStore, Predicate, Router};
use serde_json::json;

use crate::{
    pgbouncer::rig,
    support::{event, store},
};

fn boundary(name: &str) -> Filter {
    Filter::matching().any_predicate_of([Predicate::payload("b", name)]).finish().unwrap()
}

async fn write(store: &PostgresEventStore, name: &str) -> Mark {
    let written = store.append([event("A", json!({"b": name}))], AppendCondition::none()).await;
    written.unwrap_or_else(|error| panic!("{name}: {}", error.report())).last()
}

/// The position of the event that breaks the condition that nobody has written to a boundary since.
async fn broken_at(store: &PostgresEventStore, name: &str, after: Mark) -> Option<u64> {
    let condition = AppendCondition::fail_if_events_match(boundary(name)).after(after);
    match store.append([event("Probe", json!({}))], condition).await {
        Ok(_) => None,
        Err(error) => Some(error.conflict().unwrap_or_else(|| panic!("no conflict: {}", error.report())).position),
    }
}

/// Changes the log as only a restore can.
pub(crate) async fn tamper(router: &Router, sql: &str) {
    let client = router.client().await.unwrap();
    let alter = |what| format!("ALTER TABLE mainstem.events {what} TRIGGER events_append_only");
    client.batch_execute(&[alter("DISABLE"), sql.to_owned(), alter("ENABLE ALWAYS")].join("; ")).await.unwrap();
}

/// An event that is put into the log behind the library's back.
fn insert(position: u64, id: &str, name: &str) -> String {
    format!(
        "INSERT INTO mainstem.events (position, occurred_at, recorded_at, following, id, type, tags, metadata, payload) \
         VALUES ({position}, now(), now(), 0, {id}, 'A', '{{}}', '{{}}', '{{\"b\": \"{name}\"}}')"
    )
}

#[tokio::test]
async fn events_of_this_process_break_conditions_too() {
    let (_database, _router, store) = store().await;
    let first = write(&store, "a").await;
    write(&store, "b").await;
    write(&store, "c").await;
    assert_eq!(broken_at(&store, "b", first).await, Some(2));
    assert_eq!(broken_at(&store, "a", first).await, None);
    // Behind a refusal it goes on.
    write(&store, "d").await;
    assert_eq!(broken_at(&store, "d", first).await, Some(5));
}

#[tokio::test]
async fn events_appended_by_others_in_between_are_found() {
    let (_database, router, store) = store().await;
    let other = PostgresEventStore::new(&router);
    let first = write(&store, "a").await;
    write(&other, "theirs").await;
    write(&store, "b").await;
    write(&store, "c").await;
    assert_eq!(broken_at(&store, "theirs", first).await, Some(2));
    write(&other, "last").await;
    assert_eq!(broken_at(&store, "last", first).await, Some(5));
    assert_eq!(broken_at(&store, "nobody's", first).await, None);
}

/// Nobody else could have written there; so an event that only a miracle has put there is not seen.
#[tokio::test]
async fn events_of_this_process_are_not_checked_again() {
    let (_database, router, store) = store().await;
    let first = write(&store, "a").await;
    write(&store, "b").await;
    write(&store, "c").await;
    tamper(&router, r#"UPDATE mainstem.events SET payload = '{"b": "miracle"}' WHERE position = 2"#).await;
    // On a connection that is younger than the events the server looks: the pool may have opened one for something else, and
    // would give it again each time.
    let mut younger = Vec::new();
    while broken_at(&store, "miracle", first).await.is_some() {
        younger.push(router.client().await.unwrap());
        assert!(younger.len() < 5, "all of this is looked at again");
    }
    let other = PostgresEventStore::new(&router);
    assert_eq!(broken_at(&other, "miracle", first).await, Some(2));
}

/// The log has lost what this process knows, and not what the condition is based on.
#[tokio::test]
async fn a_log_that_has_lost_what_was_written_is_looked_at_again() {
    let (_database, router, store) = store().await;
    for (name, expected) in [("theirs", Some(2)), ("nobody's", None)] {
        let first = store.query(&Filter::any_event()).await.unwrap().head();
        let first = match first {
            Some(first) => first,
            None => write(&store, "a").await,
        };
        let at = first.position() + 1;
        write(&store, "b").await;
        write(&store, "c").await;
        let replaced = insert(at, "gen_random_uuid()", "theirs");
        tamper(&router, &format!("DELETE FROM mainstem.events WHERE position >= {at}; {replaced}")).await;
        assert_eq!(broken_at(&store, name, first).await, expected);
    }
    // Lost is what the condition is based on.
    let lost = write(&store, "d").await;
    write(&store, "e").await;
    tamper(&router, &format!("DELETE FROM mainstem.events WHERE position >= {}", lost.position())).await;
    let condition = AppendCondition::fail_if_events_match(boundary("z")).after(lost);
    let refused = store.append([event("Probe", json!({}))], condition).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::LogDiverged, "{}", refused.report());
}

/// A crash loses what was acknowledged, and with it all sessions of the server. Even if an event is written again at its
/// place, what is before it may be another history, which this process has to be told of.
async fn another_history_behind_a_crash_is_found(store: &PostgresEventStore, admin: &Router) {
    let first = write(store, "a").await;
    write(store, "b").await;
    let again = NewEvent::new("A", &json!({"b": "c"})).unwrap();
    let last = store.append([again.clone()], AppendCondition::none()).await.unwrap().last();
    assert_eq!((first.position(), last.position()), (1, 3));

    let theirs = insert(2, "gen_random_uuid()", "theirs");
    let same = insert(3, &format!("'{}'", again.id()), "c");
    tamper(admin, &format!("DELETE FROM mainstem.events WHERE position > 1; {theirs}; {same}")).await;
    let others = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity \
                  WHERE datname = current_database() AND pid <> pg_backend_pid()";
    admin.client().await.unwrap().batch_execute(others).await.unwrap();
    assert_eq!(broken_at(store, "theirs", first).await, Some(2));
}

#[tokio::test]
async fn events_written_before_a_crash_are_checked_by_the_server() {
    let (database, _router, store) = store().await;
    let admin = Router::builder().primary(database.primary_url()).connect().await.unwrap();
    another_history_behind_a_crash_is_found(&store, &admin).await;
}

/// PgBouncer, and the connection to it, outlive the crash.
#[tokio::test]
async fn behind_a_pooler_a_crash_is_not_seen_and_the_server_judges() {
    let Some(rig) = rig().await else { return };
    let store = PostgresEventStore::new(&rig.router().await);
    let admin = Router::builder().primary(rig.database.primary_url()).connect().await.unwrap();
    PostgresEventStore::new(&admin).migrate().await.unwrap();
    another_history_behind_a_crash_is_found(&store, &admin).await;
}
