//! Ctrl-C in the middle of work.

use mainstem::{EventStore, Filter};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;

use crate::support::{Running, change, fill, log, run, start};

#[tokio::test]
async fn an_import_ends_between_two_chunks_and_goes_on() {
    let (_database, from, source) = log().await;
    fill(&source, "A", 20).await;
    let export = run(&from, &["export", "--primary"]).await.ok();
    let (_database, to, target) = log().await;
    // What is not there yet is waited for, so that it is in the middle when the signal comes.
    let mut import = start(&to, &["import", "--chunk", "5"]);
    let lines: Vec<&str> = export.split_inclusive('\n').collect();
    let mut stdin = import.child.stdin.take().unwrap();
    stdin.write_all(lines[..8].concat().as_bytes()).await.unwrap();
    while *target.count(&Filter::any_event()).await.unwrap() < 5 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let stderr = import.interrupt().await.failed(130, &["interrupted", "repeat the import to continue there"]);
    assert!(stderr.contains("5 events were written, and 0 were there already, up to position 5"), "{stderr}");
    let again = crate::support::run_with(&to, &["import"], &export).await;
    drop(stdin);
    assert!(again.stderr.contains("15 events were written, and 5 were there already"), "{again:?}");
}

/// A failover may lose what was imported, and the application may append as many events before the next chunk.
#[tokio::test]
async fn an_import_joins_no_two_histories() {
    let (_database, from, source) = log().await;
    fill(&source, "A", 10).await;
    let export = run(&from, &["export", "--primary"]).await.ok();
    let lines: Vec<&str> = export.split_inclusive('\n').collect();
    for others in [5, 2, 0] {
        let (database, to, target) = log().await;
        let mut import = start(&to, &["import", "--chunk", "5"]);
        let mut stdin = import.child.stdin.take().unwrap();
        stdin.write_all(lines[..6].concat().as_bytes()).await.unwrap();
        let is_there = async {
            while *target.count(&Filter::any_event()).await.unwrap() < 5 {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(crate::support::HANG, is_there).await.expect("the first chunk");
        change(&database.primary_url(), "DELETE FROM mainstem.events").await;
        fill(&target, "Other", others).await;
        stdin.write_all(lines[6..].concat().as_bytes()).await.unwrap();
        drop(stdin);
        import
            .end()
            .await
            .failed(1, &["at position 5 the log and the export have different events", "5 events were written"]);
        assert_eq!(*target.count(&Filter::any_event()).await.unwrap(), others);
    }
}

#[tokio::test]
async fn a_migration_that_waits_for_another_is_left_alone() {
    let (database, urls, _store) = log().await;
    let router = mainstem::Router::builder().primary(database.primary_url()).connect().await.unwrap();
    let other = router.transaction().timeout(std::time::Duration::from_secs(300)).await.unwrap();
    other.query_one("SELECT pg_advisory_xact_lock(1296651086, hashtext('mainstem'))", &[]).await.unwrap();
    let migrate = start(&urls, &["migrate"]);
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%pg_try_advisory_lock%' \
                 AND pid <> pg_backend_pid()";
    while router.client().await.unwrap().query_one(waits, &[]).await.unwrap().get::<_, i64>(0) == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    migrate.interrupt().await.failed(130, &["between two migrations"]);
    other.rollback().await.unwrap();
    assert!(run(&urls, &["migrate"]).await.ok().contains("V1__log applied"));
}

#[tokio::test]
async fn an_export_whose_reader_has_gone_says_nothing() {
    let (_database, urls, store) = log().await;
    let folder = TempDir::new().unwrap();
    fill(&store, "A", 3).await;
    let text = "x".repeat(2_000_000);
    let event = mainstem::NewEvent::new("Large", &text).unwrap();
    store.append([event], mainstem::AppendCondition::none()).await.unwrap();
    let mut export = start(&urls, &["export", "--primary"]);
    export.line().await;
    let Running { child, lines } = export;
    drop(lines);
    let output = tokio::time::timeout(crate::support::HANG, child.wait_with_output()).await.expect("no hang").unwrap();
    assert_eq!((output.status.code(), output.stderr), (Some(141), Vec::new()));
    // A file that cannot be written is told.
    let nowhere = folder.path().join("none/log");
    run(&urls, &["export", "--primary", nowhere.to_str().unwrap()]).await.failed(2, &["none/log"]);
}

#[tokio::test]
async fn an_append_in_chunks_ends_between_two_of_them_and_says_how_far_it_came() {
    let (database, urls, store) = log().await;
    let router = mainstem::Router::builder().primary(database.primary_url()).connect().await.unwrap();
    let lines: String = (1..=100).map(|n| format!("{{\"type\": \"A\", \"payload\": {n}}}\n")).collect();
    // While somebody has the log's lock, the first chunk waits.
    let other = router.transaction().timeout(std::time::Duration::from_secs(300)).await.unwrap();
    other.batch_execute("LOCK TABLE mainstem.events IN EXCLUSIVE MODE").await.unwrap();
    let mut append = start(&urls, &["append", "--chunk", "5"]);
    let mut stdin = append.child.stdin.take().unwrap();
    stdin.write_all(lines.as_bytes()).await.unwrap();
    drop(stdin);
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    while router.client().await.unwrap().query_one(waits, &[]).await.unwrap().get::<_, i64>(0) == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let ended = tokio::spawn(append.interrupt());
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    other.rollback().await.unwrap();
    let stderr = ended.await.unwrap().failed(130, &["interrupted", "of the 100 events were written, up to"]);
    let written = *store.count(&Filter::any_event()).await.unwrap();
    assert!((5..=10).contains(&written) && stderr.contains(&format!("{written} of the 100")), "{written}: {stderr}");
}

#[tokio::test]
async fn an_append_that_waits_for_its_events_writes_nothing() {
    let (_database, urls, store) = log().await;
    let mut append = start(&urls, &["append"]);
    let mut stdin = append.child.stdin.take().unwrap();
    stdin.write_all(b"{\"type\": \"A\", \"payload\": 1}\n").await.unwrap();
    append.interrupt().await.failed(130, &["nothing was written"]);
    assert_eq!(*store.count(&Filter::any_event()).await.unwrap(), 0);
}

#[tokio::test]
async fn a_tail_that_was_to_print_all_says_that_it_has_not() {
    let (database, urls, store) = log().await;
    fill(&store, "A", 3).await;
    let router = mainstem::Router::builder().primary(database.primary_url()).connect().await.unwrap();
    let other = router.transaction().timeout(std::time::Duration::from_secs(300)).await.unwrap();
    other.batch_execute("LOCK TABLE mainstem.events IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    for (args, status) in [(&["tail", "--no-follow", "--after", "0"][..], 130), (&["tail", "--after", "0"], 0)] {
        let tail = start(&urls, args);
        while router.client().await.unwrap().query_one(waits, &[]).await.unwrap().get::<_, i64>(0) == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        let ended = tail.interrupt().await;
        assert_eq!(ended.status, status, "{ended:?}");
        assert_eq!(ended.stderr.contains("not all events were printed"), status == 130, "{ended:?}");
    }
    other.rollback().await.unwrap();
}
