//! The examples, run as their users run them, except for the cluster. They check what they show; these tests check what is left
//! in the log.

use mainstem::{AppendCondition, Event, EventStore, Filter, MemoryEventStore, NewEvent, PostgresEventStore};
use serde_json::{Value, json};

use crate::{event_store::fresh_log, support};

macro_rules! examples {
    ($($name:ident, $file:literal;)+) => { $(
        #[path = $file]
        #[allow(dead_code, unreachable_pub, missing_docs, reason = "it is a program of its own")]
        mod $name;
    )+ };
}

examples! {
    batch_append, "../../examples/batch_append.rs";
    consumers, "../../examples/consumers.rs";
    decision_model, "../../examples/decision_model.rs";
    enrollment, "../../examples/enrollment.rs";
    erasure, "../../examples/erasure.rs";
    fixed_streams, "../../examples/fixed_streams.rs";
    getting_started, "../../examples/getting_started.rs";
    in_memory, "../../examples/in_memory.rs";
    library, "../../examples/library/main.rs";
    offsets, "../../examples/offsets.rs";
    snapshots, "../../examples/snapshots.rs";
    streaming_projection, "../../examples/streaming_projection.rs";
    ticket_booking, "../../examples/ticket_booking.rs";
    transfer, "../../examples/transfer.rs";
}

async fn count(store: &impl EventStore, event_type: &str) -> usize {
    let history = store.query(&Filter::any_event()).await.unwrap();
    history.iter().filter(|event| event.event_type() == event_type).count()
}

#[tokio::test]
async fn in_memory_says_hello_once_to_everybody() {
    for postgres in [false, true] {
        let greeted = match postgres {
            true => {
                let store = fresh_log().await;
                in_memory::run(store.clone()).await.unwrap();
                count(&store, "Greeted").await
            }
            false => {
                let store = MemoryEventStore::new();
                in_memory::run(store.clone()).await.unwrap();
                count(&store, "Greeted").await
            }
        };
        assert_eq!(greeted, 2);
    }
}

#[tokio::test]
async fn transfer_loses_and_makes_no_money() {
    let store = fresh_log().await;
    let balances = transfer::run(store.clone()).await.unwrap();
    assert_eq!(balances.iter().sum::<i64>(), 300);
    assert!(balances.iter().all(|balance| *balance >= 0), "{balances:?}");
    assert!(count(&store, "MoneyTransferred").await > 0);
}

#[tokio::test]
async fn enrollment_overbooks_nothing() {
    let store = fresh_log().await;
    enrollment::run(store.clone()).await.unwrap();
    let history = store.query(&Filter::any_event()).await.unwrap();
    let enrolled = |tag: &str| {
        let of = |event: &&Event| event.event_type() == "StudentEnrolled" && event.has_tag(tag);
        history.iter().filter(of).count()
    };
    assert_eq!(enrolled("course:1"), 2, "as many as the oldest event says today");
    assert!((2..=4).all(|course| enrolled(&format!("course:{course}")) <= 4));
    assert!((1..=8).all(|student| enrolled(&format!("student:{student}")) <= 3));
    assert_eq!(count(&store, "CommandExecuted").await, 32);
}

#[tokio::test]
async fn ticket_booking_sells_each_seat_once_and_all_of_them() {
    let store = fresh_log().await;
    let sale = ticket_booking::run(store.clone(), 30, 40, 2).await.unwrap();
    assert_eq!((sale.sold, count(&store, "SeatBooked").await), (40, 40));
    let told = sale.to_string();
    for part in ["40 seats sold in 20 bookings", "bookings_per_s=", "conflicts=", "p50_ms=", "p99_ms="] {
        assert!(told.contains(part), "{told:?} does not say {part:?}");
    }
}

#[tokio::test]
async fn decision_model_orders_once() {
    let store = fresh_log().await;
    decision_model::run(store.clone()).await.unwrap();
    assert_eq!(count(&store, "Ordered").await, 1);
}

#[tokio::test]
async fn snapshots_save_reading() {
    snapshots::run(fresh_log().await).await.unwrap();
    snapshots::run(MemoryEventStore::new()).await.unwrap();
}

#[tokio::test]
async fn streaming_projection_comes_to_the_end() {
    let store = fresh_log().await;
    streaming_projection::run(store.clone(), 3_000).await.unwrap();
    assert_eq!((count(&store, "Averaged").await, count(&store, "Measured").await), (1, 3_001));
}

#[tokio::test]
async fn consumers_handle_each_event_however_they_follow() {
    let store = fresh_log().await;
    consumers::run(store.clone()).await.unwrap_or_else(|error| panic!("{}", error.report()));
    assert_eq!(store.consumer_control("printer").status().await.unwrap().checkpoint().unwrap().position(), 6);
    assert_eq!(store.consumer_control("balances").status().await.unwrap().checkpoint().unwrap().position(), 7);
}

#[tokio::test]
async fn offsets_cursors_and_times_say_where_to_go_on() {
    offsets::run(fresh_log().await).await.unwrap();
}

#[tokio::test]
async fn batch_append_appends_all_or_none() {
    batch_append::run(fresh_log().await).await.unwrap();
}

/// Twice, as a newcomer would: the second run finds the copy lent.
#[tokio::test]
async fn getting_started_lends_once() {
    // The log has the default name, and the schema that of the role: unqualified names would mean it.
    let database = support::database().await;
    let router = support::router(&database).await;
    for _ in 0..2 {
        getting_started::lend(&router).await.unwrap();
    }
    assert_eq!(count(&PostgresEventStore::new(&router), "CopyLent").await, 1);
    database.drop().await.unwrap();
}

#[tokio::test]
async fn erasure_leaves_events_that_say_nothing() {
    let store = fresh_log().await;
    erasure::run(store.clone()).await.unwrap();
    let history = store.query(&Filter::any_event()).await.unwrap();
    assert_eq!(history.len(), 4, "no event is gone");

    let keys = erasure::Keys::install(store.router()).await.unwrap();
    let ring = keys.of_all(&history).await.unwrap();
    let opened: Vec<Option<Value>> = history.iter().map(|event| ring.open(event).unwrap()).collect();
    assert_eq!(opened[0], None, "the erased one's");
    assert_eq!(opened[1], Some(json!({"copy": 7})), "what was not sealed");
    assert_eq!(opened[2], Some(json!({"name": "Ben Jonson"})), "somebody else's");

    // Nothing of either name is in the log, and no key of the erased one in the database.
    let log = store.name();
    let sql = format!(
        "SELECT count(*) FROM {}.{} e WHERE e::text ~ 'Lovelace|Jonson' OR position(convert_to('Lovelace', 'UTF8') IN bytes) > 0",
        quoted(log.schema()),
        quoted(log.log())
    );
    let client = store.router().client().await.unwrap();
    assert_eq!(client.query_one(&sql, &[]).await.unwrap().get::<_, i64>(0), 0);
    let sql = "SELECT count(*) FROM public.person_keys WHERE key IS NOT NULL AND person LIKE '471_'";
    assert_eq!(client.query_one(sql, &[]).await.unwrap().get::<_, i64>(0), 1);

    // The erased gets no new key, and a text that was moved into another event does not open.
    let error = keys.seal("ReaderRegistered", "4711", &json!({"name": "Ada Lovelace"})).await.unwrap_err();
    assert!(error.to_string().contains("erased"), "{error}");
    let moved = NewEvent::from_payload("ReaderRegistered", history[2].payload().clone()).with_tag("person:4712");
    let moved = moved.into_recorded(5, std::time::SystemTime::now());
    assert!(ring.open::<Value>(&moved).is_err());
    let renamed = NewEvent::from_payload("ReaderRenamed", history[2].payload().clone())
        .with_id(history[2].id())
        .with_tag("person:4712");
    assert!(ring.open::<Value>(&renamed.into_recorded(5, std::time::SystemTime::now())).is_err());
}

/// Whoever has the disk has no key that was erased, and nobody who was erased gets one.
#[tokio::test]
async fn an_erased_key_is_in_no_file_of_its_table() {
    let store = fresh_log().await;
    let keys = erasure::Keys::install(store.router()).await.unwrap();
    // More than one version of a row, and rows beside it.
    for person in ["1", "7", "7", "7", "8"] {
        let _ = keys.seal("A", person, &json!({"name": person})).await.unwrap();
    }
    let client = store.router().client().await.unwrap();
    let sql = "SELECT key FROM public.person_keys WHERE person = '7'";
    let key: Vec<u8> = client.query_one(sql, &[]).await.unwrap().get(0);
    let is_on_disk = async || {
        client.batch_execute("CHECKPOINT").await.unwrap();
        let sql = "SELECT position($1 IN pg_read_binary_file(pg_relation_filepath('public.person_keys'))) > 0";
        client.query_one(sql, &[&key]).await.unwrap().get::<_, bool>(0)
    };
    assert!(is_on_disk().await);
    keys.erase("7").await.unwrap();
    // Other tests have older transactions, and replicas report theirs every ten seconds.
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
    while is_on_disk().await {
        assert!(tokio::time::Instant::now() < deadline, "the key is still there");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        keys.sweep().await.unwrap();
    }
    keys.erase("9").await.unwrap();
    let error = keys.seal("A", "9", &json!({})).await.unwrap_err();
    assert!(error.to_string().contains("erased"), "who had no key: {error}");
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[tokio::test]
async fn fixed_streams_have_versions_without_gaps() {
    let store = fresh_log().await;
    fixed_streams::run(store.clone()).await.unwrap();
    assert_eq!(count(&store, "ItemAdded").await, 4);
}

#[tokio::test]
async fn library_lends_by_its_rules_and_answers_from_snapshots() {
    let store = fresh_log().await;
    library::tour(store.clone()).await.unwrap();
    // Refusals are events, too.
    let refusals = ["LendingRefused", "CopyRemovalRefused", "CancellationRefused", "ReturnRefused"];
    let mut counts = Vec::new();
    for refusal in refusals {
        counts.push(count(&store, refusal).await);
    }
    assert_eq!(counts, [3, 1, 1, 1]);
}

#[tokio::test]
async fn library_keeps_its_rules_with_many_readers_at_once() {
    let store = fresh_log().await;
    let settings = library::Settings {
        readers: 20,
        librarians: 2,
        copies: 30,
        duration: std::time::Duration::from_secs(2),
        repeats_per_mille: 300,
        ..library::Settings::default()
    };
    let metrics = library::simulate(store.clone(), settings).await.unwrap();
    let told = metrics.to_string();
    for part in ["decided=0", "nothing=0", "refused=0", "repeated=0"] {
        assert!(!told.contains(part), "{told}");
    }
    library::judge(&store).await.unwrap();
    // Who judges the log would notice: this reader has no contract.
    let lent = NewEvent::new("CopyLent", &serde_json::json!({"copy": 0, "reader": 999})).unwrap();
    store.append([lent], AppendCondition::none()).await.unwrap();
    assert!(library::judge(&store).await.is_err_and(|error| error.to_string().contains("against the rules")));
}
