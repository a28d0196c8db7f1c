//! `mainstem migrate`.

use crate::support::{cluster, log, run, sql, urls};

#[tokio::test]
async fn a_dry_run_changes_nothing_and_a_run_makes_the_log() {
    let database = cluster().await.database().await.unwrap();
    let urls = urls(&database);
    for _ in 0..2 {
        let pending = run(&urls, &["migrate", "--dry-run"]).await.ok();
        assert!(pending.starts_with("V1__log pending\nV2__append pending\n"), "{pending}");
    }
    let made = run(&urls, &["migrate"]).await;
    assert!(made.stderr.contains("migrations applied"), "{made:?}");
    assert!(made.stdout.starts_with("V1__log applied\n") && !made.stdout.contains("pending"), "{made:?}");
    let again = run(&urls, &["migrate"]).await;
    assert!(again.stderr.contains("no migration applied"), "{again:?}");
    assert_eq!(again.ok(), made.ok());
    // Another log is another history.
    let other = run(&urls, &["migrate", "--status", "--schema", "other", "--log", "my log"]).await.ok();
    assert!(other.starts_with("V1__log pending"), "{other}");
}

#[tokio::test]
async fn migrate_reports_unknown_and_changed_migrations() {
    let (database, urls, _store) = log().await;
    let history = "mainstem.events_migrations";
    sql(
        &database.primary_url(),
        &format!("INSERT INTO {history} SELECT 99, 'later', applied_on, '1' FROM {history} LIMIT 1"),
    )
    .await;
    run(&urls, &["migrate", "--dry-run"]).await.failed(1, &["V99__later is unknown"]);
    run(&urls, &["migrate"]).await.failed(1, &["newer version"]);
    sql(
        &database.primary_url(),
        &format!("DELETE FROM {history} WHERE version = 99; UPDATE {history} SET checksum = '1' WHERE version = 2"),
    )
    .await;
    run(&urls, &["migrate", "--status"]).await.failed(1, &["V2__append is changed"]);
}
