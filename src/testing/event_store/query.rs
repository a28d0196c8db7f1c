//! What a query reads.

use std::time::{Duration, SystemTime};

use serde_json::json;

use super::{
    fixture::{
        Store, append, append_if, append_one, event, expect, log, none_of, of_type, of_types, plain, positions, read,
        refused, tagged, types, with_predicate, with_tags,
    },
    shapes,
};
use crate::{ErrorKind, Filter, Json, NewEvent, Payload, Predicate, Role};

pub(super) async fn an_empty_log_has_no_events_and_no_head(store: Store<'_>) {
    for filter in [Filter::any_event(), of_type("A"), with_tags(["t"])] {
        let history = read(store, &filter).await;
        assert_eq!((history.len(), history.head()), (0, None), "{filter:?}");
    }
}

pub(super) async fn each_shape_of_filter_reads_what_matches(store: Store<'_>) {
    let events = shapes::events();
    let first = append(store, events.clone()).await.first_position();
    for (expected, filter) in shapes::filters() {
        let expected: Vec<u64> = expected.into_iter().map(|index| first + index).collect();
        let history = read(store, &filter).await;
        assert_eq!(positions(&history), expected, "read by {filter:?}");
        assert_eq!(history.selection(), &filter);
    }
}

pub(super) async fn the_head_is_the_logs_last_event_whatever_was_asked_for(store: Store<'_>) {
    append_one(store, "A").await;
    let last = append_one(store, "B").await.last();
    for filter in [Filter::any_event(), of_type("A"), of_type("B"), of_type("C")] {
        assert_eq!(read(store, &filter).await.head(), Some(last), "head of a read by {filter:?}");
    }
    let beyond = Filter::any_event().after_position(last.position());
    assert_eq!(read(store, &beyond).await.head(), Some(last), "head of a read beyond the head");
    let never = Filter::any_event().occurred_until(SystemTime::UNIX_EPOCH);
    assert_eq!(read(store, &never).await.head(), Some(last), "head of a read of another time");
}

pub(super) async fn a_position_bound_reads_what_comes_after_it(store: Store<'_>) {
    let mut at = Vec::new();
    for event_type in ["A", "B", "A", "B", "A"] {
        at.push(append_one(store, event_type).await.first_position());
    }
    let cases = [
        (0, vec![at[0], at[2], at[4]]),
        (at[0] - 1, vec![at[0], at[2], at[4]]),
        (at[0], vec![at[2], at[4]]),
        (at[1], vec![at[2], at[4]]),
        (at[3], vec![at[4]]),
        (at[4], vec![]),
        (at[4] + 1, vec![]),
        (u64::MAX, vec![]),
    ];
    for (bound, expected) in cases {
        let history = read(store, &of_type("A").after_position(bound)).await;
        assert_eq!(positions(&history), expected, "after {bound}");
    }
    let a = || of_type("A");
    let cases = [
        ("until the first", a().until_position(at[0]), vec![at[0]]),
        ("until before the first", a().until_position(at[0] - 1), vec![]),
        ("until another type's", a().until_position(at[3]), vec![at[0], at[2]]),
        ("until the head", a().until_position(at[4]), vec![at[0], at[2], at[4]]),
        ("until what is not there yet", a().until_position(u64::MAX), vec![at[0], at[2], at[4]]),
        ("between", a().after_position(at[0]).until_position(at[2]), vec![at[2]]),
        ("between the same", a().after_position(at[2]).until_position(at[2]), vec![]),
        ("the wrong way round", a().after_position(at[4]).until_position(at[0]), vec![]),
        ("of any event", Filter::any_event().after_position(at[1]).until_position(at[3]), vec![at[2], at[3]]),
    ];
    for (what, selection, expected) in cases {
        assert_eq!(positions(&read(store, &selection).await), expected, "{what}");
    }
}

pub(super) async fn a_time_bound_reads_what_occurred_in_it(store: Store<'_>) {
    let time = |micros: u64| SystemTime::UNIX_EPOCH + Duration::from_micros(1_700_000_000_000_000 + micros);
    // Not in the order of the log: the client decides when an event occurred.
    let occurred = [30, 10, 20, 20, 40];
    let events = occurred.map(|micros| plain("A").with_occurred_at(time(micros)));
    let first = append(store, events).await.first_position();
    append(store, [plain("B").with_occurred_at(time(20))]).await;
    let a = || of_type("A");
    let cases = [
        ("from 20", a().occurred_from(time(20)), vec![0, 2, 3, 4]),
        ("from 21", a().occurred_from(time(21)), vec![0, 4]),
        ("until 20", a().occurred_until(time(20)), vec![1, 2, 3]),
        ("until 19", a().occurred_until(time(19)), vec![1]),
        ("20 to 30", a().occurred_between(time(20), time(30)), vec![0, 2, 3]),
        ("20 to 20", a().occurred_between(time(20), time(20)), vec![2, 3]),
        ("21 to 29", a().occurred_between(time(21), time(29)), vec![]),
        ("30 to 20", a().occurred_between(time(30), time(20)), vec![]),
    ];
    for (what, selection, expected) in cases {
        let expected: Vec<u64> = expected.into_iter().map(|index: u64| first + index).collect();
        assert_eq!(positions(&read(store, &selection).await), expected, "{what}");
    }
}

pub(super) async fn a_long_read_is_complete(store: Store<'_>) {
    let mut expected = Vec::new();
    for batch in 0..5 {
        let events: Vec<_> = (0..700)
            .map(|n| event("Long", json!({"n": n})).with_tag(if n % 2 == 0 { "even" } else { "odd" }))
            .collect();
        let appended = append(store, events).await;
        expected.extend(appended.positions());
        assert_eq!(log(store).await.len(), 700 * (batch + 1));
    }
    assert_eq!(positions(&log(store).await), expected);
    let odd = read(store, &with_tags(["odd"])).await;
    assert_eq!(odd.len(), 1_750);
    assert!(odd.is_sorted_by(|a, b| a.position() < b.position()), "the events are not in the order of the log");
    let part = read(store, &Filter::any_event().after_position(expected[1_234])).await;
    assert_eq!(positions(&part), expected[1_235..]);
}

pub(super) async fn a_strong_read_sees_every_append_that_was_acknowledged(store: Store<'_>) {
    for amount in 1..=20 {
        let appended = append(store, [tagged("A", ["t"])]).await;
        let history = read(store, &with_tags(["t"])).await;
        assert_eq!(history.len(), amount, "a read after the acknowledged append at {:?}", appended.positions());
        assert_eq!(history.head(), Some(appended.last()));
        assert_eq!(history.role(), Role::Primary, "a strong read is the primary's");
    }
}

pub(super) async fn predicates_never_match_opaque_bytes(store: Store<'_>) {
    let text = r#"{"BookID": "b-1", "n": [1]}"#;
    let opaque =
        NewEvent::from_payload("Added", Payload::bytes("application/json", text.as_bytes())).with_tag("book:1");
    let opaque = expect(opaque.with_metadata(&json!({"user": "ada"})), "metadata of the test");
    let looks = expect(Json::from_text(text), "JSON of the test");
    let json_at = append(store, [NewEvent::from_json("Other", looks)]).await.first_position();
    let opaque_at = append(store, [opaque]).await.first_position();
    let by_payload = Predicate::payload("BookID", "b-1");
    let by_metadata = Predicate::metadata("user", "ada");
    let matching = Filter::matching;
    let filters = [
        (vec![json_at], Ok(with_predicate(by_payload.clone()))),
        (vec![json_at], Ok(with_predicate(Predicate::payload_contains(&json!({"n": [1]}))))),
        (vec![], Ok(with_predicate(Predicate::payload_contains(&json!(text))))),
        (vec![], matching().any_type_of(["Added"]).and_any_predicate_of([by_payload.clone()]).finish()),
        (vec![], matching().all_predicates_of([by_payload.clone(), by_metadata.clone()]).finish()),
        (vec![json_at, opaque_at], matching().any_predicate_of([by_payload, by_metadata.clone()]).finish()),
        (vec![opaque_at], Ok(with_predicate(by_metadata))),
        (vec![opaque_at], Ok(of_type("Added"))),
        (vec![opaque_at], Ok(with_tags(["book:1"]))),
    ];
    for (expected, filter) in filters {
        let filter = expect(filter, "a filter of the test");
        assert_eq!(positions(&read(store, &filter).await), expected, "by {filter:?}");
        let after_it = none_of(&filter).after_position(json_at);
        match expected.contains(&opaque_at) {
            true => _ = refused(store, [plain("Probe")], after_it, ErrorKind::Conflict).await,
            false => _ = append_if(store, [plain("Probe")], after_it).await,
        }
    }
}

pub(super) async fn types_and_tags_are_compared_byte_by_byte(store: Store<'_>) {
    // All are different, however similar some are to a collation, to a pattern, or to the eye.
    let texts = [
        "Name",
        "name",
        "NAME",
        " Name",
        "Name ",
        "Nam",
        "Names",
        "Nam_",
        "N%",
        "N*",
        "N.me",
        "Näme",
        "Na\u{308}me",
        "Na\u{301}me",
        "Name\n",
        "Ⅳ",
        "IV",
        "straße",
        "strasse",
        "ﬁ",
        "fi",
        "i",
        "İ",
        "ı",
        "0",
        "00",
        "1",
        "1.0",
    ];
    let events: Vec<_> = texts.iter().map(|text| plain(text).with_tag(format!("t:{text}"))).collect();
    let first = append(store, events).await.first_position();
    for (text, position) in texts.iter().zip(first..) {
        let by_type = read(store, &of_type(text)).await;
        assert_eq!((types(&by_type), positions(&by_type)), (vec![*text], vec![position]), "by type {text:?}");
        let tag = format!("t:{text}");
        assert_eq!(positions(&read(store, &with_tags([&tag])).await), [position], "by tag {tag:?}");
    }
    assert_eq!(read(store, &of_types(["Name", "NAME"])).await.len(), 2);
    assert_eq!(read(store, &with_tags(["t"])).await.len(), 0, "a tag was matched by its beginning");
}
