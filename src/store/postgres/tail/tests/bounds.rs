//! How much is known of the end of the log.

use serde_json::json;

use super::{Log, boundary_of, events};
use crate::{
    NewEvent,
    store::{
        condition::After,
        postgres::tail::{EVENTS, KEYS},
    },
};

#[test]
fn the_known_tail_of_identical_events_is_bounded() {
    let mut log = Log::new();
    for batch in 1..=200 {
        log.write(events(&["a"; 500]));
        let written = log.tail.written();
        let (ids, batches) = (written.ids.len(), written.batches.len());
        assert!(
            ids < 2 * EVENTS + 500 && batches <= ids / 500 && written.newer.last.len() < 10,
            "{batch}: {ids} {batches}"
        );
        // Half of them stay.
        assert!(ids >= EVENTS.min(500 * batch), "{batch}: {ids}");
    }
    let head = log.head();
    assert_eq!(log.judge("b", head - EVENTS as u64), Some(log.mark(head)));
    assert_eq!(log.judge("a", head - 1), None);
    assert_eq!(log.judge("b", 1), None);
}

#[test]
fn only_so_much_is_known() {
    let mut log = Log::new();
    let sizes = |log: &Log| {
        let written = log.tail.written();
        (written.newer.last.len() + written.older.last.len(), written.ids.len(), written.batches.len())
    };
    let (batches, size) = (40, 500);
    for batch in 0..batches {
        let new = (0..size).map(|n| {
            let unique = batch * size + n;
            NewEvent::new("A", &json!({"a": unique, "b": unique, "c": unique, "d": unique})).expect("an event")
        });
        log.write(new.collect());
        let (keys, ids, batches) = sizes(&log);
        assert_eq!(log.judge("z", log.head() - 1), Some(log.mark(log.head())));
        assert!(keys < 3 * KEYS && ids < KEYS && batches <= ids / size, "{keys} {ids} {batches}");
    }
    let head = Some(log.mark(log.head()));
    let first = log.head() - log.tail.written().ids.len() as u64 + 1;
    assert!(first > 1, "the first ones are forgotten");
    assert_eq!(log.judge("z", first), head);
    assert_eq!(log.judge("z", first - 1), None);
    // A key of the older half is known as well as one of the newer.
    for position in [first + 1, log.head()] {
        let unique = boundary_of(position - 1);
        assert_eq!(log.judge_as(log.session, &unique, After::Mark(log.mark(first))), None, "at {position}");
    }

    // A batch with more than is kept is not kept.
    let new = (0..3 * KEYS).map(|n| NewEvent::new("A", &json!({"c": n})).expect("an event")).collect();
    log.write(new);
    assert_eq!(sizes(&log), (0, 0, 0));
    log.write(events(&["a", "b"]));
    assert_eq!(log.judge("z", log.head() - 1), Some(log.mark(log.head())));
}
