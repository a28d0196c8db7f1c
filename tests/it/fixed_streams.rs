//! Fixed streams in PostgreSQL: appends to one stream in one batch, beside others that are refused, and what happens when
//! somebody writes without the procedure.

use std::future::IntoFuture;

use futures_util::future::join_all;
use mainstem::{
    AppendCondition, Appended, Error, ErrorKind, Event, EventStore,
    ExpectedVersion::{self, Any, Exact, NoStream},
    Filter, NewEvent, PostgresEventStore, Router,
};
use serde_json::json;

use crate::support::{LogLock, event, store};

/// An append: where to, as what, under which condition.
type Call = (Vec<NewEvent>, Option<(&'static str, ExpectedVersion)>, AppendCondition);

fn call(stream: &'static str, expected: ExpectedVersion, events: usize) -> Call {
    ((0..events).map(|n| event("A", json!({"n": n}))).collect(), Some((stream, expected)), AppendCondition::none())
}

/// The results of appends that are made at the same time, in their order. The first goes alone, the others together.
async fn together(router: &Router, store: &PostgresEventStore, calls: Vec<Call>) -> Vec<Result<Appended, Error>> {
    let lock = LogLock::take(router).await;
    let first = tokio::spawn(store.append([event("First", json!({}))], AppendCondition::none()).into_future());
    LogLock::is_waited_for(router).await;
    let calls = calls.into_iter().map(|(events, stream, condition)| {
        let store = store.clone();
        tokio::spawn(async move {
            let append = store.append(events, condition);
            match stream {
                Some((id, expected)) => append.to_stream(id, expected).await,
                None => append.await,
            }
        })
    });
    let calls: Vec<_> = calls.collect();
    // They are in line as soon as they were polled once.
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    lock.release().await;
    first.await.unwrap().unwrap();
    join_all(calls).await.into_iter().map(Result::unwrap).collect()
}

fn shown(results: &[Result<Appended, Error>]) -> Vec<String> {
    let show = |result: &Result<Appended, Error>| match result {
        Ok(appended) => match appended.stream_versions() {
            Some(versions) => format!("{versions:?} at {}", appended.first_position()),
            None => format!("at {}", appended.first_position()),
        },
        Err(error) => match (error.version_mismatch(), error.conflict()) {
            (Some(found), _) => format!("is {}, not {}", found.actual, found.expected),
            (_, Some(conflict)) => format!("broken by {}", conflict.position),
            _ => format!("{:?} {:?}", error.kind(), error.sqlstate()),
        },
    };
    results.iter().map(show).collect()
}

/// The versions that a stream has, as it is loaded.
async fn versions(store: &PostgresEventStore, id: &str) -> Vec<u64> {
    let stream = store.load_stream(id).await.unwrap();
    assert_eq!(stream.version(), stream.len() as u64);
    stream.iter().map(|event| event.stream().unwrap().version()).collect()
}

async fn transactions(router: &Router) -> i64 {
    let client = router.client().await.unwrap();
    client.query_one("SELECT count(DISTINCT xmin::text) FROM mainstem.events", &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn appends_of_one_batch_are_settled_in_their_order() {
    let (_database, router, store) = store().await;
    let before = [event("A", json!({})), event("A", json!({}))];
    store.append(before, AppendCondition::none()).to_stream("old", NoStream).await.unwrap();
    let hot = Filter::matching().any_type_of(["Hot"]).finish().unwrap();
    let unless_hot = || AppendCondition::fail_if_events_match(hot.clone()).after_position(0);
    let hot_to = |stream, expected| (vec![event("Hot", json!({}))], Some((stream, expected)), unless_hot());
    let calls = vec![
        call("new", NoStream, 2),
        // The one before has begun it.
        call("new", NoStream, 1),
        call("new", Exact(2), 3),
        call("new", Exact(2), 1),
        call("old", Exact(3), 1),
        (vec![event("Plain", json!({}))], None, AppendCondition::none()),
        call("old", Any, 2),
        call("old", Exact(4), 1),
        // Refused for its version, so its event breaks nobody's condition.
        hot_to("old", Exact(9)),
        hot_to("old", Exact(5)),
        // Its condition is broken by the one before, so it does not count on.
        hot_to("old", Any),
        call("old", Exact(6), 1),
    ];
    let results = together(&router, &store, calls).await;
    let expected = [
        "1..=2 at 4",
        "is 2, not 0",
        "3..=5 at 6",
        "is 5, not 2",
        "is 2, not 3",
        "at 9",
        "3..=4 at 10",
        "5..=5 at 12",
        "is 5, not 9",
        "6..=6 at 13",
        "broken by 13",
        "7..=7 at 14",
    ];
    assert_eq!(shown(&results), expected);
    // One, the first of the others, their batch; the one whose rival was refused; and who stood behind it in the stream.
    assert_eq!(transactions(&router).await, 5, "they were not one batch");
    assert_eq!(versions(&store, "new").await, (1..=5).collect::<Vec<_>>());
    assert_eq!(versions(&store, "old").await, (1..=7).collect::<Vec<_>>());
    let log = store.query(&Filter::any_event()).await.unwrap();
    assert_eq!(log.iter().map(Event::position).collect::<Vec<_>>(), (1..=14).collect::<Vec<_>>());
}

/// A batch that the server refuses is tried again in halves: whoever is written counts, whoever is not does not.
#[tokio::test]
async fn a_batch_in_parts_counts_only_what_is_written() {
    let (_database, router, store) = store().await;
    let check = "ALTER TABLE mainstem.events ADD CHECK (payload -> 'bad' IS NULL)";
    router.client().await.unwrap().batch_execute(check).await.unwrap();
    let bad = |expected| (vec![event("A", json!({"bad": 1}))], Some(("s", expected)), AppendCondition::none());
    let again = call("s", Any, 2);
    let calls = vec![
        bad(NoStream),
        call("s", NoStream, 1),
        bad(Exact(1)),
        again.clone(),
        bad(Any),
        // The same events once more: they wait for the next batch.
        again,
        call("s", Exact(3), 1),
    ];
    let results = together(&router, &store, calls).await;
    let refused = "InvalidInput Some(\"23514\")";
    let expected = [refused, "1..=1 at 2", refused, "2..=3 at 3", refused, "2..=3 at 3", "4..=4 at 5"];
    assert_eq!(shown(&results), expected);
    let repeated: Vec<bool> = results.iter().flatten().map(Appended::is_repeated).collect();
    assert_eq!(repeated, [false, false, true, false]);
    assert_eq!(versions(&store, "s").await, [1, 2, 3, 4]);
}

/// A repeat in a batch with others, to the same stream and to none.
#[tokio::test]
async fn a_repeat_in_a_batch_tells_its_first_versions() {
    let (_database, router, store) = store().await;
    let (first, plain) = (call("s", NoStream, 2), event("Plain", json!({})));
    let appended = store.append(first.0.clone(), AppendCondition::none()).to_stream("s", NoStream).await.unwrap();
    assert_eq!(appended.stream_versions(), Some(1..=2));
    store.append([plain.clone()], AppendCondition::none()).await.unwrap();
    let moved = (first.0.clone(), Some(("other", Any)), AppendCondition::none());
    let calls = vec![
        call("s", Exact(2), 1),
        first,
        (vec![plain.clone()], None, AppendCondition::none()),
        (vec![plain], Some(("s", Any)), AppendCondition::none()),
        call("s", Exact(3), 1),
    ];
    let results = together(&router, &store, calls).await;
    assert_eq!(shown(&results), ["3..=3 at 5", "1..=2 at 1", "at 3", "InvalidInput None", "4..=4 at 6"]);
    assert_eq!(shown(&together(&router, &store, vec![moved]).await), ["InvalidInput None"]);
    // Only repeats without a stream: nobody asks for versions.
    let alone = vec![(vec![event("B", json!({}))], None, AppendCondition::none())];
    assert_eq!(shown(&together(&router, &store, alone).await), ["at 9"]);
}

/// The index on streams is the second fence, as the primary key is for positions.
#[tokio::test]
async fn inserts_without_the_procedure_are_distinguished_from_bad_data() {
    let (_database, router, store) = store().await;
    // A version that comes after a gap, and that the procedure would take next but one.
    let insert = "CREATE FUNCTION sneak() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
                      INSERT INTO mainstem.events (position, occurred_at, recorded_at, following, id, type, tags, metadata, \
                          payload, stream, version) \
                      VALUES (1000000, now(), now(), 0, gen_random_uuid(), 'Sneaked', '{}', '{}', '{}', 's', 1); RETURN NEW; \
                  END $$; \
                  CREATE TRIGGER sneak BEFORE INSERT ON mainstem.events FOR EACH ROW WHEN (NEW.type <> 'Sneaked') \
                      EXECUTE FUNCTION sneak()";
    router.client().await.unwrap().batch_execute(insert).await.unwrap();
    let append = store.append([event("A", json!({}))], AppendCondition::none()).to_stream("s", Any);
    let error = append.await.unwrap_err();
    assert_eq!((error.kind(), error.sqlstate()), (ErrorKind::Database, Some("23505")), "{}", error.report());
    assert!(error.to_string().contains("without its append procedure"), "{error}");
    assert_eq!(store.query(&Filter::any_event()).await.unwrap().len(), 0);
}
