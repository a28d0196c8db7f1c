//! What users add to the log's table, and what they write to it themselves.

use std::{future::IntoFuture, time::Duration};

use futures_util::future::join_all;
use mainstem::{
    AppendCondition, ErrorKind, Event, EventStore, ExpectedVersion, Filter, NewEvent, PostgresEventStore, Router,
};
use serde_json::json;

use crate::support::{
    boundary::{boundary, in_boundary},
    event, router, store,
};

async fn run(router: &Router, sql: &str) {
    router.client().await.unwrap().batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {}", error.report()));
}

fn tagged(tag: &str) -> Filter {
    Filter::matching().all_tags_of([tag]).finish().unwrap()
}

async fn types(store: &PostgresEventStore) -> Vec<(u64, String)> {
    let all = store.query(&Filter::any_event()).await.unwrap();
    all.iter().map(|event| (event.position(), event.event_type().to_owned())).collect()
}

/// In PL/pgSQL a name that is a variable and a column is an error by default, where it is met first.
#[tokio::test]
async fn own_columns_may_be_called_like_anything_in_the_procedure() {
    let (_database, router, store) = store().await;
    let names = [
        "near",
        "count",
        "amount",
        "head",
        "head_id",
        "since",
        "unfit",
        "searched",
        "with_tags",
        "one_append",
        "hashes",
        "locked",
        "looked_until",
        "locked_at",
        "refused",
        "first",
        "last_version",
        "size",
        "place",
        "next_event",
        "known_streams",
        "known_versions",
        "recorded",
        "due",
        "written",
        "done",
        "hit",
        "path_1",
        "by_type",
        "by_tags",
        "no_others",
        "streams",
        "positions",
        "types",
        "versions",
        "outcomes",
        "items",
        "new_ids",
        "key_appends",
        "after_positions",
        "lsn",
        "behind",
        "crowded",
        "looked_up",
        "stream_events",
        "stream_versions",
        "last_event",
        "known_events",
    ];
    let columns = names.map(|name| format!("ADD \"{name}\" text")).join(", ");
    run(&router, &format!("ALTER TABLE mainstem.events {columns}")).await;
    store.check().await.unwrap();
    let first = event("A", json!({"n": 1})).with_tag("a");
    let appended = store.append([first.clone()], AppendCondition::none()).await.unwrap();
    // There before, behind something, in a stream, of several, and refused.
    assert!(store.append([first], AppendCondition::none()).await.unwrap().is_repeated());
    let other = PostgresEventStore::new(&router);
    for store in [&store, &other] {
        let some = ["b", "c"].map(|tag| event("B", json!({"n": 2})).with_tag(tag));
        let unless = AppendCondition::fail_if_events_match(tagged("d")).after(appended.last());
        store.append(some, unless).await.unwrap();
        let taken = AppendCondition::fail_if_events_match(tagged("b")).after(appended.last());
        let error = store.append([event("B", json!({}))], taken).await.unwrap_err();
        assert!(error.is_conflict(), "{}", error.report());
        let whole = AppendCondition::fail_if_events_match(tagged("e"));
        store.append([event("C", json!({}))], whole).to_stream("s", ExpectedVersion::Any).await.unwrap();
    }
    assert_eq!(types(&store).await.len(), 7);
}

/// A trigger that leaves a row out says nothing, and so the server says that all is well.
#[tokio::test]
async fn events_dropped_by_a_trigger_are_not_acknowledged() {
    let (_database, router, store) = store().await;
    let trigger = "CREATE FUNCTION quiet() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
                       IF NEW.type = 'Quiet' THEN RETURN NULL; END IF; RETURN NEW; END $$; \
                   CREATE TRIGGER quiet BEFORE INSERT ON mainstem.events FOR EACH ROW EXECUTE FUNCTION quiet()";
    run(&router, trigger).await;
    let append = |types: &[&str]| {
        let events: Vec<NewEvent> = types.iter().map(|event_type| event(event_type, json!({}))).collect();
        store.append(events, AppendCondition::none()).into_future()
    };
    for types in [&["Quiet"][..], &["A", "Quiet"], &["Quiet", "A", "Quiet"]] {
        let error = append(types).await.unwrap_err();
        assert_eq!((error.kind(), error.sqlstate()), (ErrorKind::Database, Some("39P01")), "{types:?}: {error}");
        assert!(error.to_string().contains("a trigger or a rule"), "{error}");
    }
    // Together with others, of whom one is refused by its condition, and one has been written before.
    let known = event("A", json!({}));
    store.append([known.clone()], AppendCondition::none()).await.unwrap();
    let refused = store.append([event("A", json!({}))], AppendCondition::fail_if_events_match(Filter::any_event()));
    let repeated = store.append([known], AppendCondition::none());
    let all = join_all((0..6).map(|n| append(if n == 3 { &["Quiet"] } else { &["A", "B"] })));
    let (refused, repeated, all) = tokio::join!(refused.into_future(), repeated.into_future(), all);
    assert!(refused.unwrap_err().is_conflict());
    assert!(repeated.unwrap().is_repeated());
    for (n, result) in all.into_iter().enumerate() {
        assert_eq!(result.is_err(), n == 3, "{n}");
    }
    let there = types(&store).await;
    assert_eq!(there.len(), 1 + 5 * 2);
    assert!(
        there.iter().zip(1..).all(|((position, event_type), n)| *position == n && event_type != "Quiet"),
        "{there:?}"
    );
}

/// Tags in another order are found by the server; so they must be here.
#[tokio::test]
async fn tags_that_somebody_else_has_written_are_found_in_any_order() {
    let (_database, router, store) = store().await;
    let row = "INSERT INTO mainstem.events (position, following, id, type, tags, metadata, payload, occurred_at, recorded_at) \
               VALUES (1, 0, gen_random_uuid(), 'A', '{c,a,b,a}', '{}', '{}', now(), now())";
    run(&router, row).await;
    for tag in ["a", "b", "c"] {
        let found = store.query(&tagged(tag)).await.unwrap().into_events();
        assert!(found[0].has_tag(tag) && tagged(tag).matches(&found[0]), "{tag}");
        assert_eq!(found[0].tags().collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(found.iter().map(Event::position).collect::<Vec<_>>(), [1]);
    }
}

/// As when somebody freezes a log. Appends that have lost, by what this process knows, are only looked up, and are told why
/// that is refused.
#[tokio::test]
async fn a_stale_append_to_a_frozen_log_is_refused_with_the_servers_reason() {
    let (database, _router, store) = store().await;
    // What comes behind this is known to this process.
    store.append(in_boundary("old"), AppendCondition::none()).await.unwrap();
    let read = store.query(&boundary("hot")).await.unwrap();
    store.append(in_boundary("hot"), AppendCondition::none()).await.unwrap();
    let frozen = "CREATE FUNCTION frozen() RETURNS trigger LANGUAGE plpgsql AS \
                  $$ BEGIN RAISE EXCEPTION 'the log is frozen'; END $$; \
                  CREATE TRIGGER frozen BEFORE INSERT ON mainstem.events FOR EACH STATEMENT EXECUTE FUNCTION frozen()";
    // The session that knows it is left alone.
    run(&router(&database).await, frozen).await;
    let stale = store.append(in_boundary("hot"), read.unchanged()).timeout(Duration::from_secs(5)).await;
    let error = stale.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Database, "{}", error.report());
    assert!(error.report().contains("the log is frozen"), "{}", error.report());
}
