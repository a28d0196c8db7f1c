//! Reading event by event.

use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::join;
use serde_json::json;

use super::{
    fixture::{
        Store, append, append_if, append_one, event, expect, log, of_type, of_types, plain, positions, read, refused,
        tagged, with_tags,
    },
    shapes,
};
use crate::{ErrorKind, Event, EventStore, Filter, Mark, QueryStream, Role, Selection};

/// More than a store may want to hold at once.
const MANY: u64 = 2_600;

async fn rest<S: Selection>(stream: &mut QueryStream<S>) -> Vec<Event> {
    let mut events = Vec::new();
    while let Some(event) = stream.next().await {
        assert!(stream.end().is_none(), "the end before the end");
        events.push(expect(event, "a stream should have gone on"));
    }
    assert!(stream.next().await.is_none(), "an event after the end");
    events
}

fn head<S: Selection>(stream: &QueryStream<S>) -> Option<Mark> {
    stream.end().expect("a stream that was read to its end has one").head()
}

async fn many(store: Store<'_>) {
    for batch in 0..MANY / 650 {
        let events = (0..650).map(|n| {
            let event = event(if n % 2 == 0 { "Even" } else { "Odd" }, json!({"n": n, "batch": batch}));
            event.with_tag(if n % 10 == 0 { "tenth" } else { "other" })
        });
        append(store, events.collect::<Vec<_>>()).await;
    }
}

pub(super) async fn a_stream_is_the_read_event_by_event(store: Store<'_>) {
    let mut stream = store.query_stream(&Filter::any_event());
    assert!(rest(&mut stream).await.is_empty());
    assert_eq!(head(&stream), None, "the head of an empty log");
    append(store, shapes::events()).await;
    let last = append_one(store, "Other").await.last();
    for (_, filter) in shapes::filters() {
        let history = read(store, &filter).await;
        let mut stream = store.query_stream(&filter);
        assert!(stream.end().is_none(), "an end before the beginning");
        assert_eq!(rest(&mut stream).await, history.events(), "by {filter:?}");
        assert_eq!((head(&stream), stream.role()), (Some(last), Some(Role::Primary)), "by {filter:?}");
        let second_half = filter.clone().after_position(history.head().map_or(0, |head| head.position() / 2));
        assert_eq!(
            rest(&mut store.query_stream(&second_half)).await,
            read(store, &second_half).await.events(),
            "by {second_half:?}"
        );
        let past = filter.occurred_until(std::time::SystemTime::now());
        assert_eq!(rest(&mut store.query_stream(&past)).await, read(store, &past).await.events(), "by {past:?}");
    }
}

pub(super) async fn a_long_stream_is_complete(store: Store<'_>) {
    many(store).await;
    let half = log(store).await[1_300].position();
    let filters = [Filter::any_event(), of_type("Even"), of_types(["Odd", "Even"]), with_tags(["tenth"])];
    for filter in filters {
        let history = read(store, &filter).await;
        let mut stream = store.query_stream(&filter);
        assert!(rest(&mut stream).await == history.events(), "a stream by {filter:?} is not the read");
        assert_eq!(head(&stream), history.head());
        let bounded = filter.clone().after_position(half / 2).until_position(half);
        let history = read(store, &bounded).await;
        let mut stream = store.query_stream(&bounded);
        assert!(rest(&mut stream).await == history.events(), "a stream by {bounded:?} is not the read");
        assert_eq!(head(&stream), history.head(), "the head is the log's, not that of the bound");
    }
}

pub(super) async fn a_part_is_streamed_in_its_order(store: Store<'_>) {
    many(store).await;
    for filter in [Filter::any_event(), of_type("Even"), of_types(["Odd", "Even"]), with_tags(["tenth"])] {
        let whole = positions(&read(store, &filter).await);
        for limit in [0, 1, 255, 2_000, MANY * 2] {
            let amount = whole.len().min(limit as usize);
            let first = whole[..amount].to_vec();
            let last: Vec<u64> = whole.iter().rev().take(amount).copied().collect();
            let streams = [
                (first, store.query(&filter).limit(limit).stream()),
                (last, store.query(&filter).newest_first().limit(limit).stream()),
            ];
            for (expected, mut stream) in streams {
                let mut found = Vec::new();
                while let Some(event) = stream.next().await {
                    let event = expect(event, "a stream should have gone on");
                    assert_eq!(stream.last_read(), Some(event.mark()));
                    assert!(!stream.is_complete(), "complete before its end");
                    found.push(event.position());
                }
                assert!(found == expected, "{limit} events by {filter:?}: {found:?} instead of {expected:?}");
                assert!(stream.is_complete());
            }
        }
    }
}

pub(super) async fn a_stream_ends_at_the_head_of_its_start(store: Store<'_>) {
    many(store).await;
    for filter in [Filter::any_event(), of_type("Even"), with_tags(["tenth"])] {
        let before = read(store, &filter).await;
        let mut stream = store.query_stream(&filter);
        let first = expect(stream.next().await.expect("an event"), "the first event");
        append(store, [plain("Even").with_tag("tenth"), plain("Even").with_tag("tenth")]).await;
        let mut events = vec![first];
        while let Some(event) = stream.next().await {
            events.push(expect(event, "a stream should have gone on"));
            if events.len() % 500 == 0 {
                append(store, [plain("Even").with_tag("tenth")]).await;
            }
        }
        assert!(events == before.events(), "by {filter:?}: {} events instead of {}", events.len(), before.len());
        assert_eq!(head(&stream), before.head(), "the head of the start");
    }
}

pub(super) async fn the_end_of_a_stream_vouches_for_all_of_it(store: Store<'_>) {
    let filter = with_tags(["t"]);
    append(store, [tagged("A", ["t"]), plain("B"), tagged("A", ["t"])]).await;
    let unchanged = async || {
        let mut stream = store.query_stream(&filter);
        rest(&mut stream).await;
        stream.end().expect("an end").unchanged()
    };
    let condition = unchanged().await;
    append_one(store, "B").await;
    append_if(store, [tagged("A", ["t"])], condition.clone()).await;
    refused(store, [tagged("A", ["t"])], condition, ErrorKind::Conflict).await;
    // Events that arrive while it runs are not in it, so they violate its condition.
    let mut stream = store.query_stream(&filter);
    let _ = expect(stream.next().await.expect("an event"), "the first event");
    append(store, [tagged("A", ["t"])]).await;
    rest(&mut stream).await;
    let condition = stream.end().expect("an end").unchanged();
    refused(store, [plain("C")], condition, ErrorKind::Conflict).await;
    // Events that arrive before its first event is requested are either in it, or violate its condition.
    let mut stream = store.query_stream(&filter);
    let late = append(store, [tagged("A", ["t"])]).await.last();
    let is_in = rest(&mut stream).await.iter().any(|event| event.mark() == late);
    let vouched = head(&stream).is_some_and(|head| head.position() >= late.position());
    assert_eq!(is_in, vouched, "an event that came before the stream began is not in it, but below its head");
}

pub(super) async fn a_stream_among_appends_is_the_log_up_to_its_head(store: Store<'_>) {
    many(store).await;
    let filter = with_tags(["tenth"]);
    let done = AtomicBool::new(false);
    let appends = async {
        while !done.load(Ordering::Relaxed) {
            append(store, [tagged("Even", ["tenth"]), plain("Odd")]).await;
            // A store that never waits would let no other task run.
            tokio::task::yield_now().await;
        }
    };
    let streams = async {
        for turn in 0..4 {
            let (filter, events, head) = if turn % 2 == 0 {
                let mut stream = store.query_stream(&Filter::any_event());
                (Filter::any_event(), slowly(&mut stream).await, head(&stream))
            } else {
                let mut stream = store.query_stream(&filter);
                (filter.clone(), slowly(&mut stream).await, head(&stream))
            };
            let head = head.expect("the head of a log with events");
            let expected = read(store, &filter.until_position(head.position())).await;
            assert!(events == positions(&expected), "the stream is not what is in the log up to its head");
        }
        done.store(true, Ordering::Relaxed);
    };
    join(appends, streams).await;
}

async fn slowly(stream: &mut QueryStream<Filter>) -> Vec<u64> {
    let mut events = Vec::new();
    while let Some(event) = stream.next().await {
        events.push(expect(event, "a stream should have gone on").position());
        if events.len() % 100 == 0 {
            tokio::task::yield_now().await;
        }
    }
    events
}
