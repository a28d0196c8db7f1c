//! Text and numbers that break code which splices, cuts, folds or trims them. Each is stored, found and guarded exactly
//! as it is, or refused with the name of its field before anything is written.

use std::time::{Duration, SystemTime};

use mainstem::{
    Append, AppendCondition, Error, ErrorKind, Event, EventStore, Filter, Json, NewEvent, PostgresEventStore, Predicate,
};
use serde_json::json;

use crate::support::{broken_by, event, refuse_probes, store};

const HOSTILE: [&str; 35] = [
    "O'Reilly",
    "''",
    "\"",
    "\"quoted\"",
    "\\",
    "\\\\",
    "back\\slash\\'",
    "%",
    "_",
    "a%b_c",
    "$1",
    "$$",
    "$body$",
    "?",
    "{}",
    "{a,b}",
    "{\"a\",NULL}",
    "NULL",
    "null",
    "a,b",
    ",",
    "line\nbreak",
    "\r\n",
    "tab\there",
    " ",
    " leading and trailing ",
    "😀",
    "\u{ffff}",
    "\u{10ffff}",
    "e\u{301}",
    "é",
    "\u{202e}right to left\u{200f}",
    "\u{1}\u{7f}\u{feff}",
    "'; DROP TABLE \"mainstem\".\"events\"; --",
    "\"}' or true --",
];

/// Other texts that a sloppy comparison takes for the same.
fn similar(text: &str) -> Vec<String> {
    let mut others =
        vec![format!("{text} "), format!("{text}{text}"), text.replace('\\', "\\\\"), text.replace('\'', "''")];
    others.extend([text.to_uppercase(), text.to_lowercase(), text.trim().to_owned(), format!("\"{text}\"")]);
    others.retain(|other| !other.is_empty() && other != text && !HOSTILE.contains(&&**other));
    others
}

/// Everything that can be asked about an event of `hostile`.
fn filters(text: &str) -> Vec<Filter> {
    let start = Filter::matching;
    let of = |predicate| start().any_predicate_of([predicate]).finish();
    let filters = [
        start().any_type_of([text]).finish(),
        start().all_tags_of([text]).finish(),
        start().any_type_of([text, "no other"]).and_all_tags_of([text, "all"]).finish(),
        of(Predicate::payload("value", text)),
        of(Predicate::payload(text, text)),
        of(Predicate::payload(text, json!({"is": "the key"}))),
        of(Predicate::payload(["nested", text, "deep"], [text])),
        of(Predicate::payload_contains(&json!({"nested": {text: {}}}))),
        of(Predicate::metadata("value", text)),
        of(Predicate::metadata(["nested", text], json!(true))),
    ];
    filters.map(Result::unwrap).into()
}

fn hostile(text: &str) -> [NewEvent; 2] {
    // A key cannot have two values, so there are two events.
    let nested = json!({text: {"deep": [0, text]}});
    let metadata = json!({"value": text, "nested": {text: true}});
    let first = event(text, json!({"value": text, text: text, "nested": nested})).with_tags([text, "all"]);
    [first.with_metadata(&metadata).unwrap(), event("Key", json!({text: {"is": "the key", "and": 1}}))]
}

#[tokio::test]
async fn hostile_text_is_stored_found_and_guarded_as_it_is() {
    let (_database, router, store) = store().await;
    let events: Vec<NewEvent> = HOSTILE.iter().flat_map(|text| hostile(text)).collect();
    store.append(events.clone(), AppendCondition::none()).await.unwrap();
    assert!(store.append(events.clone(), AppendCondition::none()).await.unwrap().is_repeated());
    refuse_probes(&router).await;
    let log = store.query(&Filter::any_event()).await.unwrap();
    let recorded = events.into_iter().zip(1..).zip(&log);
    let recorded: Vec<_> =
        recorded.map(|((event, position), read)| event.into_recorded(position, read.recorded_at())).collect();
    assert_eq!(log.events(), recorded);

    for (index, text) in HOSTILE.into_iter().enumerate() {
        let first = 2 * index as u64 + 1;
        for (number, filter) in filters(text).into_iter().enumerate() {
            let position = first + u64::from(number == 5);
            found(&store, &log, &filter, Some(position)).await;
        }
        for other in similar(text) {
            let filters = filters(&other);
            for number in [0, 1, 3, 5] {
                found(&store, &log, &filters[number], None).await;
            }
        }
    }
}

/// Matched, read, judged before the lock and judged under it: all say that this event alone matches, or none.
async fn found(store: &PostgresEventStore, log: &[Event], filter: &Filter, expected: Option<u64>) {
    let matching: Vec<u64> = log.iter().filter(|event| filter.matches(event)).map(|event| event.position()).collect();
    assert_eq!(matching, Vec::from_iter(expected), "{filter:?}");
    let read: Vec<u64> = store.query(filter).await.unwrap().iter().map(|event| event.position()).collect();
    assert_eq!(read, Vec::from_iter(expected), "{filter:?}");
    let guard = AppendCondition::fail_if_events_match(filter.clone());
    for condition in [guard.clone(), guard.after_position(0)] {
        let broken = broken_by(store, condition).await.unwrap();
        assert_eq!(broken.map(|(position, _)| position), expected, "{filter:?}");
    }
}

fn refused<T: std::fmt::Debug>(outcome: Result<T, Error>, parts: &[&str]) {
    let error = outcome.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{}", error.report());
    assert!(error.node().is_none() && error.to_string().len() < 1_000, "{error}");
    for part in parts {
        assert!(error.to_string().contains(part), "{error} does not say {part:?}");
    }
}

#[tokio::test]
async fn values_postgres_cannot_hold_are_refused_by_field_before_sending() {
    let (_database, _router, store) = store().await;
    let append =
        async |event: NewEvent| store.append([self::event("Fine", json!({})), event], AppendCondition::none()).await;
    let long = |len: usize| "x".repeat(len);
    refused(append(event("a\0b", json!({}))).await, &["events[1]", "type", "NUL"]);
    refused(append(event("", json!({}))).await, &["events[1]", "type", "empty"]);
    refused(append(event(&long(256), json!({}))).await, &["events[1]", "type", "255"]);
    for (tag, part) in
        [("a\0b", "NUL"), ("", "empty"), (&*long(1025), "1024"), (&*long(6_000), "1024"), (&*long(1 << 20), "1024")]
    {
        refused(append(event("A", json!({})).with_tag(tag)).await, &["events[1]", "tag", part]);
        refused(Filter::matching().all_tags_of([tag]).finish(), &["all_tags_of", "tag", part]);
    }
    let tags = (0..65).map(|tag| tag.to_string());
    refused(append(event("A", json!({})).with_tags(tags)).await, &["events[1]", "65 tags", "64"]);
    for text in ["a\0b", "", &long(256)] {
        refused(Filter::matching().any_type_of([text]).finish(), &["any_type_of", "type"]);
    }

    for value in [json!({"k": "a\0b"}), json!({"a\0b": 1}), json!([{"k": ["\0"]}])] {
        refused(NewEvent::new("A", &value), &["payload", "u0000"]);
        refused(event("A", json!({})).with_metadata(&value), &["metadata", "u0000"]);
        let of = |predicate| Filter::matching().any_predicate_of([predicate]).finish();
        refused(of(Predicate::payload("k", &value)), &["any_predicate_of[0]", "u0000"]);
        refused(of(Predicate::metadata(["a\0", "b"], 1)), &["any_predicate_of[0]", "u0000"]);
    }
    for text in [
        "\"\0\"",
        "{\"a\":\"\u{1}\"}",
        "\"\\ud800\"",
        "1e131072",
        "1e-16384",
        "NaN",
        "Infinity",
        "1.",
        "{a:1}",
        "'a'",
        "",
    ] {
        refused(Json::from_text(text), &["byte", "$"]);
    }
    let deep = |levels: usize| Json::from_text("[".repeat(levels) + &"]".repeat(levels));
    refused(deep(128), &["127 levels"]);
    let path = |keys: usize| Predicate::payload(vec!["k"; keys], 1);
    refused(Filter::matching().any_predicate_of([path(128)]).finish(), &["any_predicate_of[0]", "127 levels"]);

    for time in [
        SystemTime::UNIX_EPOCH - Duration::from_micros(210_866_803_200_000_000),
        SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 60),
    ] {
        refused(append(event("A", json!({})).with_occurred_at(time)).await, &["events[1]", "occurred_at"]);
    }
    assert_eq!(store.query(&Filter::any_event()).await.unwrap().len(), 0);
}

#[tokio::test]
async fn at_every_limit_an_event_is_stored_and_found() {
    let (_database, router, store) = store().await;
    let event_type = "é".repeat(127) + "x";
    let tags: Vec<String> = (0..64).map(|tag| format!("{tag:02}") + &"😀".repeat(255) + "xy").collect();
    assert_eq!((event_type.len(), tags[0].len()), (NewEvent::MAX_TYPE_LEN, NewEvent::MAX_TAG_LEN));
    let long_key = "k".repeat(6_000);
    let huge_key = "h".repeat(1_000_000);
    let nested = "{\"k\":".repeat(126) + "[1]" + &"}".repeat(126);
    let low = SystemTime::UNIX_EPOCH - Duration::from_micros(210_866_803_199_999_999);
    let high = SystemTime::UNIX_EPOCH + Duration::from_micros(i64::MAX.unsigned_abs() - 1);
    let events = [
        event(&event_type, json!({})).with_tags(tags.clone()),
        event("Keys", json!({&*long_key: 1})).with_metadata(&json!({&*huge_key: 1})).unwrap(),
        event("Values", json!({"k": huge_key})),
        NewEvent::from_json("Deep", Json::from_text(nested).unwrap()),
        event("Low", json!({})).with_occurred_at(low),
        event("High", json!({})).with_occurred_at(high),
    ];
    store.append(events.clone(), AppendCondition::none()).await.unwrap();
    refuse_probes(&router).await;
    let log = store.query(&Filter::any_event()).await.unwrap();
    for ((event, position), read) in events.into_iter().zip(1..).zip(&log) {
        assert!(event.into_recorded(position, read.recorded_at()) == *read, "the event at {position}");
    }
    let start = Filter::matching;
    let of = |predicate| start().any_predicate_of([predicate]).finish().unwrap();
    found(&store, &log, &start().any_type_of([event_type]).and_all_tags_of(tags).finish().unwrap(), Some(1)).await;
    found(&store, &log, &of(Predicate::payload(&*long_key, 1)), Some(2)).await;
    found(&store, &log, &of(Predicate::payload(&long_key[1..], 1)), None).await;
    found(&store, &log, &of(Predicate::metadata(&*huge_key, 1)), Some(2)).await;
    found(&store, &log, &of(Predicate::payload("k", &huge_key)), Some(3)).await;
    found(&store, &log, &of(Predicate::payload("k", &huge_key[1..])), None).await;
    found(&store, &log, &of(Predicate::payload(vec!["k"; 126], [1])), Some(4)).await;
    found(&store, &log, &of(Predicate::payload(vec!["k"; 126], [2])), None).await;
    let at = async |from, until| {
        let history = store.query(&Filter::any_event().occurred_between(from, until)).await.unwrap();
        history.iter().map(|event| event.position()).collect::<Vec<_>>()
    };
    let micro = Duration::from_micros(1);
    assert_eq!(at(low - 1000 * micro, low).await, [5]);
    assert_eq!(at(high, high + Duration::from_secs(1 << 50)).await, [6]);
    assert_eq!(at(low + micro, high - micro).await, [1, 2, 3, 4]);
}

#[tokio::test]
async fn numbers_are_compared_as_the_decimals_that_they_are() {
    let (_database, router, store) = store().await;
    let numbers = [
        ("1e400", vec!["1e400", "10e399"], vec!["1e401", "\"1e400\""]),
        ("1e131071", vec!["0.1e131072"], vec!["1e131070"]),
        ("1e-16383", vec!["0.1e-16382"], vec!["-1e-16383", "2e-16383"]),
        ("-0", vec!["0", "0.00", "-0e5"], vec!["1e-300"]),
        ("1.0", vec!["1", "1.00", "10e-1"], vec!["1.0000000000000000000000001", "\"1\"", "true"]),
        ("9007199254740993", vec!["9007199254740993.0"], vec!["9007199254740992"]),
        ("0.1", vec!["1e-1"], vec!["0.1000000000000000055511151231257827"]),
        ("-123456789012345678901234567890.5", vec![], vec!["123456789012345678901234567890.5"]),
    ];
    let json = |number: &str| Json::from_text(format!("{{\"n\":{number}}}")).unwrap();
    let events: Vec<NewEvent> = numbers.iter().map(|(number, ..)| NewEvent::from_json("N", json(number))).collect();
    store.append(events, AppendCondition::none()).await.unwrap();
    refuse_probes(&router).await;
    let log = store.query(&Filter::any_event()).await.unwrap();
    for ((number, same, other), position) in numbers.iter().zip(1..) {
        assert_eq!(*log[position as usize - 1].payload(), mainstem::Payload::Json(json(number)));
        for (asked, expected) in [(&vec![*number], Some(position)), (same, Some(position)), (other, None)] {
            for asked in asked {
                let filter = format!(r#"{{"matching":[{{"any_predicate_of":[{{"payload":{{"n":{asked}}}}}]}}]}}"#);
                found(&store, &log, &serde_json::from_str(&filter).unwrap(), expected).await;
            }
        }
    }
}

#[tokio::test]
async fn too_much_for_one_statement_is_refused_before_anything_is_sent() {
    let (_database, _router, store) = store().await;
    let large = Json::from_text(format!("\"{}\"", "x".repeat(Json::MAX_LEN - 2))).unwrap();
    let events = (0..4).map(|_| NewEvent::from_json("Large", large.clone()));
    let limit = Append::MAX_LEN.to_string();
    refused(store.append(events, AppendCondition::none()).await, &["4 events", &limit]);

    let predicates = (0..70_000).map(|n| Predicate::payload_contains(&n));
    let filter = Filter::matching().any_predicate_of(predicates).finish().unwrap();
    for outcome in [
        store.query(&filter).await.map(drop),
        store.append([event("A", json!({}))], AppendCondition::fail_if_events_match(filter)).await.map(drop),
    ] {
        refused(outcome, &["parts", "65535"]);
    }
    assert_eq!(store.query(&Filter::any_event()).await.unwrap().len(), 0);
}
