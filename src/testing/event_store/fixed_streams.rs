//! Fixed streams: versions, what an append expects of them, and loading.

use std::{future::IntoFuture, sync::Arc};

use futures_util::future::join_all;
use serde_json::json;

use super::{
    concurrency::race::elsewhere,
    fixture::{Store, append, append_one, event, expect, log, none_of, of_type, plain, read, types},
};
use crate::{
    AppendCondition, Appended, Error, ErrorKind, Event, EventStore,
    ExpectedVersion::{self, Any, Exact, NoStream},
    LoadStream, LoadedStream, NewEvent, StreamPlace,
};

async fn to_stream(store: Store<'_>, id: &str, expected: ExpectedVersion, events: Vec<NewEvent>) -> Appended {
    let what = format!("an append to {id:?}, expected at {expected:?}, should have been written");
    expect(store.append(events, AppendCondition::none()).to_stream(id, expected).await, &what)
}

/// Checks that the stream is not as expected, and that nothing is written.
async fn mismatch(store: Store<'_>, id: &str, expected: ExpectedVersion, actual: u64) {
    let before = log(store).await;
    let error = match store.append([plain("X"), plain("X")], AppendCondition::none()).to_stream(id, expected).await {
        Ok(appended) => panic!("{id:?} at {actual} took {:?} as {expected:?}", appended.stream_versions()),
        Err(error) => error,
    };
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert!(error.is_conflict() && !error.is_retryable() && error.conflict().is_none(), "{error}");
    let found = error.version_mismatch().map(|it| (&*it.stream, it.expected, it.actual));
    assert_eq!(found, Some((id, expected.version().unwrap_or(u64::MAX), actual)), "{error}");
    assert_eq!(log(store).await.events(), before.events(), "something was written by an append that was refused");
}

async fn load(store: Store<'_>, id: &str) -> LoadedStream {
    loaded(store.load_stream(id)).await
}

async fn loaded(load: LoadStream<'_>) -> LoadedStream {
    expect(load.await, "a stream should have been loaded")
}

fn versions(events: &[Event]) -> Vec<u64> {
    events.iter().map(|event| event.stream().map_or(0, StreamPlace::version)).collect()
}

fn some(amount: usize) -> Vec<NewEvent> {
    (0..amount).map(|n| event("A", json!({"n": n})).with_tag("t")).collect()
}

pub(super) async fn versions_begin_at_one_and_have_no_gaps(store: Store<'_>) {
    append_one(store, "Elsewhere").await;
    let first = some(3);
    let appended = to_stream(store, "s", NoStream, first.clone()).await;
    assert_eq!((appended.stream_versions(), appended.first_position()), (Some(1..=3), log(store).await[1].position()));
    assert_eq!(append_one(store, "Elsewhere").await.stream_versions(), None, "it went to no stream");
    assert_eq!(to_stream(store, "other", Any, some(2)).await.stream_versions(), Some(1..=2));
    assert_eq!(to_stream(store, "s", Exact(3), some(1)).await.stream_versions(), Some(4..=4));
    assert_eq!(to_stream(store, "s", Any, some(2)).await.stream_versions(), Some(5..=6));

    let stream = load(store, "s").await;
    assert_eq!((stream.id(), stream.version(), versions(&stream)), ("s", 6, (1..=6).collect()));
    assert!(first.iter().zip(&stream).all(|(new, read)| new.is_recorded_as(read)), "the events are not those appended");
    // The log is the same in whichever way it is read.
    let history = log(store).await;
    let places: Vec<_> =
        history.iter().map(|event| event.stream().map(|place| (place.id(), place.version()))).collect();
    let (s, other) = (|version| Some(("s", version)), |version| Some(("other", version)));
    assert_eq!(places, [None, s(1), s(2), s(3), None, other(1), other(2), s(4), s(5), s(6)]);
    let of_stream: Vec<_> = history.iter().filter(|event| event.stream().is_some_and(|it| it.id() == "s")).collect();
    assert_eq!(of_stream, stream.iter().collect::<Vec<_>>());
}

pub(super) async fn a_stream_is_begun_only_once(store: Store<'_>) {
    to_stream(store, "a", NoStream, some(2)).await;
    to_stream(store, "b", Exact(0), some(1)).await;
    for expected in [NoStream, Exact(0)] {
        mismatch(store, "a", expected, 2).await;
        mismatch(store, "b", expected, 1).await;
    }
    to_stream(store, "c", NoStream, some(1)).await;
}

pub(super) async fn an_exact_version_is_neither_higher_nor_lower(store: Store<'_>) {
    to_stream(store, "s", Any, some(3)).await;
    to_stream(store, "other", Any, some(7)).await;
    for wrong in [1, 2, 4, 7, i64::MAX as u64, u64::MAX] {
        mismatch(store, "s", Exact(wrong), 3).await;
        mismatch(store, "unknown", Exact(wrong), 0).await;
    }
    to_stream(store, "s", Exact(3), some(1)).await;
    mismatch(store, "s", Exact(3), 4).await;
    assert_eq!(load(store, "unknown").await.version(), 0, "a refused append has begun a stream");
}

pub(super) async fn any_version_is_as_expected(store: Store<'_>) {
    for version in 1..=3 {
        assert_eq!(to_stream(store, "s", Any, some(1)).await.stream_versions(), Some(version..=version));
    }
}

pub(super) async fn a_stream_is_loaded_whole_or_in_part(store: Store<'_>) {
    append_one(store, "Elsewhere").await;
    for _ in 0..5 {
        to_stream(store, "s", Any, some(2)).await;
        to_stream(store, "other", Any, some(1)).await;
    }
    let all = || store.load_stream("s");
    let cases: Vec<(&str, LoadStream<'_>, Vec<u64>)> = vec![
        ("all", all(), (1..=10).collect()),
        ("after 0", all().after_version(0), (1..=10).collect()),
        ("after 7", all().after_version(7), vec![8, 9, 10]),
        ("after the last", all().after_version(10), vec![]),
        ("beyond the last", all().after_version(u64::MAX), vec![]),
        ("the first 3", all().limit(3), vec![1, 2, 3]),
        ("3 after 4", all().after_version(4).limit(3), vec![5, 6, 7]),
        ("more than there are", all().limit(u64::MAX), (1..=10).collect()),
        ("none", all().limit(0), vec![]),
        ("backwards", all().newest_first(), (1..=10).rev().collect()),
        ("the last 2", all().newest_first().limit(2), vec![10, 9]),
        ("backwards after 7", all().newest_first().after_version(7), vec![10, 9, 8]),
        ("backwards before 4", all().newest_first().before_version(4), vec![3, 2, 1]),
        ("2 backwards before 9", all().before_version(9).limit(2).newest_first(), vec![8, 7]),
        ("before 3", all().before_version(3), vec![1, 2]),
        ("between", all().after_version(2).before_version(6), vec![3, 4, 5]),
        ("before the first", all().before_version(1), vec![]),
        ("nothing between", all().after_version(5).before_version(6), vec![]),
    ];
    for (what, load, expected) in cases {
        let stream = loaded(load).await;
        assert_eq!((versions(&stream), stream.version()), (expected, 10), "{what}");
        assert!(stream.iter().all(|event| event.stream().is_some_and(|place| place.id() == "s")), "{what}");
    }
    for load in [store.load_stream("unknown"), store.load_stream("unknown").newest_first().limit(1)] {
        let stream = loaded(load).await;
        assert_eq!((stream.len(), stream.version()), (0, 0), "a stream that nobody has begun");
    }
}

pub(super) async fn streams_are_told_apart_byte_by_byte(store: Store<'_>) {
    let longest = "é".repeat(StreamPlace::MAX_ID_LEN / 2) + "x";
    let ids = [
        "s",
        "S",
        " s",
        "s ",
        "\u{e9}",
        "e\u{301}",
        "'; DROP TABLE events; --",
        "{a,b}",
        "NULL",
        "null",
        "\"",
        "\\",
        "%",
        "_",
        "$1",
        "\n",
        "\u{1}",
        "🦀",
        "\u{ffff}",
        &longest,
        &longest[..longest.len() - 1],
    ];
    for (n, id) in ids.iter().enumerate() {
        let appended = to_stream(store, id, NoStream, vec![event("A", json!({"n": n}))]).await;
        assert_eq!(appended.stream_versions(), Some(1..=1));
    }
    for (n, id) in ids.iter().enumerate() {
        to_stream(store, id, Exact(1), vec![event("B", json!({"n": n}))]).await;
        let stream = load(store, id).await;
        let found: Vec<_> = stream.iter().map(|event| (event.stream().map(StreamPlace::id), event.payload())).collect();
        let payload = crate::Payload::Json(expect(crate::Json::from_serialize(&json!({"n": n})), "JSON of the test"));
        assert_eq!(found, [(Some(*id), &payload); 2], "{id:?}");
    }
}

pub(super) async fn a_repeat_finds_its_versions_whatever_is_expected(store: Store<'_>) {
    to_stream(store, "s", Any, some(1)).await;
    let events = some(2);
    let first = to_stream(store, "s", Exact(1), events.clone()).await;
    to_stream(store, "s", Any, some(1)).await;
    for expected in [Exact(1), Any, NoStream, Exact(9)] {
        let again = to_stream(store, "s", expected, events.clone()).await;
        assert_eq!((again.positions(), again.is_repeated()), (first.positions(), true), "{expected:?}");
        assert_eq!(again.stream_versions(), Some(2..=3), "{expected:?}");
    }
    // The stream is a part of what was appended.
    let elsewhere = plain("Elsewhere");
    append(store, [elsewhere.clone()]).await;
    let reused = [
        ("to another stream", store.append(events.clone(), AppendCondition::none()).to_stream("other", Any)),
        ("to none", store.append(events, AppendCondition::none())),
        ("from none", store.append([elsewhere], AppendCondition::none()).to_stream("s", Any)),
    ];
    for (what, append) in reused {
        match append.await {
            Ok(appended) => panic!("{what}: taken, at {:?}", appended.positions()),
            Err(error) => assert_eq!(error.kind(), ErrorKind::InvalidInput, "{what}: {error}"),
        }
    }
    assert_eq!((log(store).await.len(), load(store, "s").await.version()), (5, 4));
}

pub(super) async fn a_stream_is_as_it_was_loaded(store: Store<'_>) {
    let empty = load(store, "s").await.unchanged();
    assert_eq!(empty, NoStream);
    let appended = to_stream(store, "s", empty, some(2)).await;
    mismatch(store, "s", empty, 2).await;
    append_one(store, "Elsewhere").await;
    // Regardless of which of its events are loaded.
    let expected = load(store, "s").await.unchanged();
    assert_eq!(expected, ExpectedVersion::Event { version: 2, id: appended.last().id() });
    for part in [
        store.load_stream("s").limit(1),
        store.load_stream("s").newest_first().limit(1),
        store.load_stream("s").after_version(9),
        store.load_stream("s").limit(0),
    ] {
        assert_eq!(loaded(part).await.unchanged(), expected);
    }
    let before = log(store).await;
    let other = ExpectedVersion::Event { version: 2, id: before[0].id() };
    let outcome = store.append(some(1), AppendCondition::none()).to_stream("s", other).await;
    assert_eq!(outcome.map_err(|error| error.kind()).err(), Some(ErrorKind::LogDiverged), "another event is there");
    assert_eq!(log(store).await.events(), before.events(), "something was written by an append that was refused");
    // The version is checked first: a stream that others have continued has lost nothing.
    mismatch(store, "s", ExpectedVersion::Event { version: 1, id: before[0].id() }, 2).await;
    mismatch(store, "unknown", expected, 0).await;
    let of_none = ExpectedVersion::Event { version: 0, id: before[0].id() };
    for id in ["s", "unknown"] {
        let outcome = store.append(some(1), AppendCondition::none()).to_stream(id, of_none).await;
        assert_eq!(outcome.map_err(|error| error.kind()).err(), Some(ErrorKind::InvalidInput), "no event has that");
    }
    // All at once: of those that agree one wins, and conflicts with the others.
    let appends = [other, expected, expected, other]
        .map(|expected| elsewhere(store.append(some(1), AppendCondition::none()).to_stream("s", expected)));
    let outcomes = join_all(appends).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    for error in outcomes.into_iter().filter_map(Result::err) {
        assert!(matches!(error.kind(), ErrorKind::Conflict | ErrorKind::LogDiverged), "{error}");
    }
    assert_eq!(load(store, "s").await.version(), 3);
}

pub(super) async fn a_condition_and_a_stream_hold_both(store: Store<'_>) {
    to_stream(store, "s", Any, vec![plain("A")]).await;
    let broken = || none_of(&of_type("A"));
    let holds = || none_of(&of_type("Z"));
    let with = |condition, expected| store.append([plain("B")], condition).to_stream("s", expected).into_future();
    let refusal = |outcome: Result<Appended, Error>| match outcome {
        Ok(appended) => panic!("written, at {:?}", appended.positions()),
        Err(error) => (error.kind(), error.conflict().is_some(), error.version_mismatch().is_some()),
    };
    assert_eq!(refusal(with(broken(), Exact(1)).await), (ErrorKind::Conflict, true, false));
    assert_eq!(refusal(with(holds(), Exact(2)).await), (ErrorKind::Conflict, false, true));
    assert_eq!(
        refusal(with(broken(), Exact(2)).await),
        (ErrorKind::Conflict, true, false),
        "the condition comes first"
    );
    let beyond = holds().after_position(log(store).await[0].position() + 1);
    assert_eq!(refusal(with(beyond, Exact(2)).await), (ErrorKind::LogDiverged, false, false));
    assert_eq!(types(&log(store).await), ["A"]);
    expect(with(holds(), Exact(1)).await, "both hold");
    // What is in a stream is in the log: a condition sees it.
    let history = read(store, &of_type("B")).await;
    to_stream(store, "s", Any, vec![plain("B")]).await;
    assert_eq!(refusal(with(history.unchanged(), Any).await), (ErrorKind::Conflict, true, false));
}

const WRITERS: usize = 12;
const ROUNDS: usize = 6;

pub(super) async fn each_version_of_a_stream_has_one_winner(store: Store<'_>) {
    let barrier = tokio::sync::Barrier::new(WRITERS);
    let writers = (0..WRITERS).map(|writer| {
        let barrier = &barrier;
        async move {
            let mut told = Vec::new();
            for round in 0..ROUNDS {
                let id = format!("s{}", (writer + round) % 2);
                let expected = load(store, &id).await.version();
                barrier.wait().await;
                let events = some(1 + round % 2);
                let append = store.append(events.clone(), AppendCondition::none()).to_stream(&*id, Exact(expected));
                told.push((id, expected, events, elsewhere(append).await));
                // Nobody reads before all have been answered.
                barrier.wait().await;
            }
            told
        }
    });
    let told: Vec<_> = join_all(writers).await.into_iter().flatten().collect();
    let mut won = 0;
    let streams = [load(store, "s0").await, load(store, "s1").await];
    for (id, expected, events, outcome) in &told {
        let stream = if id == "s0" { &streams[0] } else { &streams[1] };
        match outcome {
            Ok(appended) => {
                won += 1;
                let last = expected + events.len() as u64;
                assert_eq!(appended.stream_versions(), Some(expected + 1..=last), "of {id}");
                let there =
                    stream.iter().filter(|event| (expected + 1..=last).contains(&versions(&[(*event).clone()])[0]));
                let there: Vec<_> = there.map(Event::id).collect();
                assert_eq!(there, events.iter().map(NewEvent::id).collect::<Vec<_>>(), "of {id} after {expected}");
            }
            Err(error) => {
                let Some(found) = error.version_mismatch() else { panic!("not a matter of versions: {error}") };
                assert_eq!((&*found.stream, found.expected), (&**id, *expected));
                assert!(found.actual > *expected && found.actual <= stream.version(), "{error}");
                assert!(
                    !events.iter().any(|event| stream.iter().any(|it| it.id() == event.id())),
                    "{error}, but there"
                );
            }
        }
    }
    assert_eq!(won, 2 * ROUNDS, "each round has one winner in each stream");
    for stream in streams {
        assert_eq!(versions(&stream), (1..=stream.version()).collect::<Vec<_>>(), "{}", stream.id());
    }
}

pub(super) async fn appends_at_any_version_share_a_stream_without_gaps(store: Store<'_>) {
    let ids: [Arc<str>; 3] = ["a".into(), "b".into(), "c".into()];
    let calls = (0..60).map(|n| {
        let events = some(1 + n % 3);
        let append = store.append(events.clone(), AppendCondition::none());
        // Some go elsewhere.
        let append = if n % 4 == 3 { append } else { append.to_stream(Arc::clone(&ids[n % 4]), Any) };
        async move { (n, events, expect(elsewhere(append).await, "an append at any version")) }
    });
    let told = join_all(calls).await;
    for (n, id) in ids.iter().enumerate() {
        let stream = load(store, id).await;
        assert_eq!(versions(&stream), (1..=stream.version()).collect::<Vec<_>>(), "{id}");
        assert!(stream.windows(2).all(|pair| pair[0].position() < pair[1].position()), "another order than the log's");
        let mut found = 0;
        for (_, events, appended) in told.iter().filter(|(call, ..)| call % 4 == n) {
            let Some(range) = appended.stream_versions() else { panic!("no versions from {id}") };
            let first = usize::try_from(*range.start()).unwrap_or(usize::MAX) - 1;
            let there: Vec<_> = stream[first..first + events.len()].iter().map(Event::id).collect();
            assert_eq!(there, events.iter().map(NewEvent::id).collect::<Vec<_>>(), "{range:?} of {id}");
            found += events.len();
        }
        assert_eq!(found, stream.len(), "{id} has other events");
    }
}
