//! `mainstem append`.

use mainstem::{EventStore, Filter, Payload};
use serde_json::json;

use crate::support::{cluster, command, fill, log, run, run_with, urls};

const LENT: &str = r#"{"type": "BookLent", "tags": ["book:b-1"], "payload": {"BookID": "b-1"}}"#;

#[tokio::test]
async fn arguments_are_one_append_and_so_are_lines() {
    let (_database, urls, store) = log().await;
    let answer = &run(&urls, &["append", LENT, r#"{"type": "Nothing", "payload": null}"#]).await.lines()[0];
    assert_eq!(
        (&answer["first_position"], &answer["last_position"], &answer["repeated"]),
        (&json!(1), &json!(2), &json!(false))
    );
    let id = "01890000-0000-7000-8000-000000000001";
    let line = format!(
        r#"{{"type": "Scanned", "bytes": "iVBORw==", "content_type": "image/png", "id": "{id}", "metadata": {{"n": 1.50}},
            "occurred_at": "2026-01-31T12:00:00.123456Z"}}"#
    );
    let line = line.replace('\n', " ");
    for repeated in [false, true] {
        let answer = &run_with(&urls, &["append"], &format!("{line}\n\n")).await.lines()[0];
        assert_eq!(
            (&answer["last_position"], &answer["last_id"], &answer["repeated"]),
            (&json!(3), &json!(id), &json!(repeated))
        );
    }
    let history = store.query(&Filter::any_event()).await.unwrap();
    assert_eq!(history[0].tags().collect::<Vec<_>>(), ["book:b-1"]);
    assert_eq!(history[1].payload().to_string(), "null");
    assert_eq!(history[2].payload(), &Payload::bytes("image/png", *b"\x89PNG"));
    assert_eq!(history[2].metadata().as_str(), r#"{"n": 1.50}"#);
    let micros = history[2].occurred_at().duration_since(std::time::UNIX_EPOCH).unwrap().as_micros();
    assert_eq!(micros, 1_769_860_800_123_456);
}

#[tokio::test]
async fn a_condition_that_does_not_hold_writes_nothing() {
    let (_database, urls, store) = log().await;
    fill(&store, "Other", 1).await;
    let filter = r#"{"matching": [{"all_tags_of": ["book:b-1"]}]}"#;
    run(&urls, &["append", LENT, "--fail-if", filter]).await.ok();
    run(&urls, &["append", LENT, "--fail-if", filter]).await.failed(3, &["BookLent", "position 2"]);
    run(&urls, &["append", LENT, "--fail-if", filter, "--after", "1"]).await.failed(3, &["position 2"]);
    run(&urls, &["append", LENT, "--fail-if", filter, "--after", "2"]).await.ok();
    // An id that is not there: the log has lost what was read.
    let lost = "3:01890000-0000-7000-8000-000000000001";
    run(&urls, &["append", LENT, "--fail-if", filter, "--after", lost]).await.failed(1, &["position 3"]);
    assert_eq!(*store.count(&Filter::any_event()).await.unwrap(), 3);
}

#[tokio::test]
async fn a_stream_has_the_version_that_is_expected_or_nothing_is_written() {
    let (_database, urls, _store) = log().await;
    let to = |version| ["append", LENT, "--stream", "book-1", "--expect", version];
    let answer = run(&urls, &to("none")).await.lines();
    assert_eq!((&answer[0]["first_version"], &answer[0]["last_version"]), (&json!(1), &json!(1)));
    run(&urls, &to("none")).await.failed(3, &["book-1"]);
    run(&urls, &to("1")).await.ok();
    run(&urls, &to("1")).await.failed(3, &["book-1"]);
    run(&urls, &to("any")).await.ok();
    run(&urls, &to("last")).await.failed(2, &["last"]);
}

#[tokio::test]
async fn more_than_one_append_goes_in_chunks() {
    let (_database, urls, store) = log().await;
    let lines: String = (0..25).map(|n| format!("{{\"type\": \"Many\", \"payload\": {n}}}\n")).collect();
    let answer = &run_with(&urls, &["append", "--chunk", "10"], &lines).await.lines()[0];
    assert_eq!((&answer["events"], &answer["last_position"]), (&json!(25), &json!(25)));
    // More, where one of them has locked the log for long.
    assert!(answer["chunks"].as_u64() >= Some(3), "{answer}");
    assert_eq!(*store.count(&Filter::any_event()).await.unwrap(), 25);
}

/// Whoever is told that it failed would append it again.
#[tokio::test]
async fn append_reports_written_events_when_its_output_cannot_be_written() {
    let (_database, urls, store) = log().await;
    for chunk in [&[][..], &["--chunk", "10"]] {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let append = command(&urls, &[&["append", LENT], chunk].concat()).stdout(full).spawn().unwrap();
        let output = append.wait_with_output().await.unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(5), "{stderr}");
        let last = store.last(&Filter::any_event()).await.unwrap();
        assert!(
            stderr.contains("the events were written") && stderr.contains(&last.as_ref().unwrap().id().to_string()),
            "{stderr}"
        );
    }
    assert_eq!(*store.count(&Filter::any_event()).await.unwrap(), 2);
}

#[tokio::test]
async fn an_append_refused_after_some_chunks_reports_how_much_was_written() {
    let (_database, urls, store) = log().await;
    let id = "01890000-0000-7000-8000-000000000001";
    run(&urls, &["append", &format!(r#"{{"type": "A", "payload": 0, "id": "{id}"}}"#)]).await.ok();
    let line = |n| match n {
        13 => format!("{{\"type\": \"B\", \"payload\": 1, \"id\": \"{id}\"}}\n"),
        n => format!("{{\"type\": \"B\", \"payload\": {n}}}\n"),
    };
    let lines: String = (1..=20).map(line).collect();
    let stderr = run_with(&urls, &["append", "--chunk", "5"], &lines).await.failed(2, &["events were written before"]);
    let written = *store.count(&Filter::any_event()).await.unwrap() - 1;
    assert!(
        (5..13).contains(&written) && stderr.contains(&format!("{written} events were written before")),
        "{stderr}"
    );
    // In the first one it is as without chunks.
    let taken = line(13);
    run_with(&urls, &["append", "--chunk", "5"], &taken).await.failed(2, &["position 1"]);
}

#[tokio::test]
async fn append_refuses_invalid_input_with_its_line_and_writes_nothing() {
    let (_database, urls, store) = log().await;
    for (line, says) in [
        ("", "there are no events"),
        ("{", "line 2"),
        (r#"{"type": "A"}"#, "either a payload, or bytes"),
        (r#"{"type": "A", "payload": 1, "bytes": "AA==", "content_type": "x/y"}"#, "either a payload, or bytes"),
        (r#"{"type": "A", "bytes": "?", "content_type": "x/y"}"#, "base64"),
        (r#"{"type": "", "payload": 1}"#, "line 2"),
        (r#"{"type": "A", "payload": 1, "tag": "x"}"#, "unknown field `tag`"),
        (r#"{"type": "A", "payload": 1, "occurred_at": "yesterday"}"#, "not a time such as"),
        (r#"{"type": "A", "payload": "\u0000"}"#, "payload"),
    ] {
        let stdin = if line.is_empty() { String::new() } else { format!("{LENT}\n{line}\n") };
        run_with(&urls, &["append"], &stdin).await.failed(2, &[says]);
    }
    run(&urls, &["append", LENT, "--after", "1"]).await.failed(2, &["--fail-if"]);
    run(&urls, &["append", LENT, "--fail-if", "{}"]).await.failed(2, &["--fail-if"]);
    assert_eq!(*store.count(&Filter::any_event()).await.unwrap(), 0);
}

#[tokio::test]
async fn without_a_log_it_says_so() {
    let database = cluster().await.database().await.unwrap();
    run(&urls(&database), &["append", LENT]).await.failed(1, &["mainstem"]);
}
