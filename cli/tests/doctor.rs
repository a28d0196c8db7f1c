//! `mainstem doctor`: each finding, provoked by what is really wrong.

use std::time::Duration;

use mainstem::testing::LocalCluster;
use serde_json::Value;

use crate::support::{cluster, fill, log, nodes, run, sql, started, store, urls};

/// What it finds: severity, check and node of each, and the exit status.
struct Found(Vec<(String, String, String)>, i32);

async fn doctor(urls: &[String], args: &[&str]) -> Found {
    let ran = run(urls, &[&["doctor", "--json"], args].concat()).await;
    assert!([0, 10, 20].contains(&ran.status), "{ran:#?}");
    let text = |line: &Value, key: &str| line[key].as_str().unwrap_or_default().to_owned();
    let findings = ran.stdout.lines().map(|line| {
        let line: Value = serde_json::from_str(line).unwrap();
        for part in ["seen", "why", "do"] {
            assert!(!text(&line, part).is_empty(), "{line}");
        }
        (text(&line, "severity"), text(&line, "check"), text(&line, "node"))
    });
    Found(findings.collect(), ran.status)
}

impl Found {
    #[track_caller]
    fn has(&self, severity: &str, check: &str) -> &Self {
        let is_it = |it: &&(String, String, String)| it.0 == severity && it.1 == check;
        assert!(self.0.iter().any(|it| is_it(&it)), "no {severity} {check} in {:?}", self.0);
        self
    }

    #[track_caller]
    fn has_not(&self, check: &str) -> &Self {
        assert!(self.0.iter().all(|it| it.1 != check), "{check} in {:?}", self.0);
        self
    }

    #[track_caller]
    fn ends(&self, status: i32) -> &Self {
        assert_eq!(self.1, status, "{:?}", self.0);
        self
    }
}

/// The same, until it is as it should be.
async fn until(urls: &[String], args: &[&str], is_so: impl Fn(&Found) -> bool) -> Found {
    let end = tokio::time::Instant::now() + Duration::from_secs(60);
    loop {
        let found = doctor(urls, args).await;
        if is_so(&found) || tokio::time::Instant::now() > end {
            return found;
        }
    }
}

async fn set_for_system(url: &str, setting: &str) {
    sql(url, &format!("ALTER SYSTEM SET {setting}")).await;
    sql(url, "SELECT pg_reload_conf()").await;
}

#[tokio::test]
async fn a_healthy_cluster_has_notes_at_most() {
    let builder = LocalCluster::builder().setting("fsync", "on").setting("tcp_keepalives_idle", "60");
    let builder = builder.setting("idle_in_transaction_session_timeout", "1min").setting("hot_standby_feedback", "on");
    let cluster = started(builder.replicas(2).setting("synchronous_standby_names", "*")).await;
    let urls = nodes(&cluster);
    store(&urls).await;
    let found = doctor(&urls, &[]).await;
    found.ends(0).has("note", "superuser");
    assert_eq!(found.0.len(), 1, "{:?}", found.0);
    let text = run(&urls, &["doctor"]).await;
    assert!(text.stdout.contains("note     127.0.0.1:") && text.stdout.contains("\n    do:  "), "{text:?}");
    assert!(text.stderr.contains("0 faults, 0 warnings, 1 notes"), "{text:?}");
}

#[tokio::test]
async fn settings_that_hurt_are_found() {
    let mut builder = LocalCluster::builder();
    for (setting, value) in [
        ("full_page_writes", "off"),
        ("synchronous_commit", "off"),
        ("wal_sender_timeout", "0"),
        ("wal_receiver_timeout", "0"),
        ("max_standby_streaming_delay", "-1"),
        ("autovacuum", "off"),
        ("max_slot_wal_keep_size", "-1"),
        ("tcp_keepalives_idle", "7200"),
    ] {
        builder = builder.setting(setting, value);
    }
    let cluster = started(builder).await;
    let urls = nodes(&cluster);
    store(&urls).await;
    let found = doctor(&urls, &["--pool", "70", "--instances", "3"]).await;
    found.ends(20).has("fault", "fsync").has("fault", "full_page_writes").has("warning", "synchronous_commit");
    found.has("warning", "wal_sender_timeout").has("warning", "wal_receiver_timeout").has("warning", "autovacuum");
    found
        .has("warning", "max_standby_streaming_delay")
        .has("note", "max_slot_wal_keep_size")
        .has("warning", "max_connections");
    found
        .has("note", "hot_standby_feedback")
        .has("note", "tcp_keepalives_idle")
        .has("note", "synchronous_standby_names");
    found.has("note", "idle_in_transaction_session_timeout").has_not("jit").has_not("schema");

    let primary = &urls[0];
    for setting in ["max_standby_streaming_delay = 0", "synchronous_commit = 'local'"] {
        set_for_system(primary, setting).await;
    }
    set_for_system(primary, "synchronous_standby_names = 'nobody'").await;
    let url = |url: &String| format!("{url}?options=-c%20jit%3Don");
    let with_jit: Vec<_> = urls.iter().map(url).collect();
    let is_there = |severity: &'static str, check: &'static str| {
        move |found: &Found| found.0.iter().any(|it| it.0 == severity && it.1 == check)
    };
    let found = until(&with_jit, &[], is_there("warning", "other_durability")).await;
    found.has("warning", "synchronous_commit").has("warning", "jit");
    found.has_not("synchronous_standby_names").has_not("max_connections");
    set_for_system(primary, "synchronous_commit = 'on'").await;
    let found = until(&urls, &[], is_there("fault", "synchronous_standby_names")).await;
    found.has("fault", "synchronous_standby_names").has("warning", "other_durability");
    // One is connected, and a commit waits for two.
    let name = "SELECT application_name FROM pg_stat_replication";
    let replica = crate::support::text(primary, name).await;
    set_for_system(primary, &format!("synchronous_standby_names = 'ANY 2 (nobody, \"{replica}\")'")).await;
    let found = until(&urls, &[], is_there("fault", "synchronous_standby_names")).await;
    found.has("fault", "synchronous_standby_names");
    set_for_system(primary, &format!("synchronous_standby_names = 'ANY 1 (nobody, \"{replica}\")'")).await;
    let found = until(&urls, &[], is_there("note", "synchronous_standby_names")).await;
    found.has("note", "synchronous_standby_names");
}

#[tokio::test]
async fn a_delay_that_cancels_reads_is_found() {
    let cluster = started(LocalCluster::builder().setting("max_standby_streaming_delay", "100ms")).await;
    doctor(&nodes(&cluster), &[]).await.has("warning", "max_standby_streaming_delay").has("fault", "schema");
}

#[tokio::test]
async fn without_wal_for_replicas_it_is_a_fault() {
    let builder = LocalCluster::builder().replicas(0).setting("wal_level", "minimal").setting("max_wal_senders", "0");
    let cluster = started(builder.setting("fsync", "on")).await;
    let urls = nodes(&cluster);
    store(&urls).await;
    doctor(&urls, &[]).await.ends(20).has("fault", "wal_level").has("note", "no_replicas");
}

#[tokio::test]
async fn doctor_finds_harmful_database_settings() {
    let (database, urls, store) = log().await;
    let (url, name) = (database.primary_url(), database.name().to_owned());
    for (setting, check) in [
        ("default_transaction_isolation = 'serializable'", "default_transaction_isolation"),
        ("default_transaction_read_only = on", "default_transaction_read_only"),
    ] {
        sql(&url, &format!("ALTER DATABASE {name} SET {setting}")).await;
        doctor(&urls, &[]).await.ends(20).has("fault", check);
        let reset = check;
        // Not by a transaction of that database.
        sql(&cluster().await.primary().url(), &format!("ALTER DATABASE {name} RESET {reset}")).await;
        doctor(&urls, &[]).await.has_not(check);
    }
    let insert = "INSERT INTO mainstem.events (position, following, id, type, tags, payload, metadata, occurred_at, recorded_at)
        SELECT n, 0, gen_random_uuid(), 'Type' || n % 5, ARRAY['tag:' || n % 900], jsonb_build_object('key', n % 900), '{}', now(), now()
        FROM generate_series(1, 20000) n";
    doctor(&urls, &[]).await.has_not("not_analyzed");
    sql(&url, "ALTER TABLE mainstem.events SET (autovacuum_enabled = off)").await;
    sql(&url, insert).await;
    doctor(&urls, &[]).await.has("warning", "not_analyzed");
    sql(&url, "VACUUM ANALYZE mainstem.events").await;
    doctor(&urls, &[]).await.has_not("guard_plan").has_not("not_analyzed");
    for setting in ["enable_bitmapscan", "enable_indexscan", "enable_indexonlyscan"] {
        sql(&url, &format!("ALTER DATABASE {name} SET {setting} = off")).await;
    }
    doctor(&urls, &[]).await.has("warning", "guard_plan").has_not("schema");
    drop(store);
}

#[tokio::test]
async fn doctor_finds_invalid_indexes_and_schema_faults_of_the_log() {
    let (database, urls, store) = log().await;
    let url = database.primary_url();
    fill(&store, "A", 2).await;
    doctor(&urls, &[]).await.has_not("schema").has_not("invalid_index").has_not("grants");
    let router = mainstem::Router::builder().primary(&url).connect().await.unwrap();
    let build = "CREATE UNIQUE INDEX CONCURRENTLY twice ON mainstem.events (type)";
    router.client().await.unwrap().batch_execute(build).await.expect_err("there are two of the type");
    doctor(&urls, &[]).await.has("warning", "invalid_index");
    sql(&url, "DROP INDEX mainstem.events_tags").await;
    doctor(&urls, &[]).await.ends(20).has("fault", "schema");
    doctor(&urls, &["--log", "other"]).await.ends(20).has("fault", "schema").has_not("grants");
}

#[tokio::test]
async fn doctor_finds_missing_grants_of_the_role() {
    let (database, of_superuser, _store) = log().await;
    let role = format!("plain_{}", database.name());
    let url = database.primary_url();
    sql(&url, &format!("CREATE ROLE {role} LOGIN PASSWORD 'abc'")).await;
    cluster().await.wait_until_caught_up().await.unwrap();
    let plain = |url: String| format!("postgres://{role}:abc@{}", url.split_once('@').unwrap().1);
    let plain: Vec<String> = urls(&database).into_iter().map(plain).collect();
    doctor(&plain, &[]).await.ends(20).has("fault", "grants").has("note", "no_statistics").has_not("superuser");
    sql(&url, &format!("GRANT USAGE ON SCHEMA mainstem TO {role}")).await;
    doctor(&plain, &[]).await.has("fault", "grants");
    sql(&url, &format!("GRANT SELECT ON mainstem.events TO {role}")).await;
    doctor(&plain, &[]).await.has("warning", "grants").has_not("schema");
    sql(
        &url,
        &format!(
            "GRANT INSERT ON mainstem.events TO {role}; REVOKE EXECUTE ON ALL PROCEDURES IN SCHEMA mainstem FROM PUBLIC"
        ),
    )
    .await;
    doctor(&plain, &[]).await.has("warning", "grants");
    sql(&url, &format!("GRANT EXECUTE ON ALL PROCEDURES IN SCHEMA mainstem TO {role}; GRANT pg_monitor TO {role}"))
        .await;
    doctor(&plain, &[]).await.has_not("grants").has_not("no_statistics").has_not("max_connections");
    // One probes, one listens, and four are for heartbeats.
    sql(&url, &format!("ALTER ROLE {role} CONNECTION LIMIT 16")).await;
    doctor(&plain, &["--pool", "10"]).await.has_not("max_connections");
    sql(&url, &format!("ALTER ROLE {role} CONNECTION LIMIT 15")).await;
    doctor(&plain, &["--pool", "10"]).await.has("warning", "max_connections");
    doctor(&of_superuser, &["--pool", "30"]).await.has_not("max_connections");
    sql(&url, &format!("ALTER ROLE {role} CONNECTION LIMIT -1")).await;
    sql(&url, &format!("ALTER DATABASE {} CONNECTION LIMIT 20", database.name())).await;
    doctor(&plain, &["--pool", "30"]).await.has("warning", "max_connections");
}

#[tokio::test]
async fn urls_that_do_not_belong_together_are_found() {
    let ((_one, ours, _), (_other, theirs, _)) = (log().await, log().await);
    doctor(&[ours[0].clone(), theirs[1].clone()], &[]).await.ends(20).has("fault", "other_database");
    let stranger = started(LocalCluster::builder().replicas(0)).await;
    doctor(&[ours[0].clone(), stranger.primary().url()], &[]).await.ends(20).has("fault", "foreign_node");
    doctor(&["postgres://ada@127.0.0.1:1/x".to_owned()], &["--timeout", "2"])
        .await
        .ends(20)
        .has("fault", "unreachable");
}

#[tokio::test]
async fn replicas_that_are_gone_or_stand_still_are_found() {
    let cluster = started(LocalCluster::builder().replicas(2)).await;
    let urls = nodes(&cluster);
    let store = store(&urls).await;
    cluster.wait_until_caught_up().await.unwrap();
    doctor(&urls, &[]).await.has_not("lag").has_not("slot_inactive").has_not("unreachable").has_not("not_receiving");
    cluster.replica(0).pause_replay().await.unwrap();
    fill(&store, "A", 1).await;
    cluster.replica(1).stop().await.unwrap();
    let is_lagging =
        |found: &Found| ["lag", "slot_inactive"].iter().all(|check| found.0.iter().any(|it| it.1 == *check));
    let found = until(&urls, &["--max-lag", "0"], is_lagging).await;
    found.has("warning", "lag").has("warning", "slot_inactive").has("warning", "unreachable");
    cluster.replica(0).resume_replay().await.unwrap();
    // A replica whose primary is gone: nobody takes writes.
    cluster.primary().kill().await.unwrap();
    let found = until(&urls, &[], |found| found.0.iter().any(|it| it.1 == "not_receiving")).await;
    found.ends(20).has("warning", "not_receiving").has("fault", "unreachable");
}

#[tokio::test]
async fn a_primary_that_was_replaced_is_found() {
    let cluster = started(LocalCluster::builder().replicas(2)).await;
    let urls = nodes(&cluster);
    store(&urls).await;
    cluster.wait_until_caught_up().await.unwrap();
    // The old primary goes on, and the other replica follows it.
    cluster.replica(0).promote().await.unwrap();
    let found = until(&urls, &[], |found| found.0.iter().any(|it| it.1 == "older_timeline")).await;
    found.ends(20).has("fault", "fenced_node").has("fault", "older_timeline").has_not("no_primary");
    doctor(&[urls[0].clone(), urls[2].clone()], &[]).await.has_not("fenced_node");
    // Another promotion of a copy of the same past: both are on timeline 2.
    cluster.nodes()[2].promote().await.unwrap();
    let found = until(&urls, &[], |found| found.0.iter().any(|it| it.1 == "split_brain")).await;
    found.ends(20).has("fault", "split_brain");
}

#[tokio::test]
async fn a_slot_whose_wal_is_gone_is_found() {
    let builder = LocalCluster::builder().setting("wal_keep_size", "0").setting("max_slot_wal_keep_size", "1MB");
    let cluster = started(builder).await;
    let urls = nodes(&cluster);
    cluster.replica(0).stop().await.unwrap();
    for _ in 0..4 {
        sql(&urls[0], "CREATE TABLE IF NOT EXISTS fill (); INSERT INTO fill DEFAULT VALUES").await;
        sql(&urls[0], "SELECT pg_switch_wal()").await;
    }
    sql(&urls[0], "CHECKPOINT").await;
    doctor(&urls, &[]).await.ends(20).has("fault", "slot_lost").has_not("slot_inactive");
}

#[tokio::test]
async fn an_encoding_that_cannot_hold_json_is_found() {
    let url = cluster().await.primary().url();
    sql(&url, "CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0").await;
    let (start, _) = url.rsplit_once('/').unwrap();
    doctor(&[format!("{start}/latin")], &[]).await.ends(20).has("fault", "encoding");
}

/// An old snapshot keeps the server from freezing rows, until it has to refuse writes.
#[tokio::test]
async fn transactions_that_run_out_are_found() {
    let builder = LocalCluster::builder().replicas(0).setting("autovacuum_freeze_max_age", "100000");
    let cluster = started(builder).await;
    let urls = nodes(&cluster);
    doctor(&urls, &[]).await.has_not("wraparound");
    let router = mainstem::Router::builder().primary(&urls[0]).connect().await.unwrap();
    let old = router.transaction().isolation(mainstem::Isolation::RepeatableRead).timeout(Duration::from_secs(600));
    let old = old.await.unwrap();
    old.query_one("SELECT 1", &[]).await.unwrap();
    let each_has_an_id = "CREATE TABLE burnt (); DO $$ BEGIN FOR n IN 1..201000 LOOP BEGIN
        INSERT INTO burnt DEFAULT VALUES; EXCEPTION WHEN division_by_zero THEN NULL; END; END LOOP; END $$";
    sql(&urls[0], each_has_an_id).await;
    doctor(&urls, &[]).await.has("warning", "wraparound");
    old.rollback().await.unwrap();
}

#[tokio::test]
async fn a_forgotten_transaction_is_found() {
    let (database, urls, _store) = log().await;
    let router = mainstem::Router::builder().primary(database.primary_url()).connect().await.unwrap();
    let transaction = router.transaction().timeout(Duration::from_secs(600)).await.unwrap();
    transaction.query_one("SELECT 1", &[]).await.unwrap();
    doctor(&urls, &[]).await.has_not("idle_in_transaction");
    doctor(&urls, &["--max-idle", "0"]).await.has("warning", "idle_in_transaction");
    transaction.rollback().await.unwrap();
    doctor(&urls, &["--max-idle", "0"]).await.has_not("idle_in_transaction");
}
