//! The public suite of dynamic consistency boundaries: what its scripts check holds over real HTTP, its contract is kept, and a
//! server that breaks a rule does not pass.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use mainstem::{EventStore, PostgresEventStore};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use self::example::{
    app::app,
    browser::Browser,
    checks::{self, Seen, Size},
    client::{Client, Options},
    fixture::{Item, NewEvent, Query},
    flaw::Flaw,
};
use crate::event_store::fresh_log;

#[path = "../../examples/dcb_suite/main.rs"]
#[allow(dead_code, unreachable_pub, missing_docs, clippy::duplicate_mod, reason = "it is a program of its own")]
mod example;

/// Long enough for contention on a busy machine, and short enough for each change.
const SIZE: Size = Size { duration: Duration::from_secs(2), verified: 150, seed: 7 };

async fn serve(store: PostgresEventStore, flaw: Option<Flaw>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app(store, flaw)).await });
    address
}

/// A client of a server on a log of its own.
async fn client(flaw: Option<Flaw>) -> Arc<Client> {
    Arc::new(Client::new(serve(fresh_log().await, flaw).await))
}

fn holds(seen: &Seen) {
    assert_eq!(seen.broken, Vec::<String>::new());
    assert!(seen.checks > 10, "next to nothing was checked: {seen:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consistency_holds_and_a_server_that_ignores_conditions_does_not_pass() {
    let seen = checks::consistency(&client(None).await, SIZE).await.unwrap();
    holds(&seen);
    // Without contention it has shown nothing; and who refuses everything would pass.
    assert!(seen.refused > 10 && seen.appends - seen.refused > 10, "{seen:?}");
    let seen = checks::consistency(&client(Some(Flaw::NoCondition)).await, SIZE).await.unwrap();
    assert!(!seen.broken.is_empty() && seen.refused == 0, "{seen:?}");
}

/// On a busy machine so much is appended between two reads that the last positions of the one and of the other have none in common.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn positions_never_come_late_and_a_server_that_hides_some_for_a_while_does_not_pass() {
    for flaw in [None, Some(Flaw::HiddenEvents)] {
        let mut tries = 0;
        loop {
            let seen = checks::monotonic(&client(flaw).await, SIZE).await.unwrap();
            assert!(flaw.is_some() || seen.broken.is_empty(), "{seen:?}");
            if !seen.broken.is_empty() || flaw.is_none() && seen.checks > 0 {
                break;
            }
            tries += 1;
            assert!(tries < 10, "{flaw:?} has shown nothing: {seen:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unrelated_writes_do_not_fail_and_a_server_that_refuses_them_does_not_pass() {
    holds(&checks::parallel_writes(&client(None).await, SIZE).await.unwrap());
    let seen = checks::parallel_writes(&client(Some(Flaw::WideCondition)).await, SIZE).await.unwrap();
    assert!(!seen.broken.is_empty(), "{seen:?}");
}

fn new_event(r#type: &str, tags: &[&str], data: &str) -> NewEvent {
    NewEvent {
        r#type: r#type.to_owned(),
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        data: data.to_owned(),
    }
}

fn of(types: &[&str], tags: &[&str]) -> Query {
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    Query { items: vec![Item { types: texts(types), tags: texts(tags) }] }
}

#[tokio::test]
async fn the_contract_of_the_suite_is_kept() {
    let store = fresh_log().await;
    let client = Client::new(serve(store.clone(), None).await);
    assert_eq!(client.read(&Query::all(), None).await.unwrap(), []);
    // What is in `data` is nobody's business here.
    let events = [
        new_event("A", &["x", "y"], "{\"a\": 1 }"),
        new_event("B", &["x"], "no JSON \0 '\"\\ 😀"),
        new_event("A", &[], ""),
    ];
    let never = of(&["Never"], &[]);
    assert!(!client.append(&events, &never, None).await.unwrap().append_condition_failed);
    let log = client.read(&Query::all(), None).await.unwrap();
    assert_eq!(log.iter().map(|read| read.position).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(log.into_iter().map(|read| read.event).collect::<Vec<_>>(), events);

    let read = async |query: &Query, from, limit, backwards| {
        let read = client.read(query, Some(Options { from, limit, backwards })).await.unwrap();
        read.iter().map(|read| read.position).collect::<Vec<_>>()
    };
    let all = Query::all();
    assert_eq!(read(&all, None, None, None).await, [1, 2, 3]);
    assert_eq!(read(&all, Some(0), Some(1), None).await, [1]);
    assert_eq!(read(&all, Some(2), None, Some(false)).await, [2, 3], "from there on, itself included");
    assert_eq!(read(&all, None, Some(2), Some(true)).await, [3, 2]);
    assert_eq!(read(&all, Some(2), None, Some(true)).await, [2, 1]);
    assert_eq!(read(&all, Some(0), Some(0), Some(true)).await, [3, 2, 1]);
    assert_eq!(read(&of(&["A"], &[]), None, None, None).await, [1, 3]);
    assert_eq!(read(&of(&["A", "B"], &["x"]), None, None, None).await, [1, 2]);
    assert_eq!(read(&of(&[], &["x", "y"]), Some(1), Some(5), None).await, [1]);
    let either = Query { items: [of(&["B"], &[]).items, of(&[], &["y"]).items].concat() };
    assert_eq!(read(&either, None, None, Some(true)).await, [2, 1]);
    assert_eq!(client.last_position(&of(&["A"], &["x"])).await.unwrap(), 1);
    assert_eq!(client.last_position(&never).await.unwrap(), 0);

    // A condition counts from its position on; without one, from the beginning; of every event.
    let append = async |query: &Query, after| {
        client.append(&[new_event("C", &[], "{}")], query, after).await.unwrap().append_condition_failed
    };
    assert!(append(&of(&["A"], &["x"]), None).await);
    assert!(append(&of(&["A"], &["x"]), Some(0)).await);
    assert!(append(&of(&["A"], &[]), Some(2)).await);
    assert!(append(&all, Some(2)).await);
    assert!(!append(&of(&["A"], &["x"]), Some(1)).await);
    assert!(!append(&all, Some(4)).await);
    assert_eq!(store.count(&mainstem::Filter::any_event()).await.unwrap().into_inner(), 5);
}

#[tokio::test]
async fn requests_outside_the_dcb_contract_are_refused_and_write_nothing() {
    let store = fresh_log().await;
    let browser = Browser::new([serve(store.clone(), None).await]);
    let event = json!({"type": "A", "tags": [], "data": "{}"});
    let refused = async |body: Value| {
        let answer = browser.post("/append", &body).await.unwrap();
        assert_eq!(answer.status.as_u16(), 400, "{body}");
    };
    // A condition that is mistyped must not be taken for none, and an item that asks for nothing not for every event.
    refused(json!({"events": [event], "condition": {"failIfEventMatches": {"items": []}}})).await;
    refused(json!({"events": [event], "condition": {"failIfEventsMatch": {"items": [{"type": ["A"]}]}}})).await;
    refused(json!({"events": [event], "condition": {"failIfEventsMatch": {"items": [{}]}}})).await;
    refused(json!({"events": [event], "condition": {"failIfEventsMatch": {"items": []}, "after": -1}})).await;
    refused(json!({"events": [event], "conditions": {}})).await;
    refused(json!({"events": []})).await;
    refused(json!({"events": [{"type": "", "tags": [], "data": ""}]})).await;
    refused(json!({"events": [{"type": "A", "tags": ["\0"], "data": ""}]})).await;
    for path in [
        "/read",
        "/read?query=1",
        "/read?query=%7B%22items%22%3A%5B%7B%7D%5D%7D",
        "/read?query=%7B%22items%22%3A%5B%5D%7D&options=%7B%22form%22%3A1%7D",
    ] {
        assert_eq!(browser.get(path).await.unwrap().status.as_u16(), 400, "{path}");
    }
    // Not of this log: the position is behind its end.
    let beyond = json!({"events": [event], "condition": {"failIfEventsMatch": {"items": []}, "after": 9}});
    assert_eq!(browser.post("/append", &beyond).await.unwrap().status.as_u16(), 412);
    assert_eq!(store.count(&mainstem::Filter::any_event()).await.unwrap().into_inner(), 0);
    // No condition at all is none.
    let answer = browser.post("/append", &json!({"events": [event]})).await.unwrap();
    assert_eq!((answer.status.as_u16(), &answer.body["appendConditionFailed"]), (200, &json!(false)));
}
