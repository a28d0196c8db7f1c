//! `mainstem tail`.

use mainstem::{AppendCondition, EventStore, NewEvent, Payload};
use serde_json::{Value, json};

use crate::support::{Ran, fill, log, run, start};

fn positions(ran: Ran) -> Vec<u64> {
    ran.lines().iter().map(|line| line["position"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn tail_prints_new_events_until_ctrl_c() {
    let (_database, urls, store) = log().await;
    fill(&store, "Old", 2).await;
    let mut tail = start(&urls, &["tail", "--after", "1"]);
    let line: Value = serde_json::from_str(&tail.line().await).unwrap();
    assert_eq!((&line["position"], &line["type"], &line["payload"]), (&json!(2), &json!("Old"), &json!({"n": 2})));
    let new = NewEvent::from_payload("New", Payload::bytes("x/y", *b"\x01\x02"));
    store.append([new], AppendCondition::none()).await.unwrap();
    let line: Value = serde_json::from_str(&tail.line().await).unwrap();
    assert_eq!((&line["position"], &line["bytes"], &line["content_type"]), (&json!(3), &json!("AQI="), &json!("x/y")));
    let end = tail.interrupt().await;
    assert_eq!((end.status, &*end.stderr), (0, ""), "{end:?}");
}

#[tokio::test]
async fn tail_continues_after_its_connections_are_lost() {
    let (database, urls, store) = log().await;
    let mut tail = start(&urls, &["tail", "--after", "0", "--primary"]);
    fill(&store, "A", 1).await;
    assert!(tail.line().await.contains("\"A\""));
    for round in 0..3 {
        let admin = mainstem::Router::builder().primary(database.primary_url()).connect().await.unwrap();
        let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                    WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'";
        let client = admin.client().await.unwrap();
        assert!(!client.query(kill, &[]).await.unwrap().is_empty(), "{round}");
        // Ours have gone with the others.
        let router = mainstem::Router::builder().primary(database.primary_url()).connect().await.unwrap();
        fill(&mainstem::PostgresEventStore::new(&router), "B", 1).await;
        assert!(tail.line().await.contains("\"B\""), "{round}");
    }
    let end = tail.interrupt().await;
    assert_eq!(end.status, 0, "{end:?}");
}

#[tokio::test]
async fn tail_prints_the_events_selected_by_its_options() {
    let (_database, urls, store) = log().await;
    fill(&store, "A", 3).await;
    let third = store.query(&mainstem::Filter::any_event()).await.unwrap()[2].recorded_at();
    let micros = third.duration_since(std::time::UNIX_EPOCH).unwrap().as_micros().to_string();
    fill(&store, "B", 3).await;
    let tail = async |args: &[&str]| positions(run(&urls, &[&["tail", "--no-follow"], args].concat()).await);
    assert_eq!(tail(&["--after", "0"]).await, [1, 2, 3, 4, 5, 6]);
    assert_eq!(tail(&["--after", "4"]).await, [5, 6]);
    assert_eq!(tail(&["--since", &micros]).await, [3, 4, 5, 6]);
    assert_eq!(tail(&["--after", "0", "--limit", "2"]).await, [1, 2]);
    assert_eq!(tail(&[]).await, [0_u64; 0]);
    assert_eq!(tail(&["--after", "0", "--type", "B", "--primary"]).await, [4, 5, 6]);
    assert_eq!(tail(&["--after", "0", "--type", "B", "--type", "A", "--tag", "n:2"]).await, [2, 5]);
    assert_eq!(tail(&["--after", "0", "--payload", r#"{"n": 3}"#]).await, [3, 6]);
    assert_eq!(
        tail(&["--after", "0", "--filter", r#"{"matching": [{"any_type_of": ["A"]}]}"#, "--limit", "1"]).await,
        [1]
    );
    assert_eq!(tail(&["--after", "0", "--type", "C"]).await, [0_u64; 0]);
}

#[tokio::test]
async fn wrong_options_are_refused() {
    let (_database, urls, _store) = log().await;
    for (args, says) in [
        (vec!["--after", "1", "--since", "0"], "cannot be used with"),
        (vec!["--since", "yesterday"], "not a time such as"),
        (vec!["--payload", "{"], "not JSON"),
        (vec!["--payload", "{}"], "filter"),
        (vec!["--filter", "{}"], "not a filter"),
        (vec!["--type", ""], "filter"),
    ] {
        run(&urls, &[&["tail"], &*args].concat()).await.failed(2, &[says]);
    }
    run(&urls, &["tail", "--after", "7", "--limit", "1"]).await.failed(2, &["which ends at position 0"]);
}

#[tokio::test]
async fn tail_ends_quietly_when_its_reader_stops() {
    let (_database, urls, store) = log().await;
    fill(&store, "A", 1).await;
    let mut tail = start(&urls, &["tail", "--after", "0"]);
    tail.line().await;
    let crate::support::Running { mut child, lines } = tail;
    drop(lines);
    fill(&store, "B", 1).await;
    let status = tokio::time::timeout(crate::support::HANG, child.wait()).await.expect("no hang").unwrap();
    assert_eq!(status.code(), Some(141));
    let stderr = child.wait_with_output().await.unwrap().stderr;
    assert_eq!(String::from_utf8(stderr).unwrap(), "");
}
