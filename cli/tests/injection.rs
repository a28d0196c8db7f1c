//! Names of logs, events, filters and files that would do harm if anybody took them for SQL: every command takes them as they are, or
//! refuses them before it does anything.

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Ran, cluster, run_with, sql, urls};

/// Texts that nothing keeps out of an event.
const HOSTILE: [&str; 4] = [
    "'; DROP TABLE public.canary; --",
    "$body$; DROP TABLE public.canary; --",
    "\\'; DROP TABLE public.canary; --",
    "x ORDER BY y",
];

/// A schema and a log each: what the statements have themselves, what is put into them, and what would end a name.
const NAMES: [(&str, &str); 3] = [
    ("x ORDER BY y", "x ORDER BY y"),
    ("a\"; DROP TABLE public.canary; --", "b\"; DROP TABLE public.canary; --"),
    ("\"mainstem\".\"events\" /* filter */", "WHERE /* head */ LIMIT 1 \"events\""),
];

/// One for each test, with what must not be touched.
async fn database() -> (mainstem::testing::TestDatabase<'static>, Vec<String>) {
    let database = cluster().await.database().await.unwrap();
    let urls = urls(&database);
    sql(&urls[0], "CREATE TABLE public.canary AS SELECT 1 AS n").await;
    (database, urls)
}

/// The canary lives, and what another log is called was not touched.
async fn is_unharmed(urls: &[String]) {
    let unharmed = "ASSERT (SELECT count(*) FROM public.canary) = 1; ASSERT to_regclass('mainstem.events') IS NULL";
    sql(&urls[0], &format!("DO $$ BEGIN {unharmed}; END $$")).await;
}

async fn run_on(urls: &[String], (schema, log): (&str, &str), args: &[&str], stdin: &str) -> Ran {
    let names = [format!("--schema={schema}"), format!("--log={log}")];
    run_with(urls, &[args, &[&*names[0], &*names[1]]].concat(), stdin).await
}

#[tokio::test]
async fn every_command_works_with_hostile_names_and_events() {
    for name in NAMES {
        let ((_database, from), (_other, to)) = (database().await, database().await);
        let on = async |urls: &[String], args: &[&str], stdin: &str| run_on(urls, name, args, stdin).await;
        on(&from, &["migrate"], "").await.ok();
        on(&to, &["migrate"], "").await.ok();
        for text in HOSTILE {
            let json = json!({text: text});
            let event = json!({"type": text, "tags": [text], "payload": json, "metadata": json}).to_string();
            on(&from, &["append", "--stream", text, "--expect", "none"], &event).await.ok();
            let of = json!([{"payload": json}, {"metadata": json}]);
            let filter = json!({"any_type_of": [text], "all_tags_of": [text], "all_predicates_of": of});
            let filter = json!({"matching": [filter]}).to_string();
            on(&from, &["append", "--fail-if", &filter], &event).await.failed(3, &["position"]);
            let tail = ["tail", "--no-follow", "--primary", "--after", "0"];
            let json = json.to_string();
            let options = ["--type", text, "--tag", text, "--payload", &json, "--metadata", &json];
            for options in [&["--filter", &filter][..], &options] {
                let found = on(&from, &[&tail, options].concat(), "").await.lines();
                assert_eq!(found.len(), 1, "{found:?}");
                assert_eq!((&found[0]["type"], &found[0]["stream"]), (&json!(text), &json!(text)));
            }
        }

        let folder = TempDir::new().unwrap();
        let file = folder.path().join("log").to_str().unwrap().to_owned();
        on(&from, &["export", "--primary", &file], "").await.ok();
        let whole = std::fs::read_to_string(&file).unwrap();
        assert_eq!(whole.lines().count(), 1 + HOSTILE.len());
        std::fs::write(&file, &whole[..whole.len() - 20]).unwrap();
        on(&from, &["export", "--primary", "--resume", &file], "").await.ok();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), whole);
        let rest = on(&from, &["export", "--primary", "--after", "1"], "").await.lines();
        assert_eq!(rest.len(), HOSTILE.len());

        on(&to, &["import", &file], "").await.ok();
        assert_eq!(on(&to, &["export", "--primary"], "").await.ok(), whole);
        for urls in [&from, &to] {
            on(urls, &["verify"], "").await.ok();
            let doctor = on(urls, &["doctor", "--json"], "").await;
            assert!([0, 10, 20].contains(&doctor.status), "{doctor:#?}");
            for line in doctor.stdout.lines() {
                let finding: Value = serde_json::from_str(line).unwrap();
                let check = finding["check"].as_str().unwrap();
                assert!(!["schema", "grants", "invalid_index"].contains(&check), "{line}");
            }
            is_unharmed(urls).await;
        }
    }
}

#[tokio::test]
async fn names_that_cannot_be_are_refused_by_each_command() {
    let (_database, urls) = database().await;
    for text in &HOSTILE[..3] {
        for name in [(*text, "events"), ("mainstem", *text)] {
            for command in ["migrate", "append", "tail", "export", "import", "verify", "doctor"] {
                let ran = run_on(&urls, name, &[command], r#"{"type": "A", "payload": 1}"#).await;
                ran.failed(2, &["the name of the"]);
            }
        }
    }
    is_unharmed(&urls).await;
}

#[tokio::test]
async fn hostile_text_in_an_export_or_filter_is_refused() {
    let (_database, urls) = database().await;
    let name = NAMES[0];
    run_on(&urls, name, &["migrate"], "").await.ok();
    let id = "01890000-0000-7000-8000-000000000001";
    let header = json!({"mainstem_export": 1, "after": {"position": 0}, "until": {"position": 1, "id": id}});
    let time = "2026-01-31T12:00:00Z";
    let event = json!({
        "position": 1, "id": id, "type": "A", "tags": [], "payload": 1, "metadata": {}, "occurred_at": time,
        "recorded_at": time, "following": 0
    });
    let with = |json: &Value, part: &str, text: &str| {
        let mut json = json.clone();
        json[part] = text.into();
        json
    };
    for text in HOSTILE {
        for part in ["mainstem_export", "after", "until", text] {
            let file = format!("{}\n{event}\n", with(&header, part, text));
            run_on(&urls, name, &["import"], &file).await.failed(2, &["line 1"]);
        }
        for part in ["position", "id", "tags", "bytes", "occurred_at", "recorded_at", "version", "following", text] {
            let file = format!("{header}\n{}\n", with(&event, part, text));
            run_on(&urls, name, &["import"], &file).await.failed(2, &["line 2"]);
        }
        let file = format!("{text}\n{text}\n");
        run_on(&urls, name, &["import"], &file).await.failed(2, &["line 1"]);
        run_on(&urls, name, &["append", "--fail-if", text], &event.to_string()).await.failed(2, &["not a filter"]);
        run_on(&urls, name, &["tail", "--filter", text], "").await.failed(2, &["not a filter"]);
    }
    run_on(&urls, name, &["export", "--primary"], "").await.failed(1, &["the log is empty"]);
    // The same without what is wrong is an export.
    run_on(&urls, name, &["import"], &format!("{header}\n{event}\n")).await.ok();
    is_unharmed(&urls).await;
}
