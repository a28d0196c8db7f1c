//! Save, load and delete.

use std::{
    future::IntoFuture,
    time::{Duration, SystemTime},
};

use futures_util::{FutureExt, future::join_all};
use serde_json::json;

use super::fixture::{
    Store, append, append_each, expect, found, json, load, log, named, of_type, of_types, plain, save, with_tags,
};
use crate::{ErrorKind, EventId, Filter, Json, Mark, Saved, SnapshotKey, SnapshotStore};

pub(super) async fn a_saved_snapshot_is_read_back_as_it_was(store: Store<'_>) {
    let [_, second] = append_each(store, ["A", "B"]).await;
    let key = SnapshotKey::new("books", 3, &of_type("A"));
    let state = json!({"books": [1, 2.5, "x"], "open": null, "last": {"é": true}});
    assert_eq!(save(store, &key, second, &state).await, Saved::Stored);
    let snapshot = load(store, &key).await.unwrap_or_else(|| panic!("nothing found"));
    assert_eq!((snapshot.mark(), snapshot.state()), (second, &json(&state)));
    assert_eq!(expect(snapshot.decode::<serde_json::Value>(), "decoding"), state);
    // The store has its own clock.
    let day = Duration::from_secs(24 * 60 * 60);
    let off = SystemTime::now().duration_since(snapshot.saved_at()).unwrap_or_else(|early| early.duration());
    assert!(off < day, "saved at {:?}", snapshot.saved_at());
    assert_eq!(log(store).await.len(), 2, "a snapshot is no event");
}

pub(super) async fn what_was_never_saved_is_not_found(store: Store<'_>) {
    let key = named("a");
    assert!(load(store, &key).await.is_none(), "found in an empty log");
    let mark = append(store, [plain("A")]).await;
    assert!(load(store, &key).await.is_none(), "found in a log without snapshots");
    save(store, &key, mark, &1).await;
    assert!(load(store, &named("b")).await.is_none(), "found beside another one");
}

pub(super) async fn a_snapshot_is_replaced_by_one_of_the_same_or_a_higher_position(store: Store<'_>) {
    let [first, second, third] = append_each(store, ["A", "B", "C"]).await;
    let key = named("a");
    for (mark, state) in
        [(first, "one"), (first, "one again"), (second, "two"), (third, "three"), (third, "three again")]
    {
        assert_eq!(save(store, &key, mark, state).await, Saved::Stored, "{state}");
        assert_eq!(found(store, &key).await, Some((mark, json(state))));
    }
}

pub(super) async fn a_lower_position_never_replaces_a_higher_one(store: Store<'_>) {
    let [first, second, third] = append_each(store, ["A", "B", "C"]).await;
    let key = named("a");
    save(store, &key, third, "high").await;
    for mark in [first, second] {
        assert_eq!(save(store, &key, mark, "low").await, Saved::Outdated);
        assert_eq!(found(store, &key).await, Some((third, json("high"))));
    }
}

pub(super) async fn of_many_saves_at_once_the_highest_stays_with_its_state(store: Store<'_>) {
    for round in 0..8 {
        let marks = append_each(store, ["A"; 12]).await;
        let key = named(&format!("round {round}"));
        // In every order: the first calls are often the first to arrive.
        let order = (0..marks.len()).map(|n| marks[(n * 5 + round) % marks.len()]);
        let saves = order.map(|mark| tokio::spawn(store.save_snapshot(&key, mark, &mark.position()).into_future()));
        for saved in join_all(saves).await {
            expect(saved.unwrap_or_else(|error| panic!("a save: {error}")), "a save");
        }
        let last = marks[marks.len() - 1];
        assert_eq!(found(store, &key).await, Some((last, json(&last.position()))));
    }
}

pub(super) async fn names_versions_and_filters_have_snapshots_of_their_own(store: Store<'_>) {
    let [first, second] = append_each(store, ["A", "B"]).await;
    let filters = [
        Filter::any_event(),
        of_type("A"),
        of_types(["A", "B"]),
        of_type("A,B"),
        with_tags(["A"]),
        with_tags(["A", "B"]),
    ];
    let keys: Vec<_> = ["a", "b"]
        .iter()
        .flat_map(|name| [0, 1, 11, u32::MAX].map(|version| (*name, version)))
        .flat_map(|(name, version)| filters.each_ref().map(|filter| SnapshotKey::new(name, version, filter)))
        .collect();
    for (n, key) in keys.iter().enumerate() {
        assert_eq!(found(store, key).await, None, "{key}");
        // A position of one key does not affect another key.
        let mark = if n % 2 == 0 { second } else { first };
        assert_eq!(save(store, key, mark, &n).await, Saved::Stored, "{key}");
    }
    for (n, key) in keys.iter().enumerate() {
        let mark = if n % 2 == 0 { second } else { first };
        assert_eq!(found(store, key).await, Some((mark, json(&n))), "{key}");
    }
}

pub(super) async fn equal_filters_have_one_snapshot(store: Store<'_>) {
    let mark = append(store, [plain("A")]).await;
    let one = SnapshotKey::new("a", 1, &of_types(["A", "B"]));
    let same = SnapshotKey::new("a", 1, &of_types(["B", "A", "B"]).after_position(7).into_filter());
    save(store, &one, mark, "one").await;
    assert_eq!(found(store, &same).await, Some((mark, json("one"))));
    save(store, &same, mark, "same").await;
    assert_eq!(found(store, &one).await, Some((mark, json("same"))));
}

pub(super) async fn hostile_names_are_only_names(store: Store<'_>) {
    let longest = "x".repeat(SnapshotKey::MAX_NAME_LEN);
    let almost = "x".repeat(SnapshotKey::MAX_NAME_LEN - 1) + "y";
    let wide = "é".repeat(SnapshotKey::MAX_NAME_LEN / 2);
    let names = [
        "a",
        "A",
        " a",
        "a ",
        "a\n",
        "ä",
        "a\u{308}",
        "'",
        "''",
        "\"",
        "\"\"",
        "\\",
        "\\\\",
        "\\x41",
        "$1",
        "$$",
        "%",
        "_",
        "*",
        ".",
        "..",
        "../a",
        "/",
        "null",
        "NULL",
        "'; DROP TABLE events_snapshots; --",
        "-- x",
        "/* filter */",
        "{0}",
        "\u{1}",
        "\u{7f}",
        "\u{a0}",
        "\u{200b}",
        "\u{202e}a",
        "\u{feff}a",
        "\u{ffff}",
        "\u{10ffff}",
        "🦀",
        &longest,
        &almost,
        &wide,
    ];
    let mark = append(store, [plain("A")]).await;
    for name in names {
        assert_eq!(found(store, &named(name)).await, None, "{name:?}");
        assert_eq!(save(store, &named(name), mark, name).await, Saved::Stored, "{name:?}");
    }
    for name in names {
        assert_eq!(found(store, &named(name)).await, Some((mark, json(name))), "{name:?}");
    }
    for name in names {
        assert!(expect(store.delete_snapshot(&named(name)).await, "a deletion"), "{name:?}");
        assert_eq!(found(store, &named(name)).await, None, "{name:?}");
    }
}

pub(super) async fn any_state_is_kept(store: Store<'_>) {
    let mark = append(store, [plain("A")]).await;
    let deep = ["[".repeat(Json::MAX_DEPTH), "]".repeat(Json::MAX_DEPTH)].concat();
    let long = format!("{{\"text\": \"{}\"}}", "x\\\"é\\u0001".repeat(120_000));
    let wide: Vec<String> = (0..20_000).map(|n| format!("\"key {n}\": {n}")).collect();
    let wide = format!("{{{}}}", wide.join(","));
    let numbers = "[9007199254740993, 18446744073709551616, -0.1, 0.1000000000000000055511151231257827, 1e400, 1e-400, \
                   1e9999, 123456789012345678901234567890.123456789]";
    let states =
        [&*deep, &long, &wide, numbers, "null", "\"\"", "0", "false", "[]", "{}", r#"{"": {"": ""}}"#, "\"a''b\""];
    for state in states {
        let state = expect(Json::from_text(state), "JSON of the test");
        assert_eq!(save(store, &named("a"), mark, &state).await, Saved::Stored);
        let same = found(store, &named("a")).await.is_some_and(|(_, found)| found == state);
        assert!(same, "not read back: {:.80}…", state.as_str());
    }
}

pub(super) async fn a_deleted_snapshot_is_not_found(store: Store<'_>) {
    let [first, second] = append_each(store, ["A", "B"]).await;
    let key = named("a");
    save(store, &key, second, "gone").await;
    assert!(expect(store.delete_snapshot(&key).await, "a deletion"), "there was one");
    assert_eq!(found(store, &key).await, None);
    assert_eq!(save(store, &key, first, "new").await, Saved::Stored, "a position that is gone stands in the way");
    assert_eq!(found(store, &key).await, Some((first, json("new"))));
}

pub(super) async fn deleting_what_is_not_there_is_no_error(store: Store<'_>) {
    let key = named("a");
    assert!(!expect(store.delete_snapshot(&key).await, "a deletion of nothing"));
    let mark = append(store, [plain("A")]).await;
    save(store, &key, mark, &1).await;
    expect(store.delete_snapshot(&key).await, "a deletion");
    assert!(!expect(store.delete_snapshot(&key).await, "a deletion of what is gone"));
}

pub(super) async fn a_deletion_takes_no_other_snapshot(store: Store<'_>) {
    let mark = append(store, [plain("A")]).await;
    let any = Filter::any_event();
    let deleted = SnapshotKey::new("a", 1, &any);
    let others =
        [SnapshotKey::new("b", 1, &any), SnapshotKey::new("a", 2, &any), SnapshotKey::new("a", 1, &of_type("A"))];
    for key in others.iter().chain([&deleted]) {
        save(store, key, mark, "there").await;
    }
    expect(store.delete_snapshot(&deleted).await, "a deletion");
    for key in &others {
        assert_eq!(found(store, key).await, Some((mark, json("there"))), "{key}");
    }
}

pub(super) async fn a_state_of_events_that_the_log_does_not_hold_is_refused(store: Store<'_>) {
    let key = named("a");
    let refused = async |mark: Mark| match store.save_snapshot(&key, mark, "foreign").await {
        Ok(saved) => panic!("{saved:?} with the mark {mark}"),
        Err(error) => assert_eq!(error.kind(), ErrorKind::LogDiverged, "{error}"),
    };
    refused(Mark::new(1, EventId::new())).await;
    let [first, second] = append_each(store, ["A", "B"]).await;
    let beyond = second.position() + 1;
    let foreign = || {
        [
            Mark::new(first.position(), EventId::new()),
            Mark::new(second.position(), EventId::new()),
            // Events of this log, each at the other's place.
            Mark::new(first.position(), second.id()),
            Mark::new(second.position(), first.id()),
            Mark::new(beyond, EventId::new()),
            Mark::new(beyond, second.id()),
            Mark::new(0, first.id()),
            Mark::new(u64::MAX, second.id()),
        ]
    };
    for mark in foreign() {
        refused(mark).await;
    }
    assert_eq!(found(store, &key).await, None);
    save(store, &key, first, "valid").await;
    for mark in foreign() {
        refused(mark).await;
    }
    assert_eq!(found(store, &key).await, Some((first, json("valid"))), "a refused save has changed something");
}

pub(super) async fn a_save_that_is_never_awaited_saves_nothing(store: Store<'_>) {
    let mark = append(store, [plain("A")]).await;
    drop(store.save_snapshot(&named("a"), mark, "dropped"));
    drop(store.save_snapshot(&named("a"), mark, "dropped").into_future());
    save(store, &named("b"), mark, "kept").await;
    drop(store.delete_snapshot(&named("b")).into_future());
    assert_eq!(found(store, &named("a")).await, None);
    assert_eq!(found(store, &named("b")).await, Some((mark, json("kept"))));
}

pub(super) async fn an_abandoned_save_is_whole_or_not_there(store: Store<'_>) {
    let key = named("a");
    let mut before = append(store, [plain("A")]).await;
    save(store, &key, before, &before.position()).await;
    // At the first wait, and after some time.
    for micros in [None, Some(50), Some(100), Some(200), Some(400), Some(800), Some(1_600), Some(3_200), Some(6_400)] {
        let mark = append(store, [plain("A")]).await;
        let saving = store.save_snapshot(&key, mark, &mark.position()).into_future();
        let outcome = match micros {
            None => saving.now_or_never(),
            Some(micros) => tokio::time::timeout(Duration::from_micros(micros), saving).await.ok(),
        };
        // It may still be in flight: either the old one or the new one is there, never a mixture.
        let (at, state) = found(store, &key).await.unwrap_or_else(|| panic!("nothing found"));
        assert!(at == mark || at == before && outcome.is_none(), "{at} after {outcome:?}");
        assert_eq!(state, json(&at.position()), "the state of another position");
        // A new save settles it.
        assert_eq!(save(store, &key, mark, &mark.position()).await, Saved::Stored);
        assert_eq!(found(store, &key).await, Some((mark, json(&mark.position()))));
        before = mark;
    }
}
