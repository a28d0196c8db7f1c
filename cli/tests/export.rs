//! `mainstem export` and `mainstem import`.

use std::time::{Duration, SystemTime};

use mainstem::{
    AppendCondition, EventStore, ExpectedVersion, Filter, NewEvent, Payload, PostgresEventStore, testing::LocalCluster,
};
use serde_json::json;
use tempfile::TempDir;

use crate::support::{cluster, command, fill, log, nodes, ran, run, run_with, sql, started, store, urls};

/// A replica that lags is as good as any, but not for what it lacks.
#[tokio::test]
async fn an_export_has_all_that_was_acknowledged_before_it_began() {
    let cluster = started(LocalCluster::builder()).await;
    let urls = nodes(&cluster);
    let store = store(&urls).await;
    fill(&store, "A", 5).await;
    cluster.wait_until_caught_up().await.unwrap();
    let export = async |args: &[&str]| run(&urls, &[&["export"], args].concat()).await;
    // On a busy machine the replica may need longer than it usually gets.
    let mut patient = command(&urls, &["export"]);
    patient.env("MAINSTEM_REPLAY_WAIT", "5s");
    let (port, five) = (cluster.replica(0).port(), ran(patient, "").await);
    assert!(five.stderr.contains(&format!("5 events exported, up to position 5, from 127.0.0.1:{port}")), "{five:?}");
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("log").to_str().unwrap().to_owned();

    cluster.replica(0).pause_replay().await.unwrap();
    fill(&store, "A", 2).await;
    let all = run(&urls, &["export", "--primary"]).await.ok();
    assert_eq!(export(&[]).await.ok(), all);
    let more = export(&["--after", "5"]).await.ok();
    assert_eq!(more.lines().skip(1).collect::<Vec<_>>(), all.lines().skip(6).collect::<Vec<_>>());
    // What the replica does not have yet is in the file already.
    std::fs::write(&file, &all[..all.len() - 5]).unwrap();
    export(&["--resume", &file]).await.ok();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), all);

    cluster.primary().stop().await.unwrap();
    for args in [&[][..], &["--after", "5"], &["--resume", &file]] {
        export(args).await.failed(1, &["only the primary knows", "--stale"]);
    }
    let replica = [urls[1].clone()];
    run(&replica, &["export"]).await.failed(1, &["they all are replicas", "--stale"]);
    assert_eq!(export(&["--stale"]).await.ok(), five.stdout);
    assert_eq!(run(&replica, &["export", "--stale"]).await.ok(), five.stdout);
    std::fs::write(&file, &all[..all.len() - 5]).unwrap();
    export(&["--stale", "--resume", &file]).await.failed(1, &["or the replica lags"]);
}

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
    append(vec![NewEvent::from_payload("B", Payload::bytes("x/y", vec![0, 255, 10, 13]))], Some("s-1")).await;
    append(
        vec![
            NewEvent::from_payload("B", Payload::bytes("x/y", vec![])),
            new("C", json!([1.5, "b"])),
            new("C", json!("x")),
        ],
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
async fn interrupted_exports_and_imports_resume_and_take_later_events() {
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
    // An export of nothing new also says what a log must have.
    let nothing = run(&from, &["export", "--primary", "--after", "14"]).await.ok();
    run_with(&elsewhere, &["import"], &nothing).await.failed(2, &["ends at position 0", "continues at 15"]);
    run(&to, &["import", &more]).await.ok();
    let (ours, theirs) =
        (source.query(&Filter::any_event()).await.unwrap(), target.query(&Filter::any_event()).await.unwrap());
    assert_eq!(ours.into_events(), theirs.into_events());
}

/// A disk that is full is no judge of characters.
#[tokio::test]
async fn an_export_cut_off_within_a_character_is_resumed() {
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

/// Whatever ends an export, --resume goes on from there, also when there is next to nothing.
#[tokio::test]
async fn what_was_ended_before_the_first_event_begins_again() {
    let (_database, urls, store) = log().await;
    fill(&store, "A", 3).await;
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("log").to_str().unwrap().to_owned();
    let export = async |args: &[&str]| run(&urls, &[&["export", "--primary", &file], args].concat()).await;
    let whole = run(&urls, &["export", "--primary"]).await.ok();
    let header = whole.find('\n').unwrap();
    for len in [0, 1, 30, header, header + 1] {
        std::fs::write(&file, &whole[..len]).unwrap();
        export(&[]).await.failed(2, &["--resume"]);
        export(&["--resume"]).await.ok();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), whole, "{len}");
    }
    std::fs::remove_file(&file).unwrap();
    export(&["--resume"]).await.ok();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), whole, "it was not even created");
    // Where it was to begin is not in the file then.
    let later = run(&urls, &["export", "--primary", "--after", "2"]).await.ok();
    for len in [10, later.len() - 5] {
        std::fs::write(&file, &later[..len]).unwrap();
        export(&["--resume", "--after", "2"]).await.ok();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), later, "{len}");
    }
    export(&["--resume", "--after", "1"]).await.failed(2, &["begins after position 2, and not after 1"]);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), later);
    // Other files are left alone.
    for text in ["a diary", "{\"mainstem\": 1}", "{\n\"mainstem_export\":1"] {
        std::fs::write(&file, text).unwrap();
        export(&["--resume"]).await.failed(2, &["line 1 is not the header of an export"]);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
    }
}

/// The first line is in the file before the first event is read.
#[tokio::test]
async fn what_was_killed_at_its_first_event_goes_on() {
    let (database, urls, store) = log().await;
    fill(&store, "A", 3).await;
    let whole = run(&urls, &["export", "--primary"]).await.ok();
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("log").to_str().unwrap().to_owned();
    // Whoever reads what is in the events waits for it. The function is called stable, so that nobody else calls it.
    let slow = "CREATE FUNCTION slow(jsonb) RETURNS jsonb STABLE LANGUAGE plpgsql
                AS 'BEGIN PERFORM pg_sleep(300); RETURN $1; END';
                ALTER TABLE mainstem.events RENAME TO real;
                CREATE VIEW mainstem.events AS
                SELECT position, following, id, type, tags, payload, slow(metadata) AS metadata, bytes, content_type, stream, version,
                       occurred_at, recorded_at
                FROM mainstem.real";
    sql(&database.primary_url(), slow).await;
    let mut export = crate::support::start(&urls, &["export", "--primary", &file]);
    let has_begun = async {
        while !std::fs::read(&file).is_ok_and(|content| content.contains(&b'\n')) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), has_begun).await.expect("a first line");
    export.child.kill().await.unwrap();
    let fast = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
                WHERE datname = current_database() AND query LIKE '%mainstem%' AND pid <> pg_backend_pid();
                DROP VIEW mainstem.events;
                ALTER TABLE mainstem.real RENAME TO events";
    sql(&database.primary_url(), fast).await;
    run(&urls, &["export", "--primary", "--resume", &file]).await.ok();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), whole);
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
async fn import_refuses_an_invalid_export_with_its_line_and_writes_nothing() {
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
