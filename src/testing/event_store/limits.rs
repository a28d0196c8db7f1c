//! The largest and the most unusual events and filters.

use std::{
    fmt::Write,
    time::{Duration, SystemTime},
};

use serde_json::json;

use super::fixture::{
    Store, append, append_one, event, expect, log, none_of, of_type, plain, positions, read, recorded, refused,
    with_predicate, with_tags,
};
use crate::{AppendCondition, ErrorKind, EventStore, Filter, Json, NewEvent, Predicate};

pub(super) async fn the_longest_type_and_tags_are_stored_and_found(store: Store<'_>) {
    let longest_type = "é".repeat(NewEvent::MAX_TYPE_LEN / 2);
    let tags: Vec<String> = (0..NewEvent::MAX_TAGS).map(|n| format!("{n:02}{}", random_text(n))).collect();
    let largest = plain(&longest_type).with_tags(tags.iter().map(|tag| &**tag));
    append_one(store, "Other").await;
    let at = append(store, [largest.clone()]).await.first_position();
    assert_eq!(read(store, &of_type(&longest_type)).await.events(), recorded(&[largest], at, &log(store).await[1..]));
    let all_tags = expect(Filter::matching().all_tags_of(tags.iter().map(|tag| &**tag)).finish(), "a filter");
    assert_eq!(positions(&read(store, &all_tags).await), [at]);
    for tag in &tags {
        assert_eq!(positions(&read(store, &with_tags([tag])).await), [at]);
    }
    let almost = &tags[0][..tags[0].len() - 1];
    assert_eq!(read(store, &with_tags([almost])).await.len(), 0, "a tag was cut");
    refused(store, [plain("C")], none_of(&all_tags), ErrorKind::Conflict).await;
}

/// As long as a tag can be with two more bytes, and not compressible: compression hides what exceeds an index.
fn random_text(seed: usize) -> String {
    let mut state = seed as u64 + 1;
    let mut text = String::new();
    while text.len() < NewEvent::MAX_TAG_LEN - 2 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let character = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"[(state >> 58) as usize];
        text.push(char::from(character));
    }
    text
}

pub(super) async fn hostile_text_is_only_text(store: Store<'_>) {
    let texts = [
        "'; DROP TABLE events; --",
        "\" OR \"\"=\"",
        "$1",
        "$$",
        "%s%n",
        "{0}",
        "{a,b}",
        "{\"a\":1}",
        "[1]",
        "a,b",
        "a:b",
        "a|b",
        "\\",
        "\\\\",
        "\\x41",
        "\\u0041",
        "E'\\n'",
        "/* filter */",
        "-- x",
        "\n",
        "\r\n",
        "\t",
        "\u{1}",
        "\u{7f}",
        "\u{85}",
        " ",
        "\u{a0}",
        "\u{200b}",
        "\u{202e}abc",
        "\u{feff}",
        "\u{fffd}",
        "\u{ffff}",
        "\u{10ffff}",
        "🦀",
        "👩‍👩‍👧",
        "null",
        "NULL",
        "true",
        "../../etc/passwd",
        "<script>",
        "%00",
        "\u{2028}",
    ];
    let events: Vec<_> = texts
        .iter()
        .map(|text| {
            let event = event(text, json!({*text: text, "value": text})).with_tag(*text).with_tag("common");
            expect(event.with_metadata(&json!({*text: {*text: [text]}})), "metadata of the test")
        })
        .collect();
    let first = append(store, events.clone()).await.first_position();
    assert_eq!(log(store).await.events(), recorded(&events, first, &log(store).await));
    for (text, position) in texts.iter().zip(first..) {
        let filters = [
            of_type(text),
            with_tags([text]),
            with_tags(["common", text]),
            with_predicate(Predicate::payload(*text, *text)),
            with_predicate(Predicate::payload("value", *text)),
            with_predicate(Predicate::metadata([*text, *text], [*text])),
        ];
        for filter in filters {
            assert_eq!(positions(&read(store, &filter).await), [position], "by {filter:?}");
            refused(store, [plain("C")], none_of(&filter), ErrorKind::Conflict).await;
        }
    }
    assert_eq!(log(store).await.len(), texts.len());
}

pub(super) async fn large_and_deep_json_is_kept(store: Store<'_>) {
    let deep = ["[".repeat(Json::MAX_DEPTH), "]".repeat(Json::MAX_DEPTH)].concat();
    let mut wide = "{".to_owned();
    for n in 0..20_000 {
        _ = write!(wide, "\"key {n}\": \"{}\", ", "ä".repeat(20));
    }
    wide.push_str("\"needle\": 1}");
    let long = format!("{{\"text\": \"{}\"}}", "x".repeat(2 * 1024 * 1024));
    let texts = [&*deep, &wide, &long, "null", "\"\"", "0", "[]", "[[], {}]", r#"{"": {"": ""}}"#];
    let events = texts.map(|text| {
        let json = expect(Json::from_text(text), "JSON of the test");
        NewEvent::from_json("Json", json.clone()).with_metadata_json(json)
    });
    let first = append(store, events.clone()).await.first_position();
    let history = log(store).await;
    assert!(history.events() == recorded(&events, first, &history), "the JSON that was read is not what was appended");
    let needle = with_predicate(Predicate::payload("needle", 1));
    assert_eq!(positions(&read(store, &needle).await), [first + 1]);
}

pub(super) async fn numbers_keep_every_digit(store: Store<'_>) {
    let numbers = [
        "9007199254740993",
        "9007199254740992",
        "18446744073709551616",
        "-0.1",
        "0.1000000000000000055511151231257827",
        "1e400",
        "1e-400",
        "123456789012345678901234567890.123456789",
        "2.5",
        "-3",
    ];
    let json = |number: &str| expect(Json::from_text(format!("{{\"n\": {number}}}")), "JSON of the test");
    let events = numbers.map(|number| NewEvent::from_json("Number", json(number)));
    let first = append(store, events.clone()).await.first_position();
    let history = log(store).await;
    assert_eq!(history.events(), recorded(&events, first, &history));
    for (number, position) in numbers.iter().zip(first..) {
        let filter = format!("{{\"matching\": [{{\"any_predicate_of\": [{{\"payload\": {{\"n\": {number}}}}}]}}]}}");
        let filter: Filter = serde_json::from_str(&filter).unwrap_or_else(|error| panic!("{filter}: {error}"));
        assert_eq!(positions(&read(store, &filter).await), [position], "by {filter:?}");
    }
}

pub(super) async fn times_are_kept_to_the_microsecond(store: Store<'_>) {
    let epoch = SystemTime::UNIX_EPOCH;
    let year = Duration::from_secs(31_557_600);
    let times = [
        epoch,
        epoch + Duration::from_micros(1),
        epoch - Duration::from_micros(1),
        epoch + Duration::from_micros(1_999_999_999_999_999),
        epoch - 100 * year - Duration::from_micros(7),
        epoch + 20_000 * year + Duration::from_micros(9),
    ];
    let events = times.map(|time| plain("Time").with_occurred_at(time));
    let first = append(store, events).await.first_position();
    for (time, position) in times.into_iter().zip(first..) {
        let history = read(store, &Filter::any_event().occurred_between(time, time)).await;
        let read: Vec<_> = history.iter().map(|event| (event.position(), event.occurred_at())).collect();
        assert_eq!(read, [(position, time)], "at {time:?}");
    }
}

pub(super) async fn a_thousand_events_are_one_append(store: Store<'_>) {
    let events: Vec<_> = (0..1_000).map(|n| event("Many", json!({"n": n})).with_tag(format!("n:{n}"))).collect();
    let appended = append(store, events.clone()).await;
    assert_eq!(appended.positions().count(), 1_000);
    let history = log(store).await;
    assert_eq!(history.events(), recorded(&events, appended.first_position(), &history));
    let again = append(store, events).await;
    assert_eq!((again.positions(), again.is_repeated()), (appended.positions(), true));
}

pub(super) async fn a_wide_filter_is_judged_whole(store: Store<'_>) {
    let last = append(store, [plain("A").with_tag("key:1999"), plain("B").with_tag("key:2000")]).await.first_position();
    let keys = |range: std::ops::Range<usize>| {
        let filters = range.map(|key| with_tags([&format!("key:{key}")]));
        expect(Filter::union(filters), "a filter of the test")
    };
    let wide = keys(0..2_000);
    assert_eq!(positions(&read(store, &wide).await), [last]);
    refused(store, [plain("C")], none_of(&wide), ErrorKind::Conflict).await;
    expect(store.append([plain("C")], none_of(&keys(3_000..5_000))).await, "an append under a wide filter");
    let types: Vec<String> = (0..1_000).map(|n| format!("Type{n}")).chain(["B".to_owned()]).collect();
    let of_many = expect(Filter::matching().any_type_of(types).finish(), "a filter of the test");
    assert_eq!(positions(&read(store, &of_many).await), [last + 1]);
    refused(store, [plain("C")], none_of(&of_many), ErrorKind::Conflict).await;
}

pub(super) async fn an_append_that_ran_out_of_time_says_what_it_knows(store: Store<'_>) {
    for micros in [0, 1, 50, 500, 2_000, 20_000] {
        let tag = format!("limit:{micros}");
        let events = [plain("A").with_tag(&*tag), plain("B").with_tag(&*tag)];
        let limit = Duration::from_micros(micros);
        let outcome = store.append(events.clone(), AppendCondition::none()).timeout(limit).await;
        let found = read(store, &with_tags([&tag])).await.len();
        match outcome.as_ref().map_err(crate::Error::kind) {
            Ok(_) => assert_eq!(found, 2, "acknowledged within {limit:?}"),
            Err(ErrorKind::Timeout | ErrorKind::Unavailable) => assert_eq!(found, 0, "refused after {limit:?}"),
            // It may still be in flight; the repeated append settles it.
            Err(ErrorKind::OutcomeUnknown) => assert!(found == 0 || found == 2, "{found} of 2 after {limit:?}"),
            Err(kind) => panic!("{kind:?} is no answer to a limit of {limit:?}: {outcome:?}"),
        }
        append(store, events).await;
        assert_eq!(read(store, &with_tags([&tag])).await.len(), 2, "made again after {limit:?}");
    }
}
