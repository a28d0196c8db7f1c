//! `mainstem export` and `mainstem import`.

use std::time::{Duration, SystemTime};

use mainstem::{AppendCondition, EventStore, ExpectedVersion, Filter, NewEvent, PostgresEventStore};
use serde_json::json;
use tempfile::TempDir;

use crate::support::{cluster, fill, log, run, run_with, store, urls};

/// A log with everything in it that a log can have.
async fn varied(store: &PostgresEventStore) {
    let at = |secs| SystemTime::UNIX_EPOCH + Duration::from_micros(secs);
    let new = |event_type: &str, payload| NewEvent::new(event_type, &payload).unwrap();
    let append = async |events: Vec<NewEvent>, stream: Option<&'static str>| {
        let append = store.append(events, AppendCondition::none());
        match stream {
            Some(stream) => append.to_stream(stream, ExpectedVersion::Any).await,
            None => append.await,
        }
        .unwrap();
    };
    append(vec![new("A", json!(null)), new("A", json!({"big": 12345678901234567890_u64, "text": "ü\n\"\\"}))], None)
        .await;
    append(vec![NewEvent::from_bytes("B", "x/y", vec![0, 255, 10, 13])], Some("s-1")).await;
    append(
        vec![NewEvent::from_bytes("B", "x/y", vec![]), new("C", json!([1.5, "b"])), new("C", json!("x"))],
        Some("s-1"),
    )
    .await;
    append(
        vec![new("D", json!({})).with_tags(["t:{\"a\"}", "t,b", "ö"]).with_metadata(&json!({"m": [1, null]})).unwrap()],
        Some("ström 2"),
    )
    .await;
    append(vec![new("E", json!(1)).with_occurred_at(at(1_000_001)), new("E", json!(2)).occurred_when_recorded()], None)
        .await;
    let before = SystemTime::UNIX_EPOCH - Duration::from_micros(60_000_000_000_000_001);
    append(
        vec![
            new("F", json!(1)).with_occurred_at(before),
            new("F", json!(2)).with_occurred_at(at(9_000_000_000_000_000_007)),
        ],
        None,
    )
    .await;
}

async fn empty() -> (mainstem::testing::TestDatabase<'static>, Vec<String>, PostgresEventStore) {
    log().await
}

#[tokio::test]
async fn an_import_makes_the_very_log_that_was_exported() {
    let (_database, from, source) = log().await;
    varied(&source).await;
    fill(&source, "Many", 30).await;
    let folder = TempDir::new().unwrap();
    let [file, other] = ["log", "other"].map(|name| folder.path().join(name).to_str().unwrap().to_owned());
    run(&from, &["export", "--primary", &file]).await.ok();
    // A replica has the same, and standard output takes it as well.
    cluster().await.wait_until_caught_up().await.unwrap();
    assert_eq!(run(&from, &["export"]).await.ok(), std::fs::read_to_string(&file).unwrap());

    let (_database, to, target) = empty().await;
    let imported = run(&to, &["import", "--chunk", "4", &file]).await;
    assert!(
        imported.stderr.contains("41 events were written, and 0 were there already, up to position 41"),
        "{imported:?}"
    );
    imported.ok();
    let read = async |store: &PostgresEventStore| store.query(&Filter::any_event()).await.unwrap().into_events();
    assert_eq!(read(&target).await, read(&source).await);
    run(&to, &["export", "--primary", &other]).await.ok();
    assert_eq!(std::fs::read_to_string(&other).unwrap(), std::fs::read_to_string(&file).unwrap());
    run(&to, &["verify"]).await.ok();

    // Made again it writes nothing, and the log goes on behind it: appends that are repeated are found, streams go on.
    let text = std::fs::read_to_string(&file).unwrap();
    let again = run_with(&to, &["import"], &text).await;
    assert!(again.stderr.contains("0 events were written, and 41 were there already"), "{again:?}");
    again.ok();
    let event = |event: &mainstem::Event| {
        let new = NewEvent::from_payload(event.event_type(), event.payload().clone()).with_id(event.id());
        new.with_tags(event.tags()).with_metadata_json(event.metadata().clone()).with_occurred_at(event.occurred_at())
    };
    let history = read(&target).await;
    let appended = target.append(history[..2].iter().map(event), AppendCondition::none()).await.unwrap();
    assert_eq!((appended.positions(), appended.is_repeated()), (1..=2, true));
    let next = target
        .append([NewEvent::new("G", &1).unwrap()], AppendCondition::none())
        .to_stream("s-1", ExpectedVersion::Exact(4));
    assert_eq!(next.await.unwrap().first_position(), 42);
}

#[tokio::test]
async fn what_was_interrupted_goes_on_and_what_has_come_since_is_added() {
    let (_database, from, source) = log().await;
    varied(&source).await;
    let folder = TempDir::new().unwrap();
    let [file, part, more] = ["log", "part", "more"].map(|name| folder.path().join(name).to_str().unwrap().to_owned());
    run(&from, &["export", "--primary", &file]).await.ok();
    let whole = std::fs::read_to_string(&file).unwrap();
    // Cut off in the middle of a line.
    let line = whole.lines().take(5).map(|line| line.len() + 1).sum::<usize>();
    std::fs::write(&part, &whole[..line + 20]).unwrap();

    let (_database, to, target) = empty().await;
    let stderr = run(&to, &["import", "--chunk", "1", &part])
        .await
        .failed(2, &["line 6", "repeat the import to continue there"]);
    assert!(stderr.contains("3 events were written"), "an append is written whole: {stderr}");
    run(&from, &["export", "--primary", &part]).await.failed(2, &["--resume"]);
    run(&from, &["export", "--primary", "--resume", &part]).await.ok();
    assert_eq!(std::fs::read_to_string(&part).unwrap(), whole);
    let imported = run(&to, &["import", "--chunk", "1", &part]).await;
    assert!(imported.stderr.contains("8 events were written, and 3 were there already"), "{imported:?}");

    fill(&source, "Later", 3).await;
    run(&from, &["export", "--primary", "--after", "1", &more]).await.failed(2, &["within an append", "position 2"]);
    run(&from, &["export", "--primary", "--after", "11", &more]).await.ok();
    let (_database, elsewhere, _store) = empty().await;
    run(&elsewhere, &["import", &more]).await.failed(2, &["ends at position 0", "continues at 12"]);
    run(&to, &["import", &more]).await.ok();
    let (ours, theirs) =
        (source.query(&Filter::any_event()).await.unwrap(), target.query(&Filter::any_event()).await.unwrap());
    assert_eq!(ours.into_events(), theirs.into_events());
}

/// A disk that is full is no judge of characters.
#[tokio::test]
async fn what_was_cut_off_within_a_character_goes_on() {
    let (_database, urls, store) = log().await;
    let events = ["one", "zwölf", "drei"].map(|text| NewEvent::new("A", text).unwrap());
    store.append(events, AppendCondition::none()).await.unwrap();
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("log").to_str().unwrap().to_owned();
    run(&urls, &["export", "--primary", &file]).await.ok();
    let whole = std::fs::read(&file).unwrap();
    let within = whole.iter().position(|byte| *byte == 0xc3).expect("the first byte of an ö") + 1;
    std::fs::write(&file, &whole[..within]).unwrap();
    run(&urls, &["export", "--primary", "--resume", &file]).await.ok();
    assert_eq!(std::fs::read(&file).unwrap(), whole);
}

#[tokio::test]
async fn nothing_is_written_over_another_history() {
    let (_database, from, source) = log().await;
    fill(&source, "A", 3).await;
    let export = run(&from, &["export", "--primary"]).await.ok();
    let (_database, to, target) = empty().await;
    fill(&target, "A", 2).await;
    run_with(&to, &["import"], &export).await.failed(1, &["at position 1", "their id differs"]);
    assert_eq!(*target.count(&Filter::any_event()).await.unwrap(), 2);
    // The same ids, and another payload.
    let (_database, to, target) = empty().await;
    run_with(&to, &["import"], &export).await.ok();
    let changed = export.replace(r#"{"n": 2}"#, r#"{"n": 7}"#);
    run_with(&to, &["import"], &changed).await.failed(1, &["at position 2", "their payload differs"]);
    assert_eq!(*target.count(&Filter::any_event()).await.unwrap(), 3);
    // What goes on behind an event that the log does not have.
    fill(&source, "A", 1).await;
    let more = run(&from, &["export", "--primary", "--after", "3"]).await.ok();
    let (_database, to, other) = empty().await;
    fill(&other, "A", 3).await;
    run_with(&to, &["import"], &more).await.failed(1, &["of another log"]);
}

#[tokio::test]
async fn what_is_no_export_is_refused_with_its_line_before_it_is_written() {
    let (_database, from, source) = log().await;
    fill(&source, "A", 4).await;
    let append = |n| NewEvent::new("B", &n).unwrap();
    source.append([append(5), append(6)], AppendCondition::none()).to_stream("s", ExpectedVersion::Any).await.unwrap();
    let export = run(&from, &["export", "--primary"]).await.ok();
    let lines: Vec<&str> = export.lines().collect();
    let (_database, to, target) = empty().await;
    let joined = |lines: &[&str]| lines.join("\n") + "\n";
    let swapped = joined(&[lines[0], lines[2], lines[1]]);
    for (text, says) in [
        (String::new(), "line 1"),
        (joined(&lines[1..]), "line 1"),
        (export.replace("\"mainstem_export\":1", "\"mainstem_export\":2"), "reads 1"),
        (swapped, "line 2: position 2 follows position 0"),
        (joined(&[lines[0], lines[1], lines[1]]), "line 3: position 1 follows position 1"),
        (joined(&lines[..6]), "line 7: the export ends at position 5"),
        (joined(&lines[..4]), "line 5: the export ends at position 3, but line 1 says 6"),
        (joined(&[&*lines, &lines[6..]].concat()), "line 8"),
        (export.replace("\"following\":1", "\"following\":3"), "line 7: 3 events of the preceding append are missing"),
        (
            export
                .replace("\"version\":1", "\"version\":2")
                .replace("\"version\":2,\"following\":0", "\"version\":3,\"following\":0"),
            "the version before it is missing",
        ),
        (export.replace("\"payload\":{\"n\": 1},", ""), "line 2: an event has either"),
        (export.replace("\"n\": 1", "\"n\": 1,"), "line 2"),
    ] {
        run_with(&to, &["import"], &text).await.failed(2, &[says]);
        assert_eq!(*target.count(&Filter::any_event()).await.unwrap(), 0, "{says}");
    }
}

#[tokio::test]
async fn an_empty_log_and_no_log_are_told() {
    let (_database, urls_of_empty, _store) = empty().await;
    run(&urls_of_empty, &["export"]).await.failed(1, &["the log is empty"]);
    let database = cluster().await.database().await.unwrap();
    let urls = urls(&database);
    run(&urls, &["export", "--primary"]).await.failed(1, &["events"]);
    let header = r#"{"mainstem_export":1,"after":{"position":0},"until":{"position":0}}"#;
    run_with(&urls, &["import"], header).await.failed(1, &["not what this version needs"]);
    store(&urls).await;
    run_with(&urls, &["import"], header).await.ok();
}

#[tokio::test]
async fn an_import_waits_for_whoever_appends() {
    let (_database, from, source) = log().await;
    fill(&source, "A", 3).await;
    let export = run(&from, &["export", "--primary"]).await.ok();
    let (database, to, target) = empty().await;
    let router = mainstem::Router::builder().primary(database.primary_url()).connect().await.unwrap();
    let other = router.transaction().timeout(Duration::from_secs(300)).await.unwrap();
    let lock =
        "SELECT pg_advisory_xact_lock(1296651085, (('mainstem.events'::regclass)::oid::bigint - 2147483648)::int4)";
    other.query_one(lock, &[]).await.unwrap();
    let mut import = crate::support::start(&to, &["import"]);
    let mut stdin = import.child.stdin.take().unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut stdin, export.as_bytes()).await.unwrap();
    drop(stdin);
    let waiting =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'advisory'";
    let client = router.client().await.unwrap();
    let end = tokio::time::Instant::now() + crate::support::HANG;
    while client.query_one(waiting, &[]).await.unwrap().get::<_, i64>(0) == 0 {
        assert!(tokio::time::Instant::now() < end, "nobody waits for the lock");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(*target.count(&Filter::any_event()).await.unwrap(), 0);
    other.rollback().await.unwrap();
    import.end().await.ok();
    assert_eq!(*target.count(&Filter::any_event()).await.unwrap(), 3);
}
