//! Partial reads, reads from the end, counts and existence checks.

use serde_json::json;

use super::{
    fixture::{Store, append, append_one, event, expect, log, of_type, of_types, positions, read, tagged, with_tags},
    shapes,
};
use crate::{EventStore, Filter, Page, PositionBoundedFilter, Result, Role, Selection};

fn page<S: Selection>(page: Result<Page<S>>) -> Page<S> {
    expect(page, "a query should have been answered")
}

/// Seven events: at four positions an `A` with the tag `t`, at the others a `B`.
async fn seven(store: Store<'_>) -> [u64; 4] {
    let mut at = Vec::new();
    for event_type in ["A", "B", "A", "A", "B", "A", "B"] {
        let event = if event_type == "A" { tagged("A", ["t"]) } else { tagged("B", ["u"]) };
        let position = append(store, [event]).await.first_position();
        at.extend((event_type == "A").then_some(position));
    }
    at.try_into().expect("four of them")
}

/// The events `A` by each kind of filter that a store may treat differently.
fn by_type_tag_and_more() -> [Filter; 4] {
    let both = Filter::matching().any_type_of(["A"]).and_all_tags_of(["t"]).finish();
    let twice = Filter::union([of_type("A"), of_types(["A", "C"])]);
    [of_type("A"), with_tags(["t"]), expect(both, "a filter"), expect(twice, "a filter")]
}

pub(super) async fn a_limit_reads_the_first_that_match(store: Store<'_>) {
    let at = seven(store).await;
    for filter in by_type_tag_and_more() {
        for limit in 0..6 {
            let read = page(store.query(&filter).limit(limit).await);
            let expected = &at[..at.len().min(limit as usize)];
            assert_eq!(positions(&read), expected, "the first {limit} of {filter:?}");
            assert_eq!(read.last_read().map(|last| last.position()), expected.last().copied());
            assert_eq!(read.last_read(), read.last().map(crate::Event::mark));
        }
        let bounded = filter.after_position(at[0]).until_position(at[2]);
        assert_eq!(positions(&page(store.query(&bounded).limit(1).await)), [at[1]], "the first between two");
        assert_eq!(positions(&page(store.query(&bounded).limit(9).await)), at[1..3], "all between two");
    }
    let all = positions(&log(store).await);
    assert_eq!(positions(&page(store.query(&Filter::any_event()).limit(5).await)), all[..5]);
    let either = page(store.query(&of_types(["B", "A"])).limit(3).await);
    assert_eq!(positions(&either), all[..3], "the first of several types");
    assert_eq!(positions(&page(store.query(&of_type("A")).limit(u64::MAX).await)), at);
}

pub(super) async fn newest_first_is_the_same_read_backwards(store: Store<'_>) {
    let at = seven(store).await;
    for filter in by_type_tag_and_more() {
        for limit in 0..6_usize {
            let read = page(store.query(&filter).newest_first().limit(limit as u64).await);
            let expected: Vec<u64> = at.into_iter().rev().take(limit).collect();
            assert_eq!(positions(&read), expected, "the last {limit} of {filter:?}");
            assert_eq!(read.last_read().map(|last| last.position()), expected.last().copied());
        }
        let bounded = filter.clone().after_position(at[0]).until_position(at[2]);
        let read = page(store.query(&bounded).newest_first().limit(1).await);
        assert_eq!(positions(&read), [at[2]], "the last between two");
    }
    let all = positions(&log(store).await);
    for filter in [Filter::any_event(), of_types(["A", "B"])] {
        let read = page(store.query(&filter).newest_first().await);
        assert_eq!(positions(&read), all.iter().rev().copied().collect::<Vec<_>>(), "without a limit, {filter:?}");
        let read = page(store.query(&filter).limit(2).newest_first().await);
        assert_eq!(positions(&read), [all[6], all[5]], "the last two, {filter:?}");
    }
}

pub(super) async fn pages_one_after_the_other_are_the_whole(store: Store<'_>) {
    let events = (0..50).map(|n| event(if n % 3 == 0 { "A" } else { "B" }, json!({"n": n})).with_tag("t"));
    append(store, events.collect::<Vec<_>>()).await;
    for filter in [Filter::any_event(), of_type("A"), of_types(["A", "B"]), with_tags(["t"])] {
        let whole = positions(&read(store, &filter).await);
        let mut found = Vec::new();
        let mut rest: PositionBoundedFilter = filter.clone().after_position(0);
        while let read = page(store.query(&rest).limit(7).await)
            && let Some(last) = read.last_read()
        {
            found.extend(positions(&read));
            assert!(found.len() <= whole.len(), "pages that never end, by {filter:?}");
            rest = rest.after_position(last.position());
        }
        assert_eq!(found, whole, "pages forward by {filter:?}");
        found.clear();
        let mut rest = filter.clone().until_position(u64::MAX);
        while let read = page(store.query(&rest).newest_first().limit(7).await)
            && let Some(last) = read.last_read()
        {
            found.extend(positions(&read));
            assert!(found.len() <= whole.len(), "pages that never end, by {filter:?}");
            rest = rest.until_position(last.position() - 1);
        }
        found.reverse();
        assert_eq!(found, whole, "pages backwards by {filter:?}");
    }
}

pub(super) async fn the_last_match_is_the_last_of_the_read(store: Store<'_>) {
    assert!(expect(store.last(&Filter::any_event()).await, "of an empty log").is_none());
    append(store, shapes::events()).await;
    append_one(store, "Other").await;
    for (_, filter) in shapes::filters() {
        let last = expect(store.last(&filter).await, "the last match");
        assert_eq!(last.role(), Role::Primary, "a strong read is the primary's");
        let whole = read(store, &filter).await;
        assert_eq!(last.into_inner().as_ref(), whole.last(), "the last of {filter:?}");
        let before = filter.clone().until_position(whole.last().map_or(0, |last| last.position() - 1));
        let last = expect(store.last(&before).await, "the last match").into_inner();
        assert_eq!(last.as_ref(), read(store, &before).await.last(), "the last but one of {filter:?}");
    }
}

pub(super) async fn a_count_is_that_of_the_read(store: Store<'_>) {
    assert_eq!(*expect(store.count(&Filter::any_event()).await, "of an empty log"), 0);
    append(store, shapes::events()).await;
    append_one(store, "Other").await;
    let all = log(store).await;
    assert_eq!(*expect(store.count(&Filter::any_event()).await, "a count"), all.len() as u64);
    for (_, filter) in shapes::filters() {
        let count = expect(store.count(&filter).await, "a count");
        let expected = read(store, &filter).await.len() as u64;
        assert_eq!((*count, count.role()), (expected, Role::Primary), "the number of {filter:?}");
        let bounded = filter.clone().after_position(all[1].position()).until_position(all[3].position());
        let count = expect(store.count(&bounded).await, "a count").into_inner();
        assert_eq!(count, read(store, &bounded).await.len() as u64, "the number of {bounded:?}");
        let never = filter.occurred_until(std::time::SystemTime::UNIX_EPOCH);
        assert_eq!(*expect(store.count(&never).await, "a count"), 0, "of another time");
    }
}

pub(super) async fn existence_is_that_of_the_read(store: Store<'_>) {
    assert!(!*expect(store.exists(&Filter::any_event()).await, "of an empty log"));
    append(store, shapes::events()).await;
    append_one(store, "Other").await;
    let all = log(store).await;
    for (_, filter) in shapes::filters() {
        let exists = expect(store.exists(&filter).await, "an answer");
        let expected = !read(store, &filter).await.is_empty();
        assert_eq!((*exists, exists.role()), (expected, Role::Primary), "of {filter:?}");
        let bounded = filter.clone().after_position(all[1].position()).until_position(all[3].position());
        let exists = expect(store.exists(&bounded).await, "an answer").into_inner();
        assert_eq!(exists, !read(store, &bounded).await.is_empty(), "of {bounded:?}");
    }
    assert!(!*expect(store.exists(&of_type("Never")).await, "an answer"));
}
